/* semantic: block by block, from what the user intends for a block, its score, recency and memory pressure. */
#include <math.h>
#include <string.h>
#include "intentkv/alloc.h"
#include "semantic.h"
#include "table.h"

static const char *const refinements[] = {"none", "quest", "cosine", NULL};

#define AT(member) offsetof(struct semantic_config, member)
static const struct ikv_option options[] = {
    {"top_k_blocks", IKV_OPT_INT, AT(top_k_blocks), "8", 0, 1000000, NULL,
     "ATTEND blocks that are read, best score first"},
    {"score_threshold", IKV_OPT_REAL, AT(score_threshold), "0.35", 0, 1, NULL,
     "a SKIP block with at least this score is read all the same"},
    {"recent_window_tokens", IKV_OPT_INT, AT(recent_window_tokens), "2048", 0, UINT32_MAX, NULL,
     "newest tokens whose ATTEND and SKIP blocks count as RECENT"},
    {"prefetch_top_k", IKV_OPT_INT, AT(prefetch_top_k), "4", 0, 256, NULL,
     "pages hinted to the prefetcher: skipped blocks above the threshold, neighbours of what was selected"},
    {"preserve_system", IKV_OPT_BOOL, AT(preserve_system), "true", 0, 0, NULL,
     "GLOBAL blocks keep high precision under pressure (overrides the ladder's flag)"},
    {"preserve_recent", IKV_OPT_BOOL, AT(preserve_recent), "true", 0, 0, NULL,
     "RECENT blocks keep high precision under pressure (overrides the ladder's flag)"},
    {"budget", IKV_OPT_BUDGET, AT(budget), "none", 0, 0, NULL,
     "most pages a step reads, as tokens or share of the context: pinned blocks first, recent tokens newest "
     "first, then ranked blocks"},
    {"refine", IKV_OPT_ENUM, AT(refine), "quest", 0, 0, refinements,
     "under a budget: quest takes pages in order of their Quest bound, cosine of their cosine, where the scorer has "
     "that name; none whole blocks in order of rank"},
    {"pinned_share", IKV_OPT_REAL, AT(pinned_share), "0.1", 0, 1, NULL,
     "share of the budget that pinned pages are sure of; further ones compete with the rest"},
    {"recent_share", IKV_OPT_REAL, AT(recent_share), "0.25", 0, 1, NULL,
     "share of the budget that the newest pages are sure of; further ones compete with the rest"},
    {"fill", IKV_OPT_BOOL, AT(fill), "true", 0, 0, NULL,
     "refine quest or cosine: a budget not used up is filled with the best pages of the other ATTEND blocks"},
    {"share", IKV_OPT_ENUM, AT(share), "layer", 0, 0, emit_shares,
     "how far one selection is shared: by all layers of a step, a layer's heads, a KV head's group, or not"},
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	const struct semantic_config *c = config;
	static const unsigned pages[] = {
	    [SEMANTIC_REFINE_QUEST] = IKV_WANTS_PAGE_BOUNDS, [SEMANTIC_REFINE_COSINE] = IKV_WANTS_PAGE_COSINES};
	return IKV_NEEDS_BLOCK_SCORES | (c->budget.kind != IKV_BUDGET_NONE ? pages[c->refine] : 0u);
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct semantic_config *)config)->share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	const struct semantic_config *c = config;
	struct semantic s = {*c, ladder ? *ladder : *ikv_ladder_find("seed")};
	s.ladder.preserve_system = c->preserve_system;
	s.ladder.preserve_recent = c->preserve_recent;
	if (ikv_ladder_check(&s.ladder, err))
		return -1;
	return emit_copy_config(state, &s, sizeof s, &c->budget, "semantic", err);
}

static bool ranked(const struct ikv_route_unit *u, const struct ikv_decision *d)
{
	return !d->recent && u->layout->blocks[d->block].policy == IKV_ATTEND;
}

static void add_piece(const struct ikv_route_unit *u, uint32_t block, uint32_t start, uint32_t end, bool recent)
{
	const struct ikv_block *b = &u->layout->blocks[block];
	u->route->decisions[u->route->decision_count++] =
	    (struct ikv_decision){.block = block,
				  .start = start,
				  .end = end,
				  .recent = recent,
				  .score = b->has_score ? b->score : NAN,
				  .rank = -1,
				  .threshold = NAN};
}

/* One decision per block, two where the recent window begins inside an ATTEND or SKIP block. */
static void cut(const struct semantic *s, const struct ikv_route_unit *u)
{
	const struct ikv_layout *l = u->layout;
	const int64_t window = s->config.recent_window_tokens;
	uint32_t edge = l->total_tokens > window ? l->total_tokens - (uint32_t)window : 0;
	for (uint32_t i = 0; i < l->count; i++) {
		const struct ikv_block *b = &l->blocks[i];
		bool may = b->policy == IKV_ATTEND || b->policy == IKV_SKIP_BLOCK;
		if (!may || b->end <= edge) {
			add_piece(u, i, b->start, b->end, false);
		} else if (b->start >= edge) {
			add_piece(u, i, b->start, b->end, true);
		} else {
			add_piece(u, i, b->start, edge, false);
			add_piece(u, i, edge, b->end, true);
		}
	}
}

/* A ranked decision while sorting: scores are not negative, so their bits order as they do. */
struct item {
	uint64_t score, index;
};

/* Bottom-up merge sort by falling score; stable, so ties stay in layout order. Two passes over the same pair
 * of arrays; the result is where it returns. */
static struct item *sort_items(struct item *from, struct item *to, uint32_t n)
{
	for (uint32_t width = 1; width < n; width *= 2) {
		for (uint32_t lo = 0; lo < n; lo += 2 * width) {
			uint32_t mid = lo + width < n ? lo + width : n, hi = mid + width < n ? mid + width : n;
			uint32_t a = lo, b = mid;
			for (uint32_t k = lo; k < hi; k++)
				to[k] =
				    a < mid && (b >= hi || from[a].score >= from[b].score) ? from[a++] : from[b++];
		}
		struct item *swap = from;
		from = to;
		to = swap;
	}
	return from;
}

/* Rank the ATTEND pieces; writes their decisions' indices to `order`, best first, and their number. */
static int rank(const struct ikv_route_unit *u, uint64_t *order, uint32_t *count, struct ikv_err *err)
{
	struct ikv_route *r = u->route;
	struct item *items = (struct item *)order, *sorted;
	uint32_t n = 0;
	for (uint32_t i = 0; i < r->decision_count; i++) {
		const struct ikv_decision *d = &r->decisions[i];
		if (!ranked(u, d))
			continue;
		if (d->score != d->score)
			return ikv_err_set(
			    err, IKV_BAD_INPUT,
			    "block \"%s\" [%u, %u) is ATTEND and has no score: score it before routing",
			    u->layout->blocks[d->block].name, d->start, d->end);
		double score = d->score > 0 ? d->score : 0;
		items[n].index = i;
		memcpy(&items[n++].score, &score, sizeof score);
	}
	sorted = sort_items(items, items + n, n);
	for (uint32_t k = 0; k < n; k++) {
		r->decisions[sorted[k].index].rank = (int32_t)k;
		order[k] = sorted[k].index; /* never overtakes what is still to be read */
	}
	*count = n;
	return 0;
}

/* Format by the ladder as if the block's policy were `policy`; SKIP from the ladder leaves the block out. */
static void give_format(const struct semantic *s, const struct ikv_route_unit *u, struct ikv_decision *d,
			enum ikv_policy policy, enum ikv_reason why)
{
	struct ikv_block b = u->layout->blocks[d->block];
	b.policy = policy;
	d->reason = why;
	d->format = ikv_ladder_format(&s->ladder, &b, u->pressure);
	if (d->format == IKV_FMT_SKIP) {
		d->code = IKV_SKIP;
		d->reason = IKV_WHY_LADDER_SKIP;
		d->threshold = u->pressure;
	} else if (policy == IKV_ATTEND) {
		d->code = d->format == IKV_FMT_FP16 ? IKV_SELECT : IKV_QUANTIZE;
	} else {
		d->code = policy == IKV_RECENT ? IKV_SELECT : IKV_PIN_HIGH_PRECISION;
	}
}

static void decide(const struct semantic *s, const struct ikv_route_unit *u, struct ikv_decision *d)
{
	const enum ikv_policy policy = d->recent ? IKV_RECENT : u->layout->blocks[d->block].policy;
	switch (policy) {
	case IKV_ATTEND:
		d->threshold = (double)s->config.top_k_blocks;
		if (d->rank < s->config.top_k_blocks) {
			give_format(s, u, d, IKV_ATTEND, IKV_WHY_TOP_K);
			return;
		}
		d->reason = IKV_WHY_BELOW_TOP_K;
		break;
	case IKV_SKIP_BLOCK:
		d->threshold = s->config.score_threshold;
		if (d->score >= s->config.score_threshold) {
			give_format(s, u, d, IKV_ATTEND, IKV_WHY_RESCUED);
			return;
		}
		d->reason = IKV_WHY_BELOW_THRESHOLD;
		break;
	default:
		give_format(s, u, d, policy, policy == IKV_RECENT ? IKV_WHY_RECENT : IKV_WHY_PINNED);
		return;
	}
	d->code = IKV_SKIP;
	d->format = IKV_FMT_SKIP;
}

static bool in_plan(const struct ikv_plan *p, uint32_t page)
{
	uint32_t lo = 0, hi = p->count;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (p->pages[mid].page < page)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->count && p->pages[lo].page == page;
}

/* Returns whether there is room for more. */
static bool hint(const struct semantic *s, struct ikv_route *r, uint32_t page)
{
	for (uint32_t i = 0; i < r->prefetch_count; i++)
		if (r->prefetch[i] == page)
			return true;
	r->prefetch[r->prefetch_count++] = page;
	return r->prefetch_count < s->config.prefetch_top_k;
}

static bool better(const struct ikv_decision *d, const struct ikv_decision *best)
{
	return !best || d->score > best->score;
}

/* Skipped blocks with score >= threshold, best first, ties in layout order: few are needed, so each is found by
 * a scan for the next one after `last`. */
static bool hint_skipped(const struct semantic *s, struct ikv_route *r)
{
	const uint32_t p = r->plan.page_tokens;
	const struct ikv_decision *last = NULL;
	for (;;) {
		const struct ikv_decision *best = NULL;
		for (uint32_t i = 0; i < r->decision_count; i++) {
			const struct ikv_decision *d = &r->decisions[i];
			bool after = !last || d->score < last->score || (d->score == last->score && d > last);
			if (d->code == IKV_SKIP && d->score >= s->config.score_threshold && after && better(d, best))
				best = d;
		}
		if (!best)
			return true;
		for (uint32_t page = best->start / p; page <= (best->end - 1) / p; page++)
			if (!in_plan(&r->plan, page) && !hint(s, r, page))
				return false;
		last = best;
	}
}

/* The pages just before and after every run of selected pages. Along a run, page - index is constant, and it
 * grows from run to run: the end of a run is found by bisection. */
static void hint_neighbours(const struct semantic *s, struct ikv_route *r, uint32_t pages)
{
	const struct ikv_page_ref *ref = r->plan.pages;
	for (uint32_t i = 0; i < r->plan.count;) {
		uint32_t lo = i, hi = r->plan.count; /* ref[lo] is in the run, ref[hi] is not */
		while (hi - lo > 1) {
			uint32_t mid = lo + (hi - lo) / 2;
			if (ref[mid].page - ref[i].page == mid - i)
				lo = mid;
			else
				hi = mid;
		}
		if (ref[i].page > 0 && !hint(s, r, ref[i].page - 1))
			return;
		if (ref[lo].page + 1 < pages && !hint(s, r, ref[lo].page + 1))
			return;
		i = hi;
	}
}

static int act_one(const struct semantic *s, const struct ikv_route_unit *u, struct ikv_err *err)
{
	struct ikv_route *r = u->route;
	uint32_t count = 0;
	if (emit_prepare(u, err))
		return -1;
	uint64_t *order = emit_scratch(u).blocks;
	cut(s, u);
	if (rank(u, order, &count, err))
		return -1;
	for (uint32_t i = 0; i < r->decision_count; i++)
		decide(s, u, &r->decisions[i]);
	if (s->config.budget.kind != IKV_BUDGET_NONE) {
		semantic_budget_select(s, u, order, count);
	} else {
		for (uint32_t i = 0; i < r->decision_count; i++) {
			struct ikv_decision *d = &r->decisions[i];
			if (d->format == IKV_FMT_SKIP)
				continue;
			ikv_plan_add(&r->plan, d->start, d->end, d->format, d->block);
			d->selected_tokens = d->end - d->start;
		}
	}
	if (s->config.prefetch_top_k > 0 && hint_skipped(s, r))
		hint_neighbours(s, r, emit_page_count(u));
	return 0;
}

static int act(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++)
		if (act_one(state, &units[i], err))
			return -1;
	return 0;
}

const struct ikv_router_ops router_semantic = {
    .name = "semantic",
    .summary = "blocks by intent, score, recency and memory pressure; pages by score under a budget",
    .options = options,
    .config_bytes = sizeof(struct semantic_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

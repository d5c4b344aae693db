/* Router `semantic` under a budget of pages.
 *
 * Pinned pages are sure of a share of the budget (in layout order, so that the attention sinks come first), the
 * newest recent pages of another. With page scores all other pages that the decisions select then compete by page
 * score, and what is left goes to the best pages of ATTEND blocks that were not selected. Without page scores
 * whole blocks follow by rank, the last one cut, then what is left of the pinned and the recent pages.
 *
 * A page is one unit of the budget whatever blocks share it; once in, all selectable tokens in it are read. */
#include <math.h>
#include "pick.h"
#include "semantic.h"

enum role { ROLE_OUT, ROLE_PINNED, ROLE_RECENT, ROLE_CHOSEN, ROLE_SPARE };

struct choice {
	const struct ikv_route_unit *u;
	struct emit_scratch scratch;
	uint32_t page_tokens, room; /* pages that still fit */
	bool fill;                  /* whatever is left goes to unselected ATTEND blocks */
};

static enum role role_of(const struct ikv_route_unit *u, const struct ikv_decision *d)
{
	if (d->format == IKV_FMT_SKIP)
		return u->layout->blocks[d->block].policy == IKV_ATTEND && !d->recent ? ROLE_SPARE : ROLE_OUT;
	return d->reason == IKV_WHY_PINNED ? ROLE_PINNED : d->reason == IKV_WHY_RECENT ? ROLE_RECENT : ROLE_CHOSEN;
}

static bool has(const struct choice *c, uint32_t page)
{
	return c->scratch.bitmap[page / 64] >> page % 64 & 1;
}

/* Take a page if it is new; `quota` counts down with the room. */
static void take(struct choice *c, uint32_t page, uint32_t *quota)
{
	if (has(c, page))
		return;
	c->scratch.bitmap[page / 64] |= (uint64_t)1 << page % 64;
	c->room--;
	--*quota;
}

/* Pages of a decision in ascending order while the quota lasts. */
static void take_front(struct choice *c, const struct ikv_decision *d, uint32_t *quota)
{
	for (uint32_t p = d->start / c->page_tokens; p <= (d->end - 1) / c->page_tokens && *quota; p++)
		take(c, p, quota);
}

static void take_back(struct choice *c, const struct ikv_decision *d, uint32_t *quota)
{
	for (uint32_t p = (d->end - 1) / c->page_tokens + 1; p > d->start / c->page_tokens && *quota; p--)
		take(c, p - 1, quota);
}

static void take_pinned(struct choice *c, uint32_t quota)
{
	const struct ikv_route *r = c->u->route;
	for (uint32_t i = 0; i < r->decision_count && quota; i++)
		if (role_of(c->u, &r->decisions[i]) == ROLE_PINNED)
			take_front(c, &r->decisions[i], &quota);
}

static void take_recent(struct choice *c, uint32_t quota)
{
	const struct ikv_route *r = c->u->route;
	for (uint32_t i = r->decision_count; i > 0 && quota; i--)
		if (role_of(c->u, &r->decisions[i - 1]) == ROLE_RECENT)
			take_back(c, &r->decisions[i - 1], &quota);
}

/* The best pages, by page score, of the decisions whose role is in [first, last]. */
static void take_best(struct choice *c, enum role first, enum role last)
{
	const struct ikv_route *r = c->u->route;
	uint32_t n = 0, next = 0; /* no page below `next` may be listed again */
	for (uint32_t i = 0; i < r->decision_count && c->room; i++) {
		const struct ikv_decision *d = &r->decisions[i];
		enum role role = role_of(c->u, d);
		if (role < first || role > last)
			continue;
		uint32_t p = d->start / c->page_tokens, end = (d->end - 1) / c->page_tokens + 1;
		for (p = p < next ? next : p; p < end; p++)
			if (!has(c, p))
				c->scratch.items[n++] = pick_item(c->u->page_scores[p], p);
		next = end;
	}
	pick_top(c->scratch.items, n, c->room, c->scratch.bitmap);
	c->room -= n < c->room ? n : c->room;
}

static uint32_t share_of(double share, uint32_t room)
{
	uint32_t n = (uint32_t)ceil(share * room);
	return n < room ? n : room;
}

static uint32_t at_most(uint32_t n, uint32_t room)
{
	return n < room ? n : room;
}

/* Tokens of the chosen pages, decision by decision. */
static void emit_choice(const struct semantic *s, const struct choice *c)
{
	struct ikv_route *r = c->u->route;
	const uint32_t size = c->page_tokens;
	for (uint32_t i = 0; i < r->decision_count; i++) {
		struct ikv_decision *d = &r->decisions[i];
		const enum role role = role_of(c->u, d);
		enum ikv_format format = d->format;
		uint32_t first, last, end = (d->end - 1) / size + 1;
		if (role == ROLE_SPARE && c->fill) {
			/* Read as a block that is just worth reading: at the ladder's medium threshold. */
			struct ikv_block b = c->u->layout->blocks[d->block];
			b.score = s->ladder.medium;
			format = ikv_ladder_format(&s->ladder, &b, c->u->pressure);
		}
		if (role == ROLE_OUT || format == IKV_FMT_SKIP)
			continue;
		for (uint32_t at = d->start / size; pick_run(c->scratch.bitmap, at, end, &first, &last); at = last) {
			uint32_t from = first * size < d->start ? d->start : first * size;
			uint32_t to = last == end ? d->end : last * size;
			ikv_plan_add(&r->plan, from, to, format, d->block);
			d->selected_tokens += to - from;
		}
		if (role == ROLE_SPARE && d->selected_tokens) {
			d->reason = IKV_WHY_PAGES;
			d->format = format;
			d->code = format == IKV_FMT_FP16 ? IKV_SELECT : IKV_QUANTIZE;
		} else if (!d->selected_tokens && role != ROLE_SPARE) {
			d->reason = IKV_WHY_BUDGET;
			d->format = IKV_FMT_SKIP;
			d->code = IKV_SKIP;
		}
	}
}

void semantic_budget_select(const struct semantic *s, const struct ikv_route_unit *u, const uint64_t *order,
			    uint32_t ranked)
{
	const struct ikv_layout *l = u->layout;
	const bool scored = u->page_scores && s->config.refine != SEMANTIC_REFINE_NONE;
	struct choice c = {u, emit_scratch(u), l->page_tokens, 0, scored && s->config.fill};
	const uint32_t pages = emit_page_count(u);
	const uint32_t budget = at_most(ikv_budget_pages(&s->config.budget, l->total_tokens, l->page_tokens), pages);
	c.room = budget;
	/* Of a single page both shares are the whole: the newest one, in which the step's own token is, comes first. */
	if (budget == 1 && s->config.pinned_share < 1)
		take_recent(&c, share_of(s->config.recent_share, budget));
	take_pinned(&c, at_most(share_of(s->config.pinned_share, budget), c.room));
	take_recent(&c, at_most(share_of(s->config.recent_share, budget), c.room));
	if (scored) {
		take_best(&c, ROLE_PINNED, ROLE_CHOSEN);
		if (c.fill)
			take_best(&c, ROLE_SPARE, ROLE_SPARE);
	} else {
		for (uint32_t k = 0; k < ranked && c.room; k++) {
			uint32_t quota = c.room;
			const struct ikv_decision *d = &u->route->decisions[order[k]];
			if (d->format != IKV_FMT_SKIP)
				take_front(&c, d, &quota);
		}
		/* Rescued SKIP blocks are not ranked; they come last, in layout order. */
		for (uint32_t i = 0; i < u->route->decision_count && c.room; i++) {
			uint32_t quota = c.room;
			if (u->route->decisions[i].reason == IKV_WHY_RESCUED)
				take_front(&c, &u->route->decisions[i], &quota);
		}
		take_pinned(&c, c.room);
		take_recent(&c, c.room);
	}
	emit_choice(s, &c);
}

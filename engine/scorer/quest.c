/* quest: upper bounds of q·k by page from the per-channel minimum and maximum of its keys (Tang et al. 2024,
 * arXiv 2406.10774). A page takes the maximum over the unit's heads. A block's score is its share of the softmax
 * over the scaled bounds, divided by the largest share, so that scores lie in [0, 1] for the ladder. */
#include <math.h>
#include <string.h>
#include "attn/exact_store.h"
#include "attn/lanes.h"
#include "intentkv/alloc.h"
#include "table.h"

struct quest {
	struct ikv_geometry geometry;
	float *bounds;  /* [bound_cap] scores of the pages of units whose caller wants none, unit after unit */
	float *weights; /* [cap] exp(scaled bound - largest) */
	double *mass;   /* [block_cap] */
	size_t bound_cap;
	uint32_t cap, block_cap;
};

float ikv_quest_bound(const float *q, const uint16_t *ends, uint32_t dim)
{
	return lanes_bound(q, ends, dim);
}

static void destroy(void *state)
{
	struct quest *s = state;
	if (!s)
		return;
	ikv_free(s->bounds);
	ikv_free(s->weights);
	ikv_free(s->mass);
	ikv_free(s);
}

static int create(void **state, const void *config, const struct ikv_geometry *g, uint32_t sequences,
		  struct ikv_err *err)
{
	(void)config;
	(void)sequences;
	struct quest *s = ikv_alloc(1, sizeof *s, err);
	if (!s)
		return -1;
	s->geometry = *g;
	*state = s;
	return 0;
}

static uint32_t unit_pages(const struct ikv_score_unit *u)
{
	return ikv_pages(u->layout->total_tokens, u->layout->page_tokens);
}

static int reserve(struct quest *s, const struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	uint32_t pages = 0, blocks = 0;
	size_t bounds = 0;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t n = unit_pages(&units[i]);
		pages = n > pages ? n : pages;
		blocks = units[i].layout->count > blocks ? units[i].layout->count : blocks;
		bounds += units[i].page_scores ? 0 : n;
	}
	if (bounds > s->bound_cap) {
		if (ikv_grow(&s->bounds, 0, bounds + bounds / 2, sizeof *s->bounds, err))
			return -1;
		s->bound_cap = bounds + bounds / 2;
	}
	if (pages > s->cap) {
		uint32_t cap = pages + pages / 2;
		if (ikv_grow(&s->weights, 0, cap, sizeof *s->weights, err))
			return -1;
		s->cap = cap;
	}
	if (blocks > s->block_cap) {
		uint32_t cap = blocks + blocks / 2;
		if (ikv_grow(&s->mass, 0, cap, sizeof *s->mass, err))
			return -1;
		s->block_cap = cap;
	}
	return 0;
}

/* Where the bounds of unit i go. */
static float *bounds_of(const struct quest *s, const struct ikv_score_unit *units, uint32_t i)
{
	size_t at = 0;
	if (units[i].page_scores)
		return units[i].page_scores;
	for (uint32_t k = 0; k < i; k++)
		at += units[k].page_scores ? 0 : unit_pages(&units[k]);
	return s->bounds + at;
}

/* What is to be bounded: items are IKV_SUMMARY_PAGES pages of a unit, the same pages of all units one after another, since
 * summaries lie together head by head. */
struct bounding {
	const struct quest *quest;
	const struct ikv_score_unit *units;
	uint32_t first, count; /* of the units, those with this store */
};

static void bound_piece(void *context, uint32_t item)
{
	const struct bounding *b = context;
	const struct ikv_geometry *g = &b->quest->geometry;
	const uint32_t index = b->first + item % b->count;
	const struct ikv_score_unit *u = &b->units[index];
	const uint32_t group = g->q_heads / g->kv_heads, last = u->q_first + u->q_count;
	const uint32_t pages = unit_pages(u), from = item / b->count * IKV_SUMMARY_PAGES;
	if (u->given || from >= pages)
		return;
	float *out = bounds_of(b->quest, b->units, index);
	const uint32_t count = pages - from < IKV_SUMMARY_PAGES ? pages - from : IKV_SUMMARY_PAGES;
	for (uint32_t p = from; p < from + count; p++)
		out[p] = -INFINITY;
	for (uint32_t i = u->q_first, stop; i < last; i = stop) {
		const uint32_t kv = i / group;
		stop = (kv + 1) * group < last ? (kv + 1) * group : last;
		lanes_table()->bounds(u->q + (size_t)(i - u->q_first) * g->d_qk, stop - i,
				      ikv_exact_kmin(u->kv, u->seq, u->layer, from, kv), count, g->d_qk, out + from);
	}
}

/* Of units first to first + count - 1, of one store. */
static int bound_pages(const struct quest *s, const struct ikv_score_unit *units, uint32_t first, uint32_t count,
		       struct ikv_err *err)
{
	struct bounding b = {s, units, first, count};
	uint32_t most = 0;
	for (uint32_t i = first; i < first + count; i++) {
		const uint32_t pieces = (unit_pages(&units[i]) + IKV_SUMMARY_PAGES - 1) / IKV_SUMMARY_PAGES;
		most = pieces > most ? pieces : most;
	}
	return exact_store_each(units[first].kv, count * most, bound_piece, &b, err);
}

/* Softmax share of a block, but for the common factor: a page shared with others counts by its tokens. */
static double block_mass(const float *weights, const struct ikv_layout *l, const struct ikv_block *b)
{
	const uint32_t size = l->page_tokens;
	double sum = 0;
	for (uint32_t p = b->start / size; p <= (b->end - 1) / size; p++) {
		const uint32_t first = p * size;
		const uint32_t end = l->total_tokens - first < size ? l->total_tokens : first + size;
		const uint32_t lo = b->start > first ? b->start : first, hi = b->end < end ? b->end : end;
		if (hi - lo == end - first)
			sum += (double)weights[p];
		else
			sum += (double)weights[p] * (hi - lo) / (end - first);
	}
	return sum;
}

static void score_unit(struct quest *s, const struct ikv_score_unit *u, float *bounds)
{
	const struct ikv_layout *l = u->layout;
	const struct lanes_kernels *kernels = lanes_table();
	const uint32_t pages = unit_pages(u);
	if (!pages)
		return;
	if (u->given && u->given != bounds)
		memcpy(bounds, u->given, pages * sizeof *bounds);
	kernels->exps(bounds, pages, kernels->peak(bounds, pages), s->geometry.scale, s->weights);
	double largest = 0;
	for (uint32_t i = 0; i < l->count; i++) {
		if (!scorer_wants(&l->blocks[i]))
			continue;
		s->mass[i] = block_mass(s->weights, l, &l->blocks[i]);
		largest = s->mass[i] > largest ? s->mass[i] : largest;
	}
	for (uint32_t i = 0; i < l->count; i++) {
		if (!scorer_wants(&l->blocks[i]))
			continue;
		l->blocks[i].score = largest > 0 ? s->mass[i] / largest : 0;
		l->blocks[i].has_score = true;
	}
}

static int score(void *state, struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	struct quest *s = state;
	for (uint32_t i = 0; i < count; i++)
		if (scorer_check(&units[i], &s->geometry, "quest", err))
			return -1;
	if (reserve(s, units, count, err))
		return -1;
	for (uint32_t i = 0, n; i < count; i += n) { /* all of one store at once: its threads share them */
		for (n = 1; i + n < count && units[i + n].kv == units[i].kv;)
			n++;
		if (bound_pages(s, units, i, n, err))
			return -1;
	}
	for (uint32_t i = 0; i < count; i++)
		score_unit(s, &units[i], bounds_of(s, units, i));
	return 0;
}

static void forget(void *state, uint32_t seq, uint32_t tokens)
{
	/* The bounds are kept by the exact store; nothing is cached here. */
	(void)state;
	(void)seq;
	(void)tokens;
}

static const struct ikv_option options[] = {IKV_OPTION_END};

const struct ikv_scorer_ops scorer_quest = {
    .name = "quest",
    .summary = "upper bounds of q·k by page; a block's share of their softmax (Quest, arXiv 2406.10774)",
    .options = options,
    .config_bytes = 0,
    .create = create,
    .destroy = destroy,
    .score = score,
    .forget = forget,
    .page_scores = IKV_PAGE_BOUND,
};

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
	float *bounds;  /* [cap] scores of the pages where the caller wants none */
	float *weights; /* [cap] exp(scaled bound - largest) */
	double *mass;   /* [block_cap] */
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

static int reserve(struct quest *s, uint32_t pages, uint32_t blocks, struct ikv_err *err)
{
	if (pages > s->cap) {
		uint32_t cap = pages + pages / 2;
		if (ikv_grow(&s->bounds, 0, cap, sizeof *s->bounds, err) ||
		    ikv_grow(&s->weights, 0, cap, sizeof *s->weights, err))
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

/* What is to be bounded: items are IKV_SUMMARY_PAGES pages of a unit, whose summaries lie together head by head. */
struct bounding {
	const struct ikv_geometry *geometry;
	const struct ikv_score_unit *units;
	float *out; /* of a unit that has no page_scores */
	uint32_t pieces; /* of a unit */
};

static void bound_piece(void *context, uint32_t item)
{
	const struct bounding *b = context;
	const struct ikv_geometry *g = b->geometry;
	const struct ikv_score_unit *u = &b->units[item / b->pieces];
	const uint32_t group = g->q_heads / g->kv_heads, last = u->q_first + u->q_count;
	const uint32_t pages = ikv_pages(u->layout->total_tokens, g->page_tokens);
	const uint32_t from = item % b->pieces * IKV_SUMMARY_PAGES;
	float *out = u->page_scores ? u->page_scores : b->out;
	if (u->bounds || from >= pages)
		return;
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

/* Of units of one store, and only one where they have no page_scores. */
static int bound_pages(struct quest *s, const struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	struct bounding b = {&s->geometry, units, s->bounds, 0};
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t pages = ikv_pages(units[i].layout->total_tokens, s->geometry.page_tokens);
		const uint32_t pieces = (pages + IKV_SUMMARY_PAGES - 1) / IKV_SUMMARY_PAGES;
		b.pieces = pieces > b.pieces ? pieces : b.pieces;
	}
	return exact_store_each(units->kv, count * b.pieces, bound_piece, &b, err);
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

static void score_unit(struct quest *s, struct ikv_score_unit *u)
{
	const struct ikv_layout *l = u->layout;
	const struct lanes_kernels *kernels = lanes_table();
	const uint32_t pages = ikv_pages(l->total_tokens, l->page_tokens);
	float *bounds = u->page_scores ? u->page_scores : s->bounds;
	if (!pages)
		return;
	if (u->bounds && u->bounds != bounds)
		memcpy(bounds, u->bounds, pages * sizeof *bounds);
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

/* Neighbours whose bounds are made at once. */
static uint32_t together(const struct ikv_score_unit *units, uint32_t count)
{
	uint32_t n = 1;
	while (units->page_scores && n < count && units[n].page_scores && units[n].kv == units->kv)
		n++;
	return n;
}

static int score(void *state, struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	struct quest *s = state;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_layout *l = units[i].layout;
		if (scorer_check(&units[i], &s->geometry, "quest", err) ||
		    reserve(s, ikv_pages(l->total_tokens, l->page_tokens), l->count, err))
			return -1;
	}
	for (uint32_t i = 0, n; i < count; i += n) {
		n = together(units + i, count - i);
		if (bound_pages(s, units + i, n, err))
			return -1;
		for (uint32_t k = i; k < i + n; k++)
			score_unit(s, &units[k]);
	}
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
    .page_scores = true,
    .takes_bounds = true,
};

/* quest: upper bounds of q·k by page from the per-channel minimum and maximum of its keys (Tang et al. 2024,
 * arXiv 2406.10774). A page takes the maximum over the unit's heads. A block's score is its share of the softmax
 * over the scaled bounds, divided by the largest share, so that scores lie in [0, 1] for the ladder. */
#include <math.h>
#include <string.h>
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

/* Head by head over the pages whose summaries lie together, for the time this takes is that of reading them. */
static void bound_pages(const struct quest *s, const struct ikv_score_unit *u, uint32_t pages, float *bounds)
{
	const struct ikv_geometry *g = &s->geometry;
	const struct lanes_kernels *kernels = lanes_table();
	const uint32_t group = g->q_heads / g->kv_heads, last = u->q_first + u->q_count;
	for (uint32_t p = 0; p < pages; p++)
		bounds[p] = -INFINITY;
	for (uint32_t p = 0; p < pages; p += IKV_SUMMARY_PAGES) {
		const uint32_t some = pages - p < IKV_SUMMARY_PAGES ? pages - p : IKV_SUMMARY_PAGES;
		for (uint32_t i = u->q_first, stop; i < last; i = stop) {
			const uint32_t kv = i / group;
			stop = (kv + 1) * group < last ? (kv + 1) * group : last;
			kernels->bounds(u->q + (size_t)(i - u->q_first) * g->d_qk, stop - i,
					ikv_exact_kmin(u->kv, u->seq, u->layer, p, kv), some, g->d_qk, bounds + p);
		}
	}
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

static int score_unit(struct quest *s, struct ikv_score_unit *u, struct ikv_err *err)
{
	const struct ikv_layout *l = u->layout;
	const uint32_t pages = ikv_pages(l->total_tokens, l->page_tokens);
	if (scorer_check(u, &s->geometry, "quest", err) || reserve(s, pages, l->count, err))
		return -1;
	if (!pages)
		return 0;
	float *bounds = u->page_scores ? u->page_scores : s->bounds;
	if (!u->bounds)
		bound_pages(s, u, pages, bounds);
	else if (u->bounds != bounds)
		memcpy(bounds, u->bounds, pages * sizeof *bounds);
	const struct lanes_kernels *kernels = lanes_table();
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
	return 0;
}

static int score(void *state, struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++)
		if (score_unit(state, &units[i], err))
			return -1;
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

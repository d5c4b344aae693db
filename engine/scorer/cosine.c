/* cosine: mean query of the unit's heads against the mean key of a block, clamped to [0, 1].
 *
 * Cosines do not depend on length, so sums stand in for means. The sum of a block's keys is taken page by page in
 * ascending order, KV head by KV head, and kept: a closed block costs one dot product a step, the growing one
 * adds its last page. A sum does not depend on when it was taken, so a restart gives the same bits. */
#include <string.h>
#include "intentkv/alloc.h"
#include "intentkv/format.h"
#include "table.h"

#define LANES 8

struct entry { /* the kept sum of tokens [start, end) of a block */
	uint64_t uid;
	uint32_t start, end; /* end 0: nothing kept */
	double norm;
};

struct slot { /* of one (sequence, layer, first KV head); entry i belongs to block i of the layout */
	uint32_t kv_count, cap;
	struct entry *entries;
	double *sums;      /* [cap][d_qk] */
	struct entry open; /* sum of the whole pages of the block summed last */
	double *open_sum;  /* [d_qk] */
};

struct cosine {
	struct ikv_geometry geometry;
	struct slot *slots; /* [sequences][layers][kv_heads] */
	uint32_t sequences;
	double *query; /* [d_qk] sum over the unit's heads */
};

struct span { /* whose keys are summed */
	const struct ikv_exact *kv;
	uint32_t seq, layer, kv_first, kv_count;
};

static void destroy(void *state)
{
	struct cosine *s = state;
	if (!s)
		return;
	size_t n = s->slots ? (size_t)s->sequences * s->geometry.layers * s->geometry.kv_heads : 0;
	for (size_t i = 0; i < n; i++) {
		ikv_free(s->slots[i].entries);
		ikv_free(s->slots[i].sums);
		ikv_free(s->slots[i].open_sum);
	}
	ikv_free(s->slots);
	ikv_free(s->query);
	ikv_free(s);
}

static int create(void **state, const void *config, const struct ikv_geometry *g, uint32_t sequences,
		  struct ikv_err *err)
{
	size_t n;
	(void)config;
	if (__builtin_mul_overflow((size_t)sequences, g->layers, &n) || __builtin_mul_overflow(n, g->kv_heads, &n))
		return ikv_err_set(err, IKV_BAD_INPUT, "scorer cosine: %u sequences of %u layers are too many",
				   sequences, g->layers);
	struct cosine *s = ikv_alloc(1, sizeof *s, err);
	if (!s)
		return -1;
	s->geometry = *g;
	s->sequences = sequences;
	s->slots = ikv_alloc(n, sizeof *s->slots, err);
	s->query = ikv_alloc(g->d_qk, sizeof *s->query, err);
	if (!s->slots || !s->query) {
		destroy(s);
		return -1;
	}
	*state = s;
	return 0;
}

/* Fixed lanes: the same bits however the compiler vectorises it. */
static double dot(const double *a, const double *b, uint32_t n)
{
	double lane[LANES] = {0};
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		for (uint32_t l = 0; l < LANES; l++)
			lane[l] += a[i + l] * b[i + l];
	for (uint32_t l = 0; i < n; i++, l++)
		lane[l] += a[i] * b[i];
	for (uint32_t w = LANES / 2; w > 0; w /= 2)
		for (uint32_t l = 0; l < w; l++)
			lane[l] += lane[l + w];
	return lane[0];
}

static void add_floats(double *sum, const float *x, uint32_t n)
{
	for (uint32_t d = 0; d < n; d++)
		sum[d] += (double)x[d];
}

/* Add the keys of tokens [lo, hi) of one page: its kept sum where that is just them, else row by row. */
static void add_page(const struct span *sp, uint32_t page, uint32_t lo, uint32_t hi, double *sum)
{
	const struct ikv_geometry *g = ikv_exact_geometry(sp->kv);
	const uint32_t filled = ikv_exact_tokens(sp->kv, sp->seq, sp->layer) - page * g->page_tokens;
	const uint32_t end = filled < g->page_tokens ? filled : g->page_tokens;
	for (uint32_t h = sp->kv_first; h < sp->kv_first + sp->kv_count; h++) {
		if (lo == 0 && hi == end) {
			add_floats(sum, ikv_exact_ksum(sp->kv, sp->seq, sp->layer, page, h), g->d_qk);
			continue;
		}
		const uint16_t *rows = ikv_exact_k(sp->kv, sp->seq, sp->layer, page, h);
		for (uint32_t t = lo; t < hi; t++)
			for (uint32_t d = 0; d < g->d_qk; d++)
				sum[d] += (double)ikv_fp16_to_float(rows[(size_t)t * g->d_qk + d]);
	}
}

/* Sum of block b into its entry: whole pages through the slot's open sum, then the rest. */
static void sum_block(struct slot *slot, const struct span *sp, const struct ikv_block *b, uint32_t index,
		      uint32_t dim, uint32_t page_tokens)
{
	struct entry *open = &slot->open, *e = &slot->entries[index];
	double *sum = slot->sums + (size_t)index * dim;
	if (open->uid != b->uid || open->start != b->start || open->end < b->start || open->end > b->end) {
		*open = (struct entry){b->uid, b->start, b->start, 0};
		memset(slot->open_sum, 0, dim * sizeof *slot->open_sum);
	}
	for (uint32_t page = open->end / page_tokens; (uint64_t)(page + 1) * page_tokens <= b->end; page++) {
		add_page(sp, page, open->end - page * page_tokens, page_tokens, slot->open_sum);
		open->end = (page + 1) * page_tokens;
	}
	memcpy(sum, slot->open_sum, dim * sizeof *sum);
	if (open->end < b->end) {
		uint32_t page = open->end / page_tokens, from = page * page_tokens;
		add_page(sp, page, open->end - from, b->end - from, sum);
	}
	*e = (struct entry){b->uid, b->start, b->end, __builtin_sqrt(dot(sum, sum, dim))};
}

static int grow(struct slot *slot, uint32_t count, uint32_t kv_count, uint32_t dim, struct ikv_err *err)
{
	size_t have = (size_t)slot->cap * dim, want;
	if (!slot->open_sum && !(slot->open_sum = ikv_alloc(dim, sizeof(double), err)))
		return -1;
	if (slot->kv_count != kv_count) {
		for (uint32_t i = 0; i < slot->cap; i++)
			slot->entries[i].end = 0;
		slot->open = (struct entry){0};
		memset(slot->open_sum, 0, dim * sizeof(double));
		slot->kv_count = kv_count;
	}
	if (count <= slot->cap)
		return 0;
	uint32_t cap = count + count / 2;
	if (__builtin_mul_overflow((size_t)cap, dim, &want))
		return ikv_err_set(err, IKV_BAD_INPUT, "scorer cosine: %u blocks are too many", count);
	if (ikv_grow(&slot->sums, have, want, sizeof *slot->sums, err) ||
	    ikv_grow(&slot->entries, slot->cap, cap, sizeof *slot->entries, err))
		return -1;
	slot->cap = cap;
	return 0;
}

static int score_unit(struct cosine *s, struct ikv_score_unit *u, struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->geometry;
	const uint32_t dim = g->d_qk, group = g->q_heads / g->kv_heads;
	if (scorer_check(u, g, "cosine", err))
		return -1;
	if (u->seq >= s->sequences)
		return ikv_err_set(err, IKV_FAILED, "scorer cosine: sequence %u of %u", u->seq, s->sequences);
	struct span sp = {u->kv, u->seq, u->layer, u->q_first / group, 0};
	sp.kv_count = (u->q_first + u->q_count - 1) / group + 1 - sp.kv_first;
	struct slot *slot = &s->slots[((size_t)u->seq * g->layers + u->layer) * g->kv_heads + sp.kv_first];
	if (grow(slot, u->layout->count, sp.kv_count, dim, err))
		return -1;
	memset(s->query, 0, dim * sizeof *s->query);
	for (uint32_t h = 0; h < u->q_count; h++)
		add_floats(s->query, u->q + (size_t)h * dim, dim);
	const double length = __builtin_sqrt(dot(s->query, s->query, dim));
	for (uint32_t i = 0; i < u->layout->count; i++) {
		struct ikv_block *b = &u->layout->blocks[i];
		struct entry *e = &slot->entries[i];
		if (!scorer_wants(b))
			continue;
		if (e->uid != b->uid || e->start != b->start || e->end != b->end)
			sum_block(slot, &sp, b, i, dim, g->page_tokens);
		double c = 0, norm = length * e->norm;
		if (norm > 0)
			c = dot(s->query, slot->sums + (size_t)i * dim, dim) / norm;
		b->score = c < 0 ? 0 : c > 1 ? 1 : c;
		b->has_score = true;
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
	struct cosine *s = state;
	const size_t per_seq = (size_t)s->geometry.layers * s->geometry.kv_heads;
	if (seq >= s->sequences)
		return;
	for (size_t i = seq * per_seq; i < (seq + 1) * per_seq; i++) {
		struct slot *slot = &s->slots[i];
		for (uint32_t k = 0; k < slot->cap; k++)
			if (slot->entries[k].end > tokens)
				slot->entries[k].end = 0;
		if (slot->open.end > tokens)
			slot->open.start = UINT32_MAX; /* matches no block */
	}
}

static const struct ikv_option options[] = {IKV_OPTION_END};

const struct ikv_scorer_ops scorer_cosine = {
    .name = "cosine",
    .summary = "mean query against the mean key of a block, cosine clamped to [0, 1]",
    .options = options,
    .config_bytes = 0,
    .create = create,
    .destroy = destroy,
    .score = score,
    .forget = forget,
    .page_scores = false,
};

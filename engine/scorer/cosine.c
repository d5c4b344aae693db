/* cosine: mean query of the unit's heads against the mean key of a block or page, clamped to [0, 1].
 *
 * Cosines do not depend on length, so sums stand in for means. The sum of a block's keys is taken page by page in
 * ascending order, KV head by KV head, and kept: a closed block costs one dot product a step, the growing one
 * adds its last page. A sum does not depend on when it was taken, so a restart gives the same bits. */
#include <string.h>
#include "attn/exact_store.h"
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
	double *queries; /* [query_cap][d_qk + 1] sum over a unit's heads, and its length */
	uint32_t query_cap;
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
	ikv_free(s->queries);
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
	if (!s->slots) {
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

float ikv_page_cosine(const double *q, double length, const float *sums, size_t stride, uint32_t kv_count,
		      uint32_t dim)
{
	double with[LANES] = {0}, own[LANES] = {0};
	for (uint32_t i = 0; i < dim; i += LANES) {
		double sum[LANES] = {0};
		const uint32_t n = dim - i < LANES ? dim - i : LANES;
		for (uint32_t h = 0; h < kv_count; h++)
			for (uint32_t l = 0; l < n; l++)
				sum[l] += (double)sums[h * stride + i + l];
		for (uint32_t l = 0; l < n; l++) {
			with[l] += q[i + l] * sum[l];
			own[l] += sum[l] * sum[l];
		}
	}
	for (uint32_t w = LANES / 2; w > 0; w /= 2) {
		for (uint32_t l = 0; l < w; l++) {
			with[l] += with[l + w];
			own[l] += own[l + w];
		}
	}
	const double norm = length * __builtin_sqrt(own[0]), c = norm > 0 ? with[0] / norm : 0;
	return (float)(c < 0 ? 0 : c > 1 ? 1 : c);
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

/* KV heads whose keys the unit's queries meet. */
static struct span span_of(const struct cosine *s, const struct ikv_score_unit *u)
{
	const uint32_t group = s->geometry.q_heads / s->geometry.kv_heads, first = u->q_first / group;
	return (struct span){u->kv, u->seq, u->layer, first, (u->q_first + u->q_count - 1) / group + 1 - first};
}

static double *query_of(const struct cosine *s, uint32_t unit)
{
	return s->queries + (size_t)unit * (s->geometry.d_qk + 1);
}

static int take_queries(struct cosine *s, const struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	const uint32_t dim = s->geometry.d_qk;
	if (count > s->query_cap) {
		if (ikv_grow(&s->queries, 0, (size_t)count * (dim + 1), sizeof *s->queries, err))
			return -1;
		s->query_cap = count;
	}
	for (uint32_t i = 0; i < count; i++) {
		double *q = query_of(s, i);
		memset(q, 0, dim * sizeof *q);
		for (uint32_t h = 0; h < units[i].q_count; h++)
			add_floats(q, units[i].q + (size_t)h * dim, dim);
		q[dim] = __builtin_sqrt(dot(q, q, dim));
	}
	return 0;
}

/* Pages to be scored: items are IKV_SUMMARY_PAGES pages of a unit, whose sums lie together head by head. */
struct page_work {
	const struct cosine *scorer;
	const struct ikv_score_unit *units;
	uint32_t first, pieces; /* the first unit with this store; of a unit */
};

static void score_piece(void *context, uint32_t item)
{
	const struct page_work *w = context;
	const uint32_t unit = w->first + item / w->pieces, from = item % w->pieces * IKV_SUMMARY_PAGES;
	const struct ikv_score_unit *u = &w->units[unit];
	const struct span sp = span_of(w->scorer, u);
	const uint32_t dim = w->scorer->geometry.d_qk,
		       pages = ikv_pages(u->layout->total_tokens, u->layout->page_tokens);
	const double *q = query_of(w->scorer, unit);
	for (uint32_t p = from; u->page_scores && !u->given && p < pages && p < from + IKV_SUMMARY_PAGES; p++)
		u->page_scores[p] =
		    ikv_page_cosine(q, q[dim], ikv_exact_ksum(sp.kv, sp.seq, sp.layer, p, sp.kv_first),
				    (size_t)IKV_SUMMARY_PAGES * dim, sp.kv_count, dim);
}

/* Of units first to first + count - 1, of one store. */
static int score_pages(const struct cosine *s, const struct ikv_score_unit *units, uint32_t first, uint32_t count,
		       struct ikv_err *err)
{
	struct page_work w = {s, units, first, 0};
	for (uint32_t i = first; i < first + count; i++) {
		const struct ikv_layout *l = units[i].layout;
		const uint32_t pages = ikv_pages(l->total_tokens, l->page_tokens);
		const uint32_t pieces = (pages + IKV_SUMMARY_PAGES - 1) / IKV_SUMMARY_PAGES;
		if (units[i].page_scores && units[i].given && units[i].given != units[i].page_scores)
			memcpy(units[i].page_scores, units[i].given, pages * sizeof(float));
		if (units[i].page_scores && !units[i].given)
			w.pieces = pieces > w.pieces ? pieces : w.pieces;
	}
	return w.pieces ? exact_store_each(units[first].kv, count * w.pieces, score_piece, &w, err) : 0;
}

static int score_blocks(struct cosine *s, struct ikv_score_unit *u, const double *query, struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->geometry;
	const uint32_t dim = g->d_qk;
	const struct span sp = span_of(s, u);
	struct slot *slot = &s->slots[((size_t)u->seq * g->layers + u->layer) * g->kv_heads + sp.kv_first];
	if (grow(slot, u->layout->count, sp.kv_count, dim, err))
		return -1;
	for (uint32_t i = 0; i < u->layout->count; i++) {
		struct ikv_block *b = &u->layout->blocks[i];
		struct entry *e = &slot->entries[i];
		if (!scorer_wants(b))
			continue;
		if (e->uid != b->uid || e->start != b->start || e->end != b->end)
			sum_block(slot, &sp, b, i, dim, g->page_tokens);
		double c = 0, norm = query[dim] * e->norm;
		if (norm > 0)
			c = dot(query, slot->sums + (size_t)i * dim, dim) / norm;
		b->score = c < 0 ? 0 : c > 1 ? 1 : c;
		b->has_score = true;
	}
	return 0;
}

static int score(void *state, struct ikv_score_unit *units, uint32_t count, struct ikv_err *err)
{
	struct cosine *s = state;
	for (uint32_t i = 0; i < count; i++) {
		if (scorer_check(&units[i], &s->geometry, "cosine", err))
			return -1;
		if (units[i].seq >= s->sequences)
			return ikv_err_set(err, IKV_FAILED, "scorer cosine: sequence %u of %u", units[i].seq,
					   s->sequences);
	}
	if (take_queries(s, units, count, err))
		return -1;
	for (uint32_t i = 0, n; i < count; i += n) { /* all of one store at once: its threads share them */
		for (n = 1; i + n < count && units[i + n].kv == units[i].kv;)
			n++;
		if (score_pages(s, units, i, n, err))
			return -1;
	}
	for (uint32_t i = 0; i < count; i++)
		if (score_blocks(s, &units[i], query_of(s, i), err))
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
    .summary = "mean query against the mean key of a block or page, cosine clamped to [0, 1]",
    .options = options,
    .config_bytes = 0,
    .create = create,
    .destroy = destroy,
    .score = score,
    .forget = forget,
    .page_scores = IKV_PAGE_COSINE,
};

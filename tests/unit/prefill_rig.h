/* A sequence, a plan and a unit of several query rows a head, for the tests of attention over them. */
#ifndef TESTS_PREFILL_RIG_H
#define TESTS_PREFILL_RIG_H

#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "../tap.h"

static const enum ikv_format stored_formats[] = {IKV_FMT_FP16,          IKV_FMT_FP8,   IKV_FMT_INT8,  IKV_FMT_INT4,
						 IKV_FMT_INT4_RESIDUAL, IKV_FMT_BF16,  IKV_FMT_KIVI8, IKV_FMT_KIVI4,
						 IKV_FMT_KIVI2,         IKV_FMT_SPARSE};
enum { FORMATS = sizeof stored_formats / sizeof *stored_formats };

struct scene { /* a sequence, a plan over it, and a unit of several rows */
	struct ikv_geometry g;
	struct ikv_rng r;
	uint32_t tokens, pages;
	uint16_t *k, *v; /* [tokens][kv_heads][d] */
	struct ikv_plan plan;
	struct ikv_attn_unit u;
	float *q, *bias;
	uint32_t *positions;
};

struct answer {
	float *out, *lse, *mass;
	size_t rows, d_v, pages;
};

static inline uint32_t below(struct scene *s, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&s->r, n);
}

static inline uint16_t *random_halves(struct scene *s, size_t n)
{
	uint16_t *rows = calloc(n, 2);
	for (size_t i = 0; i < n; i++)
		rows[i] = ikv_fp16_from_float((float)ikv_rng_normal(&s->r));
	return rows;
}

static inline void all_pages(struct scene *s)
{
	s->plan.count = s->plan.mask_used = 0;
	for (uint32_t p = 0; p < s->pages; p++) {
		uint32_t left = s->tokens - p * s->g.page_tokens;
		s->plan.pages[s->plan.count++] =
		    (struct ikv_page_ref){.page = p,
					  .hi = (uint16_t)(left < s->g.page_tokens ? left : s->g.page_tokens),
					  .mask = IKV_NO_MASK};
	}
}

/* Some pages, whole, with bounds, or with a mask, which may select nothing. */
static inline void some_pages(struct scene *s)
{
	uint32_t n = 0;
	all_pages(s);
	for (uint32_t p = 0; p < s->pages; p++) {
		struct ikv_page_ref ref = s->plan.pages[p];
		uint32_t how = below(s, 4), rows = ref.hi;
		if (below(s, 2))
			continue;
		if (how) {
			ref.lo = (uint16_t)below(s, rows);
			ref.hi = (uint16_t)(ref.lo + 1 + below(s, rows - ref.lo));
		}
		if (how > 1) {
			ref.mask = s->plan.mask_used;
			for (uint32_t k = 0; k < s->plan.mask_words; k++)
				s->plan.masks[s->plan.mask_used++] = ikv_rng_u64(&s->r);
		}
		s->plan.pages[n++] = ref;
	}
	s->plan.count = n;
}

static inline void set_scene(struct scene *s, struct ikv_geometry g, uint32_t tokens, uint32_t q_len)
{
	size_t nq = (size_t)q_len * g.q_heads * g.d_qk;
	s->g = g;
	s->tokens = tokens;
	s->pages = ikv_pages(tokens, g.page_tokens);
	s->k = random_halves(s, (size_t)tokens * g.kv_heads * g.d_qk);
	s->v = random_halves(s, (size_t)tokens * g.kv_heads * g.d_v);
	for (size_t t = 0; g.v_aliases_k && t < (size_t)tokens * g.kv_heads; t++)
		memcpy(s->v + t * g.d_v, s->k + t * g.d_qk, 2 * (size_t)g.d_v);
	s->plan = (struct ikv_plan){.pages = calloc(s->pages, sizeof *s->plan.pages),
				    .mask_words = (g.page_tokens + 63) / 64,
				    .page_tokens = g.page_tokens,
				    .total_tokens = tokens};
	s->plan.masks = calloc((size_t)s->pages * s->plan.mask_words, 8);
	s->q = calloc(nq, sizeof *s->q);
	for (size_t i = 0; i < nq; i++)
		s->q[i] = (float)ikv_rng_normal(&s->r);
	s->positions = calloc(q_len, sizeof *s->positions);
	for (uint32_t i = 0; i < q_len; i++) /* the last rows of the context */
		s->positions[i] = tokens > q_len ? tokens - q_len + i : i;
	s->bias = NULL;
	s->u = (struct ikv_attn_unit){
	    .seq = 1, .q_count = g.q_heads, .plan = &s->plan, .q = s->q, .q_len = q_len, .positions = s->positions};
	all_pages(s);
}

static inline void drop_scene(struct scene *s)
{
	free(s->k);
	free(s->v);
	free(s->plan.pages);
	free(s->plan.masks);
	free(s->q);
	free(s->bias);
	free(s->positions);
}

/* A bias over some positions, some of them -inf; the range may reach beyond the context. */
static inline void add_bias(struct scene *s)
{
	uint32_t first = below(s, s->tokens), n = 1 + below(s, s->tokens + 5);
	size_t all = (size_t)s->u.q_len * n;
	s->bias = calloc(all, sizeof *s->bias);
	for (size_t i = 0; i < all; i++)
		s->bias[i] = below(s, 3) ? (float)ikv_rng_normal(&s->r) * 3 : -INFINITY;
	s->u.bias = s->bias;
	s->u.bias_first = first;
	s->u.bias_tokens = n;
}

static inline struct ikv_backend *open_backend(const struct scene *s, const struct ikv_backend_ops *ops,
					       const char *isa, uint32_t threads)
{
	struct ikv_backend_config config = {.threads = threads, .isa = isa, .sequences = 2};
	struct ikv_backend *b;
	struct ikv_err err;
	ck_assert_msg(ops->open(&b, &s->g, &config, &err) == 0, "%s", err.text);
	ck_assert_int_eq(ops->append(b, 1, 0, s->tokens, s->k, s->v, &err), 0);
	return b;
}

/* Closed pages in random formats, the same ones in any backend; `only` >= 0: all in that one. */
static inline void mix_formats(const struct scene *s, struct ikv_backend *b, int only)
{
	struct ikv_rng r = s->r;
	struct ikv_err err;
	for (uint32_t p = 0; p < s->tokens / s->g.page_tokens; p++)
		for (uint32_t h = 0; h < s->g.kv_heads; h++)
			ck_assert_int_eq(
			    b->ops->recode(b, 1, 0, h, 1, p,
					   stored_formats[only < 0 ? ikv_rng_below(&r, FORMATS) : (uint64_t)only],
					   &err),
			    0);
}

static inline void answer_room(const struct scene *s, struct answer *a, struct ikv_attn_unit *u)
{
	a->rows = (size_t)ikv_attn_rows(u) * u->q_count;
	a->d_v = s->g.d_v;
	a->pages = u->plan->count;
	u->out = a->out = malloc(a->rows * a->d_v * sizeof *a->out);
	u->lse = a->lse = malloc(a->rows * sizeof *a->lse);
	u->mass = a->mass = malloc((a->rows * a->pages + 1) * sizeof *a->mass);
	memset(a->out, 0x7f, a->rows * a->d_v * sizeof *a->out);
}

static inline struct answer decode(const struct scene *s, struct ikv_backend *b)
{
	struct ikv_attn_unit u = s->u;
	struct answer a;
	struct ikv_err err;
	answer_room(s, &a, &u);
	ck_assert_msg(b->ops->decode(b, &u, 1, &err) == 0, "%s", err.text);
	return a;
}

static inline void free_answer(struct answer a)
{
	free(a.out);
	free(a.lse);
	free(a.mass);
}

static inline bool near(double a, double b, double tolerance)
{
	return a == b || fabs(a - b) <= tolerance;
}

static inline void check_near(double got, double want, double tolerance, const char *what, size_t row, size_t at)
{
	must_msg(near(got, want, tolerance), "row %zu: %s %zu is %g, expected %g", row, what, at, got, want);
}

static inline void same(struct answer a, struct answer b, double tolerance)
{
	ck_assert_uint_eq(a.rows, b.rows);
	for (size_t i = 0; i < a.rows; i++) {
		check_near(a.lse[i], b.lse[i], tolerance, "lse", i, 0);
		for (size_t d = 0; d < a.d_v; d++)
			check_near(a.out[i * a.d_v + d], b.out[i * a.d_v + d], tolerance, "channel", i, d);
		for (size_t p = 0; p < a.pages && a.pages == b.pages; p++)
			check_near(a.mass[i * a.pages + p], b.mass[i * a.pages + p], tolerance, "mass of page", i, p);
	}
}

static inline struct ikv_geometry geometry(struct scene *s, uint32_t heads_most, uint32_t dim_most)
{
	struct ikv_geometry g = {.layers = 1, .kv_heads = 1 + below(s, 3), .page_tokens = 1 + below(s, 70)};
	g.q_heads = g.kv_heads * (1 + below(s, heads_most));
	g.d_qk = 1 + below(s, dim_most);
	g.d_v = below(s, 2) ? g.d_qk : 1 + below(s, dim_most);
	g.v_aliases_k = g.d_v <= g.d_qk && !below(s, 4);
	g.scale = 1 / sqrtf((float)g.d_qk);
	return g;
}

/* Positions in any order, some before all tokens; heads that begin within a group. */
static inline void vary(struct scene *s)
{
	for (uint32_t i = 0; i < s->u.q_len && !below(s, 3); i++)
		s->positions[i] = below(s, s->tokens + 3);
	if (!below(s, 5))
		s->u.positions = NULL;
	if (below(s, 2))
		some_pages(s);
	if (below(s, 2))
		add_bias(s);
	if (!below(s, 3)) {
		s->u.q_first = below(s, s->g.q_heads);
		s->u.q_count = 1 + below(s, s->g.q_heads - s->u.q_first);
	}
}

#endif

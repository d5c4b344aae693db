/* Several query rows a head: positions, additive bias, selections, formats; backends against a softmax in double. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

static const enum ikv_format stored_formats[] = {IKV_FMT_FP16, IKV_FMT_FP8, IKV_FMT_INT8, IKV_FMT_INT4,
						 IKV_FMT_INT4_RESIDUAL};
#define FORMATS 5

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

static uint32_t below(struct scene *s, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&s->r, n);
}

static uint16_t *random_halves(struct scene *s, size_t n)
{
	uint16_t *rows = calloc(n, 2);
	for (size_t i = 0; i < n; i++)
		rows[i] = ikv_fp16_from_float((float)ikv_rng_normal(&s->r));
	return rows;
}

static void all_pages(struct scene *s)
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
static void some_pages(struct scene *s)
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

static void set_scene(struct scene *s, struct ikv_geometry g, uint32_t tokens, uint32_t q_len)
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

static void drop_scene(struct scene *s)
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
static void add_bias(struct scene *s)
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

static struct ikv_backend *open_backend(const struct scene *s, const struct ikv_backend_ops *ops, const char *isa,
					uint32_t threads)
{
	struct ikv_backend_config config = {threads, isa, 2};
	struct ikv_backend *b;
	struct ikv_err err;
	ck_assert_msg(ops->open(&b, &s->g, &config, &err) == 0, "%s", err.text);
	ck_assert_int_eq(ops->append(b, 1, 0, s->tokens, s->k, s->v, &err), 0);
	return b;
}

/* Closed pages in random formats, the same ones in any backend; `only` >= 0: all in that one. */
static void mix_formats(const struct scene *s, struct ikv_backend *b, int only)
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

static void answer_room(const struct scene *s, struct answer *a, struct ikv_attn_unit *u)
{
	a->rows = (size_t)ikv_attn_rows(u) * u->q_count;
	a->d_v = s->g.d_v;
	a->pages = u->plan->count;
	u->out = a->out = malloc(a->rows * a->d_v * sizeof *a->out);
	u->lse = a->lse = malloc(a->rows * sizeof *a->lse);
	u->mass = a->mass = malloc((a->rows * a->pages + 1) * sizeof *a->mass);
	memset(a->out, 0x7f, a->rows * a->d_v * sizeof *a->out);
}

static struct answer decode(const struct scene *s, struct ikv_backend *b)
{
	struct ikv_attn_unit u = s->u;
	struct answer a;
	struct ikv_err err;
	answer_room(s, &a, &u);
	ck_assert_msg(b->ops->decode(b, &u, 1, &err) == 0, "%s", err.text);
	return a;
}

static void free_answer(struct answer a)
{
	free(a.out);
	free(a.lse);
	free(a.mass);
}

static bool near(double a, double b, double tolerance)
{
	return a == b || fabs(a - b) <= tolerance;
}

static void same(struct answer a, struct answer b, double tolerance)
{
	ck_assert_uint_eq(a.rows, b.rows);
	for (size_t i = 0; i < a.rows; i++) {
		ck_assert_msg(near(a.lse[i], b.lse[i], tolerance), "row %zu: lse %g, expected %g", i, a.lse[i],
			      b.lse[i]);
		for (size_t d = 0; d < a.d_v; d++)
			ck_assert_msg(near(a.out[i * a.d_v + d], b.out[i * a.d_v + d], tolerance),
				      "row %zu channel %zu: %g, expected %g", i, d, a.out[i * a.d_v + d],
				      b.out[i * a.d_v + d]);
		for (size_t p = 0; p < a.pages && a.pages == b.pages; p++)
			ck_assert_msg(near(a.mass[i * a.pages + p], b.mass[i * a.pages + p], tolerance),
				      "row %zu page %zu: mass %g, expected %g", i, p, a.mass[i * a.pages + p],
				      b.mass[i * a.pages + p]);
	}
}

static bool sees(const struct scene *s, uint32_t i, const struct ikv_page_ref *ref, uint32_t t, double *bias)
{
	const struct ikv_attn_unit *u = &s->u;
	uint32_t at = ref->page * s->g.page_tokens + t;
	*bias = 0;
	if (t < ref->lo || t >= ref->hi || (u->positions && at > u->positions[i]))
		return false;
	if (ref->mask != IKV_NO_MASK && !(s->plan.masks[ref->mask + t / 64] >> t % 64 & 1))
		return false;
	if (u->bias && at >= u->bias_first && at < u->bias_first + u->bias_tokens)
		*bias = u->bias[(size_t)i * u->bias_tokens + at - u->bias_first];
	return *bias > -INFINITY;
}

/* Rows as appended (FP16), one query row at a time. */
static void naive_row(const struct scene *s, uint32_t i, uint32_t h, double *weights, struct answer *a)
{
	const struct ikv_geometry *g = &s->g;
	size_t row = (size_t)i * s->u.q_count + h;
	uint32_t kv = (s->u.q_first + h) / (g->q_heads / g->kv_heads);
	double top = -INFINITY, sum = 0, bias;
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t p = 0; p < s->plan.count; p++) {
			double mass = 0;
			for (uint32_t t = 0; t < g->page_tokens; t++) {
				size_t at = (size_t)s->plan.pages[p].page * g->page_tokens + t;
				if (!sees(s, i, &s->plan.pages[p], t, &bias))
					continue;
				if (pass) {
					sum += weights[at] = exp(weights[at] - top);
					mass += weights[at];
					continue;
				}
				double dot = 0;
				for (uint32_t d = 0; d < g->d_qk; d++)
					dot += (double)s->q[row * g->d_qk + d] *
					       (double)ikv_fp16_to_float(s->k[(at * g->kv_heads + kv) * g->d_qk + d]);
				weights[at] = dot * (double)g->scale + bias;
				top = fmax(top, weights[at]);
			}
			a->mass[row * a->pages + p] = (float)mass;
		}
	}
	for (uint32_t d = 0; d < g->d_v; d++) {
		double x = 0;
		for (uint32_t p = 0; p < s->plan.count; p++)
			for (uint32_t t = 0; t < g->page_tokens; t++) {
				size_t at = (size_t)s->plan.pages[p].page * g->page_tokens + t;
				if (sees(s, i, &s->plan.pages[p], t, &bias))
					x += weights[at] / sum *
					     (double)ikv_fp16_to_float(s->v[(at * g->kv_heads + kv) * g->d_v + d]);
			}
		a->out[row * g->d_v + d] = (float)x;
	}
	for (uint32_t p = 0; p < s->plan.count && sum > 0; p++)
		a->mass[row * a->pages + p] = (float)((double)a->mass[row * a->pages + p] / sum);
	a->lse[row] = sum > 0 ? (float)(top + log(sum)) : -INFINITY;
}

static struct answer naive(const struct scene *s)
{
	struct ikv_attn_unit u = s->u;
	struct answer a;
	double *weights = calloc(s->tokens, sizeof *weights);
	answer_room(s, &a, &u);
	for (uint32_t i = 0; i < u.q_len; i++)
		for (uint32_t h = 0; h < u.q_count; h++)
			naive_row(s, i, h, weights, &a);
	free(weights);
	return a;
}

static struct ikv_geometry geometry(struct scene *s, uint32_t heads_most, uint32_t dim_most)
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
static void vary(struct scene *s)
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

START_TEST(ref_sees_what_it_should)
{
	for (uint64_t n = 0; n < 200; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 50, 0);
		struct ikv_geometry g = geometry(&s, 6, 40);
		uint32_t tokens = 1 + below(&s, 100);
		set_scene(&s, g, tokens, 1 + below(&s, 20));
		vary(&s);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_ref, "auto", 1);
		struct answer a = decode(&s, b), expected = naive(&s);
		same(a, expected, 1e-5);
		free_answer(a);
		free_answer(expected);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

/* Against the backend `ref`, whose pages hold the same codes. */
static void agrees(struct scene *s, const char *isa, uint32_t threads, int format, double tolerance)
{
	struct ikv_backend *both[2] = {open_backend(s, &ikv_backend_cpu, isa, threads),
				       open_backend(s, &ikv_backend_ref, "auto", 1)};
	struct answer a[2];
	for (int i = 0; i < 2; i++) {
		mix_formats(s, both[i], format);
		a[i] = decode(s, both[i]);
	}
	same(a[0], a[1], tolerance);
	for (int i = 0; i < 2; i++) {
		free_answer(a[i]);
		both[i]->ops->close(both[i]);
	}
}

static const char *usable_isa(int i)
{
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	return (uint32_t)i < count && isas[i].usable ? isas[i].name : NULL;
}

START_TEST(cpu_agrees)
{
	for (uint64_t n = 0; usable_isa(_i) && n < 400; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 53, 0);
		struct ikv_geometry g = geometry(&s, n % 5 ? 6 : 40, n % 4 ? 80 : 256);
		uint32_t tokens = 1 + below(&s, n % 3 ? 100 : 400), q_len = 1 + below(&s, n % 7 ? 30 : 200);
		set_scene(&s, g, tokens, q_len);
		vary(&s);
		agrees(&s, usable_isa(_i), 1 + (uint32_t)n % 3, n % 3 ? (int)(n / 3 % FORMATS) : -1, 5e-5);
		drop_scene(&s);
	}
}
END_TEST

/* MLA: up to 128 heads, one row each or several, over latents of 576 channels of which 512 are the values. */
START_TEST(latents_agree)
{
	static const uint32_t heads[] = {128, 16, 20, 64, 1};
	for (uint64_t n = 0; usable_isa(_i) && n < 12; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 54, 0);
		struct ikv_geometry g = {1, heads[n % 5], 1, 576, 512, true, n % 2 ? 16 : 64, 1 / sqrtf(192)};
		set_scene(&s, g, 100 + below(&s, 200), n % 3 ? 1 : 1 + below(&s, 3));
		if (n % 2)
			s.u.positions = NULL;
		if (n % 4 > 1)
			some_pages(&s);
		agrees(&s, usable_isa(_i), 2, n < 6 ? (int)n - 1 : -1, 1e-4);
		drop_scene(&s);
	}
}
END_TEST

/* Contexts of several pieces, for one row of many heads, and for a last chunk of a long prefill. */
START_TEST(long_contexts_agree)
{
	for (uint64_t n = 0; usable_isa(_i) && n < 4; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 55, 0);
		struct ikv_geometry g = {1, n % 2 ? 32 : 4, 1 + (uint32_t)n / 2, 64, 64, false, 16, 0.125f};
		set_scene(&s, g, 9000, n % 2 ? 1 : 70);
		for (uint32_t d = 0; d < 64; d++) /* a row that points to one token of the last piece */
			s.q[64 * (g.q_heads - 1) + d] =
			    3 * ikv_fp16_to_float(s.k[(size_t)8900 * g.kv_heads * 64 + (g.kv_heads - 1) * 64 + d]);
		agrees(&s, usable_isa(_i), 2, (int)n - 1, 5e-5);
		drop_scene(&s);
	}
}
END_TEST

/* Scores of ±1e30 and a bias that adds up to -inf: the one key far ahead is the answer, rows without one are zeros.
 */
START_TEST(extreme_values)
{
	for (int f = 0; usable_isa(_i) && f < FORMATS; f++) {
		struct scene s;
		ikv_rng_stream(&s.r, (uint64_t)f, IKV_STREAM_TEST, 56, 0);
		set_scene(&s, (struct ikv_geometry){1, 3, 1, 40, 40, false, 16, 1}, 90, 7);
		s.u.positions = NULL;
		s.bias = calloc(7 * 90, sizeof *s.bias);
		for (uint32_t t = 0; t < 7 * 90; t++)
			s.bias[t] = t / 90 == 2 ? -INFINITY : t / 90 == 3 ? -3.4e38f : 0;
		s.u.bias = s.bias;
		s.u.bias_tokens = 90;
		for (uint32_t i = 0; i < 7 * 3 * 40; i++)
			s.q[i] *= i / 120 == 3 ? 1 : 1e30f;
		struct ikv_backend *cpu = open_backend(&s, &ikv_backend_cpu, usable_isa(_i), 1);
		struct ikv_backend *ref = open_backend(&s, &ikv_backend_ref, "auto", 1);
		mix_formats(&s, cpu, f);
		mix_formats(&s, ref, f);
		struct answer a = decode(&s, cpu), b = decode(&s, ref);
		for (size_t i = 0; i < a.rows; i++) {
			ck_assert(a.lse[i] == b.lse[i] || fabs(a.lse[i] / (double)b.lse[i] - 1) < 1e-5);
			if (i / 3 == 2)
				ck_assert(a.lse[i] == -INFINITY);
		}
		for (size_t i = 0; i < a.rows * 40; i++)
			if (i / 120 != 3) /* there all scores are lost beside the bias */
				ck_assert_double_le(fabs((double)a.out[i] - (double)b.out[i]), 1e-5);
		for (size_t i = 2 * 120; i < 3 * 120; i++)
			ck_assert(a.out[i] == 0);
		free_answer(a);
		free_answer(b);
		cpu->ops->close(cpu);
		ref->ops->close(ref);
		drop_scene(&s);
	}
}
END_TEST

/* The unit that sees nothing at all, by an empty plan or by its positions. */
START_TEST(nothing_to_see)
{
	for (int how = 0; usable_isa(_i) && how < 2; how++) {
		struct scene s;
		ikv_rng_stream(&s.r, 0, IKV_STREAM_TEST, 57, 0);
		set_scene(&s, (struct ikv_geometry){1, 4, 2, 24, 24, false, 16, 1}, 60, 5);
		if (how) {
			s.plan.pages[0] = s.plan.pages[2];
			s.plan.pages[1] = s.plan.pages[3];
		}
		s.plan.count = how ? 2 : 0;
		for (uint32_t i = 0; i < 5; i++)
			s.positions[i] = 6 * i; /* before the third page */
		struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, usable_isa(_i), 2);
		struct answer a = decode(&s, b);
		for (size_t i = 0; i < a.rows; i++)
			ck_assert(a.lse[i] == -INFINITY);
		for (size_t i = 0; i < a.rows * a.d_v; i++)
			ck_assert(a.out[i] == 0);
		for (size_t i = 0; i < a.rows * a.pages; i++)
			ck_assert(a.mass[i] == 0);
		free_answer(a);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

START_TEST(threads_do_not_change_bits)
{
	static const uint32_t threads[] = {1, 2, 3, 8};
	struct answer first = {0};
	for (int i = 0; i < 8; i++) {
		struct scene s;
		struct ikv_geometry g = {1, 8, 2, 36, 36, false, 16, 1 / 6.0f};
		ikv_rng_stream(&s.r, 1, IKV_STREAM_TEST, 58, 0);
		if (i >= 4) /* several pieces */
			g = (struct ikv_geometry){1, 40, 1, 64, 48, true, 16, 0.125f};
		set_scene(&s, g, i < 4 ? 2000 : 5000, i < 4 ? 300 : 1);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, "auto", threads[i % 4]);
		mix_formats(&s, b, -1);
		struct answer a = decode(&s, b);
		if (i % 4 == 0) {
			first = a;
		} else {
			ck_assert_mem_eq(a.out, first.out, a.rows * a.d_v * 4);
			ck_assert_mem_eq(a.lse, first.lse, a.rows * 4);
			ck_assert_mem_eq(a.mass, first.mass, a.rows * a.pages * 4);
			free_answer(a);
		}
		if (i % 4 == 3)
			free_answer(first);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

/* Decode and prefill units in one call; a smaller call after a larger one allocates nothing. */
START_TEST(units_mix_and_do_not_allocate)
{
	struct scene s, one;
	struct ikv_err err;
	ikv_rng_stream(&s.r, 0, IKV_STREAM_TEST, 59, 0);
	set_scene(&s, (struct ikv_geometry){1, 8, 2, 64, 64, false, 16, 0.125f}, 600, 40);
	struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, "auto", 2);
	mix_formats(&s, b, -1);
	one = s;
	one.u.q_len = 0;
	one.u.positions = NULL;
	one.u.q = s.q + 39 * 8 * 64; /* the last row sees all */
	struct ikv_attn_unit u[3] = {s.u, one.u, s.u};
	struct answer a[3];
	for (int i = 0; i < 3; i++)
		answer_room(&s, &a[i], &u[i]);
	ck_assert_int_eq(b->ops->decode(b, u, 3, &err), 0);
	same(a[0], a[2], 0);
	for (uint32_t h = 0; h < 8; h++)
		for (uint32_t d = 0; d < 64; d++)
			ck_assert_double_le(
			    fabs((double)a[1].out[h * 64 + d] - (double)a[0].out[(39 * 8 + h) * 64 + d]), 5e-5);
	uint64_t before = ikv_alloc_count();
	ck_assert_int_eq(b->ops->decode(b, u, 2, &err), 0);
	s.u.q_len = 39;
	ck_assert_int_eq(b->ops->decode(b, u + 1, 2, &err), 0);
	ck_assert_uint_eq(ikv_alloc_count(), before);
	for (int i = 0; i < 3; i++)
		free_answer(a[i]);
	s.q[5 * 8 * 64 + 64 + 3] = NAN;
	answer_room(&s, &a[0], &u[0]);
	ck_assert_int_eq(b->ops->decode(b, u, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "query of head 1, channel 3 is not finite"));
	free_answer(a[0]);
	b->ops->close(b);
	drop_scene(&s);
}
END_TEST

/* Selected keys keep their positions: a causal prefill over some pages is the dense one with the others masked. */
START_TEST(selected_equals_masked_dense)
{
	for (uint64_t n = 0; usable_isa(_i) && n < 30; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 51, 0);
		struct ikv_geometry g = geometry(&s, 6, 60);
		uint32_t tokens = 30 + below(&s, 300), q_len = 1 + below(&s, 30);
		set_scene(&s, g, tokens, q_len);
		some_pages(&s);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, usable_isa(_i), 2);
		mix_formats(&s, b, -1);
		struct answer selected = decode(&s, b);
		s.bias = calloc((size_t)q_len * tokens, sizeof *s.bias);
		for (uint32_t i = 0; i < q_len * tokens; i++)
			s.bias[i] = -INFINITY;
		for (uint32_t i = 0; i < q_len; i++)
			for (uint32_t p = 0; p < s.plan.count; p++)
				for (uint32_t t = 0; t < g.page_tokens; t++)
					if (t >= s.plan.pages[p].lo && t < s.plan.pages[p].hi &&
					    ikv_plan_has(&s.plan, &s.plan.pages[p], t))
						s.bias[i * tokens + s.plan.pages[p].page * g.page_tokens + t] = 0;
		s.u.bias = s.bias;
		s.u.bias_tokens = tokens;
		all_pages(&s);
		struct answer dense = decode(&s, b);
		same(selected, dense, 1e-5);
		free_answer(selected);
		free_answer(dense);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

START_TEST(a_bias_is_a_number)
{
	struct scene s;
	struct ikv_err err;
	ikv_rng_stream(&s.r, 0, IKV_STREAM_TEST, 52, 0);
	set_scene(&s, (struct ikv_geometry){1, 2, 1, 8, 8, false, 16, 1}, 20, 3);
	float bias[3][2] = {{0, 1}, {-INFINITY, NAN}, {0, 0}}, out[3 * 2 * 8];
	struct ikv_backend *b = open_backend(&s, &ikv_backend_ref, "auto", 1);
	s.u.bias = bias[0];
	s.u.bias_first = 7;
	s.u.bias_tokens = 2;
	s.u.out = out;
	ck_assert_int_eq(b->ops->decode(b, &s.u, 1, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_ptr_nonnull(strstr(err.text, "bias of row 1, position 8 is"));
	b->ops->close(b);
	drop_scene(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("prefill");
	TCase *t = tcase_create("prefill");
	tcase_set_timeout(t, 300);
	tcase_add_test(t, ref_sees_what_it_should);
	tcase_add_loop_test(t, cpu_agrees, 0, 4); /* one an ISA */
	tcase_add_loop_test(t, latents_agree, 0, 4);
	tcase_add_loop_test(t, long_contexts_agree, 0, 4);
	tcase_add_loop_test(t, selected_equals_masked_dense, 0, 4);
	tcase_add_loop_test(t, extreme_values, 0, 4);
	tcase_add_loop_test(t, nothing_to_see, 0, 4);
	tcase_add_test(t, threads_do_not_change_bits);
	tcase_add_test(t, units_mix_and_do_not_allocate);
	tcase_add_test(t, a_bias_is_a_number);
	suite_add_tcase(s, t);
	return tap_run(s);
}

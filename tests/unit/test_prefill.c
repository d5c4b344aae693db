/* Several query rows a head: positions, additive bias, selections, formats; backends against a softmax in double. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

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

/* Selected keys keep their positions: a causal prefill over some pages is the dense one with the others masked. */
START_TEST(selected_equals_masked_dense)
{
	for (uint64_t n = 0; n < 30; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 51, 0);
		struct ikv_geometry g = geometry(&s, 6, 60);
		uint32_t tokens = 30 + below(&s, 300), q_len = 1 + below(&s, 30);
		set_scene(&s, g, tokens, q_len);
		some_pages(&s);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_ref, "auto", 1);
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
	tcase_add_test(t, selected_equals_masked_dense);
	tcase_add_test(t, a_bias_is_a_number);
	suite_add_tcase(s, t);
	return tap_run(s);
}

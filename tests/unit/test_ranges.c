/* Attention over token ranges in the caller's memory: against double, against dense masked, against pages. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

struct world {
	struct ikv_geometry g;
	struct ikv_rng r;
	struct ikv_ranges_call c;
	struct ikv_range ranges[64];
	uint32_t position[3];
	float *k, *v, *q, *out, *lse, *mass; /* k, v [tokens][kv_heads][d], as numbers */
	void *own_k, *own_v;                 /* as the call sees them */
};

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&w->r, n);
}

static float *normals(struct world *w, size_t n)
{
	float *x = calloc(n + 1, 4);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)ikv_rng_normal(&w->r);
	return x;
}

/* The call's rows: float or FP16, tokens or heads first, with room between rows or not; x becomes what they hold. */
static void *lay(struct world *w, float *x, uint32_t d, bool heads_first, uint32_t gap, size_t *token, size_t *head)
{
	uint32_t heads = w->g.kv_heads, tokens = w->c.rows.tokens;
	*token = heads_first ? d + gap : (size_t)heads * (d + gap);
	*head = heads_first ? (size_t)tokens * (d + gap) : d + gap;
	float *f = calloc((size_t)tokens * heads * (d + gap) + 1, 4);
	uint16_t *half = (uint16_t *)f;
	for (uint32_t t = 0; t < tokens; t++) {
		for (uint32_t h = 0; h < heads; h++) {
			for (uint32_t i = 0; i < d; i++) {
				float *from = &x[((size_t)t * heads + h) * d + i];
				size_t at = t * *token + h * *head + i;
				if (w->c.rows.is_float) {
					f[at] = *from;
				} else {
					half[at] = ikv_fp16_from_float(*from);
					*from = ikv_fp16_to_float(half[at]);
				}
			}
		}
	}
	return f;
}

static void open_world(struct world *w, struct ikv_geometry g, uint32_t tokens, bool is_float, bool heads_first,
		       uint32_t gap, uint32_t q_len)
{
	struct ikv_ranges_call *c = &w->c;
	w->g = g;
	c->rows.tokens = tokens;
	c->rows.is_float = is_float;
	w->k = normals(w, (size_t)tokens * g.kv_heads * g.d_qk);
	w->v = normals(w, (size_t)tokens * g.kv_heads * g.d_v);
	w->q = normals(w, (size_t)q_len * g.q_heads * g.d_qk);
	w->own_k = lay(w, w->k, g.d_qk, heads_first, gap, &c->rows.k_token, &c->rows.k_head);
	w->own_v = lay(w, w->v, g.d_v, heads_first, gap, &c->rows.v_token, &c->rows.v_head);
	for (uint32_t t = 0; g.v_aliases_k && t < tokens * g.kv_heads; t++)
		memcpy(w->v + (size_t)t * g.d_v, w->k + (size_t)t * g.d_qk, 4 * g.d_v);
	c->rows.k = w->own_k;
	c->rows.v = g.v_aliases_k ? NULL : w->own_v;
	c->q_len = q_len;
	c->q = w->q;
	c->ranges = w->ranges;
	w->out = c->out = calloc((size_t)q_len * g.q_heads * g.d_v, 4);
	w->lse = c->lse = calloc((size_t)q_len * g.q_heads, 4);
	w->mass = c->mass = calloc((size_t)q_len * g.q_heads * 64, 4);
	memset(w->out, 0x7f, (size_t)q_len * g.q_heads * g.d_v * 4);
}

static void close_world(struct world *w)
{
	free(w->k);
	free(w->v);
	free(w->q);
	free(w->own_k);
	free(w->own_v);
	free(w->out);
	free(w->lse);
	free(w->mass);
}

/* Up to 40 ranges; some touch. */
static void make_ranges(struct world *w, uint32_t longest)
{
	uint32_t t = below(w, 20), tokens = w->c.rows.tokens;
	w->c.count = 0;
	while (t < tokens && w->c.count < 40) {
		uint32_t n = 1 + below(w, longest);
		n = n < tokens - t ? n : tokens - t;
		w->ranges[w->c.count++] = (struct ikv_range){t, t + n};
		t += n + (below(w, 4) ? below(w, longest) : 0);
	}
}

/* Dense with everything outside the ranges or behind the query masked out, in double precision. */
static double check_query(const struct world *w, uint32_t i, uint32_t head)
{
	const struct ikv_geometry *g = &w->g;
	uint32_t tokens = w->c.rows.tokens, kv = head / (g->q_heads / g->kv_heads);
	double *s = calloc(tokens, 8), *out = calloc(g->d_v, 8), mass[64] = {0}, top = -INFINITY, sum = 0, worst = 0;
	size_t at = (size_t)i * g->q_heads + head;
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t t = 0; t < tokens; t++) {
			uint32_t owner = 0;
			while (owner < w->c.count && t >= w->ranges[owner].hi)
				owner++;
			if (owner == w->c.count || t < w->ranges[owner].lo || (w->c.position && t > w->position[i]))
				continue;
			if (!pass) {
				for (uint32_t d = 0; d < g->d_qk; d++)
					s[t] += (double)w->q[at * g->d_qk + d] *
						w->k[((size_t)t * g->kv_heads + kv) * g->d_qk + d];
				s[t] *= g->scale;
				top = fmax(top, s[t]);
				continue;
			}
			double weight = exp(s[t] - top);
			sum += weight;
			mass[owner] += weight;
			for (uint32_t d = 0; d < g->d_v; d++)
				out[d] += weight * w->v[((size_t)t * g->kv_heads + kv) * g->d_v + d];
		}
	}
	for (uint32_t d = 0; d < g->d_v; d++)
		worst = fmax(worst, fabs(w->out[at * g->d_v + d] - (sum > 0 ? out[d] / sum : 0)));
	for (uint32_t k = 0; k < w->c.count; k++)
		worst = fmax(worst, fabs(w->mass[at * w->c.count + k] - (sum > 0 ? mass[k] / sum : 0)));
	if (sum > 0)
		worst = fmax(worst, fabs(w->lse[at] - top - log(sum)));
	else
		ck_assert(w->lse[at] == -INFINITY);
	free(s);
	free(out);
	return worst;
}

static void attend(struct world *w, const char *isa, uint32_t threads)
{
	struct ikv_err err;
	struct ikv_ranges *r;
	struct ikv_backend_config config = {.threads = threads, .isa = isa, .sequences = 1};
	ck_assert_msg(!ikv_ranges_create(&r, &w->g, &config, &err), "%s", err.text);
	ck_assert_msg(!ikv_ranges_attend(r, &w->c, &err), "%s", err.text);
	ikv_ranges_destroy(r);
}

START_TEST(agrees_with_double)
{
	uint32_t isas;
	const struct ikv_isa_info *isa = ikv_isa_list(&isas);
	for (uint32_t n = 0; n < 400; n++) {
		struct world w = {0};
		ikv_rng_stream(&w.r, n, IKV_STREAM_TEST, 50, 0);
		struct ikv_geometry g = {.kv_heads = 1 + below(&w, 3)};
		g.q_heads = g.kv_heads * (1 + below(&w, 9));
		g.v_aliases_k = n % 7 == 0;
		g.d_qk = 1 + below(&w, n % 8 ? 150 : 400);
		g.d_v = g.v_aliases_k ? 1 + below(&w, g.d_qk) : below(&w, 2) ? g.d_qk : 1 + below(&w, 150);
		g.scale = 1 / sqrtf((float)g.d_qk);
		if (!isa[n % isas].usable)
			continue;
		open_world(&w, g, 1 + below(&w, 700), n & 4, n & 8, n & 16 ? below(&w, 9) : 0, 1 + n % 3);
		make_ranges(&w, n % 5 ? 40 : 600);
		for (uint32_t i = 0; i < w.c.q_len; i++)
			w.position[i] = below(&w, w.c.rows.tokens + 3);
		if (n & 32)
			w.c.position = w.position;
		if (n % 11 == 0)
			w.c.count = 0;
		attend(&w, isa[n % isas].name, 1 + n % 2);
		for (uint32_t i = 0; i < w.c.q_len; i++)
			for (uint32_t h = 0; h < g.q_heads; h++) {
				double worst = check_query(&w, i, h);
				ck_assert_msg(worst <= 5e-5, "case %u, %s: %g", n, isa[n % isas].name, worst);
			}
		close_world(&w);
	}
}
END_TEST

/* The same tokens in FP16 pages of a backend. */
START_TEST(agrees_with_pages)
{
	for (uint32_t n = 0; n < 30; n++) {
		struct world w = {0};
		struct ikv_err err;
		struct ikv_backend *b;
		struct ikv_plan plan;
		struct ikv_backend_config config = {.threads = 2, .isa = "auto", .sequences = 1};
		ikv_rng_stream(&w.r, n, IKV_STREAM_TEST, 51, 0);
		struct ikv_geometry g = {1, 8, n % 2 ? 2 : 8, 64, 64, false, 16, 0.125f};
		open_world(&w, g, 200 + below(&w, 3000), false, false, 0, 1);
		make_ranges(&w, 200);
		attend(&w, "auto", 2);
		ck_assert_int_eq(ikv_backend_cpu.open(&b, &g, &config, &err), 0);
		ck_assert_int_eq(b->ops->append(b, 0, 0, w.c.rows.tokens, w.own_k, w.own_v, &err), 0);
		ck_assert_int_eq(ikv_plan_init(&plan, 16, ikv_pages(w.c.rows.tokens, 16), &err), 0);
		ikv_plan_reset(&plan, w.c.rows.tokens);
		for (uint32_t i = 0; i < w.c.count; i++)
			ikv_plan_add(&plan, w.ranges[i].lo, w.ranges[i].hi, IKV_FMT_FP16, 0);
		float out[8 * 64], lse[8];
		struct ikv_attn_unit u = {.q_count = 8, .plan = &plan, .q = w.q, .out = out, .lse = lse};
		ck_assert_int_eq(b->ops->decode(b, &u, 1, &err), 0);
		for (int i = 0; i < 8 * 64; i++)
			ck_assert_double_le(fabs(out[i] - w.out[i]), 1e-5);
		for (int h = 0; h < 8; h++)
			ck_assert_double_le(fabs(lse[h] - w.lse[h]), 1e-5);
		b->ops->close(b);
		ikv_plan_free(&plan);
		close_world(&w);
	}
}
END_TEST

START_TEST(threads_do_not_change_bits)
{
	struct world w = {0};
	float out[8 * 32];
	ikv_rng_stream(&w.r, 1, IKV_STREAM_TEST, 52, 0);
	open_world(&w, (struct ikv_geometry){1, 8, 2, 32, 32, false, 16, 0.2f}, 20000, true, true, 0, 1);
	w.c.count = 2;
	w.ranges[0] = (struct ikv_range){3, 9000};
	w.ranges[1] = (struct ikv_range){9001, 20000};
	for (uint32_t threads = 1; threads < 5; threads++) {
		attend(&w, "auto", threads);
		if (threads == 1)
			memcpy(out, w.out, sizeof out);
		ck_assert_mem_eq(out, w.out, sizeof out);
	}
	ck_assert_double_le(check_query(&w, 0, 5), 5e-5);
	close_world(&w);
}
END_TEST

START_TEST(bad_ranges)
{
	static const struct {
		struct ikv_range ranges[2];
		const char *message;
	} bad[] = {
	    {{{0, 5}, {7, 7}}, "range 1, [7, 7), is empty"},
	    {{{9, 5}, {7, 8}}, "range 0, [9, 5), is empty"},
	    {{{0, 5}, {4, 8}}, "range 1, [4, 8), overlaps range 0, [0, 5); expected ascending ranges apart"},
	    {{{6, 9}, {0, 6}}, "range 1, [0, 6), lies before range 0, [6, 9); expected ascending ranges apart"},
	    {{{0, 5}, {50, 101}}, "range 1, [50, 101): the sequence has 100 tokens"},
	};
	struct world w = {0};
	struct ikv_err err;
	struct ikv_ranges *r;
	ikv_rng_stream(&w.r, 2, IKV_STREAM_TEST, 52, 0);
	open_world(&w, (struct ikv_geometry){1, 2, 1, 16, 16, false, 16, 0.25f}, 100, false, true, 0, 1);
	struct ikv_backend_config config = {.threads = 1, .isa = "auto", .sequences = 1};
	ck_assert_int_eq(ikv_ranges_create(&r, &w.g, &config, &err), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		w.c.ranges = bad[i].ranges;
		w.c.count = 2;
		ck_assert_int_eq(ikv_ranges_attend(r, &w.c, &err), -1);
		ck_assert_str_eq(err.text, bad[i].message);
		ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	}
	w.c.ranges = &(struct ikv_range){99, 100};
	w.c.count = 1;
	ck_assert_int_eq(ikv_ranges_attend(r, &w.c, &err), 0);
	uint64_t calls = ikv_alloc_count();
	ck_assert_int_eq(ikv_ranges_attend(r, &w.c, &err), 0);
	ck_assert_uint_eq(ikv_alloc_count(), calls);
	w.q[3] = NAN;
	ck_assert_int_eq(ikv_ranges_attend(r, &w.c, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "query of head 0, channel 3 is not finite"));
	ikv_ranges_destroy(r);
	w.g.q_heads = 0;
	ck_assert_int_eq(ikv_ranges_create(&r, &w.g, &config, &err), -1);
	close_world(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ranges");
	TCase *t = tcase_create("ranges");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, agrees_with_double);
	tcase_add_test(t, agrees_with_pages);
	tcase_add_test(t, threads_do_not_change_bits);
	tcase_add_test(t, bad_ranges);
	suite_add_tcase(s, t);
	return tap_run(s);
}

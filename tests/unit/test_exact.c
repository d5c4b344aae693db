/* Exact store: rows, summaries, roll-back, reuse; mass with the same bits on every ISA; dense attention. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "attn/lanes.h"
#include "tap.h"

#define TOKENS_MAX 300

struct fixture {
	struct ikv_geometry g;
	struct ikv_exact *x;
	uint16_t *k, *v; /* as appended */
	float *q;
	struct ikv_rng r;
};

static void set_up(struct fixture *f, uint64_t seed, struct ikv_geometry g, uint32_t tokens)
{
	struct ikv_err err;
	f->g = g;
	ikv_rng_stream(&f->r, seed, IKV_STREAM_TEST, 0, 0);
	ck_assert_int_eq(ikv_exact_create(&f->x, &g, 2, &err), 0);
	f->k = calloc((size_t)TOKENS_MAX * g.kv_heads * g.d_qk, 2);
	f->v = calloc((size_t)TOKENS_MAX * g.kv_heads * g.d_v, 2);
	f->q = calloc((size_t)g.q_heads * g.d_qk, 4);
	for (size_t i = 0; i < (size_t)TOKENS_MAX * g.kv_heads * g.d_qk; i++)
		f->k[i] = ikv_fp16_from_float((float)ikv_rng_normal(&f->r));
	for (size_t i = 0; i < (size_t)TOKENS_MAX * g.kv_heads * g.d_v; i++)
		f->v[i] = ikv_fp16_from_float((float)ikv_rng_normal(&f->r));
	for (size_t i = 0; i < (size_t)g.q_heads * g.d_qk; i++)
		f->q[i] = (float)ikv_rng_normal(&f->r);
	for (uint32_t at = 0, n; at < tokens; at += n) { /* in uneven pieces */
		n = 1 + (uint32_t)ikv_rng_below(&f->r, 20);
		n = n < tokens - at ? n : tokens - at;
		for (uint32_t layer = 0; layer < g.layers; layer++)
			ck_assert_int_eq(ikv_exact_append(f->x, 1, layer, n, f->k + (size_t)at * g.kv_heads * g.d_qk,
							  f->v + (size_t)at * g.kv_heads * g.d_v, &err),
					 0);
	}
}

static void tear_down(struct fixture *f)
{
	ikv_exact_destroy(f->x);
	free(f->k);
	free(f->v);
	free(f->q);
}

static void check_content(const struct fixture *f, uint32_t layer, uint32_t tokens)
{
	const struct ikv_geometry *g = &f->g;
	ck_assert_uint_eq(ikv_exact_tokens(f->x, 1, layer), tokens);
	for (uint32_t p = 0; p < ikv_pages(tokens, g->page_tokens); p++) {
		for (uint32_t h = 0; h < g->kv_heads; h++) {
			const uint16_t *k = ikv_exact_k(f->x, 1, layer, p, h), *v = ikv_exact_v(f->x, 1, layer, p, h);
			ck_assert_ptr_eq(k, ikv_exact_page(f->x, 1, layer, p) + (size_t)h * g->page_tokens * g->d_qk);
			for (uint32_t d = 0; d < g->d_qk; d++) {
				float low = INFINITY, high = -INFINITY, sum = 0;
				for (uint32_t t = 0; t < g->page_tokens; t++) {
					uint32_t at = p * g->page_tokens + t;
					uint16_t want =
					    at < tokens ? f->k[((size_t)at * g->kv_heads + h) * g->d_qk + d] : 0;
					ck_assert_uint_eq(k[t * g->d_qk + d], want);
					if (at >= tokens)
						continue;
					float value = ikv_fp16_to_float(want);
					low = fminf(low, value);
					high = fmaxf(high, value);
					sum += value;
				}
				ck_assert(ikv_fp16_to_float(ikv_exact_kmin(f->x, 1, layer, p, h)[d]) == low);
				ck_assert(ikv_fp16_to_float(ikv_exact_kmax(f->x, 1, layer, p, h)[d]) == high);
				ck_assert_float_le(fabsf(ikv_exact_ksum(f->x, 1, layer, p, h)[d] - sum), 1e-4f);
			}
			for (uint32_t i = 0; i < g->page_tokens * g->d_v; i++) {
				uint32_t at = p * g->page_tokens + i / g->d_v;
				uint16_t want =
				    at < tokens ? f->v[((size_t)at * g->kv_heads + h) * g->d_v + i % g->d_v] : 0;
				ck_assert_uint_eq(v[i], want);
			}
		}
	}
}

START_TEST(rows_and_summaries)
{
	struct fixture f;
	struct ikv_err err;
	set_up(&f, 1, (struct ikv_geometry){2, 4, 2, 19, 7, false, 8, 0.25f}, 101);
	check_content(&f, 0, 101);
	check_content(&f, 1, 101);
	ck_assert_int_eq(ikv_exact_truncate(f.x, 1, 53, &err), 0);
	check_content(&f, 0, 53);
	ck_assert_int_eq(ikv_exact_truncate(f.x, 1, 48, &err), 0);
	check_content(&f, 1, 48);
	uint64_t calls = ikv_alloc_count();
	for (uint32_t layer = 0; layer < 2; layer++)
		ck_assert_int_eq(ikv_exact_append(f.x, 1, layer, 53, f.k + 48 * 2 * 19, f.v + 48 * 2 * 7, &err), 0);
	check_content(&f, 0, 101);
	ikv_exact_release(f.x, 1);
	ck_assert_uint_eq(ikv_exact_tokens(f.x, 1, 0), 0);
	for (uint32_t layer = 0; layer < 2; layer++)
		ck_assert_int_eq(ikv_exact_append(f.x, 1, layer, 101, f.k, f.v, &err), 0);
	check_content(&f, 1, 101);
	ck_assert_uint_eq(ikv_alloc_count(), calls); /* freed pages serve again */
	f.k[5] = 0x7c00;
	ck_assert_int_eq(ikv_exact_append(f.x, 1, 0, 1, f.k, f.v, &err), -1);
	ck_assert_uint_eq(ikv_exact_tokens(f.x, 1, 0), 101);
	tear_down(&f);
}
END_TEST

START_TEST(bad_geometry)
{
	struct ikv_exact *x;
	struct ikv_err err;
	struct ikv_geometry g = {1, 6, 4, 8, 8, false, 16, 1};
	ck_assert_int_eq(ikv_exact_create(&x, &g, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "q_heads 6 is not a multiple of kv_heads 4"));
	g.q_heads = 8;
	g.page_tokens = 0;
	ck_assert_int_eq(ikv_exact_create(&x, &g, 1, &err), -1);
	g.page_tokens = 16;
	g.v_aliases_k = true;
	g.d_v = 9;
	ck_assert_int_eq(ikv_exact_create(&x, &g, 1, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
}
END_TEST

/* Independent: softmax in double over all tokens: w [tokens], mass [pages], out [d_v]. */
static void reference(const struct fixture *f, uint32_t tokens, uint32_t head, double *w, double *mass, double *out)
{
	const struct ikv_geometry *g = &f->g;
	uint32_t h = head / (g->q_heads / g->kv_heads);
	double top = -INFINITY, sum = 0;
	for (uint32_t t = 0; t < tokens; t++) {
		w[t] = 0;
		for (uint32_t d = 0; d < g->d_qk; d++)
			w[t] += (double)f->q[(size_t)head * g->d_qk + d] *
				ikv_fp16_to_float(f->k[((size_t)t * g->kv_heads + h) * g->d_qk + d]);
		w[t] *= g->scale;
		top = fmax(top, w[t]);
	}
	for (uint32_t t = 0; t < tokens; t++)
		sum += w[t] = exp(w[t] - top);
	for (uint32_t p = 0; p < ikv_pages(tokens, g->page_tokens); p++)
		mass[p] = 0;
	for (uint32_t t = 0; t < tokens; t++)
		mass[t / g->page_tokens] += w[t] /= sum;
	for (uint32_t d = 0; d < g->d_v; d++)
		out[d] = 0;
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t d = 0; d < g->d_v; d++)
			out[d] += w[t] * ikv_fp16_to_float(f->v[((size_t)t * g->kv_heads + h) * g->d_v + d]);
}

START_TEST(mass_and_dense_agree_with_double)
{
	static const char *const isas[] = {"scalar", "avx2", "avx512"};
	static float mass[3][8 * TOKENS_MAX], out[8 * 200], dense_mass[8 * TOKENS_MAX], lse[8], of_token[40];
	static double want_mass[TOKENS_MAX], want[200], w[TOKENS_MAX], mean[TOKENS_MAX];
	struct ikv_rng pick;
	struct ikv_err err;
	ikv_rng_stream(&pick, 3, IKV_STREAM_TEST, 0, 0);
	for (int n = 0; n < 100; n++) {
		struct fixture f;
		uint32_t tokens = 1 + (uint32_t)ikv_rng_below(&pick, TOKENS_MAX), dim;
		uint32_t kv_heads = 1 + (uint32_t)ikv_rng_below(&pick, 2);
		uint32_t group = 1 + (uint32_t)ikv_rng_below(&pick, 4), page = 1 + (uint32_t)ikv_rng_below(&pick, 40);
		dim = 1 + (uint32_t)ikv_rng_below(&pick, 140);
		set_up(&f, (uint64_t)n,
		       (struct ikv_geometry){1, kv_heads * group, kv_heads, dim, 1 + dim / 2, false, page,
					     1 / sqrtf((float)dim)},
		       tokens);
		uint32_t pages = ikv_pages(tokens, page), first = n % 3 ? 0 : (kv_heads * group) / 2;
		uint32_t count = kv_heads * group - first, ran = 0;
		const float *q = f.q + (size_t)first * dim;
		for (int i = 0; i < 3; i++) {
			ikv_exact_set_threads(f.x, 1 + (uint32_t)(n + i) % 3);
			if (ikv_isa_select(isas[i], &err)) {
				ck_assert_int_eq(err.status, IKV_UNAVAILABLE);
				continue;
			}
			ck_assert_str_eq(ikv_isa_selected(), isas[i]);
			ck_assert_int_eq(ikv_exact_mass(f.x, 1, 0, first, count, q, mass[ran], &err), 0);
			ck_assert_mem_eq(mass[ran], mass[0], (size_t)count * pages * 4);
			ran++;
			ck_assert_int_eq(
			    ikv_exact_dense(f.x, 1, 0, first, count, q, out, lse, dense_mass, &err), 0);
			memset(mean, 0, sizeof mean);
			for (uint32_t h = 0; h < count; h++) {
				double sum = 0;
				reference(&f, tokens, first + h, w, want_mass, want);
				for (uint32_t t = 0; t < tokens; t++)
					mean[t] += w[t] / count;
				for (uint32_t p = 0; p < pages; p++) {
					sum += mass[0][h * pages + p];
					ck_assert_double_le(fabs(mass[0][h * pages + p] - want_mass[p]), 1e-5);
					ck_assert_double_le(fabs(dense_mass[h * pages + p] - want_mass[p]), 1e-5);
				}
				ck_assert_double_le(fabs(sum - 1), 1e-6);
				for (uint32_t d = 0; d < f.g.d_v; d++)
					ck_assert_double_le(fabs(out[h * f.g.d_v + d] - want[d]), 2e-5);
			}
			for (uint32_t p = 0; p < pages; p++) {
				ck_assert_int_eq(ikv_exact_token_mass(f.x, 1, 0, p, first, count, q, lse, of_token, &err), 0);
				for (uint32_t t = p * page; t < tokens && t < (p + 1) * page; t++)
					must(fabs((double)of_token[t - p * page] - mean[t]) <= 1e-5 * mean[t] + 1e-9);
			}
			ck_assert_int_ne(ikv_exact_token_mass(f.x, 1, 0, pages, first, count, q, lse, of_token, &err), 0);
		}
		tear_down(&f);
	}
	ck_assert_int_eq(ikv_isa_select("auto", &err), 0);
}
END_TEST

static uint32_t lanes_of_all(const struct lanes_kernels **tables)
{
	static const char *const isas[] = {"scalar", "avx2", "avx512"};
	uint32_t count = 0;
	for (int i = 0; i < 3; i++)
		if (!ikv_isa_select(isas[i], NULL))
			tables[count++] = lanes_table();
	ck_assert_int_eq(ikv_isa_select("auto", NULL), 0);
	return count;
}

START_TEST(lanes_have_the_same_bits)
{
	static const struct lanes_kernels *tables[3];
	static float a[600], b[600], s[3][600];
	static uint16_t k[600];
	struct ikv_rng r;
	const uint32_t count = lanes_of_all(tables);
	ikv_rng_stream(&r, 4, IKV_STREAM_TEST, 0, 0);
	for (int n = 0; n < 2000; n++) {
		const uint32_t m = 1 + (uint32_t)ikv_rng_below(&r, 600);
		for (uint32_t i = 0; i < m; i++) {
			a[i] = (float)ikv_rng_normal(&r);
			b[i] = (float)ikv_rng_normal(&r);
			/* subnormals too */
			k[i] = (uint16_t)(n % 2 ? ikv_fp16_from_float(b[i]) : ikv_rng_below(&r, 0x400));
		}
		for (uint32_t i = 0; i < count; i++) {
			must(tables[i]->dot(a, b, m) == tables[0]->dot(a, b, m));
			must(tables[i]->dot_h(a, k, m) == tables[0]->dot_h(a, k, m));
			must(tables[i]->peak(a, m) == tables[0]->peak(a, m));
			must(tables[i]->exp_sum(a, m, 9) == tables[0]->exp_sum(a, m, 9));
			tables[i]->exps(a, m, 9, 0.3f, s[i]);
			must(!memcmp(s[i], s[0], m * sizeof *a));
		}
		for (uint32_t i = 0; i < m; i++)
			must(fabs((double)s[0][i] / exp(0.3f * (double)(a[i] - 9)) - 1) < 1e-6);
	}
}
END_TEST

START_TEST(divergence_agrees_with_double)
{
	static const struct lanes_kernels *tables[3];
	static float p[300], d[300];
	struct ikv_rng r;
	const uint32_t count = lanes_of_all(tables);
	ikv_rng_stream(&r, 8, IKV_STREAM_TEST, 0, 0);
	for (int n = 0; n < 1000; n++) {
		const uint32_t m = 1 + (uint32_t)ikv_rng_below(&r, 300);
		double want = 0, sum[2] = {0};
		for (uint32_t i = 0; i < m; i++) {
			p[i] = ikv_rng_below(&r, 9) ? (float)exp(3 * ikv_rng_normal(&r)) : 0;
			d[i] = n % 3 == 0 ? p[i] : ikv_rng_below(&r, 9) ? (float)exp(3 * ikv_rng_normal(&r)) : 0;
			sum[0] += (double)p[i], sum[1] += (double)d[i];
		}
		for (uint32_t i = 0; i < m; i++) {
			p[i] = sum[0] > 0 ? (float)(p[i] / sum[0]) : 0;
			d[i] = sum[1] > 0 ? (float)(d[i] / sum[1]) : 0;
			want += p[i] > 0 ? (double)p[i] * log((double)p[i] / fmax((double)d[i], 1e-30)) : 0;
		}
		const float got = tables[0]->divergence(p, d, m);
		must_msg(fabs((double)got - want) <= 1e-6 * (1 + fabs(want)), "%u: %g instead of %g", m, (double)got, want);
		must(n % 3 || got == 0);
		for (uint32_t i = 1; i < count; i++)
			must(tables[i]->divergence(p, d, m) == got);
	}
}
END_TEST

/* Several heads and rows at once have the bits of each alone, clamped. */
START_TEST(scores_have_the_same_bits)
{
	enum { HEADS = 9, TOKENS = 23, MOST = 130 };
	static const struct lanes_kernels *tables[3];
	static float q[HEADS * MOST], s[HEADS][TOKENS];
	static uint16_t k[TOKENS * MOST];
	struct ikv_rng r;
	const uint32_t count = lanes_of_all(tables);
	ikv_rng_stream(&r, 7, IKV_STREAM_TEST, 0, 0);
	for (int n = 0; n < 500; n++) {
		const uint32_t dim = n % 2 ? 16 * (1 + (uint32_t)ikv_rng_below(&r, MOST / 16)) :
					     1 + (uint32_t)ikv_rng_below(&r, MOST);
		const uint32_t heads = 1 + (uint32_t)ikv_rng_below(&r, HEADS);
		const uint32_t tokens = 1 + (uint32_t)ikv_rng_below(&r, TOKENS);
		const float scale = n % 7 ? 0.1f : 1e38f; /* beyond the clamp */
		for (uint32_t i = 0; i < heads * dim; i++)
			q[i] = (float)ikv_rng_normal(&r);
		for (uint32_t i = 0; i < tokens * dim; i++)
			k[i] = ikv_fp16_from_float((float)ikv_rng_normal(&r) * (n % 5 ? 1 : 1e-6f));
		for (uint32_t i = 0; i < count; i++) {
			tables[i]->scores(q, heads, k, k, tokens, dim, scale, s[0], TOKENS);
			for (uint32_t h = 0; h < heads; h++)
				for (uint32_t t = 0; t < tokens; t++) {
					const float dot = tables[0]->dot_h(q + h * dim, k + t * dim, dim);
					must(s[h][t] == fminf(fmaxf(scale * dot, -3e38f), 3e38f));
				}
		}
	}
}
END_TEST

/* Bounds of several heads and pages at once have the bits of each alone; pages may have a score before. */
START_TEST(bounds_have_the_same_bits)
{
	enum { HEADS = 9, PAGES = 11, MOST = 200 };
	static const struct lanes_kernels *tables[3];
	static float q[HEADS * MOST];
	static uint16_t ends[PAGES][2 * MOST];
	struct ikv_rng r;
	const uint32_t count = lanes_of_all(tables);
	ikv_rng_stream(&r, 5, IKV_STREAM_TEST, 0, 0);
	for (int n = 0; n < 1000; n++) {
		const uint32_t dim = n % 2 ? 16 * (1 + (uint32_t)ikv_rng_below(&r, MOST / 16)) :
					     1 + (uint32_t)ikv_rng_below(&r, MOST);
		const uint32_t heads = 1 + (uint32_t)ikv_rng_below(&r, HEADS);
		const uint32_t pages = 2 + (uint32_t)ikv_rng_below(&r, PAGES - 1);
		uint16_t *packed = ends[0];
		for (uint32_t i = 0; i < heads * dim; i++)
			q[i] = ikv_rng_below(&r, 20) ? (float)ikv_rng_normal(&r) : i % 2 ? -0.0f : 0.0f;
		for (uint32_t i = 0; i < pages * dim; i++) {
			const float low = (float)ikv_rng_normal(&r) * (n % 3 ? 1 : 1e-6f);
			const uint32_t at = i / dim * 2 * dim + i % dim;
			packed[at] = ikv_fp16_from_float(low);
			packed[at + dim] = ikv_fp16_from_float(low + (float)ikv_rng_uniform(&r));
		}
		float want[PAGES], got_of[3][PAGES];
		for (uint32_t p = 0; p < pages; p++) {
			want[p] = p == 1 ? 1e9f : -INFINITY;
			for (uint32_t i = 0; i < count; i++)
				got_of[i][p] = want[p];
			for (uint32_t h = 0; h < heads; h++) {
				const uint16_t *e = packed + (size_t)p * 2 * dim;
				const float *x = q + (size_t)h * dim, got = tables[0]->bound(x, e, dim);
				double sum = 0;
				for (uint32_t d = 0; d < dim; d++)
					sum += fmax((double)x[d] * ikv_fp16_to_float(e[d]),
						    (double)x[d] * ikv_fp16_to_float(e[dim + d]));
				must(fabs(got - sum) < 1e-4);
				want[p] = fmaxf(want[p], got);
				for (uint32_t i = 1; i < count; i++)
					must(tables[i]->bound(x, e, dim) == got);
			}
		}
		for (uint32_t i = 0; i < count; i++) {
			tables[i]->bounds(q, heads, packed, pages, dim, got_of[i]);
			must(!memcmp(got_of[i], want, pages * sizeof *want));
		}
	}
}
END_TEST

/* Minimum, maximum and sum of rows, with zeros of both signs and subnormals. */
START_TEST(summaries_have_the_same_bits)
{
	enum { MOST = 100, ROWS = 5 };
	static const struct lanes_kernels *tables[3];
	struct ikv_rng r;
	const uint32_t count = lanes_of_all(tables);
	ikv_rng_stream(&r, 6, IKV_STREAM_TEST, 0, 0);
	for (int n = 0; n < 1000; n++) {
		const uint32_t m = 1 + (uint32_t)ikv_rng_below(&r, MOST);
		uint16_t rows[ROWS][MOST], least[3][MOST], most[3][MOST];
		float sum[3][MOST];
		for (uint32_t t = 0; t < ROWS; t++)
			for (uint32_t d = 0; d < m; d++)
				rows[t][d] = ikv_rng_below(&r, 4) ? ikv_fp16_from_float((float)ikv_rng_normal(&r)) :
								    (uint16_t)(0x8001 * ikv_rng_below(&r, 2) ^ d % 2);
		for (uint32_t i = 0; i < count; i++) {
			memcpy(least[i], rows[0], sizeof least[i]);
			memcpy(most[i], rows[0], sizeof most[i]);
			memset(sum[i], 0, sizeof sum[i]);
			for (uint32_t t = 0; t < ROWS; t++)
				tables[i]->summarise(rows[t], m, least[i], most[i], sum[i]);
			must(!memcmp(least[i], least[0], m * sizeof **least) && !memcmp(most[i], most[0], m * sizeof **most));
			must(!memcmp(sum[i], sum[0], m * sizeof **sum));
		}
		for (uint32_t d = 0; d < m; d++) {
			float low = INFINITY, high = -INFINITY;
			double all = 0;
			for (uint32_t t = 0; t < ROWS; t++) {
				const float x = ikv_fp16_to_float(rows[t][d]);
				low = fminf(low, x), high = fmaxf(high, x), all += (double)x;
			}
			must(ikv_fp16_to_float(least[0][d]) == low && ikv_fp16_to_float(most[0][d]) == high);
			must(fabs(sum[0][d] - all) < 1e-5);
		}
	}
}
END_TEST

/* V that aliases K is not kept twice: dense attention reads it from K's rows. */
START_TEST(v_may_alias_k)
{
	enum { N = 70, D = 40, V = 24, HEADS = 6 };
	struct ikv_exact *x;
	struct ikv_err err;
	struct ikv_rng r;
	struct ikv_geometry g = {1, HEADS, 1, D, V, true, 16, 0.15f};
	static uint16_t k[N * D];
	float q[HEADS * D], out[HEADS * V], lse[HEADS];
	ikv_rng_stream(&r, 3, IKV_STREAM_TEST, 0, 0);
	for (int i = 0; i < N * D; i++)
		k[i] = ikv_fp16_from_float((float)ikv_rng_normal(&r));
	for (int i = 0; i < HEADS * D; i++)
		q[i] = (float)ikv_rng_normal(&r);
	ck_assert_int_eq(ikv_exact_create(&x, &g, 1, &err), 0);
	ck_assert_int_eq(ikv_exact_append(x, 0, 0, N, k, NULL, &err), 0);
	ck_assert_int_eq(ikv_exact_truncate(x, 0, 50, &err), 0);
	ck_assert_int_eq(ikv_exact_append(x, 0, 0, N - 50, k + 50 * D, NULL, &err), 0);
	ck_assert_ptr_eq(ikv_exact_v(x, 0, 0, 2, 0), ikv_exact_k(x, 0, 0, 2, 0));
	ck_assert_int_eq(ikv_exact_dense(x, 0, 0, 0, HEADS, q, out, lse, NULL, &err), 0);
	for (int h = 0; h < HEADS; h++) {
		double sum = 0, want[V] = {0};
		for (int t = 0; t < N; t++) {
			double dot = 0;
			for (int d = 0; d < D; d++)
				dot += (double)q[h * D + d] * ikv_fp16_to_float(k[t * D + d]);
			sum += exp(dot * g.scale);
			for (int d = 0; d < V; d++)
				want[d] += exp(dot * g.scale) * ikv_fp16_to_float(k[t * D + d]);
		}
		ck_assert_double_le(fabs(lse[h] - log(sum)), 2e-5);
		for (int d = 0; d < V; d++)
			ck_assert_double_le(fabs(out[h * V + d] - want[d] / sum), 2e-5);
	}
	ikv_exact_destroy(x);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("exact");
	TCase *t = tcase_create("exact");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, rows_and_summaries);
	tcase_add_test(t, bad_geometry);
	tcase_add_test(t, v_may_alias_k);
	tcase_add_test(t, mass_and_dense_agree_with_double);
	tcase_add_test(t, lanes_have_the_same_bits);
	tcase_add_test(t, scores_have_the_same_bits);
	tcase_add_test(t, divergence_agrees_with_double);
	tcase_add_test(t, bounds_have_the_same_bits);
	tcase_add_test(t, summaries_have_the_same_bits);
	suite_add_tcase(s, t);
	return tap_run(s);
}

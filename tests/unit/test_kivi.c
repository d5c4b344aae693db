/* The KIVI cache: what is exact and what is not, its bytes, its attention, its noise; and demotions to KIVI pages. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

enum { LAYERS = 2, HEADS = 2, GROUP = 3, DK = 72, DV = 40, TOKENS = 300 };

struct world {
	struct ikv_rng r;
	struct ikv_geometry g;
	struct ikv_kivi_config c;
	struct ikv_kivi *s;
	uint16_t *k, *v; /* [LAYERS][TOKENS][HEADS][D] */
};

static void open_world(struct world *w, uint64_t seed, uint32_t bits, uint32_t residual, const char *isa)
{
	struct ikv_err err;
	ikv_rng_stream(&w->r, seed, IKV_STREAM_TEST, 0, 0);
	w->g = (struct ikv_geometry){LAYERS, HEADS * GROUP, HEADS, DK, DV, false, 16, 1 / sqrtf(DK)};
	w->c = (struct ikv_kivi_config){bits, 32, residual};
	ck_assert_msg(ikv_kivi_create(&w->s, &w->g, &w->c, isa, &err) == 0, "%s", err.text);
	w->k = calloc((size_t)LAYERS * TOKENS * HEADS * DK, 2);
	w->v = calloc((size_t)LAYERS * TOKENS * HEADS * DV, 2);
	for (size_t i = 0; i < (size_t)LAYERS * TOKENS * HEADS * DK; i++) /* channel 5 is an outlier, as K has them */
		w->k[i] = ikv_fp16_from_float((float)(ikv_rng_normal(&w->r) + (i % DK == 5 ? 20 : 0)));
	for (size_t i = 0; i < (size_t)LAYERS * TOKENS * HEADS * DV; i++)
		w->v[i] = ikv_fp16_from_float((float)ikv_rng_normal(&w->r));
}

static void close_world(struct world *w)
{
	ikv_kivi_destroy(w->s);
	free(w->k);
	free(w->v);
}

static void append(struct world *w, uint32_t layer, uint32_t from, uint32_t to)
{
	struct ikv_err err;
	size_t row = ((size_t)layer * TOKENS + from) * HEADS;
	ck_assert_msg(ikv_kivi_append(w->s, layer, to - from, w->k + row * DK, w->v + row * DV, &err) == 0, "%s",
		      err.text);
}

/* Row t of a head as the model gave it. */
static const uint16_t *given(const struct world *w, uint32_t layer, uint32_t head, bool v, uint32_t t)
{
	size_t row = ((size_t)layer * TOKENS + t) * HEADS + head;
	return v ? w->v + row * DV : w->k + row * DK;
}

/* What must be read back: codes of groups counted from the first token, and the window as it came. */
static void expected(const struct world *w, uint32_t layer, uint32_t head, bool v, uint32_t tokens, float *rows)
{
	enum ikv_format f = w->c.bits == 2 ? IKV_FMT_KIVI2 : w->c.bits == 4 ? IKV_FMT_KIVI4 : IKV_FMT_KIVI8;
	enum ikv_side side = v ? IKV_SIDE_V : IKV_SIDE_K;
	uint32_t dim = v ? DV : DK,
		 open = v ? (tokens < w->c.residual ? tokens : w->c.residual) : tokens % w->c.residual;
	uint16_t *all = calloc((size_t)TOKENS * dim, 2);
	uint8_t *stored = calloc(ikv_format_bytes(f, side, tokens, dim) + 1, 1);
	for (uint32_t t = 0; t < tokens; t++)
		memcpy(all + (size_t)t * dim, given(w, layer, head, v, t), 2 * (size_t)dim);
	ck_assert_int_eq(ikv_format_encode(f, side, all, tokens - open, dim, stored, NULL), 0);
	ck_assert_int_eq(ikv_format_decode(f, side, stored, tokens - open, dim, rows, NULL), 0);
	for (size_t i = (size_t)(tokens - open) * dim; i < (size_t)tokens * dim; i++)
		rows[i] = ikv_fp16_to_float(all[i]);
	free(all);
	free(stored);
}

START_TEST(window_and_groups)
{
	static float rows[TOKENS * DK], want[TOKENS * DK];
	static const uint32_t residuals[] = {32, 64, 96, 128}, all_bits[] = {2, 4, 8};
	for (int n = 0; n < 12; n++) {
		struct world w;
		open_world(&w, (uint64_t)n, all_bits[n % 3], residuals[n / 3], "auto");
		for (uint32_t t = 0; t < TOKENS;) { /* by one, or many at once */
			uint32_t to = t + 1 + (uint32_t)(ikv_rng_below(&w.r, 2) ? ikv_rng_below(&w.r, 90) : 0);
			to = to < TOKENS ? to : TOKENS;
			append(&w, 0, t, to);
			append(&w, 1, t, to);
			t = to;
			ck_assert_uint_eq(ikv_kivi_tokens(w.s, 1), t);
			ck_assert_uint_eq(ikv_kivi_stored(w.s), LAYERS * HEADS * ikv_kivi_bytes(&w.c, t, DK, DV));
			for (int side = 0; side < 2; side++) {
				uint32_t head = t % HEADS, layer = t / 2 % LAYERS, dim = side ? DV : DK;
				expected(&w, layer, head, side, t, want);
				ck_assert_int_eq(
				    ikv_kivi_read(w.s, layer, head, (enum ikv_side)side, 0, t, rows, NULL), 0);
				ck_assert_mem_eq(rows, want, (size_t)t * dim * sizeof *rows);
			}
		}
		close_world(&w);
	}
}
END_TEST

static void reference(const struct world *w, uint32_t tokens, uint32_t head, const float *q, double *out, double *lse)
{
	static float k[TOKENS * DK], v[TOKENS * DV];
	double s[TOKENS], top = -INFINITY, sum = 0;
	expected(w, 0, head / GROUP, false, tokens, k);
	expected(w, 0, head / GROUP, true, tokens, v);
	for (uint32_t t = 0; t < tokens; t++) {
		s[t] = 0;
		for (uint32_t c = 0; c < DK; c++)
			s[t] += (double)q[c] * k[t * DK + c];
		s[t] *= w->g.scale;
		top = fmax(top, s[t]);
	}
	memset(out, 0, DV * sizeof *out);
	for (uint32_t t = 0; t < tokens; t++) {
		double x = exp(s[t] - top);
		sum += x;
		for (uint32_t c = 0; c < DV; c++)
			out[c] += x * v[t * DV + c];
	}
	for (uint32_t c = 0; c < DV; c++)
		out[c] /= sum;
	*lse = top + log(sum);
}

START_TEST(attention_agrees)
{
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	static const uint32_t lengths[] = {1, 31, 32, 33, 64, 95, 129, 200, 256, 299};
	for (int n = 0; n < 120; n++) {
		struct world w;
		struct ikv_err err;
		const struct ikv_isa_info *isa = &isas[(uint32_t)n % count];
		uint32_t tokens = lengths[n / 12], first = (uint32_t)n % 4, heads = HEADS * GROUP - first;
		float q[HEADS * GROUP * DK], out[HEADS * GROUP * DV], lse[HEADS * GROUP];
		if (!isa->usable)
			continue;
		open_world(&w, (uint64_t)n, n % 3 == 0 ? 2 : n % 3 == 1 ? 4 : 8, 32u << n % 2, isa->name);
		append(&w, 0, 0, tokens);
		for (uint32_t i = 0; i < HEADS * GROUP * DK; i++)
			q[i] = (float)ikv_rng_normal(&w.r) * (i % DK == 5 ? 0.1f : 1);
		ck_assert_msg(ikv_kivi_attend(w.s, 0, first, heads, q, out, lse, &err) == 0, "%s", err.text);
		for (uint32_t h = 0; h < heads; h++) {
			double want[DV], sum;
			reference(&w, tokens, first + h, q + h * DK, want, &sum);
			ck_assert_double_le(fabs(lse[h] - sum), 1e-4);
			for (uint32_t c = 0; c < DV; c++)
				ck_assert_double_le(fabs(out[h * DV + c] - want[c]), 1e-4);
		}
		ck_assert_int_eq(ikv_kivi_attend(w.s, 1, 0, 1, q, out, lse, &err), 0); /* an empty layer */
		ck_assert(out[0] == 0 && lse[0] == -INFINITY);
		close_world(&w);
	}
}
END_TEST

START_TEST(noise_is_what_reading_shows)
{
	static float rows[TOKENS * DK];
	double last = -INFINITY;
	for (uint32_t bits = 2; bits <= 8; bits *= 2) {
		struct world w;
		open_world(&w, 9, bits, 32, "auto");
		ck_assert(isnan(ikv_kivi_snr(w.s, 0, 0, IKV_SIDE_K, 0)));
		append(&w, 0, 0, TOKENS);
		for (int v = 0; v < 2; v++) {
			uint32_t dim = v ? DV : DK, open = v ? 32 : TOKENS % 32;
			for (uint32_t g = 0; g < (dim + 31) / 32; g++) {
				double signal = 0, noise = 0;
				ikv_kivi_read(w.s, 0, 1, (enum ikv_side)v, 0, TOKENS, rows, NULL);
				for (uint32_t t = 0; t < TOKENS - open; t++) {
					for (uint32_t c = 32 * g; c < dim && c < 32 * g + 32; c++) {
						double x = ikv_fp16_to_float(given(&w, 0, 1, v, t)[c]);
						signal += x * x;
						noise += (x - rows[t * dim + c]) * (x - rows[t * dim + c]);
					}
				}
				ck_assert_double_eq_tol(ikv_kivi_snr(w.s, 0, 1, (enum ikv_side)v, g),
							10 * log10(signal / noise), 1e-9);
			}
		}
		ck_assert_double_gt(ikv_kivi_snr(w.s, 0, 1, IKV_SIDE_V, 0), last + 10); /* 6 dB a bit */
		last = ikv_kivi_snr(w.s, 0, 1, IKV_SIDE_V, 0);
		ck_assert(isnan(ikv_kivi_snr(w.s, 0, HEADS, IKV_SIDE_K, 0)));
		close_world(&w);
	}
}
END_TEST

START_TEST(wrong_settings)
{
	struct ikv_kivi *s;
	struct ikv_err err;
	struct ikv_geometry g = {1, 1, 1, 64, 64, false, 16, 1};
	static const struct {
		struct ikv_kivi_config c;
		const char *text;
	} wrong[] = {{{3, 32, 64}, "bits: got 3"},
		     {{2, 64, 64}, "group: got 64"},
		     {{2, 32, 48}, "residual: got 48"},
		     {{2, 32, 160}, "residual: got 160"}};
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(ikv_kivi_create(&s, &g, &wrong[i].c, "auto", &err), -1);
		ck_assert_ptr_nonnull(strstr(err.text, wrong[i].text));
	}
	uint16_t row[64] = {0, 0x7c00};
	ck_assert_int_eq(ikv_kivi_create(&s, &g, &(struct ikv_kivi_config){2, 32, 64}, "auto", &err), 0);
	ck_assert_int_eq(ikv_kivi_append(s, 0, 1, row, row, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "value 1 is infinite"));
	ck_assert_int_eq(ikv_kivi_append(s, 1, 1, row, row, &err), -1);
	ck_assert_uint_eq(ikv_kivi_stored(s), 0);
	ikv_kivi_destroy(s);
}
END_TEST

/* Every page of every format becomes every other: from what is stored, and from exact rows. */
START_TEST(pages_change_formats)
{
	static const struct ikv_backend_ops *const backends[] = {&ikv_backend_ref, &ikv_backend_cpu};
	enum { T = 48, D = 40 };
	static uint16_t k[T * D], v[T * D];
	struct ikv_rng r;
	ikv_rng_stream(&r, 21, IKV_STREAM_TEST, 0, 0);
	for (int i = 0; i < T * D; i++) {
		k[i] = ikv_fp16_from_float((float)ikv_rng_normal(&r));
		v[i] = ikv_fp16_from_float((float)ikv_rng_normal(&r));
	}
	for (unsigned n = 0; n < 2u * IKV_FMT_COUNT * IKV_FMT_COUNT; n++) {
		enum ikv_format from = (enum ikv_format)(n / 2 % IKV_FMT_COUNT);
		enum ikv_format to = (enum ikv_format)(n / 2 / IKV_FMT_COUNT);
		if (from == IKV_FMT_SKIP || to == IKV_FMT_SKIP)
			continue;
		const struct ikv_backend_ops *ops = backends[n % 2];
		struct ikv_geometry g = {1, 1, 1, D, D, false, T, 1 / sqrtf(D)};
		struct ikv_backend_config config = {.threads = 1, .isa = "auto", .sequences = 1};
		struct ikv_backend *b;
		struct ikv_err err;
		struct ikv_page_ref ref = {.page = 0, .hi = T, .mask = IKV_NO_MASK};
		struct ikv_plan plan = {.pages = &ref, .count = 1, .page_tokens = T, .total_tokens = T};
		ck_assert_int_eq(ops->open(&b, &g, &config, &err), 0);
		ck_assert_int_eq(ops->append(b, 0, 0, T, k, v, &err), 0);
		ck_assert_int_eq(ops->recode(b, 0, 0, 0, 1, 0, from, &err), 0);
		ck_assert_int_eq(ops->recode(b, 0, 0, 0, 1, 0, to, &err), 0);
		ck_assert_uint_eq(ops->format(b, 0, 0, 0, 0), to);
		for (int exact = 0; exact < 2; exact++) {
			float rows[2][T * D], q[D], out[D];
			for (int side = 0; side < 2; side++) {
				static uint16_t half[T * D];
				static uint8_t stored[T * D * 8];
				memcpy(half, side ? v : k, sizeof half);
				for (int step = exact || from == to; step < 2;
				     step++) { /* no re-encoding to itself */
					enum ikv_format f = step ? to : from;
					ck_assert_int_eq(
					    ikv_format_encode(f, (enum ikv_side)side, half, T, D, stored, &err), 0);
					ck_assert_int_eq(
					    ikv_format_decode(f, (enum ikv_side)side, stored, T, D, rows[side], &err),
					    0);
					/* INT4_RESIDUAL to INT4 drops a plane: as if from the exact rows. */
					for (int i = 0; i < T * D; i++)
						if (!(from == IKV_FMT_INT4_RESIDUAL && to == IKV_FMT_INT4))
							half[i] = ikv_fp16_from_float(rows[side][i]);
				}
			}
			if (exact)
				ck_assert_int_eq(ops->restore(b, 0, 0, 0, 1, 0, to, k, v, &err), 0);
			for (int c = 0; c < D; c++)
				q[c] = (float)ikv_rng_normal(&r);
			struct ikv_attn_unit u = {.q_count = 1, .plan = &plan, .q = q, .out = out};
			ck_assert_int_eq(ops->decode(b, &u, 1, &err), 0);
			double s[T], top = -INFINITY, sum = 0;
			for (int t = 0; t < T; t++) {
				s[t] = 0;
				for (int c = 0; c < D; c++)
					s[t] += (double)q[c] * rows[0][t * D + c];
				s[t] *= g.scale;
				top = fmax(top, s[t]);
			}
			for (int t = 0; t < T; t++)
				sum += exp(s[t] - top);
			for (int c = 0; c < D; c++) {
				bool rounded = to == IKV_FMT_FP8 || to == IKV_FMT_INT8 || to == IKV_FMT_SPARSE;
				double want = 0, most = rounded ? 4e-3 : 5e-5; /* docs/formats.md */
				for (int t = 0; t < T; t++)
					want += exp(s[t] - top) / sum * rows[1][t * D + c];
				ck_assert_msg(fabs(out[c] - want) <= most, "%s: %s to %s: %g, expected %g", ops->name,
					      ikv_format_names()[from], ikv_format_names()[to], out[c], want);
			}
		}
		ops->close(b);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kivi");
	TCase *t = tcase_create("kivi");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, window_and_groups);
	tcase_add_test(t, attention_agrees);
	tcase_add_test(t, noise_is_what_reading_shows);
	tcase_add_test(t, wrong_settings);
	tcase_add_test(t, pages_change_formats);
	suite_add_tcase(s, t);
	return tap_run(s);
}

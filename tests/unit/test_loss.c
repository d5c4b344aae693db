/* What formats lose of a source's K and V, against codes, scales and a softmax worked out here in double precision.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/loss_play.h"
#include "sim/source_stats.h"
#include "tap.h"

enum {
	LAYERS = 2,
	HEADS = 4,
	KV = 2,
	DK = 40,
	DV = 24,
	TOKENS = 1003,
	STEPS = 300,
	QUERIES = 37,
	PAGE = 32,
	WINDOW = 64
};
enum { ROW_MAX = DK };

struct world {
	struct source *source;
	struct source_setup setup;
	struct session_list list;
	void *config;
	struct loss_play play;
	uint16_t k[TOKENS * KV * DK], v[TOKENS * KV * DV];
	double exact[2][TOKENS * KV * ROW_MAX]; /* [tokens][KV][d] */
	double coded[2][TOKENS * KV * ROW_MAX]; /* all rows in the format */
};

static struct world *open_world(void)
{
	const struct source_ops *ops = source_find("synthetic");
	static const uint32_t layers[LAYERS] = {0, 1};
	struct ikv_err err;
	struct world *w = calloc(1, sizeof *w);
	w->setup =
	    (struct source_setup){.geometry = {LAYERS, HEADS, KV, DK, DV, false, PAGE, (float)(1 / sqrt((double)DK))},
				  .model_layers = layers,
				  .sequences = 1,
				  .seed = 7};
	w->config = calloc(1, ops->config_bytes);
	ikv_option_defaults(ops->options, w->config);
	ck_assert_msg(!ops->open(&w->source, w->config, &w->setup, &err), "%s", err.text);
	ck_assert_int_eq(source_stats_session(&w->list, TOKENS, STEPS, &err), 0);
	return w;
}

static void close_world(struct world *w)
{
	loss_play_free(&w->play);
	session_list_free(&w->list);
	w->source->ops->close(w->source);
	free(w->config);
	free(w);
}

/* x rounded up to FP16. */
static double up(double x)
{
	uint16_t h = ikv_fp16_from_float((float)x);
	return ikv_fp16_to_float(h) < x ? ikv_fp16_to_float((uint16_t)(h + 1)) : ikv_fp16_to_float(h);
}

/* n values `step` apart between their extremes, in codes of `bits` bits. */
static void code_between(const double *x, uint32_t n, size_t step, uint32_t bits, double *out)
{
	double low = INFINITY, high = -INFINITY;
	for (uint32_t i = 0; i < n; i++) {
		low = fmin(low, x[i * step]);
		high = fmax(high, x[i * step]);
	}
	double scale = up((high - low) / ((1 << bits) - 1));
	for (uint32_t i = 0; i < n; i++)
		out[i * step] = scale > 0 ? low + scale * rint((x[i * step] - low) / scale) : low;
}

static void code_int8(struct world *w)
{
	for (int side = 0; side < 2; side++) {
		uint32_t d = side ? DV : DK;
		for (uint32_t row = 0; row < TOKENS * KV; row++) {
			const double *x = w->exact[side] + row * d;
			double top = 0;
			for (uint32_t c = 0; c < d; c++)
				top = fmax(top, fabs(x[c]));
			double scale = up(top / 127);
			for (uint32_t c = 0; c < d; c++)
				w->coded[side][row * d + c] = scale > 0 ? scale * rint(x[c] / scale) : 0;
		}
	}
}

/* K per channel over 32 tokens counted from the first, V per token over 32 channels. */
static void code_kivi(struct world *w, uint32_t bits)
{
	for (uint32_t t = 0; t + 32 <= TOKENS; t += 32)
		for (uint32_t i = 0; i < KV * DK; i++)
			code_between(w->exact[0] + t * KV * DK + i, 32, KV * DK, bits, w->coded[0] + t * KV * DK + i);
	for (uint32_t row = 0; row < TOKENS * KV; row++)
		for (uint32_t c = 0; c < DV; c += 32)
			code_between(w->exact[1] + row * DV + c, DV - c < 32 ? DV - c : 32, 1, bits,
				     w->coded[1] + row * DV + c);
}

static uint32_t encoded(const struct loss_scheme *s, int side, uint32_t n)
{
	if (!s->residual)
		return n - n % PAGE;
	return side ? (n > WINDOW ? n - WINDOW : 0) : n - n % WINDOW;
}

/* Log-sum-exp and the sum of values, of each kind, for one query and head; `now`: over rows as stored. */
static void attend(const struct world *w, const struct loss_scheme *s, uint32_t query, uint32_t head, const float *q,
		   bool now, double lse[LOSS_PARTS], double part[LOSS_PARTS][DV])
{
	static double score[TOKENS];
	uint32_t n = w->play.positions[query] + 1, kv = head / (HEADS / KV);
	double top = -INFINITY;
	for (uint32_t t = 0; t < n; t++) {
		const double *k = (now && t < encoded(s, 0, n) ? w->coded : w->exact)[0] + (t * KV + kv) * DK;
		score[t] = 0;
		for (uint32_t c = 0; c < DK; c++)
			score[t] += k[c] * (double)q[c] * (double)w->setup.geometry.scale;
		top = fmax(top, score[t]);
	}
	memset(part, 0, LOSS_PARTS * sizeof *part);
	for (uint32_t i = 0; i < LOSS_PARTS; i++)
		lse[i] = 0;
	for (uint32_t t = 0; t < n; t++) {
		const double *v = (now && t < encoded(s, 1, n) ? w->coded : w->exact)[1] + (t * KV + kv) * DV;
		double x = exp(score[t] - top);
		lse[w->play.kinds[t]] += x;
		lse[LOSS_ALL] += x;
		for (uint32_t c = 0; c < DV; c++) {
			part[w->play.kinds[t]][c] += x * v[c];
			part[LOSS_ALL][c] += x * v[c];
		}
	}
	for (uint32_t i = 0; i < LOSS_PARTS; i++)
		for (uint32_t c = 0; c < DV; c++)
			part[i][c] /= lse[LOSS_ALL];
	for (uint32_t i = 0; i < LOSS_PARTS; i++)
		lse[i] = log(lse[i]) + top;
}

static void expect_attention(const struct world *w, const struct loss_scheme *s, uint32_t layer,
			     struct loss_sums *cells)
{
	static double part[2][LOSS_PARTS][DV], lse[2][LOSS_PARTS];
	for (uint32_t query = 0; query < QUERIES; query++) {
		for (uint32_t h = 0; h < HEADS; h++) {
			const float *q = w->play.q + (((size_t)layer * QUERIES + query) * HEADS + h) * DK;
			double output = 0;
			for (int now = 0; now < 2; now++)
				attend(w, s, query, h, q, now, lse[now], part[now]);
			for (uint32_t c = 0; c < DV; c++)
				output += part[0][LOSS_ALL][c] * part[0][LOSS_ALL][c];
			for (uint32_t i = 0; i < LOSS_PARTS; i++) {
				struct loss_sums *cell = &cells[h / (HEADS / KV) * LOSS_PARTS + i];
				cell->output += output;
				for (uint32_t c = 0; c < DV; c++)
					cell->error += pow(part[0][i][c] - part[1][i][c], 2);
				if (isfinite(lse[0][i])) {
					cell->lse_error += pow(lse[0][i] - lse[1][i], 2);
					cell->lse_count++;
				}
			}
		}
	}
}

static void expect_noise(const struct world *w, const struct loss_scheme *s, struct loss_sums *cells)
{
	for (int side = 0; side < 2; side++) {
		uint32_t d = side ? DV : DK, unit = s->residual ? 32 : PAGE;
		for (size_t i = 0; i < (size_t)TOKENS * KV * d; i++) {
			uint32_t t = (uint32_t)(i / (KV * d)), kv = (uint32_t)(i / d) % KV;
			bool is_coded = t < encoded(s, side, TOKENS);
			double x = w->exact[side][i], bytes = 2.0 * d, lost = x - w->coded[side][i];
			if (is_coded)
				bytes = (double)ikv_format_bytes(s->format, (enum ikv_side)side, unit, d) / unit;
			for (int all = 0; all < 2; all++) {
				struct loss_sums *cell =
				    &cells[kv * LOSS_PARTS + (all ? LOSS_ALL : w->play.kinds[t])];
				cell->rows += side == 0 && i % d == 0;
				cell->bytes += bytes / d;
				cell->signal[side] += is_coded ? x * x : 0;
				cell->noise[side] += is_coded ? lost * lost : 0;
			}
		}
	}
}

static const struct loss_scheme schemes[] = {
    {IKV_FMT_FP16, 0}, {IKV_FMT_INT8, 0}, {IKV_FMT_KIVI4, 0}, {IKV_FMT_KIVI4, WINDOW}, {IKV_FMT_KIVI2, WINDOW}};
enum { SCHEMES = sizeof schemes / sizeof *schemes };

static void code(struct world *w, enum ikv_format f)
{
	if (f == IKV_FMT_FP16)
		memcpy(w->coded, w->exact, sizeof w->coded);
	else if (f == IKV_FMT_INT8)
		code_int8(w);
	else
		code_kivi(w, f == IKV_FMT_KIVI4 ? 4 : 2);
}

static void close_to(double got, double wanted, const char *what, uint32_t scheme, uint32_t cell)
{
	double most = 2e-3 * fabs(wanted) + 1e-6; /* a value halfway between two codes may go either way in float */
	ck_assert_msg(fabs(got - wanted) <= most, "scheme %u, cell %u: %s %g, expected %g", scheme, cell, what, got,
		      wanted);
}

START_TEST(figures_are_those_of_double_precision)
{
	struct world *w = open_world();
	struct loss_setup setup = {schemes, SCHEMES, PAGE, QUERIES, 2, "auto"};
	struct loss got;
	struct ikv_err err;
	const struct session *session = w->list.items;
	ck_assert_msg(!loss_measure(w->source, &w->setup.geometry, session, &setup, &got, &err), "%s", err.text);
	ck_assert_uint_eq(got.tokens, TOKENS);
	ck_assert_uint_eq(got.queries, QUERIES);
	ck_assert_int_eq(loss_play(w->source, &w->setup.geometry, session, QUERIES, &w->play, &err), 0);
	for (uint32_t layer = 0; layer < LAYERS; layer++) {
		ck_assert_int_eq(w->source->ops->kv(w->source, 0, layer, 0, TOKENS, w->k, w->v, &err), 0);
		for (size_t i = 0; i < (size_t)TOKENS * KV * DK; i++)
			w->exact[0][i] = (double)ikv_fp16_to_float(w->k[i]);
		for (size_t i = 0; i < (size_t)TOKENS * KV * DV; i++)
			w->exact[1][i] = (double)ikv_fp16_to_float(w->v[i]);
		for (uint32_t s = 0; s < SCHEMES; s++) {
			struct loss_sums wanted[KV * LOSS_PARTS] = {0};
			const struct loss_sums *cells = got.cells + ((size_t)s * LAYERS + layer) * KV * LOSS_PARTS;
			code(w, schemes[s].format);
			expect_noise(w, &schemes[s], wanted);
			expect_attention(w, &schemes[s], layer, wanted);
			for (uint32_t i = 0; i < KV * LOSS_PARTS; i++) {
				ck_assert_double_eq(cells[i].rows, wanted[i].rows);
				close_to(loss_bytes(&cells[i]), loss_bytes(&wanted[i]), "bytes", s, i);
				close_to(loss_rel_l2(&cells[i]), loss_rel_l2(&wanted[i]), "rel. L2", s, i);
				close_to(loss_lse(&cells[i]), loss_lse(&wanted[i]), "LSE", s, i);
				for (int side = 0; side < 2; side++) {
					double snr = loss_snr(&wanted[i], (enum ikv_side)side);
					if (isinf(snr))
						ck_assert(isinf(loss_snr(&cells[i], (enum ikv_side)side)));
					else
						close_to(loss_snr(&cells[i], (enum ikv_side)side), snr, "SNR", s, i);
				}
			}
		}
	}
	/* What a KIVI cache takes is what intentkv size says of it. */
	struct ikv_kivi_config c = {4, 32, WINDOW};
	ck_assert_double_eq_tol(got.cells[(size_t)3 * LAYERS * KV * LOSS_PARTS + LOSS_ALL].bytes,
				(double)ikv_kivi_bytes(&c, TOKENS, DK, DV), .01);
	w->source->ops->end(w->source, 0);
	loss_free(&got);
	close_world(w);
}
END_TEST

START_TEST(queries_are_evenly_spaced)
{
	struct world *w = open_world();
	struct ikv_err err;
	uint32_t first = TOKENS - STEPS;
	ck_assert_int_eq(loss_play(w->source, &w->setup.geometry, w->list.items, 3, &w->play, &err), 0);
	w->source->ops->end(w->source, 0);
	ck_assert_uint_eq(w->play.tokens, TOKENS);
	for (uint32_t i = 0; i < 3; i++)
		ck_assert_uint_eq(w->play.positions[i], first + (i + 1) * STEPS / 3 - 1);
	ck_assert_uint_eq(w->play.kinds[0], IKV_KIND_SYSTEM);
	loss_play_free(&w->play);
	ck_assert_int_eq(loss_play(w->source, &w->setup.geometry, w->list.items, 10000, &w->play, &err), 0);
	ck_assert_uint_eq(w->play.queries, STEPS);
	w->source->ops->end(w->source, 0);
	close_world(w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("loss");
	TCase *t = tcase_create("loss");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, figures_are_those_of_double_precision);
	tcase_add_test(t, queries_are_evenly_spaced);
	suite_add_tcase(s, t);
	return tap_run(s);
}

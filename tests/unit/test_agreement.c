/* Every kernel of every ISA against backend `ref` on 10,000 small random decode cases a format. Cases share a
 * geometry by the hundred, so that most of the time goes into attention. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

enum { CASES = 10000, SHARED = 100, LONG_CASES = 60, ISAS = 8, SHORT = 80, TOKENS = 1400, POOL = 1 << 20 };
/* docs/formats.md: for scores of unit variance, and in proportion for larger ones. Up to 80 of the former have a
 * log-sum-exp of about 5. */
static const double tolerance = 5e-5, latent_tolerance = 2e-4, usual = 5;
/* Of FP8 and SPARSE with avx512bf16 and avx512vbmi and INT8 with AVX-512, whose queries and weights are rounded to 8 and 9 bits, and of
 * 4 and 2 bits with AVX-512 and AVX2, whose queries are a byte a channel. */
static const double eight_bit_tolerance = 4e-3, int4_tolerance = 5e-3, kivi_tolerance = 1e-2;

struct rig {
	struct ikv_rng r;
	struct ikv_geometry g;
	struct ikv_backend *b[ISAS + 1]; /* ref, then an ISA each */
	const char *isa[ISAS + 1];
	uint32_t count;
	struct ikv_plan plan;
	bool any_half; /* pages of FP8 or SPARSE */
	bool any_int8, any_int4, any_kivi; /* KIVI4, KIVI2 */
};

static uint16_t pool[POOL]; /* normal numbers, to be taken from anywhere */
static float queries[POOL];

static uint32_t below(struct rig *x, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&x->r, n);
}

static void fill_pools(struct rig *x)
{
	for (uint32_t i = 0; i < POOL; i++) {
		queries[i] = (float)ikv_rng_normal(&x->r);
		pool[i] = ikv_fp16_from_float((float)ikv_rng_normal(&x->r));
	}
}

static void open_rig(struct rig *x, bool latent, uint32_t tokens)
{
	uint32_t isas;
	struct ikv_err err;
	const struct ikv_isa_info *isa = ikv_isa_list(&isas);
	struct ikv_geometry *g = &x->g;
	*g = (struct ikv_geometry){.layers = 1, .kv_heads = 1 + below(x, 2), .page_tokens = 1 + below(x, 40)};
	g->q_heads = g->kv_heads * (1 + below(x, 6));
	g->d_qk = 1 + below(x, below(x, 6) ? 70 : 200);
	g->d_v = below(x, 2) ? g->d_qk : 1 + below(x, 100);
	g->scale = 1 / sqrtf((float)g->d_qk);
	if (latent) {
		g->kv_heads = 1;
		g->v_aliases_k = true;
		g->d_v = 1 + below(x, g->d_qk);
	}
	x->count = 0;
	const char *fetch = below(x, 2) ? "near" : "far";
	for (uint32_t i = 0; i <= isas; i++) {
		const struct ikv_backend_ops *ops = i ? &ikv_backend_cpu : &ikv_backend_ref;
		char name[40] = "auto";
		struct ikv_backend_config config = {.threads = 1, .isa = name, .sequences = 1};
		if (i && !isa[i - 1].usable)
			continue;
		if (i)
			snprintf(name, sizeof name, "%s:%s", isa[i - 1].name, fetch);
		x->isa[x->count] = i ? isa[i - 1].name : "ref";
		ck_assert_msg(!ops->open(&x->b[x->count++], g, &config, &err), "%s", err.text);
	}
	ck_assert_int_eq(ikv_plan_init(&x->plan, g->page_tokens, tokens, &err), 0);
}

static void close_rig(struct rig *x)
{
	for (uint32_t i = 0; i < x->count; i++)
		x->b[i]->ops->close(x->b[i]);
	ikv_plan_free(&x->plan);
}

/* The same rows in all backends; closed pages in the format, one in eight in one of the others. */
static void fill(struct rig *x, enum ikv_format f, uint32_t tokens)
{
	struct ikv_err err;
	uint32_t k = below(x, POOL - TOKENS * 2 * 200), v = below(x, POOL - TOKENS * 2 * 200);
	uint32_t closed = tokens / x->g.page_tokens, formats[TOKENS];
	x->any_half = x->any_int8 = x->any_int4 = x->any_kivi = false;
	for (uint32_t p = 0; p < closed; p++) {
		formats[p] = below(x, 8) || x->g.v_aliases_k ? (uint32_t)f : 1 + below(x, IKV_FMT_COUNT - 1);
		x->any_half |= formats[p] == IKV_FMT_FP8 || formats[p] == IKV_FMT_SPARSE;
		x->any_int8 |= formats[p] == IKV_FMT_INT8;
		x->any_int4 |= formats[p] == IKV_FMT_INT4;
		x->any_kivi |= formats[p] == IKV_FMT_KIVI4 || formats[p] == IKV_FMT_KIVI2;
	}
	for (uint32_t i = 0; i < x->count; i++) {
		struct ikv_backend *b = x->b[i];
		b->ops->release(b, 0);
		ck_assert_int_eq(b->ops->append(b, 0, 0, tokens, pool + k, pool + v, &err), 0);
		for (uint32_t p = 0; p < closed; p++)
			ck_assert_msg(
			    !b->ops->recode(b, 0, 0, 0, x->g.kv_heads, p, (enum ikv_format)formats[p], &err), "%s",
			    err.text);
	}
}

static void make_plan(struct rig *x, uint32_t tokens)
{
	uint32_t longest = 1 + below(x, tokens);
	ikv_plan_reset(&x->plan, tokens);
	for (uint32_t t = below(x, 4) ? 0 : below(x, tokens); t < tokens;) {
		uint32_t n = 1 + below(x, longest);
		n = n < tokens - t ? n : tokens - t;
		if (below(x, 3))
			ikv_plan_add(&x->plan, t, t + n, IKV_FMT_FP16, 0);
		t += n;
	}
}

static double distance(const float *a, const float *b, size_t n)
{
	double worst = 0;
	for (size_t i = 0; i < n; i++)
		worst = fmax(worst, a[i] == b[i] ? 0 : fabs((double)a[i] - b[i])); /* two infinities are equal */
	return worst;
}

static void run_case(struct rig *x, double allowed)
{
	struct ikv_err err;
	static float out[2][12 * 200], lse[2][12], mass[2][12 * TOKENS];
	const float *q = queries + below(x, POOL - 12 * 200);
	double size = usual;
	for (uint32_t i = 0; i < x->count; i++) {
		int at = i != 0;
		struct ikv_attn_unit u = {.q_count = x->g.q_heads,
					  .plan = &x->plan,
					  .q = q,
					  .out = out[at],
					  .lse = lse[at],
					  .mass = mass[at]};
		ck_assert_msg(!x->b[i]->ops->decode(x->b[i], &u, 1, &err), "%s", err.text);
		for (uint32_t h = 0; i == 0 && h < x->g.q_heads; h++)
			size = fmax(size, isinf(lse[0][h]) ? 0 : fabs((double)lse[0][h]));
		if (i == 0) {
			allowed *= size / usual;
			continue;
		}
		double most = allowed;
		const bool halves = !strcmp(x->isa[i], "avx512bf16") || !strcmp(x->isa[i], "avx512vbmi");
		if (x->any_half && !x->g.v_aliases_k && halves)
			most = eight_bit_tolerance * size / usual;
		if (x->any_int8 && !x->g.v_aliases_k && !strncmp(x->isa[i], "avx512", 6))
			most = eight_bit_tolerance * size / usual;
		if (x->any_int4 && strcmp(x->isa[i], "scalar"))
			most = int4_tolerance * size / usual;
		if (x->any_kivi && strcmp(x->isa[i], "scalar"))
			most = kivi_tolerance * size / usual;
		double a = distance(out[0], out[1], (size_t)x->g.q_heads * x->g.d_v);
		double b = distance(lse[0], lse[1], x->g.q_heads);
		double c = distance(mass[0], mass[1], (size_t)x->g.q_heads * x->plan.count);
		ck_assert_msg(a <= most && b <= most && c <= most,
			      "%s: outputs %g, log-sum-exp %g, mass %g off; %u/%u heads of %u and %u, pages of %u",
			      x->isa[i], a, b, c, x->g.q_heads, x->g.kv_heads, x->g.d_qk, x->g.d_v, x->g.page_tokens);
	}
}

/* Cases of up to `most` tokens, `shared` of them a geometry. */
static void run(enum ikv_format f, bool latent, uint32_t cases, uint32_t shared, uint32_t most)
{
	struct rig x = {0};
	ikv_rng_stream(&x.r, f, IKV_STREAM_TEST, 60, latent + 2 * (most > SHORT));
	fill_pools(&x);
	for (uint32_t n = 0; n < cases; n += shared) {
		open_rig(&x, latent, most);
		for (uint32_t i = 0; i < shared; i++) {
			uint32_t tokens = 1 + below(&x, most);
			if (i % 4 == 0)
				fill(&x, f, most);
			make_plan(&x, tokens);
			run_case(&x, latent ? latent_tolerance : tolerance);
		}
		close_rig(&x);
	}
}

START_TEST(every_isa_agrees_with_ref)
{
	run((enum ikv_format)_i, false, CASES, SHARED, SHORT);
}
END_TEST

/* Contexts of many blocks, where queries and weights are rounded. */
START_TEST(long_contexts_agree)
{
	run((enum ikv_format)_i, false, LONG_CASES, 4, TOKENS);
}
END_TEST

START_TEST(latents_agree)
{
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++)
		if (ikv_mla_stores((enum ikv_format)f))
			run((enum ikv_format)f, true, CASES / 10, SHARED, SHORT);
}
END_TEST

enum { LONG = 1024, WIDE = 128, GROUP = 4, ANSWER = GROUP * WIDE };

/* LONG tokens in one format, keys from the pool; of each `apart` tokens the first is left out, with 0 none is. */
static void answer(const struct ikv_backend_ops *ops, const char *isa, enum ikv_format f, const uint16_t *v,
		   uint32_t apart, const float *q, float *out)
{
	struct ikv_err err;
	struct ikv_backend *b;
	struct ikv_plan plan;
	struct ikv_geometry g = {1, GROUP, 1, WIDE, WIDE, false, 32, 1 / sqrtf(WIDE)};
	struct ikv_backend_config config = {.threads = 1, .isa = isa, .sequences = 1};
	struct ikv_attn_unit u = {.q_count = GROUP, .plan = &plan, .q = q, .out = out};
	ck_assert_int_eq(ops->open(&b, &g, &config, &err), 0);
	ck_assert_int_eq(ops->append(b, 0, 0, LONG, pool, v, &err), 0);
	for (uint32_t p = 0; p < LONG / g.page_tokens && f != IKV_FMT_FP16; p++)
		ck_assert_int_eq(ops->recode(b, 0, 0, 0, 1, p, f, &err), 0);
	ck_assert_int_eq(ikv_plan_init(&plan, g.page_tokens, LONG, &err), 0);
	ikv_plan_reset(&plan, LONG);
	for (uint32_t t = 0; t < LONG; t += apart ? apart : LONG)
		ikv_plan_add(&plan, apart ? t + 1 : t, apart ? t + apart : LONG, IKV_FMT_FP16, 0);
	ck_assert_int_eq(ops->decode(b, &u, 1, &err), 0);
	ikv_plan_free(&plan);
	ops->close(b);
}

static double relative(const float *a, const float *b)
{
	double error = 0, norm = 0;
	for (int i = 0; i < ANSWER; i++) {
		error += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
		norm += (double)b[i] * b[i];
	}
	return sqrt(error / norm);
}

/* What kernels round is at most a tenth of what storing K and V costs (INT8 four tenths), and nothing where scores are
 * flat. */
START_TEST(rounding_is_small_beside_the_format)
{
	static const enum ikv_format formats[] = {IKV_FMT_INT8,  IKV_FMT_INT4,  IKV_FMT_INT4_RESIDUAL, IKV_FMT_FP8,
						  IKV_FMT_KIVI8, IKV_FMT_KIVI4, IKV_FMT_KIVI2,         IKV_FMT_SPARSE};
	static float exact[ANSWER], stored[ANSWER], got[ANSWER], q[ANSWER];
	uint32_t isas;
	const struct ikv_isa_info *isa = ikv_isa_list(&isas);
	struct rig x = {0};
	ikv_rng_stream(&x.r, 0, IKV_STREAM_TEST, 61, 0);
	fill_pools(&x);
	for (size_t n = 0; n < 2 * sizeof formats / sizeof *formats; n++) {
		enum ikv_format f = formats[n / 2];
		for (int i = 0; i < ANSWER; i++)
			q[i] = queries[i] * (n % 2 ? 1e-3f : 1);
		answer(&ikv_backend_ref, "auto", IKV_FMT_FP16, pool + LONG * WIDE, 0, q, exact);
		answer(&ikv_backend_ref, "auto", f, pool + LONG * WIDE, 0, q, stored);
		for (uint32_t i = 0; i < isas; i++) {
			if (!isa[i].usable)
				continue;
			answer(&ikv_backend_cpu, isa[i].name, f, pool + LONG * WIDE, 0, q, got);
			double share = f == IKV_FMT_INT8 ? 0.4 : 0.1;
			double most = n % 2 && f != IKV_FMT_FP8 && f != IKV_FMT_SPARSE ? 1e-3 : share * relative(stored, exact);
			ck_assert_msg(relative(got, stored) <= most, "%s, %s: %g, at most %g expected", isa[i].name,
				      ikv_format_info(f)->name, relative(got, stored), most);
		}
	}
}
END_TEST

/* Flat scores stay so where half of the tokens are not selected: the others' weights are still alike. */
START_TEST(flat_scores_with_holes)
{
	static float want[ANSWER], got[ANSWER], q[ANSWER];
	uint32_t isas;
	const struct ikv_isa_info *isa = ikv_isa_list(&isas);
	struct rig x = {0};
	ikv_rng_stream(&x.r, 0, IKV_STREAM_TEST, 63, 0);
	fill_pools(&x);
	for (int i = 0; i < ANSWER; i++)
		q[i] = queries[i] * 1e-3f;
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++) {
		answer(&ikv_backend_ref, "auto", (enum ikv_format)f, pool + LONG * WIDE, 2, q, want);
		for (uint32_t i = 0; i < isas; i++) {
			if (!isa[i].usable)
				continue;
			answer(&ikv_backend_cpu, isa[i].name, (enum ikv_format)f, pool + LONG * WIDE, 2, q, got);
			double most = f == IKV_FMT_FP8 || f == IKV_FMT_SPARSE ? eight_bit_tolerance : 1e-3;
			ck_assert_msg(relative(got, want) <= most, "%s, %s: %g", isa[i].name,
				      ikv_format_info((enum ikv_format)f)->name, relative(got, want));
		}
	}
}
END_TEST

/* Values a thousand times as large of tokens that are not selected do not make the others' coarser. */
START_TEST(large_values_without_weight)
{
	enum { APART = 16 };
	static uint16_t v[LONG * WIDE];
	static float want[ANSWER], got[ANSWER];
	uint32_t isas;
	const struct ikv_isa_info *isa = ikv_isa_list(&isas);
	struct rig x = {0};
	ikv_rng_stream(&x.r, 0, IKV_STREAM_TEST, 62, 0);
	fill_pools(&x);
	for (int i = 0; i < LONG * WIDE; i++)
		v[i] = ikv_fp16_from_float(ikv_fp16_to_float(pool[LONG * WIDE + i]) * (i / WIDE % APART ? 1 : 1000));
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++) {
		answer(&ikv_backend_ref, "auto", (enum ikv_format)f, v, APART, queries, want);
		for (uint32_t i = 0; i < isas; i++) {
			if (!isa[i].usable)
				continue;
			answer(&ikv_backend_cpu, isa[i].name, (enum ikv_format)f, v, APART, queries, got);
			ck_assert_msg(relative(got, want) <= 0.02, "%s, %s: %g", isa[i].name,
				      ikv_format_info((enum ikv_format)f)->name, relative(got, want));
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("agreement");
	TCase *t = tcase_create("agreement");
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, every_isa_agrees_with_ref, IKV_FMT_FP16, IKV_FMT_COUNT);
	tcase_add_loop_test(t, long_contexts_agree, IKV_FMT_FP16, IKV_FMT_COUNT);
	tcase_add_test(t, latents_agree);
	tcase_add_test(t, rounding_is_small_beside_the_format);
	tcase_add_test(t, flat_scores_with_holes);
	tcase_add_test(t, large_values_without_weight);
	suite_add_tcase(s, t);
	return tap_run(s);
}

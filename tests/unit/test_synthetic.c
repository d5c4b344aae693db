/* The synthetic source: its statistics against recorded attention, its determinism and its models of mass. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/keys.h"
#include "sim/source_stats.h"
#include "tap.h"

static const struct ikv_geometry small_model = {
    .layers = 2, .q_heads = 8, .kv_heads = 2, .d_qk = 64, .d_v = 64, .page_tokens = 16, .scale = .125f};

static struct source *open_source(struct source_setup *setup, const char *preset, const char *key, const char *value)
{
	const struct source_ops *ops = source_find("synthetic");
	struct ikv_err err = {0};
	struct source *source = NULL;
	void *config = calloc(1, ops->config_bytes);
	ikv_option_defaults(ops->options, config);
	ck_assert_msg(!ikv_option_set(ops->options, config, "preset", preset, &err), "%s", err.text);
	if (key)
		ck_assert_msg(!ikv_option_set(ops->options, config, key, value, &err), "%s", err.text);
	ck_assert_msg(!ops->open(&source, config, setup, &err), "%s", err.text);
	free(config);
	return source;
}

static void measure(const char *preset, const char *key, const char *value, struct ikv_geometry g, uint64_t seed,
		    uint32_t tokens, uint32_t steps, uint32_t layer, struct source_stats *out)
{
	struct source_setup setup = {.geometry = g, .sequences = 1, .seed = seed};
	struct session_list list = {0};
	struct ikv_err err = {0};
	struct source *source = open_source(&setup, preset, key, value);
	ck_assert_msg(!source_stats_session(&list, tokens, steps, &err), "%s", err.text);
	ck_assert_msg(!source_stats_measure(source, &setup, list.items, layer, steps, true, out, &err), "%s",
		      err.text);
	source->ops->close(source);
	session_list_free(&list);
}

/* Means over 16 recorded sessions of layers 3 and 7 (attention-stats.json beside the captures). */
static const struct recorded {
	const char *preset;
	double best5[SOURCE_STATS_SHARES], kv10, kv25, recency[4], effective, overlap[4];
} recorded[] = {
    {"agent-layer3", {.893, .862, .831}, .909, .960, {.314, .515, .628, .768}, 18.65, {.667, .589, .513, .438}},
    {"agent-layer7", {.782, .719, .693}, .816, .918, {.169, .399, .648, .841}, 47.5, {.635, .620, .597, .531}},
};

static void near(double got, double want, const char *what, int index)
{
	ck_assert_msg(fabs(got / want - 1) <= .15, "%s[%d]: got %.4f, recorded %.4f", what, index, got, want);
}

#define SEEDS 3

/* Mean over seeds: sessions, recorded or generated, differ from each other by more than the preset from them. */
static void measure_mean(const char *preset, struct source_stats *mean)
{
	struct source_stats s;
	memset(mean, 0, sizeof *mean);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		measure(preset, NULL, NULL, small_model, seed, 6176, 512, 0, &s);
		ck_assert_double_eq(s.pages, 386);
		for (int i = 0; i < SOURCE_STATS_SHARES; i++)
			for (int f = 0; f < SOURCE_STATS_FRACTIONS; f++)
				mean->recall[i][f] += s.recall[i][f] / SEEDS;
		for (int i = 0; i < SOURCE_STATS_WINDOWS; i++) {
			mean->recency[i] += s.recency[i] / SEEDS;
			mean->overlap[i] += s.overlap[i] / SEEDS;
		}
		for (int k = 0; k < IKV_KIND_COUNT; k++) {
			mean->kind_mass[k] += s.kind_mass[k] / SEEDS;
			mean->kind_tokens[k] += s.kind_tokens[k] / SEEDS;
		}
		mean->effective_pages += s.effective_pages / SEEDS;
		mean->sink += s.sink / SEEDS;
		/* The model of mass knows the structure, not the noise. */
		ck_assert_double_ge(s.model_recall, .95);
		ck_assert_double_ge(s.model_correlation, .9);
		ck_assert_double_ge(s.score_correlation, .6);
	}
}

START_TEST(presets_match_recorded_attention)
{
	const struct recorded *r = &recorded[_i];
	struct source_stats s;
	measure_mean(r->preset, &s);
	for (int i = 0; i < SOURCE_STATS_SHARES; i++)
		near(s.recall[i][1], r->best5[i], "best 5 %", i);
	near(s.recall[SOURCE_STATS_KV_HEAD][2], r->kv10, "best 10 %", 0);
	near(s.recall[SOURCE_STATS_KV_HEAD][3], r->kv25, "best 25 %", 0);
	for (int i = 0; i < 4; i++) {
		near(s.recency[i], r->recency[i], "recency", i);
		near(s.overlap[i], r->overlap[i], "overlap", i);
	}
	near(s.effective_pages, r->effective, "effective pages", 0);
	ck_assert_double_le(s.sink, .01);
	ck_assert_double_ge(s.recall[SOURCE_STATS_HEAD][1], s.recall[SOURCE_STATS_KV_HEAD][1]);
	ck_assert_double_ge(s.recall[SOURCE_STATS_KV_HEAD][1], s.recall[SOURCE_STATS_SHARED][1]);
	/* Roles: the system prompt is read little for its size, the agent's words and tool output much. */
	ck_assert_double_le(s.kind_mass[IKV_KIND_SYSTEM], s.kind_tokens[IKV_KIND_SYSTEM] / 2);
	ck_assert_double_ge(s.kind_mass[IKV_KIND_ASSISTANT], s.kind_tokens[IKV_KIND_ASSISTANT]);
	ck_assert_double_ge(s.kind_mass[IKV_KIND_TOOL_OUTPUT], s.kind_tokens[IKV_KIND_TOOL_OUTPUT]);
}
END_TEST

START_TEST(sinks_take_their_share)
{
	struct source_stats s;
	measure("large-sink", NULL, NULL, small_model, 1, 3000, 64, 1, &s);
	ck_assert_double_le(fabs(s.sink - .4), .08);
	ck_assert_double_ge(s.model_recall, .85);
	measure("agent-layer7", "sink", "0.6", small_model, 1, 3000, 64, 0, &s);
	ck_assert_double_le(fabs(s.sink - .6), .08);
}
END_TEST

static const struct ikv_geometry shapes[] = {
    {.layers = 1, .q_heads = 4, .kv_heads = 4, .d_qk = 32, .d_v = 32, .page_tokens = 16, .scale = .1767767f},
    {.layers = 1, .q_heads = 8, .kv_heads = 1, .d_qk = 80, .d_v = 48, .page_tokens = 32, .scale = .1118034f},
    {.layers = 1, .q_heads = 6, .kv_heads = 2, .d_qk = 96, .d_v = 96, .page_tokens = 7, .scale = .1020621f},
    {.layers = 1, .q_heads = 32, .kv_heads = 8, .d_qk = 128, .d_v = 128, .page_tokens = 16, .scale = .0883883f},
    {.layers = 1,
     .q_heads = 4,
     .kv_heads = 1,
     .d_qk = 576,
     .d_v = 512,
     .v_aliases_k = true,
     .page_tokens = 16,
     .scale = .0721688f},
};

START_TEST(other_shapes_behave_alike)
{
	struct source_stats s;
	measure("agent-layer3", NULL, NULL, shapes[_i], 1, 3000, 48, 0, &s);
	ck_assert_double_ge(s.recall[SOURCE_STATS_KV_HEAD][2], .7);
	ck_assert_double_ge(s.recency[3], .5);
	ck_assert_double_ge(s.model_recall, .85);
}
END_TEST

/* Softmax mass of token t's query on the first four tokens, mean over the heads. */
static double sink_mass(struct source *s, uint32_t layer, uint32_t t, const float *q)
{
	const struct ikv_geometry *g = &small_model;
	static uint16_t k[400][2][64], v[400][2][64];
	struct ikv_err err;
	double mass = 0;
	ck_assert_int_eq(s->ops->kv(s, 0, layer, 0, t + 1, k[0][0], v[0][0], &err), 0);
	for (uint32_t h = 0; h < g->q_heads; h++) {
		double sum = 0, first = 0;
		for (uint32_t i = 0; i <= t; i++) {
			double dot = 0;
			for (uint32_t c = 0; c < g->d_qk; c++)
				dot += (double)q[h * g->d_qk + c] *
				       (double)ikv_fp16_to_float(k[i][h / (g->q_heads / g->kv_heads)][c]);
			double x = exp(dot * (double)g->scale);
			sum += x;
			first += i < 4 ? x : 0;
		}
		mass += first / sum / g->q_heads;
	}
	return mass;
}

/* Queries of a prompt do not depend on what comes after it, nor on how many are asked for at once. */
START_TEST(prompts_see_what_was_there)
{
	enum { PROMPT = 137, ALL = 400, ROW = 8 * 64 };
	static float whole[PROMPT][ROW], pieces[PROMPT][ROW], before[ROW], after[ROW];
	struct source_setup setup = {.geometry = small_model, .sequences = 1, .seed = 5};
	struct source *s = open_source(&setup, "large-sink", NULL, NULL);
	struct ikv_block blocks[] = {{.name = "a", .start = 0, .end = 90, .uid = 1},
				     {.name = "b", .start = 90, .end = 300, .uid = 2, .kind = IKV_KIND_USER}};
	struct ikv_layout l = {.blocks = blocks, .count = 2, .page_tokens = 16, .total_tokens = PROMPT};
	struct ikv_err err;
	double mass = 0;
	ck_assert_int_eq(s->ops->begin(s, 0, NULL, 0, &err), 0);
	ck_assert_int_eq(s->ops->extend(s, 0, &l, 0, &err), 0);
	ck_assert_int_eq(s->ops->query(s, 0, 1, before, &err), 0);
	ck_assert_int_eq(s->ops->prompt(s, 0, 1, 0, PROMPT, whole[0], &err), 0);
	ck_assert_int_eq(s->ops->query(s, 0, 1, after, &err), 0);
	ck_assert_mem_eq(before, after, sizeof before);
	l.total_tokens = ALL;
	ck_assert_int_eq(s->ops->extend(s, 0, &l, PROMPT, &err), 0);
	for (uint32_t t = 0; t < PROMPT; t += 5)
		ck_assert_int_eq(s->ops->prompt(s, 0, 1, t, PROMPT - t < 5 ? PROMPT - t : 5, pieces[t], &err), 0);
	ck_assert_mem_eq(whole, pieces, sizeof whole);
	uint32_t odd = 0;
	for (uint32_t t = 0; t < PROMPT; t++) {
		for (uint32_t c = 0; c < ROW; c++)
			odd += !isfinite(whole[t][c]);
		odd += t && !memcmp(whole[t], whole[t - 1], sizeof whole[t]);
		mass += t < 64 ? 0 : sink_mass(s, 1, t, whole[t]) / (PROMPT - 64);
	}
	ck_assert_uint_eq(odd, 0);
	ck_assert_double_le(fabs(mass - .4), .1);
	ck_assert_int_eq(s->ops->prompt(s, 0, 1, ALL - 1, 2, whole[0], &err), -1);
	s->ops->close(s);
}
END_TEST

#define N            300
#define GOLDEN_ROWS  0x55c53f70dfa3cfecu
#define GOLDEN_QUERY 0xac1bf10fe26b9df6u
struct answers {
	uint16_t k[N][2][64], v[N][2][64];
	float q[8][64], mass[19];
	double scores[3];
};

/* Tokens enter in pieces of `piece`; `detour` truncates and says other things in between. */
static void ask(uint64_t seed, uint32_t index, uint32_t piece, bool detour, struct answers *a)
{
	struct source_setup setup = {.geometry = small_model, .sequences = 2, .seed = seed};
	struct ikv_err err = {0};
	struct source *s = open_source(&setup, "large-sink", NULL, NULL);
	const struct source_ops *o = s->ops;
	struct ikv_block blocks[] = {{.name = "a", .start = 0, .end = 100, .uid = 11},
				     {.name = "b", .start = 105, .end = 251, .uid = 12, .kind = IKV_KIND_USER},
				     {.name = "c", .start = 251, .end = N, .uid = 13, .kind = IKV_KIND_TOOL_OUTPUT}};
	struct ikv_layout l = {.blocks = blocks, .count = 3, .page_tokens = 16};
	memset(a, 0, sizeof *a);
	ck_assert_int_eq(o->begin(s, 1, NULL, index, &err), 0);
	for (uint32_t t = 0; t < N; t = l.total_tokens) {
		l.total_tokens = t + piece < N ? t + piece : N;
		ck_assert_msg(!o->extend(s, 1, &l, t, &err), "%s", err.text);
	}
	if (detour) {
		blocks[1].uid = 99;
		ck_assert_int_eq(o->truncate(s, 1, 103, &err), 0);
		ck_assert_int_eq(o->extend(s, 1, &l, 103, &err), 0);
		ck_assert_int_eq(o->advance(s, 1, 7, &err), 0);
		blocks[1].uid = 12;
		ck_assert_int_eq(o->truncate(s, 1, 97, &err), 0);
		ck_assert_int_eq(o->extend(s, 1, &l, 97, &err), 0);
	}
	for (uint32_t t = 0; t < N; t += piece)
		ck_assert_int_eq(o->kv(s, 1, 1, t, t + piece < N ? piece : N - t, a->k[t][0], a->v[t][0], &err), 0);
	ck_assert_int_eq(o->advance(s, 1, 40, &err), 0);
	ck_assert_int_eq(o->query(s, 1, 1, a->q[0], &err), 0);
	ck_assert_int_eq(o->model_mass(s, 1, 1, 0, 8, 16, a->mass, &err), 0);
	ck_assert_int_eq(o->model_scores(s, 1, &l, a->scores, &err), 0);
	ck_assert_int_eq(o->kv(s, 1, 1, N - 1, 2, a->k[0][0], a->v[0][0], &err), -1);
	o->end(s, 1);
	o->close(s);
}

START_TEST(answers_depend_on_content_alone)
{
	static struct answers a, b;
	ask(1, 0, N, false, &a);
	ask(1, 0, 1, false, &b);
	ck_assert_mem_eq(&a, &b, sizeof a);
	ask(1, 0, 37, true, &b);
	ck_assert_mem_eq(&a, &b, sizeof a);
	ask(1, 1, N, false, &b); /* another session: the same blocks say the same, the intent differs */
	ck_assert_mem_eq(a.k[0], b.k[0], 100 * sizeof a.k[0]);
	ck_assert_mem_eq(a.v[105], b.v[105], 195 * sizeof a.v[0]);
	ck_assert_mem_ne(a.k[100], b.k[100], 5 * sizeof a.k[0]); /* but what is in no block is its own */
	ck_assert_mem_ne(a.q, b.q, sizeof a.q);
	ask(2, 0, N, false, &b);
	ck_assert_mem_ne(a.k, b.k, sizeof a.k);
	double sum = 0, top = 0;
	for (int i = 0; i < 19; i++)
		sum += (double)a.mass[i];
	ck_assert_double_le(fabs(sum - 1), 1e-5);
	for (int i = 0; i < 3; i++) {
		ck_assert_double_ge(a.scores[i], 0);
		top = a.scores[i] > top ? a.scores[i] : top;
	}
	ck_assert_double_eq(top, 1);
}
END_TEST

/* FNV-1a of everything a source answers: the same on every ISA and compiler. */
START_TEST(bits_are_fixed)
{
	static struct answers a;
	uint64_t h = 0xcbf29ce484222325u;
	ask(1, 0, N, false, &a);
	for (size_t i = 0; i < sizeof a.k + sizeof a.v; i++)
		h = (h ^ ((const uint8_t *)&a)[i]) * 0x100000001b3u;
	ck_assert_msg(h == GOLDEN_ROWS, "rows hash to 0x%016llx", (unsigned long long)h);
	h = 0xcbf29ce484222325u;
	for (size_t i = 0; i < sizeof a.q; i++)
		h = (h ^ ((const uint8_t *)a.q)[i]) * 0x100000001b3u;
	ck_assert_msg(h == GOLDEN_QUERY, "queries hash to 0x%016llx", (unsigned long long)h);
}
END_TEST

START_TEST(values_follow_blocks)
{
	static struct answers a;
	ask(1, 0, N, false, &a);
	/* Rows of V of one block resemble each other more than rows of two blocks. */
	double same = 0, other = 0;
	for (int i = 0; i < 100; i++) {
		for (int c = 0; c < 64; c++) {
			double x = (double)keys_float(a.v[110 + i][0][c]);
			same += x * (double)keys_float(a.v[150 + i][0][c]);
			other += x * (double)keys_float(a.v[i + 4][0][c]);
		}
	}
	ck_assert_double_ge(same, 5 * fabs(other));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("synthetic");
	TCase *t = tcase_create("synthetic");
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, presets_match_recorded_attention, 0, 2);
	tcase_add_test(t, sinks_take_their_share);
	tcase_add_loop_test(t, other_shapes_behave_alike, 0, sizeof shapes / sizeof *shapes);
	tcase_add_test(t, prompts_see_what_was_there);
	tcase_add_test(t, answers_depend_on_content_alone);
	tcase_add_test(t, bits_are_fixed);
	tcase_add_test(t, values_follow_blocks);
	suite_add_tcase(s, t);
	return tap_run(s);
}

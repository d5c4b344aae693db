/* The capture source: against the golden table of the recorded sessions, and on a small file made here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim/source_stats.h"
#include "tap.h"

#ifndef SRCDIR
#define SRCDIR "."
#endif

static void *config_of(const struct source_ops *ops, const char *path, const char *layers)
{
	struct ikv_err err;
	void *config = calloc(1, ops->config_bytes);
	ikv_option_defaults(ops->options, config);
	ck_assert_int_eq(ikv_option_set(ops->options, config, "path", path, &err), 0);
	ck_assert_int_eq(ikv_option_set(ops->options, config, "layers", layers, &err), 0);
	return config;
}

static const struct {
	const char *file;
	uint32_t layer; /* of the three recorded */
	double mass[3][3];
} golden[] = {
    {"tau-bench", 0, {{.9025, .8663, .8380}, {.9393, .9167, .9057}, {.9738, .9654, .9626}}},
    {"tau-bench", 1, {{.8720, .8162, .7871}, {.9288, .8915, .8696}, {.9759, .9597, .9477}}},
    {"tau-bench", 2, {{.8073, .7478, .7212}, {.8833, .8367, .8118}, {.9542, .9258, .9064}}},
    {"swe-agent", 0, {{.9183, .8913, .8790}, {.9493, .9297, .9244}, {.9803, .9712, .9697}}},
    {"swe-agent", 1, {{.9052, .8735, .8627}, {.9450, .9236, .9174}, {.9792, .9682, .9653}}},
    {"swe-agent", 2, {{.8687, .8224, .8026}, {.9251, .8919, .8755}, {.9724, .9552, .9448}}},
};

static const char *shared_folder(void)
{
	const char *env = getenv("INTENTKV_SHARED");
	return env ? env : SRCDIR "/../shared";
}

START_TEST(recorded_sessions_give_the_golden_table)
{
	const struct source_ops *ops = source_find("capture");
	struct source_setup setup = {.geometry = {.page_tokens = 16}, .sequences = 1};
	struct session_list list = {0};
	struct source_stats stats;
	struct source *source;
	struct ikv_err err = {0};
	char path[IKV_OPT_STRING_BYTES];
	snprintf(path, sizeof path, "%s/captures/%s-session.safetensors", shared_folder(), golden[_i].file);
	void *config = config_of(ops, path, "3,5,7");
	ck_assert_msg(!ops->open(&source, config, &setup, &err), "%s", err.text);
	ck_assert_uint_eq(setup.layer_count, 3);
	ck_assert_uint_eq(setup.layer_numbers[golden[_i].layer], 3 + 2 * golden[_i].layer);
	ck_assert_uint_eq(setup.geometry.q_heads, 8);
	ck_assert_float_eq(setup.geometry.scale, 0.125f);
	ck_assert_msg(!ops->sessions(source, &list, &err), "%s", err.text);
	int rc = source_stats_measure(source, &setup, list.items, golden[_i].layer, 0, false, &stats, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_uint_eq(stats.steps, 512);
	for (int f = 0; f < 3; f++)
		for (int s = 0; s < SOURCE_STATS_SHARES; s++)
			ck_assert_double_le(fabs(stats.recall[s][f + 1] - golden[_i].mass[f][s]), .001);
	ops->close(source);
	session_list_free(&list);
	free(config);
}
END_TEST

#define TOKENS 40
static char small[256];

/* Layer 2 of 40 tokens, 1 KV head, 2 query heads, d 4; queries at 20, 21, 30; k is 0 but for token 5, channel 0. */
static void write_small(const char *blocks, const char *positions_type)
{
	static const int32_t positions[3] = {20, 21, 30};
	static float k[TOKENS][4], v[TOKENS][4], q[3][2][4];
	char header[2000];
	memset(k, 0, sizeof k);
	k[5][0] = 8;
	for (int t = 0; t < TOKENS; t++)
		v[t][1] = (float)t;
	for (int i = 0; i < 3; i++)
		q[i][1][0] = (float)(i + 1);
	int n = snprintf(header, sizeof header,
			 "{\"__metadata__\":{\"blocks\":\"%s\",\"scale\":\"0.25\"},"
			 "\"query_positions\":{\"dtype\":\"%s\",\"shape\":[3],\"data_offsets\":[0,12]},"
			 "\"layer.2.k\":{\"dtype\":\"F32\",\"shape\":[40,1,4],\"data_offsets\":[12,652]},"
			 "\"layer.2.v\":{\"dtype\":\"F32\",\"shape\":[40,1,4],\"data_offsets\":[652,1292]},"
			 "\"layer.2.q\":{\"dtype\":\"F32\",\"shape\":[3,2,4],\"data_offsets\":[1292,1388]}}",
			 blocks, positions_type);
	uint64_t size = (uint64_t)n;
	strcpy(small, "capture-test-XXXXXX");
	FILE *f = fdopen(mkstemp(small), "wb");
	ck_assert_ptr_nonnull(f);
	fwrite(&size, 8, 1, f);
	fwrite(header, 1, size, f);
	fwrite(positions, sizeof positions, 1, f);
	fwrite(k, sizeof k, 1, f);
	fwrite(v, sizeof v, 1, f);
	fwrite(q, sizeof q, 1, f);
	ck_assert_int_eq(fclose(f), 0);
}

#define BLOCK(name, kind, start, end)                                                                                \
	"{\\\"name\\\":\\\"" name "\\\",\\\"kind\\\":\\\"" kind "\\\",\\\"start\\\":" #start ",\\\"end\\\":" #end "}"

START_TEST(a_session_follows_blocks_and_queries)
{
	static const struct {
		enum session_op op;
		bool unowned;
		enum ikv_kind kind;
		uint32_t tokens;
		const char *name;
	} want[] = {
	    {SESSION_APPEND, true, IKV_KIND_OTHER, 1, NULL},
	    {SESSION_APPEND, false, IKV_KIND_SYSTEM, 9, "s"},
	    {SESSION_APPEND, true, IKV_KIND_OTHER, 2, NULL},
	    {SESSION_APPEND, false, IKV_KIND_USER, 8, "u"},
	    {SESSION_DECODE, false, IKV_KIND_USER, 1, "u@20"},
	    {SESSION_DECODE, false, IKV_KIND_TOOL_CALL, 1, "c"},
	    {SESSION_APPEND, false, IKV_KIND_TOOL_CALL, 8, "c@22"},
	    {SESSION_DECODE, false, IKV_KIND_TOOL_CALL, 1, "c@30"},
	};
	const struct source_ops *ops = source_find("capture");
	struct source_setup setup = {.geometry = {.page_tokens = 16}, .sequences = 1};
	struct session_list list = {0};
	struct source *source;
	struct ikv_err err = {0};
	write_small(
	    "[" BLOCK("s", "system", 1, 10) "," BLOCK("u", "user", 12, 21) "," BLOCK("c", "tool_call", 21, 40) "]",
	    "I32");
	void *config = config_of(ops, small, "");
	ck_assert_msg(!ops->open(&source, config, &setup, &err), "%s", err.text);
	unlink(small);
	ck_assert_uint_eq(setup.geometry.layers, 1);
	ck_assert_uint_eq(setup.layer_numbers[0], 2);
	ck_assert_float_eq(setup.geometry.scale, 0.25f);
	ck_assert_int_eq(ops->sessions(source, &list, &err), 0);
	ck_assert_uint_eq(list.items[0].event_count, sizeof want / sizeof *want);
	for (uint32_t i = 0; i < list.items[0].event_count; i++) {
		const struct session_event *e = &list.items[0].events[i];
		ck_assert_int_eq(e->op, want[i].op);
		ck_assert_int_eq(e->unowned, want[i].unowned);
		ck_assert_int_eq(e->kind, want[i].kind);
		ck_assert_uint_eq(e->tokens, want[i].tokens);
		if (want[i].name)
			ck_assert_str_eq(e->name, want[i].name);
		else
			ck_assert_ptr_null(e->name);
	}
	/* At token 20 with 21 tokens: head 1 has a logit of 2 on token 5, the rest 0; head 0 is uniform. */
	struct ikv_block block = {.name = "s", .start = 1, .end = 10};
	struct ikv_layout layout = {.blocks = &block, .count = 1, .total_tokens = 21, .page_tokens = 16};
	float mass[3], q[8];
	double score;
	uint16_t k[4], v[4];
	ck_assert_int_eq(ops->begin(source, 0, list.items, 0, &err), 0);
	ck_assert_int_eq(ops->extend(source, 0, &layout, 0, &err), 0);
	ck_assert_int_eq(ops->kv(source, 0, 0, 5, 1, k, v, &err), 0);
	ck_assert_uint_eq(k[0], 0x4800);
	ck_assert_uint_eq(v[1], 0x4500);
	ck_assert_int_eq(ops->kv(source, 0, 0, 20, 2, k, v, &err), -1);
	ck_assert_int_eq(ops->query(source, 0, 0, q, &err), 0);
	ck_assert_float_eq(q[4], 1);
	ck_assert_int_eq(ops->model_mass(source, 0, 0, 1, 1, 16, mass, &err), 0);
	ck_assert_double_le(fabs((double)mass[0] - (15 + exp(2)) / (20 + exp(2))), 1e-6);
	ck_assert_double_le(fabs((double)mass[1] - 5 / (20 + exp(2))), 1e-6);
	ck_assert_int_eq(ops->model_scores(source, 0, &layout, &score, &err), 0);
	ck_assert_double_eq(score, 1);
	ck_assert_int_eq(ops->truncate(source, 0, 20, &err), 0);
	ck_assert_int_eq(ops->query(source, 0, 0, q, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "no query is recorded at token 19"));
	ops->close(source);
	session_list_free(&list);
	free(config);
}
END_TEST

static const struct {
	const char *blocks, *type, *layers, *message;
} bad[] = {
    {"[]", "F32", "", "expected an integer type"},
    {"[]", "I32", "4", "layer.4.k: no such tensor"},
    {"[]", "I32", "2,", "layers: got"},
    {"[]", "I32", "2,2", "ascending"},
    {"{}", "I32", "", "array"},
    {"[1]", "I32", "", "name and kind"},
    {"[", "I32", "", "blocks, line 1"},
    {"[" BLOCK("a", "user", 0, 41) "]", "I32", "", "range of tokens"},
    {"[" BLOCK("a", "user", 5, 5) "]", "I32", "", "range of tokens"},
    {"[" BLOCK("a", "user", 0, 5) "," BLOCK("b", "user", 4, 6) "]", "I32", "", "range of tokens"},
    {"[" BLOCK("a", "usr", 0, 5) "]", "I32", "", "unknown kind"},
};

START_TEST(bad_files_are_refused)
{
	const struct source_ops *ops = source_find("capture");
	struct source_setup setup = {.geometry = {.layers = 7, .page_tokens = 16}, .sequences = 1};
	struct source *source = NULL;
	struct ikv_err err = {0};
	write_small(bad[_i].blocks, bad[_i].type);
	void *config = config_of(ops, small, bad[_i].layers);
	int rc = ops->open(&source, config, &setup, &err);
	unlink(small);
	ck_assert_int_eq(rc, -1);
	ck_assert_msg(strstr(err.text, bad[_i].message) != NULL, "%s", err.text);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_uint_eq(setup.geometry.layers, 7);
	free(config);
}
END_TEST

int main(void)
{
	char path[IKV_OPT_STRING_BYTES];
	Suite *s = suite_create("capture");
	TCase *t = tcase_create("capture");
	snprintf(path, sizeof path, "%s/captures/tau-bench-session.safetensors", shared_folder());
	tcase_set_timeout(t, 120);
	if (!access(path, R_OK))
		tcase_add_loop_test(t, recorded_sessions_give_the_golden_table, 0, sizeof golden / sizeof *golden);
	else
		printf("# skip: the recorded sessions are not at %s (INTENTKV_SHARED)\n", path);
	tcase_add_test(t, a_session_follows_blocks_and_queries);
	tcase_add_loop_test(t, bad_files_are_refused, 0, sizeof bad / sizeof *bad);
	suite_add_tcase(s, t);
	return tap_run(s);
}

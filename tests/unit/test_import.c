#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sim/trace/trace.h"
#include "tap.h"

static struct ikv_err err;

static const char *shared(const char *file)
{
	static char path[600];
	const char *root = getenv("INTENTKV_SHARED"), *src = getenv("srcdir");
	struct stat st;
	if (root)
		snprintf(path, sizeof path, "%s/traces/%s", root, file);
	else
		snprintf(path, sizeof path, "%s/../shared/traces/%s", src ? src : ".", file);
	if (!stat(path, &st))
		return path;
	fprintf(stderr, "# SKIP %s: not there\n", path);
	return NULL;
}

static int import_text(const char *format, const char *text, bool skip_bad, struct session_list *out)
{
	char path[] = "/tmp/ikv-import-XXXXXX";
	struct session_options opts = {.skip_bad = skip_bad};
	FILE *f = fdopen(mkstemp(path), "w");
	fputs(text, f);
	fclose(f);
	int rc = session_import(path, format, &opts, out, &err);
	unlink(path);
	return rc;
}

static void refused(const char *format, const char *text, const char *expected)
{
	struct session_list l;
	ck_assert_msg(import_text(format, text, false, &l) == -1, "accepted: %s", text);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_msg(strstr(err.text, expected) != NULL, "\"%s\" does not say \"%s\"", err.text, expected);
}

#define M1 "{\"timestamp\":0,\"input_length\":1300,\"output_length\":10,\"hash_ids\":[1,2,3]}\n"
#define M2 "{\"timestamp\":5,\"input_length\":2000,\"output_length\":10,\"hash_ids\":[1,2,4,5]}\n"

START_TEST(mooncake_continues_a_session)
{
	struct session_list l;
	ck_assert_msg(import_text("auto", M1 M2, false, &l) == 0, "%s", err.text);
	ck_assert_str_eq(l.facts.format, "mooncake");
	ck_assert_uint_eq(l.count, 1);
	const struct session *s = &l.items[0];
	ck_assert_uint_eq(s->event_count, 5);
	ck_assert(s->events[2].op == SESSION_WAIT && s->events[2].wait_ms == 5);
	ck_assert(s->events[3].op == SESSION_APPEND && s->events[3].tokens == 690 && s->events[3].hash_count == 2);
	ck_assert_uint_eq(l.facts.prefix_hits, 2);
	session_list_free(&l);
}
END_TEST

/* Lines, or a list of the same objects, indented or not; blank lines, a byte order mark and CRLF do not matter. */
START_TEST(lines_may_be_a_list)
{
	static const char *const forms[] = {"\xef\xbb\xbf\r\n" M1 "\r\n" M2, "[" M1 "," M2 "]", "[\n {\n  \"timestamp\": 0, \"input_length\": 1300,\n"
		"  \"output_length\": 10,\n  \"hash_ids\": [1,2,3]\n },\n" M2 "]\n"};
	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct session_list l;
		ck_assert_msg(import_text("auto", forms[i], false, &l) == 0, "%s", err.text);
		ck_assert_str_eq(l.facts.format, "mooncake");
		ck_assert_uint_eq(l.facts.requests, 2);
		ck_assert_uint_eq(l.facts.prefix_hits, 2);
		session_list_free(&l);
	}
	refused("mooncake", "[\n" M2 "," M1 "]", ":3: timestamp: time runs backwards");
	refused("mooncake", "[\n" M1, ":2: the file ends inside its list: it is truncated");
}
END_TEST

START_TEST(mooncake_errors_have_places)
{
	struct session_list l;
	refused("mooncake", M2 M1, ":2: timestamp: time runs backwards");
	refused("mooncake", M1 "{\"timestamp\":1,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1,2]}\n",
		":2: hash_ids: 2 ids for an input of 1 tokens, expected 1");
	refused("mooncake", M1 "{\"timestamp\":1,\"input_le", ":2: truncated last line");
	refused("mooncake", "{\"timestamp\":0,\"input_length\":-1,\"output_length\":1,\"hash_ids\":[]}\n",
		":1: input_length: found the number -1");
	refused("mooncake", "{\"timestamp\":\"x\",\"input_length\":1,\"output_length\":1,\"hash_ids\":[1]}\n",
		":1: timestamp: found the string \"x\"");
	refused("mooncake",
		"{\"timestamp\":0,\"input_length\":1,\"output_length\":1,\"hash_ids\":[1],\"x\":\"\xff\"}\n", ":1:");
	refused("auto", "hello\n", "known formats: intentkv, mooncake, weka, openai-chat");
	ck_assert_int_eq(import_text("mooncake", M1 "{broken\n" M2, true, &l), 0);
	ck_assert(l.facts.skipped == 1 && l.facts.records == 2);
	session_list_free(&l);
}
END_TEST

START_TEST(depth_is_bounded)
{
	char text[512] = "{\"a\":";
	for (int i = 0; i < 80; i++)
		strcat(text, "[");
	for (int i = 0; i < 80; i++)
		strcat(text, "]");
	strcat(text, "}\n");
	refused("intentkv", text, "more than 64 levels");
}
END_TEST

START_TEST(large_ids_survive)
{
	struct session_list l;
	const char *text = "{\"timestamp\":0,\"input_length\":600,\"output_length\":0,"
			   "\"hash_ids\":[\"u64:18446744073709551615\",\"9223372036854775808\"]}\n";
	ck_assert_msg(import_text("mooncake", text, false, &l) == 0, "%s", err.text);
	ck_assert(l.items[0].hashes[0] == UINT64_MAX && l.items[0].hashes[1] == (uint64_t)1 << 63);
	session_list_free(&l);
	refused("mooncake",
		"{\"timestamp\":0,\"input_length\":1,\"output_length\":0,\"hash_ids\":[\"18446744073709551616\"]}\n",
		"expected a whole number from 0 to 2^64 - 1");
}
END_TEST

#define W_HEAD                                                                                                       \
	"{\"id\":\"w\",\"block_size\":4,\"hash_id_scope\":\"local\",\"tool_tokens\":3,\"system_tokens\":2,"          \
	"\"requests\":["
#define W_SUB                                                                                                        \
	"{\"t\":2,\"type\":\"subagent\",\"agent_id\":\"a1\",\"requests\":[{\"t\":0,\"type\":\"n\",\"in\":8,\"out\":" \
	"1,"                                                                                                         \
	"\"hash_ids\":[1,2]}]}"

START_TEST(weka_shrinks_and_has_subagents)
{
	struct session_list l;
	ck_assert_msg(import_text("auto",
				  W_HEAD
				  "{\"t\":0,\"type\":\"n\",\"in\":21,\"out\":3,\"hash_ids\":[1,2,3,4,5]}," W_SUB
				  ",{\"t\":9,\"type\":\"n\",\"in\":14,\"out\":3,\"hash_ids\":[1,2,7],"
				  "\"input_types\":[\"tool_result\"],\"output_types\":[\"tool_use\"]}]}",
				  false, &l) == 0,
		      "%s", err.text);
	ck_assert_uint_eq(l.count, 2);
	const struct session *s = &l.items[0];
	ck_assert_str_eq(l.items[1].id, "w/a1");
	ck_assert(l.items[1].arrival_ms == 2000);
	ck_assert(s->events[0].kind == IKV_KIND_TOOLS && s->events[0].tokens == 3);
	ck_assert(s->events[1].kind == IKV_KIND_SYSTEM && s->events[1].tokens == 2);
	ck_assert(s->events[4].op == SESSION_WAIT && s->events[4].wait_ms == 9000);
	ck_assert(s->events[5].op == SESSION_COMPACT && s->events[5].tokens == 8);
	ck_assert(s->events[6].op == SESSION_APPEND && s->events[6].tokens == 6);
	ck_assert(s->events[7].op == SESSION_DECODE && s->events[7].kind == IKV_KIND_TOOL_CALL);
	uint64_t same, total;
	ck_assert_int_eq(session_overlap(s, &same, &total, &err), 0);
	ck_assert(same == 2 && total == 3);
	session_list_free(&l);
	refused("weka", W_HEAD "{\"t\":0,\"type\":\"n\",\"in\":21,\"out\":3,\"hash_ids\":[1,2,3,4,5,6]}]}",
		"6 ids for an input of 21 tokens, expected 5");
	refused("weka", W_HEAD, "truncated");
}
END_TEST

START_TEST(chat_decodes_the_assistant)
{
	struct session_list l;
	ck_assert_msg(
	    import_text("auto",
			"[{\"messages\":[{\"role\":\"system\",\"content\":\"abcde\"},{\"role\":\"assistant\","
			"\"content\":null,\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
			"{\"role\":\"tool\",\"content\":[{\"type\":\"text\",\"text\":\"\xc3\xa9\"}]}]}]",
			false, &l) == 0,
	    "%s", err.text);
	const struct session *s = &l.items[0];
	ck_assert_str_eq(l.facts.tokens_by, "chars/4");
	ck_assert_uint_eq(s->event_count, 3);
	ck_assert(s->events[0].op == SESSION_APPEND && s->events[0].tokens == 2);
	ck_assert(s->events[1].op == SESSION_DECODE && s->events[1].kind == IKV_KIND_TOOL_CALL);
	ck_assert(s->events[2].kind == IKV_KIND_TOOL_OUTPUT && s->events[2].tokens == 1 && s->events[2].turn == 1);
	session_list_free(&l);
	refused("openai-chat", "{\"messages\":[{\"role\":\"robot\",\"content\":\"x\"}]}",
		"message 0: role is the string \"robot\"");
}
END_TEST

struct inputs {
	uint32_t tokens[4000], count;
};

static int add_input(void *ctx, const struct trace_request *r, struct ikv_err *e)
{
	struct inputs *in = ctx;
	(void)e;
	in->tokens[in->count++] = r->input;
	return in->count == 4000;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

START_TEST(published_mooncake)
{
	struct session_list l;
	const char *path = shared("mooncake/synthetic_trace.jsonl");
	if (!path)
		return;
	ck_assert_msg(session_import(path, "auto", NULL, &l, &err) == 0, "%s", err.text);
	ck_assert(l.facts.requests == 3993 && l.facts.block_refs == 121877 && l.facts.unique_blocks == 43924 &&
		  l.facts.prefix_hits == 77953);
	ck_assert(l.facts.input_tokens / l.facts.requests == 15325 &&
		  l.facts.output_tokens / l.facts.requests == 149);
	struct inputs in = {0};
	for (uint32_t i = 0; i < l.count; i++)
		ck_assert_int_eq(session_requests(&l.items[i], add_input, &in, &err), 0);
	qsort(in.tokens, in.count, sizeof *in.tokens, ascending);
	ck_assert(in.count == 3993 && in.tokens[(3993 + 1) / 2 - 1] == 11587);
	ck_assert(in.tokens[(3993 * 99 + 99) / 100 - 1] == 66458);
	session_list_free(&l);
}
END_TEST

START_TEST(published_weka)
{
	struct session_list l;
	struct overlap_summary o;
	const char *path = shared("weka");
	if (!path)
		return;
	ck_assert_msg(session_import(path, "auto", NULL, &l, &err) == 0, "%s", err.text);
	struct overlap_tally tally = {0};
	for (uint32_t i = 0; i < l.count; i++)
		ck_assert_int_eq(overlap_add(&tally, &l.items[i], &err), 0);
	ck_assert_int_eq(overlap_finish(&tally, &o, &err), 0);
	ck_assert_uint_eq(o.sessions, 30);
	ck_assert(fabs(o.min - 86.20) < .01 && fabs(o.p25 - 94.31) < .01 && fabs(o.median - 95.83) < .01);
	ck_assert(fabs(o.p75 - 97.85) < .01 && fabs(o.mean - 95.60) < .01);
	session_list_free(&l);
}
END_TEST

START_TEST(published_tau_bench)
{
	struct session_list l;
	static const double expected[] = {.41860, .25969, .20349, .18605};
	const char *path = shared("tau-bench/gpt-4o-airline.dev.json");
	if (!path)
		return;
	ck_assert_msg(session_import(path, "auto", NULL, &l, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(l.count, 172);
	for (uint32_t k = 1; k <= 4; k++) {
		double p;
		ck_assert_int_eq(session_pass_k(&l, k, &p, &err), 0);
		ck_assert_double_eq_tol(p, expected[k - 1], 5e-6);
	}
	session_list_free(&l);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("import");
	TCase *t = tcase_create("import");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, mooncake_continues_a_session);
	tcase_add_test(t, lines_may_be_a_list);
	tcase_add_test(t, mooncake_errors_have_places);
	tcase_add_test(t, depth_is_bounded);
	tcase_add_test(t, large_ids_survive);
	tcase_add_test(t, weka_shrinks_and_has_subagents);
	tcase_add_test(t, chat_decodes_the_assistant);
	tcase_add_test(t, published_mooncake);
	tcase_add_test(t, published_weka);
	tcase_add_test(t, published_tau_bench);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

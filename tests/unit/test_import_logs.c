/* Importers of request logs, packed files, and what lint finds in them. */
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include "sim/trace/timestamp.h"
#include "tap.h"
#include "unit/trace_text.h"

static struct ikv_err err;

static struct session_list read_text(const char *format, const char *text)
{
	struct session_list l;
	int rc = import_bytes("auto", text, strlen(text), NULL, &l, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_str_eq(l.facts.format, format);
	ck_assert(l.facts.detected);
	return l;
}

static void refused(const char *format, const char *text, const char *expected)
{
	struct session_list l;
	ck_assert_msg(import_bytes(format, text, strlen(text), NULL, &l, &err) == -1, "accepted: %s", text);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_msg(strstr(err.text, expected) != NULL, "\"%s\" does not say \"%s\"", err.text, expected);
}

/* Is event number i of s this one? */
static bool is(const struct session *s, uint32_t i, enum session_op op, enum ikv_kind kind, uint32_t tokens)
{
	return i < s->event_count && s->events[i].op == op &&
	       (op == SESSION_WAIT ||
		(s->events[i].tokens == tokens && (op == SESSION_COMPACT || s->events[i].kind == kind)));
}

START_TEST(times)
{
	int64_t ns, other;
	ck_assert(timestamp_read("1970-01-01 00:00:00", &ns) && ns == 0);
	ck_assert(timestamp_read("2023-11-16 18:15:46.6805900", &ns) && ns == 1700158546680590000);
	ck_assert(timestamp_read("2024-02-29T12:00:00.5+02:00", &ns) && ns == 1709200800500000000);
	ck_assert(timestamp_read("2024-02-29T10:00:00.5Z", &other) && other == ns);
	ck_assert(timestamp_read("2024-05-10 00:00:00.009930+00:00", &ns) && ns == 1715299200009930000);
	static const char *const bad[] = {"",
					  "2023-02-29 00:00:00",
					  "2023-13-01 00:00:00",
					  "2023-01-01",
					  "12:00:00",
					  "2023-01-01 24:00:00",
					  "2023-01-01 00:00:00.",
					  "2023-01-01 00:00:00x",
					  "1969-12-31 23:59:59",
					  "2023-01-01 00:00:00+25:00"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!timestamp_read(bad[i], &ns), "\"%s\"", bad[i]);
}
END_TEST

START_TEST(azure)
{
	struct session_list l = read_text("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
						   "2023-11-16 18:15:46.5,374,44\r\n2023-11-16 18:15:47.0,396,0\r\n");
	ck_assert(l.count == 2 && l.items[1].arrival_ms == 500 && l.items[1].event_count == 1);
	ck_assert(is(&l.items[0], 0, SESSION_APPEND, IKV_KIND_USER, 374));
	ck_assert(is(&l.items[0], 1, SESSION_DECODE, IKV_KIND_ASSISTANT, 44));
	ck_assert(l.facts.requests == 2 && l.facts.input_tokens == 770 && l.facts.output_tokens == 44);
	session_list_free(&l);
	refused("azure", "TIMESTAMP,GeneratedTokens\n", "ContextTokens: the column is missing");
	refused("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1x,1\n",
		":2: ContextTokens: found");
	refused("azure",
		"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:45,1,1\n",
		":3: TIMESTAMP: time runs backwards");
	refused("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1", ":2: truncated last line");
	refused("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n\"2023",
		":2: the file ends inside a quoted field");
}
END_TEST

START_TEST(burstgpt_maps_by_header)
{
	struct session_list l =
	    read_text("burstgpt", "Model,Response tokens,Request tokens,Session ID,Timestamp,Log Type\n"
				  "G,18,472,\"a,b\",5,x\nG,230,1087,,45,x\nG,6,600,\"a,b\",118,x\n"
				  "G,0,0,,119,x\nG,2,100,\"a,b\",120,x\n");
	ck_assert(l.count == 2 && l.facts.warnings == 1 && l.facts.requests == 4);
	const struct session *s = &l.items[0];
	ck_assert(is(s, 3, SESSION_APPEND, IKV_KIND_USER, 600 - 490) && s->events[2].wait_ms == 113000);
	ck_assert(is(s, 6, SESSION_COMPACT, 0, 0) && is(s, 7, SESSION_APPEND, IKV_KIND_USER, 100));
	session_list_free(&l);
	refused("burstgpt", "Timestamp,Request tokens,Response tokens,Total tokens\n1,2,3,6\n",
		":2: Total tokens: 6 tokens in all, but 2 + 3");
}
END_TEST

#define Q1                                                                                                           \
	"{\"chat_id\":1,\"parent_chat_id\":-1,\"timestamp\":1.5,\"input_length\":40,\"output_length\":8,\"hash_"     \
	"ids\":[1,2,3]}\n"
#define Q2                                                                                                           \
	"{\"chat_id\":2,\"parent_chat_id\":1,\"timestamp\":9.5,\"type\":\"search\",\"input_length\":70,\"output_"    \
	"length\":8,\"hash_ids\":[1,2,4,5]}\n"
#define Q3                                                                                                           \
	"{\"chat_id\":3,\"parent_chat_id\":1,\"timestamp\":9.5,\"input_length\":70,\"output_length\":8,\"hash_"      \
	"ids\":[1,2,4,5,6]}\n"

START_TEST(bailian_follows_parents)
{
	struct session_list l = read_text("qwen-bailian", Q1 Q2 Q3);
	ck_assert_uint_eq(l.count, 2);
	ck_assert(is(&l.items[0], 3, SESSION_APPEND, IKV_KIND_RETRIEVED, 22) && l.items[0].events[3].hash_count == 2);
	ck_assert(l.items[1].arrival_ms == 8000 && l.items[1].hash_count == 5);
	ck_assert(l.facts.block_refs == 12 && l.facts.unique_blocks == 6);
	session_list_free(&l);
	refused("qwen-bailian", Q1 Q1, "chat_id: two requests with the id 1");
	refused("qwen-bailian", Q2 Q1, "timestamp: time runs backwards");
}
END_TEST

#define A1                                                                                                           \
	"{\"session_id\":\"s\",\"input_length\":1536,\"output_length\":3200,\"hash_ids\":[0,1,2],\"timestamp\":7,"   \
	"\"group_id\":4}\n"
#define A2 "{\"session_id\":\"s\",\"input_length\":100,\"output_length\":20,\"hash_ids\":[7],\"delay\":1200}\n"

/* The requests of a session, as its events tell them. */
static int keep_request(void *ctx, const struct trace_request *r, struct ikv_err *e)
{
	struct trace_request *newest = ctx;
	(void)e;
	*newest = *r;
	ck_assert(r->count >= 3 && r->ids[0] == 0 && r->ids[2] == 2 && (r->count < 4 || r->ids[3] == 7));
	return 0;
}

START_TEST(aiperf_rows_are_increments)
{
	struct session_list l = read_text("aiperf", A1 A2 A2);
	struct trace_request newest;
	const struct session *s = &l.items[0];
	ck_assert(l.count == 1 && is(s, 3, SESSION_APPEND, IKV_KIND_TOOL_OUTPUT, 100) &&
		  s->events[2].wait_ms == 1200);
	ck_assert(l.facts.input_tokens == 1536 + (1536 + 3200 + 100) + (1536 + 3200 + 100 + 20 + 100));
	/* Of the 4,736 tokens before the second append, 3,200 were decoded and have no ids. */
	ck_assert_int_eq(session_requests(s, keep_request, &newest, &err), 0);
	ck_assert(newest.count == 5 && newest.input == 4956);
	session_list_free(&l);
	refused("aiperf", A1 A1, "hash_ids: the ids begin with the session's first id again");
	refused("aiperf", "{\"session_id\":\"s\",\"input_length\":1536,\"output_length\":3,\"hash_ids\":[0,1]}\n",
		"2 ids for 1536 new tokens, expected 3");
}
END_TEST

START_TEST(tracelab_keeps_prefixes)
{
	struct session_list l = read_text(
	    "tracelab",
	    "{\"session_id\":\"c\",\"round_index\":0,\"input_tokens_total\":1000,\"prefix_tokens\":0,\"newly_append_"
	    "tokens\":1000,"
	    "\"output_tokens\":50,\"timing_events\":[{\"event_type\":\"user_message\",\"timestamp\":\"2026-08-25T00:"
	    "00:01Z\"},"
	    "{\"event_type\":\"text\",\"timestamp\":\"2026-08-25T00:00:03Z\"}],\"tools\":[{\"input_chars\":80}]}\n"
	    "{\"session_id\":\"c\",\"round_index\":1,\"input_tokens_total\":1300,\"prefix_tokens\":0,\"newly_append_"
	    "tokens\":1300,"
	    "\"output_tokens\":5,\"timing_events\":[{\"event_type\":\"tool_result\",\"timestamp\":\"2026-08-25T00:00:"
	    "04Z\"}]}\n"
	    "{\"session_id\":\"c\",\"round_index\":2,\"input_tokens_total\":900,\"prefix_tokens\":600,\"newly_append_"
	    "tokens\":300,"
	    "\"output_tokens\":5}\n");
	const struct session *s = &l.items[0];
	ck_assert(is(s, 1, SESSION_DECODE, IKV_KIND_ASSISTANT, 30) &&
		  is(s, 2, SESSION_DECODE, IKV_KIND_TOOL_CALL, 20));
	ck_assert(s->events[3].op == SESSION_WAIT && s->events[3].wait_ms == 1000);
	ck_assert(is(s, 4, SESSION_APPEND, IKV_KIND_TOOL_OUTPUT, 250));
	ck_assert(is(s, 6, SESSION_COMPACT, 0, 600) && is(s, 7, SESSION_APPEND, IKV_KIND_USER, 300));
	session_list_free(&l);
}
END_TEST

#define V1                                                                                                           \
	"{\"ts\":10,\"events\":[{\"type\":\"BlockStored\",\"block_hashes\":[11,12,13],\"parent_block_hash\":null,"   \
	"\"token_ids\":[1,2,3,4,5,6],\"block_size\":2}]}\n"
#define V2                                                                                                           \
	"{\"ts\":11,\"events\":[[\"BlockStored\",[18446744073709551615],13,[1,2],2,null,\"GPU\"],[\"BlockStored\",[" \
	"21,\"abc\"],12,[1,2,3,4],2]]}\n"

START_TEST(vllm_paths_are_sessions)
{
	struct session_list l = read_text("vllm-kv-events", V1 V2);
	ck_assert(l.count == 2 && l.facts.warnings == 0);
	ck_assert(is(&l.items[0], 1, SESSION_DECODE, IKV_KIND_ASSISTANT, 2));
	ck_assert(l.items[1].hash_count == 4 && l.items[1].hashes[1] == 12 && l.items[1].hashes[2] == 21);
	session_list_free(&l);
	l = read_text("vllm-kv-events", V1 V1);
	ck_assert_uint_eq(l.facts.warnings, 3); /* stored twice */
	session_list_free(&l);
	l = read_text("vllm-kv-events",
		      V1 "{\"ts\":12,\"events\":[[\"AllBlocksCleared\"],[\"BlockRemoved\",[11]]]}\n");
	ck_assert_uint_eq(l.facts.warnings, 1); /* dropped and not there */
	session_list_free(&l);
}
END_TEST

START_TEST(vllm_as_msgpack)
{
	static const unsigned char batch[] = {
	    0x92, 0xcb, 0x40, 0x24, 0,    0,    0,    0,    0,    0,    0x91, /* [10.0, [ */
	    0x96, 0xab, 'B',  'l',  'o',  'c',  'k',  'S',  't',  'o',  'r',  'e', 'd', 0x92, 0xcf, 0xff, 0xff, 0xff,
	    0xff, 0xff, 0xff, 0xff, 0xff, 0xc4, 0x02, 0xab, 0xcd, 0xc0, 0x94, 1,   2,   3,    4,    0x02, 0xc0};
	struct session_list l;
	ck_assert_msg(import_bytes("auto", batch, sizeof batch, NULL, &l, &err) == 0, "%s", err.text);
	ck_assert(l.items[0].hash_count == 2 && l.items[0].hashes[0] == UINT64_MAX &&
		  is(&l.items[0], 0, SESSION_APPEND, IKV_KIND_USER, 4));
	session_list_free(&l);
	for (size_t cut = 1; cut < sizeof batch; cut++) {
		ck_assert_int_eq(import_bytes("vllm-kv-events", batch, cut, NULL, &l, &err), -1);
		ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	}
}
END_TEST

START_TEST(packed_files)
{
	static unsigned char packed[4096];
	struct session_list l;
	z_stream z = {0};
	ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	/* Two members, as `cat a.gz b.gz` makes them. */
	size_t size = 0;
	const char *const parts[] = {Q1, Q2};
	for (int i = 0; i < 2; i++) {
		z.next_in = (unsigned char *)parts[i];
		z.avail_in = (unsigned)strlen(parts[i]);
		z.next_out = packed + size;
		z.avail_out = (unsigned)(sizeof packed - size);
		ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
		size = sizeof packed - z.avail_out;
		deflateReset(&z);
	}
	deflateEnd(&z);
	ck_assert_msg(import_bytes("auto", packed, size, NULL, &l, &err) == 0, "%s", err.text);
	ck_assert(l.facts.requests == 2 && l.count == 1);
	session_list_free(&l);
	ck_assert_int_eq(import_bytes("qwen-bailian", packed, size - 3, NULL, &l, &err), -1);
	ck_assert_msg(strstr(err.text, "truncated") != NULL, "%s", err.text);
	packed[size - 6] ^= 0x55; /* in the checksum */
	ck_assert_int_eq(import_bytes("qwen-bailian", packed, size, NULL, &l, &err), -1);

	size = ZSTD_compress(packed, sizeof packed, Q1 Q2, strlen(Q1 Q2), 3);
	ck_assert(!ZSTD_isError(size));
	ck_assert_msg(import_bytes("auto", packed, size, NULL, &l, &err) == 0, "%s", err.text);
	ck_assert(l.facts.requests == 2);
	session_list_free(&l);
	ck_assert_int_eq(import_bytes("qwen-bailian", packed, size - 3, NULL, &l, &err), -1);
	ck_assert_msg(strstr(err.text, "truncated") != NULL, "%s", err.text);
}
END_TEST

struct findings {
	uint32_t errors, warnings, check[CHECK_COUNT];
	int line[8];
};

static void note(void *ctx, const struct trace_finding *f)
{
	struct findings *n = ctx;
	uint32_t i = n->errors + n->warnings;
	if (i < 8)
		n->line[i] = f->line;
	*(f->warning ? &n->warnings : &n->errors) += 1;
	n->check[f->check]++;
}

static struct findings lint(const char *format, const char *text)
{
	struct findings n = {0};
	struct session_options opts = {.finding = note, .finding_ctx = &n};
	struct trace_sink sink = {0};
	struct trace_facts facts;
	const char *path = trace_file(text, strlen(text));
	int rc = trace_read(path, format, &opts, &sink, &facts, &err);
	unlink(path);
	ck_assert_msg(rc == 0, "%s", err.text);
	return n;
}

#define M(t, in, ids) "{\"timestamp\":" #t ",\"input_length\":" #in ",\"output_length\":1,\"hash_ids\":[" ids "]}\n"

/* A packed file that ends early: what is there tells the format, and the complaint its line and check. */
START_TEST(lint_of_a_cut_packed_file)
{
	static unsigned char packed[4096];
	struct findings n = {0};
	struct session_options opts = {.finding = note, .finding_ctx = &n};
	struct session_list l;
	z_stream z = {.next_in = (unsigned char *)(uintptr_t)(Q1 Q2), .avail_in = sizeof Q1 Q2 - 1};
	ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_out = packed;
	z.avail_out = sizeof packed;
	ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	size_t size = sizeof packed - z.avail_out;
	deflateEnd(&z);
	ck_assert_int_eq(import_bytes("auto", packed, size - 4, &opts, &l, &err), 0);
	ck_assert_uint_eq(l.facts.requests, 2);
	ck_assert(n.errors == 1 && n.check[CHECK_TRUNCATED] == 1 && n.line[0] == 3);
	session_list_free(&l);
	memset(&n, 0, sizeof n);
	ck_assert_int_eq(import_bytes("auto", packed, 5, &opts, &l, &err), 0); /* not even a start */
	ck_assert(n.errors == 1 && n.check[CHECK_TRUNCATED] == 1);
	session_list_free(&l);
}
END_TEST

START_TEST(lint_goes_on)
{
	struct findings n = lint("mooncake", M(1, 1000, "1,2") M(2, 1000, "1,2,3") "{\n" M(0, 512, "9")
						 M(3, 512, "18446744073709551616") M(4, 1000, "3,3") M(4, 1000, "2,5")
						     M(4, 1000, "2,5") "{\"timestamp\":5");
	ck_assert(n.errors == 5 && n.check[CHECK_ID_COUNT] == 1 && n.check[CHECK_SYNTAX] == 1 &&
		  n.check[CHECK_TIME] == 1 && n.check[CHECK_ID_RANGE] == 1 && n.check[CHECK_TRUNCATED] == 1);
	/* 3 comes twice in one request; 2 stood second before, twice; the last request is the one before again. */
	ck_assert(n.warnings == 4 && n.check[CHECK_DUPLICATE] == 2 && n.check[CHECK_SCOPE] == 2);
	ck_assert(n.line[0] == 2 && n.line[1] == 3 && n.line[2] == 4 && n.line[3] == 5 && n.line[4] == 6);
}
END_TEST

#define W(scope, requests, totals)                                                                                   \
	"{\"id\":\"w\",\"block_size\":4,\"hash_id_scope\":\"" scope "\",\"requests\":[" requests "],\"totals\":"     \
	"{\"parent_tokens\":{\"input\":" totals ",\"output\":2}}}"

#define SAME "{\"t\":0,\"type\":\"n\",\"in\":8,\"out\":1,\"hash_ids\":[1,2]}"

START_TEST(lint_of_a_session)
{
	struct findings n = lint("weka", W("local",
					   "{\"t\":0,\"type\":\"n\",\"in\":8,\"out\":1,\"hash_ids\":[1]},"
					   "{\"t\":-1,\"type\":\"n\",\"in\":8,\"out\":1,\"hash_ids\":[1,2]}",
					   "16"));
	ck_assert(n.errors == 2 && n.check[CHECK_ID_COUNT] == 1 && n.check[CHECK_VALUE] == 1);
	n = lint("weka", W("global",
			   "{\"t\":0,\"type\":\"n\",\"in\":8,\"out\":1,\"hash_ids\":[1,2]},"
			   "{\"t\":1,\"type\":\"n\",\"in\":8,\"out\":1,\"hash_ids\":[2,1]}",
			   "17"));
	ck_assert(n.errors == 0 && n.warnings == 2 && n.check[CHECK_SCOPE] == 1 && n.check[CHECK_CONSISTENCY] == 1);
	/* The same blocks for prompts of different length: no ids of one scope. */
	n = lint("weka",
		 "[{\"id\":\"a\",\"block_size\":4,\"hash_id_scope\":\"global\",\"tool_tokens\":6,\"requests\":[" SAME
		 "]},"
		 "{\"id\":\"b\",\"block_size\":4,\"hash_id_scope\":\"global\",\"tool_tokens\":5,\"requests\":[" SAME
		 "]}]");
	ck_assert(n.errors == 0 && n.warnings == 2 && n.check[CHECK_SCOPE] == 1 && n.check[CHECK_DUPLICATE] == 1);
	n = lint("weka", W("local", "{\"t\":0,\"type\":\"n\",\"in\":0,\"out\":0,\"hash_ids\":[]}", "0"));
	ck_assert(n.errors == 0 && n.check[CHECK_VALUE] == 1); /* left out, and said so */
	n = lint("weka", W("shared", "{}", "0"));
	ck_assert(n.errors == 1 && n.check[CHECK_SCOPE] == 1);
}
END_TEST

#define T(chat, parent, turn)                                                                                        \
	"{\"chat_id\":" #chat ",\"parent_chat_id\":" #parent ",\"timestamp\":1,\"input_length\":16,"         \
	"\"output_length\":1,\"hash_ids\":[" #chat "],\"turn\":" turn "}\n"

START_TEST(lint_of_turns)
{
	struct findings n = lint("qwen-bailian", T(1, -1, "1") T(2, 1, "2") T(3, 2, "4") T(4, 3, "\"x\""));
	ck_assert(n.errors == 0 && n.warnings == 2 && n.check[CHECK_CONSISTENCY] == 1 && n.check[CHECK_VALUE] == 1);
	ck_assert(n.line[0] == 3 && n.line[1] == 4);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("import_logs");
	TCase *t = tcase_create("import_logs");
	tcase_add_test(t, times);
	tcase_add_test(t, azure);
	tcase_add_test(t, burstgpt_maps_by_header);
	tcase_add_test(t, bailian_follows_parents);
	tcase_add_test(t, aiperf_rows_are_increments);
	tcase_add_test(t, tracelab_keeps_prefixes);
	tcase_add_test(t, vllm_paths_are_sessions);
	tcase_add_test(t, vllm_as_msgpack);
	tcase_add_test(t, packed_files);
	tcase_add_test(t, lint_of_a_cut_packed_file);
	tcase_add_test(t, lint_goes_on);
	tcase_add_test(t, lint_of_a_session);
	tcase_add_test(t, lint_of_turns);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

/* Importers of traces that are made of messages. */
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include "tap.h"
#include "unit/trace_text.h"

static struct ikv_err err;

static struct session_list read_text(const char *format, const char *text)
{
	struct session_list l;
	int rc = import_bytes("auto", text, strlen(text), NULL, &l, &err);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_str_eq(l.facts.format, format);
	return l;
}

static void refused(const char *format, const char *text, const char *expected)
{
	struct session_list l;
	ck_assert_msg(import_bytes(format, text, strlen(text), NULL, &l, &err) == -1, "accepted: %s", text);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_msg(strstr(err.text, expected) != NULL, "\"%s\" does not say \"%s\"", err.text, expected);
}

/* The events of a session in short: "system 4, >assistant 8, wait 250, cut 4, user 2 (0.9)". */
static const char *events(const struct session *s)
{
	static char text[2000];
	size_t n = 0;
	*text = '\0';
	for (uint32_t i = 0; i < s->event_count; i++) {
		const struct session_event *e = &s->events[i];
		const char *comma = i ? ", " : "";
		if (e->op == SESSION_WAIT)
			n += (size_t)snprintf(text + n, sizeof text - n, "%swait %g", comma, e->wait_ms);
		else if (e->op == SESSION_COMPACT)
			n += (size_t)snprintf(text + n, sizeof text - n, "%scut %u", comma, e->tokens);
		else
			n += (size_t)snprintf(text + n, sizeof text - n, "%s%s%s %u", comma,
					      e->op == SESSION_DECODE ? ">" : "", ikv_kind_name(e->kind), e->tokens);
		if (e->op != SESSION_WAIT && e->confidence != 1)
			n += (size_t)snprintf(text + n, sizeof text - n, " (%.2g)", (double)e->confidence);
		ck_assert(n < sizeof text);
	}
	return text;
}

static void expect(const char *format, const char *trace, const char *wanted)
{
	struct session_list l = read_text(format, trace);
	ck_assert_uint_eq(l.count, 1);
	ck_assert_str_eq(events(&l.items[0]), wanted);
	session_list_free(&l);
}

#define CHAT(messages)      "{\"messages\":[" messages "]}\n"
#define SAYS(role, content) "{\"role\":\"" role "\",\"content\":" content "}"

START_TEST(chat_parts)
{
	/* Rounded up once for a block: 5 + 4 code points are 3 tokens, not 2 + 1. */
	expect("openai-chat",
	       CHAT(SAYS("user",
			 "[{\"type\":\"text\",\"text\":\"12345\"},{\"type\":\"input_text\",\"text\":\"12ä4\"}]")),
	       "user 3");
	expect("openai-chat",
	       CHAT(SAYS("user", "[{\"type\":\"text\",\"text\":\"12345678\"},{\"type\":\"image_url\",\"image_url\":{"
				 "\"url\":\"u\"}}]")),
	       "user 767");
	/* NUL and halves of surrogate pairs are a code point each, a pair is one; \\u0000 is six characters of text. */
	expect("openai-chat", CHAT(SAYS("user", "\"123\\u00005678\\u0000\"")), "user 3");
	expect("openai-chat", CHAT(SAYS("user", "\"\\ud83d\\ude00\\uD83D\\uDE00\\ud83d\\ud83d\\ude00\"")), "user 1");
	expect("openai-chat", CHAT(SAYS("user", "\"\\ude00\\ud83d\\\\ude00\"")), "user 2");
	expect("openai-chat", CHAT(SAYS("user", "\"\\\\u0000\\ud83d\"")), "user 2");
	/* 6,400 characters of base64 are 4,800 bytes: 100 ms of PCM, three times as much of MP3, 1,200 tokens of
	 * text. */
	char long_text[8000], data[6401];
	memset(data, 'A', 6400);
	data[6400] = '\0';
	static const char *const forms[][2] = {
	    {"{\"type\":\"input_audio\",\"input_audio\":{\"format\":\"wav\",\"data\":\"%s\"}}", "user 1"},
	    {"{\"type\":\"input_audio\",\"input_audio\":{\"format\":\"mp3\",\"data\":\"%s\"}}", "user 3"},
	    {"{\"type\":\"file\",\"file\":{\"file_data\":\"data:text/plain;base64,%s\"}}", "user 1200"}};
	for (size_t i = 0; i < 3; i++) {
		char part[7000];
		snprintf(part, sizeof part, forms[i][0], data);
		snprintf(long_text, sizeof long_text, CHAT(SAYS("user", "[%s]")), part);
		expect("openai-chat", long_text, forms[i][1]);
	}
	struct session_list l = read_text(
	    "openai-chat", CHAT(SAYS("user", "[{\"type\":\"file\",\"file\":{\"file_id\":\"f1\"}},{\"type\":\"text\","
					     "\"text\":\"what is it\"}]")));
	ck_assert(l.facts.warnings == 1 && l.items[0].events[0].tokens == 3);
	session_list_free(&l);
	refused("openai-chat", CHAT(SAYS("user", "[{\"type\":\"smell\"}]")),
		":1: message 0: found a part that is the string \"smell\"");
	refused("openai-chat", CHAT(SAYS("user", "[{\"type\":\"text\",\"text\":5}]")),
		"the text of a part is the number 5");
}
END_TEST

START_TEST(chat_blocks)
{
	expect(
	    "openai-chat",
	    CHAT(SAYS(
		"developer",
		"\"1234\"") ","
			    "{\"role\":\"assistant\",\"reasoning\":\"12345678\",\"content\":\"1234\",\"tool_calls\":["
			    "{\"function\":"
			    "{\"name\":\"ls\",\"arguments\":\"{}\"}},{\"name\":\"abcd\",\"args\":{\"a\":1}}]}," SAYS(
				"tool", "\"12345\"")),
	    "system 1, >reasoning 2, >assistant 1, >tool_call 1, >tool_call 3, tool_output 2");
	/* Anthropic's parts: results stand in messages of the user. */
	expect("openai-chat",
	       CHAT(SAYS("user", "\"1234\"") "," SAYS(
		   "assistant",
		   "[{\"type\":\"thinking\",\"thinking\":\"12345678\"},{\"type\":\"text\",\"text\":\"1\"},{\"type\":"
		   "\"tool_"
		   "use\",\"name\":\"ls\",\"input\":{\"a\":1}}]") "," SAYS("user",
									   "[{\"type\":\"tool_result\",\"content\":[{"
									   "\"type\":\"text\",\"text\":\"1234\"},{"
									   "\"type\":"
									   "\"text\",\"text\":\"5\"}]},{\"type\":"
									   "\"text\",\"text\":\"go on\"}]")),
	       "user 1, >reasoning 2, >assistant 1, >tool_call 3, tool_output 2, user 2");
	expect("openai-chat",
	       CHAT("{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"abcd\","
		    "\"arguments\":\"1234\"}}"),
	       ">tool_call 2");
}
END_TEST

#define H(role, type, content)                                                                                       \
	"{\"role\":\"" role "\",\"message_type\":\"" type "\",\"agent\":\"a\",\"content\":" content "}"
#define OLD(role, content) "{\"role\":\"" role "\",\"agent\":\"a\",\"content\":" content "}"
#define HISTORY(messages)  "{\"history\":[" messages "]}\n"
#define ACT                                                                                                          \
	"{\"role\":\"assistant\",\"agent\":\"a\",\"content\":\"1234\\n```\\nls\\n```\",\"thought\":\"1234\\n\","     \
	"\"action\":\"ls\\n\"}"

START_TEST(swe_roles)
{
	expect("swe-agent",
	       HISTORY(H("system", "system_prompt", "\"1234\"") "," H("user", "demonstration", "\"12345678\"") "," H(
		   "assistant", "demonstration",
		   "\"1234\"") "," H("user", "observation",
				     "\"the issue\"") "," ACT
						      "," H("user", "observation", "\"a b\"") "," ACT "," H(
							  "tool", "observation", "\"c\"") "," H("user", "user",
												"\"why\"")),
	       "system 1, memory 2, memory 1, user 3 (0.9), >reasoning 2, >tool_call 3, tool_output 1 (0.9), "
	       ">reasoning 2, >tool_call 3, tool_output 1, user 1");
	/* Without types, the place has to do. */
	expect(
	    "swe-agent",
	    HISTORY(OLD("system", "\"1234\"") "," OLD("user", "\"x --- DEMONSTRATION --- y\"") "," OLD(
		"user",
		"\"task\"") "," ACT
			    "," OLD(
				"user",
				"[{\"type\":\"text\",\"text\":\"out\",\"cache_control\":{\"type\":\"ephemeral\"}}]")),
	    "system 1, memory 7 (0.9), user 1 (0.9), >reasoning 2, >tool_call 3, tool_output 1 (0.7)");
	refused("swe-agent", HISTORY(OLD("system", "\"1\"") "," OLD("robot", "\"1\"")),
		":1: message 1: role is the string");
	refused("swe-agent", "{\"history\":[5]}", "message 0: found the number 5, expected a message");
	refused("swe-agent", "{\"history\":[],\"trajectory\":[]}", "neither \"history\" nor \"trajectory\"");
	refused("swe-agent", "{\"trajectory\":[{\"action\":\"ls\"", "it is truncated");
}
END_TEST

START_TEST(swe_answers)
{
#define STEP(fields) "{\"trajectory\":[{\"action\":\"\",\"observation\":\"\"," fields "}]}"
	static const char *const answers[][2] = {
	    /* A command, a fenced block of which the last counts, none, a call by function. */
	    {STEP("\"response\":\"1234<command>\\nls\\n</command>\""), ">reasoning 1 (0.7), >tool_call 6 (0.7)"},
	    {STEP("\"response\":\"```\\na\\n```12345```\\nls\\n```\""), ">reasoning 4 (0.7), >tool_call 3 (0.7)"},
	    {STEP("\"response\":\"12345\""), ">assistant 2 (0.7)"},
	    {STEP("\"response\":\"1234\",\"thought\":\"1234\",\"tool_calls\":[{\"function\":{\"name\":\"ls\","
		  "\"arguments\":"
		  "\"{}\"}}]"),
	     ">reasoning 1, >tool_call 1"},
	};
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		struct session_list l;
		ck_assert_msg(import_bytes("swe-agent", answers[i][0], strlen(answers[i][0]), NULL, &l, &err) == 0,
			      "%s", err.text);
		ck_assert_str_eq(events(&l.items[0]), answers[i][1]);
		ck_assert_uint_eq(l.facts.warnings, 1); /* no prompt */
		session_list_free(&l);
	}
	/* A step's query is its prompt; its time, the wait. An action that the text does not have comes from its
	 * field. */
	expect("swe-agent",
	       "{\"trajectory\":[{\"query\":[" OLD("system", "\"1\"") "," OLD(
		   "user", "\"2\"") "],\"response\":\"1234\","
				    "\"thought\":\"1234\",\"action\":\"open "
				    "a.py\",\"observation\":\"12345\",\"execution_time\":0.25}]}",
	       "system 1, user 1 (0.9), >reasoning 1, >tool_call 3 (0.9), wait 250, tool_output 2");
}
END_TEST

START_TEST(swe_agents)
{
	struct session_list l = read_text(
	    "swe-agent",
	    "{\"history\":[" OLD("system", "\"1234\"") "," OLD(
		"user", "\"task\"") ","
				    "{\"role\":\"user\",\"agent\":\"sub\",\"content\":\"12345678\"}," ACT "]}");
	ck_assert_uint_eq(l.count, 2);
	ck_assert(strstr(l.items[1].id, "/sub") && !strncmp(l.items[0].id, l.items[1].id, strlen(l.items[0].id)));
	ck_assert_str_eq(events(&l.items[1]), "user 2 (0.9)");
	session_list_free(&l);
	/* All of a file or nothing. */
	struct session_options skip = {.skip_bad = true};
	const char *bad =
	    "{\"history\":[" OLD("system", "\"1234\"") ",{\"role\":\"user\",\"agent\":\"sub\",\"content\":5}]}";
	ck_assert_int_eq(import_bytes("swe-agent", bad, strlen(bad), &skip, &l, &err), -1);
}
END_TEST

#define ROW(id, messages, rest) "{\"session_id\":\"" id "\",\"model\":\"m\",\"input\":[" messages "]," rest "}\n"
#define S                       SAYS("system", "\"12345678\"")
#define U                       SAYS("user", "\"1234\"")
#define A                       SAYS("assistant", "\"1234\"")
#define T                       SAYS("tool", "\"12345678\"")

START_TEST(lmcache_rows)
{
	/* The answer counts with its length, 10, not with that of its text, 1; rows of another session in between. */
	struct session_list l = read_text(
	    "lmcache-agentic",
	    ROW("x", S "," U, "\"output_length\":10,\"pre_gap\":0.5") ROW("y", S, "\"output_length\":3,\"pre_gap\":0")
		ROW("x", S "," U "," A "," T, "\"output_length\":4,\"pre_gap\":0.25")
		    ROW("x", S "," U "," A "," T "," U, "\"output_length\":2,\"pre_gap\":0")
			ROW("x", S "," T, "\"output_length\":1,\"pre_gap\":2"));
	ck_assert(l.count == 2 && l.items[0].arrival_ms == 500 && l.facts.requests == 5);
	ck_assert_str_eq(events(&l.items[0]),
			 "system 2, user 1, >assistant 10 (0.9), wait 250, tool_output 2, >assistant 4 (0.7), "
			 "cut 15, user 1, >assistant 2 (0.7), wait 2000, cut 2, tool_output 2, >assistant 1 (0.7)");
	ck_assert_uint_eq(l.facts.input_tokens, 3 + 2 + 15 + 16 + 4);
	ck_assert(l.items[0].events[4].turn == 1 && l.items[0].events[4].line == 3);
	session_list_free(&l);
	/* What the answer consisted of, by the next row; the lengths by largest remainder. */
	l = read_text(
	    "lmcache-agentic",
	    ROW("x", U, "\"output_length\":10,\"pre_gap\":0") ROW(
		"x",
		U ",{\"role\":\"assistant\",\"content\":\"1234\",\"tool_calls\":[{\"function\":{\"name\":\"abcd\","
		  "\"arguments\":\"1234\"}}]}," U,
		"\"output_length\":1,\"pre_gap\":0"));
	ck_assert_str_eq(events(&l.items[0]),
			 "user 1, >assistant 3 (0.9), >tool_call 7 (0.9), user 1, >assistant 1 (0.7)");
	session_list_free(&l);
	/* The same input again: the answer before is gone. */
	l = read_text("lmcache-agentic", ROW("x", U, "\"output_length\":10,\"pre_gap\":0")
					     ROW("x", U, "\"output_length\":5,\"pre_gap\":0"));
	ck_assert_str_eq(events(&l.items[0]), "user 1, >assistant 10 (0.7), cut 1, >assistant 5 (0.7)");
	ck_assert_uint_eq(l.facts.requests, 2);
	session_list_free(&l);
	refused("lmcache-agentic", ROW("x", "", "\"output_length\":1,\"pre_gap\":0"), "input: found an empty list");
	refused("lmcache-agentic", ROW("x", U, "\"output_length\":-1,\"pre_gap\":0"),
		"output_length: found the number -1");
	refused("lmcache-agentic", ROW("", U, "\"output_length\":1"), "session_id: an id of 0 bytes");
	refused("lmcache-agentic", ROW("x", SAYS("user", "\"\""), "\"output_length\":1"),
		"messages without any text");
	refused("lmcache-agentic", ROW("x", U, "\"output_length\":1") "{\"session", ":2: truncated last line");
	refused("lmcache-agentic",
		ROW("x", U, "\"output_length\":1073741823") ROW("x", U, "\"output_length\":1073741823")
		    ROW("x", U, "\"output_length\":1073741823"),
		":3: output_length: a context of more than");
}
END_TEST

#define SPAN(name, from, to, attributes)                                                                             \
	"{\"name\":\"" name "\",\"start_time\":" from ",\"end_time\":" to ",\"attributes\":{" attributes "}}"
#define CALL(from, to, attributes) SPAN("chat m", from, to, attributes)
#define SPANS(id, spans)           "{\"harness\":\"h\",\"session_id\":\"" id "\",\"spans\":[" spans "]}\n"
#define USAGE(in, out)             "\"gen_ai.usage.input_tokens\":" #in ",\"gen_ai.usage.output_tokens\":" #out
#define INPUT(messages)            ",\"gen_ai.input.messages\":[" messages "]"
#define OUTPUT(parts)              ",\"gen_ai.output.messages\":[{\"role\":\"assistant\",\"parts\":[" parts "]}]"
#define PARTS(role, parts)         "{\"role\":\"" role "\",\"parts\":[" parts "]}"
#define TEXT(text)                 "{\"type\":\"text\",\"content\":\"" text "\"}"
#define PCALL                      "{\"type\":\"tool_call\",\"id\":\"1\",\"name\":\"abcd\",\"arguments\":{}}"
#define PRESULT                    "{\"type\":\"tool_call_response\",\"id\":\"1\",\"response\":\"1234\"}"

START_TEST(otel_spans)
{
	/* Counts are the provider's; the texts, 2 to 1, only share them out. Spans in order of time, tools passed
	 * over. */
	expect(
	    "otel-genai",
	    SPANS(
		"s",
		CALL(
		    "1000000003500000000", "[1000000005,0]",
		    USAGE(130, 4) INPUT(PARTS("system", TEXT("12345678")) "," PARTS("user", TEXT("1234")) "," PARTS(
			"assistant",
			PCALL) "," PARTS("tool",
					 PRESULT))) "," SPAN("execute_tool x", "1", "2",
							     USAGE(
								 9,
								 9)) "," SPAN("invoke_agent x", "1", "2",
									      USAGE(
										  9,
										  9)) "," CALL("\"2001-09-09T01:46:"
											       "40Z\"",
											       "\"2001-09-09T01:46:"
											       "42Z\"",
											       USAGE(100, 20) INPUT(
												   PARTS("system", TEXT("12345678")) "," PARTS(
												       "user",
												       TEXT("1234")))
												   OUTPUT(
												       "{\"type\":"
												       "\"reasoning\""
												       ",\"content\":"
												       "\"12345678\"}"
												       "," PCALL))),
	    "system 67, user 33, >reasoning 10, >tool_call 10, wait 1500, tool_output 10, >assistant 4 (0.7)");
	/* The context is longer than the input by what was not sent again: the new message still fits. */
	expect("otel-genai",
	       SPANS("s", CALL("1", "2", USAGE(10, 50) INPUT(PARTS("user", TEXT("1234"))) OUTPUT(TEXT("1234"))) ","
			      CALL("2", "3", USAGE(20, 1) INPUT(PARTS("user", TEXT("1234")) "," PARTS(
						 "assistant", TEXT("1234")) "," PARTS("user", TEXT("12345678"))))),
	       "user 10, >assistant 50, cut 18, user 2, >assistant 1 (0.7)");
	/* Messages as JSON in a string; instructions and tools stand outside of them. */
	expect("otel-genai",
	       SPANS("s", CALL("1", "2",
			       USAGE(30, 1) ",\"gen_ai.system_instructions\":[" TEXT(
				   "1234") "],\"gen_ai.tool.definitions\":"
					   "\"1234\",\"gen_ai.input.messages\":\"[{\\\"role\\\":\\\"user\\\","
					   "\\\"parts\\\":[{\\\"type\\\":"
					   "\\\"text\\\",\\\"content\\\":\\\"1\\\"}]}]\"")),
	       "tools 10, system 10, user 10, >assistant 1 (0.7)");
	/* Lengths alone; a shorter input is another one. */
	expect("otel-genai",
	       SPANS("s",
		     CALL("1", "2", USAGE(30, 5)) "," CALL("3", "4", USAGE(40, 5)) "," CALL("5", "6", USAGE(20, 5))),
	       "user 30 (0.3), >assistant 5 (0.7), wait 1e-06, user 5 (0.3), >assistant 5 (0.7), wait 1e-06, cut 0, "
	       "user 20 (0.3), >assistant 5 (0.7)");
}
END_TEST

START_TEST(otel_counts_and_agents)
{
	struct session_list l = read_text(
	    "otel-genai",
	    SPANS("s", CALL("5", "9",
			    "\"gen_ai.agent.name\":\"a\"" INPUT(PARTS("user", TEXT("12345"))) OUTPUT(TEXT(
				"1234"))) "," CALL("6", "7",
						   "\"gen_ai.agent.name\":\"b\"," USAGE(
						       8, 1)) "," CALL("8", "9",
								       "\"gen_ai.agent.name\":\"a\"," USAGE(8, 1))));
	ck_assert_uint_eq(l.count, 2);
	ck_assert_str_eq(l.items[1].id, "s/b");
	ck_assert_str_eq(l.facts.tokens_by, "trace, chars/4");
	ck_assert_str_eq(events(&l.items[0]), "user 2, >assistant 1, user 5 (0.3), >assistant 1 (0.7)");
	ck_assert_uint_eq(l.facts.warnings, 1); /* a's second call begins within its first */
	session_list_free(&l);
	refused("otel-genai", SPANS("s", CALL("2", "1", USAGE(1, 1))),
		":1: span 0: it ends 0.000 s before it starts");
	refused("otel-genai", SPANS("s", CALL("\"soon\"", "1", USAGE(1, 1))),
		"span 0: start_time is the string \"soon\"");
	refused("otel-genai", SPANS("s", CALL("1", "2", "")), "neither a count in gen_ai.usage.input_tokens");
	refused("otel-genai", SPANS("s", CALL("1", "2", USAGE(-1, 1))),
		"gen_ai.usage.input_tokens: span 0: found the number");
	refused("otel-genai", SPANS("s", SPAN("execute_tool", "1", "2", "")), "spans: no span of a chat among 1");
	refused("otel-genai", SPANS("s", CALL("1", "2", USAGE(1, 1))) SPANS("s", CALL("1", "2", USAGE(1, 1))),
		":2: session_id: two sessions");
	refused("otel-genai", SPANS("s", CALL("1", "2", USAGE(1, 1) INPUT(PARTS("user", "{\"type\":\"x\"}")))),
		"span 0, message 0: found a part that is");
	/* As deep as JSON in a string may be, and deeper. */
	char deep[400] = "", row[900];
	memset(deep, '[', 80);
	memset(deep + 80, ']', 80);
	snprintf(row, sizeof row, SPANS("s", CALL("1", "2", USAGE(1, 1) ",\"gen_ai.input.messages\":\"%s\"")), deep);
	refused("otel-genai", row, "expected a list of messages");
}
END_TEST

/* The published trajectories, of all ages: each is read, and each answer is a request. */
START_TEST(published_trajectories)
{
	const char *shared = getenv("INTENTKV_SHARED");
	char path[500];
	struct stat st;
	struct session_list l;
	snprintf(path, sizeof path, "%s/traces/swe-agent", shared ? shared : "");
	if (!shared || stat(path, &st)) {
		printf("# skip: the published trajectories are not in INTENTKV_SHARED\n");
		return;
	}
	ck_assert_msg(session_import(path, "auto", NULL, &l, &err) == 0, "%s", err.text);
	ck_assert_str_eq(l.facts.format, "swe-agent");
	ck_assert(l.count == 11 && l.facts.requests == 112);
	ck_assert_str_eq(l.items[1].id, "02-pydicom__pydicom-1458");
	ck_assert(l.items[1].events[1].kind == IKV_KIND_MEMORY && l.items[1].events[1].tokens == 4847);
	session_list_free(&l);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("import_text");
	TCase *t = tcase_create("import_text");
	tcase_add_test(t, chat_parts);
	tcase_add_test(t, chat_blocks);
	tcase_add_test(t, swe_roles);
	tcase_add_test(t, swe_answers);
	tcase_add_test(t, swe_agents);
	tcase_add_test(t, lmcache_rows);
	tcase_add_test(t, otel_spans);
	tcase_add_test(t, otel_counts_and_agents);
	tcase_add_test(t, published_trajectories);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

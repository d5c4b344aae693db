/* TraceLab's coding-agent rounds (UW SyFI, 2026): a row is one call of the model, with what the provider's prompt
 * cache held of its input, and the tools called after it. No ids. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/request_log.h"
#include "sim/trace/timestamp.h"

enum { CHARS_PER_TOKEN = 4 };

/* The payload of a row. */
enum { W_PREFIX, W_KIND, W_CALL, W_REASONING, W_WAIT_US, WORDS };
enum { KIND_UNSAID, KIND_USER, KIND_TOOL };

struct round_state {
	int64_t index;   /* of the newest round */
	int64_t last_ns; /* its last event, 0: none */
	double tools_ms; /* the longest of the tools called after it */
	double at_ms;
};

struct tracelab {
	struct request_log log;
	struct round_state *sessions;
	size_t cap;
	int64_t first_ns; /* of the trace, 0: not known yet */
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	return memmem(head, size, "\"newly_append_tokens\"", 21) && memmem(head, size, "\"round_index\"", 13) ? 95
													      : 0;
}

/* First and last time of the events, 0 where there is none; what kind of event was first. */
static int read_events(struct json_input *in, int64_t ns[2], uint64_t *kind, struct ikv_err *err)
{
	const json_t *list = json_object_get(in->value, "timing_events"), *v;
	char text[80];
	size_t i;
	ns[0] = ns[1] = 0;
	*kind = KIND_UNSAID;
	if (list && !json_is_null(list) && !json_is_array(list))
		return json_wrong(in, "timing_events", err, "found %s, expected a list", json_describe(list, text));
	json_array_foreach(list, i, v)
	{
		const json_t *stamp = json_object_get(v, "timestamp");
		const char *type = json_string_value(json_object_get(v, "event_type"));
		int64_t at;
		if (!stamp || json_is_null(stamp))
			continue;
		if (!json_is_string(stamp) || !timestamp_read(json_string_value(stamp), &at))
			return json_wrong(in, "timing_events", err,
					  "event %zu: timestamp is %s, expected a time like 2026-08-25T00:00:01.5Z",
					  i, json_describe(stamp, text));
		if (!ns[0] && type)
			*kind = !strcmp(type, "user_message")  ? KIND_USER
				: !strcmp(type, "tool_result") ? KIND_TOOL
							       : KIND_UNSAID;
		ns[0] = !ns[0] || at < ns[0] ? at : ns[0];
		ns[1] = at > ns[1] ? at : ns[1];
	}
	return 0;
}

/* Characters of the calls' arguments, and the longest call: tools of one round run side by side. */
static int read_tools(struct json_input *in, uint64_t *chars, double *longest_ms, struct ikv_err *err)
{
	const json_t *list = json_object_get(in->value, "tools"), *v;
	char text[80];
	size_t i;
	*chars = 0;
	*longest_ms = 0;
	if (list && !json_is_null(list) && !json_is_array(list))
		return json_wrong(in, "tools", err, "found %s, expected a list", json_describe(list, text));
	json_array_foreach(list, i, v)
	{
		int64_t n = 0;
		double ms = 0;
		bool has;
		if (!json_is_object(v))
			return json_wrong(in, "tools", err, "tool %zu is %s, expected an object", i,
					  json_describe(v, text));
		if (json_member_int(in, v, "input_chars", 0, REQUEST_TOKENS_MAX, &n, &has, err) ||
		    json_member_real(in, v, "tool_wall_latency_ms", 0, 1e12, &ms, &has, err))
			return -1;
		*chars += (uint64_t)n;
		*longest_ms = ms > *longest_ms ? ms : *longest_ms;
	}
	return 0;
}

/* Room for the state of session `number`. */
static int widen(struct tracelab *l, uint32_t number, struct ikv_err *err)
{
	if (number < l->cap)
		return 0;
	size_t cap = (size_t)number * 2 + 16;
	if (ikv_grow(&l->sessions, number, cap, sizeof *l->sessions, err))
		return -1;
	l->cap = cap;
	return 0;
}

static int read_lengths(struct trace *t, struct json_input *in, struct logged *r, uint64_t words[WORDS],
			struct ikv_err *err)
{
	const json_t *o = in->value;
	int64_t input, output, prefix, fresh, reasoning = 0;
	bool has;
	if (json_member_int(in, o, "input_tokens_total", 1, REQUEST_TOKENS_MAX, &input, NULL, err) ||
	    json_member_int(in, o, "output_tokens", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_int(in, o, "prefix_tokens", 0, REQUEST_TOKENS_MAX, &prefix, NULL, err) ||
	    json_member_int(in, o, "newly_append_tokens", 0, REQUEST_TOKENS_MAX, &fresh, NULL, err) ||
	    json_member_int(in, o, "reasoning_output_tokens", 0, REQUEST_TOKENS_MAX, &reasoning, &has, err))
		return -1;
	if (prefix > input)
		return json_fault(in, CHECK_CONSISTENCY, "prefix_tokens", err,
				  "a prefix of %lld tokens in an input of %lld", (long long)prefix, (long long)input);
	if (prefix + fresh != input)
		trace_warn(t, CHECK_CONSISTENCY, in->line, "newly_append_tokens",
			   "%lld new tokens and a prefix of %lld make no input of %lld", (long long)fresh,
			   (long long)prefix, (long long)input);
	r->input = (uint32_t)input;
	r->output = (uint32_t)output;
	words[W_PREFIX] = (uint64_t)prefix;
	words[W_REASONING] = (uint64_t)(reasoning < output ? reasoning : output);
	return 0;
}

/* When the row was sent, and how long after the end of the one before. */
static void set_times(struct tracelab *l, struct round_state *s, bool starts, const int64_t ns[2], double tools_ms,
		      struct logged *r, uint64_t words[WORDS])
{
	double wait_ms = s->tools_ms;
	if (!l->first_ns)
		l->first_ns = ns[0];
	if (ns[0] && s->last_ns)
		wait_ms = (double)(ns[0] - s->last_ns) * 1e-6;
	if (starts || wait_ms < 0)
		wait_ms = 0;
	s->at_ms = ns[0] ? (double)(ns[0] - l->first_ns) * 1e-6 : s->at_ms + wait_ms;
	s->last_ns = ns[1];
	s->tools_ms = tools_ms;
	r->at_ms = s->at_ms;
	words[W_WAIT_US] = (uint64_t)(wait_ms * 1e3);
}

static int read_row(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct tracelab *l = ctx;
	struct logged r = {.words = WORDS, .line = in->line};
	uint64_t words[WORDS] = {0}, chars;
	int64_t round, ns[2];
	double tools_ms;
	const char *name;
	if (json_member_text(in, in->value, "session_id", false, &name, err) ||
	    json_member_int(in, in->value, "round_index", 0, INT64_MAX, &round, NULL, err) ||
	    read_lengths(t, in, &r, words, err) || read_events(in, ns, &words[W_KIND], err) ||
	    read_tools(in, &chars, &tools_ms, err))
		return -1;
	if (json_log_name(t, in, "session_id", name, err))
		return -1;
	uint32_t number = request_log_session(&l->log, name);
	if (widen(l, number, err))
		return -1;
	bool starts = number == l->log.session_count;
	struct round_state *s = &l->sessions[number];
	if (!starts && round <= s->index)
		return json_fault(in, round == s->index ? CHECK_DUPLICATE : CHECK_TIME, "round_index", err,
				  "round %lld after round %lld", (long long)round, (long long)s->index);
	if (starts)
		*s = (struct round_state){0};
	s->index = round;
	if (starts && ns[0] && ns[0] < l->first_ns)
		trace_warn(t, CHECK_TIME, in->line, "timing_events",
			   "the session begins %.3f s before the first one of the file; it arrives with that one",
			   (double)(l->first_ns - ns[0]) * 1e-9);
	words[W_CALL] = (chars + CHARS_PER_TOKEN - 1) / CHARS_PER_TOKEN;
	set_times(l, s, starts, ns, tools_ms, &r, words);
	if (request_log_add(&l->log, number, name, &r, words, err))
		return -1;
	return trace_request(
	    t, &(struct trace_request){.input = r.input, .output = r.output, .at_ms = r.at_ms, .line = r.line}, err);
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	struct tracelab *l = ctx;
	struct session *s = trace_session(t, l->log.sessions[number].name, err);
	if (s)
		s->arrival_ms = first->at_ms > 0 ? first->at_ms : 0;
	return s;
}

static int play(void *ctx, struct session *s, struct request_stream *stream, const struct logged *r,
		const uint64_t *words, struct ikv_err *err)
{
	static const enum ikv_kind kinds[] = {IKV_KIND_USER, IKV_KIND_USER, IKV_KIND_TOOL_OUTPUT};
	bool starts = stream->turn == 0;
	uint64_t kind = words[W_KIND];
	/* The cache forgets after minutes of idling: a smaller prefix tells of other content only if the input
	 * shrank. */
	uint32_t prefix = (uint32_t)words[W_PREFIX], kept = r->input > stream->context ? stream->context : prefix;
	uint32_t reasoning = (uint32_t)words[W_REASONING], rest = r->output - reasoning;
	uint32_t call = words[W_CALL] < rest ? (uint32_t)words[W_CALL] : rest;
	(void)ctx;
	stream->line = r->line;
	if (!starts && request_wait(stream, s, (double)words[W_WAIT_US] * 1e-3, err))
		return -1;
	if (request_keep(stream, s, kept, r->input, r->line, err) || request_append(stream, s, r->input, kinds[kind],
										    starts                ? 0.3F
										    : kind == KIND_UNSAID ? 0.5F
													  : 0.9F,
										    err))
		return -1;
	return request_decode(stream, s, reasoning, IKV_KIND_REASONING, 1, err) ||
	       request_decode(stream, s, rest - call, IKV_KIND_ASSISTANT, call ? 0.5F : 0.7F, err) ||
	       request_decode(stream, s, call, IKV_KIND_TOOL_CALL, 0.5F, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct tracelab l = {0};
	struct request_player player = {&l, begin, play};
	int rc = json_read(t, path, JSON_LINES, read_row, &l, err);
	if (!rc)
		rc = request_log_play(&l.log, t, &player, err);
	request_log_free(&l.log);
	ikv_free(l.sessions);
	return rc;
}

const struct importer importer_tracelab = {
    .name = "tracelab",
    .summary = "TraceLab JSONL: rounds of coding agents with cached prefixes and tool calls",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

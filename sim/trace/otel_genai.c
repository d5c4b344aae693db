/* Agent runs as OpenTelemetry spans with the GenAI conventions' attributes (gen_ai.*): a row is a session, a span of
 * a chat one request. The provider's counts are taken, and the messages say what they consist of. */
#include <stdlib.h>
#include <string.h>
#include "sim/trace/conversation.h"
#include "sim/trace/timestamp.h"

enum { AGENTS_MAX = 256 };

struct span {
	const json_t *attributes;
	const char *agent; /* "" where it is not said */
	int64_t begin_ns, end_ns;
	size_t number; /* in the row */
};

struct otel {
	struct trace *t;
	struct json_input *in;
	int64_t first_ns;   /* of the trace, 0: not known yet */
	struct span *spans; /* the chats of the row at hand, by time; owned */
	size_t count, cap;
	struct message message;
	struct message_words words[2], answer; /* of the newest two requests */
	struct conversation conversation;
	char key[64];
};

static bool has(const char *head, size_t size, const char *word)
{
	return memmem(head, size, word, strlen(word)) != NULL;
}

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	if (!has(head, size, "\"spans\""))
		return 0;
	return has(head, size, "\"gen_ai.") ? 95 : has(head, size, "\"harness\"") ? 80 : 0;
}

/* A time of day, a number of nanoseconds since 1970, or [seconds, nanoseconds]. */
static int read_time(struct otel *o, const json_t *span, const char *key, int64_t *ns, struct ikv_err *err)
{
	char text[80];
	const json_t *v = json_object_get(span, key), *s = json_array_get(v, 0), *part = json_array_get(v, 1);
	if (json_is_string(v) && timestamp_read(json_string_value(v), ns))
		return 0;
	if (json_is_integer(v) && json_integer_value(v) > 0) {
		*ns = json_integer_value(v);
		return 0;
	}
	if (json_array_size(v) == 2 && json_is_integer(s) && json_is_integer(part) && json_integer_value(s) >= 0 &&
	    json_integer_value(s) < INT64_MAX / 1000000000 && json_integer_value(part) >= 0 &&
	    json_integer_value(part) < 1000000000) {
		*ns = (int64_t)json_integer_value(s) * 1000000000 + json_integer_value(part);
		return 0;
	}
	return json_wrong(o->in, o->key, err,
			  "%s is %s, expected a time like 2026-08-25T00:00:01.5Z, nanoseconds since 1970 or "
			  "[seconds, nanoseconds]",
			  key, json_describe(v, text));
}

/* Is it a call of the model? Others tell of tools and agents, whose tokens are those of the calls in them. */
static bool is_chat(const json_t *span, const json_t *attributes)
{
	static const char *const operations[] = {"chat", "generate_content", "text_completion"};
	const char *operation = json_string_value(json_object_get(attributes, "gen_ai.operation.name"));
	const char *name = json_string_value(json_object_get(span, "name"));
	for (size_t i = 0; i < 3; i++) {
		size_t n = strlen(operations[i]);
		if (operation ? !strcmp(operation, operations[i])
			      : name && !strncmp(name, operations[i], n) && (!name[n] || name[n] == ' '))
			return true;
	}
	return false;
}

static int by_begin(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	if (x->begin_ns != y->begin_ns)
		return x->begin_ns < y->begin_ns ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

static int note_span(struct otel *o, const json_t *span, size_t number, struct ikv_err *err)
{
	static const char *const agents[] = {"gen_ai.agent.id", "gen_ai.agent.name"};
	const json_t *attributes = json_object_get(span, "attributes");
	char text[80];
	snprintf(o->key, sizeof o->key, "span %zu", number);
	if (!json_is_object(span))
		return json_wrong(o->in, o->key, err, "found %s, expected an object {...}",
				  json_describe(span, text));
	if (!is_chat(span, attributes))
		return 0;
	if (!json_is_object(attributes))
		return json_wrong(o->in, o->key, err, "attributes is %s, expected an object {...}",
				  json_describe(attributes, text));
	if (o->count == o->cap) {
		size_t cap = o->cap * 2 + 64;
		if (ikv_grow(&o->spans, o->count, cap, sizeof *o->spans, err))
			return -1;
		o->cap = cap;
	}
	struct span *s = &o->spans[o->count];
	*s = (struct span){.attributes = attributes, .agent = "", .number = number};
	for (size_t i = 2; i-- > 0;) {
		const char *agent = json_string_value(json_object_get(attributes, agents[i]));
		s->agent = agent ? agent : s->agent;
	}
	if (read_time(o, span, "start_time", &s->begin_ns, err) || read_time(o, span, "end_time", &s->end_ns, err))
		return -1;
	if (s->end_ns < s->begin_ns)
		return json_fault(o->in, CHECK_TIME, o->key, err, "it ends %.3f s before it starts",
				  (double)(s->begin_ns - s->end_ns) * 1e-9);
	o->count++;
	return 0;
}

/* An attribute that is a list, or the JSON of one in a string: a new reference in *out, NULL where there is none. */
static int read_list(struct otel *o, const json_t *attributes, const char *key, json_t **out, struct ikv_err *err)
{
	json_t *v = json_object_get(attributes, key);
	char text[80];
	json_error_t why;
	*out = NULL;
	if (!v || json_is_null(v))
		return 0;
	/* Depth: json_input has limited that of the row, not that of the texts in it. */
	if (json_is_string(v)) {
		if (json_shallow(json_string_value(v), json_string_length(v)))
			*out = json_loadb(json_string_value(v), json_string_length(v), JSON_REJECT_DUPLICATES, &why);
	} else {
		*out = json_incref(v);
	}
	if (json_is_array(*out))
		return 0;
	json_decref(*out);
	*out = NULL;
	return json_wrong(o->in, o->key, err, "%s is %s, expected a list of messages, or its JSON in a string", key,
			  json_describe(v, text));
}

static int add_messages(struct otel *o, const json_t *list, struct message_words *w, struct ikv_err *err)
{
	char place[64], *key = o->key;
	size_t i, n = strlen(key);
	const json_t *v;
	snprintf(place, sizeof place, "%s", key);
	json_array_foreach(list, i, v)
	{
		snprintf(key + n, sizeof o->key - n, ", message %zu", i);
		if (message_read(&o->message, v, err) || message_words_add(w, &o->message, err))
			return -1;
	}
	snprintf(key, sizeof o->key, "%s", place);
	return 0;
}

/* Tool definitions and instructions, which stand outside the messages. */
static int add_prompt(struct otel *o, const json_t *attributes, struct message_words *w, struct ikv_err *err)
{
	json_t *list;
	struct message *m = &o->message;
	const json_t *tools = json_object_get(attributes, "gen_ai.tool.definitions");
	message_begin(m, "tools");
	if (tools && (message_value(m, tools, IKV_KIND_TOOLS, false, err) || message_words_add(w, m, err)))
		return -1;
	if (read_list(o, attributes, "gen_ai.system_instructions", &list, err))
		return -1;
	message_begin(m, "system");
	int rc = list && (message_content(m, list, IKV_KIND_SYSTEM, false, err) || message_words_add(w, m, err));
	json_decref(list);
	return rc;
}

static int read_texts(struct otel *o, const json_t *attributes, const char *key, struct message_words *w,
		      struct ikv_err *err)
{
	json_t *list;
	if (read_list(o, attributes, key, &list, err))
		return -1;
	int rc = add_messages(o, list, w, err);
	json_decref(list);
	return rc;
}

/* The provider's count, else what the texts come to. A count of 0 is none: calls that failed have it. */
static int read_count(struct otel *o, const struct span *span, const char *key, const struct message_words *w,
		      bool needed, int64_t *tokens, struct ikv_err *err)
{
	bool said;
	*tokens = 0;
	snprintf(o->in->part, sizeof o->in->part, "span %zu", span->number);
	if (json_member_int(o->in, span->attributes, key, 0, REQUEST_TOKENS_MAX, tokens, &said, err))
		return -1;
	*o->in->part = '\0';
	if (*tokens > 0 || (said && !needed))
		return 0;
	if (w->tokens == 0 && (needed || !said))
		return json_wrong(o->in, o->key, err, "neither a count in %s nor messages to count", key);
	*tokens = (int64_t)w->tokens;
	char by[100];
	snprintf(by, sizeof by, "trace, %.80s", trace_tokens_by(o->t));
	trace_text(o->t->facts->tokens_by, sizeof o->t->facts->tokens_by, by);
	return 0;
}

/* Cached tokens are part of the input: more of them than of the input is a contradiction. */
static int check_cached(struct otel *o, const struct span *span, int64_t input, struct ikv_err *err)
{
	static const char key[] = "gen_ai.usage.cache_read.input_tokens";
	int64_t cached = 0;
	bool said;
	if (json_member_int(o->in, span->attributes, key, 0, REQUEST_TOKENS_MAX, &cached, &said, err))
		return -1;
	if (said && cached > input && !o->message.quiet)
		trace_warn(o->t, CHECK_CONSISTENCY, o->in->line, o->key,
			   "%lld cached tokens of an input of %lld: is the input given without them?",
			   (long long)cached, (long long)input);
	return 0;
}

static int add_span(struct otel *o, const struct span *span, const struct span *before, struct session *s,
		    struct request_stream *stream, struct ikv_err *err)
{
	struct message_words *w = &o->words[stream->turn % 2];
	int64_t input, output;
	snprintf(o->key, sizeof o->key, "span %zu", span->number);
	w->count = o->answer.count = 0;
	w->tokens = o->answer.tokens = 0;
	if (add_prompt(o, span->attributes, w, err) ||
	    read_texts(o, span->attributes, "gen_ai.input.messages", w, err) ||
	    read_texts(o, span->attributes, "gen_ai.output.messages", &o->answer, err) ||
	    read_count(o, span, "gen_ai.usage.input_tokens", w, true, &input, err) ||
	    read_count(o, span, "gen_ai.usage.output_tokens", &o->answer, false, &output, err) ||
	    check_cached(o, span, input, err))
		return -1;
	if (stream->context + (uint64_t)input + (uint64_t)output > SESSION_CONTEXT_MAX)
		return json_fault(o->in, CHECK_LIMIT, o->key, err, "a context of more than %u tokens",
				  SESSION_CONTEXT_MAX);
	if (before && span->begin_ns < before->end_ns && !o->message.quiet)
		trace_warn(o->t, CHECK_TIME, o->in->line, o->key,
			   "it starts %.3f s before span %zu has ended, which comes first",
			   (double)(before->end_ns - span->begin_ns) * 1e-9, before->number);
	struct spoken spoken = {.words = w->words,
				.count = w->count,
				.answer = o->answer.words,
				.answer_count = o->answer.count,
				.input = input,
				.output = (uint32_t)output,
				.wait_ms = before ? (double)(span->begin_ns - before->end_ns) * 1e-6 : 0,
				.line = o->in->line};
	struct trace_request request = {.input = (uint32_t)input,
					.output = (uint32_t)output,
					.at_ms = (double)(span->begin_ns - o->first_ns) * 1e-6,
					.line = o->in->line};
	return conversation_add(&o->conversation, s, stream, &spoken, err) || trace_request(o->t, &request, err);
}

/* One agent's calls, from span `first` on: a session of its own. */
static int read_agent(struct otel *o, size_t first, const char *id, struct ikv_err *err)
{
	struct request_stream stream = {0};
	const struct span *before = NULL;
	struct session *s = json_session(o->t, o->in, "session_id", id, err);
	if (!s)
		return -1;
	int64_t since = o->spans[first].begin_ns - o->first_ns;
	s->arrival_ms = since > 0 ? (double)since * 1e-6 : 0;
	if (since < 0 && !o->message.quiet)
		trace_warn(o->t, CHECK_TIME, o->in->line, "spans",
			   "the session begins %.3f s before the first one of the file; it arrives with that one",
			   (double)-since * 1e-9);
	conversation_restart(&o->conversation);
	for (size_t i = first; i < o->count; i++) {
		if (strcmp(o->spans[i].agent, o->spans[first].agent))
			continue;
		if (add_span(o, &o->spans[i], before, s, &stream, err))
			return -1;
		before = &o->spans[i];
	}
	return 0;
}

static int read_agents(struct otel *o, const char *id, struct ikv_err *err)
{
	char name[SESSION_ID_MAX * 2 + 2];
	size_t agents[AGENTS_MAX], count = 0, k;
	for (size_t i = 0; i < o->count; i++) {
		for (k = 0; k < count && strcmp(o->spans[agents[k]].agent, o->spans[i].agent);)
			k++;
		if (k < count)
			continue;
		if (count == AGENTS_MAX)
			return json_fault(o->in, CHECK_LIMIT, "spans", err, "more than %d agents", AGENTS_MAX);
		agents[count++] = i;
	}
	/* All agents or none: a first pass shows whether they can be read. */
	o->message.quiet = false;
	for (size_t pass = count == 1; pass < 2; pass++, o->message.quiet = true)
		for (k = 0; k < count; k++) {
			snprintf(name, sizeof name, k ? "%s/%.400s" : "%s", id, o->spans[agents[k]].agent);
			if (read_agent(o, agents[k], name, err) || (pass == 1 && trace_emit(o->t, err)))
				return -1;
		}
	return 0;
}

static int read_row(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct otel *o = ctx;
	const json_t *spans = json_object_get(in->value, "spans"), *v;
	const char *id;
	char text[80];
	size_t i;
	o->t = o->message.t = t;
	o->in = o->message.in = in;
	o->message.key = o->key;
	o->count = 0;
	if (json_member_text(in, in->value, "session_id", false, &id, err))
		return -1;
	if (strlen(id) > SESSION_ID_MAX)
		return json_wrong(in, "session_id", err, "an id of %zu bytes, expected 1 to %d", strlen(id),
				  SESSION_ID_MAX);
	if (!json_is_array(spans))
		return json_wrong(in, "spans", err, "found %s, expected a list of spans", json_describe(spans, text));
	json_array_foreach(spans, i, v) if (note_span(o, v, i, err)) return -1;
	if (o->count == 0)
		return json_wrong(in, "spans", err, "no span of a chat among %zu", json_array_size(spans));
	qsort(o->spans, o->count, sizeof *o->spans, by_begin);
	/* Only a good row tells when the trace begins. */
	int64_t first_ns = o->first_ns;
	if (!first_ns)
		o->first_ns = o->spans[0].begin_ns;
	int rc = read_agents(o, id, err);
	if (rc)
		o->first_ns = first_ns;
	return rc;
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct otel o = {.t = t};
	int rc = json_read(t, path, JSON_EITHER, read_row, &o, err);
	ikv_free(o.spans);
	message_free(&o.message);
	message_words_free(&o.words[0]);
	message_words_free(&o.words[1]);
	message_words_free(&o.answer);
	conversation_free(&o.conversation);
	return rc;
}

const struct importer importer_otel_genai = {
    .name = "otel-genai",
    .summary = "OpenTelemetry spans with GenAI attributes: calls of the model with counts and messages",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

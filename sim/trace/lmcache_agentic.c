/* LMCache's agentic traces: a row is one request of a session with all its messages, the length of the answer and the
 * time since the answer before. */
#include <string.h>
#include "sim/trace/conversation.h"
#include "sim/trace/request_log.h"

struct lmcache {
	struct trace *t;
	struct request_log log;
	uint64_t *outputs; /* tokens of all answers of each session */
	size_t cap;
	struct message message;
	struct message_words words;
	struct conversation conversation;
	double at_ms; /* of the newest request of the session that is given back, as if answers took no time */
};

/* Is there a member of that name with a list? */
static bool has_list(const char *head, size_t size, const char *name)
{
	const char *end = head + size, *c = head;
	while ((c = memmem(c, (size_t)(end - c), name, strlen(name)))) {
		c += strlen(name);
		while (c < end && (*c == ' ' || *c == ':'))
			c++;
		if (c < end && *c == '[')
			return true;
	}
	return false;
}

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	if (!memmem(head, size, "\"session_id\"", 12) || !has_list(head, size, "\"input\"") ||
	    !memmem(head, size, "\"role\"", 6) || memmem(head, size, "\"spans\"", 7))
		return 0;
	/* The first row may be longer than what is looked at. */
	return memmem(head, size, "\"pre_gap\"", 9) ? 95 : memchr(head, '\n', size) ? 60 : 70;
}

static int read_messages(struct lmcache *l, struct json_input *in, struct ikv_err *err)
{
	char text[80], key[48] = "input";
	const json_t *list = json_object_get(in->value, "input"), *v;
	size_t i;
	if (!json_is_array(list) || json_array_size(list) == 0)
		return json_wrong(in, key, err, "found %s, expected a list of messages",
				  json_is_array(list) ? "an empty list" : json_describe(list, text));
	l->message.t = l->t;
	l->message.in = in;
	l->message.key = key;
	l->words.count = 0;
	l->words.tokens = 0;
	json_array_foreach(list, i, v)
	{
		snprintf(key, sizeof key, "message %zu", i);
		if (message_read(&l->message, v, err) || message_words_add(&l->words, &l->message, err))
			return -1;
	}
	if (l->words.tokens == 0)
		return json_wrong(in, "input", err, "messages without any text");
	return 0;
}

/* Room for the answers of session `number`; nothing is noted of the row yet. */
static int widen(struct lmcache *l, uint32_t number, struct ikv_err *err)
{
	if (number < l->cap)
		return 0;
	size_t cap = (size_t)number * 2 + 16;
	if (ikv_grow(&l->outputs, number, cap, sizeof *l->outputs, err))
		return -1;
	l->cap = cap;
	return 0;
}

static int read_row(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct lmcache *l = ctx;
	const json_t *o = in->value;
	const char *name;
	int64_t output;
	double gap_s = 0;
	bool has;
	l->t = t;
	if (json_member_text(in, o, "session_id", false, &name, err) ||
	    json_member_int(in, o, "output_length", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_real(in, o, "pre_gap", 0, 1e9, &gap_s, &has, err) || read_messages(l, in, err))
		return -1;
	if (json_log_name(t, in, "session_id", name, err))
		return -1;
	if (l->words.count > UINT32_MAX)
		return json_fault(in, CHECK_LIMIT, "input", err, "too many messages");
	uint32_t number = request_log_session(&l->log, name);
	bool starts = number == l->log.session_count;
	if (widen(l, number, err))
		return -1;
	if (starts)
		l->outputs[number] = 0;
	if (l->words.tokens + l->outputs[number] + (uint64_t)output > SESSION_CONTEXT_MAX)
		return json_fault(in, CHECK_LIMIT, "output_length", err, "a context of more than %u tokens",
				  SESSION_CONTEXT_MAX);
	struct logged r = {.at_ms = gap_s * 1e3,
			   .input = (uint32_t)l->words.tokens,
			   .output = (uint32_t)output,
			   .words = (uint32_t)l->words.count,
			   .line = in->line};
	if (request_log_add(&l->log, number, name, &r, l->words.words, err))
		return -1;
	l->outputs[number] += (uint64_t)output;
	return 0;
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	struct lmcache *l = ctx;
	struct session *s = trace_session(t, l->log.sessions[number].name, err);
	conversation_restart(&l->conversation);
	if (s)
		s->arrival_ms = first->at_ms;
	l->at_ms = 0;
	return s;
}

static int play(void *ctx, struct session *s, struct request_stream *stream, const struct logged *r,
		const uint64_t *words, struct ikv_err *err)
{
	struct lmcache *l = ctx;
	struct spoken spoken = {.words = words,
				.count = r->words,
				.input = -1,
				.output = r->output,
				.wait_ms = r->at_ms, /* a log's record has no other place for it */
				.line = r->line};
	l->at_ms += r->at_ms;
	return conversation_add(&l->conversation, s, stream, &spoken, err) ||
	       trace_request(l->t,
			     &(struct trace_request){
				 .input = stream->input, .output = r->output, .at_ms = l->at_ms, .line = r->line},
			     err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct lmcache l = {.t = t};
	struct request_player player = {.ctx = &l, .begin = begin, .play = play};
	message_counts(t);
	int rc = json_read(t, path, JSON_LINES, read_row, &l, err);
	if (!rc)
		rc = request_log_play(&l.log, t, &player, err);
	request_log_free(&l.log);
	ikv_free(l.outputs);
	message_free(&l.message);
	message_words_free(&l.words);
	conversation_free(&l.conversation);
	return rc;
}

const struct importer importer_lmcache_agentic = {
    .name = "lmcache-agentic",
    .summary = "LMCache agentic JSONL: each request with all its messages",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

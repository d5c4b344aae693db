/* Multi-turn traces of NVIDIA's AIPerf (its agentic-code generator writes them): rows of a session, each with the
 * tokens and the 512-token blocks that it adds. Unlike in Mooncake's files, whose fields they share, nothing is
 * cumulative. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/request_log.h"
#include "sim/trace/starts.h"

enum { BLOCK_TOKENS = 512 };

/* Ids of a session so far, and what they name. */
struct session_ids {
	uint64_t *ids; /* owned */
	uint32_t count, cap;
	uint32_t turns;
	uint64_t context; /* tokens */
	bool has_first;   /* its first row has ids: */
	uint64_t first;   /* this one first */
	double at_ms;     /* of the newest request */
};

struct aiperf {
	struct request_log log;
	uint64_t *row;
	size_t row_cap;
	struct session_ids *sessions;
	size_t session_cap;
	struct session_starts starts;
	struct session_ids playing;
	double last_ms;
};

static int detect(const char *path, const char *head, size_t size)
{
	static const char *const keys[] = {"\"session_id\"", "\"input_length\"", "\"output_length\"", NULL};
	(void)path;
	return json_line_has(head, size, keys) ? 90 : 0;
}

static int widen(void *array, size_t *cap, size_t count, size_t want, size_t size, struct ikv_err *err)
{
	if (want <= *cap)
		return 0;
	if (ikv_grow(array, count, want + want / 2 + 16, size, err))
		return -1;
	*cap = want + want / 2 + 16;
	return 0;
}

static int append_ids(struct session_ids *s, const uint64_t *ids, uint32_t count, struct ikv_err *err)
{
	size_t cap = s->cap;
	if (widen(&s->ids, &cap, s->count, (size_t)s->count + count, sizeof *s->ids, err))
		return -1;
	s->cap = (uint32_t)cap;
	if (count)
		memcpy(s->ids + s->count, ids, count * sizeof *ids);
	s->count += count;
	return 0;
}

static int check_row(struct json_input *in, const struct aiperf *a, const struct session_ids *s,
		     const struct logged *r, struct ikv_err *err)
{
	uint32_t blocks = ikv_pages(r->input, BLOCK_TOKENS);
	if (s->has_first && r->words && a->row[0] == s->first)
		return json_fault(
		    in, CHECK_DELTA, "hash_ids", err,
		    "the ids begin with the session's first id again: after the first row, lengths and ids "
		    "are increments, not whole inputs");
	if (r->words && r->words != blocks)
		return json_fault(in, CHECK_ID_COUNT, "hash_ids", err,
				  "%u ids for %u new tokens, expected %u: one for each started block of %d", r->words,
				  r->input, blocks, BLOCK_TOKENS);
	if (s->context + r->input + r->output > REQUEST_TOKENS_MAX)
		return json_wrong(in, "input_length", err, "a context of more than %d tokens", REQUEST_TOKENS_MAX);
	return 0;
}

static int read_row(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct aiperf *a = ctx;
	const json_t *o = in->value;
	struct logged r = {.line = in->line};
	const char *name;
	int64_t input, output;
	double at_ms = 0, delay_ms = 0;
	bool timed, delayed;
	if (json_member_text(in, o, "session_id", false, &name, err) ||
	    json_member_int(in, o, "input_length", 1, REQUEST_TOKENS_MAX, &input, NULL, err) ||
	    json_member_int(in, o, "output_length", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_real(in, o, "timestamp", 0, 1e15, &at_ms, &timed, err) ||
	    json_member_real(in, o, "delay", 0, 1e12, &delay_ms, &delayed, err))
		return -1;
	if (json_object_get(o, "hash_ids") && json_member_ids(in, o, "hash_ids", &a->row, &a->row_cap, &r.words, err))
		return -1;
	if (json_log_name(t, in, "session_id", name, err))
		return -1;
	r.input = (uint32_t)input;
	r.output = (uint32_t)output;
	uint32_t number = request_log_session(&a->log, name);
	bool starts = number == a->log.session_count;
	if (widen(&a->sessions, &a->session_cap, a->log.session_count, (size_t)number + 1, sizeof *a->sessions, err))
		return -1;
	struct session_ids *s = &a->sessions[number];
	if (starts)
		*s = (struct session_ids){0};
	if (check_row(in, a, s, &r, err))
		return -1;
	if (starts)
		s->first = r.words ? a->row[0] : 0;
	s->has_first = s->has_first || (starts && r.words);
	/* A later row may have the time of its own instead of a delay after the answer. */
	if (s->turns && timed && !delayed && at_ms < s->at_ms)
		return json_fault(in, CHECK_TIME, "timestamp", err, "time runs backwards: %.17g after %.17g", at_ms,
				  s->at_ms);
	s->at_ms = r.at_ms = timed && !(s->turns && delayed) ? at_ms : s->at_ms + delay_ms;
	if (request_log_add(&a->log, number, name, &r, a->row, err) || append_ids(s, a->row, r.words, err) ||
	    (starts && starts_add(&a->starts, s->ids, s->count, err)))
		return -1;
	s->turns++;
	s->context += r.input;
	struct trace_request request = {.ids = s->count ? s->ids : NULL,
					.count = s->count,
					.block_tokens = s->count ? BLOCK_TOKENS : 0,
					.input = (uint32_t)s->context,
					.output = r.output,
					.at_ms = r.at_ms,
					.line = r.line};
	s->context += r.output;
	return trace_request(t, &request, err);
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	struct aiperf *a = ctx;
	struct session *s = trace_session(t, a->log.sessions[number].name, err);
	a->playing.count = 0;
	a->playing.context = 0;
	if (!s)
		return NULL;
	s->hash_block_tokens = BLOCK_TOKENS;
	s->hashes_global = true;
	s->arrival_ms = first->at_ms;
	return s;
}

static int play(void *ctx, struct session *s, struct request_stream *stream, const struct logged *r,
		const uint64_t *ids, struct ikv_err *err)
{
	struct aiperf *a = ctx;
	bool starts = stream->turn == 0;
	if (!starts && request_wait(stream, s, r->at_ms - a->last_ms, err))
		return -1;
	a->last_ms = r->at_ms;
	if (append_ids(&a->playing, ids, r->words, err))
		return -1;
	/* What is decoded has no ids here, so the ids are fewer than the context's blocks: an append names all that
	 * the chain does not hold up to its end. */
	stream->ids = a->playing.ids;
	stream->count = a->playing.count;
	uint32_t input = stream->context + r->input, shared = starts ? starts_shared(&a->starts, ids, r->words) : 0;
	if (request_keep(stream, s, stream->context, input, r->line, err))
		return -1;
	if (shared * BLOCK_TOKENS >= r->input)
		shared = 0;
	if (shared && request_append(stream, s, shared * BLOCK_TOKENS, IKV_KIND_SYSTEM, 0.5F, err))
		return -1;
	if (request_append(stream, s, input, starts ? IKV_KIND_USER : IKV_KIND_TOOL_OUTPUT, 0.5F, err))
		return -1;
	return request_decode(stream, s, r->output, IKV_KIND_ASSISTANT, 0.7F, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct aiperf a = {0};
	struct request_player player = {&a, begin, play};
	int rc = json_read(t, path, JSON_LINES, read_row, &a, err);
	for (size_t i = 0; i < a.log.session_count; i++)
		ikv_free(a.sessions[i].ids);
	if (!rc)
		rc = starts_close(&a.starts, err);
	if (!rc)
		rc = request_log_play(&a.log, t, &player, err);
	request_log_free(&a.log);
	ikv_free(a.row);
	ikv_free(a.sessions);
	ikv_free(a.playing.ids);
	starts_free(&a.starts);
	return rc;
}

const struct importer importer_aiperf = {
    .name = "aiperf",
    .summary = "AIPerf multi-turn JSONL: sessions of rows whose lengths and ids are increments",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

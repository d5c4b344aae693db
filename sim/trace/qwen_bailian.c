/* Alibaba's Qwen-Bailian traces (Wang et al. 2025, USENIX ATC): requests of 16-token blocks; a request names the one
 * that it goes on from. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/request_log.h"
#include "sim/trace/starts.h"

enum { BLOCK_TOKENS = 16 };

/* What a request is about, behind its ids in the payload. */
static const struct {
	const char *type;
	enum ikv_kind kind;
} types[] = {{"text", IKV_KIND_USER},  {"search", IKV_KIND_RETRIEVED}, {"file", IKV_KIND_RETRIEVED},
	     {"image", IKV_KIND_USER}, {"coder", IKV_KIND_USER},       {"thinking", IKV_KIND_USER}};
enum { TYPES = sizeof types / sizeof *types };

struct bailian {
	struct request_log log;
	uint64_t *row;
	size_t row_cap;
	bool begun;
	double first_s, newest_s;
	struct id_table chats;  /* chat_id -> session */
	struct id_table newest; /* session -> chat_id of its newest request */
	struct id_table turns;  /* lint: chat_id -> its `turn` */
	struct session_starts starts;
	double last_ms;
};

static int detect(const char *path, const char *head, size_t size)
{
	static const char *const keys[] = {"\"parent_chat_id\"", "\"chat_id\"", "\"input_length\"", NULL};
	(void)path;
	return json_line_has(head, size, keys) ? 95 : 0;
}

static int read_record(struct json_input *in, struct bailian *b, struct logged *r, int64_t chat[2],
		       struct ikv_err *err)
{
	const json_t *o = in->value;
	int64_t input, output;
	double at_s;
	if (json_member_int(in, o, "chat_id", 0, INT64_MAX, &chat[0], NULL, err) ||
	    json_member_int(in, o, "parent_chat_id", -1, INT64_MAX, &chat[1], NULL, err) ||
	    json_member_real(in, o, "timestamp", 0, 1e12, &at_s, NULL, err) ||
	    json_member_int(in, o, "input_length", 1, REQUEST_TOKENS_MAX, &input, NULL, err) ||
	    json_member_int(in, o, "output_length", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_ids(in, o, "hash_ids", &b->row, &b->row_cap, &r->words, err))
		return -1;
	r->input = (uint32_t)input;
	r->output = (uint32_t)output;
	r->line = in->line;
	uint32_t least = r->input / BLOCK_TOKENS, most = ikv_pages(r->input, BLOCK_TOKENS);
	if (r->words < least || r->words > most)
		return json_fault(in, CHECK_ID_COUNT, "hash_ids", err,
				  "%u ids for an input of %u tokens, expected %u or %u: one for each block of %d",
				  r->words, r->input, least, most, BLOCK_TOKENS);
	if (b->begun && at_s < b->newest_s)
		return json_fault(in, CHECK_TIME, "timestamp", err, "time runs backwards: %.17g after %.17g", at_s,
				  b->newest_s);
	uint64_t session;
	if (id_table_get(&b->chats, (uint64_t)chat[0], &session))
		return json_fault(in, CHECK_DUPLICATE, "chat_id", err, "two requests with the id %lld",
				  (long long)chat[0]);
	if (!b->begun)
		b->first_s = at_s;
	b->begun = true;
	b->newest_s = at_s;
	r->at_ms = (at_s - b->first_s) * 1e3;
	return 0;
}

/* A request goes on with its parent's session; a second child of one parent is a branch, and begins a session. */
static int place_record(struct trace *t, struct bailian *b, const struct logged *r, const int64_t chat[2],
			uint32_t *place, struct ikv_err *err)
{
	uint64_t session = b->log.session_count, parent_session, newest;
	if (chat[1] >= 0) {
		if (!id_table_get(&b->chats, (uint64_t)chat[1], &parent_session))
			trace_warn(t, CHECK_CONSISTENCY, r->line, "parent_chat_id",
				   "no request %lld before this one; it begins a session", (long long)chat[1]);
		else if (id_table_get(&b->newest, parent_session, &newest) && newest == (uint64_t)chat[1])
			session = parent_session;
	}
	*place = (uint32_t)session;
	if (id_table_put(&b->chats, (uint64_t)chat[0], session, err) ||
	    id_table_put(&b->newest, session, (uint64_t)chat[0], err))
		return -1;
	return session == b->log.session_count ? starts_add(&b->starts, b->row, r->words, err) : 0;
}

/* Lint: a conversation counts its turns, so a request has its parent's number and one. */
static int check_turn(struct trace *t, const struct json_input *in, struct bailian *b, const int64_t chat[2],
		      struct ikv_err *err)
{
	const json_t *v = json_object_get(in->value, "turn");
	uint64_t before;
	if (!t->opts->finding || !v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0) {
		char text[80];
		trace_warn(t, CHECK_VALUE, in->line, "turn", "found %s, expected a whole number",
			   json_describe(v, text));
		return 0;
	}
	uint64_t turn = (uint64_t)json_integer_value(v);
	if (chat[1] >= 0 && id_table_get(&b->turns, (uint64_t)chat[1], &before) && turn != before + 1)
		trace_warn(t, CHECK_CONSISTENCY, in->line, "turn", "%llu, but its parent %lld has %llu",
			   (unsigned long long)turn, (long long)chat[1], (unsigned long long)before);
	return id_table_put(&b->turns, (uint64_t)chat[0], turn, err);
}

static int read_request(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct bailian *b = ctx;
	struct logged r = {0};
	int64_t chat[2];
	uint32_t session, type = 0;
	const char *name;
	if (json_member_text(in, in->value, "type", true, &name, err) || read_record(in, b, &r, chat, err) ||
	    check_turn(t, in, b, chat, err) || place_record(t, b, &r, chat, &session, err))
		return -1;
	while (name && type < TYPES && strcmp(types[type].type, name) != 0)
		type++;
	uint32_t ids = r.words++;
	if (r.words > b->row_cap) {
		if (ikv_grow(&b->row, ids, r.words, sizeof *b->row, err))
			return -1;
		b->row_cap = r.words;
	}
	b->row[ids] = type;
	if (request_log_add(&b->log, session, NULL, &r, b->row, err))
		return -1;
	return trace_request(t,
			     &(struct trace_request){.ids = b->row,
						     .count = ids,
						     .block_tokens = BLOCK_TOKENS,
						     .input = r.input,
						     .output = r.output,
						     .at_ms = r.at_ms,
						     .line = r.line},
			     err);
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	char id[32];
	(void)ctx;
	(void)number;
	snprintf(id, sizeof id, "bailian-%u", t->sessions);
	struct session *s = trace_session(t, id, err);
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
	struct bailian *b = ctx;
	bool starts = stream->turn == 0;
	uint32_t count = r->words - 1;
	uint64_t type = ids[count];
	stream->line = r->line;
	if (!starts && request_wait(stream, s, r->at_ms - b->last_ms, err))
		return -1;
	b->last_ms = r->at_ms;
	if (request_begin(stream, s, ids, count, r->input, r->line, err))
		return -1;
	uint32_t shared = starts ? starts_shared(&b->starts, ids, count) : 0;
	if (shared && request_append(stream, s, shared * BLOCK_TOKENS, IKV_KIND_SYSTEM, 0.5F, err))
		return -1;
	enum ikv_kind kind = type < TYPES ? types[type].kind : IKV_KIND_USER;
	if (request_append(stream, s, r->input, kind, type < TYPES ? 0.5F : 0.3F, err))
		return -1;
	return request_decode(stream, s, r->output, IKV_KIND_ASSISTANT, 0.7F, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct bailian b = {0};
	struct request_player player = {&b, begin, play};
	int rc = json_read(t, path, JSON_LINES, read_request, &b, err);
	if (!rc)
		rc = starts_close(&b.starts, err);
	if (!rc)
		rc = request_log_play(&b.log, t, &player, err);
	request_log_free(&b.log);
	ikv_free(b.row);
	id_table_free(&b.chats);
	id_table_free(&b.newest);
	id_table_free(&b.turns);
	starts_free(&b.starts);
	return rc;
}

const struct importer importer_qwen_bailian = {
    .name = "qwen-bailian",
    .summary = "Qwen-Bailian JSONL: requests of 16-token blocks, sessions by parent_chat_id",
    .detect = detect,
    .read = read_file,
};

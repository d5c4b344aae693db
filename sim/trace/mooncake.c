/* Mooncake's request traces (Qin et al. 2025): blocks of 512 tokens, ids chained from the first block on, so
 * that one id stands for the whole prefix that ends with it. Requests carry no session. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/request_log.h"
#include "sim/trace/starts.h"

enum { BLOCK_TOKENS = 512, CHAIN_BLOCKS_MIN = 2 };

struct mooncake {
	struct request_log log;
	double newest_ms;
	uint64_t *row; /* ids of the line at hand */
	size_t row_cap;
	struct id_table tails; /* last full block of a session's newest request -> session */
	struct session_starts starts;
	double last_ms; /* of the session being played */
};

static int detect(const char *path, const char *head, size_t size)
{
	static const char *const keys[] = {"\"hash_ids\"", "\"input_length\"", "\"timestamp\"", NULL},
				 *const session[] = {"\"session_id\"", NULL}, *const chat[] = {"\"chat_id\"", NULL};
	(void)path;
	return json_line_has(head, size, keys) && !json_line_has(head, size, session) &&
		       !json_line_has(head, size, chat)
		   ? 90
		   : 0;
}

static int read_record(struct json_input *in, struct mooncake *m, struct logged *r, struct ikv_err *err)
{
	const json_t *o = in->value;
	int64_t input, output;
	if (json_object_get(o, "session_id"))
		return json_fault(
		    in, CHECK_DELTA, "session_id", err,
		    "a request with a session: this is not mooncake, where lengths are whole inputs, but "
		    "aiperf, where they are increments");
	if (json_member_real(in, o, "timestamp", 0, 1e15, &r->at_ms, NULL, err) ||
	    json_member_int(in, o, "input_length", 1, REQUEST_TOKENS_MAX, &input, NULL, err) ||
	    json_member_int(in, o, "output_length", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_ids(in, o, "hash_ids", &m->row, &m->row_cap, &r->words, err))
		return -1;
	r->input = (uint32_t)input;
	r->output = (uint32_t)output;
	r->line = in->line;
	if (r->words != ikv_pages(r->input, BLOCK_TOKENS))
		return json_fault(in, CHECK_ID_COUNT, "hash_ids", err,
				  "%u ids for an input of %u tokens, expected %u: one for each started block of %d",
				  r->words, r->input, ikv_pages(r->input, BLOCK_TOKENS), BLOCK_TOKENS);
	if (r->at_ms < m->newest_ms)
		return json_fault(in, CHECK_TIME, "timestamp", err, "time runs backwards: %.17g after %.17g",
				  r->at_ms, m->newest_ms);
	return 0;
}

/* A request goes on with the session whose newest request had all its full blocks (two at least: one block may
 * be just a prompt that strangers share) at this request's start; the longest such prefix wins. */
static int place_record(struct mooncake *m, const struct logged *r, uint32_t *place, struct ikv_err *err)
{
	uint32_t full = r->input / BLOCK_TOKENS;
	uint64_t session = m->log.session_count;
	for (uint32_t i = r->words; i >= CHAIN_BLOCKS_MIN; i--) {
		if (id_table_get(&m->tails, m->row[i - 1], &session)) {
			id_table_remove(&m->tails, m->row[i - 1]);
			break;
		}
	}
	*place = (uint32_t)session;
	if (full >= CHAIN_BLOCKS_MIN && id_table_put(&m->tails, m->row[full - 1], session, err))
		return -1;
	if (session < m->log.session_count)
		return 0;
	return starts_add(&m->starts, m->row, r->words, err);
}

static int read_request(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct mooncake *m = ctx;
	struct logged r = {0};
	uint32_t session;
	if (read_record(in, m, &r, err) || place_record(m, &r, &session, err) ||
	    request_log_add(&m->log, session, NULL, &r, m->row, err))
		return -1;
	m->newest_ms = r.at_ms;
	return trace_request(t,
			     &(struct trace_request){.ids = m->row,
						     .count = r.words,
						     .block_tokens = BLOCK_TOKENS,
						     .input = r.input,
						     .output = r.output,
						     .at_ms = r.at_ms - m->log.first_ms,
						     .line = r.line},
			     err);
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	const struct mooncake *m = ctx;
	char id[32];
	snprintf(id, sizeof id, "mooncake-%u", t->sessions);
	(void)number;
	struct session *s = trace_session(t, id, err);
	if (!s)
		return NULL;
	s->hash_block_tokens = BLOCK_TOKENS;
	s->hashes_global = true;
	s->arrival_ms = first->at_ms - m->log.first_ms;
	return s;
}

static int play(void *ctx, struct session *s, struct request_stream *stream, const struct logged *r,
		const uint64_t *ids, struct ikv_err *err)
{
	struct mooncake *m = ctx;
	bool starts = stream->turn == 0;
	stream->line = r->line;
	/* The trace has no service times: the wait spans from one request's arrival to the next one's. */
	if (!starts && request_wait(stream, s, r->at_ms - m->last_ms, err))
		return -1;
	m->last_ms = r->at_ms;
	if (request_begin(stream, s, ids, r->words, r->input, r->line, err))
		return -1;
	uint32_t shared = starts ? starts_shared(&m->starts, ids, r->words) : 0;
	if (shared && request_append(stream, s, shared * BLOCK_TOKENS, IKV_KIND_SYSTEM, 0.5F, err))
		return -1;
	if (request_append(stream, s, r->input, IKV_KIND_USER, 0.5F, err))
		return -1;
	return request_decode(stream, s, r->output, IKV_KIND_ASSISTANT, 0.7F, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct mooncake m = {0};
	struct request_player player = {&m, begin, play};
	int rc = json_read(t, path, JSON_LINES, read_request, &m, err);
	if (!rc)
		rc = starts_close(&m.starts, err);
	if (!rc)
		rc = request_log_play(&m.log, t, &player, err);
	request_log_free(&m.log);
	ikv_free(m.row);
	id_table_free(&m.tails);
	starts_free(&m.starts);
	return rc;
}

const struct importer importer_mooncake = {
    .name = "mooncake",
    .summary = "Mooncake JSONL: requests of 512-token blocks; sessions inferred from shared prefixes",
    .detect = detect,
    .read = read_file,
};

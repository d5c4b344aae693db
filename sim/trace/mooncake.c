/* Mooncake's request traces (Qin et al. 2025): blocks of 512 tokens, ids chained from the first block on, so
 * that one id stands for the whole prefix that ends with it. Requests carry no session. */
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/request.h"

enum { BLOCK_TOKENS = 512, CHAIN_BLOCKS_MIN = 2, SHARED_STARTS_MIN = 4 };

struct record {
	double at_ms;
	size_t first; /* in ids */
	uint32_t count, input, output, session;
	int line;
};

struct mooncake {
	struct json_input in;
	struct record *records;
	size_t count, cap;
	uint64_t *ids;
	size_t id_count, id_cap;
	uint64_t *row; /* ids of the line at hand */
	size_t row_cap;
	uint32_t sessions;
	struct id_table seen;   /* all ids so far */
	struct id_table tails;  /* last full block of a session's newest request -> session */
	struct id_table starts; /* id -> in how many sessions' first requests it occurs */
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	const char *end = memchr(head, '\n', size);
	size_t line = end ? (size_t)(end - head) : size;
	return memmem(head, line, "\"hash_ids\"", 10) && memmem(head, line, "\"input_length\"", 14) &&
		       memmem(head, line, "\"timestamp\"", 11) && !memmem(head, line, "\"session_id\"", 12) &&
		       !memmem(head, line, "\"chat_id\"", 9)
		   ? 90
		   : 0;
}

static int read_record(struct mooncake *m, struct record *r, struct ikv_err *err)
{
	const json_t *o = m->in.value;
	int64_t input, output;
	if (json_object_get(o, "session_id"))
		return json_wrong(
		    &m->in, "session_id", err,
		    "a request with a session: this is not mooncake, where lengths are whole inputs, but "
		    "aiperf, where they are increments");
	if (json_member_real(&m->in, o, "timestamp", 0, 1e15, &r->at_ms, NULL, err) ||
	    json_member_int(&m->in, o, "input_length", 1, REQUEST_TOKENS_MAX, &input, NULL, err) ||
	    json_member_int(&m->in, o, "output_length", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_ids(&m->in, o, "hash_ids", &m->row, &m->row_cap, &r->count, err))
		return -1;
	r->input = (uint32_t)input;
	r->output = (uint32_t)output;
	r->line = m->in.line;
	if (r->count != ikv_pages(r->input, BLOCK_TOKENS))
		return json_wrong(&m->in, "hash_ids", err,
				  "%u ids for an input of %u tokens, expected %u: one for each started block of %d",
				  r->count, r->input, ikv_pages(r->input, BLOCK_TOKENS), BLOCK_TOKENS);
	if (m->count && r->at_ms < m->records[m->count - 1].at_ms)
		return json_wrong(&m->in, "timestamp", err, "time runs backwards: %.17g after %.17g", r->at_ms,
				  m->records[m->count - 1].at_ms);
	return 0;
}

static int grow(void *array, size_t count, size_t *cap, size_t more, size_t size, struct ikv_err *err)
{
	if (*cap - count >= more)
		return 0;
	size_t next = *cap * 2 + more + 64;
	if (ikv_grow(array, count, next, size, err))
		return -1;
	*cap = next;
	return 0;
}

/* A request goes on with the session whose newest request had all its full blocks (two at least: one block may
 * be just a prompt that strangers share) at this request's start; the longest such prefix wins. */
static int place_record(struct mooncake *m, struct record *r, struct ikv_err *err)
{
	uint32_t full = r->input / BLOCK_TOKENS;
	uint64_t session = m->sessions;
	for (uint32_t i = r->count; i >= CHAIN_BLOCKS_MIN; i--) {
		if (id_table_get(&m->tails, m->row[i - 1], &session)) {
			id_table_remove(&m->tails, m->row[i - 1]);
			break;
		}
	}
	r->session = (uint32_t)session;
	if (full >= CHAIN_BLOCKS_MIN && id_table_put(&m->tails, m->row[full - 1], session, err))
		return -1;
	if (session < m->sessions)
		return 0;
	m->sessions++;
	for (uint32_t i = 0; i < r->count; i++) {
		uint64_t n = 0;
		id_table_get(&m->starts, m->row[i], &n);
		if (id_table_put(&m->starts, m->row[i], n + 1, err))
			return -1;
	}
	return 0;
}

static int read_all(struct mooncake *m, const struct session_options *opts, struct session_list *out,
		    struct ikv_err *err)
{
	int got;
	while ((got = json_input_next(&m->in, err)) != 0) {
		struct record r = {0};
		if (got == -1)
			return -1;
		if (got == -2 || read_record(m, &r, err)) {
			if (!opts->skip_bad)
				return -1;
			out->skipped++;
			continue;
		}
		if (place_record(m, &r, err) ||
		    grow(&m->ids, m->id_count, &m->id_cap, r.count, sizeof *m->ids, err) ||
		    grow(&m->records, m->count, &m->cap, 1, sizeof *m->records, err) ||
		    request_count(out, &m->seen, m->row, r.count, r.input, r.output, err))
			return -1;
		r.first = m->id_count;
		memcpy(m->ids + m->id_count, m->row, r.count * sizeof *m->ids);
		m->id_count += r.count;
		m->records[m->count++] = r;
		out->records++;
	}
	return 0;
}

static int play_record(struct mooncake *m, const struct record *r, struct request_stream *stream, struct session *s,
		       double *last_ms, struct ikv_err *err)
{
	const uint64_t *ids = m->ids + r->first;
	bool starts = stream->turn == 0;
	if (starts)
		s->arrival_ms = r->at_ms - m->records[0].at_ms;
	stream->line = r->line;
	/* The trace has no service times: the wait spans from one request's arrival to the next one's. */
	if (!starts && request_wait(stream, s, r->at_ms - *last_ms, err))
		return -1;
	*last_ms = r->at_ms;
	if (request_begin(stream, s, ids, r->count, r->input, r->line, err))
		return -1;
	uint32_t shared = 0;
	uint64_t n;
	while (starts && shared < r->count && id_table_get(&m->starts, ids[shared], &n) && n >= SHARED_STARTS_MIN)
		shared++;
	if (shared && request_append(stream, s, shared * BLOCK_TOKENS, IKV_KIND_SYSTEM, 0.5F, err))
		return -1;
	if (request_append(stream, s, r->input, IKV_KIND_USER, 0.5F, err))
		return -1;
	return request_decode(stream, s, r->output, IKV_KIND_ASSISTANT, 0.7F, err);
}

static int build(struct mooncake *m, struct session_list *out, struct ikv_err *err)
{
	struct request_stream *streams = ikv_alloc(m->sessions, sizeof *streams, err);
	double *last_ms = streams ? ikv_alloc(m->sessions, sizeof *last_ms, err) : NULL;
	int rc = last_ms ? 0 : -1;
	uint32_t base = out->count;
	for (uint32_t i = 0; !rc && i < m->sessions; i++) {
		char id[64];
		snprintf(id, sizeof id, "mooncake-%u", base + i);
		struct session *s = session_add(out, id, err);
		if (!s) {
			rc = -1;
			break;
		}
		s->hash_block_tokens = BLOCK_TOKENS;
		s->hashes_global = true;
	}
	for (size_t i = 0; !rc && i < m->count; i++) {
		const struct record *r = &m->records[i];
		m->in.line = r->line;
		rc = play_record(m, r, &streams[r->session], &out->items[base + r->session], &last_ms[r->session],
				 err);
	}
	ikv_free(streams);
	ikv_free(last_ms);
	return rc;
}

static int read_file(const char *path, const struct session_options *opts, struct session_list *out,
		     struct ikv_err *err)
{
	struct mooncake m = {0};
	int rc = json_input_open(&m.in, path, JSON_LINES, err);
	if (!rc)
		rc = read_all(&m, opts, out, err);
	if (!rc)
		rc = build(&m, out, err);
	json_input_close(&m.in);
	ikv_free(m.records);
	ikv_free(m.ids);
	ikv_free(m.row);
	id_table_free(&m.seen);
	id_table_free(&m.tails);
	id_table_free(&m.starts);
	return rc;
}

const struct importer importer_mooncake = {
    .name = "mooncake",
    .summary = "Mooncake JSONL: requests of 512-token blocks; sessions inferred from shared prefixes",
    .detect = detect,
    .read = read_file,
};

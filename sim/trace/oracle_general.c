/* libCacheSim's oracleGeneral traces (Yang et al.), of which block storage and object caches have published many:
 * records of 24 bytes, little-endian, without a header: u32 seconds, u64 object, u32 bytes, i64 number of the
 * object's next record or -1. Nothing in them tells sessions apart, so they are cut into pieces. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/importer.h"

enum { RECORD_BYTES = 24, SESSION_REQUESTS = 10000, TOKEN_BYTES = 4096 };
#define SIZE_LIKELY (1u << 28) /* a record with a larger object is text or something else */
#define NEXT_LIKELY (1ll << 40)

struct record {
	uint32_t time, bytes;
	uint64_t object;
	int64_t next;
};

static uint64_t little(const unsigned char *at, int bytes)
{
	uint64_t v = 0;
	for (int i = 0; i < bytes; i++)
		v |= (uint64_t)at[i] << (8 * i);
	return v;
}

static struct record unpack(const unsigned char *at)
{
	return (struct record){.time = (uint32_t)little(at, 4),
			       .object = little(at + 4, 8),
			       .bytes = (uint32_t)little(at + 12, 4),
			       .next = (int64_t)little(at + 16, 8)};
}

/* From the records at the start of the file, all of which must make sense; the name only adds to that. */
static int detect(const char *path, const char *head, size_t size)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') : path;
	bool named = strstr(name, ".oracleGeneral") != NULL;
	uint32_t newest = 0;
	if (size < RECORD_BYTES || (!named && size < 65536 && size % RECORD_BYTES))
		return 0;
	for (size_t i = 0; i < size / RECORD_BYTES; i++) {
		struct record r = unpack((const unsigned char *)head + i * RECORD_BYTES);
		bool never = r.next == -1 || r.next == INT64_MAX;
		if (r.time < newest || r.bytes == 0 || r.bytes > SIZE_LIKELY ||
		    (!never && (r.next <= (int64_t)i || r.next > NEXT_LIKELY)))
			return named && i ? 55 : 0; /* reading it will say what is wrong */
		newest = r.time;
	}
	return named ? 95 : strstr(name, ".bin") ? 80 : 60;
}

struct reading {
	struct trace *trace;
	struct trace_input in;
	uint64_t number; /* of the record at hand, from 1 */
	uint32_t first_time, newest_time;
	bool started; /* first_time is known */
	struct session *session;
	uint32_t turn, turn_time; /* in that session: the next request's number, the newest one's time */
};

static int wrong(struct reading *r, enum trace_check check, const char *what, struct ikv_err *err)
{
	char place[80];
	snprintf(place, sizeof place, "record %llu at byte %llu", (unsigned long long)r->number,
		 (unsigned long long)((r->number - 1) * RECORD_BYTES));
	return trace_wrong(&r->in, check, (int)r->number, place, err, "%s", what);
}

/* 1, 0 at the end of the file, -1 */
static int read_record(struct reading *r, struct record *out, struct ikv_err *err)
{
	unsigned char raw[RECORD_BYTES];
	char what[100];
	int got = trace_input_bytes(&r->in, raw, sizeof raw, err);
	r->number += got != 0;
	if (got < 0 && r->in.check == CHECK_TRUNCATED)
		return wrong(r, CHECK_TRUNCATED, "the file ends inside this record of 24 bytes: it is truncated",
			     err);
	if (got <= 0)
		return got;
	*out = unpack(raw);
	if (out->bytes == 0)
		return wrong(r, CHECK_VALUE, "an object of 0 bytes, expected 1 or more", err);
	if (out->next < -1)
		return wrong(r, CHECK_VALUE, "a negative next access other than -1", err);
	if (r->started && out->time < r->newest_time) {
		snprintf(what, sizeof what, "time runs backwards: %u after %u", out->time, r->newest_time);
		return wrong(r, CHECK_TIME, what, err);
	}
	return 1;
}

static int begin_session(struct reading *r, const struct record *rec, struct ikv_err *err)
{
	char id[40];
	snprintf(id, sizeof id, "objects-%u", r->trace->sessions);
	r->session = trace_session(r->trace, id, err);
	if (!r->session)
		return -1;
	r->session->hashes_global = true;
	r->session->arrival_ms = 1e3 * (rec->time - r->first_time);
	r->turn = 0;
	return 0;
}

static struct session_event *push(struct reading *r, enum session_op op, uint32_t tokens, struct ikv_err *err)
{
	struct session_event *e = session_push(r->session, op, err);
	if (e) {
		e->tokens = tokens;
		e->turn = r->turn;
		e->line = (int)r->number;
	}
	return e;
}

/* A turn of its own: the context is the object alone. */
static int add_turn(struct reading *r, const struct record *rec, uint32_t tokens, struct ikv_err *err)
{
	struct session_event *e;
	char name[40];
	if (r->turn && rec->time > r->turn_time) {
		if (!(e = push(r, SESSION_WAIT, 0, err)))
			return -1;
		e->wait_ms = 1e3 * (rec->time - r->turn_time);
	}
	if (r->turn && !push(r, SESSION_COMPACT, 0, err))
		return -1;
	if (!(e = push(r, SESSION_APPEND, tokens, err)))
		return -1;
	snprintf(name, sizeof name, "object-%llu", (unsigned long long)rec->object);
	e->kind = IKV_KIND_OTHER;
	e->confidence = 1;
	e->name = strdup(name);
	if (!e->name)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	if (!(e = push(r, SESSION_DECODE, 1, err)))
		return -1;
	e->kind = IKV_KIND_ASSISTANT;
	e->confidence = 0; /* not in the trace */
	r->turn++;
	r->turn_time = rec->time;
	return 0;
}

static int end_session(struct reading *r, struct ikv_err *err)
{
	if (!r->session)
		return 0;
	r->session = NULL;
	return trace_emit(r->trace, err);
}

static int add_record(struct reading *r, const struct record *rec, struct ikv_err *err)
{
	uint32_t tokens = rec->bytes / TOKEN_BYTES + (rec->bytes % TOKEN_BYTES != 0);
	if (!r->started)
		r->first_time = rec->time;
	r->started = true;
	r->newest_time = rec->time;
	bool plays = trace_wants_sessions(r->trace);
	if (plays && ((!r->session && begin_session(r, rec, err)) || add_turn(r, rec, tokens, err)))
		return -1;
	if (trace_request(r->trace,
			  &(struct trace_request){
			      .ids = &rec->object,
			      .count = 1,
			      .bytes = rec->bytes,
			      .input = tokens,
			      .output = 1,
			      .at_ms = 1e3 * (rec->time - r->first_time),
			      .line = (int)r->number,
			  },
			  err))
		return -1;
	return r->turn < SESSION_REQUESTS ? 0 : end_session(r, err);
}

static int read_all(struct reading *r, struct ikv_err *err)
{
	struct record rec;
	struct ikv_err why;
	int got = 1;
	while (got && !trace_full(r->trace)) {
		got = read_record(r, &rec, &why);
		if (got == 1 && add_record(r, &rec, err))
			return -1;
		r->trace->facts->records += got == 1;
		if (got >= 0)
			continue;
		/* What was read before a bad record is kept. */
		if (end_session(r, err))
			return -1;
		*err = why;
		if (trace_bad(r->trace, &r->in, err))
			return -1;
		if (r->in.unreadable)
			break;
	}
	return end_session(r, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct reading r = {.trace = t};
	snprintf(t->facts->tokens_by, sizeof t->facts->tokens_by, "bytes/%d", TOKEN_BYTES);
	int rc = trace_input_open(&r.in, path, err);
	if (!rc)
		rc = read_all(&r, err);
	trace_input_close(&r.in);
	return rc;
}

const struct importer importer_oracle_general = {
    .name = "oracle-general",
    .summary = "libCacheSim's binary records of time, object, bytes and next access; sessions of 10,000 requests",
    .detect = detect,
    .read = read_file,
};

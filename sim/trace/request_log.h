/* Logs in which the requests of many sessions interleave: kept, and given back session by session.
 *
 * A record stays in memory (some 50 bytes); its payload, ids and whatever else an importer notes of it as 64-bit
 * words, goes to a temporary file once there is more than 64 MB of it. */
#ifndef SIM_TRACE_REQUEST_LOG_H
#define SIM_TRACE_REQUEST_LOG_H

#include <stdio.h>
#include "sim/trace/importer.h"
#include "sim/trace/request.h"

struct logged {
	double at_ms;
	uint32_t input, output; /* tokens */
	uint32_t words;         /* of payload */
	int line;
	uint64_t payload; /* place of its first word; set by request_log_add */
	uint32_t next;    /* record of the same session; set by request_log_add */
};

struct logged_session {
	uint32_t first, last; /* records */
	uint32_t count;
};

struct request_log {
	struct logged *records;
	size_t count, cap;
	struct logged_session *sessions;
	size_t session_count, session_cap;
	uint64_t *words; /* of payload, not yet in the file */
	size_t word_count, word_cap;
	uint64_t spilled; /* words in the file */
	FILE *file;
};

/* The record of session number `session`; a number beyond the last begins a new session, and must be the next. */
int request_log_add(struct request_log *log, uint32_t session, const struct logged *record, const uint64_t *payload,
		    struct ikv_err *err);
void request_log_free(struct request_log *log);

/* How a session is made from its records: `begin` names it (trace_session) and sets its block size, `play` adds one
 * request to it. */
struct request_player {
	void *ctx;
	struct session *(*begin)(void *ctx, struct trace *t, uint32_t session, const struct logged *first,
				 struct ikv_err *err);
	/* `payload` and the one of the call before stay valid until the next call. */
	int (*play)(void *ctx, struct session *s, struct request_stream *stream, const struct logged *record,
		    const uint64_t *payload, struct ikv_err *err);
};
/* Play and hand over the sessions in the order in which they began. Their requests have been told of before. */
int request_log_play(const struct request_log *log, struct trace *t, const struct request_player *player,
		     struct ikv_err *err);

#endif

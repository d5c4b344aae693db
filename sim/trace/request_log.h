/* Logs in which the requests of many sessions interleave: kept, and given back session by session.
 *
 * Records and their payload, ids and whatever else an importer notes as 64-bit words, go to a temporary file once
 * there is more than 64 MB of them; 12 bytes a record and some 40 a session stay in memory. */
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
};

struct logged_session {
	uint32_t first, last; /* records */
	char *name;           /* owned, or NULL */
};

struct request_log {
	uint64_t *places; /* of each record's first word */
	uint32_t *next;   /* record of the same session, UINT32_MAX after the last */
	size_t count, place_cap, next_cap;
	double first_ms; /* at_ms of the first record */
	struct logged_session *sessions;
	size_t session_count, session_cap;
	struct id_table names; /* hash of a name -> session */
	uint64_t *words;       /* of records, not yet in the file */
	size_t word_count, word_cap;
	uint64_t spilled; /* words in the file */
	FILE *file;
};

/* The number of the session of that name; that of the next one if there is none. */
uint32_t request_log_session(const struct request_log *log, const char *name);
/* A record of session number `session`; the number after the last begins a session, named `name` unless that is NULL.
 */
int request_log_add(struct request_log *log, uint32_t session, const char *name, const struct logged *record,
		    const uint64_t *payload, struct ikv_err *err);
void request_log_free(struct request_log *log);

/* How a session is made from its records: `begin` names it (trace_session) and sets its block size, `play` adds one
 * request to it. It may also tell of the requests (trace_request) if that has not been done before. */
struct request_player {
	void *ctx;
	struct session *(*begin)(void *ctx, struct trace *t, uint32_t session, const struct logged *first,
				 struct ikv_err *err);
	/* `payload` and the one of the call before stay valid until the next call. */
	int (*play)(void *ctx, struct session *s, struct request_stream *stream, const struct logged *record,
		    const uint64_t *payload, struct ikv_err *err);
};
/* Play and hand over the sessions in the order in which they began. */
int request_log_play(const struct request_log *log, struct trace *t, const struct request_player *player,
		     struct ikv_err *err);

#endif

/* From requests (a whole input each, named by block ids) to what was appended since the request before. */
#ifndef SIM_TRACE_REQUEST_H
#define SIM_TRACE_REQUEST_H

#include "sim/session.h"

#define REQUEST_TOKENS_MAX 0x3fffffff /* of one input or output, so that sums stay below 2^31 */

/* One stream of requests that continue each other. Starts zeroed; ids are borrowed until the next request. */
struct request_stream {
	const uint64_t *ids; /* of the newest request */
	uint32_t count, input;
	uint32_t context; /* tokens held, decoded ones included */
	uint32_t known;   /* tokens up to the end of the last append */
	uint32_t named;   /* ids in the session's chain by now */
	uint32_t turn;    /* number of the next request */
	uint32_t common;  /* blocks that the newest request shares with the one before */
	int line;
};

/* A request whose input of `input` tokens is named by ids [count]. If it goes on from all full blocks of the
 * request before, the context stays; else it is cut back to the shared blocks. Without ids a longer input goes on,
 * and of a context that another input replaces nothing stays. */
int request_begin(struct request_stream *r, struct session *s, const uint64_t *ids, uint32_t count, uint32_t input,
		  int line, struct ikv_err *err);
/* The same where the trace says how many tokens of the context stay. */
int request_keep(struct request_stream *r, struct session *s, uint32_t kept, uint32_t input, int line,
		 struct ikv_err *err);
/* Append what lies between the context and position `upto`; nothing if the context is there already. It takes the ids
 * up to there; all that are left, at the end of the input (formats that do not name what was decoded have fewer ids
 * than blocks, others more). */
int request_append(struct request_stream *r, struct session *s, uint32_t upto, enum ikv_kind kind, float confidence,
		   struct ikv_err *err);
int request_decode(struct request_stream *r, struct session *s, uint32_t tokens, enum ikv_kind kind, float confidence,
		   struct ikv_err *err);
int request_wait(const struct request_stream *r, struct session *s, double ms, struct ikv_err *err);

#endif

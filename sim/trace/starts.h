/* Prompts that many sessions begin with, where the trace does not say which part is the system prompt. */
#ifndef SIM_TRACE_STARTS_H
#define SIM_TRACE_STARTS_H

#include "sim/trace/census.h"

enum { SHARED_STARTS_MIN = 4 };

struct session_starts {
	struct census census; /* of the ids in sessions' first requests */
	struct id_set shared; /* those that at least SHARED_STARTS_MIN of them have, once closed */
};
/* The first request of a session. */
int starts_add(struct session_starts *s, const uint64_t *ids, uint32_t count, struct ikv_err *err);
/* All sessions have been added. */
int starts_close(struct session_starts *s, struct ikv_err *err);
/* Leading blocks that at least SHARED_STARTS_MIN sessions begin with. */
uint32_t starts_shared(const struct session_starts *s, const uint64_t *ids, uint32_t count);
void starts_free(struct session_starts *s);

#endif

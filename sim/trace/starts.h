/* Prompts that many sessions begin with, where the trace does not say which part is the system prompt. */
#ifndef SIM_TRACE_STARTS_H
#define SIM_TRACE_STARTS_H

#include "sim/trace/id_table.h"

enum { SHARED_STARTS_MIN = 4 };

struct session_starts {
	struct id_table sessions; /* content id -> how many sessions' first requests have it */
};
/* The first request of a session. */
int starts_add(struct session_starts *s, const uint64_t *ids, uint32_t count, struct ikv_err *err);
/* Leading blocks that at least SHARED_STARTS_MIN sessions begin with. */
uint32_t starts_shared(const struct session_starts *s, const uint64_t *ids, uint32_t count);

#endif

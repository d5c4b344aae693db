#include "sim/trace/starts.h"

int starts_add(struct session_starts *s, const uint64_t *ids, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t n = 0;
		id_table_get(&s->sessions, ids[i], &n);
		if (id_table_put(&s->sessions, ids[i], n + 1, err))
			return -1;
	}
	return 0;
}

uint32_t starts_shared(const struct session_starts *s, const uint64_t *ids, uint32_t count)
{
	uint32_t shared = 0;
	uint64_t n;
	while (shared < count && id_table_get(&s->sessions, ids[shared], &n) && n >= SHARED_STARTS_MIN)
		shared++;
	return shared;
}

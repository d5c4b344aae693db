#include "sim/trace/starts.h"

int starts_add(struct session_starts *s, const uint64_t *ids, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++)
		if (census_add(&s->census, ids[i], err))
			return -1;
	return 0;
}

int starts_close(struct session_starts *s, struct ikv_err *err)
{
	return census_frequent(&s->census, SHARED_STARTS_MIN, &s->shared, err);
}

uint32_t starts_shared(const struct session_starts *s, const uint64_t *ids, uint32_t count)
{
	uint32_t shared = 0;
	while (shared < count && id_set_has(&s->shared, ids[shared]))
		shared++;
	return shared;
}

void starts_free(struct session_starts *s)
{
	census_free(&s->census);
	id_set_free(&s->shared);
}

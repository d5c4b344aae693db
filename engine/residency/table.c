/* The residency policies. */
#include <string.h>
#include "residency/residency_table.h"

static const struct ikv_residency_ops *const table[] = {
    &residency_lru,    &residency_fifo, &residency_clock,  &residency_lfu, &residency_sieve,
    &residency_s3fifo, &residency_arc,  &residency_belady, NULL,
};

const struct ikv_residency_ops *const *ikv_residencies(void)
{
	return table;
}

const struct ikv_residency_ops *ikv_residency_find(const char *name)
{
	for (size_t i = 0; table[i]; i++)
		if (!strcmp(table[i]->name, name))
			return table[i];
	return NULL;
}

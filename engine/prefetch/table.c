/* The prefetchers. */
#include <string.h>
#include "prefetch/prefetch_table.h"

static const struct ikv_prefetcher_ops *const table[] = {&prefetch_none, &prefetch_frequency, NULL};

const struct ikv_prefetcher_ops *const *ikv_prefetchers(void)
{
	return table;
}

const struct ikv_prefetcher_ops *ikv_prefetcher_find(const char *name)
{
	for (size_t i = 0; table[i]; i++)
		if (!strcmp(table[i]->name, name))
			return table[i];
	return NULL;
}

#include <string.h>
#include "source.h"

extern const struct source_ops source_synthetic, source_capture;

const struct source_ops *const sources[] = {&source_synthetic, &source_capture, NULL};

const struct source_ops *source_find(const char *name)
{
	for (size_t i = 0; sources[i]; i++)
		if (!strcmp(sources[i]->name, name))
			return sources[i];
	return NULL;
}

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "sim/datadir.h"

const char *datadir_find(const char *relative, char *buf, size_t size)
{
	const char *const folders[] = {getenv("INTENTKV_DATADIR"), SRCDIR, PKGDATADIR};
	for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
		if (!folders[i] || !*folders[i])
			continue;
		int n = snprintf(buf, size, "%s/%s", folders[i], relative);
		if (n > 0 && (size_t)n < size && access(buf, R_OK) == 0)
			return buf;
	}
	return NULL;
}

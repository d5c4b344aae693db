/* Small traces in tests: written to a file, read, and the file removed. */
#ifndef TESTS_UNIT_TRACE_TEXT_H
#define TESTS_UNIT_TRACE_TEXT_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "sim/trace/trace.h"

/* The path is good until the next call. */
static inline const char *trace_file(const void *bytes, size_t size)
{
	static char path[64];
	snprintf(path, sizeof path, "/tmp/ikv-trace-XXXXXX");
	FILE *f = fdopen(mkstemp(path), "wb");
	if (!f || fwrite(bytes, 1, size, f) != size || fclose(f))
		abort();
	return path;
}

static inline int import_bytes(const char *format, const void *bytes, size_t size, const struct session_options *opts,
			       struct session_list *out, struct ikv_err *err)
{
	const char *path = trace_file(bytes, size);
	int rc = session_import(path, format, opts, out, err);
	unlink(path);
	return rc;
}

#endif

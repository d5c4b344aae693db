/* CSV (RFC 4180) with a header line, from strangers: columns are found by name, every complaint has its line. */
#ifndef SIM_TRACE_CSV_INPUT_H
#define SIM_TRACE_CSV_INPUT_H

#include "sim/trace/importer.h"

enum { CSV_COLUMNS_MAX = 256, CSV_WANTED_MAX = 16, CSV_FIELD_MAX = 64 << 10 };

struct csv_column {
	const char *name; /* in the header; case and blanks at the ends do not count */
	bool optional;
};

struct csv_input {
	struct trace_input file;
	const struct csv_column *wanted; /* not owned */
	uint32_t wanted_count;
	int place[CSV_WANTED_MAX]; /* column of each wanted one, -1 if it is not there */
	uint32_t columns;
	char *text; /* of the row at hand; fields end with NUL */
	size_t size, cap;
	size_t field[CSV_COLUMNS_MAX]; /* offsets in text */
	uint32_t fields;
	int line, next_line;
};

/* Does a header line with all the named columns begin the file? For detect(). */
bool csv_has_columns(const char *head, size_t size, const struct csv_column *wanted, uint32_t count);

/* A trace of rows from begin to end: hand each to `row`. Bad ones are left out where the options allow it. */
int csv_read(struct trace *t, const char *path, const struct csv_column *wanted, uint32_t count,
	     int (*row)(struct trace *t, struct csv_input *in, void *ctx, struct ikv_err *err), void *ctx,
	     struct ikv_err *err);

/* The field of a wanted column; "" if the column is not there. */
const char *csv_text(const struct csv_input *in, uint32_t column);
int csv_int(struct csv_input *in, uint32_t column, int64_t min, int64_t max, int64_t *out, struct ikv_err *err);
int csv_real(struct csv_input *in, uint32_t column, double min, double max, double *out, struct ikv_err *err);
/* "YYYY-MM-DD HH:MM:SS" (or T between), fraction and zone Z or +HH:MM optional, as nanoseconds since 1970. */
int csv_time(struct csv_input *in, uint32_t column, int64_t *out_ns, struct ikv_err *err);
IKV_PRINTF(5, 6)
int csv_fault(struct csv_input *in, enum trace_check check, uint32_t column, struct ikv_err *err, const char *fmt,
	      ...);

#endif

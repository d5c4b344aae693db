#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "sim/trace/csv_input.h"
#include "sim/trace/timestamp.h"

static bool same_name(const char *field, size_t size, const char *name)
{
	while (size && strchr(" \t\"", *field))
		field++, size--;
	while (size && strchr(" \t\"", field[size - 1]))
		size--;
	return size == strlen(name) && !strncasecmp(field, name, size);
}

bool csv_has_columns(const char *head, size_t size, const struct csv_column *wanted, uint32_t count)
{
	if (size >= 3 && !memcmp(head, "\xef\xbb\xbf", 3))
		head += 3, size -= 3;
	const char *newline = memchr(head, '\n', size), *end = newline ? newline : head + size;
	if (end > head && end[-1] == '\r')
		end--;
	for (uint32_t i = 0; i < count; i++) {
		bool found = wanted[i].optional;
		for (const char *at = head; !found && at < end;) {
			const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
			found = same_name(at, (size_t)(stop - at), wanted[i].name);
			at = stop + 1;
		}
		if (!found)
			return false;
	}
	return true;
}

int csv_fault(struct csv_input *in, enum trace_check check, uint32_t column, struct ikv_err *err, const char *fmt,
	      ...)
{
	char text[600];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return trace_wrong(&in->file, check, in->line, column < in->wanted_count ? in->wanted[column].name : NULL,
			   err, "%s", text);
}

static int put(struct csv_input *in, char c, struct ikv_err *err)
{
	if (in->size == in->cap) {
		size_t cap = in->cap * 2 + 4096;
		if (ikv_grow(&in->text, in->size, cap, 1, err))
			return -1;
		in->cap = cap;
	}
	in->text[in->size++] = c;
	return 0;
}

enum { NONE = UINT32_MAX };

/* One field into in->text. What ended it: ',', '\n', TRACE_EOF; or TRACE_FAILED. */
static int read_field(struct csv_input *in, struct ikv_err *err)
{
	size_t first = in->field[in->fields++] = in->size;
	bool quoted = false, closed = false;
	int c;
	while ((c = trace_getc(&in->file, err)) >= 0) {
		if (c == '\n')
			in->next_line++;
		if (c == '"' && !closed && in->size == first && !quoted) {
			quoted = true;
		} else if (quoted && !closed && c == '"') {
			closed = true;
		} else if (closed && c == '"') {
			closed = false; /* two quotes are one */
			if (put(in, '"', err))
				return TRACE_FAILED;
		} else if ((c == ',' || c == '\n') && (!quoted || closed)) {
			break;
		} else if (c == 0 || in->size - first >= CSV_FIELD_MAX) {
			csv_fault(in, c ? CHECK_LIMIT : CHECK_SYNTAX, NONE, err,
				  c ? "a field longer than 64 KB" : "a NUL byte");
			in->file.unreadable = true;
			return TRACE_FAILED;
		} else if (put(in, (char)c, err)) {
			return TRACE_FAILED;
		}
	}
	if (c == TRACE_EOF && quoted && !closed) {
		csv_fault(in, CHECK_TRUNCATED, NONE, err, "the file ends inside a quoted field: it is truncated");
		in->file.unreadable = true;
		return TRACE_FAILED;
	}
	if (c != ',' && in->size > first && in->text[in->size - 1] == '\r')
		in->size--;
	return put(in, '\0', err) ? TRACE_FAILED : c;
}

/* The next row that is not blank: 1, 0 at the end, -1. `cut_short`: it has no end of line. */
static int read_row(struct csv_input *in, bool *cut_short, struct ikv_err *err)
{
	int c;
	do {
		in->line = in->file.line = in->next_line;
		in->size = in->fields = 0;
		do {
			if (in->fields == CSV_COLUMNS_MAX) {
				csv_fault(in, CHECK_LIMIT, NONE, err, "more than %d columns", CSV_COLUMNS_MAX);
				in->file.unreadable = true;
				return -1;
			}
			c = read_field(in, err);
		} while (c == ',');
		if (c == TRACE_FAILED)
			return -1;
	} while (c == '\n' && in->fields == 1 && !in->text[0]);
	*cut_short = c == TRACE_EOF;
	return !(c == TRACE_EOF && in->fields == 1 && !in->text[0]);
}

static int read_header(struct csv_input *in, struct ikv_err *err)
{
	bool cut_short;
	int got = read_row(in, &cut_short, err);
	if (got < 0)
		return -1;
	in->file.unreadable = true; /* nothing can be read without the columns */
	if (got == 0)
		return csv_fault(in, CHECK_TRUNCATED, NONE, err,
				 "the file is empty, expected a line of column names");
	in->columns = in->fields;
	char *first = in->text;
	if (!strncmp(first, "\xef\xbb\xbf", 3))
		in->field[0] += 3;
	for (uint32_t i = 0; i < in->wanted_count; i++) {
		in->place[i] = -1;
		for (uint32_t f = 0; f < in->fields; f++) {
			const char *name = in->text + in->field[f];
			if (!same_name(name, strlen(name), in->wanted[i].name))
				continue;
			if (in->place[i] >= 0)
				return csv_fault(in, CHECK_DUPLICATE, i, err, "the column comes twice");
			in->place[i] = (int)f;
		}
		if (in->place[i] < 0 && !in->wanted[i].optional)
			return csv_fault(in, CHECK_VALUE, i, err, "the column is missing");
	}
	in->file.unreadable = false;
	return 0;
}

static int next_row(struct csv_input *in, struct ikv_err *err)
{
	bool cut_short;
	in->file.check = CHECK_CONSISTENCY;
	int got = read_row(in, &cut_short, err);
	in->file.wrong_line = in->line;
	if (got != 1)
		return got;
	for (size_t i = 0, n; i < in->size; i += n)
		if (!(n = trace_utf8(in->text + i)))
			return csv_fault(in, CHECK_SYNTAX, NONE, err, "the row is not UTF-8");
	if (in->fields == in->columns)
		return 1;
	csv_fault(in, cut_short ? CHECK_TRUNCATED : CHECK_SYNTAX, NONE, err, "%s%u columns, expected %u",
		  cut_short ? "truncated last line: " : "", in->fields, in->columns);
	return -1;
}

int csv_read(struct trace *t, const char *path, const struct csv_column *wanted, uint32_t count,
	     int (*row)(struct trace *t, struct csv_input *in, void *ctx, struct ikv_err *err), void *ctx,
	     struct ikv_err *err)
{
	struct csv_input *in = ikv_alloc(1, sizeof *in, err);
	if (!in)
		return -1;
	in->wanted = wanted;
	in->wanted_count = count;
	in->next_line = 1;
	int got = 1, rc = trace_input_open(&in->file, path, err);
	if (!rc)
		rc = read_header(in, err);
	if (rc) {
		rc = trace_bad(t, &in->file, err);
		got = 0;
	}
	while (!rc && got && !trace_full(t) && (got = next_row(in, err)) != 0) {
		rc = got == 1 ? row(t, in, ctx, err) : -1;
		if (!rc) {
			t->facts->records++;
			continue;
		}
		rc = trace_bad(t, &in->file, err);
		if (in->file.unreadable)
			break;
	}
	trace_input_close(&in->file);
	ikv_free(in->text);
	ikv_free(in);
	return rc;
}

const char *csv_text(const struct csv_input *in, uint32_t column)
{
	return in->place[column] < 0 ? "" : in->text + in->field[in->place[column]];
}

/* For messages: what stands there, harmless on a terminal. */
static const char *shown(const char *text, char room[48])
{
	size_t n = 0;
	for (; *text && n < 40; text++)
		room[n++] = (char)(*text < 32 || *text > 126 ? '?' : *text);
	memcpy(room + n, *text ? "..." : "", *text ? 4 : 1);
	return room;
}

int csv_int(struct csv_input *in, uint32_t column, int64_t min, int64_t max, int64_t *out, struct ikv_err *err)
{
	char room[48], *end;
	const char *text = csv_text(in, column);
	errno = 0;
	long long n = strtoll(text, &end, 10);
	bool whole = end > text && !errno;
	if (whole && end[0] == '.') /* 12.0, as spreadsheets write it */
		for (end++; *end == '0'; end++)
			;
	if (!whole || *end || *text == ' ' || n < min || n > max)
		return csv_fault(in, CHECK_VALUE, column, err,
				 "found \"%s\", expected a whole number from %lld to %lld", shown(text, room),
				 (long long)min, (long long)max);
	*out = n;
	return 0;
}

int csv_real(struct csv_input *in, uint32_t column, double min, double max, double *out, struct ikv_err *err)
{
	char room[48], *end;
	const char *text = csv_text(in, column);
	double x = strtod(text, &end);
	if (end == text || *end || *text == ' ' || !(x >= min && x <= max))
		return csv_fault(in, CHECK_VALUE, column, err, "found \"%s\", expected a number from %g to %g",
				 shown(text, room), min, max);
	*out = x;
	return 0;
}

int csv_time(struct csv_input *in, uint32_t column, int64_t *out_ns, struct ikv_err *err)
{
	char room[48];
	const char *text = csv_text(in, column);
	if (timestamp_read(text, out_ns))
		return 0;
	return csv_fault(in, CHECK_VALUE, column, err, "found \"%s\", expected a time like 2023-11-16 18:15:46.68",
			 shown(text, room));
}

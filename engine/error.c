#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "intentkv/error.h"

int ikv_err_set(struct ikv_err *err, enum ikv_status status, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		va_start(ap, fmt);
		err->status = status;
		vsnprintf(err->text, sizeof err->text, fmt, ap);
		va_end(ap);
	}
	return -1;
}

int ikv_err_at(struct ikv_err *err, enum ikv_status status, const char *file, int line, int col, const char *key,
	       const char *fmt, ...)
{
	if (!err)
		return -1;
	char place[400] = "", what[600];
	size_t n = 0;
	if (file)
		n += (size_t)snprintf(place + n, sizeof place - n, "%.250s:", file);
	if (line > 0)
		n += (size_t)snprintf(place + n, sizeof place - n, "%s%d:", file ? "" : "line ", line);
	if (line > 0 && col > 0)
		n += (size_t)snprintf(place + n, sizeof place - n, "%d:", col);
	if (n)
		n += (size_t)snprintf(place + n, sizeof place - n, " ");
	if (key)
		snprintf(place + n, sizeof place - n, "%.100s: ", key);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	return ikv_err_set(err, status, "%s%s", place, what);
}

/* Levenshtein distance with two rows; words longer than 63 are never near. */
static size_t distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b), row[64];
	if (na > 63 || nb > 63)
		return 64;
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

const char *ikv_nearest(const char *word, const char *const *valid, size_t count)
{
	const char *best = NULL;
	size_t limit = strlen(word) / 3, best_distance;
	if (limit < 1)
		limit = 1;
	best_distance = limit + 1;
	for (size_t i = 0; i < count; i++) {
		size_t d = distance(word, valid[i]);
		if (d < best_distance) {
			best = valid[i];
			best_distance = d;
		}
	}
	return best;
}

#include <stdarg.h>
#include <stdbool.h>
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

/* Edit distance where two neighbours that changed places count once (optimal string alignment), in three rows;
 * words longer than 63 are never near. */
/* Letters that differ in case only count as the same. */
static bool same(char a, char b)
{
	char x = a >= 'A' && a <= 'Z' ? (char)(a + ('a' - 'A')) : a, y = b >= 'A' && b <= 'Z' ? (char)(b + ('a' - 'A')) : b;
	return x == y;
}

static size_t distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b), rows[3][64];
	if (na > 63 || nb > 63)
		return 64;
	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = above[j - 1] + !same(a[i - 1], b[j - 1]);
			best = above[j] + 1 < best ? above[j] + 1 : best;
			best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) && two[j - 2] + 1 < best)
				best = two[j - 2] + 1;
			row[j] = best;
		}
	}
	return rows[na % 3][nb];
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

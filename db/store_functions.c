/* Functions that SQLite lacks: the aggregates median(x) and percentile(x, p), linear between ranks, which leave out
 * NULLs; significant(x, digits); and is_written(). */
#include <stdio.h>
#include <stdlib.h>
#include "store_internal.h"

struct sample {
	double *values;
	size_t count, cap;
	double p; /* of the last row; the same in all rows of a sensible query */
};

static void collect(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	struct sample *s = sqlite3_aggregate_context(ctx, sizeof *s);
	if (!s) {
		sqlite3_result_error_nomem(ctx);
		return;
	}
	s->p = argc > 1 ? sqlite3_value_double(argv[1]) : 50;
	int type = sqlite3_value_numeric_type(argv[0]);
	if (type != SQLITE_INTEGER && type != SQLITE_FLOAT)
		return;
	if (s->count == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		double *grown = sqlite3_realloc64(s->values, cap * sizeof *grown);
		if (!grown) {
			sqlite3_result_error_nomem(ctx);
			return;
		}
		s->values = grown;
		s->cap = cap;
	}
	s->values[s->count++] = sqlite3_value_double(argv[0]);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void finish(sqlite3_context *ctx)
{
	struct sample *s = sqlite3_aggregate_context(ctx, 0);
	if (!s)
		return;
	if (!(s->p >= 0 && s->p <= 100)) {
		sqlite3_result_error(ctx, "percentile: p must be from 0 to 100", -1);
	} else if (s->count > 0) {
		qsort(s->values, s->count, sizeof *s->values, ascending);
		double at = s->p / 100 * (double)(s->count - 1);
		size_t low = (size_t)at, high = low + 1 < s->count ? low + 1 : low;
		sqlite3_result_double(ctx, s->values[low] + (at - (double)low) * (s->values[high] - s->values[low]));
	}
	sqlite3_free(s->values);
	s->values = NULL;
}

/* x rounded to so many significant digits; NULL stays NULL. */
static void significant(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	char text[64];
	int digits = sqlite3_value_int(argv[1]), type = sqlite3_value_numeric_type(argv[0]);
	(void)argc;
	if (type != SQLITE_INTEGER && type != SQLITE_FLOAT)
		return;
	snprintf(text, sizeof text, "%.*g",
		 digits < 1    ? 1
		 : digits > 17 ? 17
			       : digits,
		 sqlite3_value_double(argv[0]));
	sqlite3_result_double(ctx, strtod(text, NULL));
}

/* 1 while a process writes to the file: a run marked running is then at work, and otherwise died. */
static void is_written(sqlite3_context *ctx, int argc, sqlite3_value **argv)
{
	(void)argc, (void)argv;
	sqlite3_result_int(ctx, store_is_written(sqlite3_user_data(ctx)));
}

int store_functions(sqlite3 *db, const char *path)
{
	int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS;
	int rc = sqlite3_create_function_v2(db, "median", 1, flags, NULL, NULL, collect, finish, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "percentile", 2, flags, NULL, NULL, collect, finish, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "significant", 2, flags, NULL, significant, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_create_function_v2(db, "is_written", 0, SQLITE_UTF8 | SQLITE_INNOCUOUS, (void *)path,
						is_written, NULL, NULL, NULL);
	return rc;
}

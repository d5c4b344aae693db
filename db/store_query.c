/* Queries by readers: named ones and free SQL, both behind the same authorizer and time limit. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "store_internal.h"

static int authorize(void *ctx, int action, const char *a, const char *b, const char *c, const char *d)
{
	(void)ctx, (void)a, (void)c, (void)d;
	switch (action) {
	case SQLITE_SELECT:
	case SQLITE_READ:
	case SQLITE_RECURSIVE:
		return SQLITE_OK;
	case SQLITE_FUNCTION:
		return b && sqlite3_stricmp(b, "load_extension") == 0 ? SQLITE_DENY : SQLITE_OK;
	default:
		return SQLITE_DENY;
	}
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int out_of_time(void *deadline)
{
	return seconds() > *(double *)deadline;
}

static const struct store_named *find(const char *name, struct ikv_err *err)
{
	const char *names[128];
	size_t n = 0;
	for (const struct store_named *q = store_queries; q->name; q++) {
		if (strcmp(q->name, name) == 0)
			return q;
		if (n < sizeof names / sizeof *names)
			names[n++] = q->name;
	}
	const char *near = ikv_nearest(name, names, n);
	ikv_err_set(err, IKV_USAGE, "there is no query \"%.80s\"%s%s%s; --list shows them", name,
		    near ? "; did you mean \"" : "", near ? near : "", near ? "\"" : "");
	return NULL;
}

/* key=value: numbers are bound as numbers, so that they compare as such. Named queries count with all but run. */
static int bind_param(sqlite3_stmt *stmt, const char *param, bool named, struct ikv_err *err)
{
	const char *eq = strchr(param, '=');
	char name[100], *end;
	if (!eq || eq == param || eq - param > 90)
		return ikv_err_set(err, IKV_USAGE, "parameter \"%.80s\": expected key=value", param);
	sqlite3_snprintf(sizeof name, name, ":%.*s", (int)(eq - param), param);
	int i = sqlite3_bind_parameter_index(stmt, name);
	if (i == 0)
		return ikv_err_set(err, IKV_USAGE, "the query has no parameter %s", name);
	const char *value = eq + 1;
	errno = 0;
	long long integer = strtoll(value, &end, 10);
	if (*value && !*end && errno == 0 && (!named || integer >= 0)) {
		sqlite3_bind_int64(stmt, i, integer);
		return 0;
	}
	if (named && strcmp(name, ":run"))
		return ikv_err_set(err, IKV_USAGE, "parameter %s: got \"%.80s\", expected a whole number", name + 1, value);
	double real = strtod(value, &end);
	if (*value && !*end && strspn(value, "+-.0123456789eE") == strlen(value))
		sqlite3_bind_double(stmt, i, real);
	else
		sqlite3_bind_text(stmt, i, value, -1, SQLITE_TRANSIENT);
	return 0;
}

static int prepare(sqlite3 *db, const char *sql, sqlite3_stmt **stmt, struct ikv_err *err)
{
	const char *tail = NULL;
	if (sqlite3_prepare_v2(db, sql, -1, stmt, &tail) != SQLITE_OK) {
		if (sqlite3_errcode(db) == SQLITE_AUTH)
			return ikv_err_set(err, IKV_USAGE, "only a SELECT that reads this database is allowed (%s)",
					   sqlite3_errmsg(db));
		return ikv_err_set(err, IKV_USAGE, "SQL: %s", sqlite3_errmsg(db));
	}
	/* Only space and comments may follow: they prepare to nothing. */
	bool single = *stmt != NULL;
	while (single && tail && *tail) {
		sqlite3_stmt *more = NULL;
		const char *rest = tail;
		single = sqlite3_prepare_v2(db, rest, -1, &more, &tail) == SQLITE_OK && !more && tail != rest;
		sqlite3_finalize(more);
	}
	if (!single || !sqlite3_stmt_readonly(*stmt) || sqlite3_column_count(*stmt) == 0)
		return ikv_err_set(err, IKV_USAGE, "expected one SELECT statement");
	return 0;
}

static int print(sqlite3 *db, sqlite3_stmt *stmt, const char *path, const struct store_query *query, void *file,
		 struct ikv_err *err)
{
	struct store_writer *w;
	int rc;
	if (store_writer_open(&w, query->format, query->header, stmt, file, err) != 0)
		return -1;
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (store_writer_row(w, err) != 0) {
			store_writer_close(w, false, NULL);
			return -1;
		}
	}
	if (rc != SQLITE_DONE) {
		store_writer_close(w, false, NULL);
		if ((rc & 0xff) == SQLITE_INTERRUPT)
			return ikv_err_set(err, IKV_FAILED, "the query took longer than %g s", query->time_limit_s);
		return store_fail(db, path, "the query failed", err);
	}
	return store_writer_close(w, true, err);
}

/* The roll-ups that a query reads. Free SQL may ask for any run. */
static int need_rollups(sqlite3 *db, const char *path, const struct store_query *query, const char *sql,
			struct ikv_err *err)
{
	static const char *const parts[] = {"run_stat",  "run_series",   "run_session", "run_slow", "run_role",
					    "run_layer", "run_decision", "v_total",	 "v_role",   "v_layer"};
	const char *run = query->sql ? "all" : NULL;
	bool needed = false;
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		needed |= strstr(sql, parts[i]) != NULL;
	for (uint32_t i = 0; i < query->param_count && !query->sql; i++)
		if (strncmp(query->params[i], "run=", 4) == 0)
			run = query->params[i] + 4;
	return needed ? store_live(db, path, run, err) : 0;
}

struct reader {
	sqlite3 *db;
	sqlite3_stmt *stmt;
	double deadline;
};

static void close_reader(struct reader *r)
{
	sqlite3_finalize(r->stmt);
	sqlite3_close(r->db);
}

static int open_reader(struct reader *r, const char *path, const struct store_query *query, struct ikv_err *err)
{
	const char *sql = query->sql;
	r->db = NULL;
	r->stmt = NULL;
	if (!sql) {
		const struct store_named *named = find(query->name ? query->name : "", err);
		if (!named)
			return -1;
		sql = named->sql;
	}
	if (store_open_read(path, &r->db, err) != 0)
		return -1;
	r->deadline = seconds() + query->time_limit_s;
	if (query->time_limit_s > 0)
		sqlite3_progress_handler(r->db, 10000, out_of_time, &r->deadline);
	sqlite3_limit(r->db, SQLITE_LIMIT_LENGTH, 64 << 20);
	sqlite3_limit(r->db, SQLITE_LIMIT_ATTACHED, 0);
	int rc = store_functions(r->db, path) == SQLITE_OK ? 0 : store_fail(r->db, path, "cannot set up", err);
	if (rc == 0)
		rc = need_rollups(r->db, path, query, sql, err);
	sqlite3_set_authorizer(r->db, authorize, NULL);
	if (rc == 0)
		rc = prepare(r->db, sql, &r->stmt, err);
	for (uint32_t i = 0; i < query->param_count && rc == 0; i++)
		rc = bind_param(r->stmt, query->params[i], !query->sql, err);
	return rc;
}

int store_query_run(const char *path, const struct store_query *query, void *file, struct ikv_err *err)
{
	struct reader r;
	int rc = open_reader(&r, path, query, err);
	if (rc == 0)
		rc = print(r.db, r.stmt, path, query, file, err);
	close_reader(&r);
	return rc;
}

static void fill_cell(sqlite3_stmt *stmt, int i, struct store_cell *c)
{
	int type = sqlite3_column_type(stmt, i);
	c->name = sqlite3_column_name(stmt, i);
	c->is_null = type == SQLITE_NULL;
	c->is_number = type == SQLITE_INTEGER || type == SQLITE_FLOAT;
	c->number = c->is_number ? sqlite3_column_double(stmt, i) : NAN;
	const char *text = (const char *)sqlite3_column_text(stmt, i);
	c->text = text ? text : "";
}

int store_select(const char *path, const struct store_query *query, store_row_fn *row, void *ctx, struct ikv_err *err)
{
	struct store_cell cells[STORE_CELLS_MAX];
	struct reader r;
	int rc = open_reader(&r, path, query, err), step = SQLITE_DONE;
	int n = rc == 0 ? sqlite3_column_count(r.stmt) : 0;
	if (n > STORE_CELLS_MAX)
		rc = ikv_err_set(err, IKV_USAGE, "the query has %d columns, more than %d", n, STORE_CELLS_MAX);
	while (rc == 0 && (step = sqlite3_step(r.stmt)) == SQLITE_ROW) {
		for (int i = 0; i < n; i++)
			fill_cell(r.stmt, i, &cells[i]);
		rc = row(ctx, cells, n, err);
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = (step & 0xff) == SQLITE_INTERRUPT
			 ? ikv_err_set(err, IKV_FAILED, "the query took longer than %g s", query->time_limit_s)
			 : store_fail(r.db, path, "the query failed", err);
	close_reader(&r);
	return rc;
}

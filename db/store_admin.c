/* The whole file: its schema, copies, exports, checks, and bringing an older one up to date. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store_internal.h"

/* Call fn for each row of a statement with one optional text parameter. */
static int each(sqlite3 *db, const char *path, const char *sql, int (*fn)(void *ctx, sqlite3_stmt *row), void *ctx,
		struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	int rc, result = 0;
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return store_fail(db, path, "cannot read", err);
	while (result == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW)
		result = fn(ctx, stmt);
	if (result == 0 && rc != SQLITE_DONE)
		result = store_fail(db, path, "cannot read", err);
	sqlite3_finalize(stmt);
	return result;
}

static int print_sql(void *file, sqlite3_stmt *row)
{
	fprintf(file, "%s;\n", (const char *)sqlite3_column_text(row, 0));
	return 0;
}

int store_schema(const char *path, void *file, struct ikv_err *err)
{
	sqlite3 *db;
	if (store_open_read(path, &db, err) != 0)
		return -1;
	int rc = each(db, path,
		      "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
		      " ORDER BY type = 'view', rowid",
		      print_sql, file, err);
	sqlite3_close(db);
	return rc;
}

static int export_one(sqlite3 *db, const char *path, const char *folder, const char *table, int64_t *rows, char *to,
		      size_t size, struct ikv_err *err)
{
	sqlite3_stmt *stmt = NULL;
	struct store_writer *w;
	int rc;
	*rows = 0;
	if (snprintf(to, size, "%s/%s.csv", folder, table) >= (int)size)
		return ikv_err_set(err, IKV_USAGE, "%s: the path is too long", folder);
	FILE *f = fopen(to, "we");
	if (!f)
		return ikv_err_set(err, IKV_CANT_CREATE, "%s: cannot be created: %s", to, strerror(errno));
	char *sql = sqlite3_mprintf("SELECT * FROM \"%w\"", table);
	int result = 0;
	if (!sql || sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		result = store_fail(db, path, "cannot read", err);
	sqlite3_free(sql);
	if (result == 0)
		result = store_writer_open(&w, STORE_CSV, true, stmt, f, err);
	if (result == 0) {
		while (result == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
			result = store_writer_row(w, err);
			++*rows;
		}
		if (result == 0 && rc != SQLITE_DONE)
			result = store_fail(db, path, "cannot read", err);
		if (store_writer_close(w, result == 0, NULL) != 0)
			result = ikv_err_set(err, IKV_IO, "%s: cannot write: %s", to, strerror(errno));
	}
	sqlite3_finalize(stmt);
	if (fclose(f) != 0 && result == 0)
		result = ikv_err_set(err, IKV_IO, "%s: cannot write: %s", to, strerror(errno));
	return result;
}

struct names {
	char *items[64];
	size_t count;
};

static int add_name(void *ctx, sqlite3_stmt *row)
{
	struct names *n = ctx;
	if (n->count < sizeof n->items / sizeof *n->items)
		n->items[n->count++] = sqlite3_mprintf("%s", (const char *)sqlite3_column_text(row, 0));
	return 0;
}

int store_export(const char *path, const char *folder, const char *table,
		 void (*told)(const char *path, int64_t rows), struct ikv_err *err)
{
	struct names n = {.count = 0};
	char to[4096];
	sqlite3 *db;
	int64_t rows;
	if (store_open_read(path, &db, err) != 0)
		return -1;
	/* One moment for all tables. */
	int rc = store_exec(db, path, "BEGIN", err);
	if (rc == 0)
		rc =
		    each(db, path,
			 "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
			 " ORDER BY type, rowid",
			 add_name, &n, err);
	bool found = false;
	for (size_t i = 0; i < n.count && rc == 0; i++) {
		bool view = n.items[i] && strncmp(n.items[i], "v_", 2) == 0;
		if (!n.items[i])
			rc = ikv_err_set(err, IKV_FAILED, "out of memory");
		else if (table ? strcmp(table, n.items[i]) == 0 : !view) {
			found = true;
			rc = export_one(db, path, folder, n.items[i], &rows, to, sizeof to, err);
			if (rc == 0 && told)
				told(to, rows);
		}
	}
	if (rc == 0 && table && !found) {
		const char *near = ikv_nearest(table, (const char *const *)n.items, n.count);
		rc = ikv_err_set(err, IKV_USAGE, "there is no table or view \"%.60s\"%s%s%s", table,
				 near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	for (size_t i = 0; i < n.count; i++)
		sqlite3_free(n.items[i]);
	sqlite3_close(db);
	return rc;
}

static int copy_pages(sqlite3 *from, sqlite3 *to, const char *path, struct ikv_err *err)
{
	sqlite3_backup *b = sqlite3_backup_init(to, "main", from, "main");
	if (!b)
		return store_fail(to, path, "cannot back up", err);
	int rc;
	/* A writer between two portions makes SQLite begin again: the copy is always of one moment. */
	while ((rc = sqlite3_backup_step(b, 4096)) == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED)
		if (rc != SQLITE_OK)
			sqlite3_sleep(20);
	sqlite3_backup_finish(b);
	return rc == SQLITE_DONE ? 0 : store_fail(to, path, "cannot back up", err);
}

int store_backup(const char *path, const char *to, struct ikv_err *err)
{
	sqlite3 *db, *copy = NULL;
	struct stat st;
	if (lstat(to, &st) == 0)
		return ikv_err_set(err, IKV_CANT_CREATE, "%s: exists already", to);
	if (store_open_read(path, &db, err) != 0)
		return -1;
	int rc = 0;
	if (sqlite3_open_v2(to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		rc = copy ? store_fail(copy, to, "cannot be created", err)
			  : ikv_err_set(err, IKV_FAILED, "out of memory");
	if (rc == 0)
		rc = copy_pages(db, copy, to, err);
	if (rc == 0) /* one plain file, whatever the original is at */
		rc = store_exec(copy, to, "PRAGMA journal_mode=DELETE", err);
	sqlite3_close(copy);
	sqlite3_close(db);
	if (rc != 0)
		unlink(to);
	return rc;
}

struct finding {
	FILE *file;
	const char *what;
	uint64_t *found;
};

static int report(void *ctx, sqlite3_stmt *row)
{
	struct finding *f = ctx;
	const char *text = (const char *)sqlite3_column_text(row, 0);
	if (text && strcmp(text, "ok") == 0)
		return 0;
	fprintf(f->file, "%s%s%s\n", f->what, *f->what ? ": " : "", text ? text : "?");
	++*f->found;
	return 0;
}

int store_check(const char *path, void *file, uint64_t *found, struct ikv_err *err)
{
	static const struct {
		const char *what, *sql;
	} checks[] = {
	    {"integrity", "PRAGMA integrity_check"},
	    {"foreign key",
	     "SELECT \"table\" || ' has a row whose ' || parent || ' is missing' FROM pragma_foreign_key_check"},
	    {"", "SELECT 'run ' || run_id || ' is marked running, but nobody writes to the file: its process died' "
		 "FROM run"
		 " WHERE status = 'running' AND NOT is_written()"},
	    {"", "SELECT 'run ' || r.run_id || ' is done, but session ' || n.session || ' has ' || (SELECT count(*) "
		 "FROM step s"
		 " WHERE s.run_id = n.run_id AND s.session = n.session) || ' of ' || n.decoded_tokens || ' steps'"
		 " FROM run r JOIN session n USING (run_id) WHERE r.status = 'done' AND n.decoded_tokens <>"
		 " (SELECT count(*) FROM step s WHERE s.run_id = n.run_id AND s.session = n.session)"},
	    {"",
	     "SELECT 'run ' || run_id || ' has steps of sessions that are not there' FROM run r WHERE EXISTS (SELECT "
	     "1"
	     " FROM (SELECT DISTINCT session FROM step s WHERE s.run_id = r.run_id) d WHERE NOT EXISTS (SELECT 1 FROM"
	     " session n WHERE n.run_id = r.run_id AND n.session = d.session))"},
	};
	sqlite3 *db;
	*found = 0;
	if (store_open_read(path, &db, err) != 0)
		return -1;
	int rc = store_functions(db, path) == SQLITE_OK ? 0 : store_fail(db, path, "cannot set up", err);
	for (size_t i = 0; i < sizeof checks / sizeof *checks && rc == 0; i++) {
		struct finding f = {file, checks[i].what, found};
		rc = each(db, path, checks[i].sql, report, &f, err);
	}
	struct finding f = {file, "", found};
	if (rc == 0 &&
	    sqlite3_table_column_metadata(db, "main", "run_stat", NULL, NULL, NULL, NULL, NULL, NULL) == SQLITE_OK)
		rc = each(
		    db, path,
		    "SELECT 'run ' || run_id || ' has no or stale roll-ups: intentkv db rollup makes them' FROM run r"
		    " WHERE status <> 'running' AND coalesce((SELECT count FROM run_stat t WHERE t.run_id = r.run_id"
		    " AND name = 'context_tokens'), -1) <> (SELECT count(*) FROM step s WHERE s.run_id = r.run_id)",
		    report, &f, err);
	else if (rc == 0)
		fprintf(file, "the file is of an older version, without roll-ups: intentkv db upgrade adds them\n");
	sqlite3_close(db);
	return rc;
}

struct run_list {
	int64_t *runs;
	size_t count, cap;
	struct ikv_err *err;
};

static int add_run(void *ctx, sqlite3_stmt *row)
{
	struct run_list *l = ctx;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		if (ikv_grow(&l->runs, l->cap, cap, sizeof *l->runs, l->err) != 0)
			return -1;
		l->cap = cap;
	}
	l->runs[l->count++] = sqlite3_column_int64(row, 0);
	return 0;
}

static int rollup_runs(sqlite3 *db, const char *path, uint64_t *runs, struct ikv_err *err)
{
	struct run_list l = {.err = err};
	int rc = each(db, path, "SELECT run_id FROM run WHERE status <> 'running' ORDER BY run_id", add_run, &l, err);
	for (size_t i = 0; i < l.count && rc == 0; i++)
		rc = store_rollup(db, path, l.runs[i], err);
	*runs = l.count;
	ikv_free(l.runs);
	return rc;
}

int store_rollup_all(const char *path, uint64_t *runs, struct ikv_err *err)
{
	struct store *s;
	bool fresh;
	if (store_check_header(path, &fresh, err) != 0)
		return -1;
	if (fresh)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no result database", path);
	if (store_open(&s, path, err) != 0)
		return -1;
	int rc = store_begin(s, err);
	if (rc == 0)
		rc = rollup_runs(s->db, path, runs, err);
	if (rc != 0) { /* as it was */
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		s->open = false;
	}
	if (store_close(s, rc == 0 ? err : NULL) != 0)
		rc = -1;
	return rc;
}

/* The schema in a form that leaves what is there; sqlite3_malloc. */
static char *schema_of_the_rest(void)
{
	static const char *const things[] = {"CREATE TABLE ", "CREATE VIEW ", "CREATE INDEX "};
	sqlite3_str *s = sqlite3_str_new(NULL);
	for (const char *p = store_schema_sql; *p; p++) {
		bool found = false;
		for (int i = 0; i < 3 && !found; i++) {
			if (strncmp(p, things[i], strlen(things[i])) != 0)
				continue;
			sqlite3_str_appendf(s, "%sIF NOT EXISTS ", things[i]);
			p += strlen(things[i]) - 1;
			found = true;
		}
		if (!found)
			sqlite3_str_appendchar(s, 1, *p);
	}
	return sqlite3_str_finish(s);
}

/* Copy the steps of `from` into the table that this version has; columns that the older one lacks are empty. */
static int copy_steps(sqlite3 *db, const char *path, const char *from, struct ikv_err *err)
{
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	sqlite3_str *sql = sqlite3_str_new(db);
	sqlite3_str_appendall(sql, "INSERT INTO step SELECT NULL");
	for (int i = 0; i < t->count; i++) {
		const char *name = t->columns[i].name;
		bool there =
		    sqlite3_table_column_metadata(db, "main", from, name, NULL, NULL, NULL, NULL, NULL) == SQLITE_OK;
		sqlite3_str_appendf(sql, ", %s", there ? name : "NULL");
	}
	sqlite3_str_appendf(sql, " FROM %s ORDER BY run_id, session, step; DROP TABLE %s", from, from);
	char *text = sqlite3_str_finish(sql);
	int rc = text ? store_exec(db, path, text, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_free(text);
	return rc;
}

static int drop_views(sqlite3 *db, const char *path, struct ikv_err *err)
{
	struct names n = {.count = 0};
	int rc =
	    each(db, path, "SELECT name FROM sqlite_schema WHERE type = 'view' AND name LIKE 'v\\_%' ESCAPE '\\'",
		 add_name, &n, err);
	for (size_t i = 0; i < n.count; i++) {
		char *sql = n.items[i] ? sqlite3_mprintf("DROP VIEW \"%w\"", n.items[i]) : NULL;
		if (rc == 0)
			rc = sql ? store_exec(db, path, sql, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
		sqlite3_free(sql);
		sqlite3_free(n.items[i]);
	}
	return rc;
}

/* What a version lacks is made; roll-ups, views and explanations are made anew. Version 1 had another, unused
 * calibration. */
static int upgrade(sqlite3 *db, const char *path, int from, uint64_t *runs, struct ikv_err *err)
{
	char head[64], *schema = schema_of_the_rest();
	sqlite3_snprintf(sizeof head, head, "PRAGMA user_version=%d", STORE_VERSION);
	static const char begin[] =
	    "BEGIN IMMEDIATE; DELETE FROM metric_def; DROP TABLE IF EXISTS run_stat;"
	    " DROP TABLE IF EXISTS run_series; DROP TABLE IF EXISTS run_session; DROP TABLE IF EXISTS"
	    " run_slow; DROP TABLE IF EXISTS run_role; DROP TABLE IF EXISTS run_layer; DROP TABLE IF"
	    " EXISTS run_decision; DROP INDEX IF EXISTS step_by_key";
	int rc = schema ? store_exec(db, path, begin, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	if (rc == 0 && from < 2)
		rc = store_exec(db, path, "DROP TABLE calibration", err);
	if (rc == 0 && from < 7)
		rc = store_exec(db, path, "ALTER TABLE page_event ADD COLUMN accesses REAL", err);
	if (rc == 0 && (drop_views(db, path, err) != 0 ||
			store_exec(db, path, "ALTER TABLE step RENAME TO step_before", err) != 0 ||
			store_exec(db, path, schema, err) != 0 || copy_steps(db, path, "step_before", err) != 0 ||
			rollup_runs(db, path, runs, err) != 0 || store_exec(db, path, head, err) != 0 ||
			store_exec(db, path, "COMMIT", err) != 0))
		rc = -1;
	if (rc != 0 && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_free(schema);
	return rc;
}

static int set_from(void *ctx, sqlite3_stmt *row)
{
	*(int *)ctx = sqlite3_column_int(row, 0);
	return 0;
}

int store_upgrade(const char *path, const char *backup, int *from, struct ikv_err *err)
{
	struct store s = {.path = (char *)path, .lock_fd = -1};
	uint64_t runs;
	bool fresh;
	if (store_check_header(path, &fresh, err) != 0)
		return -1;
	if (fresh)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no result database", path);
	s.lock_path = sqlite3_mprintf("%s.lock", path);
	int rc = s.lock_path ? store_lock(&s, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	if (rc == 0 && sqlite3_open_v2(path, &s.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		rc = store_fail(s.db, path, "cannot open for writing", err);
	if (rc == 0)
		rc = each(s.db, path, "PRAGMA user_version", set_from, from, err);
	if (rc == 0 && *from < STORE_VERSION)
		rc = store_backup(path, backup, err);
	if (rc == 0 && *from < STORE_VERSION)
		rc = upgrade(s.db, path, *from, &runs, err);
	if (rc == 0 && *from < STORE_VERSION) /* gives the room of the steps as they were back; without it, all is well */
		sqlite3_exec(s.db, "VACUUM", NULL, NULL, NULL);
	sqlite3_close(s.db);
	store_unlock(&s);
	sqlite3_free(s.lock_path);
	return rc;
}

/* Points that a file knows, and copying runs from one file into another. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "store_internal.h"

static int grow_points(struct store_point **points, uint32_t *cap, struct ikv_err *err)
{
	uint32_t more = *cap ? 2 * *cap : 64;
	if (ikv_grow(points, *cap, more, sizeof **points, err) != 0)
		return -1;
	*cap = more;
	return 0;
}

int store_points(const char *path, struct store_point **out, uint32_t *count, struct ikv_err *err)
{
	sqlite3 *db;
	sqlite3_stmt *stmt;
	bool fresh;
	uint32_t n = 0, cap = 0;
	*out = NULL;
	*count = 0;
	if (store_check_header(path, &fresh, err) != 0)
		return -1;
	if (fresh)
		return 0;
	if (store_open_read(path, &db, err) != 0)
		return -1;
	int rc = sqlite3_prepare_v2(db,
				    "SELECT point_key, run_id, status = 'done' FROM run WHERE point_key IS NOT NULL"
				    " AND status IN ('done', 'failed') ORDER BY run_id",
				    -1, &stmt, NULL);
	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(stmt);
		if (rc != SQLITE_ROW)
			break;
		if (n == cap && grow_points(out, &cap, err) != 0) {
			rc = SQLITE_NOMEM;
			break;
		}
		struct store_point *p = &(*out)[n++];
		snprintf(p->key, sizeof p->key, "%s", (const char *)sqlite3_column_text(stmt, 0));
		p->run_id = sqlite3_column_int64(stmt, 1);
		p->done = sqlite3_column_int(stmt, 2) != 0;
	}
	int result = rc == SQLITE_DONE ? 0 : rc == SQLITE_NOMEM ? -1 : store_fail(db, path, "cannot read", err);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	*count = n;
	return result;
}

int store_run_figures(const char *path, int64_t run_id, struct store_figures *out, struct ikv_err *err)
{
	sqlite3 *db;
	sqlite3_stmt *stmt = NULL;
	*out = (struct store_figures){NAN, NAN, 0};
	if (store_open_read(path, &db, err) != 0)
		return -1;
	int rc = store_functions(db, path);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(db,
					"SELECT 1.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), median(rel_l2),"
					" count(*) FROM step WHERE run_id = ?",
					-1, &stmt, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_int64(stmt, 1, run_id);
		rc = sqlite3_step(stmt);
	}
	if (rc == SQLITE_ROW) {
		if (sqlite3_column_type(stmt, 0) != SQLITE_NULL)
			out->read_share = sqlite3_column_double(stmt, 0);
		if (sqlite3_column_type(stmt, 1) != SQLITE_NULL)
			out->rel_l2 = sqlite3_column_double(stmt, 1);
		out->steps = (uint64_t)sqlite3_column_int64(stmt, 2);
	}
	int result = rc == SQLITE_ROW ? 0 : store_fail(db, path, "cannot read", err);
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	return result;
}

/* Columns of a table, its key column left out, as "a, b" after `head`. NULL where memory is out. */
static char *columns_of(struct store *s, const char *table, const char *leave_out)
{
	sqlite3_stmt *stmt;
	sqlite3_str *text = sqlite3_str_new(s->db);
	if (sqlite3_prepare_v2(s->db, "SELECT name FROM pragma_table_info(?)", -1, &stmt, NULL) == SQLITE_OK) {
		sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
		while (sqlite3_step(stmt) == SQLITE_ROW) {
			const char *name = (const char *)sqlite3_column_text(stmt, 0);
			if (strcmp(name, leave_out) != 0 && strcmp(name, "event_id") != 0 && strcmp(name, "step_id") != 0)
				sqlite3_str_appendf(text, "%s\"%w\"", sqlite3_str_length(text) ? ", " : "", name);
		}
		sqlite3_finalize(stmt);
	}
	return sqlite3_str_finish(text);
}

/* Run a statement made by sqlite3_mprintf, which is freed. Returns its number of changed rows in *changes. */
static int make(struct store *s, char *sql, struct ikv_err *err)
{
	int rc = sql ? store_exec(s->db, s->path, sql, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_free(sql);
	return rc;
}

static int number(struct store *s, char *sql, int64_t *out, struct ikv_err *err)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sql ? sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) : SQLITE_NOMEM;
	sqlite3_free(sql);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(stmt);
	*out = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : store_fail(s->db, s->path, "cannot read", err);
}

/* Rows that belong to the run in every table that has the column run_id, whatever tables there are. */
static int copy_rows(struct store *s, int64_t from, int64_t to, struct ikv_err *err)
{
	char *tables[64];
	int n = 0, rc = 0;
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v2(
		s->db,
		"SELECT t.name FROM main.sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
		" AND t.name <> 'run' AND c.name = 'run_id' ORDER BY t.rowid",
		-1, &stmt, NULL) != SQLITE_OK)
		return store_fail(s->db, s->path, "cannot read", err);
	while (n < 64 && sqlite3_step(stmt) == SQLITE_ROW)
		tables[n++] = sqlite3_mprintf("%s", (const char *)sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	for (int i = 0; i < n; i++) {
		char *columns = rc == 0 && tables[i] ? columns_of(s, tables[i], "run_id") : NULL;
		if (rc == 0 && !columns)
			rc = ikv_err_set(err, IKV_FAILED, "out of memory");
		if (rc == 0)
			rc = make(
			    s,
			    sqlite3_mprintf("INSERT INTO main.\"%w\" (run_id, %s) SELECT %lld, %s FROM src.\"%w\""
					    " WHERE run_id = %lld%s",
					    tables[i], columns, (long long)to, columns, tables[i], (long long)from,
					    strcmp(tables[i], "page_event") ? "" : " ORDER BY event_id"),
			    err);
		sqlite3_free(columns);
		sqlite3_free(tables[i]);
	}
	return rc;
}

static int copy_run(struct store *s, int64_t from, struct ikv_err *err)
{
	int64_t scenario, env, to, taken;
	char *columns = NULL;
	if (make(s,
		 sqlite3_mprintf(
		     "INSERT OR IGNORE INTO main.scenario (path, text, hash) SELECT path, text, hash FROM"
		     " src.scenario WHERE scenario_id = (SELECT scenario_id FROM src.run WHERE run_id = %lld)",
		     (long long)from),
		 err) != 0 ||
	    number(s,
		   sqlite3_mprintf("SELECT m.scenario_id FROM main.scenario m JOIN src.scenario c USING (hash) JOIN"
				   " src.run r ON r.scenario_id = c.scenario_id WHERE r.run_id = %lld",
				   (long long)from),
		   &scenario, err) != 0)
		return -1;
	columns = columns_of(s, "env", "env_id");
	/* An environment that is there already, of the same process, is not written again. */
	if (!columns ||
	    number(s,
		   sqlite3_mprintf("SELECT env_id FROM main.env WHERE (%s) IS (SELECT %s FROM src.env WHERE"
				   " env_id = (SELECT env_id FROM src.run WHERE run_id = %lld))",
				   columns, columns, (long long)from),
		   &env, err) != 0) {
		sqlite3_free(columns);
		return columns ? -1 : ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	int rc = env ? 0
		     : make(s,
			    sqlite3_mprintf(
				"INSERT INTO main.env (%s) SELECT %s FROM src.env WHERE env_id = (SELECT env_id"
				" FROM src.run WHERE run_id = %lld)",
				columns, columns, (long long)from),
			    err);
	if (rc == 0 && !env)
		env = sqlite3_last_insert_rowid(s->db);
	sqlite3_free(columns);
	if (rc != 0 ||
	    number(s, sqlite3_mprintf("SELECT count(*) FROM main.run WHERE run_id = %lld", (long long)from), &taken,
		   err) != 0)
		return -1;
	columns = columns_of(s, "run", "run_id");
	rc = !columns
		 ? ikv_err_set(err, IKV_FAILED, "out of memory")
		 : make(s,
			sqlite3_mprintf("INSERT INTO main.run (run_id, %s) SELECT %s, %s FROM src.run WHERE run_id ="
					" %lld",
					columns, taken ? "NULL" : "run_id", columns, (long long)from),
			err);
	sqlite3_free(columns);
	to = sqlite3_last_insert_rowid(s->db);
	if (rc != 0 ||
	    make(s,
		 sqlite3_mprintf("UPDATE main.run SET scenario_id = %lld, env_id = %lld WHERE run_id = %lld",
				 (long long)scenario, (long long)env, (long long)to),
		 err) != 0)
		return -1;
	return copy_rows(s, from, to, err);
}

/* A failure here makes way for the same point done there. */
static int merge_run(struct store *s, int64_t run, struct ikv_err *err)
{
	if (store_begin(s, err) != 0)
		return -1;
	char where[120];
	sqlite3_snprintf(sizeof where, where,
			 "status = 'failed' AND point_key = (SELECT point_key FROM src.run WHERE run_id = %lld)",
			 (long long)run);
	if (store_delete_runs(s, where, err) != 0 || copy_run(s, run, err) != 0) {
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		s->open = false;
		return -1;
	}
	return store_commit(s, err);
}

static int merge_attached(struct store *s, bool all, uint32_t *taken, uint32_t *left_out, struct ikv_err *err)
{
	int64_t run = 0, version, total, bad;
	*taken = *left_out = 0;
	if (number(s, sqlite3_mprintf("PRAGMA src.user_version"), &version, err) != 0)
		return -1;
	if (version != STORE_VERSION)
		return ikv_err_set(err, IKV_BAD_INPUT, "is of another version (%lld, this program writes %d)%s",
				   (long long)version, STORE_VERSION,
				   version < STORE_VERSION ? "; `intentkv db upgrade` brings it up to date" : "");
	if (number(s,
		   sqlite3_mprintf(
		       "SELECT count(*) FROM pragma_quick_check WHERE schema = 'src' AND quick_check <> 'ok'"),
		   &bad, NULL) == 0 &&
	    bad > 0)
		return ikv_err_set(err, IKV_BAD_INPUT, "is damaged");
	if (number(s, sqlite3_mprintf("SELECT count(*) FROM src.run WHERE status IN ('done', 'failed')"), &total,
		   err) != 0)
		return -1;
	for (;;) {
		if (number(s,
			   sqlite3_mprintf(
			       "SELECT run_id FROM src.run r WHERE run_id > %lld AND status IN ('done',"
			       " 'failed') AND (%d OR point_key IS NULL OR NOT EXISTS (SELECT 1 FROM main.run m"
			       " WHERE m.point_key = r.point_key AND m.status = 'done')) ORDER BY run_id LIMIT 1",
			       (long long)run, all),
			   &run, err) != 0)
			return -1;
		if (run == 0)
			break;
		if (merge_run(s, run, err) != 0)
			return -1;
		++*taken;
	}
	*left_out = (uint32_t)total - *taken;
	return 0;
}

int store_merge(struct store *s, const char *from, bool all, uint32_t *taken, uint32_t *left_out, struct ikv_err *err)
{
	bool fresh;
	struct ikv_err e = {IKV_OK, ""};
	*taken = *left_out = 0;
	if (store_check_header(from, &fresh, err) != 0 || store_settle(&s, err) != 0 || store_commit(s, err) != 0)
		return -1;
	if (fresh)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no result database", from);
	if (strcmp(from, s->path) == 0)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: is the database that is merged into", from);
	if (store_is_written(from))
		return ikv_err_set(err, IKV_BUSY, "%s: another process is writing to it", from);
	if (make(s, sqlite3_mprintf("ATTACH %Q AS src", from), err) != 0)
		return -1;
	int rc = merge_attached(s, all, taken, left_out, &e);
	sqlite3_exec(s->db, "PRAGMA src.wal_checkpoint(TRUNCATE); PRAGMA src.journal_mode=DELETE; DETACH src", NULL,
		     NULL, NULL);
	if (rc == 0)
		return 0;
	return strncmp(e.text, "is ", 3) ? ikv_err_set(err, e.status, "%.900s", e.text)
					 : ikv_err_set(err, e.status, "%s: %.900s", from, e.text);
}

void store_remove(const char *path)
{
	static const char *const ends[] = {"", "-wal", "-shm", ".lock"};
	for (int i = 0; i < 4; i++) {
		char *name = sqlite3_mprintf("%s%s", path, ends[i]);
		if (name)
			unlink(name);
		sqlite3_free(name);
	}
}

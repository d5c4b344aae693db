/* Roll-ups for readers where the file has none: of runs still at work, of those whose process died, and of files of
 * older versions. They are made in temporary tables of the same names, which hide those of the file. */
#include <stdlib.h>
#include <string.h>
#include "store_internal.h"

static const char *const tables[] = {"run_stat", "run_series", "run_session", "run_slow",
				     "run_role", "run_layer",  "run_decision"};

/* Copy `text` with TEMP put into every CREATE; sqlite3_malloc. */
static char *temporary(const char *text)
{
	sqlite3_str *s = sqlite3_str_new(NULL);
	const char *at;
	while ((at = strstr(text, "CREATE "))) {
		sqlite3_str_append(s, text, (int)(at - text) + 7);
		sqlite3_str_appendall(s, "TEMP ");
		text = at + 7;
	}
	sqlite3_str_appendall(s, text);
	return sqlite3_str_finish(s);
}

/* Numbers of the runs that `sql` gives, in *out (ikv_alloc). */
static int list_runs(sqlite3 *db, const char *path, const char *sql, const char *run, int64_t **out, size_t *count,
		     struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	size_t cap = 0;
	*count = 0;
	*out = NULL;
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return store_fail(db, path, "cannot read", err);
	if (sqlite3_bind_parameter_count(stmt))
		sqlite3_bind_text(stmt, 1, run, -1, SQLITE_STATIC);
	int rc, result = 0;
	while (result == 0 && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		if (*count == cap) {
			result = ikv_grow(out, cap, cap ? 2 * cap : 16, sizeof **out, err);
			cap = cap ? 2 * cap : 16;
		}
		if (result == 0)
			(*out)[(*count)++] = sqlite3_column_int64(stmt, 0);
	}
	if (result == 0 && rc != SQLITE_DONE)
		result = store_fail(db, path, "cannot read", err);
	sqlite3_finalize(stmt);
	return result;
}

static bool has_rollups(sqlite3 *db)
{
	return sqlite3_table_column_metadata(db, "main", "run_stat", NULL, NULL, NULL, NULL, NULL, NULL) == SQLITE_OK;
}

static int shadow(sqlite3 *db, const char *path, bool have, struct ikv_err *err)
{
	char *sql = temporary(store_rollup_sql), *copy = NULL;
	int rc = sql ? store_exec(db, path, "PRAGMA query_only=OFF; PRAGMA temp_store=MEMORY", err) : -1;
	if (!sql)
		ikv_err_set(err, IKV_FAILED, "out of memory");
	if (rc == 0)
		rc = store_exec(db, path, sql, err);
	for (size_t i = 0; i < sizeof tables / sizeof *tables && have && rc == 0; i++) {
		copy =
		    sqlite3_mprintf("INSERT INTO temp.%s SELECT * FROM main.%s WHERE run_id IN (SELECT run_id FROM "
				    "main.run WHERE status <> 'running')",
				    tables[i], tables[i]);
		rc = copy ? store_exec(db, path, copy, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
		sqlite3_free(copy);
	}
	sqlite3_free(sql);
	return rc;
}

int store_live(sqlite3 *db, const char *path, const char *run, struct ikv_err *err)
{
	static const char chosen[] = "SELECT run_id FROM run r WHERE run_id IN"
				     " (SELECT run_id FROM v_latest WHERE ?1 IS NULL UNION ALL"
				     "  SELECT run_id FROM v_run WHERE ?1 IS NOT NULL AND (name = ?1 OR label = ?1 OR"
				     "  ?1 = 'all' OR instr(',' || ?1 || ',', ',' || run_id || ',')))";
	bool have = has_rollups(db);
	int64_t *runs;
	size_t count;
	char *sql =
	    sqlite3_mprintf("%s%s", chosen,
			    have ? " AND (status = 'running' OR NOT EXISTS (SELECT 1 FROM main.run_stat t WHERE"
				   " t.run_id = r.run_id))"
				 : "");
	if (!sql)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = list_runs(db, path, sql, run, &runs, &count, err);
	sqlite3_free(sql);
	if (rc == 0 && (count || !have))
		rc = shadow(db, path, have, err);
	if (rc == 0 && count) {
		rc = store_exec(db, path, "BEGIN", err);
		for (size_t i = 0; i < count && rc == 0; i++)
			rc = store_rollup(db, path, runs[i], err);
		if (rc == 0)
			rc = store_exec(db, path, "COMMIT", err);
	}
	ikv_free(runs);
	sqlite3_exec(db, "PRAGMA query_only=ON", NULL, NULL, NULL);
	return rc;
}

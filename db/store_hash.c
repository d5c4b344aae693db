/* The canonical hash of a run: XXH3-128 over its deterministic columns, sessions and steps in order. A value is
 * a type byte and its bytes (integers and reals as 8 bytes, least significant first; text with its length), so
 * that no two different dumps are the same bytes. */
#include <stdio.h>
#include <string.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#include "store_internal.h"

static void add_u64(XXH3_state_t *h, char type, uint64_t v)
{
	unsigned char bytes[9] = {(unsigned char)type};
	for (int i = 0; i < 8; i++)
		bytes[1 + i] = (unsigned char)(v >> (8 * i));
	XXH3_128bits_update(h, bytes, sizeof bytes);
}

static void add_column(XXH3_state_t *h, sqlite3_stmt *stmt, int i)
{
	double real;
	uint64_t bits;
	switch (sqlite3_column_type(stmt, i)) {
	case SQLITE_INTEGER:
		add_u64(h, 'i', (uint64_t)sqlite3_column_int64(stmt, i));
		break;
	case SQLITE_FLOAT:
		real = sqlite3_column_double(stmt, i);
		real = real == 0 ? 0 : real; /* -0 and 0 are the same value */
		memcpy(&bits, &real, sizeof bits);
		add_u64(h, 'r', bits);
		break;
	case SQLITE_NULL:
		XXH3_128bits_update(h, "n", 1);
		break;
	default: {
		const unsigned char *text = sqlite3_column_text(stmt, i);
		int n = sqlite3_column_bytes(stmt, i);
		add_u64(h, 't', (uint64_t)n);
		XXH3_128bits_update(h, text, (size_t)n);
	}
	}
}

static int add_rows(sqlite3 *db, const char *path, const char *sql, int64_t run_id, XXH3_state_t *h, int64_t *rows,
		    struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	*rows = 0;
	if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return store_fail(db, path, "cannot read", err);
	sqlite3_bind_int64(stmt, 1, run_id);
	int rc, columns = sqlite3_column_count(stmt);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		XXH3_128bits_update(h, "|", 1);
		for (int i = 0; i < columns; i++)
			add_column(h, stmt, i);
		++*rows;
	}
	int result = rc == SQLITE_DONE ? 0 : store_fail(db, path, "cannot read", err);
	sqlite3_finalize(stmt);
	return result;
}

/* The run's number, the first column of these tables, is left out. */
static int add_table(sqlite3 *db, const char *path, const struct store_table *t, const char *order, int64_t run_id,
		     XXH3_state_t *h, struct ikv_err *err)
{
	int64_t rows;
	sqlite3_str *sql = sqlite3_str_new(db);
	sqlite3_str_appendall(sql, "SELECT ");
	for (int i = 1; i < t->hashed; i++)
		sqlite3_str_appendf(sql, "%s%s", i > 1 ? ", " : "", t->columns[i].name);
	sqlite3_str_appendf(sql, " FROM %s WHERE run_id = ? ORDER BY %s", t->name, order);
	char *text = sqlite3_str_finish(sql);
	if (!text)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = add_rows(db, path, text, run_id, h, &rows, err);
	sqlite3_free(text);
	add_u64(h, '#', (uint64_t)rows);
	return rc;
}

static int check_done(sqlite3 *db, const char *path, int64_t run_id, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v2(db, "SELECT status FROM run WHERE run_id = ?", -1, &stmt, NULL) != SQLITE_OK)
		return store_fail(db, path, "cannot read", err);
	sqlite3_bind_int64(stmt, 1, run_id);
	int rc = 0;
	if (sqlite3_step(stmt) != SQLITE_ROW)
		rc = ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no run %lld", path, (long long)run_id);
	else if (strcmp((const char *)sqlite3_column_text(stmt, 0), "done") != 0)
		rc = ikv_err_set(err, IKV_BAD_INPUT,
				 "%s: run %lld is %s, not done: only a run that is done has a hash", path,
				 (long long)run_id, (const char *)sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	return rc;
}

int store_hash(const char *path, int64_t run_id, char hex[33], struct ikv_err *err)
{
	sqlite3 *db;
	int64_t rows;
	int rc = -1;
	if (store_open_read(path, &db, err) != 0)
		return -1;
	XXH3_state_t *h = XXH3_createState();
	if (!h) {
		sqlite3_close(db);
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	XXH3_128bits_reset(h);
	/* One read transaction: all tables as of one moment. */
	if (store_exec(db, path, "BEGIN", err) == 0 && check_done(db, path, run_id, err) == 0 &&
	    add_rows(db, path,
		     "SELECT name, point, seed, router, scorer, source, execute, ladder, model, machine, format"
		     " FROM run WHERE run_id = ?",
		     run_id, h, &rows, err) == 0 &&
	    add_table(db, path, &store_tables[STORE_ROW_SESSION], "session", run_id, h, err) == 0 &&
	    add_table(db, path, &store_tables[STORE_ROW_STEP], "session, step", run_id, h, err) == 0) {
		XXH128_hash_t digest = XXH3_128bits_digest(h);
		snprintf(hex, 33, "%016llx%016llx", (unsigned long long)digest.high64,
			 (unsigned long long)digest.low64);
		rc = 0;
	}
	XXH3_freeState(h);
	sqlite3_close(db);
	return rc;
}

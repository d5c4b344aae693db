/* Opening, creating and closing a result database, and its transactions. */
#include <string.h>
#include <time.h>
#include "store_internal.h"

/* A transaction ends after so many steps or this long, whichever is first. */
#define BATCH_STEPS 1000
#define BATCH_NS    2000000000

int store_fail(sqlite3 *db, const char *path, const char *what, struct ikv_err *err)
{
	enum ikv_status status = IKV_FAILED;
	switch (sqlite3_errcode(db) & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		status = IKV_BUSY;
		break;
	case SQLITE_NOTADB:
	case SQLITE_CORRUPT:
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
		status = IKV_BAD_INPUT;
		break;
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_PERM:
		status = IKV_CANT_CREATE;
		break;
	case SQLITE_IOERR:
	case SQLITE_FULL:
		status = IKV_IO;
		break;
	}
	if ((sqlite3_errcode(db) & 0xff) == SQLITE_CORRUPT)
		return ikv_err_set(err, status, "%s: %s: the file is damaged (%s)", path, what, sqlite3_errmsg(db));
	return ikv_err_set(err, status, "%s: %s: %s", path, what, sqlite3_errmsg(db));
}

int store_exec(sqlite3 *db, const char *path, const char *sql, struct ikv_err *err)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return store_fail(db, path, "cannot write", err);
	return 0;
}

int store_prepare(struct store *s, const char *sql, sqlite3_stmt **stmt, struct ikv_err *err)
{
	if (sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL) != SQLITE_OK)
		return store_fail(s->db, s->path, "cannot prepare a statement", err);
	return 0;
}

int store_step_stmt(struct store *s, sqlite3_stmt *stmt, struct ikv_err *err)
{
	int rc = sqlite3_step(stmt), result = 0;
	if (rc != SQLITE_DONE && rc != SQLITE_ROW)
		result = store_fail(s->db, s->path, "cannot write a row", err);
	sqlite3_reset(stmt);
	return result;
}

static int64_t monotonic_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t); /* a fifth of the time */
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int store_begin(struct store *s, struct ikv_err *err)
{
	if (s->open)
		return 0;
	/* Takes the lock for writing at once, and leaves the rows that wait unread: BEGIN IMMEDIATE would read them. */
	if (store_exec(s->db, s->path, "BEGIN; DELETE FROM main.env WHERE 0", err) != 0) {
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		return -1;
	}
	s->open = true;
	s->steps = 0;
	s->opened_ns = monotonic_ns();
	return 0;
}

int store_commit(struct store *s, struct ikv_err *err)
{
	if (!s->open)
		return 0;
	int rc = store_batch_write(s, err);
	if (store_exec(s->db, s->path, "COMMIT", rc == 0 ? err : NULL) != 0) {
		/* A failed commit leaves the transaction open; what it held is given up as a whole. */
		if (!sqlite3_get_autocommit(s->db))
			sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		s->open = false;
		store_forget_sums(s);
		return -1;
	}
	s->open = false;
	return rc;
}

int store_flush(struct store *s, struct ikv_err *err)
{
	return store_settle(&s, err) != 0 ? -1 : store_commit(s, err);
}

/* Only between two iterations of the step loop, so that a transaction never holds a part of one. */
int store_pace(struct store *s, int64_t batch_step, struct ikv_err *err)
{
	bool boundary = batch_step < 0 || batch_step != s->batch_step;
	s->batch_step = batch_step;
	if (s->open && boundary && (s->steps >= BATCH_STEPS || monotonic_ns() - s->opened_ns > BATCH_NS))
		return store_commit(s, err);
	return 0;
}

static int read_number(struct store *s, const char *sql, int64_t *value, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v2(s->db, sql, -1, &stmt, NULL) != SQLITE_OK)
		return store_fail(s->db, s->path, "cannot read", err);
	int rc = sqlite3_step(stmt);
	*value = rc == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : 0;
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? 0 : store_fail(s->db, s->path, "cannot read", err);
}

/* Identity and tables come in one transaction of the rollback journal, before WAL: a crash leaves all or none. */
static int create(struct store *s, struct ikv_err *err)
{
	int64_t tables;
	char head[128];
	if (store_exec(s->db, s->path, "BEGIN IMMEDIATE", err) != 0)
		return -1;
	if (read_number(s, "SELECT count(*) FROM sqlite_schema", &tables, err) != 0)
		return -1;
	if (tables > 0)
		return store_exec(s->db, s->path, "ROLLBACK", err);
	sqlite3_snprintf(sizeof head, head, "PRAGMA application_id=%d; PRAGMA user_version=%d;", STORE_APPLICATION_ID,
			 STORE_VERSION);
	if (store_exec(s->db, s->path, head, err) != 0 || store_exec(s->db, s->path, store_schema_sql, err) != 0 ||
	    store_exec(s->db, s->path, "COMMIT", err) != 0)
		return -1;
	return 0;
}

static int use_wal(struct store *s, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (sqlite3_prepare_v2(s->db, "PRAGMA journal_mode=WAL", -1, &stmt, NULL) != SQLITE_OK)
		return store_fail(s->db, s->path, "cannot use a write-ahead log", err);
	int rc = sqlite3_step(stmt);
	const char *mode = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : NULL;
	bool wal = mode && strcmp(mode, "wal") == 0;
	sqlite3_finalize(stmt);
	if (rc != SQLITE_ROW)
		return store_fail(s->db, s->path, "cannot use a write-ahead log", err);
	if (!wal)
		return ikv_err_set(err, IKV_CANT_CREATE, "%s: this file system cannot keep a write-ahead log",
				   s->path);
	return 0;
}

static int set_up(struct store *s, struct ikv_err *err)
{
	int64_t id, version;
	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_busy_timeout(s->db, 10000);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	if (store_exec(s->db, s->path,
		       "PRAGMA page_size=8192; PRAGMA foreign_keys=OFF; PRAGMA mmap_size=0; PRAGMA cell_size_check=ON;"
		       "PRAGMA cache_size=-16384; PRAGMA journal_size_limit=16777216; PRAGMA synchronous=FULL",
		       err) != 0 ||
	    create(s, err) != 0 || read_number(s, "PRAGMA application_id", &id, err) != 0 ||
	    read_number(s, "PRAGMA user_version", &version, err) != 0)
		return -1;
	if (id == STORE_APPLICATION_ID && version > 0 && version < STORE_VERSION)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "%s: was written by an older version; `intentkv db upgrade %s` keeps a copy and brings "
				   "it up to date",
				   s->path, s->path);
	if (id != STORE_APPLICATION_ID || version != STORE_VERSION)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: is not a result database of this version", s->path);
	if (use_wal(s, err) != 0)
		return -1;
	/* The lock is ours: a run still marked running belongs to a process that died. */
	return store_exec(s->db, s->path,
			  "PRAGMA synchronous=NORMAL;"
			  "UPDATE run SET status = 'interrupted' WHERE status = 'running'",
			  err);
}

static void release(struct store *s)
{
	store_batch_end(s);
	store_forget_sums(s);
	sqlite3_finalize(s->session);
	sqlite3_finalize(s->block_event);
	sqlite3_finalize(s->page_event);
	sqlite3_close_v2(s->db);
	store_batch_free(s);
	store_unlock(s);
	sqlite3_free(s->path);
	sqlite3_free(s->lock_path);
	ikv_free(s);
}

int store_open(struct store **out, const char *path, struct ikv_err *err)
{
	bool fresh;
	*out = NULL;
	/* Without its statistics, SQLite allocates without a lock, about a tenth of the time of a row. Refused, which
	 * is no harm, where SQLite is in use already. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	struct store *s = ikv_alloc(1, sizeof *s, err);
	if (!s)
		return -1;
	s->lock_fd = -1;
	s->batch_step = -1;
	s->path = sqlite3_mprintf("%s", path);
	s->lock_path = sqlite3_mprintf("%s.lock", path);
	if (!s->path || !s->lock_path) {
		ikv_err_set(err, IKV_FAILED, "out of memory");
		goto fail;
	}
	/* Before the lock, so that a refusal leaves nothing behind; and after it, for what happened meanwhile. */
	if (store_check_header(path, &fresh, err) != 0 || store_lock(s, err) != 0 ||
	    store_check_header(path, &fresh, err) != 0)
		goto fail;
	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI,
			    NULL) !=
	    SQLITE_OK) {
		if (s->db)
			store_fail(s->db, path, "cannot open for writing", err);
		else
			ikv_err_set(err, IKV_FAILED, "out of memory");
		goto fail;
	}
	/* SQLite falls back to reading when the file may not be written. */
	if (sqlite3_db_readonly(s->db, "main") == 1) {
		ikv_err_set(err, IKV_CANT_CREATE, "%s: cannot be written: it is read-only", path);
		goto fail;
	}
	if (set_up(s, err) != 0 || store_batch_open(s, err) != 0)
		goto fail;
	*out = s;
	return 0;
fail:
	release(s);
	return -1;
}

int store_close(struct store *s, struct ikv_err *err)
{
	if (!s)
		return 0;
	if (s->queue)
		return queue_close(s, err);
	int rc = store_commit(s, err);
	if (rc == 0) {
		/* Leaves one plain file, readable from anywhere; a reader at work may prevent it, which is no error:
		 * the log is then merged by whoever comes last. */
		sqlite3_busy_timeout(s->db, 200);
		sqlite3_exec(s->db, "PRAGMA main.optimize", NULL, NULL, NULL);
		sqlite3_exec(s->db, "PRAGMA main.wal_checkpoint(TRUNCATE)", NULL, NULL, NULL);
		sqlite3_exec(s->db, "PRAGMA main.journal_mode=DELETE", NULL, NULL, NULL);
	}
	release(s);
	return rc;
}

/* Opening for reading: beside a writer, on read-only media, never changing anything. */
#include <string.h>
#include <sys/stat.h>
#include "store_internal.h"

static char *uri(const char *path)
{
	sqlite3_str *s = sqlite3_str_new(NULL);
	sqlite3_str_appendall(s, "file:");
	for (const unsigned char *p = (const unsigned char *)path; *p; p++) {
		if (*p < 0x21 || *p > 0x7e || strchr("%?#", *p))
			sqlite3_str_appendf(s, "%%%02x", *p);
		else
			sqlite3_str_appendchar(s, 1, (char)*p);
	}
	sqlite3_str_appendall(s, "?mode=ro&immutable=1");
	return sqlite3_str_finish(s);
}

static int probe(sqlite3 *db)
{
	return sqlite3_exec(db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
}

/* A file left in WAL mode needs a shared-memory file beside it, which a read-only folder refuses. Without a log
 * the main file is complete and nobody writes to it there. */
bool store_log_is_empty(const char *path)
{
	static const char *const logs[] = {"-wal", "-journal"};
	struct stat st;
	bool empty = true;
	for (int i = 0; i < 2; i++) {
		char *log = sqlite3_mprintf("%s%s", path, logs[i]);
		empty &= log && (stat(log, &st) != 0 || st.st_size == 0);
		sqlite3_free(log);
	}
	return empty;
}

int store_open_read(const char *path, sqlite3 **db, struct ikv_err *err)
{
	bool fresh;
	*db = NULL;
	if (store_check_header(path, &fresh, err) != 0)
		return -1;
	if (fresh)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no result database", path);
	int rc = sqlite3_open_v2(path, db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(*db, 10000);
		rc = probe(*db);
	}
	if ((rc & 0xff) == SQLITE_CANTOPEN && store_log_is_empty(path)) {
		sqlite3_close(*db);
		*db = NULL;
		char *name = uri(path);
		rc = sqlite3_open_v2(name ? name : "", db,
				     SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX, NULL);
		sqlite3_free(name);
		if (rc == SQLITE_OK)
			rc = probe(*db);
	}
	if (rc != SQLITE_OK) {
		if (*db)
			store_fail(*db, path, "cannot read", err);
		else
			ikv_err_set(err, IKV_FAILED, "out of memory");
		if (err && err->status == IKV_CANT_CREATE)
			err->status = IKV_IO;
		sqlite3_close(*db);
		*db = NULL;
		return -1;
	}
	sqlite3_db_config(*db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(*db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	sqlite3_exec(*db, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0; PRAGMA query_only=ON", NULL, NULL, NULL);
	return 0;
}

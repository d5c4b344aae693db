/* What the files of the store share. */
#ifndef DB_STORE_INTERNAL_H
#define DB_STORE_INTERNAL_H

#include <sqlite3.h>
#include "db/store.h"

extern const char store_schema_sql[]; /* generated from schema.sql, rollup.sql and metrics.sql */
extern const char store_rollup_sql[]; /* generated from rollup.sql */

/* How a field of a row struct becomes a column. */
enum store_type {
	STORE_INT,  /* int64_t, -1 is NULL */
	STORE_REAL, /* double, NaN is NULL */
	STORE_TEXT, /* const char *, NULL is NULL */
	STORE_HEX,  /* uint64_t as 16 hex digits */
	STORE_KIND, /* enum ikv_kind by name */
};
struct store_column {
	const char *name;
	enum store_type type;
	size_t offset;
};
struct store_table {
	const char *name;
	const struct store_column *columns;
	int count;
	int hashed; /* so many leading columns are deterministic */
	size_t row_bytes;
	size_t texts[3]; /* offsets of the columns that are STORE_TEXT, and how many those are */
	int text_count;
};
extern const struct store_table store_tables[];
enum { STORE_ROW_SESSION, STORE_ROW_STEP, STORE_ROW_ROLE, STORE_ROW_LAYER, STORE_ROW_PREFILL, STORE_ROW_COUNT };

struct store {
	sqlite3 *db;
	char *path, *lock_path;
	int lock_fd;
	struct store_batch *batch; /* rows that wait */
	sqlite3_stmt *session, *block_event, *page_event;
	int64_t summed;          /* run of which sums are kept from its first step on; 0: none */
	struct store_sums *sums; /* NULL before its first step */
	bool open;          /* a transaction is open */
	uint64_t steps;     /* steps in it */
	int64_t batch_step; /* of the newest step */
	struct store_step room; /* for the caller to make a row in */
	int64_t opened_ns;  /* when it began, monotonic */
	int64_t env_id;     /* row of this process, 0: not written yet */
	struct spool *spool; /* rows go there; the store has no database then */
	struct queue *queue; /* of the thread that takes them into another store's database, or NULL */
};

/* Write "path: what: SQLite's message" with the status that fits SQLite's result. */
int store_fail(sqlite3 *db, const char *path, const char *what, struct ikv_err *err);
int store_exec(sqlite3 *db, const char *path, const char *sql, struct ikv_err *err);
int store_prepare(struct store *s, const char *sql, sqlite3_stmt **stmt, struct ikv_err *err);
/* Run a bound statement to its end and make it ready for the next row. */
int store_step_stmt(struct store *s, sqlite3_stmt *stmt, struct ikv_err *err);
int store_begin(struct store *s, struct ikv_err *err);
int store_commit(struct store *s, struct ikv_err *err);
/* Commit if the batch is full and `batch_step` begins a new iteration. */
int store_pace(struct store *s, int64_t batch_step, struct ikv_err *err);

/* Message of a run from a spool while its rows come in, a transaction after the other: so one that was cut off there is
 * known. The commit that marks it done takes the message away. */
#define STORE_TAKEN_IN_PART "cut off while it was taken in from a worker"

/* store_run.c: write the row of this process in env, unless it is there; the time as ISO 8601. */
int store_env(struct store *s, struct ikv_err *err);
/* Delete runs with all their rows, in the transaction that is open or begins. */
int store_delete_runs(struct store *s, const char *where, struct ikv_err *err);
void store_utc(char text[32]);

/* store_lock.c: one writer per database. */
int store_lock(struct store *s, struct ikv_err *err);
void store_unlock(struct store *s);
bool store_is_written(const char *path);
/* Does the header say that this is ours and of a version we know? Reads only. *fresh: absent or empty. */
int store_check_header(const char *path, bool *fresh, struct ikv_err *err);

/* store_batch.c: rows of steps, roles, layers and prompts go into their tables many at a time: add one, write those that wait
 * at the end of a transaction, forget them. */
enum { STORE_TEXT_MAX = 1000 }; /* bytes of a text in such a row */
int store_batch_open(struct store *s, struct ikv_err *err);
int store_batch_add(struct store *s, int which, const void *row, struct ikv_err *err);
int store_batch_write(struct store *s, struct ikv_err *err);
void store_batch_drop(struct store *s);
/* Before the connection is closed, and after it. */
void store_batch_end(struct store *s);
void store_batch_free(struct store *s);

/* store_rows.c: rows were lost or are not those of one run from its beginning; its roll-ups are read from the table. */
void store_forget_sums(struct store *s);

/* store_queue.c: where *s has a thread, wait until its rows are written and make *s the store with the database. */
int store_settle(struct store **s, struct ikv_err *err);
int queue_close(struct store *s, struct ikv_err *err);
/* The same, and let the thread call `work` with the store that has the database, where there is a thread; returns what
 * that returns. */
int store_call(struct store *s, int (*work)(struct store *s, void *arg, struct ikv_err *err), void *arg,
	       struct ikv_err *err);

/* store_spool.c: each appends one record. */
int spool_run(struct store *s, const struct store_run *run, struct ikv_err *err);
int spool_row(struct store *s, int which, const void *row, struct ikv_err *err);
int spool_step(struct store *s, const struct store_step *row, struct ikv_err *err);
int spool_block_event(struct store *s, const struct store_block_event *row, struct ikv_err *err);
int spool_page_event(struct store *s, int64_t run_id, int64_t session, int64_t step, const struct ikv_action *action,
		     struct ikv_err *err);

/* store_read.c: open for reading only, also on read-only media and beside a writer. */
bool store_log_is_empty(const char *path); /* nothing waits in the write-ahead log, or in the journal of a file that was being made */
int store_open_read(const char *path, sqlite3 **db, struct ikv_err *err);

/* store_functions.c: median(x), percentile(x, p), significant(x, digits) and is_written(). */
int store_functions(sqlite3 *db, const char *path);

/* store_rollup.c: write the roll-ups of one run anew, into the file or, where they are there, into temporary tables. */
int store_rollup(sqlite3 *db, const char *path, int64_t run_id, struct ikv_err *err);
/* The same, from sums that were kept while the run was recorded; `sums` is used up. */
struct store_sums;
int store_rollup_write(sqlite3 *db, const char *path, int64_t run_id, struct store_sums *sums, struct ikv_err *err);
/* store_live.c: for a reader, the roll-ups that the file lacks of the chosen runs (`run` as :run in the named queries;
 * NULL: the newest). */
int store_live(sqlite3 *db, const char *path, const char *run, struct ikv_err *err);

/* store_format.c: one result set. */
struct store_writer;
int store_writer_open(struct store_writer **out, enum store_format format, bool header, sqlite3_stmt *stmt,
		      void *file, struct ikv_err *err);
int store_writer_row(struct store_writer *w, struct ikv_err *err);
int store_writer_close(struct store_writer *w, bool complete, struct ikv_err *err);

#endif

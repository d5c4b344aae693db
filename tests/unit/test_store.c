/* The store: what is written is read back, hashes, refusals, kill -9, readers beside a writer, free SQL. */
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "db/store_internal.h"
#include "store_sample.h"
#include "tap.h"

static char dir[64], path[96];

static void set_up(void)
{
	strcpy(dir, "/tmp/ikv-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/r %%?.db", dir);
}

static void tear_down(void)
{
	static const char *const ends[] = {"", "-wal", "-shm", "-journal", ".lock"};
	char name[128];
	for (size_t i = 0; i < 5; i++) {
		snprintf(name, sizeof name, "%s%s", path, ends[i]);
		unlink(name);
	}
	ck_assert_int_eq(rmdir(dir), 0);
}

static char *ask(const char *sql, enum store_format format)
{
	static char text[1 << 16];
	struct ikv_err err = {0};
	struct store_query q = {.sql = sql, .format = format, .time_limit_s = 60};
	FILE *f = fmemopen(text, sizeof text, "w");
	int rc = store_query_run(path, &q, f, &err);
	fclose(f);
	ck_assert_msg(rc == 0, "%s", err.text);
	text[strcspn(text, "\r")] = 0;
	return text;
}

/* The result of a named query as CSV from byte `skip` on. */
static const char *named(const char *name, int skip)
{
	static char text[1 << 16];
	struct ikv_err err = {0};
	struct store_query q = {.name = name, .format = STORE_CSV};
	FILE *f = fmemopen(text, sizeof text, "w");
	int rc = store_query_run(path, &q, f, &err);
	fclose(f);
	ck_assert_msg(rc == 0, "%s", err.text);
	return text + skip;
}

static int refused(const char *sql)
{
	struct ikv_err err = {0};
	struct store_query q = {.sql = sql, .format = STORE_CSV, .time_limit_s = 0.2};
	FILE *f = fopen("/dev/null", "w");
	int rc = store_query_run(path, &q, f, &err);
	fclose(f);
	return rc == 0 ? 0 : (int)err.status;
}

static void fill(int runs, int steps)
{
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	ck_assert_msg(store_open(&s, path, &err) == 0, "%s", err.text);
	for (int i = 0; i < runs; i++)
		ck_assert_msg(sample_run(s, i, steps, &run, &err) == 0, "%s", err.text);
	ck_assert_msg(store_close(s, &err) == 0, "%s", err.text);
}

START_TEST(rows_come_back)
{
	fill(3, 1500);
	ck_assert_str_eq(ask("SELECT count(*) FROM step", STORE_CSV), "9000");
	ck_assert_str_eq(ask("SELECT count(*) FROM run WHERE status = 'done'", STORE_CSV), "3");
	ck_assert_str_eq(ask("SELECT rel_l2 IS NULL AND spec_verified IS NULL FROM step WHERE step = 1", STORE_CSV),
			 "1");
	struct store_step s = sample_step(2, 1, 8, 1);
	char sql[300];
	snprintf(sql, sizeof sql,
		 "SELECT count(*) FROM step WHERE run_id = 2 AND session = 1 AND step = 8 AND rel_l2 = %.17g AND "
		 "read_bytes = %lld AND decision_hash = '%016llx'",
		 s.rel_l2, (long long)s.read_bytes, (unsigned long long)s.decision_hash);
	ck_assert_str_eq(ask(sql, STORE_CSV), "1");
	ck_assert_str_eq(
	    ask("SELECT median(step) || ' ' || percentile(step, 90) FROM step WHERE run_id = 1 AND step < 11",
		STORE_CSV),
	    "5.0 9.0");
	ck_assert_str_eq(ask("SELECT id FROM session WHERE run_id = 1 AND session = 0", STORE_CSV), "\"'=a\"");
	char side[128];
	snprintf(side, sizeof side, "%s-wal", path);
	ck_assert_int_ne(access(side, F_OK), 0);
}
END_TEST

START_TEST(columns_match_the_schema)
{
	sqlite3 *db;
	sqlite3_stmt *stmt;
	ck_assert_int_eq(sqlite3_open(":memory:", &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, store_schema_sql, NULL, NULL, NULL), SQLITE_OK);
	for (int t = 0; t < STORE_ROW_COUNT; t++) {
		char *sql =
		    sqlite3_mprintf("SELECT p.name, m.name FROM pragma_table_info(%Q) p LEFT JOIN metric_def m"
				    " ON m.table_name = %Q AND m.name = p.name WHERE p.name <> 'step_id'",
				    store_tables[t].name, store_tables[t].name);
		ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
		sqlite3_free(sql);
		for (int i = 0; i < store_tables[t].count; i++) {
			ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
			ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), store_tables[t].columns[i].name);
			if (t != STORE_ROW_SESSION)
				ck_assert_ptr_nonnull(sqlite3_column_text(stmt, 1));
		}
		ck_assert_int_eq(sqlite3_step(stmt), SQLITE_DONE);
		sqlite3_finalize(stmt);
	}
	const struct store_table *step = &store_tables[STORE_ROW_STEP];
	ck_assert_str_eq(step->columns[step->hashed].name, "mass_by");
	sqlite3_close(db);
}
END_TEST

START_TEST(hash_sees_decisions_only)
{
	char a[33], b[33];
	struct ikv_err err;
	sqlite3 *db;
	fill(2, 50);
	fill(1, 50);
	ck_assert_int_eq(store_hash(path, 1, a, &err), 0);
	ck_assert_int_eq(strlen(a), 32);
	ck_assert_int_eq(store_hash(path, 3, b, &err), 0);
	ck_assert_str_eq(a, b);
	ck_assert_int_eq(store_hash(path, 2, b, &err), 0);
	ck_assert_str_ne(a, b);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, "UPDATE step SET wall_dense_ns = 1, rel_l2 = 9 WHERE run_id = 1", NULL, NULL, NULL);
	ck_assert_int_eq(store_hash(path, 1, b, &err), 0);
	ck_assert_str_eq(a, b);
	sqlite3_exec(db, "UPDATE step SET hit_pages = hit_pages + 1 WHERE run_id = 1 AND step = 7", NULL, NULL, NULL);
	ck_assert_int_eq(store_hash(path, 1, b, &err), 0);
	ck_assert_str_ne(a, b);
	sqlite3_close(db);
	ck_assert_int_eq(store_hash(path, 99, b, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
}
END_TEST

START_TEST(layers_and_events_come_back)
{
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "events", .scenario_text = "x"};
	const struct store_step step = sample_step(1, 0, 0, 0);
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	ck_assert_int_eq(store_step(s, &step, &err), 0);
	for (int layer = 3; layer < 5; layer++) {
		struct store_layer l = {.run_id = run,
					.layer = layer,
					.selected_fraction = 0.25,
					.mass_recall = 0.75,
					.rel_l2 = 0.5,
					.max_abs = layer,
					.cosine = NAN,
					.kl = 0.125};
		ck_assert_int_eq(store_layer(s, &l, &err), 0);
	}
	for (uint32_t i = 0; i < 3; i++) {
		struct ikv_decision d = {.start = 16 * i,
					 .end = 16 * i + 16,
					 .code = i ? IKV_SELECT : IKV_SKIP,
					 .format = IKV_FMT_FP16,
					 .score = i ? 0.5 : NAN,
					 .rank = i ? (int32_t)i : -1,
					 .threshold = NAN,
					 .selected_tokens = i ? 16 : 0};
		struct store_block_event e = {.run_id = run,
					      .layer = 3,
					      .head = 8,
					      .block = "b",
					      .kind = IKV_KIND_TOOLS,
					      .policy = IKV_GLOBAL,
					      .decision = &d};
		ck_assert_msg(store_block_event(s, &e, &err) == 0, "%s", err.text);
	}
	for (int move = 0; move < IKV_MOVE_COUNT; move++) {
		struct ikv_action a = {.page = (uint32_t)move,
				       .move = (uint8_t)move,
				       .from_format = IKV_FMT_FP16,
				       .to_format = IKV_FMT_INT8,
				       .to_tier = 1,
				       .bytes = 4096};
		ck_assert_msg(store_page_event(s, run, 0, 0, &a, &err) == 0, "%s", err.text);
	}
	ck_assert_int_eq(store_run_end(s, run, "done", 1, &err), 0);
	ck_assert_int_eq(store_close(s, &err), 0);
	ck_assert_str_eq(ask("SELECT group_concat(move, ' ') FROM page_event", STORE_CSV),
			 "fetch prefetch evict demote promote refetch encode");
	ck_assert_str_eq(ask("SELECT count(*) FROM page_event WHERE from_format = 'FP16' AND to_format = 'INT8' AND"
			     " bytes = 4096 AND to_tier = 1",
			     STORE_CSV),
			 "7");
	ck_assert_str_eq(ask("SELECT sum(score IS NULL) || ' ' || sum(rank IS NULL) || ' ' || max(rank) FROM"
			     " block_event WHERE head = 8",
			     STORE_CSV),
			 "1 1 2");
	ck_assert_str_eq(named("by-layer", 2), "events,3,1,25,75,0.5,3,,0.125\r\n"
					       "1,events,4,1,25,75,0.5,4,,0.125\r\n");
	ck_assert_ptr_nonnull(strstr(named("decisions", 2), ",2,32,0.5\r\n"));
}
END_TEST

START_TEST(by_role_with_and_without_hits)
{
	struct ikv_err err;
	uint64_t runs;
	sqlite3 *db;
	fill(1, 8);
	ck_assert_ptr_nonnull(strstr(named("by-role", 0), ",93.75\r\n"));
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, "UPDATE step_role SET hit_pages = NULL, miss_pages = NULL", NULL, NULL, NULL);
	sqlite3_close(db);
	ck_assert_int_eq(store_rollup_all(path, &runs, &err), 0);
	ck_assert_ptr_null(strstr(named("by-role", 0), "93.75"));
	ck_assert_ptr_nonnull(strstr(named("by-role", 0), ",\r\n"));
}
END_TEST

START_TEST(damaged_files_are_named_so)
{
	struct ikv_err err = {0};
	struct store_query q = {.name = "summary", .format = STORE_CSV};
	struct store *s;
	struct stat st;
	FILE *null = fopen("/dev/null", "w");
	fill(2, 400);
	ck_assert_int_eq(stat(path, &st), 0);
	FILE *f = fopen(path, "r+");
	fseek(f, 16384, SEEK_SET);
	for (long i = 16384; i < st.st_size; i++)
		fputc(0x5a, f);
	fclose(f);
	ck_assert_int_eq(store_query_run(path, &q, null, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_ptr_nonnull(strstr(err.text, "damaged"));
	ck_assert_int_eq(truncate(path, st.st_size / 2), 0);
	ck_assert_int_eq(store_query_run(path, &q, null, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_ptr_nonnull(strstr(err.text, "damaged"));
	ck_assert_int_eq(store_open(&s, path, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	fclose(null);
}
END_TEST

START_TEST(only_reading_is_allowed)
{
	static const char *const bad[] = {"DELETE FROM step",
					  "SELECT 1; SELECT 2",
					  "ATTACH '/tmp/x' AS x",
					  "PRAGMA journal_mode=OFF",
					  "SELECT load_extension('x')",
					  "VACUUM INTO '/tmp/x'",
					  "UPDATE run SET name = 'x' RETURNING name",
					  "",
					  "-- nothing",
					  "CREATE TEMP TABLE x (y)",
					  "SELECT 1; DROP TABLE step",
					  "SELEC 1"};
	fill(1, 10);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(refused(bad[i]) == IKV_USAGE, "%s", bad[i]);
	ck_assert_int_eq(refused("SELECT 1; -- the end"), 0);
	ck_assert_int_eq(
	    refused("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"),
	    IKV_FAILED);
	ck_assert_str_eq(ask("SELECT count(*) FROM step", STORE_CSV), "20");
}
END_TEST

START_TEST(named_queries_run)
{
	fill(4, 40);
	for (const struct store_named *q = store_queries; q->name; q++) {
		struct ikv_err err = {0};
		struct store_query query = {.name = q->name, .format = STORE_CSV};
		char *text = NULL;
		size_t size;
		FILE *f = open_memstream(&text, &size);
		int rc = store_query_run(path, &query, f, &err);
		fclose(f);
		ck_assert_msg(rc == 0, "%s: %s", q->name, err.text);
		/* The sample has no layers, events, oracle, prefetches or failures; the test of the program has them. */
		static const char absent[] = " settings memory calibrations calibration-errors predictions decisions by-layer blocks moves regret regret-by-role failures plot-layers"
					     " plot-prefetch plot-regret ";
		char word[64];
		snprintf(word, sizeof word, " %s ", q->name);
		ck_assert_msg(strstr(absent, word) || strchr(text, '\n'), "%s: no rows", q->name);
		ck_assert_msg(strlen(q->help) > 10, "%s: no help", q->name);
		free(text);
	}
}
END_TEST

static void spoil(const char *pragma, int status)
{
	struct ikv_err err = {0};
	struct stat before, after;
	struct store *s;
	char command[128];
	sqlite3 *db;
	snprintf(command, sizeof command, "PRAGMA %s; CREATE TABLE IF NOT EXISTS x (y)", pragma);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, command, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	stat(path, &before);
	ck_assert_int_eq(store_open(&s, path, &err), -1);
	ck_assert_int_eq(err.status, status);
	stat(path, &after);
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	snprintf(command, sizeof command, "%s.lock", path);
	ck_assert_int_ne(access(command, F_OK), 0);
}

START_TEST(wrong_databases_are_refused)
{
	struct ikv_err err = {0};
	struct store *s, *second;
	spoil("application_id=7", IKV_BAD_INPUT);
	unlink(path);
	fill(1, 5);
	for (int version = 1; version <= STORE_VERSION + 1; version++) {
		char pragma[40];
		snprintf(pragma, sizeof pragma, "user_version=%d", version);
		if (version != STORE_VERSION)
			spoil(pragma, IKV_BAD_INPUT);
	}
	FILE *f = fopen(path, "w");
	fputs("these are notes\n", f);
	fclose(f);
	ck_assert_int_eq(store_open(&s, path, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_int_eq(refused("SELECT 1"), IKV_BAD_INPUT);
	ck_assert_int_eq(store_open(&s, "/nowhere/r.db", &err), -1);
	ck_assert_int_eq(err.status, IKV_CANT_CREATE);
	unlink(path);
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_open(&second, path, &err), -1);
	ck_assert_int_eq(err.status, IKV_BUSY);
	ck_assert_int_eq(store_close(s, &err), 0);
}
END_TEST

/* A child writes and says how far it has committed; it is killed at a different moment each time. */
START_TEST(killed_writer_loses_nothing_committed)
{
	for (int round = 0; round < 8; round++) {
		int64_t acknowledged = 0, now;
		int fds[2];
		ck_assert_int_eq(pipe(fds), 0);
		pid_t pid = fork();
		if (pid == 0) {
			struct store *s;
			int64_t run;
			const struct store_run r = {.name = "killed", .scenario_text = "x"};
			if (store_open(&s, path, NULL) != 0 || store_run_begin(s, &r, &run, NULL) != 0)
				_exit(1);
			for (int64_t i = 0;; i++) {
				struct store_step a = sample_step(run, 0, i, 0), b = sample_step(run, 1, i, 0);
				if (store_step(s, &a, NULL) != 0 || store_step(s, &b, NULL) != 0)
					_exit(1);
				if (i % 37 == 36 && (store_flush(s, NULL) != 0 || write(fds[1], &i, sizeof i) < 0))
					_exit(1);
			}
		}
		close(fds[1]);
		for (int i = 0; i < 3 + 7 * round && read(fds[0], &now, sizeof now) == sizeof now; i++)
			acknowledged = now + 1;
		usleep((useconds_t)(997 * round));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(fds[0], &now, sizeof now) == sizeof now)
			acknowledged = now + 1;
		close(fds[0]);
		char *end, *text = ask("SELECT sum(session = 0) || ' ' || sum(session = 1) FROM step WHERE run_id ="
				       " (SELECT max(run_id) FROM run)",
				       STORE_CSV);
		long long first = strtoll(text, &end, 10), second = strtoll(end, NULL, 10);
		ck_assert_int_eq(first, second);
		ck_assert_int_ge(first, acknowledged);
		ck_assert_int_gt(first, 0);
	}
	fill(1, 5);
	sqlite3 *db;
	sqlite3_stmt *stmt;
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &stmt, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_step(stmt), SQLITE_ROW);
	ck_assert_str_eq((const char *)sqlite3_column_text(stmt, 0), "ok");
	sqlite3_finalize(stmt);
	sqlite3_close(db);
	ck_assert_str_eq(ask("SELECT count(*) FROM run WHERE status = 'interrupted'", STORE_CSV), "8");
}
END_TEST

START_TEST(reader_beside_a_writer)
{
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "live", .scenario_text = "x"};
	long long seen = 0;
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	for (int64_t i = 0; i < 4000; i++) {
		struct store_step a = sample_step(run, 0, i, 0), b = sample_step(run, 1, i, 0);
		ck_assert_int_eq(store_step(s, &a, &err), 0);
		if (i % 100 == 50) { /* between the two sessions of a batch */
			char *end,
			    *text = ask("SELECT coalesce(sum(session = 0), 0) || ' ' || coalesce(sum(session = 1), 0)"
					" FROM step",
					STORE_CSV);
			long long first = strtoll(text, &end, 10);
			ck_assert_int_eq(first, strtoll(end, NULL, 10));
			ck_assert_int_ge(first, seen);
			seen = first;
		}
		ck_assert_int_eq(store_step(s, &b, &err), 0);
	}
	ck_assert_int_gt(seen, 3000);
	ck_assert_int_eq(store_run_end(s, run, "done", 1, &err), 0);
	ck_assert_int_eq(store_close(s, &err), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *tc = tcase_create("store");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, rows_come_back);
	tcase_add_test(tc, columns_match_the_schema);
	tcase_add_test(tc, hash_sees_decisions_only);
	tcase_add_test(tc, layers_and_events_come_back);
	tcase_add_test(tc, by_role_with_and_without_hits);
	tcase_add_test(tc, damaged_files_are_named_so);
	tcase_add_test(tc, only_reading_is_allowed);
	tcase_add_test(tc, named_queries_run);
	tcase_add_test(tc, wrong_databases_are_refused);
	tcase_add_test(tc, killed_writer_loses_nothing_committed);
	tcase_add_test(tc, reader_beside_a_writer);
	suite_add_tcase(suite, tc);
	return tap_run(suite);
}

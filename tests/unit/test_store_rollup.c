/* Roll-ups against SQL over the steps; runs that have none; copies, exports, checks and older files. */
#include <check.h>
#include <sys/stat.h>
#include <unistd.h>
#include "db/store_internal.h"
#include "tap.h"
#include "unit/store_sample.h"

/* What an older file cannot have is left out. */
#define ROLLED(table)                                                                                                \
	"SELECT count(*), sum(count), total(total), total(p50) FROM " table                                          \
	" WHERE name NOT IN ('pages_kivi2', 'sim_outside', 'sim_outside_measured', 'wall_device_ns', "               \
	"'wall_transfer_ns',"                                                                                        \
	" 'wall_hidden_ns', 'wall_exposed_ns', 'wall_evict_ns')"

static char dir[64], path[96], other[96];

static void set_up(void)
{
	snprintf(dir, sizeof dir, "/tmp/ikv_rollup_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/r.db", dir);
	snprintf(other, sizeof other, "%s/other.db", dir);
}

static void tear_down(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static void fill(int runs, int steps)
{
	struct ikv_err err;
	struct store *s;
	int64_t run;
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	for (int i = 0; i < runs; i++)
		ck_assert_int_eq(sample_run(s, i, steps, &run, &err), 0);
	ck_assert_int_eq(store_close(s, &err), 0);
}

static char *ask_file(const char *file, const char *sql)
{
	static char text[1 << 16];
	struct ikv_err err = {0};
	struct store_query q = {.sql = sql, .format = STORE_CSV};
	FILE *f = fmemopen(text, sizeof text, "w");
	int rc = store_query_run(file, &q, f, &err);
	fclose(f);
	ck_assert_msg(rc == 0, "%s: %s", sql, err.text);
	return text;
}

static char *ask(const char *sql)
{
	return ask_file(path, sql);
}

static void change(const char *sql)
{
	sqlite3 *db;
	char *message = NULL;
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_msg(sqlite3_exec(db, sql, NULL, NULL, &message) == SQLITE_OK, "%s", message);
	sqlite3_close(db);
}

/* Every metric of every run against the aggregates over its steps; percentiles hold values in single precision. */
START_TEST(stats_are_those_of_the_steps)
{
	char sql[2000];
	fill(3, _i);
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	int compared = 0;
	for (int i = 0; i < t->count; i++) {
		const char *c = t->columns[i].name;
		snprintf(sql, sizeof sql,
			 "SELECT count(*) FROM run_stat t JOIN (SELECT run_id, count(%s) AS n, total(%s) AS s, "
			 "avg(%s) AS a,"
			 " min(%s) AS lo, max(%s) AS hi, median(%s) AS p50, percentile(%s, 95) AS p95,"
			 " percentile(%s, 99) AS p99 FROM step GROUP BY run_id) USING (run_id) WHERE name = '%s' AND"
			 " count = n AND abs(total - s) <= 1e-9 * abs(s) AND abs(mean - a) <= 1e-9 * abs(a) AND min "
			 "= lo AND"
			 " max = hi AND (t.p50 IS NULL OR (abs(t.p50 - q.p50) <= 1e-6 * abs(q.p50) AND abs(t.p95 - "
			 "q.p95) <="
			 " 1e-6 * abs(q.p95) AND abs(t.p99 - q.p99) <= 1e-6 * abs(q.p99)))",
			 c, c, c, c, c, c, c, c, c);
		char *at = strstr(sql, "GROUP BY run_id)");
		memmove(at + 18, at + 16, strlen(at + 16) + 1);
		memcpy(at + 16, " q", 2);
		char have[200];
		snprintf(have, sizeof have, "SELECT count(*) FROM run_stat WHERE name = '%s'", c);
		if (strcmp(ask(have), "0\r\n") == 0)
			continue;
		ck_assert_msg(strcmp(ask(sql), "3\r\n") == 0, "%s of %d steps: %s", c, _i, ask(sql));
		compared++;
	}
	ck_assert_int_gt(compared, 20);
	ck_assert_str_eq(ask("SELECT count(*) FROM run_stat WHERE name = 'rel_l2' AND p50 IS NOT NULL"), "3\r\n");
}
END_TEST

/* On a device the yardstick of measured time is the dense run that differs in the router alone. */
START_TEST(dense_runs_stand_in_for_a_reference)
{
	fill(4, 40); /* the last one is dense */
	change("UPDATE run SET backend = 'cuda'; UPDATE run_param SET value = 'x' WHERE key = 'n';"
	       "DELETE FROM run_stat WHERE name = 'wall_dense_ns'");
	const char *sql =
	    "SELECT count(*), sum(abs(t.wall_dense_ns / (a.count * d.mean) - 1) < 1e-12) FROM v_total t"
	    " JOIN run_stat a ON a.run_id = t.run_id AND a.name = 'wall_attention_ns'"
	    " JOIN run_stat d ON d.run_id = 4 AND d.name = 'wall_attention_ns' WHERE t.wall_dense_ns > 0";
	ck_assert_str_eq(ask(sql), "4,4\r\n");
	change("UPDATE run_param SET value = 'y' WHERE key = 'n' AND run_id = 2");
	ck_assert_str_eq(ask(sql), "3,3\r\n");
	change("UPDATE run SET backend = 'cpu' WHERE run_id = 4");
	ck_assert_str_eq(ask(sql), "1,1\r\n"); /* itself */
}
END_TEST

START_TEST(series_add_up)
{
	fill(1, _i);
	ck_assert_str_eq(
	    ask("SELECT count(*) <= 100, sum(steps) = (SELECT count(*) FROM step),"
		" abs(sum(read_bytes * steps) / (SELECT sum(read_bytes) FROM step) - 1) < 1e-9 FROM run_series"),
	    "1,1,1\r\n");
	ck_assert_str_eq(
	    ask("SELECT count(*) FROM run_series a WHERE abs(context_tokens - (SELECT avg(context_tokens) FROM step"
		" WHERE step >= a.step AND step < coalesce((SELECT min(step) FROM run_series b WHERE b.step > "
		"a.step),"
		" 1e9))) > 1e-6"),
	    "0\r\n");
	ck_assert_str_eq(
	    ask("SELECT count(*), sum(s.steps = n.steps), sum(abs(s.read_bytes - n.read_bytes) < 1) FROM run_session "
		"s"
		" JOIN (SELECT session, count(*) AS steps, sum(read_bytes) AS read_bytes FROM step GROUP BY 1) n"
		" USING (session)"),
	    "2,2,2\r\n");
	ck_assert_str_eq(
	    ask("SELECT group_concat(sim_total_ns) = (SELECT group_concat(sim_total_ns) FROM (SELECT sim_total_ns "
		"FROM"
		" step ORDER BY sim_total_ns DESC, session, step LIMIT 100)) FROM (SELECT sim_total_ns FROM run_slow "
		"w"
		" JOIN step s ON s.run_id = w.run_id AND s.session = w.session AND s.step = w.step ORDER BY place)"),
	    "1\r\n");
}
END_TEST

START_TEST(unfinished_runs_are_rolled_up_for_the_reader)
{
	fill(2, 50);
	char *text = ask(ROLLED("run_stat")), *kept = strdup(text);
	change("UPDATE run SET status = 'running' WHERE run_id = 2; DELETE FROM run_stat WHERE run_id = 1; "
	       "DELETE FROM run_series");
	ck_assert_str_eq(ask(ROLLED("run_stat")), kept);
	ck_assert_str_eq(ask("SELECT count(*) FROM main.run_stat WHERE run_id = 1"), "0\r\n");
	ck_assert_str_eq(ask("SELECT count(*) FROM run_series WHERE run_id = 1"), "50\r\n");
	free(kept);
}
END_TEST

static uint64_t findings(void)
{
	struct ikv_err err = {0};
	uint64_t found;
	FILE *null = fopen("/dev/null", "w");
	ck_assert_msg(store_check(path, null, &found, &err) == 0, "%s", err.text);
	fclose(null);
	return found;
}

/* Columns of step that came with a version. */
static int since(const char *column)
{
	static const char *const device[] = {"wall_device_ns", "wall_transfer_ns", "wall_hidden_ns",
					     "wall_exposed_ns", "wall_evict_ns"};
	for (size_t i = 0; i < sizeof device / sizeof *device; i++)
		if (strcmp(column, device[i]) == 0)
			return 4;
	if (strcmp(column, "wall_mass_ns") == 0 || strcmp(column, "wall_measure_ns") == 0)
		return 7;
	return strcmp(column, "sim_outside") == 0 ? 3 : strcmp(column, "pages_kivi2") == 0 ? 2 : 1;
}

/* The table step as older files have it; before version 6 it was in the order of its key, which was all that it had.
 */
static void as_of(int version)
{
	if (version < 7)
		change("ALTER TABLE page_event DROP COLUMN accesses");
	if (version == 6)
		change("DROP VIEW v_step; ALTER TABLE step DROP COLUMN wall_mass_ns;"
		       " ALTER TABLE step DROP COLUMN wall_measure_ns; PRAGMA user_version=6");
	if (version >= 6)
		return;
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	sqlite3_str *sql = sqlite3_str_new(NULL), *columns = sqlite3_str_new(NULL);
	char *list, *text;
	sqlite3_str_appendall(sql, "DROP VIEW v_step; ALTER TABLE step RENAME TO new; DROP INDEX step_by_key;"
				   " CREATE TABLE step (");
	for (int i = 0; i < t->count; i++) {
		const struct store_column *c = &t->columns[i];
		const char *type = c->type == STORE_INT ? "INTEGER" : c->type == STORE_REAL ? "REAL" : "TEXT";
		if (since(c->name) > version)
			continue;
		sqlite3_str_appendf(sql, "%s %s%s, ", c->name, type, i < 3 ? " NOT NULL" : "");
		sqlite3_str_appendf(columns, "%s%s", i ? ", " : "", c->name);
	}
	list = sqlite3_str_finish(columns);
	sqlite3_str_appendf(sql,
			    "FOREIGN KEY (run_id) REFERENCES run (run_id) ON DELETE CASCADE,"
			    " PRIMARY KEY (run_id, session, step)) STRICT, WITHOUT ROWID;"
			    " INSERT INTO step SELECT %s FROM new; DROP TABLE new; PRAGMA user_version=%d",
			    list, version);
	text = sqlite3_str_finish(sql);
	change(text);
	sqlite3_free(text);
	sqlite3_free(list);
}

START_TEST(an_older_file_is_read_and_upgraded)
{
	static const char counts[] = "SELECT count(pages_kivi2), count(sim_outside), count(wall_transfer_ns),"
				     " count(DISTINCT run_id || ',' || session || ',' || step), count(*) FROM v_step";
	static const char *const before[] = {"0,0,0,120,120\r\n",       "120,0,0,120,120\r\n",
					     "120,120,0,120,120\r\n",   "120,120,120,120,120\r\n",
					     "120,120,120,120,120\r\n", "120,120,120,120,120\r\n"};
	static const char *const after[] = {"10,10,10,130,130\r\n",    "130,10,10,130,130\r\n",
					    "130,130,10,130,130\r\n",  "130,130,130,130,130\r\n",
					    "130,130,130,130,130\r\n", "130,130,130,130,130\r\n"};
	struct ikv_err err = {0};
	struct stat st;
	char hash[33], again[33];
	int from;
	fill(2, 30);
	char *kept = strdup(ask(ROLLED("run_stat")));
	ck_assert_int_eq(store_hash(path, 2, hash, &err), 0);
	as_of(_i);
	if (_i < 2)
		change("DROP TABLE calibration_cell; DROP TABLE calibration_constant; DROP TABLE calibration;"
		       "CREATE TABLE calibration (machine TEXT, constant TEXT, PRIMARY KEY (machine, constant))");
	if (_i < 5)
		change("DROP TABLE prefill");
	if (_i < 3)
		change("DROP VIEW v_role; DROP VIEW v_layer; DROP VIEW v_total; DROP TABLE run_stat; DROP TABLE "
		       "run_series;"
		       "DROP TABLE run_session; DROP TABLE run_slow; DROP TABLE run_role; DROP TABLE run_layer; DROP "
		       "TABLE "
		       "run_decision; CREATE VIEW v_role AS SELECT 1 AS x; CREATE VIEW v_layer AS SELECT 1 AS x;");
	ck_assert_str_eq(ask(ROLLED("run_stat")), kept);
	ck_assert_str_eq(ask("SELECT count(*) FROM v_role"), "6\r\n");
	ck_assert_msg(store_upgrade(path, other, &from, &err) == 0, "%s", err.text);
	ck_assert_int_eq(from, _i);
	ck_assert_str_eq(ask(ROLLED("main.run_stat")), kept);
	ck_assert_str_eq(ask("SELECT count(*) FROM v_role"), "6\r\n");
	ck_assert_str_eq(ask_file(other, "SELECT count(*) FROM main.step"), "120\r\n");
	ck_assert_str_eq(ask(counts), before[_i - 1]);
	if (_i >= 2) { /* a column that was not there is NULL in the hash */
		ck_assert_msg(store_hash(path, 2, again, &err) == 0, "%s", err.text);
		ck_assert_str_eq(again, hash);
	}
	ck_assert_str_eq(
	    ask("SELECT count(*) FROM sqlite_schema WHERE name = 'step_by_key' OR name LIKE 'step_before'"), "1\r\n");
	fill(1, 5); /* can be written again */
	ck_assert_str_eq(ask(counts), after[_i - 1]);
	ck_assert_uint_eq(findings(), 0);
	ck_assert_int_eq(unlink(other), 0);
	ck_assert_int_eq(store_upgrade(path, other, &from, &err), 0);
	ck_assert_int_eq(from, STORE_VERSION);
	ck_assert_int_ne(stat(other, &st), 0);
	free(kept);
}
END_TEST

START_TEST(check_finds)
{
	static const char *const harm[] = {
	    "DELETE FROM step WHERE run_id = 1 AND session = 0 AND step = 3", /* a step, and the roll-up is stale */
	    "DELETE FROM session WHERE run_id = 1 AND session = 1",
	    "UPDATE run SET status = 'running' WHERE run_id = 1",
	    "DELETE FROM run_stat WHERE run_id = 1",
	    "INSERT INTO run_param VALUES (77, 'a', 'b', 'sweep')",
	};
	for (size_t i = 0; i < sizeof harm / sizeof *harm; i++) {
		unlink(path);
		fill(1, 10);
		ck_assert_uint_eq(findings(), 0);
		change(harm[i]);
		ck_assert_msg(findings() >= 1, "%s", harm[i]);
	}
}
END_TEST

START_TEST(a_copy_is_one_moment)
{
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "x", .scenario_text = "x"};
	fill(2, 20);
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	struct store_step row = sample_step(run, 0, 0, 0);
	ck_assert_int_eq(store_step(s, &row, &err), 0); /* not committed yet */
	ck_assert_msg(store_backup(path, other, &err) == 0, "%s", err.text);
	ck_assert_int_eq(store_run_end(s, run, "done", 1, &err), 0);
	ck_assert_int_eq(store_close(s, &err), 0);
	ck_assert_str_eq(ask_file(other, "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM step)"),
			 "3,80\r\n");
	ck_assert_int_eq(store_backup(path, other, &err), -1);
	ck_assert_int_eq(err.status, IKV_CANT_CREATE);
	ck_assert_int_eq(store_backup(path, "/nowhere/x.db", &err), -1);
}
END_TEST

START_TEST(export_writes_every_table)
{
	struct ikv_err err = {0};
	char name[160];
	fill(1, 10);
	ck_assert_int_eq(store_export(path, dir, NULL, NULL, &err), 0);
	static const char *const tables[] = {"run", "step", "step_role", "run_stat", "metric_def", "session"};
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		snprintf(name, sizeof name, "%s/%s.csv", dir, tables[i]);
		ck_assert_msg(access(name, R_OK) == 0, "%s", name);
	}
	ck_assert_int_eq(store_export(path, dir, "v_step", NULL, &err), 0);
	snprintf(name, sizeof name, "%s/v_step.csv", dir);
	FILE *f = fopen(name, "r");
	int lines = 0;
	for (int c; (c = fgetc(f)) != EOF;)
		lines += c == '\n';
	fclose(f);
	ck_assert_int_eq(lines, 21);
	ck_assert_int_eq(store_export(path, dir, "setp", NULL, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "step"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("rollup");
	TCase *tc = tcase_create("rollup");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, dense_runs_stand_in_for_a_reference);
	tcase_add_loop_test(tc, stats_are_those_of_the_steps, 1, 6);
	tcase_add_loop_test(tc, stats_are_those_of_the_steps, 997, 998);
	tcase_add_loop_test(tc, series_add_up, 60, 61);
	tcase_add_loop_test(tc, series_add_up, 1023, 1026);
	tcase_add_test(tc, unfinished_runs_are_rolled_up_for_the_reader);
	tcase_add_loop_test(tc, an_older_file_is_read_and_upgraded, 1, STORE_VERSION);
	tcase_add_test(tc, check_finds);
	tcase_add_test(tc, a_copy_is_one_moment);
	tcase_add_test(tc, export_writes_every_table);
	suite_add_tcase(suite, tc);
	return tap_run(suite);
}

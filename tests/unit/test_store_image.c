/* Rows that SQLite copies as they were encoded: any value comes back as a bound one does, whatever the number of rows in
 * a transaction and their order; and what is left of a run that was cut off while it was taken in. */
#include <check.h>
#include <fcntl.h>
#include <float.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "db/store_internal.h"
#include "tap.h"
#include "unit/store_sample.h"

static char dir[64], path[96];

static void set_up(void)
{
	snprintf(dir, sizeof dir, "/tmp/ikv_image_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/r.db", dir);
}

static void tear_down(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static int64_t any_int(struct ikv_rng *r)
{
	static const int64_t edges[] = {-1, 0, 1, 2, -2, 127, 128, -128, -129, 32767, 32768, -32768, -32769, 8388607,
					8388608, -8388608, -8388609, INT32_MAX, 2147483648, INT32_MIN, -2147483649,
					140737488355327, 140737488355328, -140737488355328, -140737488355329, INT64_MAX,
					INT64_MIN};
	uint64_t k = ikv_rng_below(r, 40);
	return k < sizeof edges / sizeof *edges ? edges[k] : (int64_t)ikv_rng_u64(r) >> ikv_rng_below(r, 63);
}

static double any_real(struct ikv_rng *r)
{
	static const double edges[] = {0, -0.0, 1, -1, 0.5, NAN, INFINITY, -INFINITY, DBL_MAX, DBL_MIN, DBL_TRUE_MIN,
				       140737488355327, 140737488355328, -140737488355328, -140737488355329, 9.3e18};
	uint64_t k = ikv_rng_below(r, 24);
	return k < sizeof edges / sizeof *edges ? edges[k] : k < 20 ? (double)any_int(r) : ikv_rng_uniform(r) * 1e9;
}

/* Any values in all columns but the key; the key by a permutation, so that rows do not come in its order. */
static struct store_step any_step(int64_t run, uint64_t i, uint64_t n)
{
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	struct store_step row;
	struct ikv_rng r;
	ikv_rng_stream(&r, 11, IKV_STREAM_TEST, n, i);
	memset(&row, 0, sizeof row);
	for (int k = 4; k < t->count; k++) {
		char *field = (char *)&row + t->columns[k].offset;
		if (t->columns[k].type == STORE_INT)
			*(int64_t *)field = any_int(&r);
		else if (t->columns[k].type == STORE_REAL)
			*(double *)field = any_real(&r);
		else if (t->columns[k].type == STORE_HEX)
			*(uint64_t *)field = ikv_rng_u64(&r) >> ikv_rng_below(&r, 64);
	}
	row.mass_by = ikv_rng_below(&r, 3) ? ikv_rng_below(&r, 2) ? "measured" : "" : NULL;
	row.run_id = run;
	row.session = (int64_t)(i * 7 % 13);
	row.step = (int64_t)(n - i);
	row.batch_step = 5; /* one transaction */
	return row;
}

/* The column as a bound value is stored: the type and the value. */
static void check_cell(sqlite3_stmt *got, int i, const struct store_column *c, const struct store_step *row)
{
	const char *field = (const char *)row + c->offset;
	int type = sqlite3_column_type(got, i);
	char hex[17];
	const char *text = hex;
	if (c->type == STORE_INT) {
		int64_t v = *(const int64_t *)field;
		must(type == (v == -1 ? SQLITE_NULL : SQLITE_INTEGER));
		must(v == -1 || sqlite3_column_int64(got, i) == v);
	} else if (c->type == STORE_REAL) {
		double v = *(const double *)field;
		must(type == (isnan(v) ? SQLITE_NULL : SQLITE_FLOAT));
		must(isnan(v) || sqlite3_column_double(got, i) == v);
	} else {
		snprintf(hex, sizeof hex, "%016llx", (unsigned long long)row->decision_hash);
		if (c->type == STORE_TEXT)
			text = row->mass_by;
		must(type == (text ? SQLITE_TEXT : SQLITE_NULL));
		must(!text || strcmp((const char *)sqlite3_column_text(got, i), text) == 0);
	}
}

static int64_t number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *stmt;
	ck_assert_msg(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, "%s: %s", sql, sqlite3_errmsg(db));
	ck_assert_msg(sqlite3_step(stmt) == SQLITE_ROW, "%s: %s", sql, sqlite3_errmsg(db));
	int64_t value = sqlite3_column_int64(stmt, 0);
	sqlite3_finalize(stmt);
	return value;
}

static void check_steps(sqlite3 *db, int64_t run, uint64_t n)
{
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	sqlite3_stmt *got;
	char sql[80];
	snprintf(sql, sizeof sql, "SELECT * FROM step WHERE run_id = %lld ORDER BY step_id", (long long)run);
	ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &got, NULL), SQLITE_OK);
	for (uint64_t i = 0; i < n; i++) {
		struct store_step row = any_step(run, i, n);
		must(sqlite3_step(got) == SQLITE_ROW);
		for (int k = 0; k < t->count; k++)
			check_cell(got, k + 1, &t->columns[k], &row);
	}
	ck_assert_int_eq(sqlite3_step(got), SQLITE_DONE);
	sqlite3_finalize(got);
}

START_TEST(any_value_comes_back)
{
	static const uint64_t counts[] = {1, 2, 181, 997, 9000, 40000}; /* of one page and of many, in both trees */
	struct ikv_err err = {0};
	struct store *s;
	sqlite3 *db;
	int64_t runs[2];
	const struct store_run r = {.name = "any", .scenario_text = "x"};
	uint64_t n = counts[_i];
	ck_assert_msg(store_open(&s, path, &err) == 0, "%s", err.text);
	for (int k = 0; k < 2; k++) {
		ck_assert_int_eq(store_run_begin(s, &r, &runs[k], &err), 0);
		for (uint64_t i = 0; i < n; i++) {
			struct store_step row = any_step(runs[k], i, n);
			struct store_role role = {runs[k], row.session, row.step, IKV_KIND_SYSTEM, row.pages % 1000, -1, 3, 4, -1,
						  row.pressure, NAN};
			must_msg(store_step(s, &row, &err) == 0, "%s", err.text);
			must_msg(store_role(s, &role, &err) == 0, "%s", err.text);
		}
		ck_assert_msg(store_run_end(s, runs[k], "done", 1, &err) == 0, "%s", err.text);
	}
	ck_assert_int_eq(store_close(s, &err), 0);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	for (int k = 0; k < 2; k++)
		check_steps(db, runs[k], n);
	/* Every row is in its index, types fit the columns, pages are in order. */
	ck_assert_int_eq(number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
	ck_assert_int_eq(number(db, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
	ck_assert_int_eq(number(db, "SELECT count(*) FROM step s JOIN step_role r USING (run_id, session, step) WHERE"
				    " nullif(s.pages % 1000, -1) IS r.tokens AND s.pressure IS r.mass AND r.selected_tokens IS NULL"),
			 2 * (int64_t)n);
	sqlite3_close(db);
}
END_TEST

/* What makes it fast: SQLite copies records, and makes none. */
START_TEST(records_are_copied)
{
	struct ikv_err err = {0};
	struct store *s;
	sqlite3_stmt *stmt;
	int copied = 0;
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(sqlite3_prepare_v2(s->db, "EXPLAIN INSERT INTO main.step SELECT * FROM batch.step", -1, &stmt, NULL),
			 SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		const char *op = (const char *)sqlite3_column_text(stmt, 1);
		ck_assert_str_ne(op, "MakeRecord");
		copied += strcmp(op, "RowData") == 0 || strcmp(op, "RowCell") == 0;
	}
	ck_assert_int_eq(copied, 2); /* the row, and its entry of the index */
	sqlite3_finalize(stmt);
	ck_assert_int_ne(sqlite3_exec(s->db, "DELETE FROM batch.step", NULL, NULL, NULL), SQLITE_OK);
	ck_assert_int_eq(store_close(s, &err), 0);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
	char text[STORE_TEXT_MAX + 2];
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "text", .scenario_text = "x"};
	memset(text, 'x', sizeof text);
	text[STORE_TEXT_MAX + 1] = 0;
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	struct store_step row = sample_step(run, 0, 0, 0);
	row.mass_by = text;
	ck_assert_int_eq(store_step(s, &row, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_ptr_nonnull(strstr(err.text, "step.mass_by"));
	row.session = -1;
	ck_assert_int_eq(store_step(s, &row, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "without its run, session"));
	row.session = 0;
	text[STORE_TEXT_MAX] = 0;
	row.step = 1;
	ck_assert_msg(store_step(s, &row, &err) == 0, "%s", err.text);
	ck_assert_int_eq(store_run_end(s, run, "done", 1, &err), 0);
	ck_assert_int_eq(number(s->db, "SELECT length(mass_by) FROM step WHERE step = 1"), STORE_TEXT_MAX);
	ck_assert_int_eq(store_close(s, &err), 0);
}
END_TEST

/* A spool of one run of so many steps. */
static int make_spool(int64_t steps, uint64_t *bytes)
{
	struct ikv_err err = {0};
	struct store *s;
	struct store_figures figures;
	int64_t run;
	int fd;
	const struct store_run r = {.name = "spool", .scenario_text = "x", .point = "p"};
	const struct store_session session = {.run_id = 0, .session = 0, .id = "a", .decoded_tokens = steps, .reward = NAN};
	ck_assert_int_eq(store_spool_file(path, &fd, &err), 0);
	ck_assert_int_eq(store_spool_open(&s, fd, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	ck_assert_int_eq(store_session(s, &session, &err), 0);
	for (int64_t i = 0; i < steps; i++) {
		struct store_step row = sample_step(0, 0, i, 1);
		struct store_role role = {0, 0, i, IKV_KIND_USER, i, 2, 3, 4, -1, 0.5, NAN};
		ck_assert_int_eq(store_step(s, &row, &err), 0);
		ck_assert_int_eq(store_role(s, &role, &err), 0);
	}
	ck_assert_int_eq(store_spool_close(s, bytes, &figures, &err), 0);
	ck_assert_uint_eq(figures.steps, (uint64_t)steps);
	return fd;
}

static void check_taken(int64_t steps, const char *key)
{
	char sql[300];
	sqlite3 *db;
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	snprintf(sql, sizeof sql, "SELECT count(*) FROM run WHERE point_key = '%s' AND status = 'done' AND message IS NULL AND"
		 " run_id = 7 AND (SELECT count(*) FROM run) = 1", key);
	ck_assert_int_eq(number(db, sql), 1);
	ck_assert_int_eq(number(db, "SELECT count(*) FROM step WHERE run_id = 7"), steps);
	ck_assert_int_eq(number(db, "SELECT count(*) FROM step"), steps);
	ck_assert_int_eq(number(db, "SELECT count(*) FROM step_role"), steps);
	ck_assert_int_eq(number(db, "SELECT count FROM run_stat WHERE run_id = 7 AND name = 'context_tokens'"), steps);
	ck_assert_int_eq(number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
	sqlite3_close(db);
}

/* Killed somewhere on the way, then taken again: nothing is there twice. */
START_TEST(a_run_cut_off_makes_way)
{
	static const char key[] = "00112233445566778899aabbccddeeff";
	struct ikv_err err = {0};
	struct store *s;
	uint64_t bytes;
	int fd = make_spool(30000, &bytes), cut = 0;
	for (useconds_t wait = 2000; cut == 0 && wait < 4000000; wait = wait * 3 / 2) {
		pid_t pid = fork();
		if (pid == 0)
			_exit(store_open(&s, path, NULL) != 0 || store_spool_take(s, fd, bytes, 7, key, 1, NULL) != 0);
		usleep(wait);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		ck_assert_msg(store_open(&s, path, &err) == 0, "%s", err.text);
		cut = (int)number(s->db, "SELECT count(*) FROM run WHERE status = 'interrupted' AND (SELECT count(*) FROM step) > 0");
		if (cut)
			ck_assert_int_eq(number(s->db, "SELECT count(*) FROM run WHERE message LIKE 'cut off while%'"), 1);
		if (number(s->db, "SELECT count(*) FROM run WHERE status = 'done'")) /* too late */
			break;
		ck_assert_int_eq(store_close(s, &err), 0);
		s = NULL;
	}
	ck_assert_int_eq(cut, 1);
	ck_assert_msg(store_open(&s, path, &err) == 0, "%s", err.text);
	ck_assert_msg(store_spool_take(s, fd, bytes, 7, key, 1, &err) == 0, "%s", err.text);
	ck_assert_int_eq(store_close(s, &err), 0);
	check_taken(30000, key);
	close(fd);
}
END_TEST

/* A process killed while it makes the file leaves a journal, and whoever comes next rolls it back. */
START_TEST(a_file_cut_off_while_it_is_made)
{
	struct ikv_err err = {0};
	struct store *s;
	for (useconds_t wait = 0; wait < 12000; wait += 150) {
		pid_t pid = fork();
		if (pid == 0) {
			alarm(60);
			_exit(store_open(&s, path, NULL) != 0);
		}
		usleep(wait);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		ck_assert_msg(store_open(&s, path, &err) == 0, "%s", err.text);
		ck_assert_int_eq(number(s->db, "SELECT count(*) FROM run"), 0);
		ck_assert_int_eq(store_close(s, &err), 0);
		unlink(path);
	}
}
END_TEST

/* An incomplete spool: an error, and nothing of it stays; an earlier failure has made way by then. */
START_TEST(a_run_that_cannot_be_taken_leaves_nothing)
{
	static const char key[] = "ffeeddccbbaa99887766554433221100";
	struct ikv_err err = {0};
	struct store *s;
	uint64_t bytes;
	int fd = make_spool(3000, &bytes);
	const struct store_run failed = {.name = "f", .scenario_text = "x", .point_key = key, .run_id = 7};
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_failed_run(s, &failed, "it failed", 1, &err), 0);
	ck_assert_int_eq(number(s->db, "SELECT count(*) FROM run WHERE status = 'failed' AND message = 'it failed'"), 1);
	ck_assert_int_eq(store_spool_take(s, fd, bytes - 5, 7, key, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "incomplete"));
	ck_assert_int_eq(number(s->db, "SELECT (SELECT count(*) FROM run) + (SELECT count(*) FROM session) + (SELECT"
				       " count(*) FROM step) + (SELECT count(*) FROM step_role)"),
			 0);
	ck_assert_msg(store_spool_take(s, fd, bytes, 7, key, 1, &err) == 0, "%s", err.text);
	ck_assert_int_eq(store_close(s, &err), 0);
	check_taken(3000, key);
	close(fd);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("image");
	TCase *tc = tcase_create("image");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, any_value_comes_back, 0, 6);
	tcase_add_test(tc, records_are_copied);
	tcase_add_test(tc, what_does_not_fit_is_refused);
	tcase_add_test(tc, a_file_cut_off_while_it_is_made);
	tcase_add_test(tc, a_run_cut_off_makes_way);
	tcase_add_test(tc, a_run_that_cannot_be_taken_leaves_nothing);
	suite_add_tcase(suite, tc);
	return tap_run(suite);
}

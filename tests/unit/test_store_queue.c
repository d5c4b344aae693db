/* Rows that wait: in batches, and in the queue of a thread. What is in the file must not depend on either. */
#include <check.h>
#include <sys/stat.h>
#include <unistd.h>
#include "db/store_internal.h"
#include "tap.h"
#include "unit/store_sample.h"

static char dir[64], path[96], other[96];

static void set_up(void)
{
	snprintf(dir, sizeof dir, "/tmp/ikv_queue_XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/direct.db", dir);
	snprintf(other, sizeof other, "%s/thread.db", dir);
}

static void tear_down(void)
{
	char command[128];
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static char *ask(const char *file, const char *sql)
{
	char *text = NULL;
	size_t size;
	struct ikv_err err = {0};
	struct store_query q = {.sql = sql, .format = STORE_CSV};
	FILE *f = open_memstream(&text, &size);
	int rc = store_query_run(file, &q, f, &err);
	fclose(f);
	ck_assert_msg(rc == 0, "%s: %s", sql, err.text);
	return text;
}

static void check_same(const char *a, const char *b, const char *sql)
{
	char *x = ask(a, sql), *y = ask(b, sql);
	ck_assert_msg(strcmp(x, y) == 0, "%s", sql);
	ck_assert_uint_gt(strlen(x), 20);
	free(x);
	free(y);
}

static const char *const tables[] = {"session",     "step",       "step_role", "step_layer",  "prefill",
				     "block_event", "page_event", "run_stat",  "run_series",  "run_session",
				     "run_slow",    "run_role",   "run_layer", "run_decision"};
enum { TABLES = sizeof tables / sizeof *tables };

/* Rows of every kind; `sessions` at a time, in an order that is not that of their numbers. */
static void record(const char *file, bool thread, int64_t sessions, int64_t steps)
{
	struct ikv_err err;
	struct store *s;
	int64_t run;
	char name[40];
	const struct store_run r = {.name = "queue", .scenario_text = "x"};
	ck_assert_int_eq(store_open(&s, file, &err), 0);
	if (thread)
		ck_assert_int_eq(store_concurrent(&s, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	for (int64_t i = 0; i < sessions; i++) {
		snprintf(name, sizeof name, "session %lld", (long long)i);
		struct store_session row = {.run_id = run, .session = i, .id = name, .reward = NAN};
		ck_assert_int_eq(store_session(s, &row, &err), 0);
	}
	for (int64_t i = 0; i < steps; i++) {
		for (int64_t n = 0; n < sessions; n++) {
			int64_t session = (n * 5 + 2) % sessions;
			struct store_step row = sample_step(run, session, i, 1);
			snprintf(name, sizeof name, "%s", session % 3 ? "model" : "measured"); /* not the literal */
			row.mass_by = i % 4 == 0 ? name : NULL;
			row.pressure = i < 300 ? 0.5 : 0.25; /* the same for many rows, and then not */
			row.pages_kivi2 = i < 700 ? -1 : 3;
			struct store_step *made = (i + n) % 3 ? store_step_room(s, &err) : &row; /* there, or copied */
			ck_assert_ptr_nonnull(made);
			*made = row;
			ck_assert_int_eq(store_step(s, made, &err), 0);
			memset(&row, 0x55, sizeof row);
			memset(name, 'x', sizeof name - 1);
			struct store_role role = {run, session, i, IKV_KIND_SYSTEM, i, 2, 3, 4, -1, 0.5, NAN};
			struct store_layer layer = {run, session, i, 7, 0.5, 0.25, NAN, NAN, 1, 0};
			ck_assert_int_eq(store_role(s, &role, &err), 0);
			struct store_prefill prompt = {run, session, i, 2, 100, 200 + i, NAN, 5, 6, (double)i, 0.5};
			ck_assert_int_eq(store_layer(s, &layer, &err), 0);
			ck_assert_int_eq(i % 3 || store_prefill(s, &prompt, &err) == 0, 1);
			struct ikv_decision d = {.start = 1, .end = 3, .score = 0.5f};
			struct store_block_event e = {run, session, i, 1, 2, "a block", IKV_KIND_SYSTEM, 0, &d};
			struct ikv_action a = {.page = (uint32_t)i, .bytes = 77};
			if (i % 50 == 0)
				ck_assert_int_eq(store_block_event(s, &e, &err), 0);
			if (i % 50 == 0)
				ck_assert_int_eq(store_page_event(s, run, session, i, &a, &err), 0);
		}
	}
	ck_assert_int_eq(store_run_end(s, run, "done", 1, &err), 0);
	ck_assert_int_eq(store_close(s, &err), 0);
}

/* Of many blocks of the queue, and of less than one; rows compared word by word, and as vectors where there are any. */
START_TEST(a_thread_writes_the_same)
{
	char sql[80], a[33], b[33];
	struct ikv_err err;
	int64_t steps = _i % 2 ? 900 : 6;
	record(path, false, 7, steps);
	ck_assert_int_eq(ikv_isa_select(_i / 2 ? "scalar" : "auto", &err), 0);
	record(other, true, 7, steps);
	for (int i = 0; i < TABLES; i++) {
		snprintf(sql, sizeof sql, "SELECT * FROM %s", tables[i]);
		check_same(path, other, sql);
	}
	ck_assert_int_eq(store_hash(path, 1, a, &err), 0);
	ck_assert_int_eq(store_hash(other, 1, b, &err), 0);
	ck_assert_str_eq(a, b);
	char *text = ask(other, "SELECT count(*), count(DISTINCT mass_by), count(pages_kivi2) FROM step");
	snprintf(sql, sizeof sql, "%lld,2,%d\r\n", (long long)steps * 7, _i % 2 ? 1400 : 0);
	ck_assert_msg(strstr(text, sql) != NULL, "%s", text);
	free(text);
}
END_TEST

/* Sums kept in the order of recording and those read in the order of the table: the same to the last bit. */
START_TEST(rollups_do_not_depend_on_the_order)
{
	char sql[80];
	char *before[TABLES];
	struct ikv_err err;
	uint64_t runs;
	record(path, true, 9, 333);
	for (int i = 0; i < TABLES; i++) {
		snprintf(sql, sizeof sql, "SELECT * FROM %s", tables[i]);
		before[i] = ask(path, sql);
	}
	ck_assert_int_eq(store_rollup_all(path, &runs, &err), 0);
	ck_assert_uint_eq(runs, 1);
	for (int i = 0; i < TABLES; i++) {
		snprintf(sql, sizeof sql, "SELECT * FROM %s", tables[i]);
		char *after = ask(path, sql);
		ck_assert_msg(strcmp(before[i], after) == 0, "%s", tables[i]);
		free(after);
		free(before[i]);
	}
}
END_TEST

/* A step twice: the error comes with a later row or with the next call that is not for a row, once. The run can be
 * marked, and recording goes on. */
START_TEST(errors_of_a_batch_and_of_the_thread_are_told)
{
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "twice", .scenario_text = "x"};
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	if (_i)
		ck_assert_int_eq(store_concurrent(&s, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	struct store_step row = sample_step(run, 0, 5, 0);
	int rc = 0, told = 0;
	for (int i = 0; i < 1000000 && rc == 0; i++) { /* more than all buffers hold: the thread has been at work */
		row.batch_step = i;
		rc = store_step(s, &row, &err);
	}
	ck_assert_int_ne(rc, 0);
	ck_assert_ptr_nonnull(strstr(err.text, "has step 5 of session 0 twice"));
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	for (int i = 0; i < 5000; i++) { /* thrown away, and no second time an error of the thread */
		row.step = 100 + i;
		told += store_step(s, &row, &err) != 0;
	}
	ck_assert_int_eq(told, 0);
	ck_assert_int_eq(store_run_message(s, run, "a step twice", &err), 0);
	ck_assert_int_eq(store_run_end(s, run, "failed", 1, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	row = sample_step(run, 0, 5, 0);
	ck_assert_int_eq(store_step(s, &row, &err), 0);
	ck_assert_int_eq(store_run_end(s, run, "done", 1, &err), 0);
	/* What the last call finds: two rows of one key that wait. */
	ck_assert_int_eq(store_run_begin(s, &r, &run, &err), 0);
	row = sample_step(run, 0, 5, 0);
	ck_assert_int_eq(store_step(s, &row, &err), 0);
	ck_assert_int_eq(store_step(s, &row, &err), 0);
	err.text[0] = 0;
	ck_assert_int_ne(store_run_end(s, run, "done", 1, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "has step 5 of session 0 twice"));
	ck_assert_int_eq(store_close(s, &err), 0);
	char *text = ask(path, "SELECT run_id, status, message, (SELECT count(*) FROM step s WHERE s.run_id ="
			       " run.run_id AND step = 5) FROM run ORDER BY 1");
	ck_assert_msg(strcmp(text, "1,failed,a step twice,0\r\n2,done,,1\r\n3,running,,0\r\n") == 0, "%s", text);
	free(text);
}
END_TEST

/* Many steps, more than a roll-up's sums are kept for, would take minutes; what forgets them is the same as after an
 * error: rows of another run in between. */
START_TEST(rows_of_two_runs)
{
	struct ikv_err err;
	struct store *s;
	int64_t a, b;
	const struct store_run r = {.name = "two", .scenario_text = "x"};
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &a, &err), 0);
	struct store_step row = sample_step(a, 0, 0, 0);
	ck_assert_int_eq(store_step(s, &row, &err), 0);
	ck_assert_int_eq(store_run_begin(s, &r, &b, &err), 0);
	for (int i = 1; i < 300; i++) {
		row = sample_step(i % 2 ? a : b, 0, i, 0);
		ck_assert_int_eq(store_step(s, &row, &err), 0);
	}
	ck_assert_int_eq(store_run_end(s, a, "done", 1, &err), 0);
	ck_assert_int_eq(store_run_end(s, b, "done", 1, &err), 0);
	ck_assert_int_eq(store_close(s, &err), 0);
	char *text = ask(path, "SELECT run_id, count FROM run_stat WHERE name = 'context_tokens' ORDER BY 1");
	ck_assert_str_eq(text, "1,151\r\n2,149\r\n");
	free(text);
}
END_TEST

/* The texts of a table are found by their offsets. */
START_TEST(texts_are_listed)
{
	for (int t = 0; t < STORE_ROW_COUNT; t++) {
		const struct store_table *table = &store_tables[t];
		int n = 0;
		for (int i = 0; i < table->count; i++)
			if (table->columns[i].type == STORE_TEXT)
				ck_assert_uint_eq(table->texts[n++], table->columns[i].offset);
		ck_assert_int_eq(n, table->text_count);
		ck_assert_int_lt(table->count, 128);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store_queue");
	TCase *tc = tcase_create("queue");
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, a_thread_writes_the_same, 0, 4);
	tcase_add_test(tc, rollups_do_not_depend_on_the_order);
	tcase_add_loop_test(tc, errors_of_a_batch_and_of_the_thread_are_told, 0, 2);
	tcase_add_test(tc, rows_of_two_runs);
	tcase_add_test(tc, texts_are_listed);
	suite_add_tcase(suite, tc);
	return tap_run(suite);
}

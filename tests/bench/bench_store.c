/* How fast step rows are recorded, roll-ups and last commit included: rows alone, with five roles each, and with a
 * thread that writes. Rows are those of the newest run of a database, or samples; prints rows per second of wall
 * time and of processor time, best of three, and what the recording thread itself spends on a row. */
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "db/store_internal.h"
#include "unit/store_sample.h"

enum { ROWS = 1000, ROUNDS = 3 };
static struct store_step rows[ROWS];
static int row_count;

struct times {
	double wall, process, caller;
};

static double seconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct times now(void)
{
	return (struct times){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID),
			      seconds(CLOCK_THREAD_CPUTIME_ID)};
}

static void die(const struct ikv_err *err)
{
	fprintf(stderr, "bench_store: %s\n", err->text);
	exit(1);
}

static void set_field(struct store_step *row, const struct store_column *c, const struct store_cell *cell)
{
	void *field = (char *)row + c->offset;
	if (c->type == STORE_INT)
		*(int64_t *)field = cell->is_null ? -1 : (int64_t)cell->number;
	else if (c->type == STORE_REAL)
		*(double *)field = cell->is_null ? NAN : cell->number;
	else if (c->type == STORE_HEX)
		*(uint64_t *)field = cell->is_null ? 0 : strtoull(cell->text, NULL, 16);
	else if (c->type == STORE_TEXT)
		*(const char **)field = cell->is_null ? NULL : strcmp(cell->text, "model") ? "measured" : "model";
}

static int take_row(void *ctx, const struct store_cell *cells, int count, struct ikv_err *err)
{
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	(void)ctx, (void)err;
	for (int i = 0; i < t->count; i++)
		for (int c = 0; c < count; c++)
			if (strcmp(t->columns[i].name, cells[c].name) == 0)
				set_field(&rows[row_count], &t->columns[i], &cells[c]);
	row_count++;
	return 0;
}

static void make_rows(const char *from)
{
	struct ikv_err err = {0};
	const struct store_query q = {
	    .sql = "SELECT * FROM step WHERE run_id = (SELECT max(run_id) FROM step) ORDER BY batch_step, session"
		   " LIMIT 1000"};
	if (from && store_select(from, &q, take_row, NULL, &err) != 0)
		die(&err);
	for (; !from && row_count < ROWS; row_count++)
		rows[row_count] = sample_step(1, 0, row_count, 0);
}

/* Rows are used again with a new key, so that only recording is timed. */
static struct times record(const char *path, long steps, int roles, bool thread)
{
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "bench", .scenario_text = "x"};
	store_remove(path);
	if (store_open(&s, path, &err) != 0 || (thread && store_concurrent(&s, &err) != 0) ||
	    store_run_begin(s, &r, &run, &err) != 0)
		die(&err);
	struct times t = now();
	for (long i = 0; i < steps; i++) {
		struct store_step *row = &rows[i % row_count];
		row->run_id = run;
		row->session = 0;
		row->step = row->batch_step = i;
		if (store_step(s, row, &err) != 0)
			die(&err);
		for (int kind = 0; kind < roles; kind++) {
			struct store_role role = {.run_id = run, .step = i, .kind = (enum ikv_kind)kind, .mass = 0.2};
			if (store_role(s, &role, &err) != 0)
				die(&err);
		}
	}
	if (store_run_end(s, run, "done", 1, &err) != 0)
		die(&err);
	struct times end = now();
	if (store_close(s, &err) != 0)
		die(&err);
	store_remove(path);
	return (struct times){end.wall - t.wall, end.process - t.process, end.caller - t.caller};
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int roles;
		bool thread;
	} modes[] = {{"steps alone", 0, false}, {"with 5 roles each", 5, false}, {"steps, by a thread", 0, true}};
	const char *path = argc > 1 ? argv[1] : "bench_store.db";
	long steps = argc > 2 ? strtol(argv[2], NULL, 10) : 200000;
	struct times best[3];
	if (steps < 1) {
		fprintf(stderr, "usage: bench_store [FILE [STEPS [FROM.db]]]\n");
		return 64;
	}
	make_rows(argc > 3 ? argv[3] : NULL);
	if (row_count == 0) {
		fprintf(stderr, "bench_store: %s has no steps\n", argv[3]);
		return 65;
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int m = 0; m < 3; m++) {
			struct times t = record(path, steps, modes[m].roles, modes[m].thread);
			best[m].wall = round && best[m].wall < t.wall ? best[m].wall : t.wall;
			best[m].process = round && best[m].process < t.process ? best[m].process : t.process;
			best[m].caller = round && best[m].caller < t.caller ? best[m].caller : t.caller;
		}
	printf("%ld steps, best of %d\n%-20s %14s %16s %18s\n", steps, ROUNDS, "", "steps/s wall", "steps/s processor",
	       "caller, ns a step");
	for (int m = 0; m < 3; m++)
		printf("%-20s %14.0f %16.0f %18.0f\n", modes[m].name, (double)steps / best[m].wall,
		       (double)steps / best[m].process, best[m].caller / (double)steps * 1e9);
	return 0;
}

/* How fast step rows are recorded: rows alone, and with roles and layers. Prints rows per second. */
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "unit/store_sample.h"

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const struct ikv_err *err)
{
	fprintf(stderr, "bench_store: %s\n", err->text);
	exit(1);
}

/* Rows are made beforehand, a thousand that are used again with a new key, so that only recording is timed. */
static double record(const char *path, long steps, bool details)
{
	static struct store_step rows[1000];
	struct ikv_err err = {0};
	struct store *s;
	int64_t run;
	const struct store_run r = {.name = "bench", .scenario_text = "x"};
	unlink(path);
	for (int i = 0; i < 1000; i++)
		rows[i] = sample_step(1, 0, i, 0);
	if (store_open(&s, path, &err) != 0 || store_run_begin(s, &r, &run, &err) != 0)
		die(&err);
	double t = seconds();
	for (long i = 0; i < steps; i++) {
		struct store_step *row = &rows[i % 1000];
		row->run_id = run;
		row->step = row->batch_step = i;
		if (store_step(s, row, &err) != 0)
			die(&err);
		for (int kind = 0; kind < 5 && details; kind++) {
			struct store_role role = {.run_id = run, .step = i, .kind = (enum ikv_kind)kind, .mass = 0.2};
			if (store_role(s, &role, &err) != 0)
				die(&err);
		}
	}
	if (store_run_end(s, run, "done", 1, &err) != 0)
		die(&err);
	t = seconds() - t;
	if (store_close(s, &err) != 0)
		die(&err);
	unlink(path);
	return (double)steps / t;
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "bench_store.db";
	long steps = argc > 2 ? strtol(argv[2], NULL, 10) : 200000;
	double best[2] = {0, 0};
	if (steps < 1) {
		fprintf(stderr, "usage: bench_store [FILE [STEPS]]\n");
		return 64;
	}
	for (int round = 0; round < 3; round++) {
		for (int details = 0; details < 2; details++) {
			double rate = record(path, steps, details);
			best[details] = rate > best[details] ? rate : best[details];
		}
	}
	printf("%ld steps, best of 3\nsteps alone        %9.0f steps/s\nwith 5 roles each  %9.0f steps/s\n", steps,
	       best[0], best[1]);
	return 0;
}

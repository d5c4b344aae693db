/* How long every named query takes on a large database. `bench_queries make FILE STEPS RUNS` writes one; then
 * `bench_queries FILE` prints the seconds of each query, best of three, over its default runs and over all. */
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

static int fail(const struct ikv_err *err)
{
	fprintf(stderr, "bench_queries: %s\n", err->text);
	return 1;
}

/* sample_run writes two sessions of so many steps each. */
static int make(const char *path, long steps, int runs)
{
	struct ikv_err err;
	struct store *s;
	int64_t id;
	double t = seconds();
	if (store_open(&s, path, &err) != 0)
		return fail(&err);
	for (int i = 0; i < runs; i++)
		if (sample_run(s, i, (int)(steps / runs / 2), &id, &err) != 0)
			return fail(&err);
	if (store_close(s, &err) != 0)
		return fail(&err);
	printf("%ld steps in %d runs: %.1f s\n", steps, runs, seconds() - t);
	return 0;
}

static double ask(const char *path, const char *name, const char *run)
{
	const char *params[] = {run};
	const struct store_query q = {
	    .name = name, .params = params, .param_count = run ? 1 : 0, .format = STORE_CSV};
	struct ikv_err err;
	double best = 1e9;
	for (int round = 0; round < 3; round++) {
		FILE *null = fopen("/dev/null", "we");
		double t = seconds();
		if (!null || store_query_run(path, &q, null, &err) != 0)
			best = -1;
		t = seconds() - t;
		if (null)
			fclose(null);
		best = t < best ? t : best;
	}
	return best;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "make") == 0)
		return make(argv[2], strtol(argv[3], NULL, 10), atoi(argv[4]));
	if (argc != 2) {
		fprintf(stderr, "usage: bench_queries make FILE STEPS RUNS, then bench_queries FILE\n");
		return 64;
	}
	double worst = 0;
	printf("%-22s %9s %9s\n", "query", "newest s", "all s");
	for (const struct store_named *q = store_queries; q->name; q++) {
		double newest = ask(argv[1], q->name, NULL);
		double all = strstr(q->sql, ":run") ? ask(argv[1], q->name, "run=all") : newest;
		printf("%-22s %9.3f %9.3f\n", q->name, newest, all);
		worst = newest > worst ? newest : worst;
		worst = all > worst ? all : worst;
	}
	printf("slowest: %.3f s\n", worst);
	return 0;
}

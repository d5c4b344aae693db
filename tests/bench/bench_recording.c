/* What recording costs a run: the first point of a scenario, played without a database, with rows written by the
 * playing thread, and with rows written by a thread on another core, in turn. Prints medians and least times over
 * the rounds: wall time and processor time of the playing thread, from the beginning of the run to its last commit.
 * Processor time is the figure to trust where other work shares the cores. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "sim/run.h"

enum { OFF, DIRECT, THREAD, MODES, ROUNDS_MAX = 99 };

struct bench {
	const char *db;
	struct scenario_doc doc;
	struct sweep sweep;
	struct scenario sc;
	struct session_list sessions;
	int cores[2]; /* of the playing and of the writing thread; the same where there is one */
	uint64_t steps;
	double wall[MODES][ROUNDS_MAX], cpu[MODES][ROUNDS_MAX], all[MODES][ROUNDS_MAX];
};

static double seconds(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void use_core(int core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* A thread begins on the core of the one that starts it. */
static int open_store(struct bench *b, int mode, struct store **s, struct ikv_err *err)
{
	*s = NULL;
	if (mode == OFF)
		return 0;
	store_remove(b->db);
	if (store_open(s, b->db, err))
		return -1;
	use_core(b->cores[1]);
	int rc = mode == THREAD ? store_concurrent(s, err) : 0;
	use_core(b->cores[0]);
	return rc;
}

static int play(struct bench *b, int mode, int round, struct ikv_err *err)
{
	struct run run;
	struct store *s;
	if (run_open(&run, &b->sc, &b->sessions, err) || open_store(b, mode, &s, err))
		return -1;
	run.store = s;
	double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_THREAD_CPUTIME_ID),
	       all = seconds(CLOCK_PROCESS_CPUTIME_ID);
	if ((s && run_begin(&run, &b->doc, "", NULL, err)) || run_play(&run, err) ||
	    (s && store_run_end(s, run.run_id, "done", run.wall_ns, err)))
		return -1;
	b->wall[mode][round] = seconds(CLOCK_MONOTONIC) - wall;
	b->cpu[mode][round] = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
	b->all[mode][round] = seconds(CLOCK_PROCESS_CPUTIME_ID) - all;
	b->steps = run.steps_done;
	run_close(&run);
	int rc = s ? store_close(s, err) : 0;
	nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); /* else Linux takes a twentieth of real-time work away */
	return rc;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void print(struct bench *b, int rounds)
{
	static const char *const names[MODES] = {"not recorded", "by the player", "by a thread"};
	double off_wall[2], off_cpu[2];
	printf("%llu steps, %d rounds; microseconds a step: median, least\n%-14s %16s %8s %20s %8s %20s\n",
	       (unsigned long long)b->steps, rounds, "", "wall", "more", "player's processor", "more",
	       "all threads' processor");
	for (int m = 0; m < MODES; m++) {
		double *of[3] = {b->wall[m], b->cpu[m], b->all[m]}, median[3], least[3];
		for (int i = 0; i < 3; i++) {
			qsort(of[i], (size_t)rounds, sizeof(double), ascending);
			median[i] = of[i][rounds / 2] * 1e6 / (double)b->steps;
			least[i] = of[i][0] * 1e6 / (double)b->steps;
		}
		if (m == OFF) {
			off_wall[0] = median[0], off_wall[1] = least[0];
			off_cpu[0] = median[1], off_cpu[1] = least[1];
		}
		printf("%-14s %7.2f %8.2f %+5.1f %+5.1f%% %8.2f %8.2f %+5.1f %+5.1f%% %8.2f %8.2f\n", names[m], median[0],
		       least[0], 100 * (median[0] / off_wall[0] - 1), 100 * (least[0] / off_wall[1] - 1), median[1],
		       least[1], 100 * (median[1] / off_cpu[0] - 1), 100 * (least[1] / off_cpu[1] - 1), median[2],
		       least[2]);
	}
}

static int read_scenario(struct bench *b, char **argv, int argc, struct ikv_err *err)
{
	if (scenario_read(argv[1], &b->doc, err))
		return -1;
	for (int i = 4; i < argc; i++)
		if (scenario_override(&b->doc, argv[i], err))
			return -1;
	if (scenario_sweep(&b->doc, &b->sweep, err) || scenario_resolve(&b->doc, b->sweep.points[0].root, &b->sc, err) ||
	    scenario_paths(&b->doc, b->sweep.points[0].root, &b->sc, err))
		return -1;
	return run_sessions(&b->sc, &b->sessions, err);
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct ikv_err err = {IKV_OK, ""};
	cpu_set_t set;
	int rounds = argc > 3 ? atoi(argv[3]) : 7, cores = 0;
	if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: bench_recording SCENARIO.yaml [FILE [ROUNDS [KEY=VALUE]...]]\n");
		return 64;
	}
	b.db = argc > 2 ? argv[2] : "bench_recording.db";
	sched_getaffinity(0, sizeof set, &set);
	for (int i = 0; i < CPU_SETSIZE && cores < 2; i++)
		if (CPU_ISSET(i, &set))
			b.cores[cores++] = i;
	if (cores == 1)
		b.cores[1] = b.cores[0];
	use_core(b.cores[0]);
	int rc = read_scenario(&b, argv, argc, &err);
	for (int round = 0; round < rounds && !rc; round++)
		for (int m = 0; m < MODES && !rc; m++)
			rc = play(&b, (m + round) % MODES, round, &err);
	store_remove(b.db);
	if (rc) {
		fprintf(stderr, "bench_recording: %s\n", err.text);
		return 1;
	}
	print(&b, rounds);
	session_list_free(&b.sessions);
	scenario_free(&b.sc);
	scenario_sweep_free(&b.sweep);
	return 0;
}

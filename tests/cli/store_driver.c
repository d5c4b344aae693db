/* The commands that read results, without the rest of the program; `make DB RUNS STEPS`, which writes samples; and
 * `crash DB`, which leaves a run as a killed process does. */
#include <string.h>
#include <unistd.h>
#include "sim/command.h"
#include "unit/store_sample.h"

static int make(const char *path, int runs, int steps)
{
	struct store *s;
	struct ikv_err err;
	int64_t run;
	if (store_open(&s, path, &err) != 0)
		return command_fail(&err);
	for (int i = 0; i < runs; i++) {
		if (sample_run(s, i, steps, &run, &err) != 0) {
			store_close(s, NULL);
			return command_fail(&err);
		}
	}
	return store_close(s, &err) == 0 ? 0 : command_fail(&err);
}

static int crash(const char *path)
{
	const struct store_run run = {.name = "crashed", .scenario_text = "crash"};
	struct store *s;
	struct ikv_err err;
	int64_t id;
	if (store_open(&s, path, &err) != 0 || store_run_begin(s, &run, &id, &err) != 0)
		return command_fail(&err);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "make") == 0)
		return make(argv[2], atoi(argv[3]), atoi(argv[4]));
	if (argc == 3 && strcmp(argv[1], "crash") == 0)
		return crash(argv[2]);
	if (argc > 1 && strcmp(argv[1], "query") == 0)
		return cmd_query(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "runs") == 0)
		return cmd_runs(argc - 1, argv + 1);
	if (argc > 2 && strcmp(argv[1], "db") == 0)
		return cmd_db(argc - 2, argv + 2);
	if (argc > 1 && strcmp(argv[1], "plot") == 0)
		return cmd_plot(argc - 1, argv + 1);
	return IKV_USAGE;
}

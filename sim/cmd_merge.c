/* intentkv merge: runs of several databases in one. */
#include <stdio.h>
#include <unistd.h>
#include "sim/command.h"

enum { ALL = 256, REMOVE, QUIET };
static const struct command_option options[] = {
    {"all", ALL, NULL, NULL, NULL, "points that are there too, as repetitions"},
    {"remove", REMOVE, NULL, NULL, NULL, "remove each FILE when its runs are in DB"},
    {"quiet", QUIET, NULL, NULL, NULL, "say nothing"},
    {.name = NULL},
};

const struct command command_merge = {
    .name = "merge",
    .summary = "copy the runs of other databases into one",
    .arguments = "DB FILE...",
    .words = {"*.db", "*"},
    .examples = "intentkv merge all.db monday.db tuesday.db\n"
		"intentkv merge results/sweep.db results/sweep.db.shard-*\twhat ranks left that were lost\n",
    .about = "Points that are done in DB already are left out, and so are runs that were cut off.\n",
    .options = options,
    .run = cmd_merge,
};

int cmd_merge(int argc, char **argv)
{
	struct command_line line;
	bool all = false, remove_files = false, quiet = false;
	int c, rc = 0;
	struct ikv_err err;
	struct store *store;
	command_begin(&line, &command_merge, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c == ALL)
			all = true;
		else if (c == REMOVE)
			remove_files = true;
		else if (c == QUIET)
			quiet = true;
		else
			return IKV_USAGE;
	}
	if (argc - optind < 2)
		return command_usage("merge", "expected a database and the files to take in");
	const char *db = argv[optind++];
	bool empty = access(db, F_OK) != 0; /* made here, and nothing taken in yet */
	if (store_open(&store, db, &err))
		return command_fail(&err);
	for (; !rc && optind < argc; optind++) {
		uint32_t taken, left;
		rc = store_merge(store, argv[optind], all, &taken, &left, &err);
		if (!rc && !quiet) {
			command_print(stdout, argv[optind]);
			printf(": %u runs taken in, %u were there\n", taken, left);
		}
		if (!rc && remove_files)
			store_remove(argv[optind]);
		empty &= rc != 0;
	}
	int failed = rc ? command_fail(&err) : 0;
	if (store_close(store, &err) && !failed)
		failed = command_fail(&err);
	if (failed && empty)
		store_remove(db);
	return failed;
}

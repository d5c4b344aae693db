/* intentkv merge: runs of several databases in one. */
#include <getopt.h>
#include <stdio.h>
#include "sim/command.h"

const char cmd_merge_help[] =
    "intentkv merge DB FILE...: copy the runs of other databases into one\n\n"
    "  intentkv merge all.db monday.db tuesday.db\n"
    "  intentkv merge results/sweep.db results/sweep.db.shard-*   what ranks left that were lost\n\n"
    "Points that are done in DB already are left out, and so are runs that were cut off.\n"
    "      --all     points that are there too, as repetitions\n"
    "      --remove  remove each FILE when its runs are in DB\n"
    "      --quiet   say nothing\n";

int cmd_merge(int argc, char **argv)
{
	enum { ALL = 256, REMOVE, QUIET };
	static const struct option longs[] = {{"all", no_argument, NULL, ALL},
					      {"remove", no_argument, NULL, REMOVE},
					      {"quiet", no_argument, NULL, QUIET},
					      {NULL, 0, NULL, 0}};
	bool all = false, remove_files = false, quiet = false;
	int c, rc = 0;
	struct ikv_err err;
	struct store *store;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == ALL)
			all = true;
		else if (c == REMOVE)
			remove_files = true;
		else if (c == QUIET)
			quiet = true;
		else
			return command_option("merge", argv, longs, c);
	}
	if (argc - optind < 2)
		return command_usage("merge", "expected a database and the files to take in");
	const char *db = argv[optind++];
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
	}
	int failed = rc ? command_fail(&err) : 0;
	if (store_close(store, &err) && !failed)
		failed = command_fail(&err);
	return failed;
}

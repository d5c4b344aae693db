/* intentkv runs: what a result database holds, and the canonical hashes of its runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "db/store.h"
#include "sim/command.h"

static const struct command_option options[] = {
    {"hash", 'H', NULL, NULL, NULL,
     "print canonical hashes instead: XXH3-128 of the deterministic columns, of all done runs or of RUN"},
    COMMAND_FORMAT,
    {.name = NULL},
};

const struct command command_runs = {
    .name = "runs",
    .summary = "list the runs of a database, or their canonical hashes",
    .arguments = "DB [RUN]",
    .words = {"*.db", "<runs>"},
    .examples = "intentkv runs results/quickstart.db\n"
		"intentkv runs results/quickstart.db --hash 2\n",
    .options = options,
    .run = cmd_runs,
};

static int hash_one(const char *db, const char *text)
{
	struct ikv_err err;
	char hex[33], *end;
	long long run = strtoll(text, &end, 10);
	if (*end || end == text) {
		fprintf(stderr, "intentkv: runs: got \"%s\", expected the number of a run\n", text);
		return IKV_USAGE;
	}
	if (store_hash(db, run, hex, &err) != 0)
		return command_fail(&err);
	printf("%s\n", hex);
	return fflush(stdout) == 0 ? 0 : IKV_IO;
}

static int hash_all(const char *db)
{
	struct ikv_err err;
	char *text = NULL, *save = NULL, hex[33];
	size_t size;
	int rc = 0;
	struct store_query query = {.sql = "SELECT run_id FROM run WHERE status = 'done' ORDER BY run_id",
				    .format = STORE_CSV};
	FILE *f = open_memstream(&text, &size);
	if (!f) {
		fprintf(stderr, "intentkv: out of memory\n");
		return IKV_FAILED;
	}
	if (store_query_run(db, &query, f, &err) != 0)
		rc = command_fail(&err);
	fclose(f);
	if (rc == 0 && !*text)
		fprintf(stderr, "intentkv: %s: holds no run that is done, and only those have a hash\n", db);
	for (char *id = strtok_r(text, "\r\n", &save); id && rc == 0; id = strtok_r(NULL, "\r\n", &save)) {
		if (store_hash(db, strtoll(id, NULL, 10), hex, &err) != 0)
			rc = command_fail(&err);
		else
			printf("%s\t%s\n", id, hex);
	}
	free(text);
	return rc ? rc : fflush(stdout) == 0 ? 0 : IKV_IO;
}

int cmd_runs(int argc, char **argv)
{
	struct command_line line;
	struct store_query query = {.name = "runs", .header = true};
	bool hash = false;
	int c;
	command_begin(&line, &command_runs, argc, argv);
	while ((c = command_next(&line)) != -1) {
		switch (c) {
		case 'H':
			hash = true;
			break;
		case 'f':
			if (command_format(optarg, &query.format) != 0)
				return IKV_USAGE;
			break;
		default:
			return IKV_USAGE;
		}
	}
	int left = argc - optind;
	if (left < 1 || left > (hash ? 2 : 1))
		return command_usage("runs", "expected a database%s", hash ? " and at most one run" : "");
	if (hash)
		return left == 2 ? hash_one(argv[optind], argv[optind + 1]) : hash_all(argv[optind]);
	struct ikv_err err;
	if (store_query_run(argv[optind], &query, stdout, &err) != 0)
		return command_fail(&err);
	command_note_empty(argv[optind]);
	return 0;
}

/* intentkv query: named queries and free SQL over a result database. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "db/store.h"
#include "sim/command.h"

const char cmd_query_help[] =
    "intentkv query DB [NAME] [options]: ask a result database; it is never changed\n\n"
    "  intentkv query results/quickstart.db                       what the runs read, recalled and cost\n"
    "  intentkv query results/quickstart.db best                  the best run at each byte budget\n"
    "  intentkv query r.db slowest --param limit=5 --param run=3\n"
    "  intentkv query r.db --sql \"SELECT label, median(rel_l2) FROM v_latest JOIN step USING (run_id) GROUP BY 1\"\n\n"
    "Without a name: summary, by-policy and by-role.\n"
    "  -l, --list             show the named queries\n"
    "  -s, --sql SQL          one SELECT statement; median(x), percentile(x, p) and\n"
    "                         significant(x, digits) are there too\n"
    "  -p, --param KEY=VALUE  value of :KEY in the query; run=3, run=1,4 or run=all chooses runs\n"
    "  -f, --format FORMAT    table (default), csv, json, jsonl (an object a line) or markdown\n"
    "  -t, --time-limit S     give up after S seconds (default 60, 0: never)\n"
    "      --no-header        no line of column names (table, csv)\n";

int command_format(const char *text, enum store_format *format)
{
	static const char *const names[] = {"table", "csv", "json", "jsonl", "markdown"};
	for (int i = 0; i < 5; i++) {
		if (strcmp(text, names[i]) == 0) {
			*format = (enum store_format)i;
			return 0;
		}
	}
	fprintf(stderr, "intentkv: --format: got %s, expected table, csv, json, jsonl or markdown\n", text);
	return -1;
}

void command_note_empty(const char *db)
{
	char *text = NULL;
	size_t size;
	struct store_query query = {.sql = "SELECT count(*) FROM run", .format = STORE_CSV};
	FILE *f = open_memstream(&text, &size);
	if (!f)
		return;
	int rc = store_query_run(db, &query, f, NULL);
	fclose(f);
	if (rc == 0 && strcmp(text, "0\r\n") == 0)
		fprintf(stderr, "intentkv: %s: holds no runs yet\n", db);
	free(text);
}

static int usage(const char *message)
{
	fprintf(stderr, "intentkv: query: %s; see intentkv query --help\n", message);
	return IKV_USAGE;
}

static int run(const char *db, const struct store_query *query)
{
	struct ikv_err err;
	if (store_query_run(db, query, stdout, &err) == 0)
		return 0;
	return command_fail(&err);
}

/* The title only above a result: what fails must not look like one. */
static int titled(const char *db, const struct store_query *query, const char *title)
{
	struct ikv_err err;
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);
	if (!f)
		return command_fail(&(struct ikv_err){IKV_FAILED, "out of memory"});
	int rc = store_query_run(db, query, f, &err);
	fclose(f);
	if (rc == 0)
		printf("%s%s\n\n%s", query->format == STORE_MARKDOWN ? "## " : "", title, text);
	free(text);
	return rc ? command_fail(&err) : 0;
}

static int overview(const char *db, struct store_query query)
{
	static const char *const names[] = {"summary", "by-policy", "by-role"};
	static const char *const titles[] = {"Runs", "By policy", "By role"};
	int n = query.format == STORE_TABLE || query.format == STORE_MARKDOWN ? 3 : 1;
	for (int i = 0; i < n; i++) {
		query.name = names[i];
		if (i)
			putchar('\n');
		int rc = n > 1 ? titled(db, &query, titles[i]) : run(db, &query);
		if (rc)
			return rc;
	}
	command_note_empty(db);
	return 0;
}

static int list(void)
{
	for (const struct store_named *q = store_queries; q->name; q++)
		if (strncmp(q->name, "plot-", 5) != 0)
			printf("%-18s  %s\n", q->name, q->help);
	return fflush(stdout) == 0 ? 0 : IKV_IO;
}

int cmd_query(int argc, char **argv)
{
	static const struct option options[] = {{"list", no_argument, NULL, 'l'},
						{"sql", required_argument, NULL, 's'},
						{"param", required_argument, NULL, 'p'},
						{"format", required_argument, NULL, 'f'},
						{"time-limit", required_argument, NULL, 't'},
						{"no-header", no_argument, NULL, 'n'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	const char *params[64];
	struct store_query query = {.params = params, .header = true, .time_limit_s = 60};
	char *end;
	int c;
	optind = opterr = 0; /* getopt starts afresh for the command's own words */
	while ((c = getopt_long(argc, argv, ":ls:p:f:t:h", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			return list();
		case 's':
			query.sql = optarg;
			break;
		case 'p':
			if (query.param_count == sizeof params / sizeof *params)
				return usage("too many parameters");
			params[query.param_count++] = optarg;
			break;
		case 'f':
			if (command_format(optarg, &query.format) != 0)
				return IKV_USAGE;
			break;
		case 't':
			query.time_limit_s = strtod(optarg, &end);
			if (*end || end == optarg || !(query.time_limit_s >= 0))
				return usage("--time-limit: expected seconds");
			break;
		case 'n':
			query.header = false;
			break;
		case 'h':
			fputs(cmd_query_help, stdout);
			return 0;
		default:
			return command_option("query", argv, options, c);
		}
	}
	if (optind >= argc)
		return usage("no database given");
	const char *db = argv[optind++];
	if (optind < argc)
		query.name = argv[optind++];
	if (optind < argc)
		return usage("too many arguments");
	if (query.name && query.sql)
		return usage("give a name or --sql, not both");
	if (!query.name && !query.sql)
		return overview(db, query);
	int rc = run(db, &query);
	if (rc == 0 && query.name)
		command_note_empty(db);
	return rc;
}

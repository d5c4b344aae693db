/* intentkv query: named queries and free SQL over a result database. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "db/store.h"
#include "sim/command.h"

enum { NO_HEADER = 256 };
static const struct command_option options[] = {
    {"list", 'l', NULL, NULL, NULL, "show the named queries; needs no database"},
    {"sql", 's', "SQL", NULL, NULL,
     "one SELECT statement; median(x), percentile(x, p) and significant(x, digits) are there too"},
    {"param", 'p', "KEY=VALUE", NULL, NULL, "value of :KEY in the query; run=3, run=1,4 or run=all chooses runs"},
    COMMAND_FORMAT,
    {"time-limit", 't', "S", NULL, "60", "give up after S seconds; 0: never"},
    {"no-header", NO_HEADER, NULL, NULL, NULL, "no line of column names (table, csv)"},
    {.name = NULL},
};

const struct command command_query = {
    .name = "query",
    .summary = "ask a result database: named queries or SQL; it is never changed",
    .arguments = "DB [NAME]",
    .words = {"*.db", "<queries>"},
    .examples = "intentkv query results/quickstart.db\twhat the runs read, recalled and cost\n"
		"intentkv query results/quickstart.db best\tthe best run at each byte budget\n"
		"intentkv query r.db slowest --param limit=5 --param run=3\n"
		"intentkv query r.db --sql \"SELECT label, median(rel_l2) FROM v_latest JOIN step USING (run_id) "
		"GROUP BY 1\"\n",
    .about = "Without a name: `summary`, `by-policy` and `by-role`.\n",
    .options = options,
    .run = cmd_query,
};

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

static int take_count(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	(void)n, (void)err;
	*(double *)ctx = c[0].number;
	return 0;
}

/* How many runs `run` means, :run of `sql`; -1: the database cannot be read. */
static double count_runs(const char *db, const char *sql, const char *run, struct ikv_err *err)
{
	char param[300];
	const char *params[] = {param};
	double count = 0;
	struct store_query query = {.sql = sql, .params = params, .param_count = 1};
	snprintf(param, sizeof param, "run=%s", run);
	return store_select(db, &query, take_count, &count, err) ? -1 : count;
}

/* A name or a label, else numbers between commas, each of which is to be there. */
int command_find_runs(const char *db, const char *run)
{
	struct ikv_err err;
	char number[24];
	double count = strcmp(run, "all") ? count_runs(db, "SELECT count(*) FROM v_run WHERE name = :run OR label = :run", run, &err)
					  : 1;
	const char *at = run, *wrong = run;
	size_t size = strlen(run);
	while (count == 0 && strspn(run, "0123456789,") == strlen(run)) {
		size = strcspn(at, ",");
		wrong = at;
		if (size == 0 || size >= sizeof number)
			break;
		snprintf(number, sizeof number, "%.*s", (int)size, at);
		if ((count = count_runs(db, "SELECT count(*) FROM run WHERE run_id = :run", number, &err)) <= 0)
			break;
		at += size;
		count = *at ? 0 : count;
		at += *at == ',';
	}
	if (count > 0)
		return 0;
	if (count == 0)
		ikv_err_set(&err, IKV_BAD_INPUT, "%s: there is no run %.*s; `intentkv runs` lists them", db,
			    (int)(size < 200 ? size : 200), wrong);
	return command_fail(&err);
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
	struct command_line line;
	const char *params[64];
	struct store_query query = {.params = params, .header = true, .time_limit_s = 60};
	char *end;
	int c;
	command_begin(&line, &command_query, argc, argv);
	while ((c = command_next(&line)) != -1) {
		switch (c) {
		case 'l':
			return list();
		case 's':
			query.sql = optarg;
			break;
		case 'p':
			if (query.param_count == sizeof params / sizeof *params)
				return command_usage("query", "too many parameters");
			params[query.param_count++] = optarg;
			break;
		case 'f':
			if (command_format(optarg, &query.format) != 0)
				return IKV_USAGE;
			break;
		case 't':
			query.time_limit_s = strtod(optarg, &end);
			if (*end || end == optarg || !(query.time_limit_s >= 0))
				return command_usage("query", "--time-limit: expected seconds");
			break;
		case NO_HEADER:
			query.header = false;
			break;
		default:
			return IKV_USAGE;
		}
	}
	if (optind >= argc)
		return command_usage("query", "no database given");
	const char *db = argv[optind++];
	if (optind < argc)
		query.name = argv[optind++];
	if (optind < argc)
		return command_usage("query", "too many arguments");
	if (query.name && query.sql)
		return command_usage("query", "give a name or --sql, not both");
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && !query.sql && i < query.param_count; i++)
		if (!strncmp(params[i], "run=", 4))
			rc = command_find_runs(db, params[i] + 4);
	if (rc == 0 && !query.name && !query.sql)
		return overview(db, query);
	if (rc == 0)
		rc = run(db, &query);
	if (rc == 0 && query.name)
		command_note_empty(db);
	return rc;
}

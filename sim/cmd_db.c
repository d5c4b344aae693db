/* intentkv db: the file as a whole: its schema, a copy, CSV, a check, roll-ups, and files of older versions. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "db/store.h"
#include "sim/command.h"

const char cmd_db_help[] =
    "intentkv db ACTION DB [options]: a result database as a whole\n\n"
    "  intentkv db check results/quickstart.db\n"
    "  intentkv db export results/quickstart.db -o csv/\n"
    "  intentkv db backup results/quickstart.db copy.db\n\n"
    "  schema DB            print the schema as SQL\n"
    "  export DB            write each table as FOLDER/TABLE.csv\n"
    "  backup DB FILE       copy it as of one moment, also while a run is recording\n"
    "  check DB             look for damage, rows without their run, unfinished runs and missing roll-ups\n"
    "  rollup DB            make the roll-ups of all runs anew\n"
    "  upgrade DB [COPY]    bring a file of an older version up to date; what it was stays in COPY (DB.old)\n\n"
    "  -o, --output FOLDER  of export, made if absent (default: .)\n"
    "      --table NAME     export this table or view alone\n\n"
    "Exit codes: 0 done or nothing found, 65 check found something or the file is none of ours.\n";

struct request {
	const char *db, *second, *folder, *table;
};

static int do_schema(const struct request *r, struct ikv_err *err)
{
	return store_schema(r->db, stdout, err);
}

static void told(const char *path, int64_t rows)
{
	printf("%s\t%lld rows\n", path, (long long)rows);
}

static int do_export(const struct request *r, struct ikv_err *err)
{
	const char *folder = r->folder ? r->folder : ".";
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return ikv_err_set(err, IKV_CANT_CREATE, "%s: cannot be created: %s", folder, strerror(errno));
	return store_export(r->db, folder, r->table, told, err);
}

static int do_backup(const struct request *r, struct ikv_err *err)
{
	if (!r->second)
		return ikv_err_set(err, IKV_USAGE, "backup: expected the file to write");
	return store_backup(r->db, r->second, err);
}

static int do_check(const struct request *r, struct ikv_err *err)
{
	uint64_t found;
	if (store_check(r->db, stdout, &found, err) != 0)
		return -1;
	if (found == 0) {
		printf("%s: good\n", r->db);
		return 0;
	}
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: %llu finding%s", r->db, (unsigned long long)found,
			   found == 1 ? "" : "s");
}

static int do_rollup(const struct request *r, struct ikv_err *err)
{
	uint64_t runs;
	if (store_rollup_all(r->db, &runs, err) != 0)
		return -1;
	printf("%llu runs rolled up\n", (unsigned long long)runs);
	return 0;
}

static int do_upgrade(const struct request *r, struct ikv_err *err)
{
	char copy[4096];
	int from;
	if (snprintf(copy, sizeof copy, r->second ? "%s" : "%s.old", r->second ? r->second : r->db) >=
	    (int)sizeof copy)
		return ikv_err_set(err, IKV_USAGE, "%s: the path is too long", r->db);
	if (store_upgrade(r->db, copy, &from, err) != 0)
		return -1;
	if (from == STORE_VERSION)
		printf("%s: is of version %d already\n", r->db, from);
	else
		printf("%s: version %d became %d; what it was is %s\n", r->db, from, STORE_VERSION, copy);
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(const struct request *r, struct ikv_err *err);
	int arguments; /* after the action, at most */
} actions[] = {{"schema", do_schema, 1}, {"export", do_export, 1}, {"backup", do_backup, 2},
	       {"check", do_check, 1},   {"rollup", do_rollup, 1}, {"upgrade", do_upgrade, 2}};
enum { ACTIONS = sizeof actions / sizeof *actions };

static int act(int argc, char **argv, struct request *r)
{
	const char *names[ACTIONS];
	struct ikv_err err;
	if (argc < 1)
		return command_usage("db", "expected an action: schema, export, backup, check, rollup or upgrade");
	for (size_t i = 0; i < ACTIONS; i++) {
		names[i] = actions[i].name;
		if (strcmp(argv[0], names[i]) != 0)
			continue;
		if (argc < 2)
			return command_usage("db", "%s: no database given", names[i]);
		if (argc - 1 > actions[i].arguments)
			return command_usage("db", "%s: too many arguments", names[i]);
		r->db = argv[1];
		r->second = argc > 2 ? argv[2] : NULL;
		if (actions[i].fn(r, &err) != 0)
			return err.status == IKV_USAGE ? command_usage("db", "%s", err.text) : command_fail(&err);
		return fflush(stdout) == 0 ? 0 : IKV_IO;
	}
	const char *near = ikv_nearest(argv[0], names, ACTIONS);
	return command_usage("db", "no action \"%.40s\"%s%s%s", argv[0], near ? "; did you mean \"" : "",
			     near ? near : "", near ? "\"?" : "");
}

int cmd_db(int argc, char **argv)
{
	static const struct option options[] = {{"output", required_argument, NULL, 'o'},
						{"table", required_argument, NULL, 't'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct request r = {.db = NULL};
	int c;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":o:h", options, NULL)) != -1) {
		switch (c) {
		case 'o':
			r.folder = optarg;
			break;
		case 't':
			r.table = optarg;
			break;
		case 'h':
			fputs(cmd_db_help, stdout);
			return 0;
		default:
			return command_option("db", argv, options, c);
		}
	}
	return act(argc - optind, argv + optind, &r);
}

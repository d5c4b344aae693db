/* intentkv db: the file as a whole: its schema, a copy, CSV, a check, roll-ups, and files of older versions. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "db/store.h"
#include "sim/command.h"

enum { TABLE = 256 };
static const struct command_option export_options[] = {
    {"output", 'o', "FOLDER", "/", ".", "where the files go; made if absent"},
    {"table", TABLE, "NAME", NULL, NULL, "export this table or view alone"},
    {.name = NULL},
};

static const struct command db_schema = {
    .name = "db schema",
    .summary = "print the schema as SQL",
    .arguments = "DB",
    .words = {"*.db"},
    .run = cmd_db,
};
static const struct command db_export = {
    .name = "db export",
    .summary = "write each table as FOLDER/TABLE.csv",
    .arguments = "DB",
    .words = {"*.db"},
    .examples = "intentkv db export results/quickstart.db -o csv\n",
    .options = export_options,
    .run = cmd_db,
};
static const struct command db_backup = {
    .name = "db backup",
    .summary = "copy it as of one moment, also while a run is recording",
    .arguments = "DB FILE",
    .words = {"*.db", "*"},
    .examples = "intentkv db backup results/quickstart.db copy.db\n",
    .run = cmd_db,
};
static const struct command db_check = {
    .name = "db check",
    .summary = "look for damage, rows without their run, unfinished runs and missing roll-ups",
    .arguments = "DB",
    .words = {"*.db"},
    .examples = "intentkv db check results/quickstart.db\n",
    .exits = "65 there are findings",
    .run = cmd_db,
};
static const struct command db_rollup = {
    .name = "db rollup",
    .summary = "make the roll-ups of all runs anew, as after rows were put in by hand",
    .arguments = "DB",
    .words = {"*.db"},
    .run = cmd_db,
};
static const struct command db_upgrade = {
    .name = "db upgrade",
    .summary = "bring a file of an older version up to date; what it was stays in COPY (default DB.old)",
    .arguments = "DB [COPY]",
    .words = {"*.db", "*"},
    .run = cmd_db,
};
static const struct command *const parts[] = {&db_schema, &db_export,  &db_backup, &db_check,
					      &db_rollup, &db_upgrade, NULL};

const struct command command_db = {
    .name = "db",
    .summary = "check, copy and export a database",
    .arguments = "ACTION DB",
    .examples = "intentkv db check results/quickstart.db\n"
		"intentkv db export results/quickstart.db -o csv\n"
		"intentkv db backup results/quickstart.db copy.db\n",
    .exits = "65 check found something, or the file is none of ours",
    .parts = parts,
};

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
		return ikv_err_set(err, IKV_USAGE, "expected the file to write");
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
	const struct command *command;
	int (*fn)(const struct request *r, struct ikv_err *err);
	int arguments; /* at most */
} actions[] = {{&db_schema, do_schema, 1}, {&db_export, do_export, 1}, {&db_backup, do_backup, 2},
	       {&db_check, do_check, 1},   {&db_rollup, do_rollup, 1}, {&db_upgrade, do_upgrade, 2}};
enum { ACTIONS = sizeof actions / sizeof *actions };

/* argv[0] is the action, one of the parts' last words. */
int cmd_db(int argc, char **argv)
{
	struct command_line line;
	struct request r = {.db = NULL};
	struct ikv_err err;
	int c, i = 0;
	while (i < ACTIONS - 1 && strcmp(strrchr(actions[i].command->name, ' ') + 1, argv[0]) != 0)
		i++;
	const char *name = actions[i].command->name;
	command_begin(&line, actions[i].command, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c == 'o')
			r.folder = optarg;
		else if (c == TABLE)
			r.table = optarg;
		else
			return IKV_USAGE;
	}
	if (optind >= argc)
		return command_usage(name, "no database given");
	if (argc - optind > actions[i].arguments)
		return command_usage(name, "too many arguments");
	r.db = argv[optind];
	r.second = argc - optind > 1 ? argv[optind + 1] : NULL;
	if (actions[i].fn(&r, &err) != 0)
		return err.status == IKV_USAGE ? command_usage(name, "%s", err.text) : command_fail(&err);
	return fflush(stdout) == 0 ? 0 : IKV_IO;
}

/* Subcommands: one file each, cmd_<name>.c, and one table in main.c. */
#ifndef SIM_COMMAND_H
#define SIM_COMMAND_H

#include <getopt.h>
#include <stdio.h>
#include "db/store.h"
#include <intentkv.h>

struct command {
	const char *name, *summary;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
	const char *help;                  /* printed by `intentkv NAME --help`; examples first */
};
extern const struct command commands[]; /* NULL name ends it */

int cmd_run(int argc, char **argv);
int cmd_runs(int argc, char **argv);
int cmd_query(int argc, char **argv);
int cmd_plot(int argc, char **argv);
int cmd_db(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_completion(int argc, char **argv);
extern const char cmd_db_help[], cmd_report_help[], cmd_compare_help[], cmd_explain_help[], cmd_completion_help[];
int cmd_sweep(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_route(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_lint(int argc, char **argv);
int cmd_size(int argc, char **argv);
int cmd_mrc(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_trace_stats(int argc, char **argv);
int cmd_generate(int argc, char **argv);
extern const char cmd_run_help[], cmd_runs_help[], cmd_query_help[], cmd_plot_help[], cmd_route_help[],
    cmd_import_help[], cmd_lint_help[], cmd_size_help[], cmd_mrc_help[], cmd_list_help[], cmd_check_help[], cmd_doctor_help[],
    cmd_bench_help[], cmd_calibrate_help[], cmd_trace_stats_help[], cmd_generate_help[],
    cmd_sweep_help[], cmd_merge_help[];

/* Text that comes from files, on a terminal: what would act on it becomes '?', a tab a space. */
void command_print(FILE *f, const char *text);
/* Print "intentkv: <text>" to stderr on one line. Returns the error's exit code. */
int command_fail(const struct ikv_err *err);
/* A wrong command line: says what is wrong and where help is. Returns IKV_USAGE. */
int command_usage(const char *command, const char *fmt, ...) IKV_PRINTF(2, 3);
/* What getopt_long refused (c is '?' or ':'; opterr is 0 and the short options begin with ':'). Returns IKV_USAGE. */
int command_option(const char *command, char **argv, const struct option *longs, int c);

/* A whole number from min to max as an option's value; says what it expected otherwise and returns IKV_USAGE. */
int command_count(const char *command, const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *out);

/* Say on stderr that a database holds no runs, where that is so. */
void command_note_empty(const char *db);

/* --format: table, csv, json, jsonl, markdown; says what it expected otherwise. */
int command_format(const char *text, enum store_format *format);

#endif

/* Subcommands: one file each, cmd_<name>.c, with the table of its options; one table of them all in main.c. */
#ifndef SIM_COMMAND_H
#define SIM_COMMAND_H

#include <getopt.h>
#include <stdio.h>
#include "db/store.h"
#include <intentkv.h>

/* One option of a command: getopt, --help, the manual page and completion all read this row. */
struct command_option {
	const char *name; /* long form, without "--" */
	int value;        /* what command_next returns: the letter of the short form, or above 255: there is none */
	const char *argument; /* its name, in capitals; NULL: the option takes none */
	const char *words;    /* what the argument can be, in the notation of command_text.h; NULL: anything */
	const char *def;      /* default, where it is not said in `help`; NULL: none */
	const char *help;     /* lower case, no full stop */
};

enum { COMMAND_OPTIONS_MAX = 32, COMMAND_ARGUMENTS_MAX = 2, COMMAND_WRONG = '?' };

/* Text: paragraphs end with a newline, lines are broken where it is printed; `x` is something to type. */
struct command {
	const char *name;                         /* of a part: "bench attention" */
	const char *summary;                      /* one line, lower case, no full stop */
	const char *arguments;                    /* of the synopsis, such as "DB [FIGURE]..."; NULL: none */
	const char *words[COMMAND_ARGUMENTS_MAX]; /* what the arguments can be; "..." repeats the last one */
	const char *examples;                     /* a line each, a comment after a tab */
	const char *about;                        /* what one must know before the options; NULL: nothing */
	const struct command_option *options;     /* NULL name ends it; NULL: none. All commands take -h, --help */
	const char *exits;                  /* exit codes that mean something of its own, "65 no such run; 75 busy" */
	const struct command *const *parts; /* chosen by the next word; NULL ends it; NULL: none */
	int (*run)(int argc, char **argv);  /* argv[0] is the command's last word; returns the exit code */
};
/* Rows that several commands have. */
#define COMMAND_FORMAT                                                                                               \
	{                                                                                                            \
		"format", 'f', "FORMAT", "table csv json jsonl markdown", "table", "form of the output"              \
	}
#define COMMAND_RUNS                                                                                                 \
	{                                                                                                            \
		"run", 'r', "RUN", "<runs>", NULL,                                                                   \
		    "runs by number (3 or 1,4) or name, or all (default: the newest of the last scenario)"           \
	}
enum { COMMAND_FROM_VALUE = 256 };
#define COMMAND_FROM                                                                                                 \
	{                                                                                                            \
		"from", COMMAND_FROM_VALUE, "FORMAT", "<importers>", NULL,                                           \
		    "format of the trace instead of looking, of `intentkv list importers`"                           \
	}

extern const struct command *const commands[]; /* NULL ends it */
extern const struct command command_program;   /* the program itself; its about, examples and options */
extern const struct command_option command_help_option;

int cmd_run(int argc, char **argv);
int cmd_runs(int argc, char **argv);
int cmd_query(int argc, char **argv);
int cmd_plot(int argc, char **argv);
int cmd_db(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_report(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_completion(int argc, char **argv);
int cmd_manual(int argc, char **argv);
int cmd_sweep(int argc, char **argv);
int cmd_merge(int argc, char **argv);
int cmd_route(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_lint(int argc, char **argv);
int cmd_size(int argc, char **argv);
int cmd_formats(int argc, char **argv);
int cmd_mrc(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_trace_stats(int argc, char **argv);
int cmd_generate(int argc, char **argv);
extern const struct command command_run, command_sweep, command_merge, command_runs, command_query, command_db,
    command_plot, command_report, command_compare, command_explain, command_route, command_import, command_lint,
    command_mrc, command_trace_stats, command_generate, command_size, command_formats, command_list, command_check,
    command_doctor, command_bench, command_calibrate, command_completion, command_manual;

/* Options of one command line, by getopt_long from the command's table. */
struct command_line {
	const struct command *command;
	int argc;
	char **argv;
	struct option longs[COMMAND_OPTIONS_MAX + 1];
	char shorts[2 * COMMAND_OPTIONS_MAX + 2];
};
void command_begin(struct command_line *line, const struct command *command, int argc, char **argv);
/* The next option's value, its argument in optarg; -1 after the last, when optind is the first argument's index;
 * COMMAND_WRONG for what the table lacks, which is told on stderr. */
int command_next(struct command_line *line);

/* The command that words name, and how many of them do: 0, 1 or, for a part, 2. NULL: none. */
const struct command *command_find(int argc, char **argv, int *words);
/* Says that there is none of that name, and which is near. Returns IKV_USAGE. */
int command_unknown(const char *name);
/* What `intentkv NAME --help` prints. */
void command_help(const struct command *command, FILE *f);
/* A line each; comments stand in one column, unless a command is too long for it. */
void command_print_examples(const char *text, FILE *f);
/* Exit codes that all commands share. */
struct command_exit {
	int code;
	const char *meaning;
};
extern const struct command_exit command_exits[]; /* NULL meaning ends it */

/* Text that comes from files, on a terminal: what would act on it becomes '?', a tab a space. */
void command_print(FILE *f, const char *text);
/* Print "intentkv: <text>" to stderr on one line. Returns the error's exit code. */
int command_fail(const struct ikv_err *err);
/* A wrong command line: says what is wrong and where help is. Returns IKV_USAGE. */
int command_usage(const char *command, const char *fmt, ...) IKV_PRINTF(2, 3);
/* A whole number from min to max as an option's value; says what it expected otherwise and returns IKV_USAGE. */
int command_count(const char *command, const char *option, const char *text, uint32_t min, uint32_t max,
		  uint32_t *out);

/* Say on stderr that a database holds no runs, where that is so. */
void command_note_empty(const char *db);
/* Does a choice of runs (by number, name, label, or all) name any? An exit code, after a message. */
int command_find_runs(const char *db, const char *run);

/* --format: table, csv, json, jsonl, markdown; says what it expected otherwise. */
int command_format(const char *text, enum store_format *format);

#endif

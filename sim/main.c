/* The program: finds the subcommand and hands over. Only main exits. */
#include <stdio.h>
#include <string.h>
#include "config.h"
#include "sim/command.h"

const struct command *const commands[] = {
    &command_run,         &command_sweep,
    &command_merge,       &command_runs,
    &command_query,       &command_db,
    &command_plot,        &command_report,
    &command_compare,     &command_explain,
    &command_route,       &command_import,
    &command_lint,        &command_mrc,
    &command_trace_stats, &command_generate,
    &command_size,        &command_formats,
    &command_list,        &command_check,
    &command_doctor,      &command_bench,
    &command_calibrate,   &command_completion,
    &command_manual,      NULL,
};

static const struct command_option options[] = {
    {"version", 'V', NULL, NULL, NULL, "show the version"},
    {.name = NULL},
};

const struct command command_program = {
    .name = "intentkv",
    .summary = "which KV blocks to read, at what precision, from which tier, and what that costs",
    .examples = "intentkv run scenarios/quickstart.yaml\tplay a scenario; leaves a database and plots\n"
		"intentkv sweep scenarios/quickstart.yaml\tthe same, its points on all cores\n"
		"intentkv query results/quickstart.db\tits tables\n"
		"intentkv plot results/quickstart.db pareto\ta figure\n"
		"intentkv list routers\twhat can be chosen\n",
    .about =
	"intentkv simulates intent-aware KV execution in agentic long-context language model inference. It plays "
	"agent sessions, generated or read from traces, step by step: a scorer and a router decide which blocks of "
	"the context are read and in which page format, a memory manager moves pages between tiers, attention runs "
	"over the pages chosen, and each step is recorded. Modelled and measured times are kept apart.\n"
	"What is run is written in a scenario, a YAML file. Results go to one SQLite database that describes "
	"itself.\n",
    .options = options,
};

const struct command_exit command_exits[] = {
    {IKV_OK, "success"},
    {IKV_FAILED, "something failed"},
    {2, "some points of a sweep failed"},
    {IKV_USAGE, "the command line is wrong"},
    {IKV_BAD_INPUT, "a scenario, layout, trace or database is wrong; the message says where"},
    {IKV_UNAVAILABLE, "a backend, instruction set or program that was asked for is not there"},
    {IKV_CANT_CREATE, "an output cannot be created"},
    {IKV_IO, "reading or writing failed"},
    {IKV_BUSY, "another process holds the database"},
    {130, "interrupted (143 by SIGTERM); what was recorded so far is kept, the run is marked interrupted"},
    {.meaning = NULL},
};

static void help(FILE *f)
{
	fprintf(f, "intentkv: %s\n\n", command_program.summary);
	command_print_examples(command_program.examples, f);
	fputs("commands:\n", f);
	for (const struct command *const *c = commands; *c; c++)
		fprintf(f, "  %-12s %s\n", (*c)->name, (*c)->summary);
	fputs("\n`intentkv COMMAND --help` says more, `man intentkv-COMMAND` too; docs/ has the rest.\n", f);
}

const struct command *command_find(int argc, char **argv, int *words)
{
	for (const struct command *const *c = commands; argc > 0 && *c; c++) {
		if (strcmp((*c)->name, argv[0]) != 0)
			continue;
		*words = 1;
		for (const struct command *const *p = (*c)->parts; p && argc > 1 && *p; p++) {
			if (strcmp(strrchr((*p)->name, ' ') + 1, argv[1]) == 0) {
				*words = 2;
				return *p;
			}
		}
		return *c;
	}
	*words = 0;
	return NULL;
}

int command_unknown(const char *name)
{
	const char *names[32];
	size_t n = 0;
	for (const struct command *const *c = commands; *c && n < 32; c++)
		names[n++] = (*c)->name;
	const char *near = ikv_nearest(name, names, n);
	if (near)
		return command_usage(NULL, "no command \"%s\"; did you mean \"%s\"?", name, near);
	return command_usage(NULL, "no command \"%s\"", name);
}

/* A command that has only parts, and none of them is named. */
static int no_part(const struct command *command, const char *word)
{
	const char *names[32];
	char text[300] = "";
	size_t n = 0, used = 0;
	for (const struct command *const *p = command->parts; *p && n < 32; p++) {
		names[n] = strrchr((*p)->name, ' ') + 1;
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s",
					 !n     ? ""
					 : p[1] ? ", "
						: " or ",
					 names[n]);
		n++;
	}
	const char *near = word ? ikv_nearest(word, names, n) : NULL;
	if (!word)
		return command_usage(command->name, "expected %s", text);
	return command_usage(command->name, "got \"%.40s\", expected %s%s%s%s", word, text,
			     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static int dispatch(int argc, char **argv)
{
	int words;
	if (argc < 2) {
		help(stderr);
		return IKV_USAGE;
	}
	if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
		puts(PACKAGE_STRING);
		return IKV_OK;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		const struct command *command = command_find(argc - 2, argv + 2, &words);
		if (argc > 2 && !command)
			return command_unknown(argv[2]);
		if (command)
			command_help(command, stdout);
		else
			help(stdout);
		return IKV_OK;
	}
	const struct command *command = command_find(argc - 1, argv + 1, &words);
	if (!command)
		return command_unknown(argv[1]);
	if (wants_help(argc - 1 - words, argv + 1 + words)) {
		command_help(command, stdout);
		return IKV_OK;
	}
	if (!command->run)
		return no_part(command, argc > 2 ? argv[2] : NULL);
	return command->run(argc - words, argv + words);
}

int main(int argc, char **argv)
{
	int rc = dispatch(argc, argv);
	/* A full disk must not look like success. */
	if ((fflush(stdout) || ferror(stdout)) && rc == IKV_OK) {
		fputs("intentkv: writing the output failed\n", stderr);
		return IKV_IO;
	}
	return rc;
}

/* The program: finds the subcommand and hands over. Only main exits. */
#include <stdio.h>
#include <string.h>
#include "config.h"
#include "sim/command.h"

const struct command commands[] = {
    {"run", "play a scenario and record it", cmd_run, cmd_run_help},
    {"sweep", "play many points of a scenario, on all cores or many machines", cmd_sweep, cmd_sweep_help},
    {"merge", "copy the runs of other databases into one", cmd_merge, cmd_merge_help},
    {"runs", "list the runs of a database, or their canonical hashes", cmd_runs, cmd_runs_help},
    {"query", "ask a database: named queries or SQL", cmd_query, cmd_query_help},
    {"db", "check, copy and export a database", cmd_db, cmd_db_help},
    {"plot", "draw figures from a database", cmd_plot, cmd_plot_help},
    {"report", "one HTML file about runs, to show and to keep", cmd_report, cmd_report_help},
    {"compare", "two runs, paired by session and step", cmd_compare, cmd_compare_help},
    {"explain", "why a block was read or not at a step", cmd_explain, cmd_explain_help},
    {"route", "route one layout and print the kernel metadata", cmd_route, cmd_route_help},
    {"import", "read a trace and write it as sessions", cmd_import, cmd_import_help},
    {"lint", "say what is wrong with a trace", cmd_lint, cmd_lint_help},
    {"mrc", "miss-ratio curves of a trace, by residency policy", cmd_mrc, cmd_mrc_help},
    {"trace-stats", "lengths, turns, reuse and roles of a trace; fit a profile", cmd_trace_stats,
     cmd_trace_stats_help},
    {"generate", "draw sessions from a profile and write them", cmd_generate, cmd_generate_help},
    {"size", "bytes of a KV cache by model and format", cmd_size, cmd_size_help},
    {"list", "list policies, formats, models and their options", cmd_list, cmd_list_help},
    {"check", "check scenarios without running them", cmd_check, cmd_check_help},
    {"doctor", "say what this machine and build can do", cmd_doctor, cmd_doctor_help},
    {"bench", "measure policies, attention and formats on this machine", cmd_bench, cmd_bench_help},
    {"completion", "print a script that completes in bash or zsh", cmd_completion, cmd_completion_help},
    {"calibrate", "fit the cost model to this machine's measured attention", cmd_calibrate, cmd_calibrate_help},
    {.name = NULL},
};

static void help(FILE *f)
{
	fputs("intentkv: which KV blocks to read, at what precision, from which tier, and what that costs\n\n"
	      "  intentkv run scenarios/quickstart.yaml      play a scenario; leaves a database and plots\n"
	      "  intentkv query results/quickstart.db        its tables\n"
	      "  intentkv list routers                       what can be chosen\n\n"
	      "commands:\n",
	      f);
	for (const struct command *c = commands; c->name; c++)
		fprintf(f, "  %-12s %s\n", c->name, c->summary);
	fputs("\n`intentkv COMMAND --help` says more; docs/ has the rest.\n", f);
}

static int unknown_command(const char *name)
{
	const char *names[32];
	size_t n = 0;
	for (const struct command *c = commands; c->name; c++)
		names[n++] = c->name;
	const char *near = ikv_nearest(name, names, n);
	if (near)
		return command_usage(NULL, "no command \"%s\"; did you mean \"%s\"?", name, near);
	return command_usage(NULL, "no command \"%s\"", name);
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		help(stderr);
		return IKV_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		help(stdout);
		return IKV_OK;
	}
	if (!strcmp(argv[1], "--version")) {
		puts(PACKAGE_STRING);
		return IKV_OK;
	}
	for (const struct command *c = commands; c->name; c++) {
		if (strcmp(c->name, argv[1]) != 0)
			continue;
		for (int i = 2; i < argc && strcmp(argv[i], "--") != 0; i++) {
			if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
				fputs(c->help, stdout);
				return IKV_OK;
			}
		}
		return c->run(argc - 1, argv + 1);
	}
	return unknown_command(argv[1]);
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

/* intentkv plot: figures of a result database by gnuplot. Each leaves its script, its data and its picture. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/figure.h"

static const struct command_option options[] = {
    {"list", 'l', NULL, NULL, NULL, "show the figures and the queries that they show; needs no database"},
    {"output", 'o', "FOLDER", "/", "figures", "folder, made if absent"},
    {"term", 't', "TERM", "svg png pdf dumb", "svg",
     "form of the pictures; dumb draws with characters and prints them too"},
    COMMAND_RUNS,
    {.name = NULL},
};

const struct command command_plot = {
    .name = "plot",
    .summary = "draw figures of a result database (default: all)",
    .arguments = "DB [FIGURE]...",
    .words = {"*.db", "<figures>"},
    .examples = "intentkv plot results/quickstart.db -o figures\n"
		"intentkv plot results/quickstart.db pareto roles --run all --term pdf\n"
		"intentkv plot results/quickstart.db hit-rate --term dumb\n",
    .about =
	"Each leaves FIGURE.gp, FIGURE.tsv and the picture; `gnuplot FIGURE.gp` in that folder draws it again.\n",
    .options = options,
    .run = cmd_plot,
};

/* What a dumb terminal drew, on stdout. */
static int show(const struct figure *fig, const char *folder)
{
	char path[4096], buf[4096];
	size_t n;
	snprintf(path, sizeof path, "%s/%s.txt", folder, fig->plot.name);
	FILE *f = fopen(path, "re");
	if (!f)
		return plot_fail(IKV_IO, path, strerror(errno));
	while ((n = fread(buf, 1, sizeof buf, f)) > 0)
		for (size_t i = 0; i < n; i++)
			if (buf[i] != '\f')
				putchar(buf[i]);
	fclose(f);
	return 0;
}

static int make(const struct figure *fig, const char *db, const char *folder, const char *terminal, const char *run,
		bool *drawn)
{
	bool dumb = strcmp(terminal, "dumb") == 0;
	int rc = figure_make(fig, db, folder, terminal, run, drawn);
	bool picture = rc == 0 && *drawn && plot_program();
	if (picture && dumb)
		rc = show(fig, folder);
	if (picture && rc == 0)
		printf("%s/%s.%s\n", folder, fig->plot.name, plot_ending(terminal));
	return rc;
}

/* Those named, or all; what the runs have no data for is told in one line. */
static int make_all(char **names, int count, const char *db, const char *folder, const char *terminal,
		    const char *run)
{
	char left_out[1000] = "";
	size_t used = 0;
	int rc = 0;
	for (const struct figure *f = figures; f->query && rc == 0; f++) {
		bool wanted = count == 0, drawn = true;
		for (int i = 0; i < count; i++)
			wanted |= strcmp(names[i], f->plot.name) == 0;
		if (wanted)
			rc = make(f, db, folder, terminal, run, &drawn);
		if (rc == 0 && !drawn && used < sizeof left_out)
			used += (size_t)snprintf(left_out + used, sizeof left_out - used, "%s%s", used ? ", " : "",
						 f->plot.name);
	}
	if (used)
		fprintf(stderr, "intentkv: the runs have no data for: %s\n", left_out);
	return rc || plot_program() ? rc : plot_missing(folder);
}

static int list(void)
{
	for (const struct figure *f = figures; f->query; f++)
		printf("%-16s  %-22s  %s%s\n", f->plot.name, f->query, f->plot.title,
		       f->sweep ? " (suits sweeps)" : "");
	return fflush(stdout) == 0 ? 0 : IKV_IO;
}

static bool is_terminal(const char *name)
{
	for (int i = 0; i < PLOT_TERMINALS; i++)
		if (strcmp(name, plot_terminals[i]) == 0)
			return true;
	return false;
}

int cmd_plot(int argc, char **argv)
{
	struct command_line line;
	const char *folder = "figures", *terminal = "svg", *run = NULL;
	int c;
	command_begin(&line, &command_plot, argc, argv);
	while ((c = command_next(&line)) != -1) {
		switch (c) {
		case 'l':
			return list();
		case 'o':
			folder = optarg;
			break;
		case 't':
			terminal = optarg;
			break;
		case 'r':
			run = optarg;
			break;
		default:
			return IKV_USAGE;
		}
	}
	if (!is_terminal(terminal))
		return command_usage("plot", "--term: got \"%.40s\", expected svg, png, pdf or dumb", terminal);
	if (optind >= argc)
		return command_usage("plot", "no database given");
	const char *db = argv[optind++];
	for (int i = optind; i < argc; i++)
		if (!figure_find(argv[i]))
			return IKV_USAGE;
	int rc = run ? command_find_runs(db, run) : 0;
	if (rc == 0)
		rc = plot_folder(folder);
	if (rc == 0)
		rc = make_all(argv + optind, argc - optind, db, folder, terminal, run);
	return rc ? rc : fflush(stdout) == 0 ? 0 : IKV_IO;
}

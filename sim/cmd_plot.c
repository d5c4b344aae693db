/* intentkv plot: figures of a result database by gnuplot. Each leaves its script, its data and its picture. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "db/store.h"
#include "sim/command.h"
#include "sim/plot.h"

const char cmd_plot_help[] =
    "Usage: intentkv plot DB [FIGURE]... [-o FOLDER] [--type svg|png] [--run RUN]\n"
    "Draw figures (default: all). Each leaves FIGURE.gp, FIGURE.tsv and FIGURE.svg or .png in FOLDER;\n"
    "`gnuplot FIGURE.gp` in that folder draws it again.\n"
    "  -l, --list         show the figures\n"
    "  -o, --output DIR   folder, made if absent (default: plots)\n"
    "  -t, --type TYPE    svg (default) or png\n"
    "  -r, --run RUN      a run's number or name, or all (default: the newest runs of the last scenario)\n";

struct figure {
	struct plot plot;
	const char *query;
};
static const struct figure figures[] = {
    {{"hit-rate", "Fast-tier hit rate over decode steps", "plots/hit-rate.gp"}, "hit-rate"},
    {{"bytes-error", "Bytes read and output error of each run", "plots/bytes-error.gp"}, "plot-bytes-error"},
    {{"mass-bytes", "Recalled attention mass against bytes read", "plots/mass-bytes.gp"}, "plot-mass-bytes"},
    {{"formats", "Formats of the stored pages over decode steps", "plots/formats.gp"}, "formats"},
    {{"model-measured", "Modelled against measured attention time", "plots/model-measured.gp"},
     "plot-model-measured"},
};
#define FIGURES (sizeof figures / sizeof *figures)

static int write_data(const struct figure *fig, const char *path, const char *db, const char *run)
{
	struct ikv_err err;
	char param[300];
	const char *params[] = {param};
	struct store_query query = {
	    .name = fig->query, .params = params, .format = STORE_GNUPLOT, .time_limit_s = 300};
	if (run) {
		snprintf(param, sizeof param, "run=%s", run);
		query.param_count = 1;
	}
	FILE *f = fopen(path, "we");
	if (!f)
		return plot_fail(IKV_CANT_CREATE, path, strerror(errno));
	int rc = 0;
	if (store_query_run(db, &query, f, &err) != 0)
		rc = command_fail(&err);
	int rc2 = plot_finish(f, path);
	return rc ? rc : rc2;
}

static int make(const struct figure *fig, const char *db, const char *folder, const char *type, const char *run)
{
	char data[4096], script[4096], picture[4096];
	struct stat st;
	if (snprintf(data, sizeof data, "%s/%s.tsv", folder, fig->plot.name) >= (int)sizeof data ||
	    snprintf(script, sizeof script, "%s/%s.gp", folder, fig->plot.name) >= (int)sizeof script ||
	    snprintf(picture, sizeof picture, "%s/%s.%s", folder, fig->plot.name, type) >= (int)sizeof picture)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	int rc = write_data(fig, data, db, run);
	if (rc)
		return rc;
	if (stat(data, &st) == 0 && st.st_size == 0) {
		fprintf(stderr, "intentkv: %s: the runs have no data for it; left out\n", fig->plot.name);
		/* What an earlier call drew there would pass for a figure of these runs. */
		unlink(data);
		unlink(script);
		unlink(picture);
		return 0;
	}
	rc = plot_script(&fig->plot, script, type);
	if (rc == 0)
		rc = plot_draw(&fig->plot, folder);
	if (rc == 0)
		printf("%s/%s.%s\n", folder, fig->plot.name, type);
	return rc;
}

static const struct figure *find(const char *name)
{
	const char *names[FIGURES];
	for (size_t i = 0; i < FIGURES; i++) {
		names[i] = figures[i].plot.name;
		if (strcmp(name, names[i]) == 0)
			return &figures[i];
	}
	const char *near = ikv_nearest(name, names, FIGURES);
	fprintf(stderr, "intentkv: there is no figure \"%s\"%s%s%s\n", name, near ? "; did you mean \"" : "",
		near ? near : "", near ? "\"?" : "; --list shows them");
	return NULL;
}

static int list(void)
{
	for (size_t i = 0; i < FIGURES; i++)
		printf("%-16s  %s\n", figures[i].plot.name, figures[i].plot.title);
	return fflush(stdout) == 0 ? 0 : IKV_IO;
}

int cmd_plot(int argc, char **argv)
{
	static const struct option options[] = {
	    {"list", no_argument, NULL, 'l'},       {"output", required_argument, NULL, 'o'},
	    {"type", required_argument, NULL, 't'}, {"run", required_argument, NULL, 'r'},
	    {"help", no_argument, NULL, 'h'},       {0}};
	const char *folder = "plots", *type = "svg", *run = NULL;
	int c, rc = 0;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":lo:t:r:h", options, NULL)) != -1) {
		switch (c) {
		case 'l':
			return list();
		case 'o':
			folder = optarg;
			break;
		case 't':
			type = optarg;
			break;
		case 'r':
			run = optarg;
			break;
		case 'h':
			fputs(cmd_plot_help, stdout);
			return 0;
		default:
			return command_option("plot", argv, options, c);
		}
	}
	if (strcmp(type, "svg") != 0 && strcmp(type, "png") != 0)
		return plot_fail(IKV_USAGE, "--type", "expected svg or png");
	if (optind >= argc)
		return plot_fail(IKV_USAGE, "plot", "no database given; see intentkv plot --help");
	const char *db = argv[optind++];
	for (int i = optind; i < argc; i++)
		if (!find(argv[i]))
			return IKV_USAGE;
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return plot_fail(IKV_CANT_CREATE, folder, strerror(errno));
	for (int i = optind; i < argc && rc == 0; i++)
		rc = make(find(argv[i]), db, folder, type, run);
	for (size_t i = 0; optind == argc && i < FIGURES && rc == 0; i++)
		rc = make(&figures[i], db, folder, type, run);
	return rc ? rc : fflush(stdout) == 0 ? 0 : IKV_IO;
}

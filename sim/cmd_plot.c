/* intentkv plot: figures of a result database by gnuplot. Each leaves its script, its data and its picture. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "db/store.h"
#include "sim/command.h"
#include "sim/datadir.h"

const char cmd_plot_help[] =
    "Usage: intentkv plot DB [FIGURE]... [-o FOLDER] [--type svg|png] [--run RUN]\n"
    "Draw figures (default: all). Each leaves FIGURE.gp, FIGURE.tsv and FIGURE.svg or .png in FOLDER;\n"
    "`gnuplot FIGURE.gp` in that folder draws it again.\n"
    "  -l, --list         show the figures\n"
    "  -o, --output DIR   folder, made if absent (default: plots)\n"
    "  -t, --type TYPE    svg (default) or png\n"
    "  -r, --run RUN      a run's number or name, or all (default: the newest runs of the last scenario)\n";

struct figure {
	const char *name, *title, *query, *script;
};
static const struct figure figures[] = {
    {"hit-rate", "Fast-tier hit rate over decode steps", "hit-rate", "plots/hit-rate.gp"},
    {"bytes-error", "Bytes read and output error of each run", "plot-bytes-error", "plots/bytes-error.gp"},
    {"mass-bytes", "Recalled attention mass against bytes read", "plot-mass-bytes", "plots/mass-bytes.gp"},
    {"formats", "Formats of the stored pages over decode steps", "formats", "plots/formats.gp"},
    {"model-measured", "Modelled against measured attention time", "plot-model-measured", "plots/model-measured.gp"},
};
#define FIGURES (sizeof figures / sizeof *figures)

static int fail(int status, const char *path, const char *what)
{
	fprintf(stderr, "intentkv: %s: %s\n", path, what);
	return status;
}

static int finish(FILE *f, const char *path)
{
	int bad = fflush(f) != 0 || ferror(f);
	bad |= fclose(f) != 0;
	return bad ? fail(IKV_IO, path, "cannot write") : 0;
}

static int append(FILE *out, const char *relative)
{
	char path[4096], buf[4096];
	size_t n;
	if (!datadir_find(relative, path, sizeof path))
		return fail(IKV_UNAVAILABLE, relative, "not found; set INTENTKV_DATADIR to the data folder");
	FILE *in = fopen(path, "re");
	if (!in)
		return fail(IKV_IO, path, strerror(errno));
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		fwrite(buf, 1, n, out);
	fclose(in);
	return 0;
}

/* Only names of this file's table enter the script; everything from the database is in the data file. */
static int write_script(const struct figure *fig, const char *path, const char *type)
{
	FILE *f = fopen(path, "we");
	if (!f)
		return fail(IKV_CANT_CREATE, path, strerror(errno));
	fprintf(f, "# %s. Run as it is: gnuplot %s.gp\n", fig->title, fig->name);
	fprintf(f, "data = '%s.tsv'\n", fig->name);
	if (strcmp(type, "png") == 0)
		fprintf(f, "set terminal pngcairo noenhanced size 1000,600 font 'sans,11' background '#ffffff'\n");
	else
		fprintf(f, "set terminal svg noenhanced size 1000,600 font 'sans,12' background '#ffffff'\n");
	fprintf(f, "set output '%s.%s'\nplot_title = '%s'\nset title plot_title noenhanced\n", fig->name, type,
		fig->title);
	int rc = append(f, "plots/style.gp");
	if (rc == 0)
		rc = append(f, fig->script);
	int rc2 = finish(f, path);
	return rc ? rc : rc2;
}

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
		return fail(IKV_CANT_CREATE, path, strerror(errno));
	int rc = 0;
	if (store_query_run(db, &query, f, &err) != 0)
		rc = command_fail(&err);
	int rc2 = finish(f, path);
	return rc ? rc : rc2;
}

/* No shell: the program and its one argument. The pipe tells a failed exec from a failed gnuplot. */
static int draw(const struct figure *fig, const char *folder)
{
	char script[100];
	int fds[2], status, problem = 0;
	snprintf(script, sizeof script, "%s.gp", fig->name);
	if (pipe2(fds, O_CLOEXEC) != 0)
		return fail(IKV_FAILED, "pipe", strerror(errno));
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		if (chdir(folder) == 0)
			execlp("gnuplot", "gnuplot", script, (char *)NULL);
		problem = errno;
		_exit(write(fds[1], &problem, sizeof problem) > 0 ? 127 : 126);
	}
	close(fds[1]);
	bool ran = pid > 0 && read(fds[0], &problem, sizeof problem) == 0;
	close(fds[0]);
	if (pid < 0)
		return fail(IKV_FAILED, "fork", strerror(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!ran) {
		fprintf(stderr, "intentkv: gnuplot: %s; %s/%s.gp and .tsv are there to be drawn elsewhere\n",
			strerror(problem), folder, fig->name);
		return IKV_UNAVAILABLE;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return fail(IKV_FAILED, script, "gnuplot failed");
	return 0;
}

int command_draw(const char *name, const char *title, const char *script, const char *folder, const char *type)
{
	const struct figure fig = {name, title, NULL, script};
	char path[4096];
	if (snprintf(path, sizeof path, "%s/%s.gp", folder, name) >= (int)sizeof path)
		return fail(IKV_USAGE, folder, "the path is too long");
	int rc = write_script(&fig, path, type);
	return rc ? rc : draw(&fig, folder);
}

static int make(const struct figure *fig, const char *db, const char *folder, const char *type, const char *run)
{
	char data[4096], script[4096], picture[4096];
	struct stat st;
	if (snprintf(data, sizeof data, "%s/%s.tsv", folder, fig->name) >= (int)sizeof data ||
	    snprintf(script, sizeof script, "%s/%s.gp", folder, fig->name) >= (int)sizeof script ||
	    snprintf(picture, sizeof picture, "%s/%s.%s", folder, fig->name, type) >= (int)sizeof picture)
		return fail(IKV_USAGE, folder, "the path is too long");
	int rc = write_data(fig, data, db, run);
	if (rc)
		return rc;
	if (stat(data, &st) == 0 && st.st_size == 0) {
		fprintf(stderr, "intentkv: %s: the runs have no data for it; left out\n", fig->name);
		/* What an earlier call drew there would pass for a figure of these runs. */
		unlink(data);
		unlink(script);
		unlink(picture);
		return 0;
	}
	rc = write_script(fig, script, type);
	if (rc == 0)
		rc = draw(fig, folder);
	if (rc == 0)
		printf("%s/%s.%s\n", folder, fig->name, type);
	return rc;
}

static const struct figure *find(const char *name)
{
	const char *names[FIGURES];
	for (size_t i = 0; i < FIGURES; i++) {
		names[i] = figures[i].name;
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
		printf("%-16s  %s\n", figures[i].name, figures[i].title);
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
		return fail(IKV_USAGE, "--type", "expected svg or png");
	if (optind >= argc)
		return fail(IKV_USAGE, "plot", "no database given; see intentkv plot --help");
	const char *db = argv[optind++];
	for (int i = optind; i < argc; i++)
		if (!find(argv[i]))
			return IKV_USAGE;
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return fail(IKV_CANT_CREATE, folder, strerror(errno));
	for (int i = optind; i < argc && rc == 0; i++)
		rc = make(find(argv[i]), db, folder, type, run);
	for (size_t i = 0; optind == argc && i < FIGURES && rc == 0; i++)
		rc = make(&figures[i], db, folder, type, run);
	return rc ? rc : fflush(stdout) == 0 ? 0 : IKV_IO;
}

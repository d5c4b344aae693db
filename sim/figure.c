/* The table of figures, and drawing one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "db/store.h"
#include "sim/command.h"
#include "sim/figure.h"

#define LINES "plots/lines.gp"
#define STACK "plots/stack.gp"
#define DOTS  "plots/dots.gp"

const struct figure figures[] = {
    {{"bytes-error", "Bytes read and output error of each run", "plots/bytes-error.gp", NULL,
      "stored bytes that attention read, and the error of its output against dense FP16", 0},
     "plot-bytes-error",
     true,
     false},
    {{"pareto", "Error against bytes read, with the Pareto front", "plots/pareto.gp", NULL,
      "one mark a run with an error; no policy reads less at less error than the front; the oracle is a bound", 0},
     "plot-pareto",
     false,
     true},
    {{"mass-bytes", "Recalled attention mass against bytes read", "plots/mass-bytes.gp", NULL,
      "one mark a run; a line joins the budgets of a router that has one run at each", 0},
     "plot-mass-bytes",
     false,
     true},
    {{"regret", "Mass missed beyond the oracle, by role", "plots/regret.gp", "plots/panels.gp",
      "against the oracle run of the same budget; left of 0 the router keeps more of a role than the oracle", 0},
     "plot-regret",
     false,
     false},
    {{"roles", "Where the softmax mass lies, and what of it is missed", "plots/roles.gp", "plots/panels.gp",
      "dense softmax mass by role of the tokens, steps where attention ran", 0},
     "plot-roles",
     false,
     false},
    {{"layers", "Recalled mass by layer", "plots/layers.gp", LINES, "executed layers, mean over steps and heads", 0},
     "plot-layers",
     false,
     false},
    {{"error-steps", "Error of the output over decode steps", "plots/error-steps.gp", LINES,
      "means over sessions, steps where attention ran", 0},
     "plot-error-steps",
     false,
     false},
    {{"growth", "Context and selection over decode steps", "plots/growth.gp", NULL,
      "the context of the first run, and the tokens that each run reads of it", 0},
     "plot-growth",
     false,
     false},
    {{"hit-rate", "Fast-tier hit rate over decode steps", "plots/hit-rate.gp", LINES,
      "all sessions of a run together", 0},
     "hit-rate",
     false,
     false},
    {{"memory", "Bytes in the fast tier over decode steps", "plots/memory.gp", LINES,
      "all sessions of a run together, after the step", 0},
     "memory",
     false,
     false},
    {{"formats", "Formats of the stored pages over decode steps", "plots/formats.gp", NULL,
      "share of all pages, all sessions of a run together", 0},
     "formats",
     false,
     false},
    {{"transfer", "Bytes moved a step, by kind of move", "plots/transfer.gp", STACK,
      "between tiers and by re-encoding, mean over steps", 0},
     "plot-transfer",
     true,
     false},
    {{"prefetch", "Pages predicted by the prefetcher", "plots/prefetch.gp", STACK, "mean over steps", 0},
     "plot-prefetch",
     true,
     false},
    {{"time", "Where the modelled time of a step goes", "plots/time.gp", STACK, "mean over steps", 0},
     "plot-time",
     true,
     false},
    {{"tails", "Spread of the modelled time of a step", "plots/tails.gp", DOTS, "percentiles over steps", 0},
     "plot-tails",
     true,
     false},
    {{"speedup", "Speed-up over dense attention", "plots/speedup.gp", DOTS,
      "modelled times of whole steps and of the KV path; measured times of the executed layers", 0},
     "plot-speedup",
     true,
     false},
    {{"wall", "Where the measured time of a step goes", "plots/wall.gp", STACK,
      "of this program on the machine that ran it, mean over the steps that have a part", 0},
     "plot-wall",
     true,
     false},
    {{"model-measured", "Modelled against measured attention time", "plots/model-measured.gp", NULL,
      "steps where attention ran, means of up to 100 parts of a run", 0},
     "plot-model-measured",
     false,
     false},
    {.query = NULL},
};

const struct figure *figure_find(const char *name)
{
	const char *names[64];
	size_t n = 0;
	for (const struct figure *f = figures; f->query; f++) {
		if (strcmp(name, f->plot.name) == 0)
			return f;
		names[n++] = f->plot.name;
	}
	const char *near = ikv_nearest(name, names, n);
	fprintf(stderr, "intentkv: there is no figure \"%.80s\"%s%s%s\n", name, near ? "; did you mean \"" : "",
		near ? near : "", near ? "\"?" : "; --list shows them");
	return NULL;
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
		return plot_fail(IKV_CANT_CREATE, path, strerror(errno));
	int rc = 0;
	if (store_query_run(db, &query, f, &err) != 0)
		rc = command_fail(&err);
	int rc2 = plot_finish(f, path);
	return rc ? rc : rc2;
}

static int lines_of(const char *path)
{
	FILE *f = fopen(path, "re");
	int n = 0;
	for (int c; f && (c = fgetc(f)) != EOF;)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

int figure_make(const struct figure *fig, const char *db, const char *folder, const char *terminal, const char *run,
		bool *drawn)
{
	char data[4096], script[4096], picture[4096];
	struct plot plot = fig->plot;
	struct stat st;
	*drawn = false;
	if (snprintf(data, sizeof data, "%s/%s.tsv", folder, plot.name) >= (int)sizeof data ||
	    snprintf(script, sizeof script, "%s/%s.gp", folder, plot.name) >= (int)sizeof script ||
	    snprintf(picture, sizeof picture, "%s/%s.%s", folder, plot.name, plot_ending(terminal)) >=
		(int)sizeof picture)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	int rc = write_data(fig, data, db, run);
	if (rc)
		return rc;
	if (stat(data, &st) == 0 && st.st_size == 0) {
		/* What an earlier call drew there would pass for a figure of these runs. */
		unlink(data);
		unlink(script);
		unlink(picture);
		return 0;
	}
	plot.rows = fig->by_row ? lines_of(data) - 1 : 0;
	rc = plot_script(&plot, script, terminal);
	if (rc)
		return rc;
	*drawn = true;
	if (!plot_program()) { /* what an earlier call drew is not of these data */
		unlink(picture);
		return 0;
	}
	return plot_draw(&plot, folder);
}

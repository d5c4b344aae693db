/* intentkv report: one HTML file about runs, to be read without this program. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"
#include "sim/command.h"
#include "sim/datadir.h"
#include "sim/output.h"
#include "sim/plot.h"
#include "sim/report.h"

enum { TITLE = 256, NO_PLOTS };
static const struct command_option options[] = {
    {"output", 'o', "FILE", "*.html", NULL, "the page (default: the database's name with .html)"},
    COMMAND_RUNS,
    {"title", TITLE, "TEXT", NULL, NULL, "heading (default: the scenario's name)"},
    {"no-plots", NO_PLOTS, NULL, NULL, NULL, "without figures"},
    {.name = NULL},
};

const struct command command_report = {
    .name = "report",
    .summary = "one HTML file about runs, to show and to keep",
    .arguments = "DB",
    .words = {"*.db"},
    .examples = "intentkv report results/quickstart.db\n"
		"intentkv report sweep.db --run all -o sweep.html\n"
		"intentkv report r.db --run 3,4 --title \"Quest against semantic\"\n",
    .about = "Findings in words, tables that sort, figures, scenario and provenance. It needs no network.\n",
    .options = options,
    .run = cmd_report,
};

struct page {
	struct report report;
	const char *title;
	bool plots;
	char name[300]; /* of the first run's scenario */
	int runs;
	double steps;
};

static int paste(FILE *f, const char *relative)
{
	char path[4096], buf[4096];
	size_t n;
	if (!datadir_find(relative, path, sizeof path))
		return plot_fail(IKV_UNAVAILABLE, relative, "not found; set INTENTKV_DATADIR to the data folder");
	FILE *in = fopen(path, "re");
	if (!in)
		return plot_fail(IKV_IO, path, strerror(errno));
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		fwrite(buf, 1, n, f);
	fclose(in);
	return 0;
}

static int count_run(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct page *p = ctx;
	double steps = report_cell(c, n, "steps")->number;
	(void)err;
	p->runs++;
	p->steps += steps == steps ? steps : 0;
	return 0;
}

/* The scenarios that the runs came from, word for word. */
static int scenario(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct page *p = ctx;
	FILE *f = p->report.f;
	(void)err;
	if (!p->name[0])
		snprintf(p->name, sizeof p->name, "%s", report_cell(c, n, "name")->text);
	if (!f)
		return 0;
	fputs("<details open><summary>", f);
	report_text(f, report_cell(c, n, "path")->text);
	fputs(" <span class=\"soft\">(XXH3-64 ", f);
	report_text(f, report_cell(c, n, "hash")->text);
	fputs(")</span></summary><pre>", f);
	report_text(f, report_cell(c, n, "text")->text);
	fputs("</pre></details>\n", f);
	return 0;
}

static void head(const struct page *p)
{
	FILE *f = p->report.f;
	const char *title = p->title ? p->title : p->name;
	fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<link rel=\"icon\" "
	      "href=\"data:,\">\n<title>",
	      f);
	report_text(f, title);
	fputs("</title>\n<style>\n", f);
}

static int tables(const struct report *r, struct ikv_err *err)
{
	static const char *const all[][3] = {
	    {"summary", "Runs",
	     "Selected and read are shares of dense FP16; recall is softmax mass; sim is modelled, wall measured."},
	    {"best", "Best at each byte budget",
	     "Least error among the runs that read at most so much; the oracle apart."},
	    {"effects", "Effect of each swept setting", "Means over the runs that have a value."},
	    {"regret", "Regret by component",
	     "Against the oracle run of the same budget and settings: points of bytes and mass, "
	     "error, &micro;s of a modelled step."},
	    {"regret-by-role", "Regret by role", "Points of softmax mass missed."},
	    {"by-role", "Roles", "Shares of tokens, of softmax mass and of what was missed, percent."},
	    {"by-layer", "Layers", "Executed layers, means over steps."},
	    {"time", "Modelled time of a step", "&micro;s, mean over steps, for the run's machine profile."},
	    {"wall", "Measured time of a step", "&micro;s, mean over the steps that have a part, executed layers."},
	    {"model-vs-measured", "Modelled beside measured attention",
	     "Modelled for all layers, measured for the executed ones."},
	    {"tails", "Spread over steps", "Percentiles of what is measured or modelled a step."},
	    {"transfer", "Transfers", "MiB over the whole run."},
	    {"prefetch", "Prefetching", "Pages over the whole run."},
	    {"decisions", "Decisions", "By role and rule, where block events were recorded."},
	    {"sessions", "Sessions", "Each session of each run."},
	    {"failures", "Failures", "Runs of the file that did not end well."},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (report_table(r, all[i][0], all[i][1], all[i][2], err) != 0)
			return -1;
	return 0;
}

static int provenance(struct page *p, struct ikv_err *err)
{
	const struct report *r = &p->report;
	fputs("<h2 id=\"scenario\">Scenario and provenance</h2>\n", r->f);
	if (report_select(r, "scenarios", scenario, p, err) != 0 ||
	    report_table(r, "settings", "Settings of all runs",
			 "Those that are not the default, with where they come from.", err) != 0 ||
	    report_table(r, "diff", "Settings in which the runs differ", "A row for each setting and run.", err) !=
		0 ||
	    report_table(r, "env", "Where it ran", "Machine, program and command line.", err) != 0)
		return -1;
	fprintf(r->f, "<p class=\"soft\">Made by %s from <code>", PACKAGE_STRING);
	report_text(r->f, r->db);
	fputs("</code>. Columns are explained by <code>intentkv query DB metrics</code>.</p>\n", r->f);
	return 0;
}

static int body(struct page *p, struct ikv_err *err)
{
	FILE *f = p->report.f;
	fputs("<h1>", f);
	report_text(f, p->title ? p->title : p->name);
	fprintf(f,
		"</h1>\n<p class=\"soft\">%d run%s, %.0f decode steps</p>\n<nav><ul><li><a "
		"href=\"#findings\">Findings</a></li>",
		p->runs, p->runs == 1 ? "" : "s", p->steps);
	fputs("<li><a href=\"#tables\">Tables</a></li>", f);
	if (p->plots)
		fputs("<li><a href=\"#figures\">Figures</a></li>", f);
	fputs("<li><a href=\"#scenario\">Scenario and provenance</a></li></ul></nav>\n<main>\n"
	      "<h2 id=\"findings\">Findings</h2>\n",
	      f);
	if (report_findings(&p->report, err) != 0)
		return command_fail(err);
	fputs("<h2 id=\"tables\">Tables</h2>\n", f);
	if (tables(&p->report, err) != 0)
		return command_fail(err);
	if (p->plots) {
		fputs("<h2 id=\"figures\">Figures</h2>\n", f);
		int rc = report_figures(&p->report);
		if (rc)
			return rc;
	}
	return provenance(p, err) != 0 ? command_fail(err) : 0;
}

static int write_page(struct page *p, struct ikv_err *err)
{
	FILE *f = p->report.f;
	head(p);
	int rc = paste(f, "plots/report.css");
	fputs("</style></head>\n<body>\n", f);
	if (!rc)
		rc = body(p, err);
	fputs("</main>\n<script>\n", f);
	if (!rc)
		rc = paste(f, "plots/report.js");
	fputs("</script>\n</body></html>\n", f);
	return rc;
}

static int make(struct page *p, const char *output)
{
	struct ikv_err err;
	struct output out;
	int rc = p->report.run ? command_find_runs(p->report.db, p->report.run) : 0;
	if (rc)
		return rc;
	if (report_select(&p->report, "summary", count_run, p, &err) != 0 ||
	    report_select(&p->report, "scenarios", scenario, p, &err) != 0)
		return command_fail(&err);
	if (p->runs == 0)
		return command_fail(&(struct ikv_err){IKV_BAD_INPUT, "there are no runs in the database"});
	if (output_apart(output, p->report.db, &err) != 0 || output_open(&out, output, &err) != 0)
		return command_fail(&err);
	p->report.f = out.f;
	rc = write_page(p, &err);
	if (output_close(&out, rc == 0, &err) != 0)
		return command_fail(&err);
	if (rc == 0)
		printf("%s\n", output);
	return rc;
}

int cmd_report(int argc, char **argv)
{
	struct command_line line;
	struct page p = {.plots = true};
	char name[4096];
	const char *output = NULL;
	int c;
	command_begin(&line, &command_report, argc, argv);
	while ((c = command_next(&line)) != -1) {
		switch (c) {
		case 'o':
			output = optarg;
			break;
		case 'r':
			p.report.run = optarg;
			break;
		case TITLE:
			p.title = optarg;
			break;
		case NO_PLOTS:
			p.plots = false;
			break;
		default:
			return IKV_USAGE;
		}
	}
	if (optind + 1 != argc)
		return command_usage("report", "expected one database");
	p.report.db = argv[optind];
	if (!output) {
		size_t n = strlen(p.report.db);
		n -= n > 3 && strcmp(p.report.db + n - 3, ".db") == 0 ? 3 : 0;
		if (snprintf(name, sizeof name, "%.*s.html", (int)n, p.report.db) >= (int)sizeof name)
			return command_usage("report", "%s: the path is too long", p.report.db);
		output = name;
	}
	return make(&p, output);
}

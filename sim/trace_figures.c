#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sim/plot.h"
#include "sim/trace_figures.h"

enum { POINTS = 1000 };

/* Blocks of gnuplot's data form, set apart by two empty lines; the first line of each names the columns. */
static void distribution(FILE *f, const char *name, const struct stat_values *v)
{
	fprintf(f, "%s\tvalue\tshare of values up to it\n", name);
	size_t step = v->count / POINTS + 1;
	for (size_t i = 0; i < v->count; i++)
		if (i + 1 == v->count || i % step == 0)
			fprintf(f, "%s\t%.9g\t%.9g\n", name, v->v[i], (double)(i + 1) / (double)v->count);
}

static void lengths(FILE *f, const struct trace_stats *s)
{
	distribution(f, "input", &s->values[STAT_INPUT]);
	fputs("\n\n", f);
	distribution(f, "output", &s->values[STAT_OUTPUT]);
}

static void turns(FILE *f, const struct trace_stats *s)
{
	distribution(f, "requests a session", &s->values[STAT_TURNS]);
}

static void think(FILE *f, const struct trace_stats *s)
{
	distribution(f, "wait before a request", &s->values[STAT_THINK]);
}

static void reuse(FILE *f, const struct trace_stats *s)
{
	distribution(f, "references of a block", &s->values[STAT_REUSE]);
}

static void roles(FILE *f, const struct trace_stats *s)
{
	fputs("kind\tgiven\tinferred\n", f);
	for (int k = 0; k < IKV_KIND_COUNT; k++) {
		const struct stat_role *r = &s->roles[k];
		if (r->tokens)
			fprintf(f, "%s\t%.9g\t%.9g\n", ikv_kind_name((enum ikv_kind)k),
				(double)r->given / (double)s->role_tokens,
				(double)(r->tokens - r->given) / (double)s->role_tokens);
	}
}

static int make(const struct trace_stats *s, const struct plot *plot, const char *folder, bool data,
		void (*write)(FILE *f, const struct trace_stats *s))
{
	char path[3][4096];
	static const char *const suffixes[] = {"tsv", "gp", "svg"};
	for (int i = 0; i < 3; i++)
		if (snprintf(path[i], sizeof path[i], "%s/%s.%s", folder, plot->name, suffixes[i]) >=
		    (int)sizeof path[i])
			return plot_fail(IKV_USAGE, folder, "the path is too long");
	if (!data) {
		fprintf(stderr, "intentkv: %s: the trace has no data for it; left out\n", plot->name);
		/* What an earlier call drew there would pass for a figure of this trace. */
		for (int i = 0; i < 3; i++)
			unlink(path[i]);
		return 0;
	}
	FILE *f = fopen(path[0], "we");
	if (!f)
		return plot_fail(IKV_CANT_CREATE, path[0], strerror(errno));
	write(f, s);
	int rc = plot_finish(f, path[0]);
	if (!rc)
		rc = plot_script(plot, path[1], "svg");
	if (!rc && plot_program()) {
		rc = plot_draw(plot, folder);
		if (!rc)
			fprintf(stderr, "%s\n", path[2]);
	}
	return rc;
}

int trace_figures(const struct trace_stats *s, const char *folder)
{
	static const struct {
		struct plot plot;
		enum stat_series series; /* that must have values; STAT_SERIES: role tokens */
		void (*write)(FILE *f, const struct trace_stats *s);
	} figures[] = {
	    {{.name = "trace-lengths", .title = "Input and output lengths of requests", .script = "plots/trace-lengths.gp"},
	     STAT_INPUT,
	     lengths},
	    {{.name = "trace-turns", .title = "Requests of a session", .script = "plots/trace-turns.gp"}, STAT_TURNS, turns},
	    {{.name = "trace-think", .title = "Waits before a request", .script = "plots/trace-think.gp"}, STAT_THINK, think},
	    {{.name = "trace-roles", .title = "Tokens by role", .script = "plots/trace-roles.gp"}, STAT_SERIES, roles},
	    {{.name = "trace-reuse", .title = "References of a block", .script = "plots/trace-reuse.gp"}, STAT_REUSE, reuse},
	};
	int rc = plot_folder(folder);
	for (size_t i = 0; !rc && i < sizeof figures / sizeof *figures; i++) {
		enum stat_series series = figures[i].series;
		rc = make(s, &figures[i].plot, folder,
			  series == STAT_SERIES ? s->role_tokens > 0 : s->values[series].count > 0, figures[i].write);
	}
	return rc || plot_program() ? rc : plot_missing(folder);
}

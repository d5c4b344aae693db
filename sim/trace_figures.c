#include "sim/figure.h"
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

int trace_figures(const struct trace_stats *s, const char *folder)
{
	static const struct {
		const char *name, *title, *script;
		enum stat_series series; /* that must have values; STAT_SERIES: role tokens */
		void (*write)(FILE *f, const struct trace_stats *s);
	} figures[] = {
	    {"trace-lengths", "Input and output lengths of requests", "plots/trace-lengths.gp", STAT_INPUT, lengths},
	    {"trace-turns", "Requests of a session", "plots/trace-turns.gp", STAT_TURNS, turns},
	    {"trace-think", "Waits before a request", "plots/trace-think.gp", STAT_THINK, think},
	    {"trace-roles", "Tokens by role", "plots/trace-roles.gp", STAT_SERIES, roles},
	    {"trace-reuse", "References of a block", "plots/trace-reuse.gp", STAT_REUSE, reuse},
	};
	int rc = figure_folder(folder);
	for (size_t i = 0; !rc && i < sizeof figures / sizeof *figures; i++) {
		enum stat_series series = figures[i].series;
		FILE *f;
		if (series == STAT_SERIES ? !s->role_tokens : !s->values[series].count) {
			fprintf(stderr, "intentkv: %s: the trace has no data for it; left out\n", figures[i].name);
			figure_remove(folder, figures[i].name, "svg");
			continue;
		}
		rc = figure_data_open(folder, figures[i].name, &f);
		if (rc)
			break;
		figures[i].write(f, s);
		rc = figure_data_close(folder, figures[i].name, f);
		if (!rc)
			rc = figure_draw(folder, figures[i].name, figures[i].title, figures[i].script, "svg");
	}
	return rc;
}

/* Tables of a report. */
#include <math.h>
#include <string.h>
#include "sim/report.h"

enum { ROWS_MAX = 1000 };

void report_text(FILE *f, const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		switch (*p) {
		case '<':
			fputs("&lt;", f);
			break;
		case '>':
			fputs("&gt;", f);
			break;
		case '&':
			fputs("&amp;", f);
			break;
		case '"':
			fputs("&quot;", f);
			break;
		case '\'':
			fputs("&#39;", f);
			break;
		default:
			if (*p >= 0x20 || *p == '\n' || *p == '\t')
				fputc(*p, f);
		}
	}
}

int report_select(const struct report *r, const char *query, store_row_fn *row, void *ctx, struct ikv_err *err)
{
	char run[300];
	const char *params[] = {run};
	struct store_query q = {.name = query, .params = params, .time_limit_s = 300};
	for (const struct store_named *n = store_queries; n->name && r->run; n++)
		if (strcmp(n->name, query) == 0 && strstr(n->sql, ":run"))
			q.param_count = 1;
	snprintf(run, sizeof run, "run=%s", r->run ? r->run : "");
	return store_select(r->db, &q, row, ctx, err);
}

const struct store_cell *report_cell(const struct store_cell *cells, int count, const char *name)
{
	static const struct store_cell none = {"", "", NAN, false, true};
	for (int i = 0; i < count; i++)
		if (strcmp(cells[i].name, name) == 0)
			return &cells[i];
	return &none;
}

struct table {
	const struct report *r;
	const char *title, *note, *query;
	int rows;
};

/* Columns of run numbers and labels stay text-like; a column is of numbers when its first value is. */
static void head(struct table *t, const struct store_cell *cells, int count)
{
	FILE *f = t->r->f;
	fputs("<h3>", f);
	report_text(f, t->title);
	fprintf(f,
		"</h3>\n<p class=\"soft\">%s</p>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"",
		t->note);
	report_text(f, t->title);
	fputs("\"><table class=\"sorts\"><thead><tr>", f);
	for (int i = 0; i < count; i++) {
		fprintf(f, "<th scope=\"col\"%s><button type=\"button\">",
			cells[i].is_number || cells[i].is_null ? " class=\"n\"" : "");
		report_text(f, cells[i].name);
		fputs("</button></th>", f);
	}
	fputs("</tr></thead><tbody>\n", f);
}

static void number(FILE *f, const struct store_cell *c)
{
	double x = c->number;
	if (x == floor(x) && fabs(x) < 1e15)
		fprintf(f, "<td class=\"n\" data-v=\"%.0f\">%.0f</td>", x, x);
	else
		fprintf(f, "<td class=\"n\" data-v=\"%.17g\">%.5g</td>", x, x);
}

static int add_row(void *ctx, const struct store_cell *cells, int count, struct ikv_err *err)
{
	struct table *t = ctx;
	FILE *f = t->r->f;
	(void)err;
	if (t->rows++ == 0)
		head(t, cells, count);
	if (t->rows > ROWS_MAX)
		return 0;
	fputs("<tr>", f);
	for (int i = 0; i < count; i++) {
		if (cells[i].is_number && isfinite(cells[i].number)) {
			number(f, &cells[i]);
			continue;
		}
		fputs("<td>", f);
		report_text(f, cells[i].text);
		fputs("</td>", f);
	}
	fputs("</tr>\n", f);
	return 0;
}

int report_table(const struct report *r, const char *query, const char *title, const char *note, struct ikv_err *err)
{
	struct table t = {.r = r, .title = title, .note = note, .query = query};
	if (report_select(r, query, add_row, &t, err) != 0)
		return -1;
	if (t.rows == 0)
		return 0;
	fputs("</tbody></table></div>\n", r->f);
	if (t.rows > ROWS_MAX)
		fprintf(r->f,
			"<p class=\"soft\">The first %d of %d rows; <code>intentkv query DB %s</code> has all.</p>\n",
			ROWS_MAX, t.rows, query);
	return 0;
}

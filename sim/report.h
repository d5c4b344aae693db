/* A report of runs: one HTML file with everything in it. */
#ifndef SIM_REPORT_H
#define SIM_REPORT_H

#include <stdio.h>
#include "db/store.h"

struct report {
	FILE *f;
	const char *db, *run; /* run: as for the queries, NULL for the newest */
};

/* Text as HTML: markup escaped, controls left out. */
void report_text(FILE *f, const char *text);
/* Select rows of a named query of the report's runs. */
int report_select(const struct report *r, const char *query, store_row_fn *row, void *ctx, struct ikv_err *err);
/* The cell of that name, or one without a value. */
const struct store_cell *report_cell(const struct store_cell *cells, int count, const char *name);

/* report_table.c: a table that sorts; nothing where the query has no rows. */
int report_table(const struct report *r, const char *query, const char *title, const char *note, struct ikv_err *err);

/* report_findings.c: what the figures say, in words, as list items. */
int report_findings(const struct report *r, struct ikv_err *err);

/* report_figures.c: every figure that has data, as SVG in the page. A missing gnuplot is told in the page.
 * Returns 0 or the exit code, having told what went wrong. */
int report_figures(const struct report *r);

#endif

/* Figures of a result database: each is a named query, a gnuplot script and a caption. */
#ifndef SIM_FIGURE_H
#define SIM_FIGURE_H

#include "sim/plot.h"

struct figure {
	struct plot plot;
	const char *query;
	bool by_row; /* a row a run: the picture grows with them */
	bool sweep;  /* shows how runs of many budgets or settings compare, however many they are */
};
extern const struct figure figures[]; /* NULL name ends it */

const struct figure *figure_find(const char *name);
/* Write FOLDER/NAME.tsv and .gp and draw the picture, if gnuplot is there (plot_program). *drawn is false where the runs have no data for it; what an earlier
 * call left there is removed then. Returns 0 or the exit code; what went wrong is told on stderr. */
int figure_make(const struct figure *fig, const char *db, const char *folder, const char *terminal, const char *run,
		bool *drawn);

#endif

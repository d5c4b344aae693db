/* Figures by gnuplot: NAME.gp, NAME.tsv and the picture lie in one folder, and `gnuplot NAME.gp` there draws it
 * again. What goes wrong is told on stderr; functions return 0 or the exit code. */
#ifndef SIM_PLOT_H
#define SIM_PLOT_H

#include <stdio.h>
#include <intentkv.h>

struct plot { /* names of the program's own tables: they enter the script as they are */
	const char *name, *title;
	const char *script;  /* "plots/NAME.gp" */
	const char *shared;  /* another script after it, or NULL */
	const char *caption; /* one line below the title, or NULL */
	int rows;            /* horizontal rows, for the height of the picture; 0: it does not matter */
};

/* The terminals, and the ending of what each leaves. */
enum plot_terminal { PLOT_SVG, PLOT_PNG, PLOT_PDF, PLOT_DUMB, PLOT_TERMINALS };
extern const char *const plot_terminals[]; /* svg, png, pdf, dumb; NULL ends it */
const char *plot_ending(const char *terminal);

int plot_fail(int status, const char *path, const char *what);
/* Make the folder, and those above it, if they are absent. The one that holds the program's own scripts is refused: figures would replace them. */
int plot_folder(const char *folder);
/* Close a file that was written. */
int plot_finish(FILE *f, const char *path);
/* Write the script: what the figure is, the common style, its own commands. `terminal` is one of
 * plot_terminals. */
int plot_script(const struct plot *p, const char *path, const char *terminal);
/* Is gnuplot there? */
bool plot_program(void);
/* Say that it is not, so that scripts and data alone lie in the folder. Returns IKV_UNAVAILABLE. */
int plot_missing(const char *folder);
/* Run gnuplot on it. Without gnuplot IKV_UNAVAILABLE, and nothing is told: the caller knows how many there are. */
int plot_draw(const struct plot *p, const char *folder);

/* Both, for FOLDER/NAME.tsv that is there. A missing gnuplot is told. */
int plot_make(const struct plot *p, const char *folder, const char *terminal);

#endif

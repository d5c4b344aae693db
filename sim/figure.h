/* Figures by gnuplot. Each leaves its script NAME.gp, its data NAME.tsv and its picture in a folder. What goes wrong
 * is said on stderr; the functions return exit codes. */
#ifndef SIM_FIGURE_H
#define SIM_FIGURE_H

#include <stdio.h>

enum { FIGURE_PATH_BYTES = 4096 };

/* The folder, made if absent. */
int figure_folder(const char *folder);
/* FOLDER/NAME.SUFFIX */
int figure_path(const char *folder, const char *name, const char *suffix, char path[FIGURE_PATH_BYTES]);
/* Open FOLDER/NAME.tsv to be written, and close it. */
int figure_data_open(const char *folder, const char *name, FILE **f);
int figure_data_close(const char *folder, const char *name, FILE *f);
/* Write the script around plots/<script> of the data files, run gnuplot on it, print the picture's path. The data
 * must be there. `type`: svg or png. `title` and `name` enter the script and must be constants of the program. */
int figure_draw(const char *folder, const char *name, const char *title, const char *script, const char *type);
/* Remove what an earlier call left, so that it does not pass for a figure of today's data. */
void figure_remove(const char *folder, const char *name, const char *type);
/* "intentkv: path: what" on stderr; returns `status`. */
int figure_fail(int status, const char *path, const char *what);

#endif

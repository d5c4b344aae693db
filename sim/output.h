/* A file that the user names for a result: it stands there whole, or as it was before. It is written beside its place and
 * then moved there; where the name is that of a device or pipe, which must stay what it is, it is copied to it. A link
 * stays too: what it leads to is replaced. */
#ifndef SIM_OUTPUT_H
#define SIM_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>
#include <intentkv.h>

struct output {
	FILE *f;    /* to write to, and to seek in */
	char *path; /* its place; owned */
	char *part; /* where it is written; owned; NULL: to be copied */
};

int output_open(struct output *o, const char *path, struct ikv_err *err);
/* Is it the very file that is read, which must not be replaced? An error (IKV_USAGE) if so. */
int output_apart(const char *path, const char *input, struct ikv_err *err);
/* Put it in its place if `keep`, and drop it otherwise or after an error. Returns 0 when dropped as wanted. */
int output_close(struct output *o, bool keep, struct ikv_err *err);

#endif

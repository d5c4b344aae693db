/* The roofline of a benchmark: FOLDER/roofline.tsv, its script and picture. Functions return 0 or the exit code, and tell
 * what goes wrong on stderr. */
#ifndef SIM_ROOFLINE_H
#define SIM_ROOFLINE_H

#include <stdio.h>

struct roofline {
	FILE *f; /* NULL: none is wanted */
	const char *folder;
};

/* Begin with the ceilings: `what` they are, 10^9 bytes and 10^9 operations a second. */
int roofline_open(struct roofline *r, const char *folder, const char *what, double gbps, double gflops);
/* A point: its rates in the same units. Nothing where no roofline is wanted. */
void roofline_add(const struct roofline *r, const char *label, double gbps, double gflops);
/* Close and draw it, unless `rc` says that something failed before; that comes back then. */
int roofline_close(struct roofline *r, int rc);

#endif

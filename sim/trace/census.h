/* Which ids occur in a trace, and how often, without holding them all: they are dealt out by their hash to parts,
 * whose content goes to temporary files once there is much of it, and at the end one part is counted after the other.
 * For a trace of n ids it takes the memory of a table of n / 128 ids, and 4 MB. */
#ifndef SIM_TRACE_CENSUS_H
#define SIM_TRACE_CENSUS_H

#include <stdio.h>
#include "sim/trace/id_table.h"

enum { CENSUS_PARTS = 128, CENSUS_PART_IDS = 4096 };

struct census_part {
	uint64_t *ids; /* [CENSUS_PART_IDS], not yet in the file; owned */
	uint32_t count;
	uint64_t spilled;
	FILE *file;
};

struct census { /* starts zeroed */
	struct census_part parts[CENSUS_PARTS];
};

int census_add(struct census *c, uint64_t id, struct ikv_err *err);
/* How many different ids were added. Empties the census. */
int census_distinct(struct census *c, uint64_t *distinct, struct ikv_err *err);
/* Those added at least `least` times, into a set. Empties the census. */
int census_frequent(struct census *c, uint64_t least, struct id_set *out, struct ikv_err *err);
void census_free(struct census *c);

#endif

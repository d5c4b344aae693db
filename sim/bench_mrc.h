/* How fast residency policies are: references a second of a Zipf trace, one thread. */
#ifndef SIM_BENCH_MRC_H
#define SIM_BENCH_MRC_H

#include "sim/mrc.h"

struct bench_mrc_setup {
	uint32_t requests, ids; /* drawn from 1..ids with probability ~ 1 / id */
	uint32_t cache;         /* objects */
	double seconds;         /* a policy runs again until it has taken so long; the fastest counts */
	uint64_t seed;
};
struct bench_mrc_row {
	const char *policy;
	double rate; /* references a second */
	double miss_ratio;
	uint32_t objects; /* that occur in the trace */
};
#define BENCH_MRC_ROWS 16

/* 10 million requests over a million ids, of which some 763,000 occur; a cache of 100,000. */
struct bench_mrc_setup bench_mrc_defaults(void);
/* A Zipf trace with objects of one unit. */
int bench_mrc_trace(const struct bench_mrc_setup *setup, struct ref_trace *t, struct ikv_err *err);
int bench_mrc(const struct bench_mrc_setup *setup, struct bench_mrc_row rows[BENCH_MRC_ROWS], uint32_t *count,
	      struct ikv_err *err);

#endif

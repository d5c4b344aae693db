/* How fast policies alone are: steps a second of each router with scores given, no attention, no model. */
#ifndef SIM_BENCH_POLICIES_H
#define SIM_BENCH_POLICIES_H

#include <intentkv.h>

struct bench_policies_setup {
	uint32_t total_tokens, page_tokens, blocks;
	double pressure;
	double seconds; /* measuring time of a row */
	uint64_t seed;
};

struct bench_policies_row {
	const char *policy;     /* router's name */
	const char *settings;   /* "default" or what differs from it */
	double steps_per_s;     /* one unit per step: decisions and page plan */
	double digest_ns;       /* of one digest of the last plan, per page */
	uint64_t steps;         /* timed ones */
	uint64_t allocations;   /* during the timed steps */
	uint32_t pages;         /* of the last plan */
	uint64_t plan_checksum; /* digest of the last plan */
};
#define BENCH_POLICIES_ROWS 16

/* 128Ki tokens in pages of 16, 64 blocks, pressure 0.5. */
struct bench_policies_setup bench_policies_defaults(void);

/* Time every router with default settings, and `semantic` also under a budget. Writes at most
 * BENCH_POLICIES_ROWS rows and their number; prints nothing. */
int bench_policies_router(const struct bench_policies_setup *setup, struct bench_policies_row *rows, uint32_t *count,
			  struct ikv_err *err);

struct bench_memory_row {
	uint32_t pages, selected; /* of the sequence; of the last plan */
	double step_us;           /* mean of one ikv_memory_act */
	double moves_per_step;
	uint64_t allocations; /* during the timed steps */
};
int bench_policies_memory(const struct bench_policies_setup *setup, struct bench_memory_row *row,
			  struct ikv_err *err);

#endif

/* One decode call: units to jobs, their plans and queries to the device, one launch, answers back. */
#ifndef GPU_DECODE_H
#define GPU_DECODE_H

#include "gpu/pages.h"

struct decode_plan { /* a plan of this call and where its arrays go; units that share one upload it once */
	const struct ikv_plan *plan;
	size_t refs, masks;
};

struct decode_job {
	uint32_t unit, plan, row, heads, kv_head; /* row: of q_len */
	uint64_t limit; /* tokens from this on are not seen */
};

struct decode {
	struct device_buffer in, out, work; /* work: parts, sums of tiles, arrivals */
	struct decode_plan *plans;
	struct decode_job *jobs;
	struct split_job *loads;
	struct split_piece *pieces;
	size_t plans_cap, jobs_cap, loads_cap, pieces_cap;
};

void decode_free(struct decode *d);
/* Units refer to what is there (pages_check), and the device is up to date (pages_upload). */
int decode_run(struct decode *d, struct pages *p, const struct ikv_attn_unit *units, uint32_t count,
	       struct ikv_err *err);

#endif

/* One decode call: units to jobs, their plans and queries to the device, one launch, answers back. */
#ifndef GPU_DECODE_H
#define GPU_DECODE_H

#include "gpu/call.h"
#include "gpu/pages.h"
#include "gpu/selection.h"

struct decode_job {
	uint32_t unit, plan, row, heads, kv_head; /* row: of q_len */
	uint64_t limit; /* tokens from this on are not seen */
};

/* What the device does in a call. Where nothing differs from the call before, the graph made of it is run again;
 * what differs in content alone is in the buffer that is sent. */
struct decode_step {
	struct attend_args args;
	struct attend_config config;
	void *in, *in_device, *out, *out_device, *clock[2];
	size_t in_bytes, out_bytes, lists_at;
	uint32_t jobs, tiles_max, steps;
};

struct decode {
	struct device_buffer in, out, work; /* work: parts, sums of tiles, words */
	struct device_buffer parts;         /* all bits set between calls */
	struct decode_step step;            /* of the graph */
	struct call_graph graph;
	struct split_job *cut;              /* the loads that the pieces are of */
	uint32_t cut_jobs, cut_blocks, cut_warps, cut_pieces, cut_used;
	struct call_plans plans;
	struct decode_job *jobs;
	struct split_job *loads;
	struct split_piece *pieces;
	size_t jobs_cap, loads_cap, pieces_cap, cut_cap;
};

void decode_free(struct decode *d);
/* Units refer to what is there (pages_check), and the device is up to date (pages_upload). `s`: what was chosen on the
 * device, or NULL. */
int decode_run(struct decode *d, struct pages *p, const struct selection *s, const struct ikv_attn_unit *units,
	       uint32_t count, struct ikv_err *err);

#endif

/* One decode call where V aliases K: as in gpu/decode.h, for the kernels of latent attention. */
#ifndef GPU_MLA_DECODE_H
#define GPU_MLA_DECODE_H

#include "gpu/call.h"
#include "gpu/mla.h"
#include "gpu/pages.h"
#include "gpu/split.h"

struct mla_decode_job {
	uint32_t unit, plan, heads, kv_head;
};

struct mla_step { /* what the device does in a call, as struct decode_step */
	struct mla_args args;
	struct mla_config config;
	void *in, *in_device, *out, *out_device, *clock[2];
	size_t in_bytes, out_bytes;
};

struct mla_decode {
	struct device_buffer in, out, work;
	struct mla_step step; /* of the graph */
	struct call_graph graph;
	struct call_plans plans;
	struct mla_decode_job *jobs;
	struct split_job *loads;
	struct split_piece *pieces;
	size_t jobs_cap, loads_cap, pieces_cap;
	bool hopper; /* the kernel with warpgroup instructions */
};

void mla_decode_free(struct mla_decode *d);
/* Units refer to what is there (pages_check), and the device is up to date (pages_upload). */
int mla_decode_run(struct mla_decode *d, struct pages *p, const struct ikv_attn_unit *units, uint32_t count,
		   struct ikv_err *err);

/* A query as the kernels take it, FP16 [MLA_DIM], and its factor. Scaled by a power of two first, so that rounding is
 * relative to its largest channel. */
void mla_query(const float *q, uint32_t d_qk, float scale, uint16_t *rounded, float *factor);

#endif

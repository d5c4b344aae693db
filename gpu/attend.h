/* Between the host side and the kernels: what one launch of attention reads and writes. Every pointer is to device
 * memory. docs/gpu.md describes the scheme. */
#ifndef GPU_ATTEND_H
#define GPU_ATTEND_H

#include <stdint.h>
#include "intentkv/plan.h"

#define ATTEND_HEADS_MAX 16u /* query heads of a job */
#define ATTEND_NONE      UINT32_MAX

/* An entry of a page table: address of the page's first tile, with the format in its low four bits. */
typedef uint64_t attend_entry;

/* Query heads of one unit that share a KV head. */
struct attend_job {
	uint32_t row, heads;        /* of q, out and lse */
	uint32_t tiles;             /* pages of the plan times tiles of a page */
	uint32_t parts, first_part; /* pieces it is cut into; with one, nothing is merged */
	uint32_t pages;
	uint64_t mass; /* of its first page and head in `mass`; heads are `pages` apart. UINT64_MAX: not wanted */
	uint64_t tile_mass; /* the same in tile_mass, heads `tiles` apart */
};

/* Part of a job, done by one block: places [first, end) of its tiles in the order 0, parts, 2 · parts, …, 1,
 * parts + 1, …, so that blocks that work side by side read what lies side by side. A block's segments are a list
 * that begins at the block's index. */
struct attend_segment {
	const struct ikv_page_ref *refs;
	const uint64_t *masks;
	const attend_entry *table; /* of the KV head, entries `stride` apart */
	uint32_t stride;
	uint32_t job, first, end;
	uint32_t row, heads, tiles, parts; /* as in the job */
	uint32_t part, next;               /* next segment, or ATTEND_NONE */
};

struct attend_args {
	const struct attend_segment *segments;
	const struct attend_job *jobs;
	const float *q;    /* [rows][d_qk] */
	float *out;        /* [rows][d_v] */
	float *lse;        /* [rows] */
	float *mass;       /* as the jobs say */
	float *tile_mass;  /* {sum, reference} of each tile and head, as the jobs say */
	float *parts;      /* [parts][heads of a block][padded width] */
	float *part_sums;  /* [parts][heads of a block][2]: reference, sum */
	uint32_t *arrived; /* [jobs], zero before and after a launch */
	uint32_t d_qk, d_v, page_tokens;
	float scale;
	uint32_t stages, stage_bytes; /* of a warp's ring */
};

struct attend_config {
	uint32_t steps; /* tile_steps of the wider of d_qk and d_v */
	uint32_t heads; /* of a block: 8 or 16 */
	uint32_t blocks, warps;
	uint32_t shared; /* bytes of a block, */
};

#ifdef __cplusplus
extern "C" {
#endif

/* Stages that fill a multiprocessor's shared memory with one block. `bulk`: the device has bulk copies;
 * `four_bits`: there are pages of 4-bit codes, whose conversion takes more warps.
 * Returns the stages of a warp's ring, 0 if a block does not fit. */
uint32_t attend_configure(uint32_t steps, uint32_t heads, uint32_t stage_bytes, uint32_t shared_bytes, int bulk,
			  int four_bits, struct attend_config *config);

/* Let the kernels of a width take up to `shared` bytes. Both return a cudaError_t; `stream` is a cudaStream_t. */
int attend_prepare(uint32_t steps, uint32_t shared);
int attend_launch(const struct attend_args *args, const struct attend_config *config, void *stream);

#ifdef __cplusplus
}
#endif
#endif

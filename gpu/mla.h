/* Between the host side and the kernels of latent attention (MLA): one row of up to 576 channels a token, whose first 512 are
 * the value too. Every pointer is to device memory. docs/gpu.md describes the scheme. */
#ifndef GPU_MLA_H
#define GPU_MLA_H

#include <stdbool.h>
#include <stdint.h>
#include "gpu/attend.h"
#include "gpu/mla_tile.h"

#define MLA_OUT     512u /* channels of V at most */
#define MLA_JOB_MAX 128u /* query heads of a job */
#define MLA_SLACK   6.0f /* log2 by which a weight may exceed 1 before the reference moves */
#define MLA_FLOOR   (-1e30f) /* reference before any token */

/* Groups that the kernel of compute capability 9.0 takes at a time. */
#define MLA_STAGE_GROUPS 6u

/* What a piece of a job costs beside its groups, in groups, on an H200: queries, an empty ring, the answer and its
 * joining. A job is cut where that gains more. */
#define MLA_PIECE_GROUPS 80.0

/* Query heads of one unit that share a KV head. */
struct mla_job {
	uint32_t row, heads;        /* of q, out and lse */
	uint32_t parts, first_part; /* pieces it is cut into; with one, nothing is joined */
	uint32_t pages, groups;     /* of its plan */
	uint64_t mass;              /* of its first page and head in `mass`; UINT64_MAX: not wanted */
	uint64_t group_mass;        /* the same in group_mass, heads `groups` apart */
};

/* Groups [first, end) of a job, done by the `width` blocks of a list, each for its share of the heads. A list's
 * segments begin at the list's index. */
struct mla_segment {
	const struct ikv_page_ref *refs;
	const uint64_t *masks;
	const attend_entry *table; /* of the KV head, entries `stride` apart */
	uint32_t stride;
	uint32_t job, first, end;
	uint32_t row, heads, parts; /* as in the job */
	uint32_t part, next;        /* next segment, or ATTEND_NONE */
	uint32_t groups;            /* of the job */
	uint64_t group_mass;        /* as in the job; UINT64_MAX: not wanted */
};

struct mla_args {
	const struct mla_segment *segments;
	const struct mla_job *jobs;
	const uint16_t *q;   /* FP16 [rows][MLA_DIM]: each query times a power of two */
	const float *factor; /* [rows]: from a product to a score in powers of two; positive */
	float *out;          /* [rows][d_v] */
	float *lse;          /* [rows] */
	float *mass;         /* as the jobs say */
	float *group_mass;   /* {sum, reference} of each group and head, as the jobs say */
	float *parts;        /* [parts][width][rows of a block][MLA_OUT] */
	float *part_sums;    /* the same rows: {reference, sum} */
	float *sums;         /* [rows]: {reference, sum} of the whole; where mass is wanted */
	uint32_t d_v, page_groups;
	uint32_t width; /* blocks of a list */
	uint32_t keep;  /* other blocks read the same pages soon: they are to stay in the L2 cache */
};

struct mla_config {
	uint32_t hopper; /* warpgroup instructions; otherwise any device from 8.0 on */
	uint32_t rows;   /* heads of a block */
	uint32_t groups; /* that it takes at a time */
	uint32_t width, lists, jobs;
	uint32_t mass, joins; /* is any mass wanted, is any job cut */
	uint32_t codes; /* may any page have another format than FP16 */
};

/* Blocks of joining from which on they come early, while the last blocks before them end. Where few come, all of them fit on
 * the multiprocessors that are idle at that time, and would do all the work there. */
static inline bool mla_joins_early(const struct mla_config *c)
{
	return c->joins && c->hopper && (uint64_t)c->jobs * c->rows * c->width >= 2048;
}

#ifdef __cplusplus
extern "C" {
#endif

/* Set rows, groups and width for calls whose jobs have up to `heads` heads. */
void mla_configure(uint32_t heads, uint32_t hopper, struct mla_config *config);

/* All return a cudaError_t; `stream` is a cudaStream_t. */
int mla_prepare(uint32_t hopper);
int mla_launch(const struct mla_args *args, const struct mla_config *config, void *stream);

/* The kernel of compute capability 9.0 for pages in FP16 alone, and for any. */
int mla_plain_prepare(void);
int mla_plain_launch(const struct mla_args *args, const struct mla_config *config, void *stream);
int mla_codes_prepare(void);
int mla_codes_launch(const struct mla_args *args, const struct mla_config *config, void *stream);
int mla_portable_prepare(void);
int mla_portable_launch(const struct mla_args *args, const struct mla_config *config, void *stream);

#ifdef __cplusplus
}
#endif
#endif

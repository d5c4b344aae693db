/* Between the host side and the kernels that choose pages: scores by page from summaries on the device, bounds of q·k
 * (Quest, Tang et al. 2024, arXiv 2406.10774) or cosines of means, and the pages with the highest of them, as page
 * references that attend_resolve takes. Every pointer is to device memory. Scores have the same bits as those of the CPU
 * (engine/attn/lanes.h, ikv_page_cosine), and the same pages are chosen (engine/router/pick.h). */
#ifndef GPU_SELECT_H
#define GPU_SELECT_H

#include <stddef.h>
#include <stdint.h>
#include "gpu/attend.h"

#define SELECT_LANES 16u /* of the fixed order of sums */
#define SELECT_CHUNK 64u /* channels a lane's load of 16 bytes covers, all lanes together */
#define COSINE_LANES 8u  /* the same of cosines */
#define COSINE_CHUNK 32u

#ifdef __CUDACC__
#define SELECT_INLINE __host__ __device__ static inline
#else
#define SELECT_INLINE static inline
#endif

/* A page's summary of one KV head has a word a channel. For bounds that is the least value of its keys in the low half
 * and the largest in the high half, both FP16; for cosines their sum, a float. Channels of a lane lie four at a time, so
 * that 16 lanes read 256 bytes, or 8 lanes 128. They are padded with zeros to a multiple of 64. */
SELECT_INLINE uint32_t select_words(uint32_t dim)
{
	return (dim + SELECT_CHUNK - 1) / SELECT_CHUNK * SELECT_CHUNK;
}

SELECT_INLINE uint32_t select_word(uint32_t channel)
{
	return channel / SELECT_CHUNK * SELECT_CHUNK + channel % SELECT_LANES * 4 + channel / SELECT_LANES % 4;
}

SELECT_INLINE uint32_t cosine_word(uint32_t channel)
{
	return channel / COSINE_CHUNK * COSINE_CHUNK + channel % COSINE_LANES * 4 + channel / COSINE_LANES % 4;
}

/* Query heads that share a choice. A page's score is the largest bound over them, or the cosine of their mean. */
struct select_unit {
	const uint32_t *summaries; /* of the sequence and layer: [pages][kv_heads][select_words], words or floats */
	const float *q;            /* [q_count][d_qk], as the caller gave them */
	float *scores;             /* [pages] */
	uint32_t q_first, q_count; /* q_first: of the model */
	uint32_t pages, last;      /* last: tokens of the last page */
	/* Of the choice. Where `budget` is 0 there is none. */
	uint32_t budget;            /* pages, or units of 16 bytes where `table` is given */
	uint32_t first, recent;     /* so many first and newest pages come before all others */
	uint32_t room;              /* references that there is place for; unused ones select nothing */
	const attend_entry *table;  /* [pages][kv_heads], or NULL: a page costs 1 */
	uint32_t kv_first, kv_count; /* whose keys are scored, and whose formats a page costs */
	struct ikv_page_ref *refs;  /* [room], ascending */
	uint32_t *chosen;           /* a bit a page, [(pages + 31) / 32 rounded up to even] */
	uint32_t *count;            /* of references */
};

struct select_args {
	const struct select_unit *units;
	uint32_t count, pages_most, heads_most; /* most of a unit */
	uint32_t multiprocessors;
	uint32_t steps; /* set by select_scores */
	uint32_t group, kv_heads, d_qk, page_tokens;
	uint32_t cost[ATTEND_FORMATS]; /* of a page of one head, in units of 16 bytes */
	uint32_t bytes;                /* budgets are bytes: units have a table */
	uint32_t overlap;              /* begin while the kernel before on the stream ends */
};

#ifdef __cplusplus
extern "C" {
#endif

/* All return a cudaError_t; `stream` is a cudaStream_t. */
int select_scores(const struct select_args *args, void *stream); /* bounds */
int select_cosines(const struct select_args *args, void *stream);
int select_pages(const struct select_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif

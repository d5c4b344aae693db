/* Between the host side and the kernels that choose pages: bounds of q·k by page (Quest, Tang et al. 2024, arXiv
 * 2406.10774) from summaries on the device, and the pages with the highest of them, as page references that
 * attend_resolve takes. Every pointer is to device memory. Bounds have the same bits as those of the CPU
 * (engine/attn/lanes.h), and the same pages are chosen (engine/router/pick.h). */
#ifndef GPU_SELECT_H
#define GPU_SELECT_H

#include <stddef.h>
#include <stdint.h>
#include "gpu/attend.h"

#define SELECT_LANES 16u /* of the fixed order of sums */
#define SELECT_CHUNK 64u /* channels a lane's load of 16 bytes covers, all lanes together */

/* A page's summary of one KV head: a word a channel, the least value of its keys in the low half, the largest in the
 * high half, both FP16; channels of a lane four at a time, so that 16 lanes read 256 bytes. Channels are padded with
 * zeros to a multiple of 64. */
static inline uint32_t select_words(uint32_t dim)
{
	return (dim + SELECT_CHUNK - 1) / SELECT_CHUNK * SELECT_CHUNK;
}

#ifdef __CUDACC__
__host__ __device__
#endif
    static inline uint32_t
    select_word(uint32_t channel)
{
	return channel / SELECT_CHUNK * SELECT_CHUNK + channel % SELECT_LANES * 4 + channel / SELECT_LANES % 4;
}

/* Query heads that share a choice. Its scores are the largest bound over them. */
struct select_unit {
	const uint32_t *summaries; /* of the sequence and layer: [pages][kv_heads][select_words] */
	const float *q;            /* [q_count][d_qk], as the caller gave them */
	float *scores;             /* [pages] */
	uint32_t q_first, q_count; /* q_first: of the model */
	uint32_t pages, last;      /* last: tokens of the last page */
	/* Of the choice. Where `budget` is 0 there is none. */
	uint32_t budget;            /* pages, or units of 16 bytes where `table` is given */
	uint32_t first, recent;     /* so many first and newest pages come before all others */
	uint32_t room;              /* references that there is place for; unused ones select nothing */
	const attend_entry *table;  /* [pages][kv_heads], or NULL: a page costs 1 */
	uint32_t kv_first, kv_count; /* whose formats a page costs */
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

/* Both return a cudaError_t; `stream` is a cudaStream_t. */
int select_scores(const struct select_args *args, void *stream);
int select_pages(const struct select_args *args, void *stream);

#ifdef __cplusplus
}
#endif
#endif

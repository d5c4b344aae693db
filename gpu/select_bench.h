/* Choosing pages, for bench_gpu.c: summaries of random keys, and the launches from them to the lists of tiles. */
#ifndef GPU_SELECT_BENCH_H
#define GPU_SELECT_BENCH_H

#include <stdbool.h>
#include "gpu/select.h"

struct select_bench { /* of one set of inputs; a unit is a KV head of a sequence */
	uint32_t batch, q_heads, kv_heads, dim, pages, page_tokens, chosen, multiprocessors;
	uint32_t *summaries; /* on the device, [batch][pages][kv_heads][select_words] */
	void *rest;          /* units, scores, references, bitmaps, counts */
	float *scores;       /* [units][pages] */
	uint32_t *bits;      /* [units][(pages + 63) / 64 * 2] */
	struct ikv_page_ref *refs; /* [units][chosen] */
	struct attend_list *lists; /* [units] */
	struct select_args args;
};

/* The first row of numbers is set. `q`: [batch][q_heads][dim] on the device; `lists`, too: of other pages, whose references
 * those of the choice replace. Both return a cudaError_t. */
int select_bench_make(struct select_bench *b, const float *q, const struct attend_list *lists, uint64_t seed,
		      void *stream);
/* From scores to the answer of `args`; nothing of it passes the host. */
int select_bench_chain(struct select_bench *b, const struct attend_args *args, const struct attend_config *config,
		       bool overlap, void *stream);
void select_bench_free(struct select_bench *b);
/* After an overlapping chain: does the last unit's choice hold its `chosen` highest scores, with the CPU's bits, and is the
 * answer that of launches that do not overlap? NULL, or what is wrong. */
const char *select_bench_wrong(struct select_bench *b, const struct attend_args *args,
			       const struct attend_config *config, void *stream);

#endif

/* Attention of many query rows that share a KV head: prefill, verification of drafts, decode of MLA.
 *
 * The rows of a KV head are cut into chunks, the plan into pieces; each pair is an item that one thread works through
 * block by block with the queries, sums and decoded rows of K and V in its second-level cache. How units are cut
 * depends on their shapes alone, so neither threads nor other units change a result. */
#ifndef ATTN_WIDE_H
#define ATTN_WIDE_H

#include "attn/crew.h"
#include "attn/flash.h"
#include "quant/wide.h"

struct wide_job { /* a unit */
	const struct ikv_attn_unit *unit;
	uint32_t splits, split_pages;
	size_t rows;   /* query rows of all heads */
	float *acc;    /* [splits][rows][acc_step], with more than one piece */
	double *sums;  /* [splits][rows][2]: largest score, sum of exponentials */
	float *shifts; /* [rows][plan->count]: score that a page's mass is relative to; NULL without mass */
};

struct wide_item {
	uint32_t job, kv_head;
	uint32_t first, heads;   /* heads of the unit that use the KV head */
	uint32_t row, row_count; /* row r of a KV head: query row r / heads, head first + r % heads */
	uint32_t split;
};

struct wide_scratch; /* of a thread */

struct wide {
	struct ikv_geometry g;
	const struct micro_kernels *micro;
	const struct wide_kernels *kernels;
	uint32_t chunk_rows, block_tokens; /* at most so many in a chunk, a block */
	size_t k_step, v_step, acc_step;
	struct wide_job *jobs;
	struct wide_item *items;
	struct wide_scratch *scratch; /* [members], made when first needed */
	float *acc, *shifts;
	double *sums;
	size_t jobs_cap, items_cap, acc_cap, shifts_cap, sums_cap;
	uint32_t job_count, item_count, members;
	uint64_t work; /* multiplications and additions of this call */
	_Atomic uint32_t next;
	flash_locate *locate;
	const void *source;
};

int wide_create(struct wide **out, const struct ikv_geometry *geometry, const struct micro_kernels *micro,
		uint32_t members, struct ikv_err *err);
void wide_destroy(struct wide *w);
/* Where tiles of the call that begins lie. */
void wide_begin(struct wide *w, flash_locate *locate, const void *source);
/* Is this the faster way, or the only one, for a unit? */
bool wide_takes(const struct wide *w, const struct ikv_attn_unit *u);
/* Are all queries of a unit, scaled, finite? */
int wide_check_queries(const struct wide *w, const struct ikv_attn_unit *u, struct ikv_err *err);
/* Take those of the units that wide_takes. Allocates only when a call is larger than all before it. */
int wide_lay_out(struct wide *w, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err);
void wide_run(struct wide *w, struct crew *crew);

int wide_scratch_create(struct wide_scratch **out, const struct wide *w, struct ikv_err *err);
void wide_scratch_destroy(struct wide_scratch *s, uint32_t members);
void wide_attend(const struct wide *w, const struct wide_item *item, uint32_t member);

#endif

/* Inside of the exact store, shared by its files. */
#ifndef ATTN_EXACT_STORE_H
#define ATTN_EXACT_STORE_H

#include "attn/flash.h"
#include "attn/slab.h"

struct exact_list { /* pages of one sequence and layer */
	uint8_t **pages;
	uint32_t count, cap, tokens;
	uint8_t **summaries; /* [count / IKV_SUMMARY_PAGES, rounded up] */
	uint32_t summary_cap;
};

struct exact_work { /* buffers of const calls; one thread at a time uses the object */
	uint32_t threads; /* of all calls; 0: as many as cores */
	float *scores;
	size_t scores_cap;
	struct flash *flash;
	const struct micro_kernels *micro; /* of flash */
	struct tile_shape shape;
	struct ikv_page_ref *pages; /* of a plan of everything */
	uint32_t pages_cap;
};

struct ikv_exact {
	struct ikv_geometry g;
	uint32_t sequences;
	struct exact_list *lists; /* [sequences][layers] */
	struct slab pages;
	size_t v_at; /* bytes into a page */
	/* FP16 [kv_heads][IKV_SUMMARY_PAGES][2][d_qk] minimum and maximum, and at sums_at (bytes)
	 * float [kv_heads][IKV_SUMMARY_PAGES][d_qk] sums. */
	struct slab summaries;
	size_t sums_at;
	struct exact_work *work;
};

const struct exact_list *exact_store_list(const struct ikv_exact *x, uint32_t seq, uint32_t layer);
/* item(context, i) for i < items, by the store's threads; each takes some neighbours at a time. */
int exact_store_each(const struct ikv_exact *x, uint32_t items, void (*item)(void *context, uint32_t i), void *context,
		     struct ikv_err *err);
/* Query heads within the geometry, sequence and layer known. */
int exact_store_check(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
		      struct ikv_err *err);

#endif

/* The attention loop: tiles of 16 tokens in blocks, online softmax in float (Dao et al. 2022, arXiv 2205.14135).
 *
 * A unit's plan is cut by a fixed number of pages and, within a piece, into blocks; a block is worked through for
 * all KV heads of the unit before the next, so that pages are read in the order in which they lie. Neither
 * the number of threads nor which heads a thread takes changes a result. */
#ifndef ATTN_FLASH_H
#define ATTN_FLASH_H

#include "intentkv/attn.h"
#include "quant/micro.h"

struct flash_tile { /* a tile of one KV head, `rows` left to the caller */
	const struct tile_shape *shape;
	struct tile tile;
};

/* Where tile i of a page of a unit's plan (its index there) lies for one KV head. */
typedef void flash_locate(const void *source, const struct ikv_attn_unit *unit, uint32_t kv_head, uint32_t index,
			  uint32_t i, struct flash_tile *out);

struct flash; /* threads and working memory, kept between calls */
int flash_create(struct flash **out, const struct ikv_geometry *geometry, const struct micro_kernels *micro,
		 uint32_t threads, struct ikv_err *err);
void flash_destroy(struct flash *f);
uint32_t flash_threads(const struct flash *f);
/* Units are valid. Allocates only when a call is larger than all before it. */
int flash_attend(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, flash_locate *locate,
		 const void *source, struct ikv_err *err);

#endif

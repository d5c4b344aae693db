/* The attention loop: tiles of 16 tokens in blocks, online softmax in float (Dao et al. 2022, arXiv 2205.14135).
 *
 * A unit's plan is cut by a fixed number of pages and, within a piece, into blocks; a block is worked through for
 * all KV heads of the unit before the next, so that pages are read in the order in which they lie. Neither
 * the number of threads nor which heads a thread takes changes a result. */
#ifndef ATTN_FLASH_H
#define ATTN_FLASH_H

#include "intentkv/attn.h"
#include "quant/micro.h"

struct flash_heads { /* where a tile of one KV head lies, those of the heads after it lie at a fixed distance */
	const struct tile_shape *shape;
	uint32_t heads;           /* of which that is so, the first one included; at least 1 */
	ptrdiff_t k_step, v_step; /* bytes from a head to the next */
};

/* Where tile i of a page of a unit's plan (its index there) lies for one KV head, and the same of the heads after it.
 * `rows` and `ahead` of the tile are left alone. */
typedef void flash_locate(const void *source, const struct ikv_attn_unit *unit, uint32_t kv_head, uint32_t index,
			  uint32_t i, struct tile *tile, struct flash_heads *heads);

/* Rows [16 i, 16 i + 16) of a page that a reference selects. */
static inline uint32_t flash_taken(const struct ikv_plan *p, const struct ikv_page_ref *r, uint32_t i)
{
	uint32_t first = i * TILE_TOKENS, mask = 0xffff;
	if (r->lo > first)
		mask = r->lo - first < TILE_TOKENS ? mask << (r->lo - first) & 0xffff : 0;
	if (r->hi < first + TILE_TOKENS)
		mask &= r->hi > first ? 0xffffu >> (first + TILE_TOKENS - r->hi) : 0;
	if (r->mask != IKV_NO_MASK) /* 16 divides 64: a tile's bits lie in one word */
		mask &= (uint32_t)(p->masks[r->mask + first / 64] >> first % 64);
	return mask & 0xffff;
}

struct flash; /* threads and working memory, kept between calls */
int flash_create(struct flash **out, const struct ikv_geometry *geometry, const struct micro_kernels *micro,
		 uint32_t threads, struct ikv_err *err);
void flash_destroy(struct flash *f);
uint32_t flash_threads(const struct flash *f);
struct crew *flash_crew(const struct flash *f); /* its threads, between calls free for others */
/* Units are valid. `rounded`: of tiles' formats those whose kernels round, so that queries are wanted in other forms, too
 * (FORMAT_BIT).
 * Allocates only when a call is larger than all before it. */
int flash_attend(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, flash_locate *locate,
		 const void *source, uint32_t rounded, struct ikv_err *err);

#endif

/* Items of one size cut from large chunks, with a free list: no allocator call for a freed item's successor. */
#ifndef ATTN_SLAB_H
#define ATTN_SLAB_H

#include <stddef.h>
#include <stdint.h>
#include "intentkv/error.h"

struct slab {
	size_t item_bytes; /* a multiple of 64 */
	void *free;        /* each free item begins with a pointer to the next */
	void **chunks;
	uint32_t count, cap;
	size_t items; /* in all chunks */
};

void slab_init(struct slab *s, size_t item_bytes);
void slab_destroy(struct slab *s);
void *slab_take(struct slab *s, struct ikv_err *err); /* content undefined; 64-byte aligned */
void slab_give(struct slab *s, void *item);

static inline size_t slab_round(size_t bytes)
{
	return (bytes + 63) & ~(size_t)63;
}

#endif

#include <string.h>
#include "attn/geometry.h"
#include "attn/slab.h"
#include "intentkv/alloc.h"

#define CHUNK_BYTES_MIN ((size_t)256 << 10)
#define CHUNK_BYTES_MAX ((size_t)8 << 20)

void slab_init(struct slab *s, size_t item_bytes)
{
	*s = (struct slab){.item_bytes = slab_round(item_bytes)};
}

void slab_destroy(struct slab *s)
{
	for (uint32_t i = 0; i < s->count; i++)
		ikv_free(s->chunks[i]);
	ikv_free(s->chunks);
}

void slab_give(struct slab *s, void *item)
{
	memcpy(item, &s->free, sizeof s->free);
	s->free = item;
}

/* Chunks double what there is, within bounds. */
static int add_chunk(struct slab *s, struct ikv_err *err)
{
	size_t bytes = s->items * s->item_bytes;
	bytes = bytes < CHUNK_BYTES_MIN ? CHUNK_BYTES_MIN : bytes > CHUNK_BYTES_MAX ? CHUNK_BYTES_MAX : bytes;
	size_t n = bytes / s->item_bytes ? bytes / s->item_bytes : 1;
	if (geometry_room(&s->chunks, &s->cap, s->count + 1, sizeof *s->chunks, err))
		return -1;
	uint8_t *chunk = ikv_alloc(n, s->item_bytes, err);
	if (!chunk)
		return -1;
	s->chunks[s->count++] = chunk;
	s->items += n;
	for (size_t i = n; i-- > 0;) /* lowest address first out */
		slab_give(s, chunk + i * s->item_bytes);
	return 0;
}

void *slab_take(struct slab *s, struct ikv_err *err)
{
	if (!s->free && add_chunk(s, err))
		return NULL;
	void *item = s->free;
	memcpy(&s->free, item, sizeof s->free);
	return item;
}

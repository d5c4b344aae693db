/* The attention loop: pages in blocks of tokens, online softmax in float (Dao et al. 2022, arXiv 2205.14135),
 * work cut by a fixed number of pages, so that the result does not depend on the number of threads. */
#ifndef ATTN_FLASH_H
#define ATTN_FLASH_H

#include "intentkv/attn.h"
#include "quant/micro.h"

struct flash_page {
	enum ikv_format format;
	struct codec_rows k, v;
	uint32_t lo, hi;
	const uint64_t *mask; /* NULL: all of [lo, hi) */
};

/* Where page i of a unit's plan lies for one KV head. */
typedef void flash_locate(const void *source, const struct ikv_attn_unit *unit, uint32_t kv_head, uint32_t i,
			  struct flash_page *page);

struct flash; /* threads and working memory, kept between calls */
int flash_create(struct flash **out, const struct ikv_geometry *geometry, uint32_t threads, struct ikv_err *err);
void flash_destroy(struct flash *f);
uint32_t flash_threads(const struct flash *f);
/* Units are valid. Allocates only when a call is larger than all before it. */
int flash_attend(struct flash *f, const struct micro_kernels *micro, const struct ikv_attn_unit *units,
		 uint32_t count, flash_locate *locate, const void *source, struct ikv_err *err);

#endif

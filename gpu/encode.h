/* Between pages.c and the device code of encode.cu: pages from one format to another and new rows into open pages, on
 * the device. Bytes are those that the engine's codecs give (engine/quant), in the order of gpu/gpu_tile.h and, for
 * latent rows, gpu/mla_tile.h. Slots may lie in device memory or in pinned host memory. */
#ifndef GPU_ENCODE_H
#define GPU_ENCODE_H

#include <stdbool.h>
#include <stdint.h>
#include "gpu/attend.h"

struct encode_shape {
	uint32_t page_tokens, d_qk, d_v, steps; /* steps: tile_steps */
	bool latent;                            /* a row is both key and value */
};

struct encode_pair { /* slots of a page of one KV head with their formats */
	attend_entry from, to;
};

struct append_item {                 /* rows for tokens [first, first + tokens) of an FP16 slot */
	uint64_t to;                 /* the slot */
	uint64_t k, v;               /* first row, FP16, on the device */
	uint32_t k_stride, v_stride; /* values from one token's row to the next one's */
	uint32_t first, tokens;
};

/* Formats that the kernel reads and writes; pages of others are re-encoded by the host. */
static inline bool encode_knows(uint32_t format)
{
	return format >= IKV_FMT_FP16 && format <= IKV_FMT_INT4_RESIDUAL;
}

#ifdef __cplusplus
extern "C" {
#endif

/* Both return a cudaError_t; `stream` is a cudaStream_t, `pairs` and `items` lie on the device. Formats of a pair
 * differ. */
int encode_launch(const struct encode_shape *shape, const struct encode_pair *pairs, uint32_t count, void *stream);
/* Rows after the last one of a tile become zero. */
int append_launch(const struct encode_shape *shape, const struct append_item *items, uint32_t count, void *stream);

#ifdef __cplusplus
}
#endif
#endif

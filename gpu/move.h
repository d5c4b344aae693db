/* Between device.c and the device code of move.cu. */
#ifndef GPU_MOVE_H
#define GPU_MOVE_H

#include <stdint.h>

struct move_item { /* `bytes`, a multiple of 8, to `to` */
	uint64_t to;
	uint32_t from, bytes; /* offset in the buffer */
};

#ifdef __cplusplus
extern "C" {
#endif

/* Scatter pieces of a device buffer. Targets do not overlap. Returns a cudaError_t. */
int move_scatter(const void *buffer, const struct move_item *items, uint32_t count, void *stream);

#ifdef __cplusplus
}
#endif
#endif

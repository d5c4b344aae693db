/* Between device.c and the device code of move.cu. */
#ifndef GPU_MOVE_H
#define GPU_MOVE_H

#include <stdint.h>

struct move_item { /* `bytes`, a multiple of 8, to `to` */
	uint64_t to;
	uint32_t from, bytes; /* offset in the buffer */
};

struct gather_item { /* a slot to another one; either may lie in pinned host memory */
	uint64_t from, to;
	uint64_t bytes; /* a multiple of 16 */
};

struct gather_list {
	const struct gather_item *items; /* on the device or in pinned host memory */
	uint32_t count, blocks;          /* blocks: that work on it, 0: as many as the list can use */
};

#ifdef __cplusplus
extern "C" {
#endif

/* Scatter pieces of a device buffer. Targets do not overlap. Returns a cudaError_t. */
int move_scatter(const void *buffer, const struct move_item *items, uint32_t count, void *stream);

/* Both lists at once: `in` and `out` are meant for the two directions of the host link. Returns a cudaError_t. */
int move_gather(const struct gather_list *in, const struct gather_list *out, void *stream);

#ifdef __cplusplus
}
#endif
#endif

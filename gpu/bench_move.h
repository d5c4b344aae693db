/* Times of what moves and re-encodes pages, for `intentkv bench gpu`. */
#ifndef GPU_BENCH_MOVE_H
#define GPU_BENCH_MOVE_H

#include "gpu/bench_gpu.h"
#include "gpu/device.h"

struct move_bench {
	struct device *device;
	void *buffer; /* on the device, `size` bytes of random data */
	uint64_t size;
	uint32_t replays;
	double copy_gbps; /* of a copy on the device */
};

/* The host link by large copies, copies in batches and the copy kernel, by size of the pieces; then re-encoding. */
void move_bench(const struct move_bench *b, gpu_bench_move_row *each, void *context);

#endif

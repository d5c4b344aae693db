/* Times of latent attention, for bench_gpu.c. */
#ifndef GPU_MLA_BENCH_H
#define GPU_MLA_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Random groups of latent rows, of about unit variance. */
int mla_bench_fill(void *groups, uint64_t count, uint32_t format, uint64_t seed, void *stream);
/* Random queries in FP16. */
int mla_bench_queries(uint16_t *q, uint64_t count, uint64_t seed, void *stream);

#ifdef __cplusplus
}
#else
#include "gpu/bench_gpu.h"
#include "gpu/device.h"

struct mla_bench {
	struct device *dev;
	const void *buffer; /* of `size` bytes, for reads */
	uint64_t size;
	double (*read_time)(const void *buffer, uint64_t size, uint64_t bytes);
	const struct gpu_bench_setup *setup;
};

/* The rows of the shapes L1 to L8 that are listed. */
void mla_bench(const struct mla_bench *b, gpu_bench_row *each, void *context);
#endif
#endif

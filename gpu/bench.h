/* Between bench_gpu.c and the device code of bench.cu. All return a cudaError_t; `stream` is a cudaStream_t. */
#ifndef GPU_BENCH_H
#define GPU_BENCH_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Random tiles: values of about unit variance, scales to match. `slots` of `tiles` tiles each. */
int bench_fill(void *tiles, uint64_t count, uint32_t format, uint32_t steps, uint64_t seed, void *stream);
int bench_fill_floats(float *x, uint64_t count, uint64_t seed, void *stream);
/* Summaries of keys (select.h): a word's low half at most its high half. */
int bench_fill_ends(uint32_t *words, uint64_t count, uint64_t seed, void *stream);
/* Read `bytes` once with 16-byte loads, neighbouring threads neighbouring words. */
int bench_read(const void *from, uint64_t bytes, uint32_t multiprocessors, uint32_t *sink, void *stream);
/* Copy `bytes`, a multiple of 16. */
int bench_copy(void *to, const void *from, uint64_t bytes, uint32_t multiprocessors, void *stream);
int bench_nothing(void *stream);
/* FP16 products summed in single precision, by instructions of a warp and of a warpgroup (compute capability 9.0 alone):
 * `rounds` of them, `operations` two a product. */
int bench_products(uint32_t rounds, uint32_t multiprocessors, float *sink, double *operations, void *stream);
int bench_products_hopper(uint32_t rounds, uint32_t multiprocessors, float *sink, double *operations, void *stream);

#ifdef __cplusplus
}
#endif
#endif

// Data for the times of latent attention.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include "gpu/mla_bench.h"
#include "gpu/mla_tile.h"

__device__ static uint32_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return (uint32_t)(x >> 32);
}

// Sum of four uniform numbers: variance 1.
__device__ static uint16_t about_normal(uint64_t x)
{
	uint32_t a = mix(x);
	float sum = (a & 255) + (a >> 8 & 255) + (a >> 16 & 255) + (a >> 24);
	return __half_as_ushort(__float2half((sum - 510) * (1 / 147.8f)));
}

// 16-bit word i of a group.
__device__ static uint16_t word(uint32_t format, uint32_t i, uint64_t x)
{
	uint32_t r = mix(x);
	if (format == IKV_FMT_FP16)
		return about_normal(x);
	if (format == IKV_FMT_FP8) // magnitudes of 8 to 240, no NaN
		return i < 8 ? __half_as_ushort(__float2half(0.008f + (r & 255) * 1e-5f))
			     : (uint16_t)((r & 0x8e8e) | 0x5050 | (r >> 3 & 0x2020));
	if (format == IKV_FMT_INT8)
		return i < 8 ? __half_as_ushort(__float2half(0.013f + (r & 255) * 1e-5f)) : (uint16_t)r;
	i %= mla_chunk_bytes(format) / 2;
	return i >= 32 ? (uint16_t)r : __half_as_ushort(__float2half(i % 2 == 0 ? 0.2f + (r & 255) * 1e-4f : -1.5f - (r & 255) * 1e-3f));
}

__global__ static void fill(uint16_t *to, uint64_t words, uint32_t format, uint32_t group_words, uint64_t seed)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < words; i += (uint64_t)gridDim.x * blockDim.x)
		to[i] = word(format, (uint32_t)(i % group_words), seed + i);
}

int mla_bench_fill(void *groups, uint64_t count, uint32_t format, uint64_t seed, void *stream)
{
	uint32_t words = mla_group_bytes(format) / 2;
	fill<<<2048, 256, 0, (cudaStream_t)stream>>>((uint16_t *)groups, count * words, format, words, seed);
	return cudaGetLastError();
}

__global__ static void fill_queries(uint16_t *q, uint64_t count, uint64_t seed)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < count; i += (uint64_t)gridDim.x * blockDim.x)
		q[i] = about_normal(seed + i);
}

int mla_bench_queries(uint16_t *q, uint64_t count, uint64_t seed, void *stream)
{
	fill_queries<<<512, 256, 0, (cudaStream_t)stream>>>(q, count, seed);
	return cudaGetLastError();
}

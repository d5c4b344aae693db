// Data for `intentkv bench gpu`, and the kernels that measure the device's own limits.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include "gpu/attend_ptx.cuh"
#include "gpu/bench.h"
#include "gpu/gpu_tile.h"

__device__ static uint32_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return (uint32_t)(x >> 32);
}

// Sum of four uniform numbers: variance 1.
__device__ static float about_normal(uint64_t x)
{
	uint32_t a = mix(x);
	float sum = (a & 255) + (a >> 8 & 255) + (a >> 16 & 255) + (a >> 24);
	return (sum - 510) * (1 / 147.8f);
}

__device__ static uint16_t half_bits(float x)
{
	return __half_as_ushort(__float2half(x));
}

// What follows KIVI's codes: a unit, scales and zeros of K, which a page's tiles have in common, scales and zeros of V.
__device__ static uint16_t kivi_param(uint32_t format, uint32_t steps, uint32_t i, uint64_t x)
{
	float step = format == IKV_FMT_KIVI8 ? 0.014f : format == IKV_FMT_KIVI4 ? 0.2f : 1;
	const float unit = step > 0.5f ? 1 : step > 0.1f ? 0.125f : 0x1p-7f;
	if (i < 8)
		return i >= 4 ? 0 : (uint16_t)(__float_as_uint(i < 2 ? 1 / unit : unit) >> i % 2 * 16);
	i -= 8;
	bool of_k = i < 32 * steps, zero = of_k ? i >= 16 * steps : i - 32 * steps >= 16 * tile_groups(steps);
	float part = (mix(of_k ? i : x) & 255) * (1 / 2550.0f);
	return half_bits(zero ? -1.5f - part : step * (1 + part));
}

// 16-bit word i of a tile.
__device__ static uint16_t word(uint32_t format, uint32_t steps, uint32_t i, uint64_t x)
{
	uint32_t kivi = tile_kivi(format), codes = kivi ? kivi * steps : (format == IKV_FMT_INT4 ? 256 : 512) * steps / 2;
	if (format == IKV_FMT_FP16)
		return half_bits(about_normal(x));
	if (format == IKV_FMT_BF16) // 8 significant bits
		return half_bits(about_normal(x)) & 0xfff8;
	if (format == IKV_FMT_SPARSE)
		return i % (160 * steps / 2) < 16 * steps ? (uint16_t)(0x1111 << mix(x) % 4) : half_bits(about_normal(x));
	if (i < codes) {
		uint32_t r = mix(x);
		if (format == IKV_FMT_FP8) // magnitudes of 8 to 240, no NaN
			return (uint16_t)((r & 0x8e8e) | 0x5050 | (r >> 3 & 0x2020));
		return (uint16_t)r;
	}
	if (kivi)
		return kivi_param(format, steps, i - codes, x);
	if (format == IKV_FMT_FP8)
		return half_bits(0.008f + (mix(x) & 255) * 1e-5f);
	if (format == IKV_FMT_INT8)
		return half_bits(0.013f + (mix(x) & 255) * 1e-5f);
	i -= codes; // {scale, zero} of K, scales of V, zeros of V
	bool zero = i < 32 * tile_groups(steps) ? i % 2 : i >= 48 * tile_groups(steps);
	return half_bits(zero ? -1.5f - (mix(x) & 255) * 1e-3f : 0.2f + (mix(x) & 255) * 1e-4f);
}

__global__ static void fill(uint16_t *to, uint64_t words, uint32_t format, uint32_t steps, uint32_t tile_words, uint64_t seed)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < words; i += (uint64_t)gridDim.x * blockDim.x)
		to[i] = word(format, steps, (uint32_t)(i % tile_words), seed + i);
}

int bench_fill(void *tiles, uint64_t count, uint32_t format, uint32_t steps, uint64_t seed, void *stream)
{
	uint32_t bytes = tile_bytes(format, steps);
	fill<<<2048, 256, 0, (cudaStream_t)stream>>>((uint16_t *)tiles, count * bytes / 2, format, steps, bytes / 2, seed);
	return cudaGetLastError();
}

__global__ static void fill_floats(float *to, uint64_t count, uint64_t seed)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < count; i += (uint64_t)gridDim.x * blockDim.x)
		to[i] = about_normal(seed + i);
}

int bench_fill_floats(float *x, uint64_t count, uint64_t seed, void *stream)
{
	fill_floats<<<256, 256, 0, (cudaStream_t)stream>>>(x, count, seed);
	return cudaGetLastError();
}

__global__ static void fill_ends(uint32_t *to, uint64_t count, uint64_t seed)
{
	for (uint64_t i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x; i < count; i += (uint64_t)gridDim.x * blockDim.x) {
		float a = about_normal(seed + 2 * i), b = about_normal(seed + 2 * i + 1);
		to[i] = __half_as_ushort(__float2half(fminf(a, b) - 1)) | (uint32_t)__half_as_ushort(__float2half(fmaxf(a, b) + 1)) << 16;
	}
}

int bench_fill_ends(uint32_t *words, uint64_t count, uint64_t seed, void *stream)
{
	fill_ends<<<2048, 256, 0, (cudaStream_t)stream>>>(words, count, seed);
	return cudaGetLastError();
}

__global__ static void __launch_bounds__(256) read_all(const uint4 *from, uint64_t words, uint32_t *sink)
{
	uint64_t step = (uint64_t)gridDim.x * blockDim.x, i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
	uint32_t sum = 0;
	for (; i + 7 * step < words; i += 8 * step) {
		uint4 x[8];
#pragma unroll
		for (int j = 0; j < 8; j++)
			x[j] = __ldcs(from + i + j * step);
#pragma unroll
		for (int j = 0; j < 8; j++)
			sum ^= x[j].x ^ x[j].y ^ x[j].z ^ x[j].w;
	}
	for (; i < words; i += step) {
		uint4 x = __ldcs(from + i);
		sum ^= x.x ^ x.y ^ x.z ^ x.w;
	}
	if (sum == 0x12345678)
		*sink = sum;
}

int bench_read(const void *from, uint64_t bytes, uint32_t multiprocessors, uint32_t *sink, void *stream)
{
	uint64_t words = bytes / 16, blocks = multiprocessors * 8ull, most = (words + 256 * 8 - 1) / (256 * 8);
	read_all<<<(uint32_t)(blocks < most ? blocks : most), 256, 0, (cudaStream_t)stream>>>((const uint4 *)from, words, sink);
	return cudaGetLastError();
}

__global__ static void __launch_bounds__(256) copy_all(uint4 *to, const uint4 *from, uint64_t words)
{
	uint64_t step = (uint64_t)gridDim.x * blockDim.x, i = blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
	for (; i + 3 * step < words; i += 4 * step) {
		uint4 x[4];
#pragma unroll
		for (int j = 0; j < 4; j++)
			x[j] = __ldcs(from + i + j * step);
#pragma unroll
		for (int j = 0; j < 4; j++)
			__stcs(to + i + j * step, x[j]);
	}
	for (; i < words; i += step)
		to[i] = from[i];
}

int bench_copy(void *to, const void *from, uint64_t bytes, uint32_t multiprocessors, void *stream)
{
	copy_all<<<multiprocessors * 8, 256, 0, (cudaStream_t)stream>>>((uint4 *)to, (const uint4 *)from, bytes / 16);
	return cudaGetLastError();
}

__global__ static void nothing()
{
}

int bench_nothing(void *stream)
{
	nothing<<<1, 32, 0, (cudaStream_t)stream>>>();
	return cudaGetLastError();
}

#define PRODUCT_WARPS 16u

__global__ static void __launch_bounds__(PRODUCT_WARPS * 32) products(uint32_t rounds, float *sink)
{
	float c[8][4] = {};
	uint32_t a[4], b[8], x = threadIdx.x * 2654435761u;
	for (int i = 0; i < 12; i++) { // random numbers of .5 to 2
		x = x * 1664525 + 1013904223;
		(i < 4 ? a[i & 3] : b[(i - 4) & 7]) = (x & 0xbbffbbff) | 0x38003800;
	}
	for (uint32_t r = 0; r < rounds; r++)
#pragma unroll
		for (int i = 0; i < 8; i++)
			matrix_add(c[i], a, b[i], b[(i + 1) % 8]);
	float sum = 0;
	for (int i = 0; i < 8; i++)
		sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
	if (sum == 0.5f)
		*sink = sum;
}

int bench_products(uint32_t rounds, uint32_t multiprocessors, float *sink, double *operations, void *stream)
{
	*operations = 2.0 * 16 * 8 * 16 * 8 * PRODUCT_WARPS * rounds * multiprocessors;
	products<<<multiprocessors, PRODUCT_WARPS * 32, 0, (cudaStream_t)stream>>>(rounds, sink);
	return cudaGetLastError();
}

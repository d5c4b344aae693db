// Cosines of mean query and mean key by page, with the bits of the CPU (ikv_page_cosine, engine/intentkv/scorer.h): double
// precision, eight lanes, products and sums apart.
#include <cuda_runtime.h>
#include "gpu/attend_ptx.cuh"
#include "gpu/select.h"

#define COSINE_THREADS 128u
#define COSINE_PAGES   (COSINE_THREADS / COSINE_LANES) // of a block at once

// lane i and lane i + HALF, HALF = 4, 2, 1; the first lane ends with the sum.
__device__ static double fold(double x)
{
#pragma unroll
	for (uint32_t half = COSINE_LANES / 2; half; half /= 2)
		x = __dadd_rn(x, __shfl_down_sync(~0u, x, half, COSINE_LANES));
	return x;
}

// Sum of the unit's queries in the order of summaries.
__device__ static void sum_queries(const select_unit &u, uint32_t dim, uint32_t words, double *q)
{
	for (uint32_t d = threadIdx.x; d < words; d += COSINE_THREADS) {
		double sum = 0;
		for (uint32_t h = 0; d < dim && h < u.q_count; h++)
			sum = __dadd_rn(sum, (double)u.q[(size_t)h * dim + d]);
		q[cosine_word(d)] = sum;
	}
	__syncthreads();
}

// Eight lanes take a page: lane i the channels i, i + 8, …, four of them with each load of 16 bytes.
__global__ static void __launch_bounds__(COSINE_THREADS) cosines(const __grid_constant__ select_args args)
{
	extern __shared__ double q[];
	let_successor_begin();
	const select_unit u = args.units[blockIdx.y];
	const uint32_t lane = threadIdx.x % COSINE_LANES, words = select_words(args.d_qk);
	if (blockIdx.x * COSINE_PAGES >= u.pages)
		return;
	sum_queries(u, args.d_qk, words, q);
	double own = 0;
	for (uint32_t c = 0; c < words; c += COSINE_CHUNK)
		for (uint32_t e = 0; e < 4; e++) {
			double x = q[c + lane * 4 + e];
			own = __dadd_rn(own, __dmul_rn(x, x));
		}
	const double length = __dsqrt_rn(__shfl_sync(~0u, fold(own), 0, COSINE_LANES));
	const uint32_t step = gridDim.x * COSINE_PAGES;
	for (uint32_t first = blockIdx.x * COSINE_PAGES; first < u.pages; first += step) { // the same for all lanes of a warp
		const uint32_t page = first + threadIdx.x / COSINE_LANES;
		const float4 *sums = reinterpret_cast<const float4 *>(u.summaries) +
				     ((size_t)min(page, u.pages - 1) * args.kv_heads + u.kv_first) * (words / 4) + lane;
		double with = 0, norm = 0;
		for (uint32_t c = 0; c < words / 4; c += COSINE_LANES) {
			double sum[4] = {};
			for (uint32_t h = 0; h < u.kv_count; h++) {
				const float4 x = __ldg(sums + (size_t)h * (words / 4) + c);
				sum[0] = __dadd_rn(sum[0], (double)x.x);
				sum[1] = __dadd_rn(sum[1], (double)x.y);
				sum[2] = __dadd_rn(sum[2], (double)x.z);
				sum[3] = __dadd_rn(sum[3], (double)x.w);
			}
#pragma unroll
			for (uint32_t e = 0; e < 4; e++) {
				with = __dadd_rn(with, __dmul_rn(q[(c + lane) * 4 + e], sum[e]));
				norm = __dadd_rn(norm, __dmul_rn(sum[e], sum[e]));
			}
		}
		with = fold(with);
		norm = __dmul_rn(length, __dsqrt_rn(fold(norm)));
		const double cosine = norm > 0 ? __ddiv_rn(with, norm) : 0;
		if (lane == 0 && page < u.pages)
			u.scores[page] = (float)(cosine < 0 ? 0 : cosine > 1 ? 1 : cosine);
	}
}

int select_cosines(const select_args *args, void *stream)
{
	if (!args->count || !args->pages_most)
		return cudaSuccess;
	const uint32_t groups = (args->pages_most + COSINE_PAGES - 1) / COSINE_PAGES;
	const uint32_t most = 16 * (args->multiprocessors ? args->multiprocessors : 1);
	for (uint32_t i = 0; i < args->count; i += 65535) { // a grid's second side
		select_args own = *args;
		own.units = args->units + i;
		const dim3 grid(min(groups, most), min(args->count - i, 65535u));
		cudaLaunchConfig_t config = {};
		config.gridDim = grid;
		config.blockDim = COSINE_THREADS;
		config.dynamicSmemBytes = select_words(args->d_qk) * sizeof(double);
		config.stream = (cudaStream_t)stream;
		void *list[] = {&own};
		if (int e = cudaLaunchKernelExC(&config, (const void *)cosines, list))
			return e;
	}
	return cudaSuccess;
}

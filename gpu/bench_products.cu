// How many products a device's matrix units make: by warpgroups on compute capability 9.0, whose code no other device runs.
#include <cuda_runtime.h>
#include "gpu/bench.h"
#include "gpu/mla_ptx.cuh"

#define WARPGROUPS 4u
#define SHARED     65536u
#define STEPS      8 // products of 64x128x16 between two waits

#if HAS_BULK
__global__ static void __launch_bounds__(WARPGROUPS * 128) products(uint32_t rounds, float *sink)
{
	extern __shared__ __align__(1024) uint8_t shared[];
	uint32_t at = shared_address(shared), x = threadIdx.x;
	for (uint32_t i = threadIdx.x; i < SHARED / 4; i += blockDim.x) { // random numbers of .5 to 2
		x = x * 1664525 + 1013904223;
		store_word(at + 4 * i, (x & 0xbbffbbff) | 0x38003800);
	}
	publish();
	__syncthreads();
	float o[64];
#pragma unroll
	for (int i = 0; i < 64; i++)
		o[i] = 0;
	uint64_t a = matrix(at, 16, 256, SWIZZLE_32), b = matrix(at + 16384, 1024, 8192, SWIZZLE_128);
	for (uint32_t r = 0; r < rounds; r++) {
		products_begin();
#pragma unroll
		for (int k = 0; k < STEPS; k++)
			weigh(o, a + k * 2048 / 16, b + k * 2048 / 16, 1);
		products_close();
		products_wait<0>();
	}
	results(o);
	float sum = 0;
#pragma unroll
	for (int i = 0; i < 64; i++)
		sum += o[i];
	if (sum == 0.5f)
		*sink = sum;
}
#else
__global__ static void products(uint32_t, float *)
{
}
#endif

int bench_products_hopper(uint32_t rounds, uint32_t multiprocessors, float *sink, double *operations, void *stream)
{
	cudaError_t status = cudaFuncSetAttribute(products, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
	if (status)
		return status;
	*operations = 2.0 * 64 * 128 * 16 * STEPS * WARPGROUPS * rounds * multiprocessors;
	products<<<multiprocessors, WARPGROUPS * 128, SHARED, (cudaStream_t)stream>>>(rounds, sink);
	return cudaGetLastError();
}

// Scatter one uploaded buffer to many places: a copy from the host for each piece would cost microseconds.
#include <cuda_runtime.h>
#include "gpu/move.h"

__global__ static void scatter(const uint8_t *buffer, const move_item *items)
{
	move_item item = items[blockIdx.x];
	const uint8_t *from = buffer + item.from;
	uint8_t *to = reinterpret_cast<uint8_t *>(item.to);
	if ((item.from | item.to | item.bytes) % 16 == 0) {
		for (uint32_t i = threadIdx.x * 16; i < item.bytes; i += blockDim.x * 16)
			*reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(from + i);
		return;
	}
	for (uint32_t i = threadIdx.x * 8; i < item.bytes; i += blockDim.x * 8)
		*reinterpret_cast<uint2 *>(to + i) = *reinterpret_cast<const uint2 *>(from + i);
}

int move_scatter(const void *buffer, const move_item *items, uint32_t count, void *stream)
{
	scatter<<<count, 128, 0, (cudaStream_t)stream>>>((const uint8_t *)buffer, items);
	return cudaGetLastError();
}

// Copies over the host link without a copy engine: a warp takes an item and keeps 4 KB of it under way, so that a few
// blocks fill the link at any size of item from 1 KB up.
constexpr uint32_t GATHER_THREADS = 512, GATHER_WARPS = GATHER_THREADS / 32, AHEAD = 8;

__device__ static void copy_item(const gather_item &item, uint32_t lane)
{
	const uint4 *from = reinterpret_cast<const uint4 *>(item.from);
	uint4 *to = reinterpret_cast<uint4 *>(item.to);
	uint32_t n = (uint32_t)(item.bytes / 16);
	for (uint32_t i = lane; i < n; i += 32 * AHEAD) {
		uint4 x[AHEAD];
#pragma unroll
		for (uint32_t k = 0; k < AHEAD; k++)
			if (i + 32 * k < n)
				x[k] = __ldcs(from + i + 32 * k);
#pragma unroll
		for (uint32_t k = 0; k < AHEAD; k++)
			if (i + 32 * k < n)
				__stcs(to + i + 32 * k, x[k]);
	}
}

__global__ static void __launch_bounds__(GATHER_THREADS) gather(const __grid_constant__ gather_list in,
								 const __grid_constant__ gather_list out)
{
	bool back = blockIdx.x >= in.blocks;
	const gather_list &list = back ? out : in;
	uint32_t warp = (blockIdx.x - (back ? in.blocks : 0)) + threadIdx.x / 32 * list.blocks;
	for (uint32_t i = warp; i < list.count; i += list.blocks * GATHER_WARPS)
		copy_item(list.items[i], threadIdx.x % 32);
}

static gather_list with_blocks(const gather_list *list)
{
	gather_list l = list ? *list : gather_list{};
	uint32_t most = (l.count + GATHER_WARPS - 1) / GATHER_WARPS;
	l.blocks = l.count == 0 ? 0 : !l.blocks ? (l.count < 128 ? l.count : 128) : l.blocks > most ? most : l.blocks;
	return l;
}

int move_gather(const gather_list *in, const gather_list *out, void *stream)
{
	gather_list a = with_blocks(in), b = with_blocks(out);
	if (a.blocks + b.blocks)
		gather<<<a.blocks + b.blocks, GATHER_THREADS, 0, (cudaStream_t)stream>>>(a, b);
	return cudaGetLastError();
}

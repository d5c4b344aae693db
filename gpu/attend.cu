// Choice of the kernel by width and number of heads.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

// Stages of all warps of a block: more bytes under way only wait longer, and some multiprocessors' longer than others'.
#define STAGES_MAX 24u

uint32_t attend_configure(uint32_t steps, uint32_t heads, uint32_t stage_bytes, uint32_t shared_bytes, int bulk,
			  int four_bits, attend_config *c)
{
	for (int more = four_bits; more >= 0; more--) {
		uint32_t warps = attend_warps(steps, heads, more != 0);
		uint32_t n = bulk ? STAGES_MAX / warps : 2; // without bulk copies arrivals are counted: all but the newest
		while (n >= 2 && plan_shared(steps, heads, warps, n, stage_bytes).end > shared_bytes)
			n--;
		if (n < 2)
			continue;
		c->steps = steps;
		c->heads = heads;
		c->warps = warps;
		c->overlap = 0;
		c->shared = plan_shared(steps, heads, warps, n, stage_bytes).end;
		return n;
	}
	return 0;
}

// One thread a tile: what a page reference selects of it, and where it is.
__global__ static void resolve(const attend_list *lists, attend_word *words, uint32_t page_tokens, uint32_t steps)
{
	attend_list list = lists[blockIdx.y];
	uint32_t each = (page_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
	for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < list.tiles; i += gridDim.x * blockDim.x) {
		uint4 ref = __ldg(reinterpret_cast<const uint4 *>(list.refs) + i / each);
		uint64_t entry = list.table[(uint64_t)ref.x * list.stride];
		uint32_t begin = i % each * TILE_TOKENS, lo = ref.y & 0xffff, hi = ref.y >> 16;
		lo = lo > begin ? lo - begin : 0;
		hi = hi > begin ? min(hi - begin, TILE_TOKENS) : 0;
		uint32_t chosen = hi > lo ? (1u << hi) - (1u << lo) : 0;
		if (ref.z != IKV_NO_MASK)
			chosen &= (uint32_t)(__ldg(list.masks + ref.z + begin / 64) >> begin % 64) & 0xffff;
		words[list.first + attend_place(i, list.tiles, list.parts)] =
		    (entry + (uint64_t)(i % each) * tile_bytes(entry & 15, steps)) | (uint64_t)chosen << 48;
	}
}

int attend_resolve(const attend_list *lists, uint32_t count, uint32_t tiles_max, attend_word *words, uint32_t page_tokens,
		   uint32_t steps, void *stream)
{
	uint32_t most = (tiles_max + 255) / 256;
	for (uint32_t i = 0; i < count && most; i += 65535) // a grid's second side
		resolve<<<dim3(most < 64 ? most : 64, count - i < 65535 ? count - i : 65535), 256, 0, (cudaStream_t)stream>>>(
		    lists + i, words, page_tokens, steps);
	return cudaGetLastError();
}

int attend_prepare(uint32_t steps, uint32_t shared)
{
	switch (steps) {
	case 4:
		return attend_prepare_4(shared);
	case 5:
		return attend_prepare_5(shared);
	case 6:
		return attend_prepare_6(shared);
	case 8:
		return attend_prepare_8(shared);
	case 16:
		return attend_prepare_16(shared);
	default:
		return cudaErrorInvalidValue;
	}
}

int attend_launch(const attend_args *args, const attend_config *c, void *stream)
{
	switch (c->steps) {
	case 4:
		return attend_launch_4(args, c, stream);
	case 5:
		return attend_launch_5(args, c, stream);
	case 6:
		return attend_launch_6(args, c, stream);
	case 8:
		return attend_launch_8(args, c, stream);
	case 16:
		return attend_launch_16(args, c, stream);
	default:
		return cudaErrorInvalidValue;
	}
}

// Choice of the kernel by width and number of heads.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

// Is there a kernel for this format alone?
static bool has_own(uint32_t steps, uint32_t heads, uint32_t format)
{
	return (steps == 4 || steps == 8) && heads < 16 && format != 0 && format <= IKV_FMT_INT4_RESIDUAL;
}

// Slots for two tiles of each warp, or as many as fit: more bytes under way only wait longer, and some multiprocessors'
// longer than others'.
static uint32_t slots_that_fit(uint32_t steps, uint32_t heads, uint32_t warps, uint32_t slot_bytes, uint32_t shared_bytes)
{
	for (uint32_t slots = 2 * warps; slots >= 2 * warps - warps / 4; slots--)
		if (plan_shared(steps, heads, warps, slots, slot_bytes).end <= shared_bytes)
			return slots;
	return 0;
}

uint32_t attend_configure(uint32_t steps, uint32_t heads, uint32_t slot_bytes, uint32_t shared_bytes,
			  uint32_t formats, attend_config *c)
{
	uint32_t format = 0, four = 1u << IKV_FMT_INT4 | 1u << IKV_FMT_INT4_RESIDUAL, fp16 = 1u << IKV_FMT_FP16;
	if (formats & 1u << IKV_FMT_BF16) // its tiles hold FP16 numbers
		formats = (formats | fp16) & ~(1u << IKV_FMT_BF16);
	while (format < IKV_FMT_COUNT && formats != 1u << format)
		format++;
	format = format < IKV_FMT_COUNT && has_own(steps, heads, format) ? format : 0;
	bool any = formats >> (IKV_FMT_INT4_RESIDUAL + 1);
	for (int attempt = 0; attempt < 3; attempt++) { // fewer warps where they do not fit
		bool more = !any && attempt < 2 && formats & four;
		uint32_t of = any ? ATTEND_ANY : attempt < 1 ? format : 0, warps = attend_warps(steps, heads, of, more);
		uint32_t slots = slots_that_fit(steps, heads, warps, slot_bytes, shared_bytes);
		if (!slots)
			continue;
		c->steps = steps;
		c->heads = heads;
		c->format = of;
		c->four_bits = more;
		c->warps = warps;
		c->overlap = 0;
		c->shared = plan_shared(steps, heads, warps, slots, slot_bytes).end;
		return slots;
	}
	return 0;
}

// One thread a tile: what a page reference selects of it, and where it is.
__global__ static void resolve(const attend_list *lists, attend_word *words, uint32_t page_tokens, uint32_t steps)
{
	wait_for_predecessor();
	let_successor_begin();
	attend_list list = lists[blockIdx.y];
	uint32_t each = (page_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
	for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < list.tiles; i += gridDim.x * blockDim.x) {
		uint4 ref = reinterpret_cast<const uint4 *>(list.refs)[i / each];
		uint64_t entry = list.table[(uint64_t)ref.x * list.stride];
		uint32_t begin = i % each * TILE_TOKENS, lo = ref.y & 0xffff, hi = ref.y >> 16;
		lo = lo > begin ? lo - begin : 0;
		hi = hi > begin ? min(hi - begin, TILE_TOKENS) : 0;
		uint32_t chosen = hi > lo ? (1u << hi) - (1u << lo) : 0;
		uint64_t position = (uint64_t)ref.x * page_tokens + begin, seen = list.limit > position ? list.limit - position : 0;
		if (seen < TILE_TOKENS)
			chosen &= (1u << seen) - 1;
		if (ref.z != IKV_NO_MASK)
			chosen &= (uint32_t)(__ldg(list.masks + ref.z + begin / 64) >> begin % 64) & 0xffff;
		uint32_t place = attend_place(i, list.tiles, list.parts);
		words[list.first + place] =
		    (entry + (uint64_t)(i % each) * tile_bytes(entry & 15, steps)) | (uint64_t)chosen << 48;
	}
}

int attend_resolve(const attend_list *lists, uint32_t count, uint32_t tiles_max, attend_word *words, uint32_t page_tokens,
		   uint32_t steps, uint32_t overlap, void *stream)
{
	uint32_t most = (tiles_max + 255) / 256;
	cudaLaunchAttribute early = {};
	early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	early.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.blockDim = 256;
	config.stream = (cudaStream_t)stream;
	config.attrs = &early;
	config.numAttrs = overlap ? 1 : 0;
	for (uint32_t i = 0; i < count && most; i += 65535) { // a grid's second side
		config.gridDim = dim3(most < 64 ? most : 64, count - i < 65535 ? count - i : 65535);
		if (int e = cudaLaunchKernelEx(&config, resolve, lists + i, words, page_tokens, steps))
			return e;
	}
	return cudaSuccess;
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

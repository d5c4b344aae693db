// The kernels of one width of heads, ATTEND_STEPS steps of 16 channels.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

#define PASTE(a, b)  a##b
#define NAME(a, b)   PASTE(a, b)

typedef void kernel(const attend_args);

template <int H> static kernel *choose_warps(uint32_t warps)
{
	constexpr uint32_t usual = attend_warps(ATTEND_STEPS, H, false), four_bits = attend_warps(ATTEND_STEPS, H, true);
	return warps == usual ? attend<ATTEND_STEPS, H, usual> : attend<ATTEND_STEPS, H, four_bits>;
}

static kernel *choose(uint32_t heads, uint32_t warps)
{
	return heads == 16 ? choose_warps<16>(warps) : heads == 8 ? choose_warps<8>(warps) : choose_warps<4>(warps);
}

int NAME(attend_prepare_, ATTEND_STEPS)(uint32_t shared)
{
	for (uint32_t heads = 4; heads <= 16; heads *= 2)
		for (int four_bits = 0; four_bits < 2; four_bits++)
			if (int e = cudaFuncSetAttribute(choose(heads, attend_warps(ATTEND_STEPS, heads, four_bits)),
							 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared))
				return e;
	return 0;
}

int NAME(attend_launch_, ATTEND_STEPS)(const attend_args *args, const attend_config *c, void *stream)
{
	cudaLaunchAttribute overlap = {};
	overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	overlap.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = c->blocks;
	config.blockDim = c->warps * 32;
	config.dynamicSmemBytes = c->shared;
	config.stream = (cudaStream_t)stream;
	config.attrs = &overlap;
	config.numAttrs = c->overlap ? 1 : 0;
	return cudaLaunchKernelEx(&config, choose(c->heads, c->warps), *args);
}

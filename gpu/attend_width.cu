// The kernels of one width of heads, ATTEND_STEPS steps of 16 channels.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

#define PASTE(a, b)  a##b
#define NAME(a, b)   PASTE(a, b)

typedef void kernel(const attend_args);

static constexpr uint32_t usual = attend_warps(ATTEND_STEPS, 8, false);
static constexpr uint32_t four_bits = attend_warps(ATTEND_STEPS, 8, true);

static kernel *choose(uint32_t heads, uint32_t warps)
{
	if (heads == 16)
		return attend<ATTEND_STEPS, 2, usual>;
	return warps == usual ? attend<ATTEND_STEPS, 1, usual> : attend<ATTEND_STEPS, 1, four_bits>;
}

int NAME(attend_prepare_, ATTEND_STEPS)(uint32_t shared)
{
	kernel *const all[] = {choose(16, usual), choose(8, usual), choose(8, four_bits)};
	for (kernel *k : all)
		if (int e = cudaFuncSetAttribute(k, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared))
			return e;
	return 0;
}

int NAME(attend_launch_, ATTEND_STEPS)(const attend_args *args, const attend_config *c, void *stream)
{
	choose(c->heads, c->warps)<<<c->blocks, c->warps * 32, c->shared, (cudaStream_t)stream>>>(*args);
	return cudaGetLastError();
}

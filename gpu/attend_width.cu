// The kernels of one width of heads, ATTEND_STEPS steps of 16 channels.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

#define PASTE(a, b)  a##b
#define NAME(a, b)   PASTE(a, b)

typedef void kernel(const attend_args);

// A kernel of its own for each format where heads have 64 or 128 channels and a group of at most eight.
template <int H, int F> static kernel *choose_format()
{
	constexpr bool four_bits = F == IKV_FMT_INT4 || F == IKV_FMT_INT4_RESIDUAL;
	return attend<F, ATTEND_STEPS, H, attend_warps(ATTEND_STEPS, H, F, four_bits)>;
}

template <int H> static kernel *choose_heads(uint32_t format, bool four_bits)
{
	if (format == ATTEND_ANY)
		return attend<ATTEND_ANY, ATTEND_STEPS, H, attend_warps(ATTEND_STEPS, H, ATTEND_ANY, false)>;
#if ATTEND_STEPS == 4 || ATTEND_STEPS == 8
	if constexpr (H < 16) {
		switch (format) {
		case IKV_FMT_FP16:
			return choose_format<H, IKV_FMT_FP16>();
		case IKV_FMT_FP8:
			return choose_format<H, IKV_FMT_FP8>();
		case IKV_FMT_INT8:
			return choose_format<H, IKV_FMT_INT8>();
		case IKV_FMT_INT4:
			return choose_format<H, IKV_FMT_INT4>();
		case IKV_FMT_INT4_RESIDUAL:
			return choose_format<H, IKV_FMT_INT4_RESIDUAL>();
		}
	}
#endif
	return four_bits ? attend<0, ATTEND_STEPS, H, attend_warps(ATTEND_STEPS, H, 0, true)>
			 : attend<0, ATTEND_STEPS, H, attend_warps(ATTEND_STEPS, H, 0, false)>;
}

static kernel *choose(uint32_t heads, uint32_t format, bool four_bits)
{
	return heads == 16  ? choose_heads<16>(format, four_bits)
	       : heads == 8 ? choose_heads<8>(format, four_bits)
			    : choose_heads<4>(format, four_bits);
}

int NAME(attend_prepare_, ATTEND_STEPS)(uint32_t shared)
{
	for (uint32_t heads = 4; heads <= 16; heads *= 2)
		for (uint32_t format = 0; format <= ATTEND_ANY; format++)
			for (int four_bits = 0; four_bits < 2; four_bits++)
				if (int e = cudaFuncSetAttribute(choose(heads, format, four_bits),
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
	attend_args own = *args;
	own.overlap = c->overlap;
	return cudaLaunchKernelEx(&config, choose(c->heads, c->format, c->four_bits), own);
}

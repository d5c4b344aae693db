// The kernels of one width of heads, ATTEND_STEPS steps of 16 channels.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

#define PASTE(a, b)  a##b
#define NAME(a, b)   PASTE(a, b)
#define KERNEL(heads) attend<ATTEND_STEPS, (heads) / 8>

int NAME(attend_prepare_, ATTEND_STEPS)(uint32_t shared)
{
	cudaError_t e = cudaFuncSetAttribute(KERNEL(8), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
	if (e == cudaSuccess)
		e = cudaFuncSetAttribute(KERNEL(16), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
	return e;
}

int NAME(attend_launch_, ATTEND_STEPS)(const attend_args *args, const attend_config *c, void *stream)
{
	if (c->heads == 8)
		KERNEL(8)<<<c->blocks, c->warps * 32, c->shared, (cudaStream_t)stream>>>(*args);
	else
		KERNEL(16)<<<c->blocks, c->warps * 32, c->shared, (cudaStream_t)stream>>>(*args);
	return cudaGetLastError();
}

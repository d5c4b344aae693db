// Does a device run the code of this build? It does not when the toolkit's architectures miss it.
#include <cuda_runtime.h>
#include "gpu/probe.h"

__global__ static void report_arch(int *arch)
{
#ifdef __CUDA_ARCH__
	*arch = __CUDA_ARCH__;
#endif
}

extern "C" int probe_device_code(int device, int *arch)
{
	int *on_device = nullptr;
	*arch = 0;
	cudaError_t status = cudaSetDevice(device);
	if (status == cudaSuccess)
		status = cudaMalloc((void **)&on_device, sizeof *on_device);
	if (status == cudaSuccess) {
		report_arch<<<1, 1>>>(on_device);
		status = cudaGetLastError();
	}
	if (status == cudaSuccess)
		status = cudaMemcpy(arch, on_device, sizeof *arch, cudaMemcpyDeviceToHost);
	cudaFree(on_device);
	return status;
}

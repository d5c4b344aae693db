/* A build with CUDA: what the driver and the devices of this machine are. The runtime is linked statically
 * and finds the driver when it is first called, so the program also starts where there is none. */
#include "backend.h"
#include "probe.h"

#include <cuda_runtime_api.h>
#include <stdarg.h>
#include <stdio.h>

/* Append to `text`; what does not fit is cut off. */
IKV_PRINTF(4, 5) static void add(char *text, size_t size, size_t *used, const char *fmt, ...)
{
	va_list ap;
	if (*used >= size)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(text + *used, size - *used, fmt, ap);
	va_end(ap);
	if (n > 0)
		*used += (size_t)n;
}

/* Number of devices, 0 with the reason in `why` when there is none to be used. */
static int devices(char *why, size_t size)
{
	int driver = 0, count = 0;
	cudaError_t status = cudaDriverGetVersion(&driver);
	if (status == cudaSuccess && driver == 0) {
		snprintf(why, size, "no NVIDIA driver on this machine");
		return 0;
	}
	if (status == cudaSuccess)
		status = cudaGetDeviceCount(&count);
	if (status != cudaSuccess) {
		snprintf(why, size, "%s (driver %d.%d, CUDA runtime %d.%d)", cudaGetErrorString(status),
			 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
		return 0;
	}
	if (count == 0)
		snprintf(why, size, "no CUDA device on this machine");
	return count;
}

void backend_why_not(char *why, size_t size)
{
	int arch = 0, major = 0;
	*why = 0;
	if (devices(why, size) == 0)
		return;
	cudaError_t status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
	if (status == cudaSuccess && major < 8) {
		snprintf(why, size, "device 0 has compute capability %d, the kernels need 8.0", major);
		return;
	}
	if (status == cudaSuccess)
		status = (cudaError_t)probe_device_code(0, &arch);
	if (status != cudaSuccess)
		snprintf(why, size, "device 0 does not run this build's code: %s", cudaGetErrorString(status));
}

static void describe_device(char *text, size_t size, size_t *used, int device)
{
	struct cudaDeviceProp prop;
	cudaError_t status = cudaGetDeviceProperties(&prop, device);
	if (status != cudaSuccess) {
		add(text, size, used, "\ndevice %d: %s", device, cudaGetErrorString(status));
		return;
	}
	int arch = 0;
	status = (cudaError_t)probe_device_code(device, &arch);
	add(text, size, used, "\ndevice %d: %s, compute capability %d.%d, %d multiprocessors, %.1f GiB, ", device,
	    prop.name, prop.major, prop.minor, prop.multiProcessorCount,
	    (double)prop.totalGlobalMem / (1024.0 * 1024.0 * 1024.0));
	if (status == cudaSuccess)
		add(text, size, used, "runs this build's code for %d.%d", arch / 100, arch % 100 / 10);
	else
		add(text, size, used, "does not run this build's code: %s", cudaGetErrorString(status));
}

void gpu_describe(char *text, size_t size)
{
	size_t used = 0;
	char why[300] = "";
	int driver = 0, count = devices(why, sizeof why);
	add(text, size, &used, "built with CUDA %d.%d; %s", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10,
	    count ? "device 0 is used" : why);
	if (count == 0)
		return;
	if (cudaDriverGetVersion(&driver) == cudaSuccess)
		add(text, size, &used, "\ndriver for CUDA %d.%d", driver / 1000, driver % 1000 / 10);
	for (int i = 0; i < count; i++)
		describe_device(text, size, &used, i);
}

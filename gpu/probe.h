/* Between probe.c and the device code of probe.cu. */
#ifndef GPU_PROBE_H
#define GPU_PROBE_H

#ifdef __cplusplus
extern "C" {
#endif

/* Run a kernel of this build on `device`. *arch becomes the architecture its code was compiled for, 900 for
 * compute capability 9.0. Returns a cudaError_t, 0 on success. */
int probe_device_code(int device, int *arch);

#ifdef __cplusplus
}
#endif
#endif

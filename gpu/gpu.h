/* CUDA: what this build and this machine have of it. Nothing outside gpu/ includes a CUDA header. */
#ifndef GPU_GPU_H
#define GPU_GPU_H

#include <stddef.h>
#include <intentkv.h>

/* The backend called `cuda`. Its `usable` says why it cannot be used; `open` then fails with the same
 * words and IKV_UNAVAILABLE. */
const struct ikv_backend_ops *gpu_backend(void);

/* Text for `doctor`, lines separated by '\n', none at the end: toolkit, driver and, one line each, the
 * devices with their compute capability and memory. Never fails: what is missing is said in the text. */
void gpu_describe(char *text, size_t size);

#endif

/* What the two builds, with CUDA (probe.c) and without (stub.c), provide to the backend. */
#ifndef GPU_BACKEND_H
#define GPU_BACKEND_H

#include "gpu.h"

/* Why the backend `cuda` cannot be used in this build and on this machine; empty if it can. */
void backend_why_not(char *why, size_t size);

#endif

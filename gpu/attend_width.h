/* The kernels of each width; attend.cu chooses. */
#ifndef GPU_ATTEND_WIDTH_H
#define GPU_ATTEND_WIDTH_H

#include "gpu/attend.h"

#define ATTEND_WIDTH(steps)                                                                                          \
	int attend_prepare_##steps(uint32_t shared);                                                                 \
	int attend_launch_##steps(const struct attend_args *args, const struct attend_config *config, void *stream);
ATTEND_WIDTH(4)
ATTEND_WIDTH(5)
ATTEND_WIDTH(6)
ATTEND_WIDTH(8)
ATTEND_WIDTH(16)
#undef ATTEND_WIDTH

#endif

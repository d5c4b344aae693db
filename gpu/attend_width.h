/* The kernels of each width; attend.cu chooses. */
#ifndef GPU_ATTEND_WIDTH_H
#define GPU_ATTEND_WIDTH_H

#include "gpu/attend.h"

/* Warps of a block. Conversion of 4-bit codes keeps more of them busy; their stages leave the shared memory for it.
 */
#ifdef __cplusplus
static constexpr uint32_t attend_warps(uint32_t steps, uint32_t heads, bool four_bits)
{
	return steps > 8 ? 4 : heads <= 8 && four_bits ? 12 : 8;
}
#endif

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

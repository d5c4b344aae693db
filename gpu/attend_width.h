/* The kernels of each width; attend.cu chooses. */
#ifndef GPU_ATTEND_WIDTH_H
#define GPU_ATTEND_WIDTH_H

#include "gpu/attend.h"
#include "intentkv/format.h"

/* Warps of a block for tiles of one format, or of any (0). Conversion of codes keeps more of them busy, where heads are
 * few enough for the registers, and so do small tiles; mixtures have slots of the largest tile and leave less room for
 * them. */
#ifdef __cplusplus
static constexpr uint32_t attend_warps(uint32_t steps, uint32_t heads, uint32_t format, bool four_bits)
{
	return steps > 8                                              ? 4
	       : heads == 4 && format != 0 && format != ATTEND_ANY && (format != IKV_FMT_FP16 || steps == 4) ? 16
	       : heads <= 8 && four_bits                              ? 12
								      : 8;
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

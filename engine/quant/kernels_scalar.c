/* Micro-kernels in plain C: each tile decoded once, then used for all heads. */
#include <math.h>
#include "quant/micro.h"
#include "quant/wide.h"

void micro_plain_qk(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	size_t stride = tile_padded(shape->d_qk); /* scratch: rows [16][stride] */
	for (uint32_t i = 0; i < count; i++) {
		tile_decode(shape, false, &tiles[i], scratch, stride);
		for (uint32_t t = 0; t < TILE_TOKENS; t++) {
			const float *row = scratch + t * stride;
			for (uint32_t h = 0; h < heads; h++) {
				const float *x = q->f + h * q->stride;
				float sum = 0;
				for (uint32_t d = 0; d < shape->d_qk; d++)
					sum += x[d] * row[d];
				s[h * MICRO_BLOCK + i * TILE_TOKENS + t] = sum;
			}
		}
	}
}

void micro_plain_pv(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		    bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	(void)fine;
	size_t stride = tile_padded(shape->d_v); /* scratch: rows [16][stride] */
	for (uint32_t i = 0; i < count; i++) {
		tile_decode(shape, true, &tiles[i], scratch, stride);
		for (uint32_t t = 0; t < TILE_TOKENS; t++) {
			const float *row = scratch + t * stride;
			for (uint32_t h = 0; h < heads; h++) {
				float *to = acc + h * acc_stride, weight = w[h * MICRO_BLOCK + i * TILE_TOKENS + t];
				for (uint32_t d = 0; d < shape->d_v; d++)
					to[d] += weight * row[d];
			}
		}
	}
}

static void peak(float *s, uint32_t heads, uint32_t n, float *tops)
{
	for (uint32_t h = 0; h < heads; h++, s += MICRO_BLOCK) {
		tops[h] = -INFINITY;
		for (uint32_t i = 0; i < n; i++) {
			s[i] = s[i] < 3e38f ? s[i] : 3e38f;
			tops[h] = s[i] > tops[h] ? s[i] : tops[h];
		}
	}
}

static void exp_sum(float *s, uint32_t heads, uint32_t n, const float *shifts, float *sums)
{
	for (uint32_t h = 0; h < heads; h++, s += MICRO_BLOCK) {
		sums[h] = 0;
		for (uint32_t i = 0; i < n; i++) {
			s[i] = expf(s[i] - shifts[h]);
			sums[h] += s[i];
		}
	}
}

static void scale(float *x, uint32_t n, float factor)
{
	for (uint32_t i = 0; i < n; i++)
		x[i] *= factor;
}

const struct micro_kernels micro_scalar = {
    .isa = "scalar",
    .wide = &wide_scalar,
    .format =
	{
#define PLAIN                                                                                                        \
	{                                                                                                            \
		micro_plain_qk, micro_plain_pv                                                                       \
	}
	    [IKV_FMT_FP16] = PLAIN,
	    [IKV_FMT_FP8] = PLAIN,
	    [IKV_FMT_INT8] = PLAIN,
	    [IKV_FMT_INT4] = PLAIN,
	    [IKV_FMT_BF16] = PLAIN,
	    [IKV_FMT_KIVI8] = PLAIN,
	    [IKV_FMT_KIVI4] = PLAIN,
	    [IKV_FMT_KIVI2] = PLAIN,
	    [IKV_FMT_SPARSE] = PLAIN,
	    [IKV_FMT_INT4_RESIDUAL] = PLAIN,
	    [TILE_FLOAT] = PLAIN,
	    [TILE_HALF] = PLAIN,
	},
    .peak = peak,
    .exp_sum = exp_sum,
    .scale = scale,
};

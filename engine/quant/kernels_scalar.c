/* Micro-kernels in plain C: each row decoded once, then used for all heads. */
#include <math.h>
#include "quant/micro.h"

/* Channels of a row decoded at a time. */
#define CHUNK 256

static void qk(enum ikv_format f, const struct codec_rows *rows, uint32_t t0, uint32_t n, const float *q,
	       size_t q_stride, uint32_t heads, float *s)
{
	float row[CHUNK];
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t c = 0; c < rows->used; c += CHUNK) {
			uint32_t m = rows->used - c < CHUNK ? rows->used - c : CHUNK;
			codec_read(f, rows, t0 + i, c, m, row);
			for (uint32_t h = 0; h < heads; h++) {
				const float *x = q + h * q_stride + c;
				float sum = c ? s[h * MICRO_BLOCK + i] : 0;
				for (uint32_t d = 0; d < m; d++)
					sum += x[d] * row[d];
				s[h * MICRO_BLOCK + i] = sum;
			}
		}
	}
}

static void pv(enum ikv_format f, const struct codec_rows *rows, uint32_t t0, uint32_t n, const float *w,
	       uint32_t heads, float *acc, size_t acc_stride)
{
	float row[CHUNK];
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t c = 0; c < rows->used; c += CHUNK) {
			uint32_t m = rows->used - c < CHUNK ? rows->used - c : CHUNK;
			codec_read(f, rows, t0 + i, c, m, row);
			for (uint32_t h = 0; h < heads; h++) {
				float *to = acc + h * acc_stride + c, weight = w[h * MICRO_BLOCK + i];
				for (uint32_t d = 0; d < m; d++)
					to[d] += weight * row[d];
			}
		}
	}
}

#define KERNELS(name, format)                                                                                        \
	static void qk_##name(const struct codec_rows *rows, uint32_t t0, uint32_t n, const float *q,                \
			      size_t q_stride, uint32_t heads, float *s, float *scratch)                             \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk(format, rows, t0, n, q, q_stride, heads, s);                                                      \
	}                                                                                                            \
	static void pv_##name(const struct codec_rows *rows, uint32_t t0, uint32_t n, const float *w,                \
			      uint32_t heads, float *acc, size_t acc_stride, float *scratch)                         \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		pv(format, rows, t0, n, w, heads, acc, acc_stride);                                                  \
	}
KERNELS(fp16, IKV_FMT_FP16)
KERNELS(fp8, IKV_FMT_FP8)
KERNELS(int8, IKV_FMT_INT8)
KERNELS(int4, IKV_FMT_INT4)
KERNELS(int4r, IKV_FMT_INT4_RESIDUAL)

static float peak(float *s, uint32_t n)
{
	float best = -INFINITY;
	for (uint32_t i = 0; i < n; i++) {
		s[i] = s[i] < 3e38f ? s[i] : 3e38f;
		best = s[i] > best ? s[i] : best;
	}
	return best;
}

static float exp_sum(float *s, uint32_t n, float shift)
{
	float sum = 0;
	for (uint32_t i = 0; i < n; i++) {
		s[i] = expf(s[i] - shift);
		sum += s[i];
	}
	return sum;
}

const struct micro_kernels micro_scalar = {
    .isa = "scalar",
    .format =
	{
	    [IKV_FMT_FP16] = {qk_fp16, pv_fp16},
	    [IKV_FMT_FP8] = {qk_fp8, pv_fp8},
	    [IKV_FMT_INT8] = {qk_int8, pv_int8},
	    [IKV_FMT_INT4] = {qk_int4, pv_int4},
	    [IKV_FMT_INT4_RESIDUAL] = {qk_int4r, pv_int4r},
	},
    .peak = peak,
    .exp_sum = exp_sum,
};

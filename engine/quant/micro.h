/* Micro-kernels of one ISA: scores and weighted sums straight from the stored form of a page. */
#ifndef QUANT_MICRO_H
#define QUANT_MICRO_H

#include "quant/codec.h"

/* Tokens of a block: one update of the online softmax. Scores of a block lie [heads][MICRO_BLOCK]. */
#define MICRO_BLOCK 64

/* Query and output rows are padded with zeros to a multiple of this many channels. */
#define MICRO_PAD 32

/* Floats a kernel may use in `scratch`: scales and zeros of a block, and a scaled copy of its weights. */
static inline size_t micro_scratch(uint32_t dim, uint32_t heads)
{
	return MICRO_BLOCK * (2 * (size_t)codec_groups(dim) + heads + 2);
}

struct micro_format {
	/* s[h][i] = q_h · row(t0 + i) for n <= MICRO_BLOCK rows; q [heads][q_stride], padded. */
	void (*qk)(const struct codec_rows *rows, uint32_t t0, uint32_t n, const float *q, size_t q_stride,
		   uint32_t heads, float *s, float *scratch);
	/* acc_h += sum_i w[h][i] · row(t0 + i), channels [0, rows->used) ; acc [heads][acc_stride], padded. */
	void (*pv)(const struct codec_rows *rows, uint32_t t0, uint32_t n, const float *w, uint32_t heads, float *acc,
		   size_t acc_stride, float *scratch);
};

struct micro_kernels {
	const char *isa;
	struct micro_format format[IKV_FMT_COUNT]; /* by enum ikv_format; SKIP is empty */
	/* Largest of s, +inf and NaN lowered to 3e38 in place; -inf (masked out) stays. n > 0 */
	float (*peak)(float *s, uint32_t n);
	/* s_i = exp(s_i - shift), their sum returned; every s_i <= shift */
	float (*exp_sum)(float *s, uint32_t n, float shift);
};

extern const struct micro_kernels micro_scalar, micro_avx2;

#endif

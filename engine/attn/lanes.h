/* Fixed-lane kernels: what scores and mass that feed a decision are computed with.
 *
 * Sixteen float lanes, lane i taking elements i, i + 16, …; a multiplication and then an addition, never
 * fused; a short tail padded with zeros; lanes folded 16 → 8 → 4 → 2 → 1. One source compiled for each ISA, so
 * that every ISA gives the same bits. All inputs are finite. */
#ifndef ATTN_LANES_H
#define ATTN_LANES_H

#include <stddef.h>
#include <stdint.h>

#define LANES_BATCH 4

struct lanes_kernels {
	const char *isa;
	float (*dot)(const float *a, const float *b, uint32_t n);
	float (*dot_h)(const float *q, const uint16_t *k, uint32_t n); /* k in FP16 */
	/* sum_d max(q_d·least_d, q_d·most_d); ends [2][n]: the least and the largest keys in FP16 */
	float (*bound)(const float *q, const uint16_t *ends, uint32_t n);
	/* The largest of out[p] and the bounds of q [heads][n], for ends [pages][2][n]. */
	void (*bounds)(const float *q, uint32_t heads, const uint16_t *ends, uint32_t pages, uint32_t n, float *out);
	/* s[h·s_stride + t] = scale · dot_h(q_h, k_t), clamped to ±3e38; q [heads][n], k [tokens][n]. As many rows at
	 * `next`, never read, are fetched meanwhile. */
	void (*scores)(const float *q, uint32_t heads, const uint16_t *k, const uint16_t *next, uint32_t tokens,
		       uint32_t n, float scale, float *s, size_t s_stride);
	float (*peak)(const float *s, uint32_t n); /* largest; n > 0 */
	/* sum of exp(s_i - shift); shift at least every s_i */
	float (*exp_sum)(const float *s, uint32_t n, float shift);
	/* out[i] = exp((s_i - shift)·scale); shift at least every s_i, scale > 0 */
	void (*exps)(const float *s, uint32_t n, float shift, float scale, float *out);
	/* sum of p_i log(p_i / d_i) over p_i > 0; d_i counts as 1e-30 at least */
	float (*divergence)(const float *p, const float *d, uint32_t n);
	/* Take an FP16 row into per-channel minimum and maximum (FP16) and sum. */
	void (*summarise)(const uint16_t *row, uint32_t n, uint16_t *least, uint16_t *most, float *sum);
	/* Products of an FP16 matrix [rows][cols] with count <= LANES_BATCH vectors, read once for all; what lies
	 * behind the matrix is fetched meanwhile. out_i[c] = sum over r of x_i[r] w[r][c], r ascending: */
	void (*combine)(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, uint32_t count,
			float *const *out);
	/* out_i[r] = dot_h(x_i, w[r]) */
	void (*product)(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, uint32_t count,
			float *const *out);
};

/* The table of the ISA chosen by ikv_isa_select (the best one this machine runs, if never called). */
const struct lanes_kernels *lanes_table(void);

static inline float lanes_dot(const float *a, const float *b, uint32_t n)
{
	return lanes_table()->dot(a, b, n);
}

static inline float lanes_dot_h(const float *q, const uint16_t *k, uint32_t n)
{
	return lanes_table()->dot_h(q, k, n);
}

static inline float lanes_bound(const float *q, const uint16_t *ends, uint32_t n)
{
	return lanes_table()->bound(q, ends, n);
}

extern const struct lanes_kernels lanes_scalar, lanes_avx2, lanes_avx512;

#endif

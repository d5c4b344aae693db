/* KIVI for AVX2.
 *
 * Scores: K has a scale and a zero for each channel of 32 tokens, so the query of a group, q_c · scale_c, is made for
 * every two tiles; what all tokens share is the sum of q_c · zero_c. 16 tokens lie across two registers.
 * Weighted sums: as those of INT4, scales of a token's group multiply its weight; that of zeros is one number a
 * group. */
#include "quant/kernels_avx2.h"

/* Queries of a group [heads][padded] to `scaled`, and what scores of its tokens share. */
INLINE void scale_query(const struct tile_shape *shape, const struct tile *t, const float *q, size_t q_stride,
			const int heads, float *scaled, float *shares)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	const uint8_t *scales = t->group, *zeros = t->group + shape->k_zeros;
	__m256 share[4];
	UNROLL for (int h = 0; h < 4; h++) share[h] = _mm256_setzero_ps();
	for (uint32_t c = 0; c < padded; c += 8) {
		__m256 scale = halves8(scales + 2 * c), zero = halves8(zeros + 2 * c);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m256 x = _mm256_loadu_ps(q + (size_t)h * q_stride + c);
			share[h] = _mm256_fmadd_ps(x, zero, share[h]);
			_mm256_storeu_ps(scaled + (size_t)h * padded + c, _mm256_mul_ps(x, scale));
		}
		if (c % 32 == 0) {
			fetch(scales + 2 * c, t->ahead);
			fetch(zeros + 2 * c, t->ahead);
		}
	}
	_mm_storeu_ps(shares, fold4(share[0], share[1], share[2], share[3]));
}

INLINE void qk_tile(const int bits, const struct tile_shape *shape, const struct tile *t, const float *q,
		    const float *shares, const int heads, float *s)
{
	const size_t padded = tile_padded(shape->d_qk);
	const int parts = 8 / bits;
	__m256 sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_set1_ps(shares[h]);
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++, q += CODEC_GROUP) {
		for (uint32_t j = 0; j < (uint32_t)bits; j++) {
			const uint8_t *p = t->k + (g * (uint32_t)bits + j) * 64;
			__m256i x[2] = {load(p), load(p + 32)};
			fetch(p, t->ahead);
			UNROLL for (int m = 0; m < parts; m++) UNROLL for (int b = 0; b < 4; b++)
			{
				__m256 k[2] = {field(x[0], 8 * b + bits * m, bits),
					       field(x[1], 8 * b + bits * m, bits)};
				add_channel(k, q + 4 * j + 4 * bits * m + b, padded, heads, sums);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, sums[h][j]);
}

INLINE void qk(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	float shares[4];
#define HEADS(n)                                                                                                     \
	for (uint32_t i = 0; i < count; i++) {                                                                       \
		if (i == 0 || tiles[i].group != tiles[i - 1].group)                                                  \
			scale_query(shape, &tiles[i], q->f + h * q->stride, q->stride, n, scratch, shares);          \
		qk_tile(bits, shape, &tiles[i], scratch, shares, n, s + h * MICRO_BLOCK + i * TILE_TOKENS);          \
	}
	BY_FOUR(heads, HEADS)
#undef HEADS
}

/* Weights times the scales of group g [heads][MICRO_BLOCK], and weighted sums of its zeros. */
INLINE void weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g,
		  const float *w, const int heads, float (*scaled)[MICRO_BLOCK], float *zeros)
{
	__m256 sums[4];
	UNROLL for (int h = 0; h < 4; h++) sums[h] = _mm256_setzero_ps();
	for (uint32_t i = 0; i < 2 * count; i++) {
		const uint8_t *param = tiles[i / 2].k + shape->v_params_at + 64 * g + 16 * (i % 2);
		__m256 scale = halves8(param), zero = halves8(param + 32);
		fetch(param, tiles[i / 2].ahead);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m256 x = _mm256_loadu_ps(w + h * MICRO_BLOCK + 8 * i);
			sums[h] = _mm256_fmadd_ps(x, zero, sums[h]);
			_mm256_storeu_ps(scaled[h] + 8 * i, _mm256_mul_ps(x, scale));
		}
	}
	_mm_storeu_ps(zeros, fold4(sums[0], sums[1], sums[2], sums[3]));
}

/* Four tokens of eight channels, whose codes are the bits from `first` on of the bytes of x, and of the eight that
 * lie 16 behind: those from `second` on of y. */
INLINE void add_quad(const int bits, __m256i x, const int first, __m256i y, const int second, const float *w,
		     const int heads, __m256 (*a)[2])
{
	UNROLL for (int b = 0; b < 4; b++)
	{
		__m256 v[2] = {field(x, 8 * b + first, bits), field(y, 8 * b + second, bits)};
		add_channel(v, w + b, MICRO_BLOCK, heads, a);
	}
}

/* Channels [c, c + 8) and [c + 16, c + 24) of a group. */
INLINE void pv_columns(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const float *w, const float *zeros, const int heads, float *acc, size_t acc_stride)
{
	const __m256i flip = _mm256_set1_epi8((char)0x80);
	const size_t width = bits == 8 ? 4 : 2, step = width * tile_padded(shape->d_v);
	const size_t at = width * (c & ~31u) + 4 * (c & 31u);
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) a[h][j] =
	    _mm256_add_ps(_mm256_loadu_ps(acc + (size_t)h * acc_stride + c + 16 * j), _mm256_set1_ps(zeros[h]));
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + at;
		for (uint32_t t = 0; t < TILE_TOKENS; t += bits == 2 ? 8 : 4, w += bits == 2 ? 8 : 4, p += step) {
			__m256i x = load(p);
			if (at % 64 == 0)
				fetch(p, tiles[i].ahead);
			if (bits == 8) {
				if (at % 64 == 0)
					fetch(p + 64, tiles[i].ahead);
				__m256i y = _mm256_xor_si256(load(p + 64), flip);
				add_quad(bits, _mm256_xor_si256(x, flip), 0, y, 0, w, heads, a);
				continue;
			}
			add_quad(bits, x, 0, x, bits, w, heads, a);
			if (bits == 2)
				add_quad(bits, x, 4, x, 6, w + 4, heads, a);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + 16 * j, a[h][j]);
}

INLINE void pv_heads(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const float *w, const int heads, float *acc, size_t acc_stride)
{
	float scaled[4][MICRO_BLOCK], zeros[4];
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP) {
		weigh(shape, tiles, count, c / CODEC_GROUP, w, heads, scaled, zeros);
		for (uint32_t half = 0; half < 16; half += 8)
			pv_columns(bits, shape, tiles, count, c + half, scaled[0], zeros, heads, acc, acc_stride);
	}
}

INLINE void pv(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (shape->alias) {
		avx2_pv_decoded(shape, tiles, count, w, true, heads, acc, acc_stride, scratch);
		return;
	}
#define HEADS(n) pv_heads(bits, shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

#define KERNELS(bits)                                                                                                \
	void avx2_qk_kivi##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,            \
				const struct micro_query *q, uint32_t heads, float *s, float *scratch)               \
	{                                                                                                            \
		qk(bits, shape, tiles, count, q, heads, s, scratch);                                                 \
	}                                                                                                            \
	void avx2_pv_kivi##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,            \
				const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,            \
				float *scratch)                                                                      \
	{                                                                                                            \
		(void)fine;                                                                                          \
		pv(bits, shape, tiles, count, w, heads, acc, acc_stride, scratch);                                   \
	}
KERNELS(8)
KERNELS(4)
KERNELS(2)

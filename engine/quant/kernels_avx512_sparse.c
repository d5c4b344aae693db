/* SPARSE for AVX-512 with BF16, where no token stands out: queries, weights and values rounded to BF16, 2^-9 of themselves at most, beside what leaving
 * three channels of four out costs. */
#include "quant/kernels_avx512.h"

typedef __m512 sums;

INLINE sums zero(void)
{
	return _mm512_setzero_ps();
}

INLINE __m512 to_floats(sums x)
{
	return x;
}

INLINE sums add_products(sums sum, __m512i a, __m512i b)
{
	return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

INLINE __m512 fold(const sums *a)
{
	return fold16(a);
}

/* And a register's length after the last. */
INLINE void round_tile(const uint8_t *values, uint32_t kept, uint16_t *to, float *units)
{
	_mm512_storeu_ps(units, _mm512_set1_ps(1));
	for (size_t i = 0; i < TILE_TOKENS * (size_t)kept; i += 32) {
		__m512bh x = _mm512_cvtne2ps_pbh(halves16(values + 2 * i + 32), halves16(values + 2 * i));
		_mm512_storeu_si512(to + i, (__m512i)x);
	}
}

INLINE float round_weights(const float *w, const float *units, uint32_t count, uint16_t *rounded)
{
	(void)units; /* 1 */
	for (uint32_t i = 0; i < count * TILE_TOKENS; i += TILE_TOKENS)
		_mm256_storeu_si256((__m256i *)(rounded + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(w + i)));
	return 1;
}

INLINE const uint16_t *take_query(const struct micro_query *q, uint32_t head, uint32_t dim, uint16_t *room, float *unit)
{
	const __m512i second_third = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
	const struct forms f = forms_of(q->forms + head * q->forms_stride, dim);
	*unit = *f.size * 0x1p-60f;
	for (uint32_t c = 0; c < tile_padded(dim); c += 32)
		_mm512_storeu_si512(room + c, _mm512_shuffle_epi8(_mm512_loadu_si512(f.nearest + c), second_third));
	return room;
}

#define SPARSE_FACTORS
#include "quant/kernels_avx512_sparse.h"

void avx512bf16_qk_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			  const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	if (q->fine || shape->alias) {
		avx512_qk_sparse(shape, tiles, count, q, heads, s, scratch);
		return;
	}
	qk_sparse(shape, tiles, count, q, heads, s, scratch);
}

void avx512bf16_pv_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
			  bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (fine || shape->alias) {
		avx512_pv_sparse(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	pv_sparse(shape, tiles, count, w, heads, acc, acc_stride, scratch);
}

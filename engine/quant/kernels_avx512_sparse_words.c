/* SPARSE for AVX-512 with VBMI2 and VNNI, where no token stands out: queries, weights and values as words; of a row the largest value is 32767. */
#include "quant/kernels_avx512_words.h"

typedef __m512i sums;

INLINE sums zero(void)
{
	return _mm512_setzero_si512();
}

INLINE __m512 to_floats(sums x)
{
	return _mm512_cvtepi32_ps(x);
}

INLINE sums add_products(sums sum, __m512i a, __m512i b)
{
	return add_words(sum, a, b);
}

/* Dwords and words in the place of floats. */
INLINE __m512 plus(__m512 a, __m512 b)
{
	return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

INLINE __m512 more(__m512 a, __m512 b)
{
	return _mm512_castsi512_ps(_mm512_max_epu16(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}

FOLD16(fold_sums, plus)
FOLD16(fold_most, more)

INLINE __m512 fold(const sums *a)
{
	__m512 x[16];
	UNROLL for (int i = 0; i < 16; i++) x[i] = _mm512_castsi512_ps(a[i]);
	return _mm512_cvtepi32_ps(_mm512_castps_si512(fold_sums(x)));
}

INLINE __mmask32 first(uint32_t n)
{
	return n < 32 ? (1u << n) - 1 : ~0u;
}

/* The largest magnitudes of the rows: halves that are not negative are in the order of their bits. */
INLINE __m512 row_tops(const uint8_t *values, const uint32_t kept)
{
	const __m512i size = _mm512_set1_epi16(0x7fff);
	__m512 tops[TILE_TOKENS];
	UNROLL for (uint32_t t = 0; t < TILE_TOKENS; t++)
	{
		const uint8_t *row = values + 2 * t * kept;
		__m512i most = _mm512_setzero_si512();
		for (uint32_t i = 0; i < kept; i += 32) {
			const __m512i x = _mm512_maskz_loadu_epi16(first(kept - i), row + 2 * i);
			most = _mm512_max_epu16(most, _mm512_and_si512(x, size));
		}
		tops[t] = _mm512_castsi512_ps(most);
	}
	const __m512i both = _mm512_castps_si512(fold_most(tops));
	return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_max_epu16(both, _mm512_srli_epi32(both, 16))));
}

INLINE void round_rows(const uint8_t *values, const uint32_t kept, uint16_t *to, float *units)
{
	const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
	const __m512 tops = row_tops(values, kept);
	/* Values of a row that is not there may be no numbers: nothing spreads them, but the unit counts for its weight. */
	const __mmask16 some = _mm512_cmp_ps_mask(tops, _mm512_setzero_ps(), _CMP_GT_OQ) &
			       _mm512_cmp_ps_mask(tops, _mm512_set1_ps(65504), _CMP_LE_OQ);
	float factors[TILE_TOKENS];
	_mm512_storeu_ps(factors, _mm512_maskz_div_ps(some, _mm512_set1_ps(INT16_MAX), tops));
	_mm512_storeu_ps(units, _mm512_maskz_mul_ps(some, tops, _mm512_set1_ps(1.0f / INT16_MAX)));
	for (uint32_t t = 0; t < TILE_TOKENS; t++, values += 2 * kept, to += kept) {
		const __m512 factor = _mm512_set1_ps(factors[t]);
		for (uint32_t i = 0; i < kept; i += 32) {
			const __m512i x = _mm512_maskz_loadu_epi16(first(kept - i), values + 2 * i);
			const __m512 low = _mm512_cvtph_ps(_mm512_castsi512_si256(x));
			const __m512 high = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(x, 1));
			const __m512i both = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(low, factor)),
								_mm512_cvtps_epi32(_mm512_mul_ps(high, factor)));
			_mm512_storeu_si512(to + i, _mm512_permutexvar_epi64(order, both));
		}
	}
}

INLINE void round_tile(const uint8_t *values, uint32_t kept, uint16_t *to, float *units)
{
	if (kept == 32) /* known: rows of a register each */
		round_rows(values, 32, to, units);
	else
		round_rows(values, kept, to, units);
}

INLINE float round_weights(const float *w, const float *units, uint32_t count, uint16_t *rounded)
{
	return weigh_words(w, units, count, rounded);
}

INLINE const uint16_t *take_query(const struct micro_query *q, uint32_t head, uint32_t dim, uint16_t *room, float *unit)
{
	*unit = query_words(q->f + head * q->stride, tile_padded(dim), room);
	return room;
}

#define SPARSE_FACTORS
#include "quant/kernels_avx512_sparse.h"

void avx512vbmi_qk_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			  const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	if (q->fine || shape->alias) {
		avx512_qk_sparse(shape, tiles, count, q, heads, s, scratch);
		return;
	}
	qk_sparse(shape, tiles, count, q, heads, s, scratch);
}

void avx512vbmi_pv_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
			  bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (fine || shape->alias) {
		avx512_pv_sparse(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	pv_sparse(shape, tiles, count, w, heads, acc, acc_stride, scratch);
}

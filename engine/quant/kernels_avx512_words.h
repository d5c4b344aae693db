/* Words (16 bits) as factors, for AVX-512 with VBMI: vpdpwssd sums their products as exact integers, two a lane. Shared by
 * the kernels of FP8 and SPARSE.
 *
 * Queries and weights are words such that the sum of their magnitudes, times the largest word of K or V, stays below
 * 2^31. */
#ifndef QUANT_KERNELS_AVX512_WORDS_H
#define QUANT_KERNELS_AVX512_WORDS_H

#include "quant/kernels_avx512.h"

#define TOTAL 65536 /* of the magnitudes, with what rounding adds to them */

#ifdef __AVX512VNNI__ /* so that the header compiles alone */
/* Sixteen floats times `factor` as words. */
INLINE __m256i to_words(__m512 x, __m512 factor)
{
	return _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(x, factor)));
}

/* sum += a · b, two products a lane. Written out as add_dots() in kernels_avx512_dots.h. */
INLINE __m512i add_words(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

/* What one of n words is worth whose largest is `most`, and whose magnitudes come to 2^20 times `sum`: so that it stays
 * finite. */
INLINE float word_unit(float most, float sum, uint32_t n)
{
	const float by_most = most / INT16_MAX, by_sum = sum / (TOTAL - (float)n) * 0x1p20f;
	return by_most > by_sum ? by_most : by_sum;
}

INLINE __m512 word_factor(float unit)
{
	return _mm512_set1_ps(unit > 0x1p-120f ? 1 / unit : 0);
}

/* A query row as words; returns what one of them is worth. */
INLINE float query_words(const float *q, uint32_t padded, uint16_t *words)
{
	const __m512 less = _mm512_set1_ps(0x1p-20f);
	__m512 most = _mm512_setzero_ps(), sum = most;
	for (uint32_t c = 0; c < padded; c += 16) {
		const __m512 x = _mm512_abs_ps(_mm512_loadu_ps(q + c));
		most = _mm512_max_ps(most, x);
		sum = _mm512_fmadd_ps(x, less, sum);
	}
	const float unit = word_unit(_mm512_reduce_max_ps(most), _mm512_reduce_add_ps(sum), padded);
	for (uint32_t c = 0; c < padded; c += 16)
		_mm256_storeu_si256((__m256i *)(words + c), to_words(_mm512_loadu_ps(q + c), word_factor(unit)));
	return unit;
}

/* Weights of `count` tiles times scales as words; returns what one of them is worth. */
INLINE float weigh_words(const float *w, const float *scales, uint32_t count, uint16_t *words)
{
	__m512 x[MICRO_TILES], most = _mm512_setzero_ps(), sum = most;
	for (uint32_t i = 0; i < count; i++) {
		x[i] = _mm512_mul_ps(_mm512_loadu_ps(w + i * TILE_TOKENS), _mm512_loadu_ps(scales + i * TILE_TOKENS));
		most = _mm512_max_ps(most, x[i]);
		sum = _mm512_add_ps(sum, x[i]);
	}
	const float unit = word_unit(_mm512_reduce_max_ps(most), _mm512_reduce_add_ps(sum) * 0x1p-20f, MICRO_BLOCK);
	for (uint32_t i = 0; i < count; i++)
		_mm256_storeu_si256((__m256i *)(words + i * TILE_TOKENS), to_words(x[i], word_factor(unit)));
	return unit;
}
#endif

micro_qk avx512vbmi_qk_sparse;
micro_pv avx512vbmi_pv_sparse;

#endif

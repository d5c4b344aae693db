/* Products of 16-bit integers for AVX2: vpmaddwd makes sixteen where an FMA makes eight, and needs no conversion to
 * float. A dword holds two of the four bytes or nibbles that belong together, the first and the third or the second
 * and the fourth, as words; queries and weights are stored in pairs of the same order. */
#ifndef QUANT_KERNELS_AVX2_WORDS_H
#define QUANT_KERNELS_AVX2_WORDS_H

#include "quant/kernels_avx2.h"

#ifdef __AVX2__ /* so that the header compiles alone */
/* Sums stay in order: the compiler would add products to one another first, and spill. */
INLINE __m256i in_order(__m256i sum)
{
	__asm__("" : "+x"(sum));
	return sum;
}

/* sums[h][j] += what the words x[j] give with the pair of head h at `pairs`; heads lie `step` words apart. */
INLINE void add_words(const __m256i *x, const int16_t *pairs, size_t step, const int heads, __m256i (*sums)[2])
{
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m256i w = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(pairs + (size_t)h * step)));
		sums[h][0] = in_order(_mm256_add_epi32(sums[h][0], _mm256_madd_epi16(w, x[0])));
		sums[h][1] = in_order(_mm256_add_epi32(sums[h][1], _mm256_madd_epi16(w, x[1])));
	}
}

/* Words 0, 2, 1, 3 of each four. */
INLINE __m256i paired(__m256i x)
{
	return _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(x, 0xd8), 0xd8);
}

/* Sixteen floats times `factor` as words at the nearest. */
INLINE __m256i round_words(const float *x, __m256 factor)
{
	__m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
	__m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
	return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

INLINE __m256 magnitude(__m256 x)
{
	return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}

INLINE float largest(__m256 x)
{
	__m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	y = _mm_max_ps(y, _mm_movehl_ps(y, y));
	return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}
#endif

#endif

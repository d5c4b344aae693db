/* Encoders of BF16 and KIVI for AVX2, bit for bit those of bf16.c and kivi.c. */
#include <immintrin.h>
#include "quant/encode_forms.h"
#include "quant/encode_kivi.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m256 load8(const uint16_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* 16 numbers below 65536 to 16 bits each, in order. */
INLINE __m256i to_words(__m256i a, __m256i b)
{
	return _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
}

INLINE __m256i round_bf16(__m256 x)
{
	__m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
	return _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}

void encode_avx2_bf16(const uint16_t *values, size_t n, uint8_t *stored)
{
	size_t i = 0;
	for (; i + 16 <= n; i += 16)
		_mm256_storeu_si256((__m256i *)(stored + 2 * i),
				    to_words(round_bf16(load8(values + i)), round_bf16(load8(values + i + 8))));
	codec_encode_bf16(values + i, n - i, stored + 2 * i);
}

/* Codes of 32 channels, 4 · bits bytes. */
INLINE void put_codes(const int bits, const uint16_t *x, const __m256 *low, const __m256 *scale, uint8_t *to)
{
	const __m256i most = _mm256_set1_epi32((1 << bits) - 1), least = _mm256_setzero_si256();
	__m256i n[4];
	for (int i = 0; i < 4; i++) {
		n[i] = _mm256_cvtps_epi32(_mm256_div_ps(_mm256_sub_ps(load8(x + 8 * i), low[i]), scale[i]));
		n[i] = _mm256_min_epi32(_mm256_max_epi32(n[i], least), most);
	}
	__m256i a = to_words(n[0], n[1]), b = to_words(n[2], n[3]);
	if (bits == 8) {
		_mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8));
		return;
	}
	__m256i joined = _mm256_or_si256(a, _mm256_slli_epi16(b, 4));
	__m128i both = _mm_packus_epi16(_mm256_castsi256_si128(joined), _mm256_extracti128_si256(joined, 1));
	if (bits == 4)
		_mm_storeu_si128((__m128i *)to, both);
	else /* channels 8 to 15 and 24 to 31 between those of 0 to 7 and 16 to 23 */
		_mm_storel_epi64((__m128i *)to, _mm_or_si128(both, _mm_slli_epi16(_mm_srli_si128(both, 8), 2)));
}

/* What to divide by: 1 where all codes are 0. */
INLINE __m256 divisor(__m128i scale)
{
	__m256 x = _mm256_cvtph_ps(scale);
	return _mm256_blendv_ps(x, _mm256_set1_ps(1), _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_EQ_OQ));
}

/* Thirty-two channels of the tokens of one group of K. */
INLINE void group_k(const int bits, const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *scales,
		    uint8_t *zeros, uint8_t *codes, size_t row_bytes)
{
	__m256 low[4], high[4], scale[4];
	for (int i = 0; i < 4; i++)
		low[i] = high[i] = load8(rows + 8 * i);
	for (uint32_t t = 1; t < tokens; t++) { /* of equal ones the first stays: the sign of zero */
		for (int i = 0; i < 4; i++) {
			__m256 x = load8(rows + (size_t)t * dim + 8 * i);
			low[i] = _mm256_min_ps(x, low[i]);
			high[i] = _mm256_max_ps(x, high[i]);
		}
	}
	for (int i = 0; i < 4; i++) {
		__m256 range = _mm256_sub_ps(high[i], low[i]);
		__m128i h = _mm256_cvtps_ph(_mm256_div_ps(range, _mm256_set1_ps((float)((1 << bits) - 1))),
					    _MM_FROUND_TO_POS_INF);
		_mm_storeu_si128((__m128i *)(scales + 16 * i), h);
		_mm_storeu_si128((__m128i *)(zeros + 16 * i), _mm256_cvtps_ph(low[i], 0)); /* exact */
		scale[i] = divisor(h);
	}
	for (uint32_t t = 0; t < tokens; t++)
		put_codes(bits, rows + (size_t)t * dim, low, scale, codes + t * row_bytes);
}

/* A whole group of V. */
INLINE void group_v(const int bits, const uint16_t *x, uint8_t *params, uint8_t *codes)
{
	__m256 a = load8(x), b = a, low[4], scale[4];
	for (int i = 1; i < 4; i++) {
		a = _mm256_min_ps(a, load8(x + 8 * i));
		b = _mm256_max_ps(b, load8(x + 8 * i));
	}
	float ends[2][8], least, most;
	_mm256_storeu_ps(ends[0], a);
	_mm256_storeu_ps(ends[1], b);
	least = ends[0][0];
	most = ends[1][0];
	for (int i = 1; i < 8; i++) {
		least = ends[0][i] < least ? ends[0][i] : least;
		most = ends[1][i] > most ? ends[1][i] : most;
	}
	uint16_t scale_half = (uint16_t)_cvtss_sh((most - least) / (float)((1 << bits) - 1), _MM_FROUND_TO_POS_INF);
	uint16_t zero = (uint16_t)_cvtss_sh(least, 0);
	const uint16_t *first = x;
	if (least == 0) /* the sign of zero is that of the first */
		for (zero = *first; zero & 0x7fff; zero = *first)
			first++;
	memcpy(params, &scale_half, 2);
	memcpy(params + 2, &zero, 2);
	for (int i = 0; i < 4; i++) {
		low[i] = _mm256_set1_ps(_cvtsh_ss(zero));
		scale[i] = _mm256_set1_ps(scale_half ? _cvtsh_ss(scale_half) : 1);
	}
	put_codes(bits, x, low, scale, codes);
}

void encode_avx2_kivi(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored)
{
	encode_kivi(bits, group_k, group_v, rows, tokens, dim, v, stored);
}

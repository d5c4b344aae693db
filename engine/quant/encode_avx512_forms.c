/* Encoders of BF16 and KIVI for AVX-512, bit for bit those of bf16.c and kivi.c. */
#include <immintrin.h>
#include "quant/encode_forms.h"
#include "quant/encode_kivi.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load16(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

void encode_avx512_bf16(const uint16_t *values, size_t n, uint8_t *stored)
{
	size_t i = 0;
	for (; i + 16 <= n; i += 16) {
		__m512i u = _mm512_castps_si512(load16(values + i));
		__m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
		u = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
		_mm256_storeu_si256((__m256i *)(stored + 2 * i), _mm512_cvtepi32_epi16(_mm512_srli_epi32(u, 16)));
	}
	codec_encode_bf16(values + i, n - i, stored + 2 * i);
}

/* Codes of 32 channels, 4 · bits bytes. */
INLINE void put_codes(const int bits, __m512 a, __m512 b, const __m512 *low, const __m512 *scale, uint8_t *to)
{
	const __m512i most = _mm512_set1_epi32((1 << bits) - 1), least = _mm512_setzero_si512();
	__m512i x = _mm512_cvtps_epi32(_mm512_div_ps(_mm512_sub_ps(a, low[0]), scale[0]));
	__m512i y = _mm512_cvtps_epi32(_mm512_div_ps(_mm512_sub_ps(b, low[1]), scale[1]));
	x = _mm512_min_epi32(_mm512_max_epi32(x, least), most);
	y = _mm512_min_epi32(_mm512_max_epi32(y, least), most);
	if (bits == 8) {
		_mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(x));
		_mm_storeu_si128((__m128i *)(to + 16), _mm512_cvtepi32_epi8(y));
		return;
	}
	__m128i both = _mm512_cvtepi32_epi8(_mm512_or_si512(x, _mm512_slli_epi32(y, 4)));
	if (bits == 4)
		_mm_storeu_si128((__m128i *)to, both);
	else /* channels 8 to 15 and 24 to 31 between those of 0 to 7 and 16 to 23 */
		_mm_storel_epi64((__m128i *)to, _mm_or_si128(both, _mm_slli_epi16(_mm_srli_si128(both, 8), 2)));
}

INLINE __m256i half_up(__m512 x)
{
	return _mm512_cvtps_ph(x, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
}

/* What to divide by: 1 where all codes are 0. */
INLINE __m512 divisor(__m256i scale)
{
	__m512 x = _mm512_cvtph_ps(scale);
	return _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_EQ_OQ), _mm512_set1_ps(1));
}

/* Thirty-two channels of the tokens of one group of K. */
INLINE void group_k(const int bits, const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *scales,
		    uint8_t *zeros, uint8_t *codes, size_t row_bytes)
{
	__m512 low[2] = {load16(rows), load16(rows + 16)}, high[2] = {low[0], low[1]}, scale[2];
	for (uint32_t t = 1; t < tokens; t++) { /* of equal ones the first stays: the sign of zero */
		for (int i = 0; i < 2; i++) {
			__m512 x = load16(rows + (size_t)t * dim + 16 * i);
			low[i] = _mm512_min_ps(x, low[i]);
			high[i] = _mm512_max_ps(x, high[i]);
		}
	}
	for (int i = 0; i < 2; i++) {
		__m512 range = _mm512_sub_ps(high[i], low[i]);
		__m256i h = half_up(_mm512_div_ps(range, _mm512_set1_ps((float)((1 << bits) - 1))));
		_mm256_storeu_si256((__m256i *)(scales + 32 * i), h);
		_mm256_storeu_si256((__m256i *)(zeros + 32 * i), _mm512_cvtps_ph(low[i], 0)); /* exact */
		scale[i] = divisor(h);
	}
	for (uint32_t t = 0; t < tokens; t++) {
		const uint16_t *x = rows + (size_t)t * dim;
		put_codes(bits, load16(x), load16(x + 16), low, scale, codes + t * row_bytes);
	}
}

/* A whole group of V. */
INLINE void group_v(const int bits, const uint16_t *x, uint8_t *params, uint8_t *codes)
{
	__m512 a = load16(x), b = load16(x + 16), low[2], scale[2];
	float least = _mm512_reduce_min_ps(_mm512_min_ps(a, b)), most = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
	uint16_t scale_half = (uint16_t)_cvtss_sh((most - least) / (float)((1 << bits) - 1), _MM_FROUND_TO_POS_INF);
	uint16_t zero = (uint16_t)_cvtss_sh(least, 0);
	if (least == 0) /* the sign of zero is that of the first */
		for (zero = *x; zero & 0x7fff; zero = *x)
			x++;
	memcpy(params, &scale_half, 2);
	memcpy(params + 2, &zero, 2);
	low[0] = low[1] = _mm512_set1_ps(_cvtsh_ss(zero));
	scale[0] = scale[1] = _mm512_set1_ps(scale_half ? _cvtsh_ss(scale_half) : 1);
	put_codes(bits, a, b, low, scale, codes);
}

void encode_avx512_kivi(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored)
{
	encode_kivi(bits, group_k, group_v, rows, tokens, dim, v, stored);
}

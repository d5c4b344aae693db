/* Encoders for AVX-512: encode_avx2.c's, sixteen values at a time. */
#include <immintrin.h>
#include "quant/encode.h"

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 load16(const uint16_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* codec_half_up */
INLINE uint16_t half_up(float x)
{
	return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_POS_INF);
}

INLINE float row_amax(const uint16_t *row, uint32_t dim)
{
	__m512 most = _mm512_setzero_ps();
	uint32_t c = 0;
	for (; c + 16 <= dim; c += 16)
		most = _mm512_max_ps(most, _mm512_abs_ps(load16(row + c)));
	__mmask16 tail = (__mmask16)((1u << (dim - c)) - 1);
	__m512 last = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(tail, row + c));
	return _mm512_reduce_max_ps(_mm512_max_ps(most, _mm512_abs_ps(last)));
}

/* Quotients to E4M3, as e4m3() does it. */
INLINE __m512i to_e4m3(__m512 x)
{
	__m512 a = _mm512_abs_ps(x);
	__m512i u = _mm512_castps_si512(a);
	__mmask16 small = _mm512_cmp_ps_mask(a, _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
	__m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 20), _mm512_set1_epi32(1));
	u = _mm512_add_epi32(u, _mm512_add_epi32(_mm512_set1_epi32(0x7ffff), odd));
	u = _mm512_sub_epi32(_mm512_srli_epi32(u, 20), _mm512_set1_epi32(120 << 3));
	u = _mm512_min_epu32(u, _mm512_set1_epi32(0x7e));
	u = _mm512_mask_mov_epi32(u, small, _mm512_cvtps_epi32(_mm512_mul_ps(a, _mm512_set1_ps(0x1p9f))));
	__m512i sign = _mm512_srli_epi32(_mm512_castps_si512(x), 24);
	return _mm512_or_si512(u, _mm512_and_si512(sign, _mm512_set1_epi32(0x80)));
}

INLINE void encode_bytes(const bool fp8, const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	uint8_t *codes = stored + 2 * (size_t)tokens;
	for (uint32_t t = 0; t < tokens; t++, codes += dim) {
		const uint16_t *row = rows + (size_t)t * dim;
		uint16_t h = half_up(row_amax(row, dim) / (fp8 ? 448 : 127));
		float scale = h ? _cvtsh_ss(h) : 1;
		uint32_t c = 0;
		memcpy(stored + 2 * (size_t)t, &h, sizeof h);
		for (; c + 16 <= dim; c += 16) {
			__m512 x = _mm512_div_ps(load16(row + c), _mm512_set1_ps(scale));
			__m512i n = fp8 ? to_e4m3(x) : _mm512_cvtps_epi32(x);
			_mm_storeu_si128((__m128i *)(codes + c), _mm512_cvtepi32_epi8(n));
		}
		for (; c < dim; c++)
			codes[c] = fp8 ? codec_code_fp8(row[c], scale) : codec_code_int8(row[c], scale);
	}
}

INLINE __m512i code_of(__m512 x)
{
	__m512i n = _mm512_cvtps_epi32(x);
	return _mm512_min_epi32(_mm512_max_epi32(n, _mm512_setzero_si512()), _mm512_set1_epi32(15));
}

/* A whole group of 32 channels: the low halves are channels 0 to 15, the high ones 16 to 31. */
INLINE void encode_group(const uint16_t *x, uint8_t *params, uint8_t *pairs, uint8_t *remainders)
{
	__m512 v[2] = {load16(x), load16(x + 16)};
	__m512i n[2];
	float low = _mm512_reduce_min_ps(_mm512_min_ps(v[0], v[1]));
	float high = _mm512_reduce_max_ps(_mm512_max_ps(v[0], v[1]));
	uint16_t zero = 0, scale_half = half_up((high - low) / 15);
	float scale = scale_half ? _cvtsh_ss(scale_half) : 1;
	if (low != 0) {
		zero = (uint16_t)_cvtss_sh(low, 0); /* exact */
	} else {                                    /* the sign of zero is that of the first */
		while ((*x & 0x7fff) != 0)
			x++;
		zero = *x;
		low = _cvtsh_ss(zero);
	}
	memcpy(params, &scale_half, 2);
	memcpy(params + 2, &zero, 2);
	__m512 s = _mm512_set1_ps(scale);
	for (int i = 0; i < 2; i++) {
		v[i] = _mm512_sub_ps(v[i], _mm512_set1_ps(low));
		n[i] = code_of(_mm512_div_ps(v[i], s));
	}
	_mm_storeu_si128((__m128i *)pairs, _mm512_cvtepi32_epi8(_mm512_or_si512(n[0], _mm512_slli_epi32(n[1], 4))));
	if (!remainders)
		return;
	for (int i = 0; i < 2; i++) {
		__m512 r = _mm512_sub_ps(v[i], _mm512_mul_ps(_mm512_cvtepi32_ps(n[i]), s));
		r = _mm512_mul_ps(_mm512_div_ps(r, s), _mm512_set1_ps(15));
		n[i] = code_of(_mm512_add_ps(r, _mm512_set1_ps(7.5f)));
	}
	_mm_storeu_si128((__m128i *)remainders,
			 _mm512_cvtepi32_epi8(_mm512_or_si512(n[0], _mm512_slli_epi32(n[1], 4))));
}

static void encode_int4(const uint16_t *rows, uint32_t tokens, uint32_t dim, bool residual, uint8_t *stored)
{
	uint32_t groups = codec_groups(dim), row_bytes = codec_pair_bytes(dim);
	uint8_t *pairs = stored + 4 * (size_t)tokens * groups;
	uint8_t *remainders = residual ? pairs + (size_t)tokens * row_bytes : NULL;
	for (uint32_t t = 0; t < tokens; t++) {
		for (uint32_t g = 0; g < groups; g++) {
			uint32_t c = g * CODEC_GROUP, width = dim - c < CODEC_GROUP ? dim - c : CODEC_GROUP;
			size_t at = (size_t)t * row_bytes + c / 2;
			const uint16_t *x = rows + (size_t)t * dim + c;
			uint8_t *params = stored + 4 * ((size_t)t * groups + g);
			if (width == CODEC_GROUP)
				encode_group(x, params, pairs + at, remainders ? remainders + at : NULL);
			else
				codec_encode_group(x, width, params, pairs + at, remainders ? remainders + at : NULL);
		}
	}
}

static void encode_fp8(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	encode_bytes(true, rows, tokens, dim, stored);
}

static void encode_int8(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	encode_bytes(false, rows, tokens, dim, stored);
}

static bool all_finite(const uint16_t *values, size_t n)
{
	const __m512i exponent = _mm512_set1_epi16(0x7c00);
	__mmask32 bad = 0;
	size_t i = 0;
	for (; i + 32 <= n; i += 32) {
		__m512i x = _mm512_and_si512(_mm512_loadu_si512(values + i), exponent);
		bad |= _mm512_cmpeq_epi16_mask(x, exponent);
	}
	for (; i < n; i++)
		bad |= (values[i] & 0x7c00) == 0x7c00;
	return !bad;
}

const struct encode_kernels encode_avx512 = {all_finite,  encode_fp8,        encode_int8,       encode_int4,
					     codec_encode_bf16, codec_encode_kivi, codec_encode_sparse};

/* Encoders for AVX-512: encode_avx2.c's, sixteen values at a time. */
#include <immintrin.h>
#include "quant/encode_forms.h"
#include "quant/kernels_avx512.h"

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

/* x / s to the last bit, in three multiplications: by Markstein's theorem the correction below rounds as division does
 * if `inverse` is 1/s rounded to nearest and the mantissa of s is not all ones; that of a half is not. Nothing here
 * comes near underflow. Only the sign of -0 is lost, which no code of a pair keeps. */
INLINE __m512 quotients(__m512 x, __m512 s, __m512 inverse)
{
	__m512 q = _mm512_mul_ps(x, inverse);
	return _mm512_fmadd_ps(_mm512_fnmadd_ps(q, s, x), inverse, q);
}

/* Codes above 15 become 15; those below 0 do so in pack(). */
INLINE __m512i code_of(__m512 x)
{
	return _mm512_min_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(15));
}

/* Sixteen bytes of each of four groups; n[k][0] are the low halves, n[k][1] the high ones. */
INLINE __m512i pack(__m512i n[4][2])
{
	const __m512i zero = _mm512_setzero_si512();
	__m512i x[4];
	UNROLL for (int k = 0; k < 4; k++) x[k] = _mm512_or_si512(
	    _mm512_max_epi32(n[k][0], zero), _mm512_slli_epi32(_mm512_max_epi32(n[k][1], zero), 4));
	__m512i y = _mm512_packus_epi16(_mm512_packus_epi32(x[0], x[1]), _mm512_packus_epi32(x[2], x[3]));
	return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), y);
}

/* Four whole groups, one after the other: each alone would wait for its own few numbers most of the time. */
INLINE void encode_groups(const uint16_t *x, const bool residual, uint8_t *params, uint8_t *pairs, uint8_t *remainders)
{
	__m512 v[4][2], least[4], most[4];
	__m512i n[4][2];
	UNROLL for (int k = 0; k < 4; k++)
	{
		v[k][0] = load16(x + 32 * k);
		v[k][1] = load16(x + 32 * k + 16);
		least[k] = _mm512_min_ps(v[k][0], v[k][1]);
		most[k] = _mm512_max_ps(v[k][0], v[k][1]);
	}
	__m128 low = least4(least), width = _mm_sub_ps(most4(most), low);
	__m128i scale_half = _mm_cvtps_ph(_mm_div_ps(width, _mm_set1_ps(15)), _MM_FROUND_TO_POS_INF);
	__m128i zero_half = _mm_cvtps_ph(low, 0); /* exact */
	__m128 scale = _mm_cvtph_ps(scale_half);
	scale = _mm_mask_mov_ps(_mm_set1_ps(1), _mm_cmp_ps_mask(scale, _mm_setzero_ps(), _CMP_GT_OQ), scale);
	__m512 inverses = _mm512_broadcast_f32x4(_mm_div_ps(_mm_set1_ps(1), scale));
	__m512 lows = _mm512_broadcast_f32x4(low), scales = _mm512_broadcast_f32x4(scale);
	_mm_storeu_si128((__m128i *)params, _mm_unpacklo_epi16(scale_half, zero_half));
	UNROLL for (int k = 0; k < 4; k++)
	{
		const __m512i lane = _mm512_set1_epi32(k);
		__m512 s = _mm512_permutexvar_ps(lane, scales), inverse = _mm512_permutexvar_ps(lane, inverses);
		UNROLL for (int i = 0; i < 2; i++)
		{
			v[k][i] = _mm512_sub_ps(v[k][i], _mm512_permutexvar_ps(lane, lows));
			n[k][i] = code_of(quotients(v[k][i], s, inverse));
		}
	}
	_mm512_storeu_si512(pairs, pack(n));
	/* The sign of a zero that is the least is that of the first. */
	for (uint32_t zeros = _mm_cmp_ps_mask(low, _mm_setzero_ps(), _CMP_EQ_OQ); zeros; zeros &= zeros - 1) {
		uint32_t k = (uint32_t)__builtin_ctz(zeros);
		const uint16_t *first = x + 32 * k;
		while ((*first & 0x7fff) != 0)
			first++;
		memcpy(params + 4 * k + 2, first, 2);
	}
	UNROLL for (int k = 0; residual && k < 4; k++)
	{
		const __m512i lane = _mm512_set1_epi32(k);
		__m512 s = _mm512_permutexvar_ps(lane, scales), inverse = _mm512_permutexvar_ps(lane, inverses);
		UNROLL for (int i = 0; i < 2; i++)
		{
			__m512 r = _mm512_sub_ps(v[k][i], _mm512_mul_ps(_mm512_cvtepi32_ps(n[k][i]), s));
			r = _mm512_mul_ps(quotients(r, s, inverse), _mm512_set1_ps(15));
			n[k][i] = code_of(_mm512_add_ps(r, _mm512_set1_ps(7.5f)));
		}
	}
	if (residual)
		_mm512_storeu_si512(remainders, pack(n));
}

static void encode_int4(const uint16_t *rows, uint32_t tokens, uint32_t dim, bool residual, uint8_t *stored)
{
	uint32_t groups = tokens * codec_groups(dim);
	uint8_t *pairs = stored + 4 * (size_t)groups, *remainders = pairs + 16 * (size_t)groups;
	if (dim % CODEC_GROUP || groups % 4) { /* else groups follow each other without gaps, by fours */
		encode_avx2.int4(rows, tokens, dim, residual, stored);
		return;
	}
	for (size_t i = 0; i < groups; i += 4) {
		if (residual)
			encode_groups(rows + 32 * i, true, stored + 4 * i, pairs + 16 * i, remainders + 16 * i);
		else
			encode_groups(rows + 32 * i, false, stored + 4 * i, pairs + 16 * i, NULL);
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

const struct encode_kernels encode_avx512 = {all_finite,         encode_fp8,         encode_int8,         encode_int4,
					     encode_avx512_bf16, encode_avx512_kivi, encode_avx512_sparse};

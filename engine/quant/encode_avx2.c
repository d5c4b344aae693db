/* Encoders for AVX2, bit for bit those of fp8.c, int8.c and int4.c: the same IEEE operations, eight at a time. A
 * row's last channels, or a short group, go through the plain ones. */
#include <immintrin.h>
#include "quant/encode_forms.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 4")

INLINE __m256 load8(const uint16_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* codec_half_up */
INLINE uint16_t half_up(float x)
{
	return (uint16_t)_cvtss_sh(x, _MM_FROUND_TO_POS_INF);
}

INLINE float to_float(uint16_t h)
{
	return _cvtsh_ss(h);
}

INLINE __m256 magnitude(__m256 x)
{
	return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}

INLINE float largest(__m256 x)
{
	__m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
	a = _mm_max_ps(a, _mm_movehl_ps(a, a));
	return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}

/* 32 numbers of 0..255 or -128..127 to bytes, in order. */
INLINE __m256i to_bytes(const __m256i *n)
{
	const __m256i low = _mm256_set1_epi32(255);
	__m256i a = _mm256_packus_epi32(_mm256_and_si256(n[0], low), _mm256_and_si256(n[1], low));
	__m256i b = _mm256_packus_epi32(_mm256_and_si256(n[2], low), _mm256_and_si256(n[3], low));
	return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

INLINE float row_amax(const uint16_t *row, uint32_t dim)
{
	__m256 most = _mm256_setzero_ps();
	uint32_t c = 0;
	for (; c + 8 <= dim; c += 8)
		most = _mm256_max_ps(most, magnitude(load8(row + c)));
	float amax = largest(most);
	for (; c < dim; c++) {
		float x = __builtin_fabsf(half_to_float(row[c]));
		amax = x > amax ? x : amax;
	}
	return amax;
}

/* Quotients to E4M3, as e4m3() does it. */
INLINE __m256i to_e4m3(__m256 x)
{
	__m256 a = magnitude(x);
	__m256i u = _mm256_castps_si256(a);
	__m256i small = _mm256_cvtps_epi32(_mm256_mul_ps(a, _mm256_set1_ps(0x1p9f)));
	__m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 20), _mm256_set1_epi32(1));
	u = _mm256_add_epi32(u, _mm256_add_epi32(_mm256_set1_epi32(0x7ffff), odd));
	u = _mm256_sub_epi32(_mm256_srli_epi32(u, 20), _mm256_set1_epi32(120 << 3));
	u = _mm256_min_epu32(u, _mm256_set1_epi32(0x7e));
	__m256 is_small = _mm256_cmp_ps(a, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ);
	u = _mm256_blendv_epi8(u, small, _mm256_castps_si256(is_small));
	__m256i sign = _mm256_srli_epi32(_mm256_castps_si256(x), 24);
	return _mm256_or_si256(u, _mm256_and_si256(sign, _mm256_set1_epi32(0x80)));
}

INLINE void encode_bytes(const bool fp8, const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	uint8_t *codes = stored + 2 * (size_t)tokens;
	for (uint32_t t = 0; t < tokens; t++, codes += dim) {
		const uint16_t *row = rows + (size_t)t * dim;
		uint16_t h = half_up(row_amax(row, dim) / (fp8 ? 448 : 127));
		float scale = h ? to_float(h) : 1;
		uint32_t c = 0;
		memcpy(stored + 2 * (size_t)t, &h, sizeof h);
		for (; c + 32 <= dim; c += 32) {
			__m256i n[4];
			for (int i = 0; i < 4; i++) {
				__m256 x = _mm256_div_ps(load8(row + c + 8 * i), _mm256_set1_ps(scale));
				n[i] = fp8 ? to_e4m3(x) : _mm256_cvtps_epi32(x);
			}
			_mm256_storeu_si256((__m256i *)(codes + c), to_bytes(n));
		}
		for (; c < dim; c++)
			codes[c] = fp8 ? codec_code_fp8(row[c], scale) : codec_code_int8(row[c], scale);
	}
}

/* x / s to the last bit, as quotients() in encode_avx512.c, which says why. */
INLINE __m256 quotients(__m256 x, __m256 s, __m256 inverse)
{
	__m256 q = _mm256_mul_ps(x, inverse);
	return _mm256_fmadd_ps(_mm256_fnmadd_ps(q, s, x), inverse, q);
}

/* 32 numbers as codes: what is below 0 becomes 0, what is above 15 becomes 15. The low halves are channels 0 to 15, the
 * high ones 16 to 31. */
INLINE __m128i to_pairs(const __m256i *n)
{
	__m256i x = _mm256_packus_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
	x = _mm256_min_epu8(x, _mm256_set1_epi8(15));
	x = _mm256_or_si256(x, _mm256_slli_epi16(_mm256_srli_si256(x, 8), 4));
	return _mm_unpacklo_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}

/* The whole numbers that come back from pairs, which are those of n but for the bounds. */
INLINE __m256 bounded(__m256i n)
{
	n = _mm256_min_epi32(_mm256_max_epi32(n, _mm256_setzero_si256()), _mm256_set1_epi32(15));
	return _mm256_cvtepi32_ps(n);
}

/* A group of 32 channels by its least value, scale and 1 / scale. */
INLINE void encode_pairs(const uint16_t *x, float low, float scale, float inverse, uint8_t *pairs, uint8_t *remainders)
{
	const __m256 s = _mm256_set1_ps(scale), i = _mm256_set1_ps(inverse);
	__m256i n[4], rest[4];
	UNROLL for (int k = 0; k < 4; k++)
	{
		__m256 v = _mm256_sub_ps(load8(x + 8 * k), _mm256_set1_ps(low));
		n[k] = _mm256_cvtps_epi32(quotients(v, s, i));
		if (remainders) {
			__m256 r = _mm256_sub_ps(v, _mm256_mul_ps(bounded(n[k]), s));
			r = _mm256_mul_ps(quotients(r, s, i), _mm256_set1_ps(15));
			rest[k] = _mm256_cvtps_epi32(_mm256_add_ps(r, _mm256_set1_ps(7.5f)));
		}
	}
	_mm_storeu_si128((__m128i *)pairs, to_pairs(n));
	if (remainders)
		_mm_storeu_si128((__m128i *)remainders, to_pairs(rest));
}

/* The least or the largest of each of four registers. */
INLINE __m128 ends4(const bool most, const __m256 *x)
{
#define END(a, b) (most ? _mm256_max_ps(a, b) : _mm256_min_ps(a, b))
	__m256 ab = END(_mm256_unpacklo_ps(x[0], x[1]), _mm256_unpackhi_ps(x[0], x[1]));
	__m256 cd = END(_mm256_unpacklo_ps(x[2], x[3]), _mm256_unpackhi_ps(x[2], x[3]));
	__m256 y = END(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
#undef END
	__m128 low = _mm256_castps256_ps128(y), high = _mm256_extractf128_ps(y, 1);
	return most ? _mm_max_ps(low, high) : _mm_min_ps(low, high);
}

/* Four whole groups, one after the other: each alone would wait for its own few numbers most of the time. */
INLINE void encode_groups(const uint16_t *x, uint8_t *params, uint8_t *pairs, uint8_t *remainders)
{
	__m256 least[4], most[4];
	float lows[4], scales[4], inverses[4];
	UNROLL for (int k = 0; k < 4; k++)
	{
		__m256 v[4] = {load8(x + 32 * k), load8(x + 32 * k + 8), load8(x + 32 * k + 16), load8(x + 32 * k + 24)};
		least[k] = _mm256_min_ps(_mm256_min_ps(v[0], v[1]), _mm256_min_ps(v[2], v[3]));
		most[k] = _mm256_max_ps(_mm256_max_ps(v[0], v[1]), _mm256_max_ps(v[2], v[3]));
	}
	__m128 low = ends4(false, least), width = _mm_sub_ps(ends4(true, most), low);
	__m128i scale_half = _mm_cvtps_ph(_mm_div_ps(width, _mm_set1_ps(15)), _MM_FROUND_TO_POS_INF);
	__m128i zero_half = _mm_cvtps_ph(low, 0); /* exact */
	__m128 scale = _mm_cvtph_ps(scale_half);
	scale = _mm_blendv_ps(_mm_set1_ps(1), scale, _mm_cmpgt_ps(scale, _mm_setzero_ps()));
	_mm_storeu_ps(lows, low);
	_mm_storeu_ps(scales, scale);
	_mm_storeu_ps(inverses, _mm_div_ps(_mm_set1_ps(1), scale));
	_mm_storeu_si128((__m128i *)params, _mm_unpacklo_epi16(scale_half, zero_half));
	for (int k = 0; k < 4; k++)
		encode_pairs(x + 32 * k, lows[k], scales[k], inverses[k], pairs + 16 * k,
			     remainders ? remainders + 16 * k : NULL);
	/* The sign of a zero that is the least is that of the first. */
	for (int k = 0, zeros = _mm_movemask_ps(_mm_cmpeq_ps(low, _mm_setzero_ps())); zeros >> k; k++) {
		const uint16_t *first = x + 32 * k;
		if (!(zeros >> k & 1))
			continue;
		while ((*first & 0x7fff) != 0)
			first++;
		memcpy(params + 4 * k + 2, first, 2);
	}
}

/* One whole group. */
INLINE void encode_group(const uint16_t *x, uint8_t *params, uint8_t *pairs, uint8_t *remainders)
{
	uint16_t four[4 * CODEC_GROUP];
	uint8_t all[3][64];
	for (int k = 0; k < 4; k++)
		memcpy(four + CODEC_GROUP * k, x, CODEC_GROUP * sizeof *x);
	encode_groups(four, all[0], all[1], remainders ? all[2] : NULL);
	memcpy(params, all[0], 4);
	memcpy(pairs, all[1], 16);
	if (remainders)
		memcpy(remainders, all[2], 16);
}

static void encode_int4(const uint16_t *rows, uint32_t tokens, uint32_t dim, bool residual, uint8_t *stored)
{
	uint32_t groups = codec_groups(dim), row_bytes = codec_pair_bytes(dim);
	uint8_t *pairs = stored + 4 * (size_t)tokens * groups;
	uint8_t *remainders = residual ? pairs + (size_t)tokens * row_bytes : NULL;
	for (uint32_t t = 0; t < tokens; t++) {
		for (uint32_t g = 0; g < groups;) {
			uint32_t c = g * CODEC_GROUP, width = dim - c < CODEC_GROUP ? dim - c : CODEC_GROUP;
			size_t at = (size_t)t * row_bytes + c / 2;
			const uint16_t *x = rows + (size_t)t * dim + c;
			uint8_t *params = stored + 4 * ((size_t)t * groups + g);
			if (dim - c >= 4 * CODEC_GROUP) {
				encode_groups(x, params, pairs + at, remainders ? remainders + at : NULL);
				g += 4;
				continue;
			}
			if (width == CODEC_GROUP)
				encode_group(x, params, pairs + at, remainders ? remainders + at : NULL);
			else
				codec_encode_group(x, width, params, pairs + at, remainders ? remainders + at : NULL);
			g++;
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
	const __m256i exponent = _mm256_set1_epi16(0x7c00);
	__m256i bad = _mm256_setzero_si256();
	size_t i = 0;
	for (; i + 16 <= n; i += 16) {
		__m256i x = _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(values + i)), exponent);
		bad = _mm256_or_si256(bad, _mm256_cmpeq_epi16(x, exponent));
	}
	bool found = !_mm256_testz_si256(bad, bad);
	for (; i < n; i++)
		found |= (values[i] & 0x7c00) == 0x7c00;
	return !found;
}

const struct encode_kernels encode_avx2 = {all_finite,       encode_fp8,       encode_int8,       encode_int4,
					   encode_avx2_bf16, encode_avx2_kivi, encode_avx2_sparse};

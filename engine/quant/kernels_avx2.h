/* Shared by the AVX2 micro-kernels; included only where -mavx2, fma and f16c are on. */
#ifndef QUANT_KERNELS_AVX2_H
#define QUANT_KERNELS_AVX2_H

#include <immintrin.h>
#include "quant/fetch.h"
#include "quant/micro.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

#ifdef __AVX2__ /* so that the header compiles alone */
INLINE __m256 halves8(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

INLINE __m256i load(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* Bits [shift, shift + bits) of eight dwords as numbers. Shuffles of bytes instead of a shift and an `and` are slower
 * (docs/results/cpu.md, "AVX2"). */
INLINE __m256 field(__m256i x, const int shift, const int bits)
{
	x = shift ? _mm256_srli_epi32(x, shift) : x;
	x = shift + bits < 32 ? _mm256_and_si256(x, _mm256_set1_epi32((1 << bits) - 1)) : x;
	return _mm256_cvtepi32_ps(x);
}

/* Of 15 code + code2 the low (half 0) or high ones of 32 bytes: below 256. */
INLINE __m256i join(__m256i x, __m256i rest, const int half)
{
	const __m256i low = _mm256_set1_epi8(15);
	x = _mm256_and_si256(half ? _mm256_srli_epi16(x, 4) : x, low);
	rest = _mm256_and_si256(half ? _mm256_srli_epi16(rest, 4) : rest, low);
	return _mm256_add_epi8(_mm256_sub_epi8(_mm256_slli_epi16(x, 4), x), rest);
}

/* Sums of four registers. */
INLINE __m128 fold4(__m256 a, __m256 b, __m256 c, __m256 d)
{
	__m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
	__m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
	__m256d y = _mm256_castps_pd(ab), z = _mm256_castps_pd(cd);
	__m256 x = _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(y, z)),
				 _mm256_castpd_ps(_mm256_unpackhi_pd(y, z)));
	return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
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

/* sums[h][j] += q_h[c] times channel c of tokens 8 j … */
INLINE void add_channel(const __m256 *k, const float *q, size_t q_stride, const int heads, __m256 (*sums)[2])
{
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m256 x = _mm256_broadcast_ss(q + (size_t)h * q_stride);
		sums[h][0] = _mm256_fmadd_ps(x, k[0], sums[h][0]);
		sums[h][1] = _mm256_fmadd_ps(x, k[1], sums[h][1]);
	}
}

#endif

/* What 32 channels of a query are as signed bytes: q = unit · byte, at the nearest. `rest` is 7.5 times what the bytes
 * lose of their sum, `words_rest` 120 times what the row's words do: INT4 and INT4_RESIDUAL count from their middle
 * codes, so that what all tokens share is exact. */
struct avx2_group {
	float unit, rest, sum, words_rest; /* a multiple of 16 bytes */
};

/* Forms of a query row of P padded channels, each at a multiple of 16 bytes:
 *   int16 words [P]   q = unit · words, at the nearest; of each four channels 0, 2, 1, 3. Their magnitude is at most
 *                     32767 and such that sums of `dim` products with a signed byte are below 2^31
 *   float unit, size; int32 start   size: the largest magnitude; start: -128 times the sum of the words
 *   struct avx2_group [P/32]
 *   int8 bytes [P]
 *   int16 whole [P]   16383 times q / size */
struct avx2_forms {
	const float *unit, *size;
	const int16_t *words, *whole;
	const int32_t *start;
	const struct avx2_group *groups;
	const int8_t *bytes;
};

static inline struct avx2_forms avx2_forms_of(const uint8_t *p, uint32_t dim)
{
	size_t padded = tile_padded(dim);
	struct avx2_forms f;
	f.words = (const int16_t *)p;
	p += 2 * padded;
	f.unit = (const float *)p;
	f.size = f.unit + 1;
	f.start = (const int32_t *)(f.unit + 2);
	p += 16;
	f.groups = (const struct avx2_group *)p;
	p += padded / CODEC_GROUP * sizeof *f.groups;
	f.bytes = (const int8_t *)p;
	p += padded;
	f.whole = (const int16_t *)p;
	return f;
}

micro_qk avx2_qk_fp16, avx2_qk_half, avx2_qk_float, avx2_qk_bf16, avx2_qk_sparse, avx2_qk_fp8;
micro_pv avx2_pv_fp16, avx2_pv_float, avx2_pv_bf16, avx2_pv_sparse, avx2_pv_fp8;
micro_qk avx2_qk_kivi8, avx2_qk_kivi4, avx2_qk_kivi2;
micro_pv avx2_pv_kivi8, avx2_pv_kivi4, avx2_pv_kivi2;
/* Whose queries and weights may be rounded. */
micro_qk avx2_qk_bytes, avx2_qk_joined, avx2_qk_pairs, avx2_qk_narrow4, avx2_qk_narrow2;
micro_pv avx2_pv_bytes, avx2_pv_joined, avx2_pv_pairs, avx2_pv_narrow4, avx2_pv_narrow2;
size_t avx2_forms_bytes(uint32_t dim);
void avx2_prepare(const float *q, uint32_t dim, uint32_t formats, uint8_t *forms);
/* Any format, by the plain decoder: for V that aliases K, whose tiles suit scores only. */
micro_pv avx2_pv_decoded;

#endif

/* Shared by the AVX-512 micro-kernels; included only where -mavx512f, bw, vl, dq are on. */
#ifndef QUANT_KERNELS_AVX512_H
#define QUANT_KERNELS_AVX512_H

#include <immintrin.h>
#include "quant/fetch.h"
#include "quant/micro.h"

#define INLINE static inline __attribute__((always_inline))
#define WHOLE 16383 /* the largest of `whole` below */
#define UNROLL _Pragma("GCC unroll 16")

/* 32 channels of the query for INT4 K. Bytes are multiplied as they lie, 16 high + low, and once more with every two of
 * them shifted left by four bits: 16 low, and in the second one the high half of the first. With integers m of nine bits
 * for the former and n for the latter, of bytes a and b side by side, q / (16 unit) is m_b for the high code of b,
 * n_b + m_b / 16 for its low one, m_a + n_b / 16 for the high code of a and n_a + m_a / 16 for its low one, each at the
 * nearest, in this order. */
struct paired {
	uint8_t bytes[4][2][2][4]; /* of four bytes m, then n: magnitudes, and what makes codes v or -v - 1 of bytes */
	int32_t lost;              /* added to the sum of products: q · code / unit, without an error common to all */
	float unit, sum;           /* sum: of the channels */
	float unused;              /* a multiple of 16 bytes */
};

/* Forms of a query row of P padded channels; what is read for every block of tokens first, so that those of 32 heads
 * stay in the first-level cache. Each begins at a multiple of 16 bytes.
 *   uint8 nine [P/4][2][4]: of four channels the magnitudes of q = unit · nine signed bits, at the nearest, with a
 *                        unit for each 32 channels, and what turns codes of INT8 K into signed ones, v or -v - 1
 *   float nine_units [P/32]
 *   int32 negative [P/32] magnitudes of the negative ones of each 32 channels
 *   int8 coarse [P/4][2][4]: of four channels d1, d2 of
 *                        q = step · (65536 d2 + 256 d1 + d0), |q / step| <= 8·10^6: 23 bits and a sign
 *   struct paired [P/32]
 *   float sums [P/32]    of each 32 channels
 *   float steps [P/32]   the same in units of 256 step
 *   int32 middle [P/32]  what each 32 channels lose without d0, in units of 256 step, times the middle code of
 *                        INT4_RESIDUAL
 *   int32 bias [P/128][4]: 128 times the sum of digits 0, 1, 2 of each 128 channels
 *   float step, size    size: the row's largest magnitude
 *   int8 digits [P/4][4][4]: of four channels d0, d1, d2 and padding
 *   bf16 halves [P/4][2][4]: q = high + low within 2^-17 |q|; high by truncation, so that it cannot overflow
 *   float parts [P]      the row divided by its largest magnitude
 *   int16 whole [P]      16383 times `parts`; of each 32 channels 0 to 3, 16 to 19, 4 to 7, 20 to 23 and so on
 *   bf16 nearest [P]     `parts` times 2^60 rounded to nearest even; of each four channels the second and third have
 *                        changed places */
struct forms {
	const uint8_t *nine;
	const int8_t *coarse, *digits;
	const struct paired *paired;
	const uint16_t *halves, *nearest;
	const int32_t *negative, *middle, *bias;
	const float *nine_units, *sums, *steps;
	const float *step, *size, *parts;
	const int16_t *whole;
};

static inline size_t forms_round(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

static inline struct forms forms_of(const uint8_t *p, uint32_t dim)
{
	size_t padded = tile_padded(dim);
	struct forms f;
	f.nine = p;
	p += 2 * padded;
	f.nine_units = (const float *)p;
	p += forms_round(padded / 8);
	f.negative = (const int32_t *)p;
	p += forms_round(padded / 8);
	f.coarse = (const int8_t *)p;
	p += 2 * padded;
	f.paired = (const struct paired *)p;
	p += padded / 32 * sizeof *f.paired;
	f.sums = (const float *)p;
	p += forms_round(padded / 8);
	f.steps = (const float *)p;
	p += forms_round(padded / 8);
	f.middle = (const int32_t *)p;
	p += forms_round(padded / 8);
	f.bias = (const int32_t *)p;
	p += (padded + 127) / 128 * 16;
	f.step = (const float *)p;
	p += 16;
	f.digits = (const int8_t *)p;
	p += 4 * padded;
	f.halves = (const uint16_t *)p;
	p += 4 * padded;
	f.size = f.step + 1;
	f.parts = (const float *)p;
	p += 4 * padded;
	f.whole = (const int16_t *)p;
	p += 2 * padded;
	f.nearest = (const uint16_t *)p;
	return f;
}

#ifdef __AVX512BW__ /* so that the header compiles alone */
/* exp for x <= 0: 2^n · 2^r with n + r = x / ln 2, |r| <= 1/2, and a polynomial for 2^r that is off by 1.5·10^-7 at
 * most (Remez). With log2(e) as a float the whole is off by 1.3·10^-8 |x| more. 0 for x of -105 and less. */
INLINE __m512 exp_negative(__m512 x)
{
	const __m512 log2_e = _mm512_set1_ps(0x1.715476p+0f);
	x = _mm512_max_ps(x, _mm512_set1_ps(-150));
	__m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, log2_e), 8);
	__m512 r = _mm512_fmsub_ps(x, log2_e, n);
	__m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0x1.5c08e6p-10f), r, _mm512_set1_ps(0x1.3d0c52p-7f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.c6b6e4p-5f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ebf918p-3f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62e428p-1f));
	p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
	return _mm512_scalef_ps(p, n);
}

INLINE __m512 halves16(const uint8_t *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Lane i of the result is what `op` makes of the lanes of a[i]. */
#define FOLD16(name, op)                                                                                             \
	INLINE __m512 name(const __m512 *a)                                                                          \
	{                                                                                                            \
		__m512 b[8], c[4];                                                                                   \
		UNROLL for (int i = 0; i < 8; i++) b[i] =                                                            \
		    op(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));      \
		UNROLL for (int i = 0; i < 4; i++)                                                                   \
		{                                                                                                    \
			__m512d x = _mm512_castps_pd(b[2 * i]), y = _mm512_castps_pd(b[2 * i + 1]);                  \
			c[i] = op(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),                                        \
				  _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));                                       \
		}                                                                                                    \
		__m512 d = op(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));       \
		__m512 e = op(_mm512_shuffle_f32x4(c[2], c[3], 0x88), _mm512_shuffle_f32x4(c[2], c[3], 0xdd));       \
		return op(_mm512_shuffle_f32x4(d, e, 0x88), _mm512_shuffle_f32x4(d, e, 0xdd));                       \
	}
FOLD16(fold16, _mm512_add_ps)

/* Lane h: the largest, the least, or the sum, of a[h]. */
#define FOLD4(name, op)                                                                                              \
	INLINE __m128 name(const __m512 *a)                                                                          \
	{                                                                                                            \
		__m512d x =                                                                                          \
		    _mm512_castps_pd(_mm512_##op(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1])));   \
		__m512d y =                                                                                          \
		    _mm512_castps_pd(_mm512_##op(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3])));   \
		__m512 z = _mm512_##op(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),                                   \
				       _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));                                  \
		__m256 half = _mm256_##op(_mm512_castps512_ps256(z), _mm512_extractf32x8_ps(z, 1));                  \
		return _mm_##op(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));                       \
	}
FOLD4(most4, max_ps)
FOLD4(least4, min_ps)
FOLD4(sums4, add_ps)

#endif

micro_qk avx512_qk_bf16, avx512_qk_sparse, avx512_qk_fp8;
micro_pv avx512_pv_bf16, avx512_pv_sparse, avx512_pv_fp8;
micro_qk avx512bf16_qk_sparse; /* of the ISA of that name */
micro_pv avx512bf16_pv_sparse;
micro_qk avx512_qk_kivi8, avx512_qk_kivi4, avx512_qk_kivi2;
micro_pv avx512_pv_kivi8, avx512_pv_kivi2;
micro_qk avx512_qk_fp16, avx512_qk_half, avx512_qk_float, avx512_qk_int8, avx512_qk_int4, avx512_qk_int4r;
micro_pv avx512_pv_fp16, avx512_pv_float, avx512_pv_int8, avx512_pv_int8_fine, avx512_pv_int4, avx512_pv_int4r;
/* Any format, by the plain decoder: for V that aliases K, whose tiles suit scores only. */
micro_pv avx512_pv_decoded;
/* Codes of 4 bits (pairs) or 2 and up to four heads: weights of one byte; false, and nothing done, where that is not
 * enough. */
bool avx512_pv_narrow(bool pairs, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		      const float *w, uint32_t heads, float *acc, size_t acc_stride, float *scratch);
size_t avx512_forms_bytes(uint32_t dim);
void avx512_prepare(const float *q, uint32_t dim, uint32_t formats, uint8_t *forms);
/* Its part that is nine bits, of so many groups of 32 channels. */
void avx512_prepare_nine(const float *q, uint32_t groups, const struct forms *f);
/* Its part that is paired, of so many groups; f->sums are made. */
void avx512_prepare_paired(const float *q, uint32_t groups, const struct forms *f);
void avx512_peak(float *s, uint32_t heads, uint32_t n, float *tops);
void avx512_scale(float *x, uint32_t n, float factor);
void avx512_exp_sum(float *s, uint32_t heads, uint32_t n, const float *shifts, float *sums);

#endif

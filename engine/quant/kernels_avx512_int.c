/* Scores of INT4 and INT4_RESIDUAL for AVX-512 with VNNI.
 *
 * The query is three signed 8-bit digits a channel (23 bits, as exact as float; where no token stands out 15 bits and
 * two, for INT4 nine with a unit for each 32 channels), so sums of products of codes are exact integers; 16 tokens
 * lie across the lanes and nothing is summed across them. */
#include <math.h>
#include "quant/kernels_avx512_dots.h"

enum kind { PAIRS, JOINED };

/* Four channels' digits of the query times codes of 16 tokens. */
INLINE void dot4(__m512i codes, const int8_t *digits, __m512i *sums)
{
	UNROLL for (int i = 0; i < 3; i++) __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums[i]) : "v"(codes),
						   "m"(*(const struct four_bytes *)(digits + 4 * i)));
}

INLINE __m512 whole(const __m512i *sums)
{
	__m512i low = _mm512_add_epi32(_mm512_slli_epi32(sums[1], 8), sums[0]);
	return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2]), _mm512_set1_ps(65536), _mm512_cvtepi32_ps(low));
}

/* Scores of a tile from three digits, by groups. */
INLINE void qk_pairs(const enum kind kind, const struct tile_shape *shape, const struct tile *t,
		     const struct forms *q, const int heads, float *s)
{
	const size_t group_bytes = kind == JOINED ? 512 : 256;
	const int8_t *digits[4];
	__m512 total[4], step[4];
	UNROLL for (int h = 0; h < heads; h++)
	{
		total[h] = _mm512_setzero_ps();
		step[h] = _mm512_set1_ps(*q[h].step);
		digits[h] = q[h].digits;
	}
	for (size_t g = 0; g < codec_groups(shape->d_qk); g++) {
		const uint8_t *p = t->k + g * group_bytes, *param = t->k + shape->k_params_at + g * 64;
		__m512i sums[4][3];
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 3; i++) sums[h][i] =
		    _mm512_setzero_si512();
		for (size_t j = 0; j < 4; j++) {
			__m512i a = _mm512_loadu_si512(p + 64 * j), low, high;
			fetch(p + 64 * j, t->ahead);
			if (kind == JOINED) {
				__m512i b = _mm512_loadu_si512(p + 64 * j + 256);
				fetch(p + 64 * j + 256, t->ahead);
				low = joined(a, b, false);
				high = joined(a, b, true);
			} else {
				low = nibbles(a, false);
				high = nibbles(a, true);
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				dot4(low, digits[h] + 128 * g + 16 * j, sums[h]);
				dot4(high, digits[h] + 128 * g + 16 * j + 64, sums[h]);
			}
		}
		__m512 scale = halves16(param), zero = halves16(param + 32);
		fetch(param, t->ahead);
		if (kind == JOINED) {
			zero = _mm512_fnmadd_ps(scale, _mm512_set1_ps(0.5f), zero);
			scale = _mm512_mul_ps(scale, _mm512_set1_ps(1 / 15.0f));
		}
		UNROLL for (int h = 0; h < heads; h++)
		{
			total[h] = _mm512_fmadd_ps(_mm512_mul_ps(whole(sums[h]), step[h]), scale, total[h]);
			total[h] = _mm512_fmadd_ps(_mm512_set1_ps(q[h].sums[g]), zero, total[h]);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(s + h * MICRO_BLOCK, total[h]);
}

/* Scores of one or two tiles of INT4_RESIDUAL from two digits of the query. Each broadcast of digits serves both tiles:
 * with one it is the loads that bound the speed, not the products. */
INLINE void qk_coarse(const struct tile_shape *shape, const struct tile *t, const int tiles, const struct forms *q,
		      const int heads, float *s)
{
	__m512 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) total[h][k] =
	    _mm512_setzero_ps();
	for (size_t g = 0; g < codec_groups(shape->d_qk); g++) {
		__m512i sums[4][2][2]; /* [head][tile][digit] */
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++)
		{
			/* What the query lost to rounding, times the middle code: else an error that all tokens
			 * share. */
			sums[h][k][0] = _mm512_set1_epi32(q[h].middle[g]);
			sums[h][k][1] = _mm512_setzero_si512();
		}
		for (size_t j = 0; j < 4; j++) {
			__m512i codes[2][2];
			UNROLL for (int k = 0; k < tiles; k++)
			{
				const uint8_t *p = t[k].k + 512 * g + 64 * j;
				__m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 256);
				fetch(p, t[k].ahead);
				fetch(p + 256, t[k].ahead);
				codes[k][0] = joined(a, b, false);
				codes[k][1] = joined(a, b, true);
			}
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (size_t i = 0; i < 2; i++)
			{
				const int8_t *digits = q[h].coarse + 64 * g + 8 * j + 32 * i;
				UNROLL for (int b = 0; b < 2; b++)
				{
					__m512i x = four(digits + 4 * b);
					UNROLL for (int k = 0; k < tiles; k++) sums[h][k][b] =
					    add_dots(sums[h][k][b], codes[k][i], x);
				}
			}
		}
		UNROLL for (int k = 0; k < tiles; k++)
		{
			const uint8_t *param = t[k].k + shape->k_params_at + g * 64;
			__m512 scale = halves16(param), zero = halves16(param + 32);
			fetch(param, t[k].ahead);
			zero = _mm512_fnmadd_ps(scale, _mm512_set1_ps(0.5f), zero);
			scale = _mm512_mul_ps(scale, _mm512_set1_ps(1 / 15.0f));
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m512 x = _mm512_cvtepi32_ps(
				    _mm512_add_epi32(_mm512_slli_epi32(sums[h][k][1], 8), sums[h][k][0]));
				total[h][k] = _mm512_fmadd_ps(x, scale, total[h][k]);
				total[h][k] = _mm512_fmadd_ps(_mm512_set1_ps(q[h].steps[g]), zero, total[h][k]);
			}
		}
	}
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++)
	    _mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS,
			     _mm512_mul_ps(total[h][k], _mm512_set1_ps(*q[h].step * 256)));
}

/* Lane i + 1 in lane i. */
INLINE __m512 next_lane(__m512 x)
{
	const __m512i n = _mm512_castps_si512(x);
	return _mm512_castsi512_ps(_mm512_alignr_epi32(n, n, 1));
}

/* The integers m and n of struct paired for 16 bytes, whose codes have these queries in units; returns what is lost. */
static __m512 split(__m512 low, __m512 high, __m512 *m, __m512 *n)
{
	const __m512 part = _mm512_set1_ps(1.0f / 16);
	const __mmask16 first = 0x5555;
	*m = _mm512_roundscale_ps(high, 8);
	*n = _mm512_roundscale_ps(_mm512_fnmadd_ps(*m, part, low), 8);
	const __m512 beside = _mm512_maskz_mov_ps(first, next_lane(*n));
	*m = _mm512_roundscale_ps(_mm512_fnmadd_ps(beside, part, high), 8);
	*n = _mm512_roundscale_ps(_mm512_fnmadd_ps(*m, part, low), 8);
	const __m512 rest = _mm512_add_ps(_mm512_sub_ps(low, *n), _mm512_sub_ps(high, *m));
	return _mm512_fnmadd_ps(_mm512_add_ps(*m, beside), part, rest);
}

/* Of four dwords, at `to` and three more, each 16 bytes on; returns the sum of the negative ones' magnitudes. */
static int32_t put_paired(__m512 x, uint8_t *to)
{
	const __m512i n = _mm512_cvtps_epi32(x), size = _mm512_abs_epi32(n);
	const __mmask16 negative = _mm512_movepi32_mask(n);
	_Alignas(16) uint8_t sizes[16], signs[16];
	_mm_store_si128((__m128i *)sizes, _mm512_cvtepi32_epi8(size));
	_mm_store_si128((__m128i *)signs, _mm_mask_blend_epi8(negative, _mm_set1_epi8(-128), _mm_set1_epi8(127)));
	for (size_t j = 0; j < 4; j++) {
		memcpy(to + 16 * j, sizes + 4 * j, 4);
		memcpy(to + 16 * j + 4, signs + 4 * j, 4);
	}
	return _mm512_mask_reduce_add_epi32(negative, size);
}

void avx512_prepare_paired(const float *q, uint32_t groups, const struct forms *f)
{
	for (uint32_t g = 0; g < groups; g++) {
		struct paired *x = (struct paired *)f->paired + g;
		const __m512 low = _mm512_loadu_ps(q + 32 * g), high = _mm512_loadu_ps(q + 32 * g + 16);
		const float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
		float factor = top > 1e-30f ? 255 / top : 0, most = 255;
		__m512 m, n, lost;
		do { /* what a neighbour adds may take one beyond a byte */
			factor *= 255 / most;
			const __m512 scale = _mm512_set1_ps(factor);
			lost = split(_mm512_mul_ps(low, scale), _mm512_mul_ps(high, scale), &m, &n);
			most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(m), _mm512_abs_ps(n)));
		} while (most > 255);
		const int32_t negative = put_paired(m, x->bytes[0][0][0]) + put_paired(n, x->bytes[0][1][0]);
		/* Bytes count from 128; what is lost counts by the middle code, 7.5, and products hold 16 times as
		 * much. */
		const float sum = _mm512_reduce_add_ps(_mm512_add_ps(m, n));
		x->lost = negative + (int32_t)lrintf(128 * sum + 120 * _mm512_reduce_add_ps(lost));
		x->unit = factor > 0 ? 1 / (16 * factor) : 0;
		x->sum = f->sums[g];
		x->unused = 0;
	}
}

/* Scores of one or two tiles of INT4 from nine bits of the query a channel. Bytes are taken as they lie: what the other
 * code of a pair adds to each is part of the query (struct paired). */
INLINE void qk_paired(const struct tile_shape *shape, const struct tile *t, const int tiles, const struct forms *q,
		      const int heads, float *s)
{
	__m512 total[4][2]; /* [head][tile] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) total[h][k] =
	    _mm512_setzero_ps();
	for (size_t g = 0; g < codec_groups(shape->d_qk); g++) {
		__m512i sums[4][2];
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) sums[h][k] =
		    _mm512_set1_epi32(q[h].paired[g].lost);
		UNROLL for (size_t j = 0; j < 4; j++)
		{
			__m512i a[2];
			UNROLL for (int k = 0; k < tiles; k++)
			{
				const uint8_t *p = t[k].k + 256 * g + 64 * j;
				a[k] = _mm512_loadu_si512(p);
				fetch(p, t[k].ahead);
			}
			UNROLL for (int h = 0; h < heads; h++)
			    add_nine(sums[h], a, tiles, q[h].paired[g].bytes[j][0][0]);
			UNROLL for (int k = 0; k < tiles; k++) a[k] = _mm512_slli_epi16(a[k], 4);
			UNROLL for (int h = 0; h < heads; h++)
			    add_nine(sums[h], a, tiles, q[h].paired[g].bytes[j][1][0]);
		}
		UNROLL for (int k = 0; k < tiles; k++)
		{
			const uint8_t *param = t[k].k + shape->k_params_at + g * 64;
			const __m512 scale = halves16(param), zero = halves16(param + 32);
			fetch(param, t[k].ahead);
			UNROLL for (int h = 0; h < heads; h++)
			{
				const __m512 unit = _mm512_mul_ps(scale, _mm512_set1_ps(q[h].paired[g].unit));
				total[h][k] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[h][k]), unit, total[h][k]);
				total[h][k] = _mm512_fmadd_ps(_mm512_set1_ps(q[h].paired[g].sum), zero, total[h][k]);
			}
		}
	}
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++)
	    _mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS, total[h][k]);
}

INLINE void qk(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const struct micro_query *q, uint32_t heads, float *s)
{
#define TILES(n)                                                                                                     \
	do {                                                                                                         \
		struct forms f[n];                                                                                   \
		uint32_t i = 0;                                                                                      \
		float *to = s + h * MICRO_BLOCK;                                                                     \
		for (uint32_t k = 0; k < n; k++)                                                                     \
			f[k] = forms_of(q->forms + (h + k) * q->forms_stride, shape->d_qk);                          \
		for (; q->fine && i < count; i++)                                                                    \
			qk_pairs(kind, shape, tiles + i, f, n, to + i * TILE_TOKENS);                                \
		for (; kind == PAIRS && i + 2 <= count; i += 2)                                                      \
			qk_paired(shape, tiles + i, 2, f, n, to + i * TILE_TOKENS);                                  \
		for (; kind == PAIRS && i < count; i++)                                                              \
			qk_paired(shape, tiles + i, 1, f, n, to + i * TILE_TOKENS);                                  \
		for (; i + 2 <= count; i += 2)                                                                       \
			qk_coarse(shape, tiles + i, 2, f, n, to + i * TILE_TOKENS);                                  \
		if (i < count)                                                                                       \
			qk_coarse(shape, tiles + i, 1, f, n, to + i * TILE_TOKENS);                                  \
	} while (0)
	BY_FOUR(heads, TILES)
#undef TILES
}

#define KERNEL(name, kind)                                                                                           \
	void avx512_qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk(kind, shape, tiles, count, q, heads, s);                                                          \
	}
KERNEL(int4, PAIRS)
KERNEL(int4r, JOINED)

/* Scores of INT4 and INT4_RESIDUAL for AVX-512 with VNNI.
 *
 * The query is three signed 8-bit digits a channel (23 bits, as exact as float; where no token stands out 15 bits and
 * two, for INT4 a byte with a unit for each 16 channels), so sums of products of codes are exact integers; 16 tokens
 * lie across the lanes and nothing is summed across them. */
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

/* Codes of four channels of a tile, of both halves of pairs: codes[1] are 16 channels on. */
INLINE void codes_at(const enum kind kind, const struct tile *t, size_t at, __m512i *codes)
{
	__m512i a = _mm512_loadu_si512(t->k + at);
	fetch(t->k + at, t->ahead);
	if (kind == PAIRS) {
		codes[0] = nibbles(a, false);
		codes[1] = nibbles(a, true);
	} else {
		__m512i b = _mm512_loadu_si512(t->k + at + 256);
		fetch(t->k + at + 256, t->ahead);
		codes[0] = joined(a, b, false);
		codes[1] = joined(a, b, true);
	}
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
			UNROLL for (int k = 0; k < tiles; k++) codes_at(JOINED, t + k, 512 * g + 64 * j, codes[k]);
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

/* sum += low · pair[0] + high · pair[1] of each lane, where low and high fit 16 bits. */
INLINE __m512i add_both(__m512i sum, __m512i low, __m512i high, const int16_t *pair)
{
	low = _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
	__asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(low), "m"(*(const struct four_bytes *)pair));
	return sum;
}

/* Scores of one or two tiles of INT4 from one byte of the query a channel. */
INLINE void qk_single(const struct tile_shape *shape, const struct tile *t, const int tiles, const struct forms *q,
		      const int heads, float *s)
{
	__m512 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) total[h][k] =
	    _mm512_setzero_ps();
	for (size_t g = 0; g < codec_groups(shape->d_qk); g++) {
		__m512i sums[4][2][2]; /* [head][tile][16 channels]: up to 16 · 15 · 127 */
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) sums[h][k][0] =
		    sums[h][k][1] = _mm512_setzero_si512();
		UNROLL for (size_t j = 0; j < 4; j++)
		{
			__m512i codes[2][2];
			UNROLL for (int k = 0; k < tiles; k++) codes_at(PAIRS, t + k, 256 * g + 64 * j, codes[k]);
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (size_t i = 0; i < 2; i++)
			{
				__m512i x = four(q[h].single[g].bytes + 4 * j + 16 * i);
				UNROLL for (int k = 0; k < tiles; k++) sums[h][k][i] =
				    add_dots(sums[h][k][i], codes[k][i], x);
			}
		}
		UNROLL for (int k = 0; k < tiles; k++)
		{
			const uint8_t *param = t[k].k + shape->k_params_at + g * 64;
			const __m512 scale = halves16(param), zero = halves16(param + 32);
			fetch(param, t[k].ahead);
			UNROLL for (int h = 0; h < heads; h++)
			{
				/* What all tokens would share of the rounding is added back. */
				__m512i x = add_both(_mm512_set1_epi32(q[h].single[g].lost), sums[h][k][0],
						     sums[h][k][1], q[h].single[g].units);
				total[h][k] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), scale, total[h][k]);
				total[h][k] = _mm512_fmadd_ps(_mm512_set1_ps(q[h].single[g].sum), zero, total[h][k]);
			}
		}
	}
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(
	    s + h * MICRO_BLOCK + k * TILE_TOKENS, _mm512_mul_ps(total[h][k], _mm512_set1_ps(*q[h].grain)));
}

/* Where no token stands out. */
INLINE void qk_rounded(const enum kind kind, const struct tile_shape *shape, const struct tile *t, const int tiles,
		       const struct forms *q, const int heads, float *s)
{
	if (kind == PAIRS)
		qk_single(shape, t, tiles, q, heads, s);
	else
		qk_coarse(shape, t, tiles, q, heads, s);
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
		for (; i + 2 <= count; i += 2)                                                                       \
			qk_rounded(kind, shape, tiles + i, 2, f, n, to + i * TILE_TOKENS);                           \
		if (i < count)                                                                                       \
			qk_rounded(kind, shape, tiles + i, 1, f, n, to + i * TILE_TOKENS);                           \
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

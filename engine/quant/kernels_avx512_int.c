/* INT8, INT4 and INT4_RESIDUAL for AVX-512 with VNNI.
 *
 * Scores: the query is three signed 8-bit digits a channel (23 bits, as exact as float; 15 bits and two where no
 * token stands out), so sums of products of codes are exact integers; 16 tokens lie across the lanes and nothing is
 * summed across them. Weighted sums: weights times scales of a block become integers of two bytes (three, if fine),
 * the largest of a head and group 65535; the error of each is at most 2^-17 (2^-25) of the largest. */
#include "quant/kernels_avx512.h"

#define RUN 128 /* channels whose sums fit int32: 128 · 255 · 128 · 256 < 2^31 */

enum kind { BYTES, PAIRS, JOINED };

/* 15 code + code2 of the low or high halves. */
INLINE __m512i joined(__m512i a, __m512i b, bool high)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i times16 = high ? _mm512_andnot_si512(low, a) : _mm512_slli_epi16(_mm512_and_si512(a, low), 4);
	__m512i code = _mm512_and_si512(high ? _mm512_srli_epi16(a, 4) : a, low);
	__m512i rest = _mm512_and_si512(high ? _mm512_srli_epi16(b, 4) : b, low);
	return _mm512_add_epi8(_mm512_sub_epi8(times16, code), rest);
}

INLINE __m512i nibbles(__m512i a, bool high)
{
	return _mm512_and_si512(high ? _mm512_srli_epi16(a, 4) : a, _mm512_set1_epi8(15));
}

struct four_bytes {
	uint8_t b[4];
};

/* Four bytes in every lane. */
INLINE __m512i four(const void *p)
{
	int32_t x;
	memcpy(&x, p, sizeof x);
	return _mm512_set1_epi32(x);
}

/* sum += a · b, four unsigned times four signed bytes a lane. Written out, because GCC 12 copies both sums and
 * factors around the intrinsic, which costs a third of the speed. */
INLINE __m512i add_dots(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

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

/* Scores of a tile of INT8 from three digits, by runs of channels. */
INLINE void qk_bytes(const struct tile_shape *shape, const struct tile *t, const struct forms *q, const int heads,
		     float *s)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	const int8_t *digits[4];
	__m512 total[4];
	UNROLL for (int h = 0; h < heads; h++)
	{
		total[h] = _mm512_setzero_ps();
		digits[h] = q[h].digits;
	}
	for (uint32_t c = 0; c < padded; c += RUN) {
		uint32_t end = padded - c > RUN ? c + RUN : padded;
		__m512i sums[4][3];
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 3; i++) sums[h][i] =
		    _mm512_set1_epi32(-q[h].bias[c / RUN * 4 + (uint32_t)i]);
		for (size_t d = c; d < end; d += 4) {
			__m512i codes = _mm512_loadu_si512(t->k + d * TILE_TOKENS);
			fetch(t->k + d * TILE_TOKENS, t->ahead);
			UNROLL for (int h = 0; h < heads; h++) dot4(codes, digits[h] + 4 * d, sums[h]);
		}
		UNROLL for (int h = 0; h < heads; h++) total[h] = _mm512_add_ps(total[h], whole(sums[h]));
	}
	__m512 scale = halves16(t->k + shape->k_params_at);
	fetch(t->k + shape->k_params_at, t->ahead);
	UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(
	    s + h * MICRO_BLOCK, _mm512_mul_ps(_mm512_mul_ps(total[h], _mm512_set1_ps(*q[h].step)), scale));
}

/* Of a tile of INT4 or INT4_RESIDUAL, by groups. */
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

/* Codes of four channels of a tile (of both halves of pairs: codes[1] are 16 channels on). */
INLINE void codes_at(const enum kind kind, const struct tile *t, size_t at, __m512i *codes)
{
	__m512i a = _mm512_loadu_si512(t->k + at);
	fetch(t->k + at, t->ahead);
	if (kind == BYTES) {
		codes[0] = a;
	} else if (kind == PAIRS) {
		codes[0] = nibbles(a, false);
		codes[1] = nibbles(a, true);
	} else {
		__m512i b = _mm512_loadu_si512(t->k + at + 256);
		fetch(t->k + at + 256, t->ahead);
		codes[0] = joined(a, b, false);
		codes[1] = joined(a, b, true);
	}
}

/* Scores of one or two tiles from two digits of the query. Each broadcast of digits serves both tiles: with one it
 * is the loads that bound the speed, not the products. */
INLINE void qk_coarse(const enum kind kind, const struct tile_shape *shape, const struct tile *t, const int tiles,
		      const struct forms *q, const int heads, float *s)
{
	const uint32_t padded = tile_padded(shape->d_qk), run = kind == BYTES ? RUN : CODEC_GROUP;
	const uint32_t width = kind == BYTES ? 4 : 8; /* channels of 64 bytes (JOINED: of twice 64) */
	const int halves = kind == BYTES ? 1 : 2;
	__m512 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) total[h][k] =
	    _mm512_setzero_ps();
	for (uint32_t c = 0; c < padded; c += run) {
		const uint32_t n = padded - c < run ? padded - c : run, g = c / CODEC_GROUP;
		const size_t at = (size_t)c * TILE_TOKENS / (kind == PAIRS ? 2 : 1);
		__m512i sums[4][2][2]; /* [head][tile][digit] */
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++)
		{
			/* What the query lost to rounding, times the middle code: else an error that all tokens
			 * share. */
			sums[h][k][0] = kind == BYTES ? _mm512_set1_epi32(-q[h].bias[c / RUN * 4 + 1])
						      : _mm512_set1_epi32(q[h].middle[2 * g + (kind == JOINED)]);
			sums[h][k][1] =
			    kind == BYTES ? _mm512_set1_epi32(-q[h].bias[c / RUN * 4 + 2]) : _mm512_setzero_si512();
		}
		for (uint32_t d = 0; d < n; d += width) {
			__m512i codes[2][2];
			UNROLL for (int k = 0; k < tiles; k++)
			    codes_at(kind, t + k, at + (size_t)d * (kind == BYTES ? 16 : 8), codes[k]);
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < halves; i++)
			{
				const int8_t *digits =
				    q[h].coarse + 2 * c + 2 * d / (unsigned)halves + 32 * (unsigned)i;
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
			__m512 scale = _mm512_setzero_ps(), zero = scale;
			if (kind != BYTES) {
				const uint8_t *param = t[k].k + shape->k_params_at + g * 64;
				scale = halves16(param);
				zero = halves16(param + 32);
				fetch(param, t[k].ahead);
			}
			if (kind == JOINED) {
				zero = _mm512_fnmadd_ps(scale, _mm512_set1_ps(0.5f), zero);
				scale = _mm512_mul_ps(scale, _mm512_set1_ps(1 / 15.0f));
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m512 x = _mm512_cvtepi32_ps(
				    _mm512_add_epi32(_mm512_slli_epi32(sums[h][k][1], 8), sums[h][k][0]));
				if (kind == BYTES) {
					total[h][k] = _mm512_add_ps(total[h][k], x);
					continue;
				}
				total[h][k] = _mm512_fmadd_ps(x, scale, total[h][k]);
				total[h][k] = _mm512_fmadd_ps(_mm512_set1_ps(q[h].steps[g]), zero, total[h][k]);
			}
		}
	}
	UNROLL for (int k = 0; k < tiles; k++)
	{
		__m512 scale = _mm512_set1_ps(1);
		if (kind == BYTES) {
			scale = halves16(t[k].k + shape->k_params_at);
			fetch(t[k].k + shape->k_params_at, t[k].ahead);
		}
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m512 x = _mm512_mul_ps(total[h][k], _mm512_set1_ps(*q[h].step * 256));
			_mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS,
					 kind == BYTES ? _mm512_mul_ps(x, scale) : x);
		}
	}
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
		for (; q->fine && i < count; i++) {                                                                  \
			if (kind == BYTES)                                                                           \
				qk_bytes(shape, tiles + i, f, n, to + i * TILE_TOKENS);                              \
			else                                                                                         \
				qk_pairs(kind, shape, tiles + i, f, n, to + i * TILE_TOKENS);                        \
		}                                                                                                    \
		for (; i + 2 <= count; i += 2)                                                                       \
			qk_coarse(kind, shape, tiles + i, 2, f, n, to + i * TILE_TOKENS);                            \
		if (i < count)                                                                                       \
			qk_coarse(kind, shape, tiles + i, 1, f, n, to + i * TILE_TOKENS);                            \
	} while (0)
	BY_FOUR(heads, TILES)
#undef TILES
}

struct weights { /* of one head and group: [tile][quad][digit, highest first][token] */
	_Alignas(64) uint8_t bytes[MICRO_TILES][4][4][4];
};

#define LEAST_TOP 1e-30f /* smaller weights times scales count as nothing */

/* Scales and zeros of one group of V of four tiles, for codes as pv_columns() takes them. */
struct params {
	__m512 scale[4], zero[4];
};

INLINE struct params params_of(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles,
			       uint32_t count, uint32_t g)
{
	struct params p;
	UNROLL for (uint32_t i = 0; i < 4; i++)
	{
		const struct tile *t = tiles + (i < count ? i : 0);
		const uint8_t *param = t->k + shape->v_params_at + g * 64;
		p.scale[i] = halves16(param);
		p.zero[i] = _mm512_setzero_ps();
		fetch(param, t->ahead);
		if (kind != BYTES)
			p.zero[i] = halves16(param + 32);
		if (kind == PAIRS) /* codes are taken less 8: smaller ones lose less to rounded weights */
			p.zero[i] = _mm512_fmadd_ps(p.scale[i], _mm512_set1_ps(8), p.zero[i]);
		if (kind == JOINED) { /* less 128, to be signed bytes */
			p.zero[i] = _mm512_fmadd_ps(p.scale[i], _mm512_set1_ps(128 / 15.0f - 0.5f), p.zero[i]);
			p.scale[i] = _mm512_mul_ps(p.scale[i], _mm512_set1_ps(1 / 15.0f));
		}
		if (i >= count)
			p.scale[i] = p.zero[i] = _mm512_setzero_ps();
	}
	return p;
}

/* Weights of tile i; beyond the tiles there are, none: what lies there may be no number. */
INLINE __m512 tile_weights(const float *w, uint32_t i, uint32_t count)
{
	return _mm512_maskz_loadu_ps(i < count ? 0xffff : 0, w + i * TILE_TOKENS);
}

/* Bytes of four lanes, most significant first; adding 2^23 leaves an integer in a float's low bits. */
INLINE __m512i split(__m512 product_and_2_23, const bool fine)
{
	const __m512i order =
	    _mm512_broadcast_i32x4(fine ? _mm_setr_epi8(2, 6, 10, 14, 1, 5, 9, 13, 0, 4, 8, 12, -1, -1, -1, -1)
					: _mm_setr_epi8(1, 5, 9, 13, 0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1));
	return _mm512_shuffle_epi8(_mm512_castps_si512(product_and_2_23), order);
}

/* Weights times scales of one head and group as integers of 16 bits (fine: 23) of the largest. Returns what one unit
 * of the second byte is worth. */
INLINE float weigh(const float *w, uint32_t count, const struct params *p, const bool fine, struct weights *out)
{
	const float most_units = fine ? 65535 * 128.0f : 65535;
	__m512 x[4];
	UNROLL for (uint32_t i = 0; i < 4; i++) x[i] = _mm512_mul_ps(tile_weights(w, i, count), p->scale[i]);
	float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
	__m512 factor = _mm512_set1_ps(top > LEAST_TOP ? most_units / top : 0);
	UNROLL for (int i = 0; i < 4; i++)
	    _mm512_storeu_si512(out->bytes[i], split(_mm512_fmadd_ps(x[i], factor, _mm512_set1_ps(0x1p23f)), fine));
	return top > LEAST_TOP ? top * (fine ? 2 / 65535.0f : 1 / 65535.0f) : 0;
}

struct rows { /* weights of up to four heads as shares of each head's largest, times SHARES */
	_Alignas(64) float share[4][MICRO_BLOCK];
	float top[4]; /* what 1 in `share` stands for */
};

#define SHARES       65530  /* so that rounding cannot reach 65536 */
#define LEAST_SHARES 0xc000 /* bits that numbers from 2^14 on have */

INLINE void share_out(const float *w, uint32_t count, const int heads, struct rows *r)
{
	__m512 y[4][4], most[4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		most[h] = _mm512_setzero_ps();
		UNROLL for (uint32_t i = 0; i < 4 && h < heads; i++)
		{
			y[h][i] = tile_weights(w + h * MICRO_BLOCK, i, count);
			most[h] = _mm512_max_ps(most[h], y[h][i]);
		}
	}
	__m128 tops = most4(most);
	__mmask8 some = _mm_cmp_ps_mask(tops, _mm_set1_ps(LEAST_TOP), _CMP_GT_OQ);
	__m512 factors = _mm512_broadcast_f32x4(_mm_maskz_div_ps(some, _mm_set1_ps(SHARES), tops));
	_mm_storeu_ps(r->top, _mm_maskz_mul_ps(some, tops, _mm_set1_ps(1.0f / SHARES)));
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 4; i++)
	    _mm512_storeu_ps(r->share[h] + i * TILE_TOKENS,
			     _mm512_mul_ps(y[h][i], _mm512_permutexvar_ps(_mm512_set1_epi32(h), factors)));
}

/* Scales of a group of V as shares of the largest, ready for all heads. */
struct scales {
	float share[MICRO_TILES][TILE_TOKENS];
};

/* Of up to four groups from g on; tops[i]: what 1 stands for. */
INLINE void share_scales(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles,
			 uint32_t count, uint32_t g, uint32_t groups, struct scales *out, float *tops)
{
	__m512 scale[4][4], most[4];
	UNROLL for (uint32_t k = 0; k < 4; k++)
	{
		most[k] = _mm512_setzero_ps();
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			const struct tile *t = tiles + (i < count ? i : 0);
			scale[k][i] = halves16(t->k + shape->v_params_at + (k < groups ? g + k : g) * 64);
			if (i >= count)
				scale[k][i] = _mm512_setzero_ps();
			most[k] = _mm512_max_ps(most[k], scale[k][i]);
		}
	}
	__m128 top = most4(most);
	__mmask8 some = _mm_cmp_ps_mask(top, _mm_set1_ps(LEAST_TOP), _CMP_GT_OQ);
	__m512 factors = _mm512_broadcast_f32x4(_mm_maskz_div_ps(some, _mm_set1_ps(1), top));
	if (kind == JOINED)
		top = _mm_mul_ps(top, _mm_set1_ps(1 / 15.0f));
	_mm_mask_storeu_ps(tops, (__mmask8)((1 << groups) - 1), _mm_maskz_mov_ps(some, top));
	UNROLL for (uint32_t k = 0; k < 4 && k < groups; k++) UNROLL for (uint32_t i = 0; i < 4; i++)
	    _mm512_storeu_ps(out[k].share[i],
			     _mm512_mul_ps(scale[k][i], _mm512_permutexvar_ps(_mm512_set1_epi32((int)k), factors)));
}

/* weigh() for one group of several heads, without its long chain of dependent steps: the largest product is taken to
 * be the largest weight times the largest scale. Where that is four times too much, so that two bits would be lost,
 * false. */
INLINE bool weigh_shares(const struct rows *r, const struct scales *p, float top, const int heads,
			 struct weights *out, float *units)
{
	const __m512i high = _mm512_set1_epi32(LEAST_SHARES);
	__m512 scale[4];
	UNROLL for (int i = 0; i < 4; i++) scale[i] = _mm512_loadu_ps(p->share[i]);
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m512 n[4];
		UNROLL for (int i = 0; i < 4; i++)
		{
			n[i] = _mm512_fmadd_ps(_mm512_loadu_ps(r->share[h] + i * TILE_TOKENS), scale[i],
					       _mm512_set1_ps(0x1p23f));
			_mm512_storeu_si512(out[h].bytes[i], split(n[i], false));
		}
		__m512i any =
		    _mm512_or_si512(_mm512_castps_si512(n[0]),
				    _mm512_ternarylogic_epi32(_mm512_castps_si512(n[1]), _mm512_castps_si512(n[2]),
							      _mm512_castps_si512(n[3]), 0xfe));
		units[h] = r->top[h] * top;
		if (__builtin_expect(_mm512_test_epi32_mask(any, high) == 0, 0))
			return false;
	}
	return true;
}

/* Weighted sums of zeros. */
INLINE void weigh_zeros(const float *w, uint32_t count, const struct params *p, const int heads, float *zeros)
{
	__m512 sum[4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		sum[h] = _mm512_setzero_ps();
		UNROLL for (uint32_t i = 0; i < 4 && h < heads; i++) sum[h] =
		    _mm512_fmadd_ps(tile_weights(w + h * MICRO_BLOCK, i, count), p->zero[i], sum[h]);
	}
	_mm_storeu_ps(zeros, sums4(sum));
}

INLINE void add_sums(__m512i sums[3][2], const int run, const int bytes, float unit, float zero, float *to)
{
	__m512 x = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sums[0][run], 8), sums[1][run]));
	if (bytes == 3)
		x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2][run]), _mm512_set1_ps(1 / 256.0f), x);
	__m512 y = _mm512_add_ps(_mm512_loadu_ps(to), _mm512_set1_ps(zero));
	_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_set1_ps(unit), y));
}

/* Channels [c, c + 32): two runs of 16, which are both halves of a group's pairs. */
INLINE void pv_columns(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const struct weights *w, const int bytes, const float *units, const float *zeros,
		       const int heads, float *acc, size_t acc_stride)
{
	const size_t padded = tile_padded(shape->d_v);
	const size_t quad_bytes = kind == PAIRS ? 2 * padded : 4 * padded;
	__m512i sums[4][3][2]; /* [head][byte][run] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 2 * bytes; i++) sums[h][i / 2][i % 2] =
	    _mm512_setzero_si512();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + (kind == PAIRS ? 2 : 4) * c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes) {
			__m512i a = _mm512_loadu_si512(p), v[2];
			fetch(p, tiles[i].ahead);
			if (kind == PAIRS) {
				v[0] = _mm512_add_epi8(nibbles(a, false), _mm512_set1_epi8(-8));
				v[1] = _mm512_add_epi8(nibbles(a, true), _mm512_set1_epi8(-8));
			} else {
				__m512i b = _mm512_loadu_si512(p + 64);
				fetch(p + 64, tiles[i].ahead);
				v[0] =
				    kind == BYTES ? a : _mm512_add_epi8(joined(a, b, false), _mm512_set1_epi8(-128));
				v[1] =
				    kind == BYTES ? b : _mm512_add_epi8(joined(a, b, true), _mm512_set1_epi8(-128));
			}
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < bytes; k++)
			{
				__m512i x = four(w[h].bytes[i][j][k]);
				sums[h][k][0] = add_dots(sums[h][k][0], x, v[0]);
				sums[h][k][1] = add_dots(sums[h][k][1], x, v[1]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int r = 0; r < 2; r++) add_sums(
	    sums[h], r, bytes, units[h], kind == BYTES ? 0 : zeros[h], acc + (size_t)h * acc_stride + c + 16 * r);
}

struct group { /* all that pv_columns() needs of one group's weights */
	struct weights bytes[4];
	float units[4], zeros[4];
};

/* One by one, each by its own largest product. */
INLINE void weigh_exactly(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles,
			  uint32_t count, uint32_t g, const float *w, const bool fine, const int heads,
			  struct group *out)
{
	struct params p = params_of(kind, shape, tiles, count, g);
	UNROLL for (int h = 0; h < heads; h++) out->units[h] =
	    weigh(w + h * MICRO_BLOCK, count, &p, fine, out->bytes + h);
}

INLINE void weigh_group(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles,
			uint32_t count, uint32_t g, const float *w, const struct rows *r, const struct scales *scales,
			float top, const bool fine, const int heads, struct group *out)
{
	if (kind != BYTES) {
		struct params p = params_of(kind, shape, tiles, count, g);
		weigh_zeros(w, count, &p, heads, out->zeros);
	}
	if (fine || !weigh_shares(r, scales, top, heads, out->bytes, out->units))
		weigh_exactly(kind, shape, tiles, count, g, w, fine, heads, out);
}

/* Weighted sums for `heads` query heads. */
INLINE void pv_heads(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const float *w, const bool fine, const int heads, float *acc, size_t acc_stride, float *scratch)
{
	const uint32_t groups = kind == BYTES ? 1 : codec_groups(shape->d_v);
	struct group *group = (struct group *)scratch; /* [groups] */
	struct scales *scales = (struct scales *)(group + groups);
	float *tops = (float *)(scales + groups);
	struct rows rows;
	for (uint32_t g = 0; !fine && g < groups; g += 4)
		share_scales(kind, shape, tiles, count, g, groups - g, scales + g, tops + g);
	if (!fine)
		share_out(w, count, heads, &rows);
	for (uint32_t g = 0; g < groups; g++)
		weigh_group(kind, shape, tiles, count, g, w, &rows, scales + g, tops[g], fine, heads, group + g);
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP) {
		const struct group *x = kind == BYTES ? group : group + c / CODEC_GROUP;
		pv_columns(kind, shape, tiles, count, c, x->bytes, fine ? 3 : 2, x->units, x->zeros, heads, acc,
			   acc_stride);
	}
}

INLINE void pv(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (shape->alias) {
		avx512_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
#define HEADS(n)                                                                                                     \
	if (fine)                                                                                                    \
		pv_heads(kind, shape, tiles, count, w + h * MICRO_BLOCK, true, n, acc + h * acc_stride, acc_stride,  \
			 scratch);                                                                                   \
	else                                                                                                         \
		pv_heads(kind, shape, tiles, count, w + h * MICRO_BLOCK, false, n, acc + h * acc_stride, acc_stride, \
			 scratch)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

#define KERNELS(name, kind)                                                                                          \
	void avx512_qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk(kind, shape, tiles, count, q, heads, s);                                                          \
	}                                                                                                            \
	void avx512_pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		pv(kind, shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);                             \
	}
KERNELS(int8, BYTES)
KERNELS(int4, PAIRS)
KERNELS(int4r, JOINED)

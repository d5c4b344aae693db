/* FP8 for AVX-512 as floats: a dword holds four codes, of channels (scores) or of tokens (weighted sums). A code's bits in the
 * place of a float's are its value times 2^-120: what they are multiplied with makes up for it. Words are moved first, two
 * codes at a time. */
#include "quant/kernels_avx512.h"

#define LARGE 0x1p60f /* queries with a channel of this size are not lifted: some would become infinite */
#define LIFT  0x1p64f /* queries times this: sums of products with 2^-120 stay far from what has no exponent */

/* Codes 1 and 3 of each dword, or 0 and 2, moved by words to where floats have them. */
INLINE __m512i moved(__m512i x, const int b)
{
	return _mm512_srai_epi16(b % 2 ? x : _mm512_slli_epi16(x, 8), 4);
}

/* Code b of what has been moved, times 2^-120. */
INLINE __m512 code_value(__m512i x, const int b)
{
	x = b < 2 ? _mm512_slli_epi32(x, 16) : x;
	return _mm512_castsi512_ps(_mm512_and_si512(x, _mm512_set1_epi32((int)0x87f00000)));
}

/* sums[h][k] += code b of x[k] times the factor of head h and that code, for all b. */
INLINE void add_codes(const __m512i *x, const int n, const float *factors, size_t step, const int heads,
		      __m512 (*sums)[4])
{
	UNROLL for (int first = 0; first < 2; first++)
	{
		__m512i y[4];
		UNROLL for (int k = 0; k < n; k++) y[k] = moved(x[k], first);
		UNROLL for (int b = first; b < 4; b += 2)
		{
			__m512 v[4];
			UNROLL for (int k = 0; k < n; k++) v[k] = code_value(y[k], b);
			UNROLL for (int h = 0; h < heads; h++)
			{
				const __m512 factor = _mm512_set1_ps(factors[(size_t)h * step + (size_t)b]);
				UNROLL for (int k = 0; k < n; k++) sums[h][k] =
				    _mm512_fmadd_ps(factor, v[k], sums[h][k]);
			}
		}
	}
}

/* Up to four tiles. */
INLINE void qk_tiles(const struct tile_shape *shape, const struct tile *t, const int tiles, const float *lifted,
		     const int heads, float *s)
{
	const size_t padded = tile_padded(shape->d_qk);
	__m512 sums[4][4]; /* [head][tile] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) sums[h][k] = _mm512_setzero_ps();
	for (uint32_t c = 0; c < shape->d_qk; c += 4) {
		__m512i x[4];
		UNROLL for (int k = 0; k < tiles; k++)
		{
			x[k] = _mm512_loadu_si512(t[k].k + c * TILE_TOKENS);
			fetch(t[k].k + c * TILE_TOKENS, t[k].ahead);
		}
		add_codes(x, tiles, lifted + c, padded, heads, sums);
	}
	UNROLL for (int k = 0; k < tiles; k++)
	{
		const __m512 scale =
		    _mm512_mul_ps(halves16(t[k].k + shape->k_params_at), _mm512_set1_ps(0x1p120f / LIFT));
		fetch(t[k].k + shape->k_params_at, t[k].ahead);
		UNROLL for (int h = 0; h < heads; h++)
		    _mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS, _mm512_mul_ps(sums[h][k], scale));
	}
}

/* A query lifted, and what its scores still lack. */
static float lift(const float *q, uint32_t padded, float *lifted)
{
	__m512 most = _mm512_setzero_ps();
	for (uint32_t c = 0; c < padded; c += 16)
		most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(q + c)));
	const float by = _mm512_reduce_max_ps(most) < LARGE ? LIFT : 1;
	for (uint32_t c = 0; c < padded; c += 16)
		_mm512_storeu_ps(lifted + c, _mm512_mul_ps(_mm512_loadu_ps(q + c), _mm512_set1_ps(by)));
	return LIFT / by;
}

INLINE void qk_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *q,
		     size_t q_stride, const int heads, float *s, float *lifted)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	float lacking[4];
	uint32_t i = 0;
	for (int h = 0; h < heads; h++)
		lacking[h] = lift(q + (size_t)h * q_stride, padded, lifted + (size_t)h * padded);
	for (; i + 4 <= count; i += 4)
		qk_tiles(shape, tiles + i, 4, lifted, heads, s + i * TILE_TOKENS);
	for (; i < count; i++)
		qk_tiles(shape, tiles + i, 1, lifted, heads, s + i * TILE_TOKENS);
	for (int h = 0; h < heads; h++)
		if (lacking[h] > 1)
			avx512_scale(s + h * MICRO_BLOCK, count * TILE_TOKENS, lacking[h]);
}

/* In `scratch` the queries of four heads, lifted. */
void avx512_qk_fp8(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		   const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
#define HEADS(n) qk_heads(shape, tiles, count, q->f + h * q->stride, q->stride, n, s + h * MICRO_BLOCK, scratch)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

/* Weights times scales times 2^120, which the largest scale allows: [heads][MICRO_BLOCK]. */
INLINE void weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		  uint32_t heads, float *scaled)
{
	for (uint32_t i = 0; i < count; i++) {
		const __m512 scale = halves16(tiles[i].k + shape->v_params_at);
		for (uint32_t h = 0; h < heads; h++) {
			const size_t at = h * MICRO_BLOCK + i * TILE_TOKENS;
			const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(w + at), scale);
			_mm512_storeu_ps(scaled + at, _mm512_mul_ps(x, _mm512_set1_ps(0x1p120f)));
		}
	}
}

/* Channels [c, c + 16 n). */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c, const int n,
		       const float *w, const int heads, float *acc, size_t acc_stride)
{
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v);
	__m512 sums[4][4]; /* [head][run of 16] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < n; k++) sums[h][k] =
	    _mm512_loadu_ps(acc + (size_t)h * acc_stride + c + 16 * k);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + 4 * c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes, w += 4) {
			__m512i x[4];
			UNROLL for (int k = 0; k < n; k++)
			{
				x[k] = _mm512_loadu_si512(p + 64 * k);
				fetch(p + 64 * k, tiles[i].ahead);
			}
			add_codes(x, n, w, MICRO_BLOCK, heads, sums);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < n; k++)
	    _mm512_storeu_ps(acc + (size_t)h * acc_stride + c + 16 * k, sums[h][k]);
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *scaled,
		     const int heads, float *acc, size_t acc_stride)
{
	uint32_t c = 0;
	for (; c + 64 <= tile_padded(shape->d_v); c += 64)
		pv_columns(shape, tiles, count, c, 4, scaled, heads, acc, acc_stride);
	if (c < shape->d_v)
		pv_columns(shape, tiles, count, c, 2, scaled, heads, acc, acc_stride);
}

void avx512_pv_fp8(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w, bool fine,
		   uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (shape->alias) {
		avx512_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	weigh(shape, tiles, count, w, heads, scratch);
#define HEADS(n) pv_heads(shape, tiles, count, scratch + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

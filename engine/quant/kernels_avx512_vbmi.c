/* FP8 for AVX-512 with VBMI and VNNI, and the table: codes, queries and weights become words (16 bits), whose products
 * vpdpwssd sums as exact integers. For processors without `vdpbf16ps`, or with one that does fewer products than FMA:
 * Intel's takes two cycles, where two vpdpwssd take one.
 *
 * A code is its value in units of 2^-6, at most 28672; what is less than 2^-3, a 3584th of the row's largest, is at the
 * nearest. Two byte look-ups give the magnitude's bytes. The lower one is never 0 unless the value is (256 and its
 * multiples are one more), so that turning all bits of the upper one and the sign of the lower one makes it negative.
 * Queries and weights are words such that no sum goes beyond 31 bits. Where a token stands out the kernels of
 * kernels_avx512_fp8.c do. */
#include "quant/kernels_avx512_words.h"
#include "quant/wide.h"

#define UNIT 0x1p-6f /* what a code's word counts */

/* Lower and upper bytes of the 128 positive codes. */
struct lookup {
	__m512i low[2], high[2];
};

static struct lookup look_up(void)
{
#define ROUNDED(n, bits) (((n) + (1 << (bits) >> 1)) >> (bits))
#define SIZE(e, m)       ((e) == 0 ? ROUNDED(m, 3) : (e) < 4 ? ROUNDED(8 + (m), 4 - (e)) : (8 + (m)) << ((e) - 4))
#define WORD(e, m)       (SIZE(e, m) + (SIZE(e, m) && !(SIZE(e, m) & 255)))
#define LOW(e, m)        (WORD(e, m) & 255)
#define HIGH(e, m)       (WORD(e, m) >> 8)
#define ROW(B, e)        B(e, 0), B(e, 1), B(e, 2), B(e, 3), B(e, 4), B(e, 5), B(e, 6), B(e, 7)
#define HALF(B, e)                                                                                                   \
	{                                                                                                            \
		ROW(B, e), ROW(B, e + 1), ROW(B, e + 2), ROW(B, e + 3), ROW(B, e + 4), ROW(B, e + 5), ROW(B, e + 6), \
		    ROW(B, e + 7)                                                                                    \
	}
	static const uint8_t table[4][64] = {HALF(LOW, 0), HALF(LOW, 8), HALF(HIGH, 0), HALF(HIGH, 8)};
#undef HALF
#undef ROW
#undef HIGH
#undef LOW
#undef WORD
#undef SIZE
#undef ROUNDED
	return (struct lookup){{_mm512_loadu_si512(table[0]), _mm512_loadu_si512(table[1])},
			       {_mm512_loadu_si512(table[2]), _mm512_loadu_si512(table[3])}};
}

/* 64 codes to words: of each 16 bytes the first 8 in out[0], the others in out[1]. */
INLINE void code_words(const struct lookup *l, const uint8_t *p, __m512i *out)
{
	const __m512i c = _mm512_loadu_si512(p), ones = _mm512_set1_epi8(-1);
	const __mmask64 negative = _mm512_cmpgt_epu8_mask(c, _mm512_set1_epi8(-128)); /* not the 0 with a sign */
	__m512i low = _mm512_permutex2var_epi8(l->low[0], c, l->low[1]);
	__m512i high = _mm512_permutex2var_epi8(l->high[0], c, l->high[1]);
	low = _mm512_mask_sub_epi8(low, negative, _mm512_setzero_si512(), low);
	high = _mm512_mask_sub_epi8(high, negative, ones, high);
	out[0] = _mm512_unpacklo_epi8(low, high);
	out[1] = _mm512_unpackhi_epi8(low, high);
}

/* Four words in every quadword. */
INLINE __m512i four_words(const uint16_t *p)
{
	int64_t x;
	memcpy(&x, p, sizeof x);
	return _mm512_set1_epi64(x);
}

/* Neighbouring lanes of a and b added: per 128 bits two results of a, then two of b. */
INLINE __m512 pairs(__m512i a, __m512i b)
{
	const __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
	return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)),
						   _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd))));
}

/* One or two tiles. */
INLINE void qk_tiles(const struct tile_shape *shape, const struct tile *t, const int tiles, const uint16_t *words,
		     const float *units, const int heads, float *s)
{
	const struct lookup l = look_up();
	const size_t padded = tile_padded(shape->d_qk);
	__m512i sums[4][2][2]; /* [head][tile][tokens 0, 1 or 2, 3 of each four] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 4; k++) sums[h][k / 2][k % 2] =
	    _mm512_setzero_si512();
	for (uint32_t c = 0; c < shape->d_qk; c += 4) {
		__m512i codes[2][2];
		UNROLL for (int k = 0; k < tiles; k++)
		{
			code_words(&l, t[k].k + c * TILE_TOKENS, codes[k]);
			fetch(t[k].k + c * TILE_TOKENS, t[k].ahead);
		}
		UNROLL for (int h = 0; h < heads; h++)
		{
			const __m512i x = four_words(words + (size_t)h * padded + c);
			UNROLL for (int k = 0; k < 2 * tiles; k++) sums[h][k / 2][k % 2] =
			    add_words(sums[h][k / 2][k % 2], codes[k / 2][k % 2], x);
		}
	}
	UNROLL for (int k = 0; k < tiles; k++)
	{
		const __m512 scale = _mm512_mul_ps(halves16(t[k].k + shape->k_params_at), _mm512_set1_ps(UNIT));
		fetch(t[k].k + shape->k_params_at, t[k].ahead);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m512 x = _mm512_mul_ps(pairs(sums[h][k][0], sums[h][k][1]), scale);
			_mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS,
					 _mm512_mul_ps(x, _mm512_set1_ps(units[h])));
		}
	}
}

INLINE void qk_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *q,
		     size_t q_stride, const int heads, float *s, uint16_t *words)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	float units[4];
	uint32_t i = 0;
	for (int h = 0; h < heads; h++)
		units[h] = query_words(q + (size_t)h * q_stride, padded, words + (size_t)h * padded);
	for (; i + 2 <= count; i += 2)
		qk_tiles(shape, tiles + i, 2, words, units, heads, s + i * TILE_TOKENS);
	if (i < count)
		qk_tiles(shape, tiles + i, 1, words, units, heads, s + i * TILE_TOKENS);
}

/* In `scratch` four queries' words. */
static void qk(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const struct micro_query *q,
	       uint32_t heads, float *s, float *scratch)
{
	if (q->fine || shape->alias) { /* MLA: scores of 576 channels */
		avx512_qk_fp8(shape, tiles, count, q, heads, s, scratch);
		return;
	}
#define HEADS(n)                                                                                                     \
	qk_heads(shape, tiles, count, q->f + h * q->stride, q->stride, n, s + h * MICRO_BLOCK, (uint16_t *)scratch)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

/* Channels [c, c + 16 n). */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c, const int n,
		       const uint16_t *words, const float *units, const int heads, float *acc, size_t acc_stride)
{
	const struct lookup l = look_up();
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v);
	__m512i sums[4][4]; /* [head][run of 16, channels 0, 1 or 2, 3 of each four] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2 * n; k++) sums[h][k] =
	    _mm512_setzero_si512();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + 4 * c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes) {
			__m512i v[4];
			UNROLL for (int k = 0; k < n; k++)
			{
				code_words(&l, p + 64 * k, v + 2 * k);
				fetch(p + 64 * k, tiles[i].ahead);
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				const __m512i x = four_words(words + h * MICRO_BLOCK + i * TILE_TOKENS + 4 * j);
				UNROLL for (int k = 0; k < 2 * n; k++) sums[h][k] = add_words(sums[h][k], v[k], x);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < n; k++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 16 * k;
		const __m512 x = pairs(sums[h][2 * k], sums[h][2 * k + 1]);
		_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_set1_ps(units[h]), _mm512_loadu_ps(to)));
	}
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     const int heads, float *acc, size_t acc_stride)
{
	uint16_t words[4][MICRO_BLOCK];
	float units[4], scales[MICRO_BLOCK];
	for (uint32_t i = 0; i < count; i++)
		_mm512_storeu_ps(scales + i * TILE_TOKENS,
				 _mm512_mul_ps(halves16(tiles[i].k + shape->v_params_at), _mm512_set1_ps(UNIT)));
	for (int h = 0; h < heads; h++)
		units[h] = weigh_words(w + h * MICRO_BLOCK, scales, count, words[h]);
	for (uint32_t c = 0; c < tile_padded(shape->d_v); c += 32)
		pv_columns(shape, tiles, count, c, 2, words[0], units, heads, acc, acc_stride);
}

static void pv(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w, bool fine,
	       uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (fine || shape->alias) {
		avx512_pv_fp8(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
#define HEADS(n) pv_heads(shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

/* Words of queries are made of the queries themselves, a block at a time: of latents and short plans none are needed. */
static void prepare(const float *q, uint32_t dim, uint32_t formats, uint8_t *forms)
{
	formats &= ~(FORMAT_BIT(IKV_FMT_FP8) | FORMAT_BIT(IKV_FMT_SPARSE));
	if (formats)
		avx512_prepare(q, dim, formats, forms);
}

const struct micro_kernels micro_avx512vbmi = {
    .isa = "avx512vbmi",
    .wide = &wide_avx512,
    .format =
	{
	    [IKV_FMT_FP16] = {avx512_qk_fp16, avx512_pv_fp16},
	    [TILE_HALF] = {avx512_qk_half, avx512_pv_fp16},
	    [IKV_FMT_FP8] = {qk, pv, true},
	    [IKV_FMT_INT8] = {avx512_qk_int8, avx512_pv_int8, true},
	    [IKV_FMT_INT4] = {avx512_qk_int4, avx512_pv_int4, true},
	    [IKV_FMT_INT4_RESIDUAL] = {avx512_qk_int4r, avx512_pv_int4r, true},
	    [IKV_FMT_BF16] = {avx512_qk_bf16, avx512_pv_bf16},
	    [IKV_FMT_KIVI8] = {avx512_qk_kivi8, avx512_pv_kivi8, true},
	    [IKV_FMT_KIVI4] = {avx512_qk_kivi4, avx512_pv_int4, true},
	    [IKV_FMT_KIVI2] = {avx512_qk_kivi2, avx512_pv_kivi2, true},
	    [IKV_FMT_SPARSE] = {avx512vbmi_qk_sparse, avx512vbmi_pv_sparse, true},
	    [TILE_FLOAT] = {avx512_qk_float, avx512_pv_float},
	},
    .forms_bytes = avx512_forms_bytes,
    .prepare = prepare,
    .peak = avx512_peak,
    .exp_sum = avx512_exp_sum,
    .scale = avx512_scale,
};

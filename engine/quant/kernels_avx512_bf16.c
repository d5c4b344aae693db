/* FP8 for AVX-512 with BF16 and VBMI, and the table: codes become BF16 numbers and are multiplied with queries and
 * weights that are two BF16 numbers each (17 bits and more). Where many tokens share the weight they are one each,
 * rounded: off by 2^-9 of themselves at most, a thirteenth of what rounding values to FP8 costs. Sums in float.
 *
 * Codes widen exactly by two byte look-ups. Where queries and weights are rounded shifts do it, which leave the
 * multipliers alone: a code's bits in the place of a BF16 number's are the value times 2^-120, and what has no exponent
 * there, less than 2^-6 units or a 28672nd of the row's largest, counts as 0. Of each four codes the shifts give the
 * first and third, then the others. */
#include "quant/kernels_avx512.h"
#include "quant/wide.h"

/* High and low bytes of the BF16 numbers of the 128 positive E4M3 codes. */
struct lookup {
	__m512i high[2], low[2];
};

static const uint8_t *lookup_bytes(void)
{
	static const uint8_t table[4][64] = {
#define EXPONENT(e)    ((e) + 120)
#define NORMAL_HIGH(e) EXPONENT(e) >> 1
#define ROW_HIGH(e)                                                                                                  \
	NORMAL_HIGH(e), NORMAL_HIGH(e), NORMAL_HIGH(e), NORMAL_HIGH(e), NORMAL_HIGH(e), NORMAL_HIGH(e),              \
	    NORMAL_HIGH(e), NORMAL_HIGH(e)
#define NORMAL_LOW(e, m) (EXPONENT(e) & 1) << 7 | (m) << 4
#define ROW_LOW(e)                                                                                                   \
	NORMAL_LOW(e, 0), NORMAL_LOW(e, 1), NORMAL_LOW(e, 2), NORMAL_LOW(e, 3), NORMAL_LOW(e, 4), NORMAL_LOW(e, 5),  \
	    NORMAL_LOW(e, 6), NORMAL_LOW(e, 7)
	    /* Subnormal codes m · 2^-9 are normal numbers: 2^-9 (1, 2, 2 + 1, 4 … 4 + 3). */
	    {0, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c, ROW_HIGH(1), ROW_HIGH(2), ROW_HIGH(3), ROW_HIGH(4),
	     ROW_HIGH(5), ROW_HIGH(6), ROW_HIGH(7)},
	    {ROW_HIGH(8), ROW_HIGH(9), ROW_HIGH(10), ROW_HIGH(11), ROW_HIGH(12), ROW_HIGH(13), ROW_HIGH(14),
	     ROW_HIGH(15)},
	    {0, 0x00, 0x80, 0xc0, 0x00, 0x20, 0x40, 0x60, ROW_LOW(1), ROW_LOW(2), ROW_LOW(3), ROW_LOW(4), ROW_LOW(5),
	     ROW_LOW(6), ROW_LOW(7)},
	    {ROW_LOW(8), ROW_LOW(9), ROW_LOW(10), ROW_LOW(11), ROW_LOW(12), ROW_LOW(13), ROW_LOW(14), ROW_LOW(15)},
	};
	return table[0];
}

INLINE struct lookup look_up(void)
{
	const uint8_t *t = lookup_bytes();
	struct lookup l = {{_mm512_loadu_si512(t), _mm512_loadu_si512(t + 64)},
			   {_mm512_loadu_si512(t + 128), _mm512_loadu_si512(t + 192)}};
	return l;
}

/* 64 codes to 64 BF16 numbers: of each 16 bytes the first 8 in out[0], the others in out[1]. */
INLINE void to_bf16(const struct lookup *l, const uint8_t *p, __m512bh *out)
{
	__m512i c = _mm512_loadu_si512(p);
	__m512i low = _mm512_permutex2var_epi8(l->low[0], c, l->low[1]);
	__m512i high = _mm512_permutex2var_epi8(l->high[0], c, l->high[1]);
	high = _mm512_ternarylogic_epi32(high, c, _mm512_set1_epi8((char)0x80), 0xf8); /* high | (c & 0x80) */
	out[0] = (__m512bh)_mm512_unpacklo_epi8(low, high);
	out[1] = (__m512bh)_mm512_unpackhi_epi8(low, high);
}

/* Four BF16 numbers in every quadword. */
INLINE __m512bh four(const uint16_t *p)
{
	int64_t x;
	memcpy(&x, p, sizeof x);
	return (__m512bh)_mm512_set1_epi64(x);
}

/* Neighbouring lanes of a and b added: per 128 bits two results of a, then two of b. */
INLINE __m512 pairs(__m512 a, __m512 b)
{
	return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}

/* One or two tiles. */
INLINE void qk_fine(const struct tile_shape *shape, const struct tile *t, const int tiles, const struct forms *q,
		    const int heads, float *s)
{
	const struct lookup l = look_up();
	const uint32_t padded = tile_padded(shape->d_qk);
	__m512 sums[4][2][2]; /* [head][tile][tokens 0, 1 or 2, 3 of each four] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 4; k++) sums[h][k / 2][k % 2] =
	    _mm512_setzero_ps();
	for (uint32_t c = 0; c < padded; c += 4) {
		__m512bh codes[2][2];
		UNROLL for (int k = 0; k < tiles; k++)
		{
			to_bf16(&l, t[k].k + c * TILE_TOKENS, codes[k]);
			fetch(t[k].k + c * TILE_TOKENS, t[k].ahead);
		}
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int part = 0; part < 2; part++)
		{
			__m512bh x = four(q[h].halves + 2 * c + 4 * part);
			UNROLL for (int k = 0; k < 2 * tiles; k++) sums[h][k / 2][k % 2] =
			    _mm512_dpbf16_ps(sums[h][k / 2][k % 2], codes[k / 2][k % 2], x);
		}
	}
	UNROLL for (int k = 0; k < tiles; k++)
	{
		__m512 scale = halves16(t[k].k + shape->k_params_at);
		fetch(t[k].k + shape->k_params_at, t[k].ahead);
		UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(
		    s + h * MICRO_BLOCK + k * TILE_TOKENS, _mm512_mul_ps(pairs(sums[h][k][0], sums[h][k][1]), scale));
	}
}

/* Halfway from 2^-120 to 1: queries and weights are multiplied by it before they meet codes, sums afterwards, so that
 * no product is too small. */
#define HALFWAY 0x1p60f

/* 64 codes to 64 BF16 numbers times 2^-120. */
INLINE void shifted(const uint8_t *p, __m512bh *out)
{
	const __m512i field = _mm512_set1_epi16((short)0x87f0), c = _mm512_loadu_si512(p);
	out[0] = (__m512bh)_mm512_and_si512(_mm512_srai_epi16(_mm512_slli_epi16(c, 8), 4), field);
	out[1] = (__m512bh)_mm512_and_si512(_mm512_srai_epi16(c, 4), field);
}

/* Two BF16 numbers in every lane. */
INLINE __m512bh two(const uint16_t *p)
{
	int32_t x;
	memcpy(&x, p, sizeof x);
	return (__m512bh)_mm512_set1_epi32(x);
}

/* Up to four tiles. */
INLINE void qk_rounded(const struct tile_shape *shape, const struct tile *t, const int tiles, const struct forms *q,
		       const int heads, float *s)
{
	__m512 sums[4][4]; /* [head][tile] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) sums[h][k] = _mm512_setzero_ps();
	for (uint32_t c = 0; c < tile_padded(shape->d_qk); c += 4) {
		__m512bh codes[4][2];
		UNROLL for (int k = 0; k < tiles; k++)
		{
			shifted(t[k].k + c * TILE_TOKENS, codes[k]);
			fetch(t[k].k + c * TILE_TOKENS, t[k].ahead);
		}
		UNROLL for (int i = 0; i < 2; i++) UNROLL for (int h = 0; h < heads; h++)
		{
			__m512bh x = two(q[h].nearest + c + 2 * i);
			UNROLL for (int k = 0; k < tiles; k++) sums[h][k] =
			    _mm512_dpbf16_ps(sums[h][k], codes[k][i], x);
		}
	}
	UNROLL for (int k = 0; k < tiles; k++)
	{
		__m512 scale = _mm512_mul_ps(halves16(t[k].k + shape->k_params_at), _mm512_set1_ps(HALFWAY));
		fetch(t[k].k + shape->k_params_at, t[k].ahead);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m512 x = _mm512_mul_ps(_mm512_mul_ps(sums[h][k], scale), _mm512_set1_ps(*q[h].size));
			_mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS, x);
		}
	}
}

INLINE void qk_all(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const struct micro_query *q,
		   const bool fine, uint32_t heads, float *s)
{
	const uint32_t many = fine ? 2 : 4;
#define TILES_OF(n, many)                                                                                            \
	(fine ? qk_fine : qk_rounded)(shape, tiles + i, many, f, n, s + h * MICRO_BLOCK + i * TILE_TOKENS)
#define TILES(n)                                                                                                     \
	do {                                                                                                         \
		struct forms f[n];                                                                                   \
		for (uint32_t k = 0; k < n; k++)                                                                     \
			f[k] = forms_of(q->forms + (h + k) * q->forms_stride, shape->d_qk);                          \
		uint32_t i = 0;                                                                                      \
		for (; i + many <= count; i += many)                                                                 \
			TILES_OF(n, fine ? 2 : 4);                                                                   \
		for (; i < count; i++)                                                                               \
			TILES_OF(n, 1);                                                                              \
	} while (0)
	BY_FOUR(heads, TILES)
#undef TILES
#undef TILES_OF
}

static void qk(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const struct micro_query *q,
	       uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	if (q->fine || shape->alias) /* MLA: scores of 576 channels */
		qk_all(shape, tiles, count, q, true, heads, s);
	else
		qk_all(shape, tiles, count, q, false, heads, s);
}

/* Weights times scales as two BF16 numbers each, [2][MICRO_BLOCK] a head. */
INLINE void weigh_fine(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		       uint32_t heads, uint16_t *halves)
{
	for (uint32_t i = 0; i < count; i++) {
		__m512 scale = halves16(tiles[i].k + shape->v_params_at);
		fetch(tiles[i].k + shape->v_params_at, tiles[i].ahead);
		for (uint32_t h = 0; h < heads; h++) {
			uint16_t *to = halves + (size_t)h * 2 * MICRO_BLOCK + i * TILE_TOKENS;
			__m512 x = _mm512_mul_ps(_mm512_loadu_ps(w + h * MICRO_BLOCK + i * TILE_TOKENS), scale);
			__m512i high = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xffff0000));
			__m512 low = _mm512_sub_ps(x, _mm512_castsi512_ps(high));
			_mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(_mm512_srli_epi32(high, 16)));
			_mm256_storeu_si256((__m256i *)(to + MICRO_BLOCK), (__m256i)_mm512_cvtneps_pbh(low));
		}
	}
}

/* Channels [c, c + 32). */
INLINE void pv_fine(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c,
		    const uint16_t *halves, const int heads, float *acc, size_t acc_stride)
{
	const struct lookup l = look_up();
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v);
	__m512 sums[4][4];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 4; k++) sums[h][k] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + 4 * c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes) {
			__m512bh v[4];
			to_bf16(&l, p, v);
			to_bf16(&l, p + 64, v + 2);
			fetch(p, tiles[i].ahead);
			fetch(p + 64, tiles[i].ahead);
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (int part = 0; part < 2; part++)
			{
				__m512bh x = four(halves + (h * 2 + part) * MICRO_BLOCK + i * TILE_TOKENS + 4 * j);
				UNROLL for (int k = 0; k < 4; k++) sums[h][k] = _mm512_dpbf16_ps(sums[h][k], v[k], x);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2; k++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 16 * k;
		_mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), pairs(sums[h][2 * k], sums[h][2 * k + 1])));
	}
}

/* Weights times scales as one BF16 number each, [MICRO_BLOCK] a head; of each four the second and third change
 * places. */
INLINE void weigh_rounded(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
			  uint32_t heads, uint16_t *nearest)
{
	const __m256i order = _mm256_broadcastsi128_si256(
	    _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
	for (uint32_t i = 0; i < count; i++) {
		__m512 scale = _mm512_mul_ps(halves16(tiles[i].k + shape->v_params_at), _mm512_set1_ps(HALFWAY));
		fetch(tiles[i].k + shape->v_params_at, tiles[i].ahead);
		for (uint32_t h = 0; h < heads; h++) {
			const size_t at = h * MICRO_BLOCK + i * TILE_TOKENS;
			__m256i x = (__m256i)_mm512_cvtneps_pbh(_mm512_mul_ps(_mm512_loadu_ps(w + at), scale));
			_mm256_storeu_si256((__m256i *)(nearest + at), _mm256_shuffle_epi8(x, order));
		}
	}
}

/* Channels [c, c + 16 n). */
INLINE void pv_rounded(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c, const int n,
		       const uint16_t *nearest, const int heads, float *acc, size_t acc_stride)
{
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v);
	__m512 sums[4][4]; /* [head][run of 16] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < n; k++) sums[h][k] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + 4 * c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes) {
			__m512bh v[4][2];
			UNROLL for (int k = 0; k < n; k++)
			{
				shifted(p + 64 * k, v[k]);
				fetch(p + 64 * k, tiles[i].ahead);
			}
			UNROLL for (int m = 0; m < 2; m++) UNROLL for (int h = 0; h < heads; h++)
			{
				__m512bh x = two(nearest + h * MICRO_BLOCK + i * TILE_TOKENS + 4 * j + 2 * (uint32_t)m);
				UNROLL for (int k = 0; k < n; k++) sums[h][k] = _mm512_dpbf16_ps(sums[h][k], v[k][m], x);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < n; k++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 16 * k;
		_mm512_storeu_ps(to, _mm512_fmadd_ps(sums[h][k], _mm512_set1_ps(HALFWAY), _mm512_loadu_ps(to)));
	}
}

INLINE void pv_all(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		   const bool fine, uint32_t heads, float *acc, size_t acc_stride, uint16_t *halves)
{
	if (fine)
		weigh_fine(shape, tiles, count, w, heads, halves);
	else
		weigh_rounded(shape, tiles, count, w, heads, halves);
#define ROUNDED(n, many)                                                                                             \
	pv_rounded(shape, tiles, count, c, many, halves + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
#define HEADS(n)                                                                                                     \
	do {                                                                                                         \
		uint32_t c = 0;                                                                                      \
		for (; fine && c < shape->d_v; c += 32)                                                              \
			pv_fine(shape, tiles, count, c, halves + h * 2 * MICRO_BLOCK, n, acc + h * acc_stride,       \
				acc_stride);                                                                         \
		for (; c + 64 <= tile_padded(shape->d_v); c += 64)                                                   \
			ROUNDED(n, 4);                                                                               \
		if (c < shape->d_v)                                                                                  \
			ROUNDED(n, 2);                                                                               \
	} while (0)
	BY_FOUR(heads, HEADS)
#undef HEADS
#undef ROUNDED
}

static void pv(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w, bool fine,
	       uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (shape->alias) {
		avx512_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	if (fine)
		pv_all(shape, tiles, count, w, true, heads, acc, acc_stride, (uint16_t *)scratch);
	else
		pv_all(shape, tiles, count, w, false, heads, acc, acc_stride, (uint16_t *)scratch);
}

const struct micro_kernels micro_avx512bf16 = {
    .isa = "avx512bf16",
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
	    [IKV_FMT_SPARSE] = {avx512bf16_qk_sparse, avx512bf16_pv_sparse, true},
	    [TILE_FLOAT] = {avx512_qk_float, avx512_pv_float},
	},
    .forms_bytes = avx512_forms_bytes,
    .prepare = avx512_prepare,
    .peak = avx512_peak,
    .exp_sum = avx512_exp_sum,
    .scale = avx512_scale,
};

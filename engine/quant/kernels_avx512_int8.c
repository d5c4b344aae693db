/* INT8 for AVX-512 with VNNI.
 *
 * Where no token stands out, queries and weights are nine bits: a magnitude of one unsigned byte and a sign. A sign is
 * given to the codes, by an XOR that turns a code v into -v - 1, so one product of bytes does for both; what the ones
 * sum up to is known beforehand. Queries have a unit for each 32 channels, weights one for each head of a block. In
 * other blocks a query is three signed 8-bit digits a channel, 23 bits, and so are weights (kernels_avx512_sums.c).
 * Sums of products are exact integers; 16 tokens or channels lie across the lanes and nothing is summed across them. */
#include "quant/kernels_avx512_dots.h"

#define RUN 128 /* channels whose sums fit int32: 128 · 255 · 128 · 256 < 2^31 */

/* Sixteen channels of nine bits as `nine` has them; returns the negative ones' magnitudes, lane by lane. */
INLINE __m512i put_query(__m512i n, uint8_t *to)
{
	const __m512i size = _mm512_abs_epi32(n);
	const __mmask16 negative = _mm512_movepi32_mask(n);
	const __m128i sizes = _mm512_cvtepi32_epi8(size);
	const __m128i signs = _mm_mask_blend_epi8(negative, _mm_set1_epi8(-128), _mm_set1_epi8(127));
	_mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi32(sizes, signs));
	_mm_storeu_si128((__m128i *)(to + 16), _mm_unpackhi_epi32(sizes, signs));
	return _mm512_maskz_mov_epi32(negative, size);
}

void avx512_prepare_nine(const float *q, uint32_t groups, const struct forms *f)
{
	for (uint32_t g = 0; g < groups; g++) {
		const __m512 x = _mm512_loadu_ps(q + 32 * g), y = _mm512_loadu_ps(q + 32 * g + 16);
		const float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x), _mm512_abs_ps(y)));
		const __m512 factor = _mm512_set1_ps(top > 1e-30f ? 255 / top : 0);
		const __m512i m = _mm512_cvtps_epi32(_mm512_mul_ps(x, factor));
		const __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(y, factor));
		uint8_t *to = (uint8_t *)f->nine + 64 * g;
		const __m512i low = put_query(m, to), high = put_query(n, to + 32);
		((float *)f->nine_units)[g] = top > 1e-30f ? top / 255 : 0;
		((int32_t *)f->negative)[g] = _mm512_reduce_add_epi32(_mm512_add_epi32(low, high));
	}
}

/* Scores of tiles from nine bits of the query, for up to four tiles: each broadcast serves them all. */
INLINE void qk_nine(const struct tile_shape *shape, const struct tile *t, const int tiles, const struct forms *q,
		    const int heads, float *s)
{
	__m512 total[4][4]; /* [head][tile] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) total[h][k] =
	    _mm512_setzero_ps();
	for (size_t g = 0; g < codec_groups(shape->d_qk); g++) {
		__m512i sums[4][4];
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) sums[h][k] =
		    _mm512_set1_epi32(q[h].negative[g]);
		for (size_t c = CODEC_GROUP * g; c < CODEC_GROUP * (g + 1); c += 4) {
			__m512i codes[4];
			UNROLL for (int k = 0; k < tiles; k++)
			{
				codes[k] = _mm512_loadu_si512(t[k].k + c * TILE_TOKENS);
				fetch(t[k].k + c * TILE_TOKENS, t[k].ahead);
			}
			UNROLL for (int h = 0; h < heads; h++) add_nine(sums[h], codes, tiles, q[h].nine + 2 * c);
		}
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < tiles; k++) total[h][k] =
		    _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[h][k]), _mm512_set1_ps(q[h].nine_units[g]), total[h][k]);
	}
	UNROLL for (int k = 0; k < tiles; k++)
	{
		const __m512 scale = halves16(t[k].k + shape->k_params_at);
		fetch(t[k].k + shape->k_params_at, t[k].ahead);
		UNROLL for (int h = 0; h < heads; h++)
		    _mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS, _mm512_mul_ps(total[h][k], scale));
	}
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

/* Scores of a tile from three digits, by runs of channels. */
INLINE void qk_fine(const struct tile_shape *shape, const struct tile *t, const struct forms *q, const int heads,
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

void avx512_qk_int8(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	const bool fine = q->fine || shape->alias; /* MLA: scores of 576 channels */
	(void)scratch;
#define EACH(n)                                                                                                      \
	do {                                                                                                         \
		struct forms f[n];                                                                                   \
		uint32_t i = 0;                                                                                      \
		float *to = s + h * MICRO_BLOCK;                                                                     \
		for (uint32_t k = 0; k < n; k++)                                                                     \
			f[k] = forms_of(q->forms + (h + k) * q->forms_stride, shape->d_qk);                          \
		for (; fine && i < count; i++)                                                                       \
			qk_fine(shape, tiles + i, f, n, to + i * TILE_TOKENS);                                       \
		for (; i + 4 <= count; i += 4)                                                                       \
			qk_nine(shape, tiles + i, 4, f, n, to + i * TILE_TOKENS);                                    \
		for (; i < count; i++)                                                                               \
			qk_nine(shape, tiles + i, 1, f, n, to + i * TILE_TOKENS);                                    \
	} while (0)
	BY_FOUR(heads, EACH)
#undef EACH
}

#define TILES  4   /* whose weights have one unit */
#define LEVELS 510 /* of weights: 255 and a signed magnitude */

/* Of up to four heads. A weight times its token's scale is unit · (255 + signed magnitude). */
struct weights {
	_Alignas(64) uint8_t bytes[4][TILES / 2][4][2][2][4]; /* [head][two tiles][quad][tile][size, sign][token] */
	float units[4];
	float lost[4]; /* what the signs' ones sum up to */
};

/* Of two tiles, signed magnitudes in the low 16 bits of each lane. */
INLINE void put_nine(__m512i a, __m512i b, void *to)
{
	const __m512i order = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
	const __m512i both = _mm512_mask_blend_epi16(0xaaaaaaaa, a, _mm512_slli_epi32(b, 16));
	const __m512i bytes = _mm512_ternarylogic_epi32(_mm512_abs_epi16(both), _mm512_srai_epi16(both, 15),
							_mm512_set1_epi16((short)0xff00), 0xf8); /* size | (sign & …) */
	_mm512_store_si512(to, _mm512_shuffle_epi8(bytes, order));
}

INLINE void weigh_nine(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		       const int heads, struct weights *out)
{
	const __m512 zero = _mm512_setzero_ps(), low_bits = _mm512_set1_ps(0x1.8p23f);
	__m512 x[4][TILES], most[4] = {zero, zero, zero, zero}, lost[4] = {zero, zero, zero, zero};
	float factors[4];
	UNROLL for (uint32_t i = 0; i < TILES; i++)
	{ /* beyond the tiles there are weights that may be no numbers */
		const struct tile *t = tiles + (i < count ? i : 0);
		const __m512 scale = halves16(t->k + shape->v_params_at);
		fetch(t->k + shape->v_params_at, t->ahead);
		UNROLL for (int h = 0; h < heads; h++)
		{
			x[h][i] = _mm512_mul_ps(scale, _mm512_maskz_loadu_ps(i < count ? 0xffff : 0,
									     w + h * MICRO_BLOCK + i * TILE_TOKENS));
			most[h] = _mm512_max_ps(most[h], x[h][i]);
		}
	}
	const __m128 tops = most4(most);
	const __mmask8 some = _mm_cmp_ps_mask(tops, _mm_set1_ps(1e-30f), _CMP_GT_OQ); /* less counts as nothing */
	_mm_storeu_ps(factors, _mm_maskz_div_ps(some, _mm_set1_ps(LEVELS), tops));
	_mm_storeu_ps(out->units, _mm_maskz_mul_ps(some, tops, _mm_set1_ps(1.0f / LEVELS)));
	UNROLL for (int h = 0; h < heads; h++)
	{
		const __m512 factor = _mm512_set1_ps(factors[h]);
		UNROLL for (uint32_t i = 0; i < TILES; i++)
		{
			x[h][i] = _mm512_fmadd_ps(x[h][i], factor, _mm512_set1_ps(0x1.8p23f - 255));
			const __m512 signed_size = _mm512_sub_ps(x[h][i], low_bits);
			lost[h] = i < count ? _mm512_sub_ps(lost[h], _mm512_min_ps(signed_size, zero)) : lost[h];
		}
		UNROLL for (int i = 0; i < TILES; i += 2) put_nine(_mm512_castps_si512(x[h][i]),
							       _mm512_castps_si512(x[h][i + 1]), out->bytes[h][i / 2]);
	}
	_mm_storeu_ps(out->lost, sums4(lost));
}

/* Channels [c, c + 32). */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c,
		       const struct weights *w, const int heads, float *acc, size_t acc_stride)
{
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v);
	const __m512i most = _mm512_set1_epi8(-1); /* 255 */
	__m512i sums[4][2], shared[2];             /* [head][run of 16] */
	UNROLL for (int k = 0; k < 2; k++)
	{
		shared[k] = _mm512_setzero_si512();
		UNROLL for (int h = 0; h < heads; h++) sums[h][k] = _mm512_setzero_si512();
	}
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + 4 * (size_t)c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes) {
			__m512i v[2];
			UNROLL for (int k = 0; k < 2; k++)
			{
				v[k] = _mm512_loadu_si512(p + 64 * k);
				fetch(p + 64 * k, tiles[i].ahead);
				shared[k] = add_dots(shared[k], most, v[k]);
			}
			UNROLL for (int h = 0; h < heads; h++)
			    add_nine(sums[h], v, 2, w->bytes[h][i / 2][j][i % 2][0]);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2; k++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 16 * k;
		__m512 x = _mm512_cvtepi32_ps(_mm512_add_epi32(sums[h][k], shared[k]));
		x = _mm512_add_ps(x, _mm512_set1_ps(w->lost[h]));
		_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_set1_ps(w->units[h]), _mm512_loadu_ps(to)));
	}
}

void avx512_pv_int8(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w, bool fine,
		    uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (fine || shape->alias) {
		avx512_pv_int8_fine(shape, tiles, count, w, true, heads, acc, acc_stride, scratch);
		return;
	}
	for (uint32_t i = 0; i < count; i += TILES) {
		const uint32_t some = count - i < TILES ? count - i : TILES;
#define HEADS(n)                                                                                                     \
	do {                                                                                                         \
		struct weights x;                                                                                    \
		weigh_nine(shape, tiles + i, some, w + h * MICRO_BLOCK + i * TILE_TOKENS, n, &x);                    \
		for (uint32_t c = 0; c < shape->d_v; c += 32)                                                        \
			pv_columns(shape, tiles + i, some, c, &x, n, acc + h * acc_stride, acc_stride);              \
	} while (0)
		BY_FOUR(heads, HEADS)
#undef HEADS
	}
}

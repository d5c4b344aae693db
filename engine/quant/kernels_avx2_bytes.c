/* INT8 for AVX2 where no token stands out: queries and weights are words of 15 bits and a sign, of the largest of the
 * row or of the block, and their products with codes exact (quant/kernels_avx2_words.h). And the
 * forms of queries, which the kernels of the other formats read, too. */
#include <math.h>
#include "quant/kernels_avx2_words.h"

size_t avx2_forms_bytes(uint32_t dim)
{
	size_t padded = tile_padded(dim);
	return (5 * padded + 16 + padded / CODEC_GROUP * sizeof(struct avx2_group) + 63) / 64 * 64;
}

#define UNITS 8 /* tried; a largest byte of 127 to 123 makes the rounding 8 % smaller than 127 alone */

/* The largest byte that 32 channels are closest to, of which the largest has magnitude `top`. */
INLINE float best_limit(const __m256 *x, float top)
{
	float limits[UNITS], errors[UNITS];
	__m256 sums[UNITS];
	UNROLL for (int k = 0; k < UNITS; k++) limits[k] = 127 - k * (4.0f / (UNITS - 1));
	const __m256 limit = _mm256_loadu_ps(limits), scale = _mm256_div_ps(limit, _mm256_set1_ps(top));
	float factors[UNITS];
	_mm256_storeu_ps(factors, scale);
	UNROLL for (int k = 0; k < UNITS; k++)
	{
		__m256 factor = _mm256_broadcast_ss(factors + k);
		sums[k] = _mm256_setzero_ps();
		UNROLL for (int i = 0; i < 4; i++)
		{
			__m256 y = _mm256_mul_ps(x[i], factor);
			__m256 error = _mm256_sub_ps(y, _mm256_round_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
			sums[k] = _mm256_fmadd_ps(error, error, sums[k]);
		}
	}
	__m256 error = _mm256_set_m128(fold4(sums[4], sums[5], sums[6], sums[7]),
				       fold4(sums[0], sums[1], sums[2], sums[3]));
	_mm256_storeu_ps(errors, _mm256_div_ps(error, _mm256_mul_ps(limit, limit)));
	int best = 0;
	for (int k = 1; k < UNITS; k++)
		best = errors[k] < errors[best] ? k : best;
	return limits[best];
}

/* 32 channels, whose sum is made, as bytes, and what they lose. */
INLINE void put_group(const __m256 *x, int8_t *bytes, struct avx2_group *g)
{
	__m256 most = _mm256_setzero_ps(), sum;
	__m256i n[4];
	UNROLL for (int i = 0; i < 4; i++) most = _mm256_max_ps(most, magnitude(x[i]));
	float top = largest(most);
	const bool any = top > 0x1p-100f;
	const float limit = any ? best_limit(x, top) : 127;
	__m256 factor = _mm256_set1_ps(any ? limit / top : 0);
	UNROLL for (int i = 0; i < 4; i++) n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], factor));
	__m256i total = _mm256_add_epi32(_mm256_add_epi32(n[0], n[1]), _mm256_add_epi32(n[2], n[3]));
	__m256i y = _mm256_packs_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
	y = _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
	_mm256_storeu_si256((__m256i *)bytes, y);
	g->unit = top / limit;
	sum = _mm256_cvtepi32_ps(total);
	g->rest = 7.5f * (g->sum - g->unit * _mm_cvtss_f32(fold4(sum, sum, sum, sum)));
}

INLINE int32_t sum_dwords(__m256i x)
{
	__m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
	y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
	return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}

/* Words of the row, whose largest magnitude is `top`; the groups' sums are made. */
INLINE void put_words(const float *q, uint32_t dim, float top, const struct avx2_forms *f)
{
	const float limit = dim > 512 ? (float)(0xffffff / dim) : 32767;
	const bool any = top > 0x1p-100f;
	const __m256 factor = _mm256_set1_ps(any ? limit / top : 0);
	const __m256i ones = _mm256_set1_epi16(1);
	int32_t sum = 0;
	for (uint32_t c = 0; c < tile_padded(dim); c += CODEC_GROUP) {
		struct avx2_group *g = (struct avx2_group *)f->groups + c / CODEC_GROUP;
		__m256i x[2] = {round_words(q + c, factor), round_words(q + c + 16, factor)};
		int32_t own = sum_dwords(_mm256_add_epi32(_mm256_madd_epi16(x[0], ones), _mm256_madd_epi16(x[1], ones)));
		g->words_rest = any ? 120 * (g->sum - top / limit * (float)own) : 0;
		sum += own;
		UNROLL for (int i = 0; i < 2; i++)
		    _mm256_storeu_si256((__m256i *)(f->words + c + 16 * i), paired(x[i]));
	}
	*(float *)f->unit = top / limit;
	*(int32_t *)f->start = -128 * sum;
}

void avx2_prepare(const float *q, uint32_t dim, uint32_t formats, uint8_t *forms)
{
	const uint32_t kivi = FORMAT_BIT(IKV_FMT_KIVI4) | FORMAT_BIT(IKV_FMT_KIVI2);
	const uint32_t by_words = FORMAT_BIT(IKV_FMT_INT8) | FORMAT_BIT(IKV_FMT_INT4_RESIDUAL);
	const struct avx2_forms f = avx2_forms_of(forms, dim);
	const uint32_t padded = tile_padded(dim);
	__m256 most = _mm256_setzero_ps();
	for (uint32_t c = 0; c < padded; c += CODEC_GROUP) {
		struct avx2_group *g = (struct avx2_group *)f.groups + c / CODEC_GROUP;
		__m256 x[4], sum;
		UNROLL for (int i = 0; i < 4; i++)
		{
			x[i] = _mm256_loadu_ps(q + c + 8 * i);
			most = _mm256_max_ps(most, magnitude(x[i]));
		}
		sum = _mm256_add_ps(_mm256_add_ps(x[0], x[1]), _mm256_add_ps(x[2], x[3]));
		g->sum = _mm_cvtss_f32(fold4(sum, sum, sum, sum));
		if (formats & FORMAT_BIT(IKV_FMT_INT4))
			put_group(x, (int8_t *)f.bytes + c, g);
	}
	const float top = largest(most);
	*(float *)f.size = top;
	if (formats & by_words)
		put_words(q, dim, top, &f);
	const __m256 half = _mm256_set1_ps(top > 0x1p-100f ? 16383 / top : 0);
	for (uint32_t c = 0; (formats & kivi) && c < padded; c += 16)
		_mm256_storeu_si256((__m256i *)(f.whole + c), round_words(q + c, half));
}

/* Scores of one tile. Codes carry an offset of 128, which the sums begin without. */
INLINE void qk_tile(const struct tile_shape *shape, const struct tile *t, const uint8_t *forms, size_t stride,
		    const int heads, float *s)
{
	const __m256i low = _mm256_set1_epi16(0xff);
	const int16_t *words = avx2_forms_of(forms, shape->d_qk).words;
	__m256i sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] =
	    _mm256_set1_epi32(*avx2_forms_of(forms + (size_t)h * stride, shape->d_qk).start);
	for (uint32_t c = 0; c < shape->d_qk; c += 4) {
		const uint8_t *p = t->k + c * TILE_TOKENS;
		__m256i x[2] = {load(p), load(p + 32)};
		fetch(p, t->ahead);
		__m256i even[2] = {_mm256_and_si256(x[0], low), _mm256_and_si256(x[1], low)};
		__m256i odd[2] = {_mm256_srli_epi16(x[0], 8), _mm256_srli_epi16(x[1], 8)};
		add_words(even, words + c, stride / 2, heads, sums);
		add_words(odd, words + c + 2, stride / 2, heads, sums);
	}
	fetch(t->k + shape->k_params_at, t->ahead); /* V's lie beside them */
	UNROLL for (int j = 0; j < 2; j++)
	{
		__m256 scale = halves8(t->k + shape->k_params_at + 16 * j);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m256 unit =
			    _mm256_broadcast_ss(avx2_forms_of(forms + (size_t)h * stride, shape->d_qk).unit);
			__m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sums[h][j]), unit);
			_mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, _mm256_mul_ps(x, scale));
		}
	}
}

/* Weights times the tokens' scales as words of the largest; what one of them is worth. */
INLINE float weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		   int16_t *words)
{
	float scaled[MICRO_BLOCK];
	__m256 most = _mm256_setzero_ps();
	for (uint32_t i = 0; i < 2 * count; i++) {
		__m256 scale = halves8(tiles[i / 2].k + shape->v_params_at + 16 * (i % 2));
		__m256 x = _mm256_mul_ps(_mm256_loadu_ps(w + 8 * i), scale);
		most = _mm256_max_ps(most, x);
		_mm256_storeu_ps(scaled + 8 * i, x);
	}
	float top = largest(most);
	__m256 factor = _mm256_set1_ps(top > 0x1p-100f ? 32767 / top : 0);
	for (uint32_t i = 0; i < count; i++)
		_mm256_store_si256((__m256i *)(words + TILE_TOKENS * i),
				   paired(round_words(scaled + TILE_TOKENS * i, factor)));
	return top / 32767;
}

/* Channels [c, c + 16). */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c,
		       const int16_t *words, const float *units, const int heads, float *acc, size_t acc_stride,
		       struct following *next)
{
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v);
	__m256i sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_si256();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + 4 * (size_t)c;
		fetch_following(next, 4);
		for (uint32_t quad = 0; quad < TILE_TOKENS / 4; quad++, p += quad_bytes, words += 4) {
			__m256i x[2] = {load(p), load(p + 32)};
			__m256i even[2] = {_mm256_srai_epi16(_mm256_slli_epi16(x[0], 8), 8),
					   _mm256_srai_epi16(_mm256_slli_epi16(x[1], 8), 8)};
			__m256i odd[2] = {_mm256_srai_epi16(x[0], 8), _mm256_srai_epi16(x[1], 8)};
			add_words(even, words, MICRO_BLOCK, heads, sums);
			add_words(odd, words + 2, MICRO_BLOCK, heads, sums);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 8 * j;
		__m256 x = _mm256_cvtepi32_ps(sums[h][j]);
		_mm256_storeu_ps(to, _mm256_fmadd_ps(x, _mm256_broadcast_ss(units + h), _mm256_loadu_ps(to)));
	}
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     const int heads, float *acc, size_t acc_stride)
{
	_Alignas(32) int16_t words[4][MICRO_BLOCK];
	float units[4];
	for (int h = 0; h < heads; h++)
		units[h] = weigh(shape, tiles, count, w + h * MICRO_BLOCK, words[h]);
	struct following next = {tiles, tiles + count, 0, TILE_TOKENS * (size_t)tile_padded(shape->d_v)};
	for (uint32_t c = 0; c < shape->d_v; c += 16)
		pv_columns(shape, tiles, count, c, words[0], units, heads, acc, acc_stride, &next);
	fetch_rest(&next);
}

WORDS_KERNELS(bytes)

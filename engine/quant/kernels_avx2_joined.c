/* INT4_RESIDUAL for AVX2 where no token stands out: a code and its remainder joined are a byte, which is multiplied as
 * INT8's are, by words (quant/kernels_avx2_words.h). The scale of a joined code is a fifteenth of the group's, its zero
 * half a scale lower. */
#include "quant/kernels_avx2_words.h"

INLINE void add_bytes(__m256i x, __m256i y, const int16_t *pairs, size_t step, const int heads, __m256i (*sums)[2])
{
	const __m256i low = _mm256_set1_epi16(0xff);
	__m256i even[2] = {_mm256_and_si256(x, low), _mm256_and_si256(y, low)};
	__m256i odd[2] = {_mm256_srli_epi16(x, 8), _mm256_srli_epi16(y, 8)};
	add_words(even, pairs, step, heads, sums);
	add_words(odd, pairs + 2, step, heads, sums);
}

INLINE void parameters(const uint8_t *p, __m256 *scale, __m256 *zero)
{
	__m256 whole = halves8(p);
	*zero = _mm256_fnmadd_ps(whole, _mm256_set1_ps(0.5f), halves8(p + 32));
	*scale = _mm256_mul_ps(whole, _mm256_set1_ps(1 / 15.0f));
}

/* Scores of a tile. */
INLINE void qk_tile(const struct tile_shape *shape, const struct tile *t, const uint8_t *forms, size_t stride,
		    const int heads, float *s)
{
	const struct avx2_forms f = avx2_forms_of(forms, shape->d_qk);
	const uint8_t *p = t->k;
	__m256 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) total[h][0] = total[h][1] = _mm256_setzero_ps();
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++, p += 256) {
		const uint8_t *param = t->k + shape->k_params_at + 64 * g;
		const int16_t *words = f.words + CODEC_GROUP * g;
		__m256i sums[4][2];
		UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_si256();
		for (uint32_t j = 0; j < 4; j++, p += 64, words += 4) {
			__m256i x[2] = {load(p), load(p + 32)}, r[2] = {load(p + 256), load(p + 256 + 32)};
			fetch(p, t->ahead);
			fetch(p + 256, t->ahead);
			add_bytes(join(x[0], r[0], 0), join(x[1], r[1], 0), words, stride / 2, heads, sums);
			add_bytes(join(x[0], r[0], 1), join(x[1], r[1], 1), words + 16, stride / 2, heads, sums);
		}
		fetch(param, t->ahead);
		UNROLL for (int j = 0; j < 2; j++)
		{
			__m256 scale, zero;
			parameters(param + 16 * j, &scale, &zero);
			UNROLL for (int h = 0; h < heads; h++)
			{
				const uint8_t *of = (const uint8_t *)(f.groups + g) + (size_t)h * stride;
				const struct avx2_group *own = (const struct avx2_group *)of;
				__m256 unit = _mm256_broadcast_ss((const float *)((const uint8_t *)f.unit + (size_t)h * stride));
				__m256 x = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[h][j]), unit,
							   _mm256_broadcast_ss(&own->words_rest));
				total[h][j] = _mm256_fmadd_ps(_mm256_broadcast_ss(&own->sum), zero, total[h][j]);
				total[h][j] = _mm256_fmadd_ps(x, scale, total[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, total[h][j]);
}

/* Weights times scales of up to four heads as words of the largest product of each, what one is worth, and the weighted
 * sums of zeros and of the middle code. */
struct weights {
	_Alignas(32) int16_t words[4][MICRO_BLOCK];
	float units[4], zeros[4];
};

INLINE void weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g, const float *w,
		  const int heads, struct weights *out)
{
	float scaled[4][MICRO_BLOCK];
	__m256 sums[4], most[4];
	UNROLL for (int h = 0; h < 4; h++) sums[h] = most[h] = _mm256_setzero_ps();
	for (uint32_t i = 0; i < 2 * count; i++) {
		const uint8_t *param = v_scales(shape, &tiles[i / 2], g) + 16 * (i % 2);
		__m256 scale, zero;
		parameters(param, &scale, &zero);
		zero = _mm256_fmadd_ps(scale, _mm256_set1_ps(128), zero);
		if (i % 2 == 0)
			fetch(param, tiles[i / 2].ahead);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m256 x = _mm256_loadu_ps(w + h * MICRO_BLOCK + 8 * i);
			sums[h] = _mm256_fmadd_ps(x, zero, sums[h]);
			x = _mm256_mul_ps(x, scale);
			most[h] = _mm256_max_ps(most[h], x);
			_mm256_storeu_ps(scaled[h] + 8 * i, x);
		}
	}
	__m128 tops = most4(most[0], most[1], most[2], most[3]);
	float factors[4];
	_mm_storeu_ps(factors, factors4(tops, 32767, 0x1p-100f));
	_mm_storeu_ps(out->units, _mm_mul_ps(tops, _mm_set1_ps(1 / 32767.0f)));
	_mm_storeu_ps(out->zeros, fold4(sums[0], sums[1], sums[2], sums[3]));
	for (int h = 0; h < heads; h++)
		for (uint32_t i = 0; i < count; i++)
			_mm256_store_si256((__m256i *)(out->words[h] + TILE_TOKENS * i),
					   paired(round_words(scaled[h] + TILE_TOKENS * i, _mm256_broadcast_ss(factors + h))));
}

/* Channels [c, c + 8) and 16 behind; codes count from 128. */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c,
		       const struct weights *w, const int heads, float *acc, size_t acc_stride, struct following *next)
{
	const __m256i middle = _mm256_set1_epi8((char)128);
	const size_t step = 4 * (size_t)tile_padded(shape->d_v), at = 4 * (size_t)c;
	const int16_t *words = w->words[0];
	__m256i sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_si256();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + at;
		fetch_following(next, 4);
		for (uint32_t quad = 0; quad < TILE_TOKENS / 4; quad++, p += step, words += 4) {
			__m256i x = load(p), r = load(p + 64), v[2], even[2], odd[2];
			UNROLL for (int half = 0; half < 2; half++)
			{
				v[half] = _mm256_xor_si256(join(x, r, half), middle);
				even[half] = _mm256_srai_epi16(_mm256_slli_epi16(v[half], 8), 8);
				odd[half] = _mm256_srai_epi16(v[half], 8);
			}
			add_words(even, words, MICRO_BLOCK, heads, sums);
			add_words(odd, words + 2, MICRO_BLOCK, heads, sums);
		}
	}
	put_sums(sums, w->units, w->zeros, c, heads, acc, acc_stride);
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     const int heads, float *acc, size_t acc_stride)
{
	struct following next = {tiles, tiles + count, 0, TILE_TOKENS * (size_t)tile_padded(shape->d_v)};
	struct weights x;
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP) {
		weigh(shape, tiles, count, c / CODEC_GROUP, w, heads, &x);
		for (uint32_t half = 0; half < 16; half += 8)
			pv_columns(shape, tiles, count, c + half, &x, heads, acc, acc_stride, &next);
	}
	fetch_rest(&next);
}

WORDS_KERNELS(joined)

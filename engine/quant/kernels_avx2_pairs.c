/* INT4 for AVX2 where no token stands out: queries are a signed byte a channel with a unit for every 32, weights times
 * scales words. */
#include "quant/kernels_avx2_words.h"

/* Scores of a tile of INT4. */
INLINE void qk_tile(const struct tile_shape *shape, const struct tile *t, const uint8_t *forms, size_t stride,
		    const int heads, float *s)
{
	const struct avx2_forms f = avx2_forms_of(forms, shape->d_qk);
	__m256 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) total[h][0] = total[h][1] = _mm256_setzero_ps();
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++) {
		const uint8_t *param = t->k + shape->k_params_at + 64 * g;
		__m256i sums[4][2];
		dot_group(4, t->k + 256 * g, t->ahead, f.bytes + 32 * g, stride, heads, sums);
		fetch(param, t->ahead);
		UNROLL for (int j = 0; j < 2; j++)
		{
			__m256 scale = halves8(param + 16 * j), zero = halves8(param + 32 + 16 * j);
			UNROLL for (int h = 0; h < heads; h++)
			{
				const struct avx2_group *of =
				    (const void *)((const uint8_t *)(f.groups + g) + (size_t)h * stride);
				__m256 x = _mm256_fmadd_ps(widened(sums[h][j]), _mm256_broadcast_ss(&of->unit),
							   _mm256_broadcast_ss(&of->rest));
				total[h][j] = _mm256_fmadd_ps(_mm256_broadcast_ss(&of->sum), zero, total[h][j]);
				total[h][j] = _mm256_fmadd_ps(x, scale, total[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, total[h][j]);
}

/* Weights of up to four heads as words, the largest of each 32767, and those of one group of channels. */
struct weights {
	_Alignas(32) int16_t rows[4][MICRO_BLOCK], scaled[4][MICRO_BLOCK];
	uint32_t at[4]; /* which is the largest */
	float tops[4], units[4], zeros[4];
};

/* The largest weight times its scale is hardly ever less; a quarter of what it may be. */
#define LEAST (32768 / 4)

INLINE void put_weights(const float *w, uint32_t count, const int heads, struct weights *out)
{
	for (int h = 0; h < heads; h++, w += MICRO_BLOCK) {
		__m256 tops = _mm256_setzero_ps();
		for (uint32_t i = 0; i < 2 * count; i++)
			tops = _mm256_max_ps(tops, _mm256_loadu_ps(w + 8 * i));
		out->tops[h] = largest(tops);
		__m256 factor = _mm256_set1_ps(out->tops[h] > 0x1p-100f ? 32767 / out->tops[h] : 0);
		out->at[h] = 0;
		for (uint32_t i = 0; i < count; i++) {
			__m256i x = paired(round_words(w + TILE_TOKENS * i, factor));
			int most = _mm256_movemask_epi8(_mm256_cmpeq_epi16(x, _mm256_set1_epi16(32767)));
			_mm256_store_si256((__m256i *)(out->rows[h] + TILE_TOKENS * i), x);
			if (most)
				out->at[h] = TILE_TOKENS * i + (uint32_t)__builtin_ctz((unsigned)most) / 2;
		}
	}
}

/* Scales are not negative, so their bits have their order. */
INLINE float most_scale(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g)
{
	__m256i x = load(v_scales(shape, &tiles[0], g));
	for (uint32_t i = 1; i < count; i++)
		x = _mm256_max_epu16(x, load(v_scales(shape, &tiles[i], g)));
	__m128i y = _mm_max_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
	y = _mm_minpos_epu16(_mm_xor_si128(y, _mm_set1_epi16(-1)));
	return _mm_cvtss_f32(_mm_cvtph_ps(_mm_xor_si128(y, _mm_set1_epi16(-1))));
}

/* Weights times scales by their own largest: where the tokens with the largest scales have hardly any weight, too few bits
 * of the others' products are left. */
static float weigh_apart(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g,
			 const float *w, int16_t *words)
{
	float products[MICRO_BLOCK];
	__m256 most = _mm256_setzero_ps();
	for (uint32_t i = 0; i < 2 * count; i++) {
		__m256 x = _mm256_mul_ps(_mm256_loadu_ps(w + 8 * i), halves8(v_scales(shape, &tiles[i / 2], g) + 16 * (i % 2)));
		most = _mm256_max_ps(most, x);
		_mm256_storeu_ps(products + 8 * i, x);
	}
	const float top = largest(most);
	const __m256 factor = _mm256_set1_ps(top > 0x1p-100f ? 32767 / top : 0);
	for (uint32_t i = 0; i < count; i++)
		_mm256_store_si256((__m256i *)(words + TILE_TOKENS * i),
				   paired(round_words(products + TILE_TOKENS * i, factor)));
	return top / 32767;
}

/* Those of group g, and the weighted sums of its zeros. */
INLINE void weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g,
		  const float *w, const int heads, struct weights *out)
{
	const float top = most_scale(shape, tiles, count, g);
	const __m256 factor = _mm256_set1_ps(top > 0 ? 32767 / top : 0);
	__m256 sums[4];
	UNROLL for (int h = 0; h < 4; h++) sums[h] = _mm256_setzero_ps();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *param = v_scales(shape, &tiles[i], g);
		__m256i n[2];
		fetch(param, tiles[i].ahead);
		UNROLL for (uint32_t k = 0; k < 2; k++)
		{
			__m256 zero = halves8(param + 32 + 16 * k);
			n[k] = _mm256_cvtps_epi32(_mm256_mul_ps(halves8(param + 16 * k), factor));
			UNROLL for (int h = 0; h < heads; h++) sums[h] =
			    _mm256_fmadd_ps(_mm256_loadu_ps(w + h * MICRO_BLOCK + TILE_TOKENS * i + 8 * k), zero, sums[h]);
		}
		__m256i scale = paired(_mm256_permute4x64_epi64(_mm256_packs_epi32(n[0], n[1]), 0xd8));
		UNROLL for (int h = 0; h < heads; h++) _mm256_store_si256(
		    (__m256i *)(out->scaled[h] + TILE_TOKENS * i),
		    _mm256_mulhrs_epi16(_mm256_load_si256((__m256i *)(out->rows[h] + TILE_TOKENS * i)), scale));
	}
	UNROLL for (int h = 0; h < heads; h++)
	{
		out->units[h] = out->tops[h] * top * (32768.0f / 32767 / 32767);
		if (out->scaled[h][out->at[h]] < LEAST && out->units[h] > 0x1p-100f)
			out->units[h] = weigh_apart(shape, tiles, count, g, w + h * MICRO_BLOCK, out->scaled[h]);
	}
	_mm_storeu_ps(out->zeros, fold4(sums[0], sums[1], sums[2], sums[3]));
}

/* Channels [c, c + 8) and 16 behind, the low and the high halves of bytes. */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c,
		       const struct weights *w, const int heads, float *acc, size_t acc_stride, struct following *next)
{
	const __m256i low = _mm256_set1_epi16(15);
	const size_t step = 2 * (size_t)tile_padded(shape->d_v), at = 2 * (size_t)(c & ~31u) + 4 * (c & 31u);
	const int16_t *words = w->scaled[0];
	__m256i sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_si256();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + at;
		fetch_following(next, 2);
		for (uint32_t quad = 0; quad < TILE_TOKENS / 4; quad++, p += step, words += 4) {
			__m256i x = load(p);
			__m256i even[2] = {_mm256_and_si256(x, low), _mm256_and_si256(_mm256_srli_epi16(x, 4), low)};
			__m256i odd[2] = {_mm256_and_si256(_mm256_srli_epi16(x, 8), low), _mm256_srli_epi16(x, 12)};
			add_words(even, words, MICRO_BLOCK, heads, sums);
			add_words(odd, words + 2, MICRO_BLOCK, heads, sums);
		}
	}
	put_sums(sums, w->units, w->zeros, c, heads, acc, acc_stride);
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     const int heads, float *acc, size_t acc_stride)
{
	struct weights x;
	struct following next = {tiles, tiles + count, 0, TILE_TOKENS / 2 * (size_t)tile_padded(shape->d_v)};
	put_weights(w, count, heads, &x);
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP) {
		weigh(shape, tiles, count, c / CODEC_GROUP, w, heads, &x);
		for (uint32_t half = 0; half < 16; half += 8)
			pv_columns(shape, tiles, count, c + half, &x, heads, acc, acc_stride, &next);
	}
	fetch_rest(&next);
}

WORDS_KERNELS(pairs)

/* KIVI4 and KIVI2 for AVX2 where no token stands out, by products of bytes: unsigned codes and queries of a signed
 * byte, signed codes and weights of an unsigned one. Sums are widened once for 32 channels or 32 tokens, each with a
 * unit of its own. */
#include "quant/kernels_avx2_words.h"

#define SUB       32    /* tokens whose weights have a unit of their own */
#define SUBS      (MICRO_BLOCK / SUB)
#define FACTOR    2890  /* the largest weight or scale; two of them make 255 · 2^15 */
#define LEAST     (1.0f / 128) /* smaller shares of the largest query count as this for units: scales fit 16 bits */
#define FLAT      2     /* times the mean weight of tokens that have one: if the largest is less, a byte is too coarse beside the others' sum */

/* Up to four queries times the scales of a group of K: bytes, the largest of 32 channels 127, and what turns sums of
 * products into scores. Scores share `share`: the sum of q (zero + middle · scale) that the bytes leave. */
struct scaled {
	int8_t *bytes; /* [4][padded] */
	float *most;   /* [padded] of each channel the largest q / size of the heads */
	float *factors, *units; /* [padded / 32], room for three more: what scales are multiplied with, what 1 stands for */
	float share[4];
};

INLINE void find_most(const float *q, size_t q_stride, const uint8_t *forms, size_t stride, uint32_t dim,
		      const int heads, float *most)
{
	for (uint32_t c = 0; c < tile_padded(dim); c += 8) {
		__m256 all = _mm256_set1_ps(LEAST);
		UNROLL for (int h = 0; h < heads; h++)
		{
			float size = *avx2_forms_of(forms + (size_t)h * stride, dim).size;
			__m256 x = magnitude(_mm256_loadu_ps(q + (size_t)h * q_stride + c));
			all = _mm256_max_ps(all, _mm256_mul_ps(x, _mm256_set1_ps(size > 0x1p-100f ? 1 / size : 0)));
		}
		_mm256_storeu_ps(most + c, all);
	}
}

/* The factors and units of all groups. */
INLINE void find_units(const struct tile_shape *shape, const struct tile *t, struct scaled *out)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	for (uint32_t first = 0; first < padded; first += 4 * CODEC_GROUP) {
		__m256 most[4];
		UNROLL for (uint32_t g = 0; g < 4; g++)
		{
			most[g] = _mm256_setzero_ps();
			for (uint32_t c = first + g * CODEC_GROUP, i = 0; c < padded && i < CODEC_GROUP; i += 8)
				most[g] = _mm256_max_ps(most[g], _mm256_mul_ps(halves8(t->group + 2 * (c + i)),
									       _mm256_loadu_ps(out->most + c + i)));
		}
		__m128 tops = most4(most[0], most[1], most[2], most[3]);
		_mm_storeu_ps(out->factors + first / CODEC_GROUP,
			      factors4(tops, 127 * (32768.0f / 16383), 1e-30f));
		_mm_storeu_ps(out->units + first / CODEC_GROUP, _mm_mul_ps(tops, _mm_set1_ps(1 / 127.0f)));
	}
}

INLINE void scale_queries(const struct tile_shape *shape, const struct tile *t, const float middle, const float *q,
			  size_t q_stride, const uint8_t *forms, size_t stride, const int heads, struct scaled *out)
{
	const struct avx2_forms f = avx2_forms_of(forms, shape->d_qk);
	const uint32_t padded = tile_padded(shape->d_qk);
	const __m256i ones = _mm256_set1_epi16(1);
	__m256 shares[4], lost[4]; /* lost: what bytes come to, of queries divided by their size */
	UNROLL for (int h = 0; h < 4; h++) shares[h] = lost[h] = _mm256_setzero_ps();
	find_units(shape, t, out);
	for (uint32_t c = 0; c < padded; c += CODEC_GROUP) {
		const uint8_t *scales = t->group + 2 * c, *zeros = scales + shape->k_zeros;
		const __m256 factor = _mm256_broadcast_ss(out->factors + c / CODEC_GROUP);
		const __m256 unit = _mm256_broadcast_ss(out->units + c / CODEC_GROUP);
		__m256i words[2], n[4];
		fetch(scales, t->ahead);
		fetch(zeros, t->ahead);
		UNROLL for (int i = 0; i < 4; i++)
		{
			__m256 scale = halves8(scales + 16 * i);
			__m256 zero = _mm256_fmadd_ps(scale, _mm256_set1_ps(middle), halves8(zeros + 16 * i));
			n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(scale, factor));
			UNROLL for (int h = 0; h < heads; h++) shares[h] = _mm256_fmadd_ps(
			    _mm256_loadu_ps(q + (size_t)h * q_stride + c + 8 * i), zero, shares[h]);
		}
		UNROLL for (int i = 0; i < 2; i++) words[i] =
		    _mm256_permute4x64_epi64(_mm256_packs_epi32(n[2 * i], n[2 * i + 1]), 0xd8);
		UNROLL for (int h = 0; h < heads; h++)
		{
			const uint8_t *of = (const uint8_t *)(f.whole + c) + (size_t)h * stride;
			__m256i x = _mm256_packs_epi16(_mm256_mulhrs_epi16(load(of), words[0]),
						       _mm256_mulhrs_epi16(load(of + 32), words[1]));
			_mm256_storeu_si256((__m256i *)(out->bytes + (size_t)h * padded + c),
					    _mm256_permute4x64_epi64(x, 0xd8));
			x = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), x), ones);
			lost[h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(x), unit, lost[h]);
		}
	}
	float sums[4], bytes[4];
	_mm_storeu_ps(sums, fold4(shares[0], shares[1], shares[2], shares[3]));
	_mm_storeu_ps(bytes, fold4(lost[0], lost[1], lost[2], lost[3]));
	for (int h = 0; h < heads; h++)
		out->share[h] =
		    sums[h] - middle * bytes[h] * *avx2_forms_of(forms + (size_t)h * stride, shape->d_qk).size;
}

INLINE void qk_narrow_tile(const int bits, const struct tile_shape *shape, const struct tile *t,
			   const struct scaled *q, const uint8_t *forms, size_t stride, const int heads, float *s)
{
	__m256 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) total[h][0] = total[h][1] = _mm256_setzero_ps();
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++) {
		__m256i sums[4][2];
		dot_group(bits, t->k + 64 * bits * g, t->ahead, q->bytes + 32 * g, tile_padded(shape->d_qk), heads,
			  sums);
		__m256 unit = _mm256_broadcast_ss(q->units + g);
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) total[h][j] =
		    _mm256_fmadd_ps(widened(sums[h][j]), unit, total[h][j]);
	}
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m256 size = _mm256_broadcast_ss(avx2_forms_of(forms + (size_t)h * stride, shape->d_qk).size);
		UNROLL for (int j = 0; j < 2; j++) _mm256_storeu_ps(
		    s + h * MICRO_BLOCK + 8 * j, _mm256_fmadd_ps(total[h][j], size, _mm256_broadcast_ss(q->share + h)));
	}
}

INLINE void qk_narrow_heads(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			    const float *q, size_t q_stride, const uint8_t *forms, size_t stride, const int heads,
			    float *s, float *scratch)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	float *groups = scratch + padded;
	const uint32_t room = padded / CODEC_GROUP + 3;
	struct scaled x = {(int8_t *)(groups + 2 * room), scratch, groups, groups + room, {0}};
	find_most(q, q_stride, forms, stride, shape->d_qk, heads, x.most);
	for (uint32_t i = 0; i < count; i++) {
		if (i == 0 || tiles[i].group != tiles[i - 1].group)
			scale_queries(shape, &tiles[i], bits == 4 ? 7.5f : 1.5f, q, q_stride, forms, stride, heads, &x);
		qk_narrow_tile(bits, shape, &tiles[i], &x, forms, stride, heads, s + i * TILE_TOKENS);
	}
}

/* Weights of up to four heads. */
struct weights {
	_Alignas(32) int16_t words[4][MICRO_BLOCK]; /* FACTOR is the largest of 32 tokens */
	_Alignas(32) uint8_t bytes[4][MICRO_BLOCK]; /* times the scales of a group of channels */
	__m128 tops[4];                             /* of 32 tokens each */
	float units[4][SUBS], zeros[4];
};

/* False if a row has no weight far above the mean: the others' sum would then be too coarse in bytes. */
INLINE bool put_weights(const float *w, uint32_t count, const int heads, struct weights *out)
{
	for (int h = 0; h < heads; h++, w += MICRO_BLOCK) {
		__m256 most[SUBS], sum = _mm256_setzero_ps();
		__m256i some = _mm256_setzero_si256();
		float factor[SUBS];
		UNROLL for (int sub = 0; sub < SUBS; sub++) most[sub] = _mm256_setzero_ps();
		for (uint32_t i = 0; i < 2 * count; i++) {
			__m256 x = _mm256_loadu_ps(w + 8 * i);
			most[i / 4] = _mm256_max_ps(most[i / 4], x);
			sum = _mm256_add_ps(sum, x);
			some = _mm256_sub_epi32(some, _mm256_castps_si256(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ)));
		}
		const __m256 tokens = _mm256_cvtepi32_ps(some);
		out->tops[h] = most4(most[0], most[1], most[2], most[3]);
		_mm_storeu_ps(factor, factors4(out->tops[h], FACTOR, 0x1p-100f));
		float top = largest(_mm256_castps128_ps256(out->tops[h]));
		const __m128 both = fold4(sum, tokens, sum, tokens);
		if (top * _mm_cvtss_f32(_mm_movehdup_ps(both)) < FLAT * _mm_cvtss_f32(both))
			return false;
		for (uint32_t i = 0; i < count; i++)
			_mm256_store_si256((__m256i *)(out->words[h] + TILE_TOKENS * i),
					   round_words(w + TILE_TOKENS * i, _mm256_broadcast_ss(factor + i / 2)));
		if (count % 2)
			_mm256_store_si256((__m256i *)(out->words[h] + TILE_TOKENS * count), _mm256_setzero_si256());
	}
	return true;
}

/* The largest scales of group g of 32 tokens each. */
INLINE __m128 most_scales(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g)
{
	__m128i least[SUBS];
	UNROLL for (uint32_t sub = 0; sub < SUBS; sub++)
	{
		__m256i x = _mm256_setzero_si256(); /* scales are not negative, so their bits have their order */
		if (2 * sub < count)
			x = load(v_scales(shape, &tiles[2 * sub], g));
		if (2 * sub + 1 < count)
			x = _mm256_max_epu16(x, load(v_scales(shape, &tiles[2 * sub + 1], g)));
		__m128i y = _mm_max_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
		least[sub] = _mm_minpos_epu16(_mm_xor_si128(y, _mm_set1_epi16(-1)));
	}
	__m128i all = _mm_unpacklo_epi32(_mm_unpacklo_epi16(least[0], least[1]), _mm_unpacklo_epi16(least[2], least[3]));
	return _mm_cvtph_ps(_mm_xor_si128(all, _mm_set1_epi16(-1)));
}

/* Weights times scales of 32 tokens by their own largest: where the tokens with the largest scales have hardly any weight,
 * too few bits of the others' products are left. */
static float weigh_apart(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g,
			 const float *w, uint8_t *bytes)
{
	__m256 x[SUB / 8], most = _mm256_setzero_ps();
	UNROLL for (uint32_t i = 0; i < SUB / 8; i++)
	{
		x[i] = _mm256_setzero_ps();
		if (i / 2 < count)
			x[i] = _mm256_mul_ps(_mm256_loadu_ps(w + 8 * i), halves8(v_scales(shape, &tiles[i / 2], g) + 16 * (i % 2)));
		most = _mm256_max_ps(most, x[i]);
	}
	const float top = largest(most);
	const __m256 factor = _mm256_set1_ps(top > 0x1p-100f ? 255 / top : 0);
	__m256i n[SUB / 8];
	UNROLL for (int i = 0; i < SUB / 8; i++) n[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], factor));
	__m256i y = _mm256_packus_epi16(_mm256_packs_epi32(n[0], n[1]), _mm256_packs_epi32(n[2], n[3]));
	_mm256_store_si256((__m256i *)bytes, _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
	return top / 255;
}

/* Bytes and units for group g of channels, and the weighted sums of zero + middle · scale. */
INLINE void weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t g,
		  const float middle, const float *w, const int heads, struct weights *out)
{
	float factor[SUBS];
	unsigned small[4] = {0}; /* of which 32 tokens products are less than half of the largest possible one */
	const __m128 tops = most_scales(shape, tiles, count, g);
	__m256 sums[4];
	_mm_storeu_ps(factor, factors4(tops, FACTOR, 0));
	UNROLL for (int h = 0; h < 4; h++) sums[h] = _mm256_setzero_ps();
	for (uint32_t sub = 0; 2 * sub < count; sub++) {
		const __m256 to_words = _mm256_broadcast_ss(factor + sub);
		__m256i words[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
		UNROLL for (uint32_t i = 0; i < 2; i++)
		{
			if (2 * sub + i >= count)
				break;
			const struct tile *t = &tiles[2 * sub + i];
			const uint8_t *param = v_scales(shape, t, g);
			__m256i n[2];
			fetch(param, t->ahead);
			UNROLL for (uint32_t k = 0; k < 2; k++)
			{
				__m256 scale = halves8(param + 16 * k), zero = halves8(param + 32 + 16 * k);
				zero = _mm256_fmadd_ps(scale, _mm256_set1_ps(middle), zero);
				n[k] = _mm256_cvtps_epi32(_mm256_mul_ps(scale, to_words));
				UNROLL for (int h = 0; h < heads; h++) sums[h] = _mm256_fmadd_ps(
				    _mm256_loadu_ps(w + h * MICRO_BLOCK + SUB * sub + 16 * i + 8 * k), zero, sums[h]);
			}
			words[i] = _mm256_permute4x64_epi64(_mm256_packs_epi32(n[0], n[1]), 0xd8);
		}
		UNROLL for (int h = 0; h < heads; h++)
		{
			const uint8_t *of = (const uint8_t *)(out->words[h] + SUB * sub);
			__m256i x = _mm256_packus_epi16(_mm256_mulhrs_epi16(load(of), words[0]),
							_mm256_mulhrs_epi16(load(of + 32), words[1]));
			_mm256_store_si256((__m256i *)(out->bytes[h] + SUB * sub), _mm256_permute4x64_epi64(x, 0xd8));
			if (_mm256_movemask_epi8(x) == 0) /* all below 128 */
				small[h] |= 1u << sub;
		}
	}
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m128 units = _mm_mul_ps(out->tops[h], tops);
		_mm_storeu_ps(out->units[h], _mm_mul_ps(units, _mm_set1_ps(32768.0f / FACTOR / FACTOR)));
		small[h] &= (unsigned)_mm_movemask_ps(_mm_cmpgt_ps(units, _mm_set1_ps(0x1p-100f)));
		for (; small[h]; small[h] &= small[h] - 1) {
			const uint32_t sub = (uint32_t)__builtin_ctz(small[h]);
			out->units[h][sub] = weigh_apart(shape, tiles + 2 * sub, count - 2 * sub, g,
							 w + h * MICRO_BLOCK + SUB * sub, out->bytes[h] + SUB * sub);
		}
	}
	_mm_storeu_ps(out->zeros, fold4(sums[0], sums[1], sums[2], sums[3]));
}

/* Products of 32 bytes of codes of four tokens (KIVI2: eight) with weights, to channels [c, c + 8) and 16 behind. */
INLINE void add_quads(const int bits, const uint8_t *p, const uint8_t *w, const int heads, __m256i (*sums)[2])
{
	const __m256i middle = _mm256_set1_epi8(1 << (bits - 1));
	__m256i x = load(p);
	UNROLL for (int quad = 0; quad * bits < 4; quad++)
	{
		__m256i v[2] = {_mm256_sub_epi8(bits_of(x, 2 * bits * quad, bits), middle),
				_mm256_sub_epi8(bits_of(x, 2 * bits * quad + bits, bits), middle)};
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m256i weight = dword(w + h * MICRO_BLOCK + 4 * quad);
			UNROLL for (int i = 0; i < 2; i++) sums[h][i] =
			    in_order(_mm256_add_epi16(sums[h][i], _mm256_maddubs_epi16(weight, v[i])));
		}
	}
}

INLINE void pv_columns(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const struct weights *w, const int heads, float *acc, size_t acc_stride,
		       struct following *next)
{
	const uint32_t tokens = bits == 2 ? 8 : 4; /* of a row of codes */
	const size_t step = 2 * (size_t)tile_padded(shape->d_v), at = 2 * (size_t)(c & ~31u) + 4 * (c & 31u);
	for (uint32_t sub = 0; 2 * sub < count; sub++) {
		__m256i sums[4][2];
		UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_si256();
		for (uint32_t i = 2 * sub; i < count && i < 2 * sub + 2; i++) {
			const uint8_t *p = tiles[i].v + at, *of = w->bytes[0] + TILE_TOKENS * i;
			fetch_following(next, bits / 2);
			UNROLL for (uint32_t t = 0; t < TILE_TOKENS; t += tokens, p += step)
			    add_quads(bits, p, of + t, heads, sums);
		}
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
		{
			float *to = acc + (size_t)h * acc_stride + c + 16 * j;
			__m256 base = _mm256_loadu_ps(to);
			if (sub == 0)
				base = _mm256_add_ps(base, _mm256_broadcast_ss(w->zeros + h));
			_mm256_storeu_ps(to, _mm256_fmadd_ps(widened(sums[h][j]),
							     _mm256_broadcast_ss(&w->units[h][sub]), base));
		}
	}
}

INLINE void pv_heads(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const float *w, const int heads, float *acc, size_t acc_stride, float *scratch)
{
	struct weights x;
	if (!put_weights(w, count, heads, &x)) {
		(bits == 4 ? avx2_pv_kivi4 : avx2_pv_kivi2)(shape, tiles, count, w, true, (uint32_t)heads, acc,
							    acc_stride, scratch);
		return;
	}
	struct following next = {tiles, tiles + count, 0, (size_t)bits * 2 * tile_padded(shape->d_v)};
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP) {
		weigh(shape, tiles, count, c / CODEC_GROUP, 1 << (bits - 1), w, heads, &x);
		for (uint32_t half = 0; half < 16; half += 8)
			pv_columns(bits, shape, tiles, count, c + half, &x, heads, acc, acc_stride, &next);
	}
	fetch_rest(&next);
}

#define KERNELS(bits)                                                                                                \
	void avx2_qk_narrow##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,          \
				  const struct micro_query *q, uint32_t heads, float *s, float *scratch)             \
	{                                                                                                            \
		BY_FOUR(heads, QK_##bits)                                                                            \
	}                                                                                                            \
	void avx2_pv_narrow##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,          \
				  const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,          \
				  float *scratch)                                                                    \
	{                                                                                                            \
		(void)fine;                                                                                          \
		BY_FOUR(heads, PV_##bits)                                                                            \
	}
#define QK(bits, n)                                                                                                  \
	qk_narrow_heads(bits, shape, tiles, count, q->f + h * q->stride, q->stride, q->forms + h * q->forms_stride,  \
			q->forms_stride, n, s + h * MICRO_BLOCK, scratch)
#define PV(bits, n)                                                                                                  \
	pv_heads(bits, shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride, scratch)
#define QK_4(n) QK(4, n)
#define QK_2(n) QK(2, n)
#define PV_4(n) PV(4, n)
#define PV_2(n) PV(2, n)
KERNELS(4)
KERNELS(2)

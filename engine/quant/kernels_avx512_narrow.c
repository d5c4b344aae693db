/* Weighted sums of INT4, KIVI4 and KIVI2 for AVX-512 with VNNI where no token stands out: weights of one byte.
 *
 * Weights times scales are bytes with a unit for each head and group of channels: 1/255 of a limit, LIMIT times the
 * rms of the block. What a few tokens of a block weigh beyond it is summed in a second pass over their quads, in
 * units of 1, 2, 4 or 8 of these, at the nearest. Codes count from their middle, so that what weights lose is
 * multiplied by small numbers of either sign. */
#include <math.h>
#include "quant/kernels_avx512_dots.h"

#define LIMIT 3.0f   /* lower: smaller errors, more quads in the second pass */
#define LEAST 1e-30f /* of sums of squares: smaller weights take two bytes */

/* Weights are integers, WEIGHTS at the limit, and scales, SCALES the largest: vpmulhrsw makes 255 of both. */
#define WEIGHTS 2047
#define SCALES  4080
#define UNIT    (32768.0f / (WEIGHTS * SCALES))
#define PAIRS   (MICRO_TILES / 2)

struct group { /* of channels */
	/* Of each head what weights are up to the limit: [four tiles][quad][tile][token]. */
	_Alignas(64) uint8_t low[4][MICRO_BLOCK];
	_Alignas(64) int16_t scales[PAIRS][32]; /* [two tiles][quad][tile][token] */
	int32_t beyond[4][2][16]; /* of each head: sums of what is beyond the limit, of two runs of channels */
	float zeros[4];           /* weighted sums of what a code in the middle stands for */
	float most, factor;       /* the largest scale, what makes integers of them */
};

/* Kernels share the room that micro_scratch() counts. */
_Static_assert(sizeof(struct group) <= sizeof(float) * (TILE_TOKENS * CODEC_GROUP + MICRO_BLOCK + 8),
	       "too large a group");

struct rows { /* weights of up to four heads, in the order of group.scales */
	_Alignas(64) int16_t weights[4][PAIRS][32];
	int16_t shares[PAIRS][32];   /* of each token the largest of its scales */
	float limits[4], factors[4]; /* and what makes integers of the weights */
	uint64_t quads[4];           /* with something beyond the limit: bit 8 pair + 2 quad + tile */
	uint32_t shifts[4];          /* that is counted in units of so many bits */
};

struct call {
	const struct tile_shape *shape;
	const struct tile *tiles;
	uint32_t count, groups;
	const float *w;
	struct group *group;
	struct rows *rows;
};

/* Codes whose lowest bit is bit `place` of each byte, less half of their range, times 2^(8 - bits). */
INLINE __m512i centred(const int bits, __m512i a, const int place)
{
	const __m512i top = _mm512_set1_epi8((char)(256 - (1 << (8 - bits)))), sign = _mm512_set1_epi8((char)128);
	if (place < 8 - bits)
		a = _mm512_slli_epi16(a, (unsigned)(8 - bits - place));
	return _mm512_ternarylogic_epi64(a, top, sign, 0x6a); /* (a & top) ^ sign */
}

/* FP16 numbers that are not negative are in the order of their bits. */
INLINE float largest_scale(const struct call *call, uint32_t g)
{
	const __m128i ones = _mm_set1_epi16(-1);
	__m256i most = _mm256_setzero_si256();
	for (uint32_t i = 0; i < call->count; i++) {
		const uint8_t *param = params_of(call->shape, call->tiles + i, g);
		most = _mm256_max_epu16(most, _mm256_loadu_si256((const __m256i *)param));
		fetch(param, call->tiles[i].ahead);
	}
	__m128i x = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
	x = _mm_xor_si128(_mm_minpos_epu16(_mm_xor_si128(x, ones)), ones);
	return _mm_cvtss_f32(_mm_cvtph_ps(x));
}

/* Of `groups` groups from g on: scales as integers. */
INLINE void take_scales(const struct call *call, uint32_t g, const int groups)
{
	struct group *to = call->group + g;
	for (uint32_t i = 0; i < call->count; i += 2) {
		const uint32_t next = i + 1 < call->count ? i + 1 : i;
		const uint8_t *param[2] = {params_of(call->shape, call->tiles + i, g),
					   params_of(call->shape, call->tiles + next, g)};
		__m512i shares = _mm512_load_si512(call->rows->shares[i / 2]);
		UNROLL for (int n = 0; n < groups; n++)
		{
			const __m512 factor = _mm512_set1_ps(to[n].factor);
			__m512i whole[2];
			UNROLL for (int k = 0; k < 2; k++) whole[k] =
			    _mm512_cvtps_epi32(_mm512_mul_ps(halves16(param[k] + 64 * n), factor));
			const __m512i both = _mm512_packs_epi32(whole[0], whole[1]);
			_mm512_store_si512(to[n].scales[i / 2], both);
			shares = _mm512_max_epi16(shares, both);
		}
		_mm512_store_si512(call->rows->shares[i / 2], shares);
	}
}

INLINE void take_all_scales(const struct call *call)
{
	uint32_t g = 0;
	UNROLL for (int i = 0; i < PAIRS; i++) _mm512_store_si512(call->rows->shares[i], _mm512_setzero_si512());
	for (; g < call->groups; g++) {
		struct group *to = call->group + g;
		to->most = largest_scale(call, g);
		to->factor = to->most > 0 ? SCALES / to->most : 0;
	}
	for (g = 0; g + 4 <= call->groups; g += 4)
		take_scales(call, g, 4);
	for (; g < call->groups; g++)
		take_scales(call, g, 1);
}

/* Of `groups` groups from g on: the sums of zeros. */
INLINE void weigh_zeros(const int bits, const struct call *call, uint32_t g, const int groups, const int heads)
{
	const __m512 middle = _mm512_set1_ps((float)(1 << (bits - 1)));
	__m512 sums[4][4]; /* [group][head] */
	UNROLL for (int n = 0; n < groups; n++) UNROLL for (int h = 0; h < 4; h++) sums[n][h] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < call->count; i++) {
		const uint8_t *param = params_of(call->shape, call->tiles + i, g);
		__m512 zero[4];
		UNROLL for (int n = 0; n < groups; n++) zero[n] =
		    _mm512_fmadd_ps(halves16(param + 64 * n), middle, halves16(param + 64 * n + 32));
		UNROLL for (int h = 0; h < heads; h++)
		{
			const __m512 w = _mm512_loadu_ps(call->w + h * MICRO_BLOCK + i * TILE_TOKENS);
			UNROLL for (int n = 0; n < groups; n++) sums[n][h] = _mm512_fmadd_ps(w, zero[n], sums[n][h]);
		}
	}
	UNROLL for (int n = 0; n < groups; n++) _mm_storeu_ps(call->group[g + (uint32_t)n].zeros, sums4(sums[n]));
}

INLINE void weigh_all_zeros(const int bits, const struct call *call, const int heads)
{
	uint32_t g = 0;
	for (; g + 4 <= call->groups; g += 4)
		weigh_zeros(bits, call, g, 4, heads);
	for (; g < call->groups; g++)
		weigh_zeros(bits, call, g, 1, heads);
}

/* The limits of each head; false if one has weights that want two bytes: nearly equal ones, whose errors are all that
 * there is. */
INLINE bool find_limits(const struct call *call, const int heads)
{
	__m512 squares[4], most[4];
	struct rows *r = call->rows;
	UNROLL for (int h = 0; h < 4; h++) squares[h] = most[h] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < call->count; i += 2) {
		const __m512i both = _mm512_load_si512(r->shares[i / 2]), none = _mm512_setzero_si512();
		const __m512 shares[2] = {_mm512_cvtepi32_ps(_mm512_unpacklo_epi16(both, none)),
					  _mm512_cvtepi32_ps(_mm512_unpackhi_epi16(both, none))};
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (uint32_t k = 0; k < 2; k++)
		{
			__m512 x =
			    _mm512_mul_ps(tile_weights(call->w + h * MICRO_BLOCK, i + k, call->count), shares[k]);
			squares[h] = _mm512_fmadd_ps(x, x, squares[h]);
			most[h] = _mm512_max_ps(most[h], x);
		}
	}
	/* An approximation of 1 / limit is as good as any: what it stands for is made of it. */
	const __m128 sums = sums4(squares), share = _mm_set1_ps(1.0f / (float)(call->count * TILE_TOKENS));
	const __m128 inverse = _mm_mul_ps(_mm_rsqrt14_ps(_mm_mul_ps(sums, share)), _mm_set1_ps(SCALES / LIMIT));
	/* How many times the limit is beyond it, less than 8 of 128 tokens. */
	const __m128 excess =
	    _mm_fmsub_ps(_mm_mul_ps(most4(most), _mm_set1_ps(1.0f / SCALES)), inverse, _mm_set1_ps(1));
	const __mmask8 good = _mm_cmp_ps_mask(excess, _mm_setzero_ps(), _CMP_GT_OQ) &
			      _mm_cmp_ps_mask(sums, _mm_set1_ps(LEAST), _CMP_GT_OQ);
	/* Up to 1: 0, up to 2: 1 and so on, from the exponent. */
	const __m128i next = _mm_sub_epi32(_mm_castps_si128(excess), _mm_set1_epi32(1));
	const __m128i shift = _mm_sub_epi32(_mm_srai_epi32(next, 23), _mm_set1_epi32(126));
	_mm_storeu_ps(r->factors, _mm_mul_ps(inverse, _mm_set1_ps(WEIGHTS)));
	_mm_storeu_ps(r->limits, _mm_div_ps(_mm_set1_ps(1), inverse));
	_mm_storeu_si128((__m128i *)r->shifts, _mm_max_epi32(shift, _mm_setzero_si128()));
	return (~good & ((1 << heads) - 1)) == 0;
}

/* Each head's weights as integers; false if one is too large for that, since its scales are small. */
INLINE bool round_rows(const struct call *call, const int heads)
{
	const __m512i limit = _mm512_set1_epi16(255), top = _mm512_set1_epi16(INT16_MAX);
	struct rows *r = call->rows;
	__mmask32 over = 0;
	UNROLL for (int h = 0; h < heads; h++)
	{
		const __m512 factor = _mm512_set1_ps(r->factors[h]);
		uint64_t quads = 0;
		UNROLL for (uint32_t i = 0; i < PAIRS; i++)
		{
			__m512 x = tile_weights(call->w + h * MICRO_BLOCK, 2 * i, call->count);
			__m512 y = tile_weights(call->w + h * MICRO_BLOCK, 2 * i + 1, call->count);
			__m512i both = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, factor)),
							  _mm512_cvtps_epi32(_mm512_mul_ps(y, factor)));
			__m512i most = _mm512_mulhrs_epi16(both, _mm512_load_si512(r->shares[i]));
			__m512i above = _mm512_subs_epu16(most, limit);
			over |= _mm512_cmpeq_epi16_mask(both, top);
			_mm512_store_si512(r->weights[h][i], both);
			quads |= (uint64_t)_mm512_test_epi64_mask(above, above) << 8 * i;
		}
		r->quads[h] = quads;
	}
	return !over;
}

/* Weights of a group up to the limit. */
INLINE void make_group(const struct call *call, uint32_t g, const int heads)
{
	struct group *to = &call->group[g];
	__m512i scales[PAIRS];
	UNROLL for (uint32_t i = 0; i < PAIRS; i++) scales[i] =
	    2 * i < call->count ? _mm512_load_si512(to->scales[i]) : _mm512_setzero_si512();
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (uint32_t i = 0; i < PAIRS; i += 2)
	{
		const int16_t(*w)[32] = call->rows->weights[h] + i;
		_mm512_store_si512(to->low[h] + 32 * i,
				   _mm512_packus_epi16(_mm512_mulhrs_epi16(_mm512_load_si512(w[0]), scales[i]),
						       _mm512_mulhrs_epi16(_mm512_load_si512(w[1]), scales[i + 1])));
	}
}

INLINE const uint8_t *bytes_at(const uint8_t *bytes, uint32_t i, uint32_t quad)
{
	return bytes + i / 4 * 64 + 16 * quad + 4 * (i % 4);
}

/* Four tokens' weights of two groups. */
INLINE __m128i two_groups(__m128i w, const int16_t *a, const int16_t *b)
{
	return _mm_mulhrs_epi16(w, _mm_unpacklo_epi64(_mm_loadu_si64(a), _mm_loadu_si64(b)));
}

/* What head h has beyond its limit, quad by quad, in one or four groups from g on. */
INLINE void find_high(const struct call *call, int h, uint32_t g, const uint32_t groups, uint8_t (*to)[4][4])
{
	const struct rows *r = call->rows;
	const __m128i limit = _mm_set1_epi16(255), shift = _mm_cvtsi32_si128((int)r->shifts[h]);
	const __m128i half = _mm_set1_epi16((short)(1 << r->shifts[h] >> 1));
	for (uint64_t m = r->quads[h]; m; m &= m - 1, to++) {
		const uint32_t quad = (uint32_t)__builtin_ctzll(m);
		const size_t at = quad / 8 * 32 + quad / 2 % 4 * 8 + quad % 2 * 4;
		const __m128i w = _mm_broadcastq_epi64(_mm_loadu_si64(r->weights[h][0] + at));
		const int16_t *scales[4];
		UNROLL for (uint32_t n = 0; n < 4; n++) scales[n] = call->group[g + n % groups].scales[0] + at;
		__m128i x = _mm_subs_epu16(two_groups(w, scales[0], scales[1]), limit);
		__m128i y = _mm_subs_epu16(two_groups(w, scales[2], scales[3]), limit);
		x = _mm_srl_epi16(_mm_add_epi16(x, half), shift);
		y = _mm_srl_epi16(_mm_add_epi16(y, half), shift);
		_mm_storeu_si128((__m128i *)to[0], _mm_packus_epi16(x, y));
	}
}

/* Sums of it. */
INLINE void add_high(const int bits, const struct call *call, int h, uint32_t g, const uint32_t groups)
{
	const size_t step = 2 * (size_t)tile_padded(call->shape->d_v);
	const uint32_t quads = 4 / (uint32_t)bits;
	uint8_t high[MICRO_BLOCK / 4][4][4], (*from)[4][4] = high; /* [quad][group][token] */
	__m512i sums[4][2];
	find_high(call, h, g, groups, high);
	UNROLL for (uint32_t n = 0; n < groups; n++) sums[n][0] = sums[n][1] = _mm512_setzero_si512();
	for (uint64_t m = call->rows->quads[h]; m; m &= m - 1, from++) {
		const uint32_t at = (uint32_t)__builtin_ctzll(m), i = at / 8 * 2 + at % 2, j = at / 2 % 4;
		const uint8_t *p = call->tiles[i].v + 64 * g + j / quads * step;
		const __m128i shift = _mm_cvtsi32_si128((int)(j % quads * 2) * bits);
		UNROLL for (uint32_t n = 0; n < groups; n++)
		{
			__m512i a = _mm512_loadu_si512(p + 64 * n);
			if (quads > 1)
				a = _mm512_srl_epi16(a, shift);
			add_weighted(sums[n], from[0][n], centred(bits, a, 0), centred(bits, a, bits));
		}
	}
	const __m128i shift = _mm_cvtsi32_si128((int)call->rows->shifts[h]);
	UNROLL for (uint32_t n = 0; n < groups; n++) UNROLL for (int k = 0; k < 2; k++)
	    _mm512_store_si512(call->group[g + n].beyond[h][k], _mm512_sll_epi32(sums[n][k], shift));
}

/* Group g: two runs of 16 channels. */
INLINE void add_low(const int bits, const struct call *call, uint32_t g, const int heads, float *acc,
		    size_t acc_stride)
{
	const struct group *x = &call->group[g];
	const size_t step = 2 * (size_t)tile_padded(call->shape->d_v);
	const int quads = 4 / bits; /* in 64 bytes */
	__m512i sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2; k++) sums[h][k] =
	    _mm512_load_si512(x->beyond[h][k]);
	for (uint32_t i = 0; i < call->count; i++) {
		const uint8_t *p = call->tiles[i].v + 64 * g;
		for (uint32_t j = 0; j < 4; j += (uint32_t)quads, p += step) {
			__m512i a = _mm512_loadu_si512(p);
			fetch(p, call->tiles[i].ahead);
			UNROLL for (int q = 0; q < quads; q++)
			{
				__m512i v[2];
				UNROLL for (int k = 0; k < 2; k++) v[k] = centred(bits, a, bits * (2 * q + k));
				UNROLL for (int h = 0; h < heads; h++)
				    add_weighted(sums[h], bytes_at(x->low[h], i, j + (uint32_t)q), v[0], v[1]);
			}
		}
	}
	const float unit = x->most * (UNIT / (float)(1 << (8 - bits)));
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2; k++)
	{
		float *to = acc + (size_t)h * acc_stride + 32 * g + 16 * k;
		__m512 y = _mm512_add_ps(_mm512_loadu_ps(to), _mm512_set1_ps(x->zeros[h]));
		_mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[h][k]),
						     _mm512_set1_ps(unit * call->rows->limits[h]), y));
	}
}

INLINE bool narrow(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		   const float *w, const int heads, float *acc, size_t acc_stride, float *scratch)
{
	struct rows rows;
	struct group *group = (struct group *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63);
	const struct call call = {shape, tiles, count, codec_groups(shape->d_v), w, group, &rows};
	take_all_scales(&call);
	const bool found = find_limits(&call, heads);
	weigh_all_zeros(bits, &call, heads); /* while limits are waited for */
	if (!found || !round_rows(&call, heads))
		return false;
	for (uint32_t g = 0; g < call.groups; g++)
		make_group(&call, g, heads);
	for (int h = 0; h < heads; h++) {
		uint32_t g = 0;
		for (; g + 4 <= call.groups; g += 4)
			add_high(bits, &call, h, g, 4);
		for (; g < call.groups; g++)
			add_high(bits, &call, h, g, 1);
	}
	for (uint32_t g = 0; g < call.groups; g++)
		add_low(bits, &call, g, heads, acc, acc_stride);
	return true;
}

bool avx512_pv_narrow(bool pairs, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		      const float *w, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
#define CALL(n)                                                                                                      \
	return pairs ? narrow(4, shape, tiles, count, w, n, acc, acc_stride, scratch)                                \
		     : narrow(2, shape, tiles, count, w, n, acc, acc_stride, scratch)
	switch (heads) {
	case 1:
		CALL(1);
	case 2:
		CALL(2);
	case 3:
		CALL(3);
	default:
		CALL(4);
	}
#undef CALL
}

/* Scores of KIVI for AVX-512 with VNNI.
 *
 * K has a scale and a zero for each channel of 32 tokens, so the query of a group, q_c · scale_c, is made for every two
 * tiles, as integers of one signed byte (KIVI8 two, fine three), the largest 127 (32500, 8 · 10^6) of every 64
 * channels; products with codes are exact, 16 tokens lie across the lanes. What all tokens share is exact but for
 * float rounding: sum of q_c (zero_c + middle · scale_c), codes counting from their middle. */
#include "quant/kernels_avx512_dots.h"

#define RUN 64 /* channels whose digits lie in one register and have a unit of their own */

#define LEAST (1.0f / 128) /* smaller shares of the largest query count as this for units: scales fit 16 bits */

/* Queries of up to four heads, each divided by its largest magnitude, also as integers of 16 bits, and of each channel
 * the largest of them. */
struct normal {
	const float *q[4];
	const int16_t *whole[4];
	float *most;
};

/* Their digits for one group of K, and what turns sums of products into scores of the divided queries. */
struct scaled {
	int8_t *digits; /* [4][3][stride]; four channels c of a run of 64 lie at dword c % 16 / 4 * 4 + c / 16 */
	size_t stride;
	float *factors, *units; /* of each run: what queries are multiplied with, what 1 stands for */
	float share[4];
};

INLINE void find_most(const struct normal *q, uint32_t padded, const int digits, const int heads)
{
	for (uint32_t c = 0; c < padded; c += 16) {
		__m512 all = _mm512_set1_ps(digits == 1 ? LEAST : 0);
		UNROLL for (int h = 0; h < heads; h++) all = /* the larger magnitude, without its sign */
		    _mm512_range_ps(all, _mm512_loadu_ps(q->q[h] + c), 0xb);
		_mm512_store_ps(q->most + c, all);
	}
}

INLINE __m512i narrow(__m512i a, __m512i b, __m512i c, __m512i d)
{
	return _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
}

/* Digits of a run. Returns the sum of the whole numbers, lane by lane; of three digits it is not wanted. */
INLINE __m512i put_digits(const __m512i *n, const int digits, int8_t *to, size_t stride)
{
	const __m512i byte = _mm512_set1_epi32(255), half = _mm512_set1_epi32(128), ones = _mm512_set1_epi16(1);
	__m512i digit[3][4], low[2], high[2], sum = _mm512_setzero_si512();
	if (digits == 3) {
		UNROLL for (int i = 0; i < 4; i++)
		{
			__m512i rest = n[i]; /* a byte that is taken as a signed one adds to the next */
			UNROLL for (int d = 0; d < 3; d++)
			{
				digit[d][i] = _mm512_and_si512(rest, byte);
				rest = _mm512_srai_epi32(_mm512_add_epi32(rest, half), 8);
			}
		}
		UNROLL for (int d = 0; d < 3; d++) _mm512_store_si512(
		    to + (size_t)d * stride, narrow(digit[d][0], digit[d][1], digit[d][2], digit[d][3]));
		return sum;
	}
	UNROLL for (int i = 0; i < 2; i++)
	{
		__m512i x = _mm512_packs_epi32(n[2 * i], n[2 * i + 1]);
		sum = _mm512_add_epi32(sum, _mm512_madd_epi16(x, ones));
		low[i] = _mm512_and_si512(x, _mm512_set1_epi16(255));
		high[i] = _mm512_srai_epi16(_mm512_add_epi16(x, _mm512_set1_epi16(128)), 8);
	}
	_mm512_store_si512(to, _mm512_packus_epi16(low[0], low[1]));
	_mm512_store_si512(to + stride, _mm512_packs_epi16(high[0], high[1]));
	return sum;
}

/* The unit of each run, by the largest product of all heads. */
INLINE void find_units(const struct tile_shape *shape, const struct tile *t, const struct normal *q, const int digits,
		       struct scaled *out)
{
	const float largest = digits == 1 ? 127 : digits == 2 ? 32500 : 8e6f;
	const uint32_t padded = tile_padded(shape->d_qk);
	for (uint32_t first = 0; first < padded; first += 4 * RUN) {
		__m512 most[4];
		UNROLL for (uint32_t k = 0; k < 4; k++)
		{
			most[k] = _mm512_setzero_ps();
			for (uint32_t c = first + k * RUN; c < first + (k + 1) * RUN && c < padded; c += 16)
				most[k] = _mm512_max_ps(most[k], _mm512_mul_ps(halves16(t->group + 2 * c),
									       _mm512_load_ps(q->most + c)));
		}
		__m128 top = most4(most);
		__mmask8 some = _mm_cmp_ps_mask(top, _mm_set1_ps(1e-30f), _CMP_GT_OQ);
		_mm_storeu_ps(out->factors + first / RUN, _mm_maskz_div_ps(some, _mm_set1_ps(largest), top));
		_mm_storeu_ps(out->units + first / RUN, _mm_maskz_mul_ps(some, top, _mm_set1_ps(1 / largest)));
	}
}

/* One digit: a run's whole queries times scales as integers. */
INLINE __m512i put_bytes(const int16_t *q, const __m512i *scales, const bool half, int8_t *to)
{
	__m512i x = _mm512_mulhrs_epi16(_mm512_loadu_si512(q), scales[0]), y = _mm512_setzero_si512();
	if (!half)
		y = _mm512_mulhrs_epi16(_mm512_loadu_si512(q + 32), scales[1]);
	x = _mm512_packs_epi16(x, y);
	_mm512_store_si512(to, x);
	return add_dots(_mm512_setzero_si512(), _mm512_set1_epi8(1), x);
}

INLINE void scale_query(const struct tile_shape *shape, const struct tile *t, const struct normal *q, const int digits,
			const int heads, const float middle, struct scaled *out)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	const uint8_t *zeros = t->group + shape->k_zeros;
	__m512 shares[4];
	UNROLL for (int h = 0; h < 4; h++) shares[h] = _mm512_setzero_ps();
	for (uint32_t c = 0; c < padded; c += RUN) {
		const bool half = c + 32 >= padded;
		const __m512 factor = _mm512_set1_ps(digits == 1 ? out->factors[c / RUN] * (32768.0f / WHOLE)
								 : out->factors[c / RUN]);
		__m512i n[4][4], scales[4];
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			if (i >= 2 && half) {
				UNROLL for (int h = 0; h < heads; h++) n[h][i] = _mm512_setzero_si512();
				scales[i] = _mm512_setzero_si512();
				continue;
			}
			const uint32_t at = c + 16 * i;
			__m512 scale = halves16(t->group + 2 * at), zero = halves16(zeros + 2 * at);
			if (digits < 3)
				zero = _mm512_fmadd_ps(scale, _mm512_set1_ps(middle), zero);
			scale = _mm512_mul_ps(scale, factor);
			if (digits == 1)
				scales[i] = _mm512_cvtps_epi32(scale);
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m512 x = _mm512_loadu_ps(q->q[h] + at);
				shares[h] = _mm512_fmadd_ps(x, zero, shares[h]);
				if (digits > 1)
					n[h][i] = _mm512_cvtps_epi32(_mm512_mul_ps(x, scale));
			}
		}
		if (digits == 1) {
			scales[0] = _mm512_packs_epi32(scales[0], scales[1]);
			scales[1] = _mm512_packs_epi32(scales[2], scales[3]);
		}
		const __m512 unit = _mm512_set1_ps(out->units[c / RUN] * middle);
		UNROLL for (int h = 0; h < heads; h++)
		{
			int8_t *to = out->digits + 3 * (size_t)h * out->stride + c;
			__m512i sum = digits == 1 ? put_bytes(q->whole[h] + c, scales, half, to)
						  : put_digits(n[h], digits, to, out->stride);
			if (digits < 3)
				shares[h] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sum), unit, shares[h]);
		}
		fetch(t->group + 2 * c, t->ahead);
		fetch(zeros + 2 * c, t->ahead);
		fetch(t->group + 2 * c + 64, t->ahead);
		fetch(zeros + 2 * c + 64, t->ahead);
	}
	_mm_storeu_ps(out->share, sums4(shares));
}

/* Four channels from c on (of a group, c < 32) of 16 tokens each: vector j of the group's, part m of it. */
INLINE __m512i codes_of(const int bits, __m512i a, const int m)
{
	if (bits == 8)
		return a;
	a = m ? _mm512_srli_epi16(a, bits * m) : a;
	return _mm512_and_si512(a, _mm512_set1_epi8((char)((1 << bits) - 1)));
}

/* Sums of products of 32 channels, group g, with each digit. */
INLINE void add_group(const int bits, const struct tile *t, const int tiles, const struct scaled *q, uint32_t g,
		      const int digits, const int heads, __m512i (*sums)[4][3])
{
	const size_t run = g / 2 * RUN + g % 2 * 8;
	const int parts = 8 / bits; /* GCC unrolls by a variable's value in builds that check divisions, too */
	UNROLL for (int j = 0; j < bits; j++)
	{
		__m512i a[2];
		UNROLL for (int k = 0; k < tiles; k++)
		{
			const uint8_t *p = t[k].k + (g * (uint32_t)bits + (uint32_t)j) * 64;
			a[k] = _mm512_loadu_si512(p);
			fetch(p, t[k].ahead);
		}
		UNROLL for (int m = 0; m < parts; m++)
		{
			const int c = 4 * bits * m + 4 * j; /* of the group's channels */
			const int8_t *at = q->digits + run + c % 16 * 4 + c / 16 * 4;
			__m512i x[2];
			UNROLL for (int k = 0; k < tiles; k++) x[k] = codes_of(bits, a[k], m);
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < digits; i++)
			{
				__m512i y = four(at + (size_t)(3 * h + i) * q->stride);
				UNROLL for (int k = 0; k < tiles; k++) sums[k][h][i] =
				    add_dots(sums[k][h][i], x[k], y);
			}
		}
	}
}

INLINE void qk_tiles(const int bits, const struct tile_shape *shape, const struct tile *t, const int tiles,
		     const struct scaled *q, const float *size, const int digits, const int heads, float *s)
{
	const uint32_t groups = codec_groups(shape->d_qk);
	__m512 total[2][4];
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++) total[k][h] =
	    _mm512_set1_ps(q->share[h]);
	for (uint32_t g = 0; g < groups; g += 2) {
		__m512i sums[2][4][3];
		UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++)
		    UNROLL for (int i = 0; i < digits; i++) sums[k][h][i] = _mm512_setzero_si512();
		for (uint32_t i = g; i < g + 2 && i < groups; i++)
			add_group(bits, t, tiles, q, i, digits, heads, sums);
		UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++)
		{
			__m512 x = _mm512_cvtepi32_ps(sums[k][h][digits - 1]);
			UNROLL for (int i = digits - 2; i >= 0; i--) x =
			    _mm512_fmadd_ps(x, _mm512_set1_ps(256), _mm512_cvtepi32_ps(sums[k][h][i]));
			total[k][h] = _mm512_fmadd_ps(x, _mm512_set1_ps(q->units[g / 2]), total[k][h]);
		}
	}
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(
	    s + h * MICRO_BLOCK + k * TILE_TOKENS, _mm512_mul_ps(total[k][h], _mm512_set1_ps(size[h])));
}

INLINE void qk_heads(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const struct micro_query *all, uint32_t first, const int digits, const int heads, float *s,
		     float *scratch)
{
	const uint32_t padded = tile_padded(shape->d_qk), runs = (padded + 4 * RUN - 1) / (4 * RUN) * 4;
	const size_t run = (padded + RUN - 1) / RUN * RUN;
	float *most = (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63), *units = most + padded, size[4];
	int8_t *room = (int8_t *)(units + 2 * (size_t)runs * MICRO_TILES);
	struct normal q = {.most = most};
	struct scaled x[MICRO_TILES];
	uint32_t n[MICRO_TILES];
	UNROLL for (int h = 0; h < heads; h++)
	{
		struct forms f = forms_of(all->forms + (first + (uint32_t)h) * all->forms_stride, shape->d_qk);
		q.q[h] = f.parts;
		q.whole[h] = f.whole;
		size[h] = *f.size;
	}
	find_most(&q, padded, digits, heads);
	/* All groups first: their products do not wait for one another. */
	for (uint32_t i = 0, k = 0; i < count; i += n[k++]) {
		n[k] = i + 1 < count && tiles[i].group == tiles[i + 1].group ? 2 : 1;
		x[k].digits = room + 3 * (size_t)heads * run * k;
		x[k].stride = run;
		x[k].units = units + 2 * (size_t)runs * k;
		x[k].factors = x[k].units + runs;
		find_units(shape, &tiles[i], &q, digits, &x[k]);
	}
	for (uint32_t i = 0, k = 0; i < count; i += n[k++])
		scale_query(shape, &tiles[i], &q, digits, heads, (float)((1 << bits) - 1) / 2, &x[k]);
	for (uint32_t i = 0, k = 0; i < count; i += n[k++]) {
		if (n[k] == 2 && digits < 3) {
			qk_tiles(bits, shape, tiles + i, 2, &x[k], size, digits, heads, s + i * TILE_TOKENS);
			continue;
		}
		for (uint32_t j = i; j < i + n[k]; j++)
			qk_tiles(bits, shape, tiles + j, 1, &x[k], size, digits, heads, s + j * TILE_TOKENS);
	}
}

/* With `digits` where no token stands out. */
INLINE void qk(const int bits, const int digits, const struct tile_shape *shape, const struct tile *tiles,
	       uint32_t count, const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
#define HEADS(n)                                                                                                     \
	if (q->fine)                                                                                                 \
		qk_heads(bits, shape, tiles, count, q, h, 3, n, s + h * MICRO_BLOCK, scratch);                       \
	else                                                                                                         \
		qk_heads(bits, shape, tiles, count, q, h, digits, n, s + h * MICRO_BLOCK, scratch)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

#define KERNEL(bits, digits)                                                                                         \
	void avx512_qk_kivi##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,          \
				  const struct micro_query *q, uint32_t heads, float *s, float *scratch)             \
	{                                                                                                            \
		qk(bits, digits, shape, tiles, count, q, heads, s, scratch);                                         \
	}
KERNEL(8, 2)
KERNEL(4, 1)
KERNEL(2, 1)

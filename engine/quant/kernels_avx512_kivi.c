/* KIVI for AVX-512 with VNNI.
 *
 * Scores: K has a scale and a zero for each channel of 32 tokens, so the query of a group, q_c · scale_c, is made for
 * every two tiles, as integers of two signed bytes (three, if fine), the largest 32500 (8 · 10^6) of a head and
 * group; products with codes are exact, 16 tokens lie across the lanes. What all tokens share is exact but for float
 * rounding: sum of q_c (zero_c + middle · scale_c), codes counting from their middle.
 * Weighted sums: as those of INT4, weights times scales of a block become integers of two bytes (three). */
#include <math.h>
#include "quant/kernels_avx512.h"

#define RUN 64 /* channels whose digits lie in one register */

struct four_bytes {
	uint8_t b[4];
};

/* Queries of up to four heads, each divided by its largest magnitude, and of each channel the largest of them. */
struct normal {
	const float *q[4];
	float *most;
};

/* Their digits for one group of K, and what turns sums of products into scores of the divided queries. */
struct scaled {
	int8_t *digits; /* [4][3][stride]; four channels c of a run of 64 lie at dword c % 16 / 4 * 4 + c / 16 */
	size_t stride;
	float unit, share[4];
};

INLINE __m512i add_dots(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

/* sum += unsigned codes times four signed bytes in memory; GCC 12 copies registers around the intrinsic. */
INLINE void dot4(__m512i codes, const int8_t *digits, __m512i *sum)
{
	__asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(codes), "m"(*(const struct four_bytes *)digits));
}

/* Four bytes in every lane. */
INLINE __m512i four(const uint8_t *p)
{
	int32_t x;
	memcpy(&x, p, sizeof x);
	return _mm512_set1_epi32(x);
}

INLINE void find_most(const struct normal *q, uint32_t padded, const int heads)
{
	for (uint32_t c = 0; c < padded; c += 16) {
		__m512 all = _mm512_setzero_ps();
		UNROLL for (int h = 0; h < heads; h++) all =
		    _mm512_max_ps(all, _mm512_abs_ps(_mm512_loadu_ps(q->q[h] + c)));
		_mm512_store_ps(q->most + c, all);
	}
}

INLINE __m512i narrow(__m512i a, __m512i b, __m512i c, __m512i d)
{
	return _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
}

/* Digits of 64 channels. */
INLINE __m512i put_digits(const __m512i *n, const bool fine, int8_t *to, size_t stride, __m512i sum)
{
	const __m512i byte = _mm512_set1_epi32(255), half = _mm512_set1_epi32(128), ones = _mm512_set1_epi16(1);
	if (fine) {
		__m512i digit[3][4];
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
	__m512i low[2], high[2];
	UNROLL for (int i = 0; i < 2; i++)
	{
		__m512i x = _mm512_packs_epi32(n[2 * i], n[2 * i + 1]);
		__asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(ones));
		low[i] = _mm512_and_si512(x, _mm512_set1_epi16(255));
		high[i] = _mm512_srai_epi16(_mm512_add_epi16(x, _mm512_set1_epi16(128)), 8);
	}
	_mm512_store_si512(to, _mm512_packus_epi16(low[0], low[1]));
	_mm512_store_si512(to + stride, _mm512_packs_epi16(high[0], high[1]));
	return sum;
}

INLINE void scale_query(const struct tile_shape *shape, const struct tile *t, const struct normal *q, const bool fine,
			const int heads, const float middle, struct scaled *out)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	const uint8_t *zeros = t->group + shape->k_zeros;
	__m512 most = _mm512_setzero_ps(), shares[4];
	__m512i sums[4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		shares[h] = _mm512_setzero_ps();
		sums[h] = _mm512_setzero_si512();
	}
	for (uint32_t c = 0; c < padded; c += 16)
		most = _mm512_max_ps(most, _mm512_mul_ps(halves16(t->group + 2 * c), _mm512_load_ps(q->most + c)));
	const float top = _mm512_reduce_max_ps(most), largest = fine ? 8e6f : 32500;
	const float factor = top > 1e-30f ? largest / top : 0;
	out->unit = top > 1e-30f ? top / largest : 0;
	for (uint32_t c = 0; c < padded; c += RUN) {
		__m512i n[4][4];
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			if (i >= 2 && c + 32 >= padded) {
				UNROLL for (int h = 0; h < heads; h++) n[h][i] = _mm512_setzero_si512();
				continue;
			}
			const uint32_t at = c + 16 * i;
			__m512 scale = halves16(t->group + 2 * at), zero = halves16(zeros + 2 * at);
			if (!fine)
				zero = _mm512_fmadd_ps(scale, _mm512_set1_ps(middle), zero);
			scale = _mm512_mul_ps(scale, _mm512_set1_ps(factor));
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m512 x = _mm512_loadu_ps(q->q[h] + at);
				shares[h] = _mm512_fmadd_ps(x, zero, shares[h]);
				n[h][i] = _mm512_cvtps_epi32(_mm512_mul_ps(x, scale));
			}
		}
		UNROLL for (int h = 0; h < heads; h++) sums[h] =
		    put_digits(n[h], fine, out->digits + 3 * (size_t)h * out->stride + c, out->stride, sums[h]);
		fetch(t->group + 2 * c, t->ahead);
		fetch(zeros + 2 * c, t->ahead);
		fetch(t->group + 2 * c + 64, t->ahead);
		fetch(zeros + 2 * c + 64, t->ahead);
	}
	UNROLL for (int h = 0; h < heads && !fine; h++) shares[h] =
	    _mm512_fnmadd_ps(_mm512_cvtepi32_ps(sums[h]), _mm512_set1_ps(out->unit * middle), shares[h]);
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

INLINE void qk_tiles(const int bits, const struct tile_shape *shape, const struct tile *t, const int tiles,
		     const struct scaled *q, const float *size, const bool fine, const int heads, float *s)
{
	const int digits = fine ? 3 : 2, parts = 8 / bits;
	const int8_t *at[4];
	__m512i sums[2][4][3];
	UNROLL for (int h = 0; h < heads; h++) at[h] = q->digits + 3 * (size_t)h * q->stride;
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++)
	    UNROLL for (int i = 0; i < digits; i++) sums[k][h][i] = _mm512_setzero_si512();
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++) {
		const size_t run = g / 2 * RUN, half = g % 2 * 8;
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
				const size_t place = run + half + (size_t)(c % 16 * 4 + c / 16 * 4);
				__m512i x[2];
				UNROLL for (int k = 0; k < tiles; k++) x[k] = codes_of(bits, a[k], m);
				UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < digits; i++)
				{
					const int8_t *d = at[h] + (size_t)i * q->stride + place;
					if (tiles == 1) {
						dot4(x[0], d, &sums[0][h][i]);
						continue;
					}
					__m512i y = four((const uint8_t *)d);
					sums[0][h][i] = add_dots(sums[0][h][i], x[0], y);
					sums[1][h][i] = add_dots(sums[1][h][i], x[1], y);
				}
			}
		}
	}
	UNROLL for (int k = 0; k < tiles; k++) UNROLL for (int h = 0; h < heads; h++)
	{
		__m512 x = _mm512_cvtepi32_ps(sums[k][h][digits - 1]);
		UNROLL for (int i = digits - 2; i >= 0; i--) x =
		    _mm512_fmadd_ps(x, _mm512_set1_ps(256), _mm512_cvtepi32_ps(sums[k][h][i]));
		x = _mm512_fmadd_ps(x, _mm512_set1_ps(q->unit), _mm512_set1_ps(q->share[h]));
		_mm512_storeu_ps(s + h * MICRO_BLOCK + k * TILE_TOKENS, _mm512_mul_ps(x, _mm512_set1_ps(size[h])));
	}
}

INLINE void qk_heads(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const struct micro_query *all, uint32_t first, const bool fine, const int heads, float *s,
		     float *scratch)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	const size_t run = (padded + RUN - 1) / RUN * RUN;
	float *room = (float *)(((uintptr_t)scratch + 63) & ~(uintptr_t)63), size[4];
	struct normal q = {.most = room};
	struct scaled x[MICRO_TILES];
	uint32_t n[MICRO_TILES];
	UNROLL for (int h = 0; h < heads; h++)
	{
		struct forms f = forms_of(all->forms + (first + (uint32_t)h) * all->forms_stride, shape->d_qk);
		q.q[h] = f.parts;
		size[h] = *f.size;
	}
	find_most(&q, padded, heads);
	/* All groups first: their products do not wait for one another. */
	for (uint32_t i = 0, k = 0; i < count; i += n[k++]) {
		n[k] = i + 1 < count && tiles[i].group == tiles[i + 1].group ? 2 : 1;
		x[k].digits = (int8_t *)(room + padded) + 3 * (size_t)heads * run * k;
		x[k].stride = run;
		scale_query(shape, &tiles[i], &q, fine, heads, (float)((1 << bits) - 1) / 2, &x[k]);
	}
	for (uint32_t i = 0, k = 0; i < count; i += n[k++]) {
		if (n[k] == 2 && !fine) {
			qk_tiles(bits, shape, tiles + i, 2, &x[k], size, fine, heads, s + i * TILE_TOKENS);
			continue;
		}
		for (uint32_t j = i; j < i + n[k]; j++)
			qk_tiles(bits, shape, tiles + j, 1, &x[k], size, fine, heads, s + j * TILE_TOKENS);
	}
}

INLINE void qk(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
#define HEADS(n)                                                                                                     \
	if (q->fine)                                                                                                 \
		qk_heads(bits, shape, tiles, count, q, h, true, n, s + h * MICRO_BLOCK, scratch);                    \
	else                                                                                                         \
		qk_heads(bits, shape, tiles, count, q, h, false, n, s + h * MICRO_BLOCK, scratch)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

struct weights { /* of up to four heads and one group: highest bytes first; dword 4 j + i is quad j of tile i */
	uint8_t bytes[4][3][64];
	float units[4], zeros[4];
};

/* What codes are taken less, so that they are signed bytes and lose little to rounded weights. */
INLINE float offset(const int bits)
{
	return bits == 8 ? 128 : bits == 4 ? 8 : 0;
}

INLINE void put_weights(const __m512 *w, __m512 factor, const bool fine, uint8_t (*out)[64])
{
	const __m512i low = _mm512_set1_epi16(255);
	__m512i n[4];
	UNROLL for (int i = 0; i < 4; i++) n[i] = _mm512_cvtps_epi32(_mm512_mul_ps(w[i], factor));
	if (fine) {
		__m512i rest[4];
		UNROLL for (int i = 0; i < 4; i++)
		{
			rest[i] = _mm512_and_si512(n[i], _mm512_set1_epi32(255));
			n[i] = _mm512_srli_epi32(n[i], 8);
		}
		_mm512_storeu_si512(out[2], _mm512_packus_epi16(_mm512_packus_epi32(rest[0], rest[1]),
								_mm512_packus_epi32(rest[2], rest[3])));
	}
	__m512i a = _mm512_packus_epi32(n[0], n[1]), b = _mm512_packus_epi32(n[2], n[3]);
	_mm512_storeu_si512(out[0], _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8)));
	_mm512_storeu_si512(out[1], _mm512_packus_epi16(_mm512_and_si512(a, low), _mm512_and_si512(b, low)));
}

INLINE void weigh(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		  uint32_t g, const float *w, const bool fine, const int heads, struct weights *out)
{
	__m512 scale[4], zero[4], x[4][4], most[4], sums[4];
	UNROLL for (uint32_t i = 0; i < 4; i++)
	{
		scale[i] = zero[i] = _mm512_setzero_ps();
		if (i >= count)
			continue;
		const uint8_t *param = tiles[i].k + shape->v_params_at + g * 64;
		scale[i] = halves16(param);
		zero[i] = halves16(param + 32);
		fetch(param, tiles[i].ahead);
		if (bits > 2)
			zero[i] = _mm512_fmadd_ps(scale[i], _mm512_set1_ps(offset(bits)), zero[i]);
	}
	UNROLL for (int h = 0; h < 4; h++)
	{
		most[h] = sums[h] = _mm512_setzero_ps();
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			x[h][i] = _mm512_setzero_ps();
			if (h >= heads || i >= count)
				continue;
			__m512 y = _mm512_loadu_ps(w + h * MICRO_BLOCK + i * TILE_TOKENS);
			x[h][i] = _mm512_mul_ps(y, scale[i]);
			sums[h] = _mm512_fmadd_ps(y, zero[i], sums[h]);
			most[h] = _mm512_max_ps(most[h], x[h][i]);
		}
	}
	float factor[4];
	__m128 some = _mm_max_ps(most4(most), _mm_set1_ps(1e-30f));
	_mm_storeu_ps(factor, _mm_div_ps(_mm_set1_ps(fine ? 65535 * 256.0f : 65535), some));
	_mm_storeu_ps(out->units, _mm_mul_ps(some, _mm_set1_ps(1 / 65535.0f)));
	_mm_storeu_ps(out->zeros, sums4(sums));
	UNROLL for (int h = 0; h < heads; h++) put_weights(x[h], _mm512_set1_ps(factor[h]), fine, out->bytes[h]);
}

/* Codes of quad j of a tile, channels [c, c + 32) as two runs of 16; KIVI2's come with those of the next quad. */
INLINE void load_quads(const int bits, const uint8_t *p, __m512i (*v)[2])
{
	__m512i a = _mm512_loadu_si512(p);
	if (bits == 8) {
		v[0][0] = a;
		v[0][1] = _mm512_loadu_si512(p + 64);
		return;
	}
	if (bits == 4) {
		UNROLL for (int r = 0; r < 2; r++) v[0][r] = _mm512_sub_epi8(codes_of(4, a, r), _mm512_set1_epi8(8));
		return;
	}
	UNROLL for (int k = 0; k < 4; k++) v[k / 2][k % 2] = codes_of(2, a, k);
}

INLINE void pv_columns(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const struct weights *w, const bool fine, const int heads, float *acc,
		       size_t acc_stride)
{
	const int bytes = fine ? 3 : 2, quads = bits == 2 ? 2 : 1;
	const size_t step = (size_t)tile_padded(shape->d_v) * (bits == 8 ? 4 : 2);
	__m512i sums[4][3][2]; /* [head][byte][run] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 2 * bytes; i++) sums[h][i / 2][i % 2] =
	    _mm512_setzero_si512();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + (bits == 8 ? 4 : 2) * c;
		for (uint32_t j = 0; j < 4; j += (uint32_t)quads, p += step) {
			__m512i v[2][2];
			load_quads(bits, p, v);
			fetch(p, tiles[i].ahead);
			if (bits == 8)
				fetch(p + 64, tiles[i].ahead);
			UNROLL for (int k = 0; k < quads; k++) UNROLL for (int h = 0; h < heads; h++)
			    UNROLL for (int b = 0; b < bytes; b++)
			{
				__m512i x = four(w->bytes[h][b] + 16 * (j + (uint32_t)k) + 4 * i);
				sums[h][b][0] = add_dots(sums[h][b][0], x, v[k][0]);
				sums[h][b][1] = add_dots(sums[h][b][1], x, v[k][1]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int r = 0; r < 2; r++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 16 * r;
		__m512i both = _mm512_add_epi32(_mm512_slli_epi32(sums[h][0][r], 8), sums[h][1][r]);
		__m512 x = _mm512_cvtepi32_ps(both);
		if (fine)
			x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[h][2][r]), _mm512_set1_ps(1 / 256.0f), x);
		__m512 y = _mm512_add_ps(_mm512_loadu_ps(to), _mm512_set1_ps(w->zeros[h]));
		_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_set1_ps(w->units[h]), y));
	}
}

INLINE void pv_heads(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const float *w, const bool fine, const int heads, float *acc, size_t acc_stride)
{
	struct weights x;
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP) {
		weigh(bits, shape, tiles, count, c / CODEC_GROUP, w, fine, heads, &x);
		pv_columns(bits, shape, tiles, count, c, &x, fine, heads, acc, acc_stride);
	}
}

INLINE void pv(const int bits, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (shape->alias) {
		avx512_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
#define HEADS(n)                                                                                                     \
	if (fine)                                                                                                    \
		pv_heads(bits, shape, tiles, count, w + h * MICRO_BLOCK, true, n, acc + h * acc_stride, acc_stride); \
	else                                                                                                         \
		pv_heads(bits, shape, tiles, count, w + h * MICRO_BLOCK, false, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

#define KERNELS(bits)                                                                                                \
	void avx512_qk_kivi##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,          \
				  const struct micro_query *q, uint32_t heads, float *s, float *scratch)             \
	{                                                                                                            \
		qk(bits, shape, tiles, count, q, heads, s, scratch);                                                 \
	}                                                                                                            \
	void avx512_pv_kivi##bits(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,          \
				  const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,          \
				  float *scratch)                                                                    \
	{                                                                                                            \
		pv(bits, shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);                             \
	}
KERNELS(8)
KERNELS(4)
KERNELS(2)

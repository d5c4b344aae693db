/* Weighted sums of INT4, INT4_RESIDUAL and KIVI for AVX-512 with VNNI, and of INT8 where a token stands out.
 *
 * Weights times scales of a block become integers of two bytes (three, if fine), the largest of a head and group 65535;
 * the error of each is at most 2^-17 (2^-25) of the largest. */
#include "quant/kernels_avx512_dots.h"

#define TILES 4 /* at a time */

enum kind { BYTES, PAIRS, JOINED, KIVI8, KIVI2 }; /* codes of KIVI4 are pairs */

/* Of one head and group, highest bytes first: of two digits [two tiles][quad][tile][digit][token], since stores are
 * what costs most beside products; of three [tile][quad][4][token]. */
struct weights {
	_Alignas(64) uint8_t bytes[TILES * 64];
};

INLINE const uint8_t *weights_at(const struct weights *w, const bool fine, uint32_t i, uint32_t quad, uint32_t digit)
{
	return w->bytes + (fine ? 64 * i : i / 2 * 64 + i % 2 * 8) + 16 * quad + 4 * digit;
}

struct group {
	struct weights head[4];
	float units[4]; /* what one unit of the second byte is worth */
};

#define LEAST_TOP 1e-30f /* smaller weights times scales count as nothing */

/* What a code of 0 stands for, as codes_of() takes codes. */
INLINE __m512 zeros_of(const enum kind kind, const uint8_t *param)
{
	__m512 scale = halves16(param), zero = halves16(param + 32);
	if (kind == KIVI8)
		return _mm512_fmadd_ps(scale, _mm512_set1_ps(128), zero);
	if (kind == JOINED)
		return _mm512_fmadd_ps(scale, _mm512_set1_ps(128 / 15.0f - 0.5f), zero);
	return zero;
}

/* Weights of a tile, three bytes each; adding 2^23 has left an integer in a float's low bits. */
INLINE void put_three(__m512 n, uint8_t *to)
{
	const __m512i order = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(2, 6, 10, 14, 1, 5, 9, 13, 0, 4, 8, 12, -1, -1, -1, -1));
	_mm512_store_si512((void *)to, _mm512_shuffle_epi8(_mm512_castps_si512(n), order));
}

/* Of two tiles, two bytes each. */
INLINE void put_two(__m512 n0, __m512 n1, uint8_t *to)
{
	const __m512i order = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(1, 5, 9, 13, 0, 4, 8, 12, 3, 7, 11, 15, 2, 6, 10, 14));
	__m512i both = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_castps_si512(n0),
					       _mm512_slli_epi32(_mm512_castps_si512(n1), 16));
	_mm512_store_si512((void *)to, _mm512_shuffle_epi8(both, order));
}

/* Weights times scales of one head and group as integers of 16 bits (fine: 23) of the largest of them. */
INLINE void weigh_exactly(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles,
			  uint32_t count, uint32_t g, const float *w, const bool fine, int h, struct group *out)
{
	const float most_units = fine ? 65535 * 128.0f : 65535, scale = kind == JOINED ? 1 / 15.0f : 1;
	uint8_t *to = out->head[h].bytes;
	__m512 x[4];
	UNROLL for (uint32_t i = 0; i < 4; i++)
	{
		const uint8_t *param = params_of(shape, tiles + (i < count ? i : 0), g);
		x[i] = _mm512_mul_ps(tile_weights(w, i, count), halves16(param));
	}
	float top = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3])));
	__m512 factor = _mm512_set1_ps(top > LEAST_TOP ? most_units / top : 0);
	UNROLL for (int i = 0; i < 4; i++) x[i] = _mm512_fmadd_ps(x[i], factor, _mm512_set1_ps(0x1p23f));
	UNROLL for (int i = 0; i < 4 && fine; i++) put_three(x[i], to + 64 * i);
	UNROLL for (int i = 0; i < 4 && !fine; i += 2) put_two(x[i], x[i + 1], to + 32 * i);
	out->units[h] = top > LEAST_TOP ? top * scale * (fine ? 2 / 65535.0f : 1 / 65535.0f) : 0;
}

struct rows { /* weights of up to four heads as shares of each head's largest, times SHARES */
	_Alignas(64) float share[4][TILES * TILE_TOKENS];
	float top[4]; /* what 1 in `share` stands for */
};

#define SHARES 65530 /* so that rounding cannot reach 65536 */

INLINE void share_out(const float *w, uint32_t count, const int heads, struct rows *r)
{
	__m512 y[4][4], most[4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		most[h] = _mm512_setzero_ps();
		UNROLL for (uint32_t i = 0; i < 4 && h < heads; i++)
		{
			y[h][i] = tile_weights(w + h * MICRO_BLOCK, i, count);
			most[h] = _mm512_max_ps(most[h], y[h][i]);
		}
	}
	float factors[4];
	__m128 tops = most4(most);
	__mmask8 some = _mm_cmp_ps_mask(tops, _mm_set1_ps(LEAST_TOP), _CMP_GT_OQ);
	_mm_storeu_ps(factors, _mm_maskz_div_ps(some, _mm_set1_ps(SHARES), tops));
	_mm_storeu_ps(r->top, _mm_maskz_mul_ps(some, tops, _mm_set1_ps(1.0f / SHARES)));
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 4; i++)
	    _mm512_storeu_ps(r->share[h] + i * TILE_TOKENS, _mm512_mul_ps(y[h][i], _mm512_set1_ps(factors[h])));
}

struct top { /* of the scales of a group of V */
	float most, factor; /* and what makes shares of the largest of them */
	bool spread;        /* some are less than a fourth of the largest */
};

/* FP16 numbers that are not negative are in the order of their bits. */
INLINE struct top top_of(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			 uint32_t g)
{
	__m256i most = _mm256_loadu_si256((const __m256i *)params_of(shape, tiles, g)), least = most;
	for (uint32_t i = 1; i < count; i++) {
		__m256i x = _mm256_loadu_si256((const __m256i *)params_of(shape, tiles + i, g));
		most = _mm256_max_epu16(most, x);
		least = _mm256_min_epu16(least, x);
	}
	const __m128i ones = _mm_set1_epi16(-1);
	__m128i high = _mm_max_epu16(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
	__m128i low = _mm_min_epu16(_mm256_castsi256_si128(least), _mm256_extracti128_si256(least, 1));
	high = _mm_xor_si128(_mm_minpos_epu16(_mm_xor_si128(high, ones)), ones);
	float x = _mm_cvtss_f32(_mm_cvtph_ps(high)), y = _mm_cvtss_f32(_mm_cvtph_ps(_mm_minpos_epu16(low)));
	return (struct top){kind == JOINED ? x * (1 / 15.0f) : x, x > 0 ? 1 / x : 0, 4 * y < x};
}

/* Weights of two tiles times scales, these as shares of the largest, for one head: the largest product is taken to be
 * the largest weight times the largest scale. */
INLINE void weigh_two(const struct rows *r, const __m512 *scale, uint32_t h, uint32_t i, struct group *out)
{
	__m512 n[2];
	UNROLL for (uint32_t k = 0; k < 2; k++) n[k] = _mm512_fmadd_ps(
	    _mm512_load_ps(r->share[h] + (i + k) * TILE_TOKENS), scale[k], _mm512_set1_ps(0x1p23f));
	put_two(n[0], n[1], out->head[h].bytes + 32 * i);
}

/* Where the largest product is a fourth of that and less, two bits were lost. */
INLINE bool lost_bits(const struct weights *w, uint32_t count)
{
	const __m512i high = _mm512_set1_epi64(0xc0c0c0c0);
	__mmask16 any = 0;
	for (uint32_t i = 0; i < count; i += 2)
		any |= _mm512_test_epi32_mask(_mm512_load_si512(w->bytes + 32 * i), high);
	return !any;
}

/* What weigh_two() made of a group's weights, made ready; those that lost bits are weighed by their own largest. */
INLINE void finish(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		   uint32_t g, const float *w, const struct rows *r, const struct top *top, const int heads,
		   struct group *x)
{
	UNROLL for (int h = 0; h < heads; h++) x->units[h] = r->top[h] * top->most;
	for (int h = 0; top->spread && h < heads; h++)
		if (lost_bits(&x->head[h], count))
			weigh_exactly(kind, shape, tiles, count, g, w + h * MICRO_BLOCK, false, h, x);
}

/* Codes of a quad of tokens, 32 channels as two runs of 16; of KIVI2 two quads. */
INLINE void codes_of(const enum kind kind, const uint8_t *p, ptrdiff_t ahead, __m512i (*v)[2])
{
	__m512i a = _mm512_loadu_si512(p), b = a;
	fetch(p, ahead);
	if (kind == BYTES || kind == KIVI8 || kind == JOINED) {
		b = _mm512_loadu_si512(p + 64);
		fetch(p + 64, ahead);
	}
	switch (kind) {
	case PAIRS:
		v[0][0] = nibbles(a, false);
		v[0][1] = nibbles(a, true);
		break;
	case JOINED: /* less 128, to be signed bytes */
		v[0][0] = _mm512_add_epi8(joined(a, b, false), _mm512_set1_epi8(-128));
		v[0][1] = _mm512_add_epi8(joined(a, b, true), _mm512_set1_epi8(-128));
		break;
	case KIVI2:
		UNROLL for (int k = 0; k < 4; k++) v[k / 2][k % 2] =
		    _mm512_and_si512(k ? _mm512_srli_epi16(a, 2 * (unsigned)k) : a, _mm512_set1_epi8(3));
		break;
	default:
		v[0][0] = a;
		v[0][1] = b;
	}
}

INLINE void add_sums(__m512i sums[3][2], const int run, const int bytes, float unit, float zero, float *to)
{
	__m512 x = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sums[0][run], 8), sums[1][run]));
	if (bytes == 3)
		x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2][run]), _mm512_set1_ps(1 / 256.0f), x);
	__m512 y = _mm512_add_ps(_mm512_loadu_ps(to), _mm512_set1_ps(zero));
	_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_set1_ps(unit), y));
}

struct call {
	const struct tile_shape *shape;
	const struct tile *tiles;
	uint32_t count;
	const float *w;
	struct rows *rows;
	struct top *tops;  /* of each group */
	float (*zeros)[4]; /* of each group: weighted sums of zeros */
};

/* Scales of tiles i and i + 1, as shares of the largest. */
INLINE void scales_of(const struct call *call, uint32_t g, uint32_t i, __m512 *scale)
{
	UNROLL for (uint32_t k = 0; k < 2; k++)
	{
		const struct tile *t = call->tiles + (i + k < call->count ? i + k : i);
		scale[k] = _mm512_mul_ps(halves16(params_of(call->shape, t, g)), _mm512_set1_ps(call->tops[g].factor));
	}
}

INLINE void weigh_zeros(const enum kind kind, const struct call *call, uint32_t g, const int heads)
{
	__m512 sums[4];
	UNROLL for (int h = 0; h < 4; h++) sums[h] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < call->count; i++) {
		const uint8_t *param = params_of(call->shape, call->tiles + i, g);
		__m512 zero = zeros_of(kind, param);
		fetch(param, call->tiles[i].ahead);
		UNROLL for (int h = 0; h < heads; h++) sums[h] = _mm512_fmadd_ps(
		    _mm512_loadu_ps(call->w + h * MICRO_BLOCK + i * TILE_TOKENS), zero, sums[h]);
	}
	_mm_storeu_ps(call->zeros[g], sums4(sums));
}

/* Channels [c, c + 32): two runs of 16, which are both halves of a group's pairs. */
INLINE void pv_columns(const enum kind kind, const struct call *call, uint32_t c, const struct group *x, const bool fine,
		       const int heads, float *acc, size_t acc_stride)
{
	const size_t wide = kind == PAIRS || kind == KIVI2 ? 2 : 4, step = wide * tile_padded(call->shape->d_v);
	const uint32_t quads = kind == KIVI2 ? 2 : 1;
	const int bytes = fine ? 3 : 2;
	__m512i sums[4][3][2]; /* [head][byte][run] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 2 * bytes; i++) sums[h][i / 2][i % 2] =
	    _mm512_setzero_si512();
	for (uint32_t i = 0; i < call->count; i++) {
		const uint8_t *p = call->tiles[i].v + wide * c;
		for (uint32_t j = 0; j < 4; j += quads, p += step) {
			__m512i v[2][2];
			codes_of(kind, p, call->tiles[i].ahead, v);
			UNROLL for (uint32_t q = 0; q < quads; q++) UNROLL for (int h = 0; h < heads; h++)
			    UNROLL for (int k = 0; k < bytes; k++) add_weighted(
				sums[h][k], weights_at(&x->head[h], fine, i, j + q, (uint32_t)k), v[q][0], v[q][1]);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2; k++)
	    add_sums(sums[h], k, bytes, x->units[h], kind == BYTES ? 0 : call->zeros[c / CODEC_GROUP][h],
		     acc + (size_t)h * acc_stride + c + 16 * k);
}

/* Weights of group g, and its sums of zeros. */
INLINE void make_group(const enum kind kind, const struct call *call, uint32_t g, const bool fine, const int heads,
		       struct group *out)
{
	if (kind != BYTES)
		weigh_zeros(kind, call, g, heads);
	UNROLL for (uint32_t i = 0; i < TILES; i += 2)
	{
		__m512 scale[2];
		if (fine || i >= call->count)
			continue;
		scales_of(call, g, i, scale);
		UNROLL for (uint32_t h = 0; h < (uint32_t)heads; h++) weigh_two(call->rows, scale, h, i, out);
	}
	UNROLL for (int h = 0; fine && h < heads; h++)
	    weigh_exactly(kind, call->shape, call->tiles, call->count, g, call->w + h * MICRO_BLOCK, true, h, out);
	if (!fine)
		finish(kind, call->shape, call->tiles, call->count, g, call->w, call->rows, call->tops + g, heads, out);
}

/* Weighted sums for `heads` query heads. */
INLINE void pv_heads(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const float *w, const bool fine, const int heads, float *acc, size_t acc_stride, float *scratch)
{
	const uint32_t groups = kind == BYTES ? 1 : codec_groups(shape->d_v);
	struct group *group = (struct group *)scratch; /* [groups] */
	float(*zeros)[4] = (float(*)[4])(group + groups);
	struct rows rows;
	const struct call call = {shape, tiles, count, w, &rows, (struct top *)(zeros + groups), zeros};
	for (uint32_t g = 0; g < groups && !fine; g++)
		call.tops[g] = top_of(kind, shape, tiles, count, g);
	if (!fine)
		share_out(w, count, heads, &rows);
	for (uint32_t i = 0; i < count && kind == BYTES; i++)
		fetch(params_of(shape, tiles + i, 0), tiles[i].ahead);
	for (uint32_t g = 0; g < groups; g++)
		make_group(kind, &call, g, fine, heads, group + g);
	for (uint32_t c = 0; c < shape->d_v; c += CODEC_GROUP)
		pv_columns(kind, &call, c, kind == BYTES ? group : group + c / CODEC_GROUP, fine, heads, acc, acc_stride);
}

/* The same by TILES tiles. */
INLINE void pv_tiles(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const float *w, bool fine, const int heads, float *acc, size_t acc_stride, float *scratch)
{
	for (uint32_t i = 0; i < count; i += TILES) {
		const uint32_t n = count - i < TILES ? count - i : TILES;
		const float *x = w + i * TILE_TOKENS;
		if (fine)
			pv_heads(kind, shape, tiles + i, n, x, true, heads, acc, acc_stride, scratch);
		else
			pv_heads(kind, shape, tiles + i, n, x, false, heads, acc, acc_stride, scratch);
	}
}

INLINE void pv(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	if (shape->alias) {
		avx512_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	for (uint32_t h = 0; h < heads; h += 4, w += 4 * MICRO_BLOCK, acc += 4 * acc_stride) {
		const uint32_t n = heads - h < 4 ? heads - h : 4;
		if (!fine && (kind == PAIRS || kind == KIVI2) &&
		    avx512_pv_narrow(kind == PAIRS, shape, tiles, count, w, n, acc, acc_stride, scratch))
			continue;
		switch (n) {
		case 1:
			pv_tiles(kind, shape, tiles, count, w, fine || kind == BYTES, 1, acc, acc_stride, scratch);
			break;
		case 2:
			pv_tiles(kind, shape, tiles, count, w, fine || kind == BYTES, 2, acc, acc_stride, scratch);
			break;
		case 3:
			pv_tiles(kind, shape, tiles, count, w, fine || kind == BYTES, 3, acc, acc_stride, scratch);
			break;
		default:
			pv_tiles(kind, shape, tiles, count, w, fine || kind == BYTES, 4, acc, acc_stride, scratch);
		}
	}
}

#define KERNEL(name, kind)                                                                                           \
	void avx512_pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		pv(kind, shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);                             \
	}
KERNEL(int8_fine, BYTES)
KERNEL(int4, PAIRS)
KERNEL(int4r, JOINED)
KERNEL(kivi8, KIVI8)
KERNEL(kivi2, KIVI2)

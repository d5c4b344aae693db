/* SPARSE for AVX-512 with VBMI2 as products of 16-bit factors: two channels of a row, or two
 * rows of a channel, so that there are half as many as of floats. Values are rounded a tile at a time, before the bitmap
 * spreads them. Not for V that aliases K.
 *
 * A file that includes this says before what the factors are:
 *   sums                 sixteen sums, zero() and to_floats()
 *   add_products()       sums += a · b, two products a lane
 *   fold()               lane i: the sum of the lanes of a[i]
 *   round_tile()         rows of a tile one after the other, `kept` values each, and what each row's are worth
 *   round_weights()      weights of some tiles times what the rows' values are worth; returns what one is worth
 *   take_query()         a head's factors in the order of channels, in `room`, and what one is worth
 */
#if !defined(QUANT_KERNELS_AVX512_SPARSE_H) && defined(SPARSE_FACTORS) /* of the including file; nothing without */
#define QUANT_KERNELS_AVX512_SPARSE_H

#include "quant/kernels_avx512.h"

INLINE size_t rounded_tile(uint32_t kept)
{
	return TILE_TOKENS * (size_t)kept + 32;
}

INLINE uint32_t map_of(const uint8_t *p)
{
	uint32_t map;
	memcpy(&map, p, sizeof map);
	return map;
}

/* 32 channels of a row; `values` goes on to the next. */
INLINE __m512i spread32(uint32_t map, const uint16_t **values)
{
	__m512i x = _mm512_loadu_si512(*values);
	__asm__("" : "+v"(x)); /* `vpexpandw` from memory waits for stores before it */
	x = _mm512_maskz_expand_epi16(map, x);
	*values += __builtin_popcount(map);
	return x;
}

/* The row's share of what comes later: its values, and of the first row of four its bitmap and theirs. */
INLINE void fetch_row(const uint8_t *values, const uint8_t *maps, uint32_t kept, size_t map_bytes, uint32_t row,
		      ptrdiff_t ahead)
{
	for (size_t i = 0; i < 2 * (size_t)kept; i += 64)
		fetch(values + 2 * (size_t)row * kept + i, ahead);
	for (size_t i = 0; row % 4 == 0 && i < 4 * map_bytes; i += 64)
		fetch(maps + row * map_bytes + i, ahead);
}

struct queries {
	const uint16_t *rows[4];
	float units[4];
};

/* Scores of four rows from t0 on. */
INLINE void qk_rows(const struct tile_shape *shape, const struct tile *tile, const uint32_t dim, uint32_t t0,
		    const uint16_t *values, const float *units, const struct queries *q, const int heads, float *s)
{
	const uint32_t kept = codec_sparse_kept(dim), padded = tile_padded(dim);
	const size_t map_bytes = padded / 8;
	const uint8_t *maps = tile->k + shape->k_params_at + t0 * map_bytes;
	const uint16_t *row[4];
	sums a[16];
	UNROLL for (uint32_t i = 0; i < 4; i++)
	{
		row[i] = values + (t0 + i) * kept;
		fetch_row(tile->k, tile->k + shape->k_params_at, kept, map_bytes, t0 + i, tile->ahead);
	}
	UNROLL for (int i = 0; i < 16; i++) a[i] = zero();
	for (uint32_t c = 0; c < padded; c += 32) {
		__m512i x[4];
		UNROLL for (int h = 0; h < heads; h++) x[h] = _mm512_loadu_si512(q->rows[h] + c);
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			const __m512i k = spread32(map_of(maps + i * map_bytes + c / 8), &row[i]);
			UNROLL for (int h = 0; h < heads; h++) a[4 * (uint32_t)h + i] =
			    add_products(a[4 * (uint32_t)h + i], k, x[h]);
		}
	}
	const __m512 totals = fold(a);
	const __m128 of_rows = _mm_loadu_ps(units + t0);
	UNROLL for (int h = 0; h < heads; h++)
	{
		const __m128 four = h == 0   ? _mm512_castps512_ps128(totals)
				    : h == 1 ? _mm512_extractf32x4_ps(totals, 1)
				    : h == 2 ? _mm512_extractf32x4_ps(totals, 2)
					     : _mm512_extractf32x4_ps(totals, 3);
		_mm_storeu_ps(s + h * MICRO_BLOCK + t0, _mm_mul_ps(_mm_mul_ps(four, of_rows), _mm_set1_ps(q->units[h])));
	}
}

INLINE void qk_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const uint32_t dim,
		     const struct micro_query *q, uint32_t first, const int heads, float *s, uint16_t *scratch)
{
	struct queries queries;
	const uint32_t kept = codec_sparse_kept(dim);
	uint16_t *values = scratch + 4 * tile_padded(dim);
	float units[TILE_TOKENS];
	for (uint32_t h = 0; h < (uint32_t)heads; h++)
		queries.rows[h] = take_query(q, first + h, dim, scratch + h * tile_padded(dim), &queries.units[h]);
	for (uint32_t i = 0; i < count; i++) {
		round_tile(tiles[i].k, kept, values, units);
		for (uint32_t t0 = 0; t0 < TILE_TOKENS; t0 += 4)
			qk_rows(shape, &tiles[i], dim, t0, values, units, &queries, heads, s + i * TILE_TOKENS);
	}
}

INLINE void qk_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		      const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
#define HEADS_OF(n, dim) qk_heads(shape, tiles, count, dim, q, h, n, s + h * MICRO_BLOCK, (uint16_t *)scratch)
#define HEADS(n)                                                                                                     \
	if (shape->d_qk == 128) /* known: less arithmetic of addresses */                                            \
		HEADS_OF(n, 128);                                                                                    \
	else                                                                                                         \
		HEADS_OF(n, shape->d_qk)
	BY_FOUR(heads, HEADS)
#undef HEADS
#undef HEADS_OF
}

/* Rows of a tile of V from channel c on. */
struct rows {
	const uint16_t *values;
	const uint8_t *maps;
	uint32_t kept;
	size_t map_bytes;
};

INLINE const uint16_t *row_at(const struct rows *r, uint32_t row, uint32_t c)
{
	const uint16_t *values = r->values + row * r->kept;
	for (uint32_t i = 0; i < c; i += 32)
		values += __builtin_popcount(map_of(r->maps + row * r->map_bytes + i / 8));
	return values;
}

/* Channels [c, c + 32 n) of two rows times pairs of weights. */
INLINE void add_rows(const struct rows *r, uint32_t t, uint32_t c, const int n, const uint16_t *w, const int heads,
		     sums (*a)[4])
{
	const uint16_t *row[2] = {row_at(r, t, c), row_at(r, t + 1, c)};
	const uint8_t *maps = r->maps + t * r->map_bytes + c / 8;
	__m512i v[4];
	UNROLL for (int b = 0; b < n; b++)
	{
		__m512i x = spread32(map_of(maps + 4 * b), &row[0]);
		__m512i y = spread32(map_of(maps + r->map_bytes + 4 * (size_t)b), &row[1]);
		v[2 * b] = _mm512_unpacklo_epi16(x, y);
		v[2 * b + 1] = _mm512_unpackhi_epi16(x, y);
	}
	UNROLL for (int h = 0; h < heads; h++)
	{
		int32_t both;
		memcpy(&both, w + h * MICRO_BLOCK + t, sizeof both);
		const __m512i x = _mm512_set1_epi32(both);
		UNROLL for (int k = 0; k < 2 * n; k++) a[h][k] = add_products(a[h][k], v[k], x);
	}
}

INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const uint32_t dim,
		       uint32_t c, const int n, const uint16_t *values, const uint16_t *w, const float *units,
		       const int heads, float *acc, size_t acc_stride)
{
	struct rows r = {.kept = codec_sparse_kept(dim), .map_bytes = tile_padded(dim) / 8};
	sums a[4][4];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2 * n; k++) a[h][k] = zero();
	for (uint32_t i = 0; i < count; i++) {
		r.values = values + i * rounded_tile(r.kept);
		r.maps = tiles[i].k + shape->v_params_at;
		for (uint32_t t = 0; t < TILE_TOKENS; t += 2) {
			UNROLL for (uint32_t k = 0; k < 2 && c == 0; k++)
			    fetch_row(tiles[i].v, r.maps, r.kept, r.map_bytes, t + k, tiles[i].ahead);
			add_rows(&r, t, c, n, w + i * TILE_TOKENS, heads, a);
		}
	}
	/* In each 128 bits the lower halves of runs of eight channels, or the upper ones. */
	const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
	const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int b = 0; b < n; b++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 32 * b;
		const __m512 low = to_floats(a[h][2 * b]), high = to_floats(a[h][2 * b + 1]);
		const __m512 x = _mm512_permutex2var_ps(low, first, high), y = _mm512_permutex2var_ps(low, second, high);
		const __m512 unit = _mm512_set1_ps(units[h]);
		_mm512_storeu_ps(to, _mm512_fmadd_ps(x, unit, _mm512_loadu_ps(to)));
		_mm512_storeu_ps(to + 16, _mm512_fmadd_ps(y, unit, _mm512_loadu_ps(to + 16)));
	}
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const uint32_t dim,
		     const float *w, const int heads, const uint16_t *values, const float *of_rows, float *acc,
		     size_t acc_stride)
{
	uint16_t rounded[4 * MICRO_BLOCK];
	float units[4];
	uint32_t c = 0;
	for (int h = 0; h < heads; h++)
		units[h] = round_weights(w + h * MICRO_BLOCK, of_rows, count, rounded + h * MICRO_BLOCK);
	for (; c + 64 <= tile_padded(dim); c += 64)
		pv_columns(shape, tiles, count, dim, c, 2, values, rounded, units, heads, acc, acc_stride);
	if (c < dim)
		pv_columns(shape, tiles, count, dim, c, 1, values, rounded, units, heads, acc, acc_stride);
}

INLINE void pv_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		      uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	uint16_t *values = (uint16_t *)scratch;
	const uint32_t kept = codec_sparse_kept(shape->d_v);
	float units[MICRO_BLOCK];
	for (uint32_t i = 0; i < count; i++)
		round_tile(tiles[i].v, kept, values + i * rounded_tile(kept), units + i * TILE_TOKENS);
#define HEADS_OF(n, dim)                                                                                             \
	pv_heads(shape, tiles, count, dim, w + h * MICRO_BLOCK, n, values, units, acc + h * acc_stride, acc_stride)
#define HEADS(n)                                                                                                     \
	if (shape->d_v == 128)                                                                                       \
		HEADS_OF(n, 128);                                                                                    \
	else                                                                                                         \
		HEADS_OF(n, shape->d_v)
	BY_FOUR(heads, HEADS)
#undef HEADS
#undef HEADS_OF
}

#endif

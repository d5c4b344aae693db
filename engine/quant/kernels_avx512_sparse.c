/* SPARSE for AVX-512 with BF16 and VBMI2, where no token stands out: queries, weights and values rounded to BF16, 2^-9
 * of themselves at most, beside what leaving three channels of four out costs. A product takes two channels of a row, or
 * two rows of a channel, so that there are half as many as of floats. Values become BF16 a tile at a time, before the
 * bitmap spreads them. Elsewhere the kernels of kernels_avx512_rows.c do. */
#include "quant/kernels_avx512.h"

/* Rows of a tile one after the other, `kept` values each, and a register's length after the last. */
INLINE void round_values(const uint8_t *values, uint32_t kept, uint16_t *to)
{
	for (size_t i = 0; i < TILE_TOKENS * (size_t)kept; i += 32) {
		__m512bh x = _mm512_cvtne2ps_pbh(halves16(values + 2 * i + 32), halves16(values + 2 * i));
		_mm512_storeu_si512(to + i, (__m512i)x);
	}
}

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
INLINE __m512bh spread32(uint32_t map, const uint16_t **values)
{
	__m512i x = _mm512_loadu_si512(*values);
	__asm__("" : "+v"(x)); /* `vpexpandw` from memory waits for stores before it */
	x = _mm512_maskz_expand_epi16(map, x);
	*values += __builtin_popcount(map);
	return (__m512bh)x;
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

/* Queries as BF16 numbers in the order of channels, [heads][padded], and what sums of products are to be multiplied
 * with. */
struct queries {
	uint16_t *rounded;
	float factor[4];
};

INLINE void take_queries(const struct micro_query *q, uint32_t first, const int heads, uint32_t dim,
			 struct queries *out)
{
	const __m512i second_third = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
	const uint32_t padded = tile_padded(dim);
	UNROLL for (uint32_t h = 0; h < (uint32_t)heads; h++)
	{
		const struct forms f = forms_of(q->forms + (first + h) * q->forms_stride, dim);
		out->factor[h] = *f.size * 0x1p-60f;
		for (uint32_t c = 0; c < padded; c += 32)
			_mm512_storeu_si512(out->rounded + h * padded + c,
					    _mm512_shuffle_epi8(_mm512_loadu_si512(f.nearest + c), second_third));
	}
}

/* Scores of four rows from t0 on. */
INLINE void qk_rows(const struct tile_shape *shape, const struct tile *tile, const uint32_t dim, uint32_t t0,
		    const uint16_t *values, const struct queries *q, const int heads, float *s)
{
	const uint32_t kept = codec_sparse_kept(dim), padded = tile_padded(dim);
	const size_t map_bytes = padded / 8;
	const uint8_t *maps = tile->k + shape->k_params_at + t0 * map_bytes;
	const uint16_t *row[4];
	__m512 a[16];
	UNROLL for (uint32_t i = 0; i < 4; i++)
	{
		row[i] = values + (t0 + i) * kept;
		fetch_row(tile->k, tile->k + shape->k_params_at, kept, map_bytes, t0 + i, tile->ahead);
	}
	UNROLL for (int i = 0; i < 16; i++) a[i] = _mm512_setzero_ps();
	for (uint32_t c = 0; c < padded; c += 32) {
		__m512bh x[4];
		UNROLL for (uint32_t h = 0; h < (uint32_t)heads; h++) x[h] =
		    (__m512bh)_mm512_loadu_si512(q->rounded + h * padded + c);
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			const __m512bh k = spread32(map_of(maps + i * map_bytes + c / 8), &row[i]);
			UNROLL for (int h = 0; h < heads; h++) a[4 * (uint32_t)h + i] =
			    _mm512_dpbf16_ps(a[4 * (uint32_t)h + i], k, x[h]);
		}
	}
	const __m512 sums = fold16(a);
	UNROLL for (int h = 0; h < heads; h++)
	{
		const __m128 four = h == 0   ? _mm512_castps512_ps128(sums)
				    : h == 1 ? _mm512_extractf32x4_ps(sums, 1)
				    : h == 2 ? _mm512_extractf32x4_ps(sums, 2)
					     : _mm512_extractf32x4_ps(sums, 3);
		_mm_storeu_ps(s + h * MICRO_BLOCK + t0, _mm_mul_ps(four, _mm_set1_ps(q->factor[h])));
	}
}

INLINE void qk_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const uint32_t dim,
		     const struct micro_query *q, uint32_t first, const int heads, float *s, uint16_t *scratch)
{
	struct queries queries = {.rounded = scratch};
	const uint32_t kept = codec_sparse_kept(dim);
	uint16_t *values = scratch + 4 * tile_padded(dim);
	take_queries(q, first, heads, dim, &queries);
	for (uint32_t i = 0; i < count; i++) {
		round_values(tiles[i].k, kept, values);
		for (uint32_t t0 = 0; t0 < TILE_TOKENS; t0 += 4)
			qk_rows(shape, &tiles[i], dim, t0, values, &queries, heads, s + i * TILE_TOKENS);
	}
}

void avx512bf16_qk_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			  const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	if (q->fine || shape->alias) {
		avx512_qk_sparse(shape, tiles, count, q, heads, s, scratch);
		return;
	}
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
		     __m512 (*a)[4])
{
	const uint16_t *row[2] = {row_at(r, t, c), row_at(r, t + 1, c)};
	const uint8_t *maps = r->maps + t * r->map_bytes + c / 8;
	__m512i v[4];
	UNROLL for (int b = 0; b < n; b++)
	{
		__m512i x = (__m512i)spread32(map_of(maps + 4 * b), &row[0]);
		__m512i y = (__m512i)spread32(map_of(maps + r->map_bytes + 4 * (size_t)b), &row[1]);
		v[2 * b] = _mm512_unpacklo_epi16(x, y);
		v[2 * b + 1] = _mm512_unpackhi_epi16(x, y);
	}
	UNROLL for (int h = 0; h < heads; h++)
	{
		int32_t both;
		memcpy(&both, w + h * MICRO_BLOCK + t, sizeof both);
		const __m512bh x = (__m512bh)_mm512_set1_epi32(both);
		UNROLL for (int k = 0; k < 2 * n; k++) a[h][k] = _mm512_dpbf16_ps(a[h][k], (__m512bh)v[k], x);
	}
}

INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const uint32_t dim,
		       uint32_t c, const int n, const uint16_t *values, const uint16_t *w, const int heads, float *acc,
		       size_t acc_stride)
{
	struct rows r = {.kept = codec_sparse_kept(dim), .map_bytes = tile_padded(dim) / 8};
	__m512 a[4][4];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < 2 * n; k++) a[h][k] = _mm512_setzero_ps();
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
		__m512 x = _mm512_permutex2var_ps(a[h][2 * b], first, a[h][2 * b + 1]);
		__m512 y = _mm512_permutex2var_ps(a[h][2 * b], second, a[h][2 * b + 1]);
		_mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), x));
		_mm512_storeu_ps(to + 16, _mm512_add_ps(_mm512_loadu_ps(to + 16), y));
	}
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const uint32_t dim,
		     const float *w, const int heads, const uint16_t *values, float *acc, size_t acc_stride)
{
	uint16_t rounded[4 * MICRO_BLOCK];
	uint32_t c = 0;
	UNROLL for (int h = 0; h < heads; h++) for (uint32_t i = 0; i < count; i++)
	{
		const size_t at = (size_t)h * MICRO_BLOCK + i * TILE_TOKENS;
		_mm256_storeu_si256((__m256i *)(rounded + at), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(w + at)));
	}
	for (; c + 64 <= tile_padded(dim); c += 64)
		pv_columns(shape, tiles, count, dim, c, 2, values, rounded, heads, acc, acc_stride);
	if (c < dim)
		pv_columns(shape, tiles, count, dim, c, 1, values, rounded, heads, acc, acc_stride);
}

void avx512bf16_pv_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
			  bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	uint16_t *values = (uint16_t *)scratch;
	const uint32_t kept = codec_sparse_kept(shape->d_v);
	if (fine || shape->alias) {
		avx512_pv_sparse(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		round_values(tiles[i].v, kept, values + i * rounded_tile(kept));
#define HEADS_OF(n, dim)                                                                                             \
	pv_heads(shape, tiles, count, dim, w + h * MICRO_BLOCK, n, values, acc + h * acc_stride, acc_stride)
#define HEADS(n)                                                                                                     \
	if (shape->d_v == 128)                                                                                       \
		HEADS_OF(n, 128);                                                                                    \
	else                                                                                                         \
		HEADS_OF(n, shape->d_v)
	BY_FOUR(heads, HEADS)
#undef HEADS
#undef HEADS_OF
}

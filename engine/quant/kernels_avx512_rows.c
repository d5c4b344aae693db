/* BF16 and SPARSE for AVX-512: sixteen channels of a row at a time become floats, for all heads at once. BF16 by a
 * shift; SPARSE by spreading as many values as the bitmap says over its channels. */
#include "quant/kernels_avx512.h"

enum kind { UPPER, SPREAD };

/* Where the next channels of a row are; of BF16 its first. */
struct at {
	const uint16_t *values;
	const uint8_t *map;
};

/* Sixteen channels of SPARSE. Each byte of the bitmap chooses a shuffle: operations off the units that multiply, where
 * `vexpandps` is two on them. */
INLINE __m512 spread16(struct at *at, uint32_t c)
{
	uint16_t bits;
	memcpy(&bits, at->map + c / 8, sizeof bits);
	const uint32_t map = bits, low = map & 255, high = map >> 8;
	__m128i x = _mm_loadu_si128((const __m128i *)at->values);
	__m128i y = _mm_loadu_si128((const __m128i *)(at->values + (size_t)__builtin_popcount(low)));
	at->values += (size_t)__builtin_popcount(map);
	return _mm512_cvtph_ps(_mm256_set_m128i(_mm_shuffle_epi8(y, *(const __m128i *)codec_spread[high]),
						_mm_shuffle_epi8(x, *(const __m128i *)codec_spread[low])));
}

/* Channels [c, c + 16) of a row; `last` are those that BF16 has of them. */
INLINE __m512 next16(const enum kind kind, struct at *at, uint32_t c, __mmask16 last)
{
	if (kind == SPREAD)
		return spread16(at, c);
	__m256i x = last == 0xffff ? _mm256_loadu_si256((const __m256i *)(at->values + c))
				   : _mm256_maskz_loadu_epi16(last, at->values + c);
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

/* A row of `dim` channels of K or V of a tile, from channel c on, a multiple of 64. */
INLINE struct at row_at(const enum kind kind, const struct tile_shape *shape, const struct tile *t, bool v,
			const uint32_t dim, uint32_t row, uint32_t c)
{
	const uint16_t *codes = (const uint16_t *)(v ? t->v : t->k);
	if (kind == UPPER) /* a row that is not there is masked out: any will do */
		return (struct at){codes + (size_t)(row < t->rows ? row : t->rows - 1) * dim, NULL};
	struct at at = {codes + (size_t)row * codec_sparse_kept(dim),
			t->k + (v ? shape->v_params_at : shape->k_params_at) + (size_t)row * (tile_padded(dim) / 8)};
	for (uint32_t i = 0; i < c; i += 64) {
		uint64_t map;
		memcpy(&map, at.map + i / 8, sizeof map);
		at.values += (size_t)__builtin_popcountll(map);
	}
	return at;
}

/* Channels from c on that a row of BF16 has, of sixteen. */
INLINE __mmask16 mask_of(uint32_t dim, uint32_t c)
{
	return dim - c < 16 ? (__mmask16)((1u << (dim - c)) - 1) : 0xffff;
}

/* Sums of four rows from t0 on times the queries, lane by lane; a[4 * head + row]. */
INLINE void qk_rows(const enum kind kind, const struct tile_shape *shape, const struct tile *tile, const uint32_t dim,
		    uint32_t t0, const float *q, size_t q_stride, const int heads, __m512 *a)
{
	struct at row[4];
	UNROLL for (uint32_t i = 0; i < 4; i++) row[i] = row_at(kind, shape, tile, false, dim, t0 + i, 0);
	for (uint32_t c = 0; c < dim; c += 16) {
		__m512 x[4];
		__mmask16 last = kind == UPPER ? mask_of(dim, c) : 0xffff;
		UNROLL for (int h = 0; h < heads; h++) x[h] = _mm512_loadu_ps(q + (size_t)h * q_stride + c);
		UNROLL for (int i = 0; i < 4; i++)
		{
			if (kind == SPREAD) /* from one address */
				row[i].map = row[0].map + (size_t)i * (tile_padded(dim) / 8);
			__m512 k = next16(kind, &row[i], c, last);
			UNROLL for (int h = 0; h < heads; h++) a[4 * h + i] = _mm512_fmadd_ps(x[h], k, a[4 * h + i]);
			if (kind == UPPER && c % 32 == 0)
				fetch((const uint8_t *)(row[i].values + c), tile->ahead);
		}
	}
}

INLINE void qk_tile(const enum kind kind, const struct tile_shape *shape, const struct tile *tile, const uint32_t dim,
		    const float *q, size_t q_stride, const int heads, float *s)
{
	for (uint32_t t0 = 0; t0 < TILE_TOKENS; t0 += 4) {
		__m512 a[16];
		UNROLL for (int i = 0; i < 16; i++) a[i] = _mm512_setzero_ps();
		qk_rows(kind, shape, tile, dim, t0, q, q_stride, heads, a);
		__m512 sums = fold16(a);
		_mm_storeu_ps(s + t0, _mm512_castps512_ps128(sums));
		if (heads > 1)
			_mm_storeu_ps(s + MICRO_BLOCK + t0, _mm512_extractf32x4_ps(sums, 1));
		if (heads > 2)
			_mm_storeu_ps(s + 2 * MICRO_BLOCK + t0, _mm512_extractf32x4_ps(sums, 2));
		if (heads > 3)
			_mm_storeu_ps(s + 3 * MICRO_BLOCK + t0, _mm512_extractf32x4_ps(sums, 3));
	}
}

/* SPARSE: rows of values are short, so a tile's are fetched line by line before they are used. */
INLINE void fetch_run(const uint8_t *p, size_t bytes, ptrdiff_t ahead)
{
	for (size_t i = 0; i < bytes; i += 64)
		fetch(p + i, ahead);
}

INLINE void qk(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const struct micro_query *q, uint32_t heads, float *s)
{
	for (uint32_t i = 0; i < count; i++) {
		if (kind == SPREAD) {
			fetch_run(tiles[i].k, 2 * TILE_TOKENS * (size_t)codec_sparse_kept(shape->d_qk),
				  tiles[i].ahead);
			fetch_run(tiles[i].k + shape->k_params_at, 2 * (size_t)tile_padded(shape->d_qk),
				  tiles[i].ahead);
		}
#define TILE(n)                                                                                                      \
	if (shape->d_qk == 128) /* rows of known length: no register for each row's bitmap */                        \
		qk_tile(kind, shape, &tiles[i], 128, q->f + h * q->stride, q->stride, n,                             \
			s + h * MICRO_BLOCK + i * TILE_TOKENS);                                                      \
	else                                                                                                         \
		qk_tile(kind, shape, &tiles[i], shape->d_qk, q->f + h * q->stride, q->stride, n,                     \
			s + h * MICRO_BLOCK + i * TILE_TOKENS)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

/* Channels [c, c + 16 n) of all tokens, sums in registers. */
INLINE void pv_columns(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       const uint32_t dim, uint32_t c, const int n, const float *w, const int heads, float *acc,
		       size_t acc_stride)
{
	const __mmask16 last = mask_of(shape->d_v, c + 16 * ((uint32_t)n - 1));
	__m512 a[4][4];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++) a[h][j] =
	    _mm512_loadu_ps(acc + (size_t)h * acc_stride + c + 16 * j);
	for (uint32_t i = 0; i < count; i++) {
		const float *x = w + i * TILE_TOKENS;
		const uint32_t rows = kind == UPPER ? tiles[i].rows : TILE_TOKENS;
		for (uint32_t t = 0; t < rows; t++, x++) {
			struct at at = row_at(kind, shape, &tiles[i], true, dim, t, c);
			__m512 v[4];
			UNROLL for (int j = 0; j < n; j++)
			{
				v[j] = next16(kind, &at, c + 16 * (uint32_t)j, j == n - 1 ? last : 0xffff);
				if (kind == UPPER && j % 2 == 0)
					fetch((const uint8_t *)(at.values + c + 16 * (uint32_t)j), tiles[i].ahead);
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m512 y = _mm512_set1_ps(x[h * MICRO_BLOCK]);
				UNROLL for (int j = 0; j < n; j++) a[h][j] = _mm512_fmadd_ps(y, v[j], a[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++)
	    _mm512_storeu_ps(acc + (size_t)h * acc_stride + c + 16 * j, a[h][j]);
}

INLINE void pv_heads(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const uint32_t dim, const float *w, const int heads, float *acc, size_t acc_stride)
{
	uint32_t c = 0;
	for (; c + 64 <= shape->d_v; c += 64)
		pv_columns(kind, shape, tiles, count, dim, c, 4, w, heads, acc, acc_stride);
	if (c + 48 < shape->d_v)
		pv_columns(kind, shape, tiles, count, dim, c, 4, w, heads, acc, acc_stride);
	else if (c + 32 < shape->d_v)
		pv_columns(kind, shape, tiles, count, dim, c, 3, w, heads, acc, acc_stride);
	else if (c + 16 < shape->d_v)
		pv_columns(kind, shape, tiles, count, dim, c, 2, w, heads, acc, acc_stride);
	else if (c < shape->d_v)
		pv_columns(kind, shape, tiles, count, dim, c, 1, w, heads, acc, acc_stride);
}

INLINE void pv(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, uint32_t heads, float *acc, size_t acc_stride)
{
	const uint32_t stored = shape->alias ? shape->d_qk : shape->d_v;
	for (uint32_t i = 0; kind == SPREAD && i < count; i++) {
		fetch_run(tiles[i].v, 2 * TILE_TOKENS * (size_t)codec_sparse_kept(shape->d_v), tiles[i].ahead);
		fetch_run(tiles[i].k + shape->v_params_at, 2 * (size_t)tile_padded(shape->d_v), tiles[i].ahead);
	}
#define HEADS(n)                                                                                                     \
	if (stored == 128)                                                                                           \
		pv_heads(kind, shape, tiles, count, 128, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride);  \
	else                                                                                                         \
		pv_heads(kind, shape, tiles, count, stored, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

#define KERNELS(name, kind)                                                                                          \
	void avx512_qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk(kind, shape, tiles, count, q, heads, s);                                                          \
	}                                                                                                            \
	void avx512_pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		(void)fine;                                                                                          \
		(void)scratch;                                                                                       \
		pv(kind, shape, tiles, count, w, heads, acc, acc_stride);                                            \
	}
KERNELS(bf16, UPPER)
KERNELS(sparse, SPREAD)

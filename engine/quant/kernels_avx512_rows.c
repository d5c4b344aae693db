/* BF16 and SPARSE for AVX-512: sixteen channels of a row at a time become floats, for all heads at once. BF16 by a
 * shift; SPARSE by spreading as many values as the bitmap says over its channels. */
#include "quant/kernels_avx512.h"

enum kind { UPPER, SPREAD };

/* Where the next channels of a row are. */
struct at {
	const uint8_t *values, *map;
};

/* Channels [c, c + 16) of a row; `last` are those that BF16 has of them. */
INLINE __m512 next16(const enum kind kind, struct at *at, uint32_t c, __mmask16 last)
{
	if (kind == UPPER) {
		__m256i x = last == 0xffff ? _mm256_loadu_si256((const __m256i *)(at->values + 2 * c))
					   : _mm256_maskz_loadu_epi16(last, at->values + 2 * c);
		return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
	}
	uint16_t map;
	memcpy(&map, at->map + c / 8, sizeof map);
	/* Written out: the zeroing form waits for what its register held before (5 cycles on Zen 5). */
	__m512 x = _mm512_setzero_ps();
	__asm__("vexpandps %1, %0%{%2%}" : "+v"(x) : "v"(halves16(at->values)), "Yk"((__mmask16)map));
	at->values += 2 * (unsigned)__builtin_popcount(map);
	return x;
}

/* A row of `dim` channels of K or V of a tile, from channel c on, a multiple of 64. */
INLINE struct at row_at(const enum kind kind, const struct tile_shape *shape, const struct tile *t, bool v,
			const uint32_t dim, uint32_t row, uint32_t c)
{
	const uint8_t *codes = v ? t->v : t->k;
	if (kind == UPPER) /* a row that is not there is masked out: any will do */
		return (struct at){codes + (size_t)(row < t->rows ? row : t->rows - 1) * 2 * dim, NULL};
	struct at at = {codes + (size_t)row * 2 * codec_sparse_kept(dim),
			t->k + (v ? shape->v_params_at : shape->k_params_at) + (size_t)row * (tile_padded(dim) / 8)};
	for (uint32_t i = 0; i < c; i += 64) {
		uint64_t map;
		memcpy(&map, at.map + i / 8, sizeof map);
		at.values += 2 * (unsigned)__builtin_popcountll(map);
	}
	return at;
}

/* Channels from c on that a row of BF16 has, of sixteen. */
INLINE __mmask16 mask_of(uint32_t dim, uint32_t c)
{
	return dim - c < 16 ? (__mmask16)((1u << (dim - c)) - 1) : 0xffff;
}

INLINE void add_row(const enum kind kind, struct at *at, uint32_t c, __mmask16 last, ptrdiff_t ahead, const __m512 *x,
		    const int heads, __m512 *a)
{
	__m512 k = next16(kind, at, c, last);
	UNROLL for (int h = 0; h < heads; h++) a[4 * h] = _mm512_fmadd_ps(x[h], k, a[4 * h]);
	if (kind == UPPER && c % 32 == 0)
		fetch(at->values + 2 * c, ahead);
}

/* Sums of four rows from t0 on times the queries, lane by lane; a[4 * head + row]. */
INLINE void qk_rows(const enum kind kind, const struct tile_shape *shape, const struct tile *tile, const uint32_t dim,
		    uint32_t t0, const float *q, size_t q_stride, const int heads, __m512 *a)
{
	struct at row0 = row_at(kind, shape, tile, false, dim, t0, 0);
	struct at row1 = row_at(kind, shape, tile, false, dim, t0 + 1, 0);
	struct at row2 = row_at(kind, shape, tile, false, dim, t0 + 2, 0);
	struct at row3 = row_at(kind, shape, tile, false, dim, t0 + 3, 0);
	for (uint32_t c = 0; c < dim; c += 16) {
		__m512 x[4];
		__mmask16 last = kind == UPPER ? mask_of(dim, c) : 0xffff;
		UNROLL for (int h = 0; h < heads; h++) x[h] = _mm512_loadu_ps(q + (size_t)h * q_stride + c);
		add_row(kind, &row0, c, last, tile->ahead, x, heads, a);
		add_row(kind, &row1, c, last, tile->ahead, x, heads, a + 1);
		add_row(kind, &row2, c, last, tile->ahead, x, heads, a + 2);
		add_row(kind, &row3, c, last, tile->ahead, x, heads, a + 3);
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
					fetch(at.values + 2 * (c + 16 * (uint32_t)j), tiles[i].ahead);
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

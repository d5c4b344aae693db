/* Rows that lie as they come, for AVX2: FP16, BF16 and float. 2 tokens × 4 heads (scores) or 4 heads × 16 channels
 * (weighted sums) have their sums in registers, so a row is converted once for all of them. */
#include "quant/kernels_avx2.h"

/* Tiles that are summed at a time: 64 rows 256 bytes apart fill half of the first-level cache's sets that they fall
 * into. */
#define SUMMED 4

enum kind { HALF, UPPER, WHOLE }; /* FP16, BF16, float */

INLINE uint32_t size_of(const enum kind kind)
{
	return kind == WHOLE ? 4 : 2;
}

/* Eight channels of a row. */
INLINE __m256 row8(const enum kind kind, const uint8_t *p)
{
	if (kind == WHOLE)
		return _mm256_loadu_ps((const float *)p);
	if (kind == HALF)
		return halves8(p);
	__m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
	return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}

/* The last 1 to 7. */
INLINE __m256 row_tail(const enum kind kind, const uint8_t *p, uint32_t n)
{
	float x[8] = {0};
	memcpy(x, p, size_of(kind) * (size_t)n);
	return row8(kind, (const uint8_t *)x);
}

INLINE void qk_rows_tile(const enum kind kind, const struct tile *tile, uint32_t dim, size_t row_bytes,
			 const float *q, size_t q_stride, const int heads, float *s)
{
	const uint32_t size = size_of(kind);
	const uint32_t whole = dim & ~7u;
	for (uint32_t t0 = 0; t0 < TILE_TOKENS; t0 += 2) {
		const uint8_t *row[2];
		__m256 a[2][4];
		for (int t = 0; t < 2; t++) {
			uint32_t r = t0 + (uint32_t)t < tile->rows ? t0 + (uint32_t)t : tile->rows - 1;
			row[t] = tile->k + r * row_bytes;
			for (int h = 0; h < 4; h++)
				a[t][h] = _mm256_setzero_ps();
		}
		for (uint32_t c = 0; c < whole; c += 8) {
			__m256 k[2];
			UNROLL for (int t = 0; t < 2; t++) k[t] = row8(kind, row[t] + size * c);
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 x = _mm256_loadu_ps(q + (size_t)h * q_stride + c);
				UNROLL for (int t = 0; t < 2; t++) a[t][h] = _mm256_fmadd_ps(x, k[t], a[t][h]);
			}
			if (c % (64 / size) == 0) {
				fetch(row[0] + size * c, tile->ahead);
				fetch(row[1] + size * c, tile->ahead);
			}
		}
		for (int t = 0; t < 2 && whole < dim; t++) {
			__m256 k = row_tail(kind, row[t] + size * whole, dim - whole);
			for (int h = 0; h < heads; h++)
				a[t][h] =
				    _mm256_fmadd_ps(_mm256_loadu_ps(q + (size_t)h * q_stride + whole), k, a[t][h]);
		}
		UNROLL for (int t = 0; t < 2; t++)
		{
			float sums[4];
			_mm_storeu_ps(sums, fold4(a[t][0], a[t][1], a[t][2], a[t][3]));
			UNROLL for (int h = 0; h < heads; h++) s[h * MICRO_BLOCK + (int)t0 + t] = sums[h];
		}
	}
}

INLINE void qk_rows(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s)
{
	for (uint32_t i = 0; i < count; i++) {
#define TILE(n)                                                                                                      \
	if (shape->d_qk == 128) /* known length: less arithmetic of addresses */                                     \
		qk_rows_tile(kind, &tiles[i], 128, shape->k_step, q->f + h * q->stride, q->stride, n,                \
			     s + h * MICRO_BLOCK + i * TILE_TOKENS);                                                 \
	else                                                                                                         \
		qk_rows_tile(kind, &tiles[i], shape->d_qk, shape->k_step, q->f + h * q->stride, q->stride, n,        \
			     s + h * MICRO_BLOCK + i * TILE_TOKENS)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

/* a[h] += x_h[t] times channels [0, 8 n) at p, the last `tail` of them if that is not 0. */
INLINE void add_row(const enum kind kind, const uint8_t *p, const int n, uint32_t tail, const float *x, const int heads,
		    __m256 (*a)[2])
{
	__m256 v[2];
	UNROLL for (int j = 0; j < n; j++) v[j] =
	    tail ? row_tail(kind, p, tail) : row8(kind, p + 8 * (int)size_of(kind) * j);
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m256 y = _mm256_broadcast_ss(x + h * MICRO_BLOCK);
		UNROLL for (int j = 0; j < n; j++) a[h][j] = _mm256_fmadd_ps(y, v[j], a[h][j]);
	}
}

/* Channels [c, c + 8 n) of a block, the last `tail` of them if that is not 0. What comes next is fetched in the order
 * in which it lies where rows follow each other, 512 bytes while 16 channels of a tile are summed: by channels, as they
 * are read, 128 lines 256 bytes apart would be asked for at once and then none for as long (docs/kernels.md,
 * "Fetching"). */
INLINE void pv_rows_columns(const enum kind kind, const struct tile *tiles, uint32_t count, const size_t row_bytes,
			    const bool in_order, uint32_t c, const int n, uint32_t tail, const float *w,
			    const int heads, float *acc, size_t acc_stride)
{
	const uint32_t size = size_of(kind);
	const size_t whole = TILE_TOKENS * row_bytes, begin = (size_t)c * TILE_TOKENS * size * count;
	const struct tile *to = tiles + (in_order ? begin / whole : 0); /* whose successor is fetched, and from where on */
	size_t at = in_order ? begin % whole : 0;
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++) a[h][j] =
	    _mm256_loadu_ps(acc + (size_t)h * acc_stride + c + 8 * j);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + size * c;
		const float *x = w + i * TILE_TOKENS;
		uint32_t t = 0;
		if (in_order) {
			if (at == whole) {
				to++;
				at = 0;
			}
			const uint8_t *next = to->v + to->ahead + at;
			at += 512;
			for (; t + 4 <= tiles[i].rows; t += 4, p += 4 * row_bytes, x += 4, next += 128) {
				fetch(next, 0);
				fetch(next, 64);
				UNROLL for (int k = 0; k < 4; k++)
				    add_row(kind, p + (size_t)k * row_bytes, n, 0, x + k, heads, a);
			}
		}
		for (; t < tiles[i].rows; t++, p += row_bytes, x++) {
			if (!in_order && c % (64 / size) == 0)
				fetch(p, tiles[i].ahead);
			add_row(kind, p, n, tail, x, heads, a);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + 8 * j, a[h][j]);
}

INLINE void pv_rows_heads(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles,
			  uint32_t count, const float *w, const int heads, float *acc, size_t acc_stride)
{
	const size_t row_bytes = shape->v_step;
	const uint32_t d = shape->d_v;
	const bool in_order = kind != WHOLE && row_bytes == 2 * (size_t)d && d % 16 == 0;
	uint32_t c = 0;
	for (; in_order && c < d; c += 16)
		pv_rows_columns(kind, tiles, count, row_bytes, true, c, 2, 0, w, heads, acc, acc_stride);
	for (; c + 16 <= d; c += 16)
		pv_rows_columns(kind, tiles, count, row_bytes, false, c, 2, 0, w, heads, acc, acc_stride);
	for (; c < d; c += 8)
		pv_rows_columns(kind, tiles, count, row_bytes, false, c, 1, d - c < 8 ? d - c : 0, w, heads, acc,
				acc_stride);
}

INLINE void pv_rows(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const float *w, uint32_t heads, float *acc, size_t acc_stride)
{
#define HEADS(n)                                                                                                     \
	for (uint32_t i = 0; i < count; i += SUMMED)                                                                 \
	pv_rows_heads(kind, shape, tiles + i, count - i < SUMMED ? count - i : SUMMED,                               \
		      w + h * MICRO_BLOCK + i * TILE_TOKENS, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

/* Scores of a tile whose K lies by channels. */
INLINE void qk_channels(const struct tile *tile, uint32_t dim, const float *q, size_t q_stride, const int heads,
			float *s)
{
	const uint8_t *p = tile->k;
	const ptrdiff_t ahead = tile->ahead;
	__m256 sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_ps();
	for (; dim >= 4; dim -= 4, p += 8 * TILE_TOKENS, q += 4) {
		fetch(p, ahead);
		fetch(p + 64, ahead);
		UNROLL for (int i = 0; i < 4; i++)
		{
			__m256 k[2] = {halves8(p + 32 * i), halves8(p + 32 * i + 16)};
			add_channel(k, q + i, q_stride, heads, sums);
		}
	}
	for (; dim; dim--, p += 2 * TILE_TOKENS, q++) {
		__m256 k[2] = {halves8(p), halves8(p + 16)};
		fetch(p, ahead);
		add_channel(k, q, q_stride, heads, sums);
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, sums[h][j]);
}

void avx2_qk_fp16(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		  const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	for (uint32_t i = 0; i < count; i++) {
#define TILE(n)                                                                                                      \
	qk_channels(&tiles[i], shape->d_qk, q->f + h * q->stride, q->stride, n, s + h * MICRO_BLOCK + i * TILE_TOKENS)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

#define QK(name, kind)                                                                                               \
	void avx2_qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,                \
			    const struct micro_query *q, uint32_t heads, float *s, float *scratch)                   \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk_rows(kind, shape, tiles, count, q, heads, s);                                                     \
	}
#define PV(name, kind)                                                                                               \
	void avx2_pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,                \
			    const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,                \
			    float *scratch)                                                                          \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		(void)fine;                                                                                          \
		pv_rows(kind, shape, tiles, count, w, heads, acc, acc_stride);                                       \
	}
QK(half, HALF) QK(bf16, UPPER) QK(float, WHOLE) PV(fp16, HALF) PV(bf16, UPPER) PV(float, WHOLE)

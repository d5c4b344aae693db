/* SPARSE for AVX2: of eight channels a byte of the bitmap chooses the shuffle that spreads as many values over them
 * as it has bits; they become floats for four heads at once. */
#include "quant/kernels_avx2.h"

/* The next eight channels of a row, whose values come at *at. */
INLINE __m256 next8(const uint8_t **at, uint8_t map)
{
	__m128i x = _mm_loadu_si128((const __m128i *)*at);
	*at += 2 * (unsigned)__builtin_popcount(map);
	return _mm256_cvtph_ps(_mm_shuffle_epi8(x, *(const __m128i *)codec_spread[map]));
}

/* Of what lies at p in the tile that comes next the lines that begin in [from, to). */
INLINE void fetch_part(const uint8_t *p, size_t from, size_t to, ptrdiff_t ahead)
{
	for (size_t i = (from + 63) & ~(size_t)63; i < to; i += 64)
		fetch(p + i, ahead);
}

INLINE void qk_tile(const struct tile_shape *shape, const struct tile *tile, const uint32_t dim, const float *q,
		    const size_t q_stride, const int heads, float *s)
{
	const size_t row_bytes = 2 * (size_t)codec_sparse_kept(dim), map_bytes = tile_padded(dim) / 8;
	const uint8_t *maps = tile->k + shape->k_params_at;
	for (uint32_t t = 0; t < TILE_TOKENS; t += 2) {
		const uint8_t *at[2] = {tile->k + t * row_bytes, tile->k + (t + 1) * row_bytes};
		const uint8_t *map = maps + t * map_bytes;
		__m256 a[2][4];
		UNROLL for (int h = 0; h < 4; h++) a[0][h] = a[1][h] = _mm256_setzero_ps();
		fetch_part(tile->k, t * row_bytes, (t + 2) * row_bytes, tile->ahead);
		fetch_part(maps, t * map_bytes, (t + 2) * map_bytes, tile->ahead);
		for (uint32_t c = 0; c < dim; c += 8, map++) {
			__m256 k[2] = {next8(&at[0], map[0]), next8(&at[1], map[map_bytes])};
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 x = _mm256_loadu_ps(q + (size_t)h * q_stride + c);
				a[0][h] = _mm256_fmadd_ps(x, k[0], a[0][h]);
				a[1][h] = _mm256_fmadd_ps(x, k[1], a[1][h]);
			}
		}
		UNROLL for (int i = 0; i < 2; i++)
		{
			float sums[4];
			_mm_storeu_ps(sums, fold4(a[i][0], a[i][1], a[i][2], a[i][3]));
			UNROLL for (int h = 0; h < heads; h++) s[h * MICRO_BLOCK + (int)t + i] = sums[h];
		}
	}
}

void avx2_qk_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	for (uint32_t i = 0; i < count; i++, s += TILE_TOKENS) {
#define TILE(n)                                                                                                      \
	if (shape->d_qk == 128 && q->stride == 128) /* known: less arithmetic of addresses */                        \
		qk_tile(shape, &tiles[i], 128, q->f + h * 128, 128, n, s + h * MICRO_BLOCK);                         \
	else                                                                                                         \
		qk_tile(shape, &tiles[i], shape->d_qk, q->f + h * q->stride, q->stride, n, s + h * MICRO_BLOCK)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

/* Channels [c, c + 16) of a block's tokens, sums in registers; at[token]: where its values from c on come. What comes
 * next is fetched in the order in which it lies, in as many parts of a tile as there are such channels. */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, size_t row_bytes,
		       size_t map_bytes, uint32_t c, const uint8_t **at, const float *w, const int heads, float *acc,
		       size_t acc_stride)
{
	const uint32_t parts = (shape->d_v + 15) / 16, first = c / 16 * count;
	const struct tile *to = tiles + first / parts;
	uint32_t part = first % parts;
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) a[h][j] =
	    _mm256_loadu_ps(acc + (size_t)h * acc_stride + c + 8 * j);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *map = tiles[i].k + shape->v_params_at + c / 8;
		fetch_part(to->v, part * TILE_TOKENS * row_bytes / parts, (part + 1) * TILE_TOKENS * row_bytes / parts,
			   to->ahead);
		fetch_part(to->k + shape->v_params_at, part * TILE_TOKENS * map_bytes / parts,
			   (part + 1) * TILE_TOKENS * map_bytes / parts, to->ahead);
		to += part + 1 == parts;
		part = part + 1 == parts ? 0 : part + 1;
		for (uint32_t t = 0; t < TILE_TOKENS; t++, map += map_bytes, at++, w++) {
			const uint8_t *p = *at;
			__m256 v[2];
			UNROLL for (int j = 0; j < 2; j++) v[j] = next8(&p, map[j]);
			*at = p;
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 y = _mm256_broadcast_ss(w + h * MICRO_BLOCK);
				UNROLL for (int j = 0; j < 2; j++) a[h][j] = _mm256_fmadd_ps(y, v[j], a[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + 8 * j, a[h][j]);
}

INLINE void pv_heads(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     const int heads, float *acc, size_t acc_stride)
{
	const uint32_t stored = shape->alias ? shape->d_qk : shape->d_v;
	const size_t row_bytes = 2 * (size_t)codec_sparse_kept(stored), map_bytes = tile_padded(stored) / 8;
	const uint8_t *at[MICRO_BLOCK];
	for (uint32_t t = 0; t < count * TILE_TOKENS; t++)
		at[t] = tiles[t / TILE_TOKENS].v + t % TILE_TOKENS * row_bytes;
	for (uint32_t c = 0; c < shape->d_v; c += 16)
		pv_columns(shape, tiles, count, row_bytes, map_bytes, c, at, w, heads, acc, acc_stride);
}

void avx2_pv_sparse(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		    bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	(void)fine;
	(void)scratch;
#define HEADS(n) pv_heads(shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

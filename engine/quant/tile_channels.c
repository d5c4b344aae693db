/* FP16 tiles: K by channels, [dim][16 tokens], V by rows. Lanes of the kernels' registers so are tokens, and no sum
 * across them is needed. */
#include "quant/tile_forms.h"

#define UNROLL _Pragma("GCC unroll 4")
#define LOW    0x0000ffff0000ffffu /* the first and third of four halves (little-endian) */

/* Four runs of four halves, transposed. */
static void transpose4(const uint16_t *from, size_t from_step, uint16_t *to, size_t to_step)
{
	uint64_t a[4], b[4];
	UNROLL for (size_t i = 0; i < 4; i++) memcpy(&a[i], from + i * from_step, 8);
	UNROLL for (size_t i = 0; i < 4; i += 2)
	{
		b[i] = (a[i] & LOW) | (a[i + 1] & LOW) << 16;
		b[i + 1] = (a[i] >> 16 & LOW) | (a[i + 1] & ~LOW);
	}
	UNROLL for (size_t i = 0; i < 2; i++)
	{
		a[i] = (b[i] & UINT32_MAX) | b[i + 2] << 32;
		a[i + 2] = b[i] >> 32 | (b[i + 2] & ~(uint64_t)UINT32_MAX);
	}
	UNROLL for (size_t i = 0; i < 4; i++) memcpy(to + i * to_step, &a[i], 8);
}

/* n runs of `width` halves to `width` runs of n. */
static void transpose(const uint16_t *from, size_t from_step, uint32_t n, uint32_t width, uint16_t *to,
		      size_t to_step)
{
	uint32_t whole = width & ~3u, i = 0;
	for (; i + 4 <= n; i += 4) {
		for (uint32_t c = 0; c < whole; c += 4)
			transpose4(from + i * from_step + c, from_step, to + c * to_step + i, to_step);
		for (uint32_t c = whole; c < width; c++)
			for (uint32_t k = i; k < i + 4; k++)
				to[c * to_step + k] = from[k * from_step + c];
	}
	for (; i < n; i++)
		for (uint32_t c = 0; c < width; c++)
			to[c * to_step + i] = from[i * from_step + c];
}

void tile_put(const struct tile_shape *s, bool v, uint32_t first, uint32_t n, const uint16_t *rows, size_t step,
	      uint8_t *tiles)
{
	uint32_t dim = v ? s->d_v : s->d_qk;
	for (uint32_t part; n; first += part, n -= part, rows += part * step) {
		uint32_t at = first % TILE_TOKENS;
		uint16_t *tile = (uint16_t *)(tiles + first / TILE_TOKENS * s->bytes + (v ? s->v_at : 0));
		part = n < TILE_TOKENS - at ? n : TILE_TOKENS - at;
		if (tile_by_channel(s, v)) {
			transpose(rows, step, part, dim, tile + at, TILE_TOKENS);
			continue;
		}
		for (uint32_t i = 0; i < part; i++)
			memcpy(tile + (size_t)(at + i) * dim, rows + i * step, 2 * (size_t)dim);
	}
}

void tile_unpack_channels(const struct tile_shape *s, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical)
{
	for (uint32_t t = 0; t < tokens; t += TILE_TOKENS, tiles += s->bytes)
		transpose((const uint16_t *)tiles, TILE_TOKENS, s->d_qk,
			  tokens - t < TILE_TOKENS ? tokens - t : TILE_TOKENS,
			  (uint16_t *)canonical + (size_t)t * s->d_qk, s->d_qk);
}

void tile_decode_channels(const struct tile *t, uint32_t dim, float *rows, size_t stride)
{
	for (uint32_t i = 0; i < TILE_TOKENS; i++)
		for (uint32_t c = 0; c < dim; c++)
			rows[i * stride + c] = codec_half(t->k, c * TILE_TOKENS + (i < t->rows ? i : t->rows - 1));
}

/* Pages as the micro-kernels read them: tiles of 16 tokens of one KV head, K and V together.
 *
 * Codes and scales are those of docs/formats.md; only the order of the bytes differs. With P channels (a row padded
 * to a multiple of 32) a tile holds, one after the other:
 *
 *   FP16           K [d_qk][16 tokens], V [16][d_v]
 *   FP8, INT8      K codes [P/4][16 tokens][4 channels], V codes [4][P channels][4 tokens], scales of K and of V [16]
 *                  each
 *   INT4           K pairs [P/32][4][16 tokens][4], V pairs [4][P/32][16][4 tokens], then for K and for V
 *                  [P/32]{scale [16 tokens], zero [16 tokens]}
 *   INT4_RESIDUAL  the same with each [4][16][4] of K and [16][4] of V followed by that of the remainders
 *   BF16           K [16][d_qk], V [16][d_v]: rows as they come. FP16 the same where V aliases K, since weighted sums
 *                  want rows (TILE_HALF)
 *   KIVI8, 4, 2    K codes [P/32][8, 4, 2][16 tokens][4], V codes of a tile of P · 16 · bits / 8 bytes, K scales and
 *                  zeros [P] each, V parameters as INT4's. The parameters of K belong to two tiles: with pages of an
 *                  even number of tiles the first of two has the scales and the second the zeros, else each tile has
 *                  a copy of both. V codes of KIVI8 are [4][P][4 tokens], those of KIVI4 INT4's, those of KIVI2
 *                  [2][P/32][16][4 tokens]: byte t of dword i holds channels i and 16 + i of token t, then of 4 + t
 *   SPARSE         K values [16][kept], V values, K maps [16][P/8], V maps
 *
 * A dword so holds what one dot-product instruction of 4 bytes takes into one lane: 4 channels of a token for scores,
 * 4 tokens of a channel for weighted sums; no sum across lanes is needed. INT8 codes of K and KIVI8 codes of V carry
 * an offset of 128. The low half of a pair's byte i is channel i of its group, the high half channel 16 + i, in short
 * groups too; KIVI's codes of K likewise: bits from m · bits on of byte i of n are channel m · n + i. */
#ifndef QUANT_TILE_H
#define QUANT_TILE_H

#include "quant/codec.h"

#define TILE_TOKENS 16

struct tile_shape {
	enum ikv_format format;
	uint32_t d_qk, d_v;
	bool alias;  /* V is the first d_v channels of K */
	size_t v_at; /* V's codes, bytes into a tile */
	size_t k_params_at, v_params_at;
	size_t k_zeros;        /* KIVI: from the scales of K to their zeros */
	bool paired;           /* KIVI: two tiles share the parameters of K */
	size_t bytes;          /* of a tile, a multiple of 64 */
	size_t k_step, v_step; /* of rows: bytes from one to the next, which need not follow it at once */
};

/* Forms of tiles beside those of the formats, for K and V that are rows of float or of FP16, a caller's own too. SKIP
 * stores nothing, so its place in tables is free. */
#define TILE_FLOAT IKV_FMT_SKIP
#define TILE_HALF  IKV_FMT_COUNT
#define TILE_FORMS (IKV_FMT_COUNT + 1)

struct tile {
	const uint8_t *k, *v; /* codes; parameters lie at fixed distances from k */
	ptrdiff_t ahead;      /* from here to the tile that will be read later */
	uint32_t rows;        /* rows that are there, at least 1: of 16-bit formats others hold anything */
	const uint8_t *group; /* KIVI: scales of K */
};

/* Of a format, its rows one after the other? */
static inline bool tile_in_order(const struct tile_shape *s)
{
	return s->k_step == 2 * (size_t)s->d_qk && s->v_step == 2 * (size_t)(s->alias ? s->d_qk : s->d_v);
}

static inline uint32_t tile_padded(uint32_t dim)
{
	return (dim + 31) & ~31u;
}

static inline uint32_t tile_count(uint32_t tokens)
{
	return (tokens + TILE_TOKENS - 1) / TILE_TOKENS;
}

void tile_shape(struct tile_shape *s, enum ikv_format f, uint32_t d_qk, uint32_t d_v, bool alias);
/* The same for pages of page_tokens tokens: KIVI's tiles share parameters where their number is even. */
void tile_shape_in(struct tile_shape *s, enum ikv_format f, uint32_t d_qk, uint32_t d_v, bool alias,
		   uint32_t page_tokens);
/* Tile i of a page of one head that begins at `tiles`; `ahead` and `rows` are the caller's. */
static inline void tile_at(const struct tile_shape *s, const uint8_t *tiles, uint32_t i, struct tile *out)
{
	out->k = tiles + i * s->bytes;
	out->v = out->k + s->v_at;
	out->group = tiles + (s->paired ? i & ~1u : i) * s->bytes + s->k_params_at;
}
/* FP16 rows [first, first + n) of K or V, `step` values apart, of a page of FP16 that may still be open. */
void tile_put(const struct tile_shape *s, bool v, uint32_t first, uint32_t n, const uint16_t *rows, size_t step,
	      uint8_t *tiles);
/* K or V rows of a whole page between the canonical form and consecutive tiles. */
void tile_pack(const struct tile_shape *s, bool v, const uint8_t *canonical, uint32_t tokens, uint8_t *tiles);
void tile_unpack(const struct tile_shape *s, bool v, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical);
/* Values of a tile as floats [16][stride]; channels [0, dim) of K or V, d_v of K's where V aliases K. */
void tile_decode(const struct tile_shape *s, bool v, const struct tile *t, float *rows, size_t stride);

#endif

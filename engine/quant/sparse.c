/* SPARSE: of each token the quarter of the channels (rounded up) that is largest in magnitude, exactly, as a bitmap
 * and FP16 values in the order of channels. Of equal magnitudes the first channels are kept. */
#include "quant/codec.h"

/* Of a byte m of a bitmap, as byte shuffles of eight numbers of 16 bits. */
#define RANK(m, j)    __builtin_popcount((m) & ((1u << (j)) - 1))
#define LANE(m, j, b) (m) >> (j)&1 ? 2 * RANK(m, j) + (b) : 0x80
#define SPREAD(m, j)  LANE(m, j, 0), LANE(m, j, 1)
#define TERM(m, j, r) ((m) >> (j)&1 && RANK(m, j) == (r) ? 2 * (j) : 0)
#define NTH(m, r)                                                                                                    \
	TERM(m, 0, r) + TERM(m, 1, r) + TERM(m, 2, r) + TERM(m, 3, r) + TERM(m, 4, r) + TERM(m, 5, r) +              \
	    TERM(m, 6, r) + TERM(m, 7, r)
#define GATHER(m, r) NTH(m, r), NTH(m, r) + 1
#define EIGHT(m, of)                                                                                                 \
	{                                                                                                            \
		of(m, 0), of(m, 1), of(m, 2), of(m, 3), of(m, 4), of(m, 5), of(m, 6), of(m, 7)                       \
	}
#define FOUR(m, of)    EIGHT(m, of), EIGHT((m) + 1, of), EIGHT((m) + 2, of), EIGHT((m) + 3, of)
#define SIXTEEN(m, of) FOUR(m, of), FOUR((m) + 4, of), FOUR((m) + 8, of), FOUR((m) + 12, of)
#define ALL(of)                                                                                                      \
	{                                                                                                            \
		SIXTEEN(0, of), SIXTEEN(16, of), SIXTEEN(32, of), SIXTEEN(48, of), SIXTEEN(64, of), SIXTEEN(80, of), \
		    SIXTEEN(96, of), SIXTEEN(112, of), SIXTEEN(128, of), SIXTEEN(144, of), SIXTEEN(160, of),         \
		    SIXTEEN(176, of), SIXTEEN(192, of), SIXTEEN(208, of), SIXTEEN(224, of), SIXTEEN(240, of)         \
	}
const _Alignas(64) uint8_t codec_spread[256][16] = ALL(SPREAD);
const _Alignas(64) uint8_t codec_gather[256][16] = ALL(GATHER);

/* The `kept`-th largest magnitude of a row, found bit by bit: magnitudes of FP16 numbers are ordered as integers. */
static uint16_t threshold(const uint16_t *row, uint32_t dim, uint32_t kept)
{
	uint16_t limit = 0;
	for (uint16_t bit = 0x4000; bit; bit >>= 1) {
		uint32_t n = 0;
		for (uint32_t c = 0; c < dim; c++)
			n += (row[c] & 0x7fff) >= (limit | bit);
		if (n >= kept)
			limit |= bit;
	}
	return limit;
}

/* One row whose kept-th largest magnitude is `limit`. */
void codec_put_sparse(const uint16_t *row, uint32_t dim, uint16_t limit, uint8_t *map, uint8_t *values)
{
	uint32_t equal = codec_sparse_kept(dim); /* how many of the magnitudes at the threshold have room */
	for (uint32_t c = 0; c < dim; c++)
		equal -= (row[c] & 0x7fff) > limit;
	memset(map, 0, codec_sparse_map(dim));
	for (uint32_t c = 0; c < dim; c++) {
		uint16_t size = row[c] & 0x7fff;
		if (size < limit || (size == limit && !equal))
			continue;
		equal -= size == limit;
		map[c / 8] |= (uint8_t)(1 << c % 8);
		memcpy(values, &row[c], 2);
		values += 2;
	}
}

void codec_encode_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	uint32_t kept = codec_sparse_kept(dim), map_bytes = codec_sparse_map(dim);
	uint8_t *values = stored + (size_t)tokens * map_bytes;
	for (uint32_t t = 0; t < tokens; t++, values += 2 * kept)
		codec_put_sparse(rows + (size_t)t * dim, dim, threshold(rows + (size_t)t * dim, dim, kept),
				 stored + (size_t)t * map_bytes, values);
}

void codec_read_sparse(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out)
{
	uint32_t map_bytes = codec_sparse_map(r->dim), at = 0;
	const uint8_t *map = r->data + (size_t)t * map_bytes;
	const uint8_t *values = r->data + (size_t)r->tokens * map_bytes + 2 * (size_t)t * codec_sparse_kept(r->dim);
	for (uint32_t i = 0; i < c + n; i++) {
		bool there = map[i / 8] >> i % 8 & 1;
		if (i >= c)
			out[i - c] = there ? codec_half(values, at) : 0;
		at += there;
	}
}

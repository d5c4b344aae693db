/* SPARSE: of each token the quarter of the channels (rounded up) that is largest in magnitude, exactly, as a bitmap
 * and FP16 values in the order of channels. Of equal magnitudes the first channels are kept. */
#include "quant/codec.h"

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

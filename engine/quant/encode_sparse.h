/* The walk of a SPARSE encoder over the rows of a block; the including file has the registers: `bytes`, CHUNK
 * magnitudes of a row, and `bits`, a bit for each; split, search, take_lower; above and same, which compare bytes
 * with a number; and put_values for VALUES channels. */
#if !defined(QUANT_ENCODE_SPARSE_H) && defined(CHUNK) /* of the including file; nothing without */
#define QUANT_ENCODE_SPARSE_H

/* Rows at once, and the registers that each of them may have; those of a single row of any length. */
enum { ROWS = 8, SHORT = 128 / CHUNK, LONG = 8192 / CHUNK };

/* A row by its bytes as take_lower left them, which have to be above `at` or among the first equal ones. */
INLINE uint8_t *put_row(const uint16_t *row, uint32_t dim, const bytes *x, const uint32_t chunks, unsigned at,
			const bool room, uint8_t *map, uint8_t *values)
{
	uint32_t equal = codec_sparse_kept(dim); /* how many of the magnitudes at the threshold have room */
	for (uint32_t i = 0; i < chunks; i++)
		equal -= (uint32_t)__builtin_popcountll(above(x[i], at));
	for (uint32_t i = 0; i < chunks; i++, row += CHUNK, map += CHUNK / 8) {
		uint32_t left = dim - i * CHUNK;
		bits kept = above(x[i], at), ties = same(x[i], at);
		if (left < CHUNK)
			ties &= ((bits)1 << left) - 1;
		for (; ties && equal; ties &= ties - 1, equal--)
			kept |= ties & -ties;
		memcpy(map, &kept, left < CHUNK ? codec_sparse_map(left) : CHUNK / 8);
		for (uint32_t c = 0; c < CHUNK && c < left; c += VALUES)
			values =
			    put_values(row + c, left - c, (uint16_t)(kept >> c & ((1u << VALUES) - 1)), values, room);
	}
	return values;
}

INLINE uint8_t *put_rows(const uint16_t *row, const int rows, uint32_t dim, const uint32_t chunks, bytes *upper,
			 bytes *lower, uint8_t *map, uint8_t *values, const uint8_t *end)
{
	unsigned x[ROWS];
	UNROLL for (int r = 0; r < rows; r++) for (uint32_t i = 0; i < chunks; i++)
	    split(row + (uint32_t)r * dim + i * CHUNK, dim - i * CHUNK, upper + (uint32_t)r * chunks + i,
		  lower + (uint32_t)r * chunks + i);
	search(8, 0, upper, rows, chunks, codec_sparse_kept(dim), x);
	take_lower(upper, lower, rows, chunks, x);
	search(7, 1, upper, rows, chunks, codec_sparse_kept(dim), x);
	for (int r = 0; r < rows; r++) {
		const bytes *mine = upper + (uint32_t)r * chunks;
		/* Vectors stored beyond the row are overwritten by the next ones. */
		if (end - values >= 2 * (ptrdiff_t)codec_sparse_kept(dim) + 2 * VALUES)
			values = put_row(row, dim, mine, chunks, x[r] + 1, true, map, values);
		else
			values = put_row(row, dim, mine, chunks, x[r] + 1, false, map, values);
		row += dim;
		map += codec_sparse_map(dim);
	}
	return values;
}

INLINE void encode_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	const uint32_t chunks = dim / CHUNK + (dim % CHUNK != 0), map_bytes = codec_sparse_map(dim);
	uint8_t *values = stored + (size_t)tokens * map_bytes;
	const uint8_t *end = values + 2 * (size_t)tokens * codec_sparse_kept(dim);
	bytes upper[LONG], lower[LONG];
	uint32_t t = 0;
	if (chunks > LONG) {
		codec_encode_sparse(rows, tokens, dim, stored);
		return;
	}
	for (; chunks <= SHORT && t + ROWS <= tokens; t += ROWS, rows += ROWS * (size_t)dim) {
		uint8_t *map = stored + (size_t)t * map_bytes;
		if (dim == 128)
			values = put_rows(rows, ROWS, 128, SHORT, upper, lower, map, values, end);
		else if (chunks == SHORT)
			values = put_rows(rows, ROWS, dim, SHORT, upper, lower, map, values, end);
		else
			values = put_rows(rows, ROWS, dim, chunks, upper, lower, map, values, end);
	}
	for (; t < tokens; t++, rows += dim)
		values = put_rows(rows, 1, dim, chunks, upper, lower, stored + (size_t)t * map_bytes, values, end);
}

#endif

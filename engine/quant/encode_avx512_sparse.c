/* The encoder of SPARSE for AVX-512, bit for bit that of sparse.c.
 *
 * Magnitudes of FP16 numbers are ordered as integers of 15 bits. They are taken apart into 8 and 7 bits, so that a
 * register has those of 64 channels, and the kept-th largest is found bit by bit, eight rows at once: of one row it is
 * a chain of 15 comparisons that wait for each other. */
#include <immintrin.h>
#include "quant/encode_forms.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define CHUNK 64 /* channels of a register */

/* Rows at once, and the registers that each of them may have; those of a single row of any length. */
enum { ROWS = 8, SHORT = 2, LONG = 8192 / CHUNK };

INLINE __m512i load32(const uint16_t *row, uint32_t left)
{
	if (left >= 32)
		return _mm512_loadu_si512(row);
	return _mm512_maskz_loadu_epi16((1u << left) - 1, row);
}

/* Two halves' numbers below 256 as bytes, in order. */
INLINE __m512i narrow(__m512i a, __m512i b)
{
	return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packus_epi16(a, b));
}

/* Up to 64 magnitudes from `row` on; those that are not there count as 0. */
INLINE void split(const uint16_t *row, uint32_t left, __m512i *upper, __m512i *lower)
{
	const __m512i low = _mm512_set1_epi16(0x7f);
	__m512i a = load32(row, left), b = left > 32 ? load32(row + 32, left - 32) : _mm512_setzero_si512();
	*lower = narrow(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
	a = _mm512_srli_epi16(_mm512_slli_epi16(a, 1), 8);
	b = _mm512_srli_epi16(_mm512_slli_epi16(b, 1), 8);
	*upper = narrow(a, b);
}

/* The largest x of `bits` bits that at least `kept` bytes of a row reach, each of which has `more` added. */
INLINE void search(const int bits, const int more, const __m512i *bytes, const int rows, const uint32_t chunks,
		   uint32_t kept, unsigned *x)
{
	UNROLL for (int r = 0; r < rows; r++) x[r] = 0;
	for (unsigned bit = 1u << (bits - 1); bit; bit >>= 1) {
		UNROLL for (int r = 0; r < rows; r++)
		{
			const unsigned next = x[r] | bit;
			const __m512i least = _mm512_set1_epi8((char)(next + (unsigned)more));
			uint32_t n = 0;
			for (uint32_t i = 0; i < chunks; i++)
				n += (uint32_t)__builtin_popcountll(
				    _mm512_cmpge_epu8_mask(bytes[(uint32_t)r * chunks + i], least));
			x[r] = n >= kept ? next : x[r];
		}
	}
}

/* Bytes [rows][chunks] to what orders the rest: 255 above the threshold's upper bits, the lower ones and 1 where they
 * are equal, 0 below. */
INLINE void take_lower(__m512i *upper, const __m512i *lower, const int rows, const uint32_t chunks, const unsigned *x)
{
	UNROLL for (int r = 0; r < rows; r++) for (uint32_t i = 0; i < chunks; i++)
	{
		const __m512i at = _mm512_set1_epi8((char)x[r]);
		__m512i *u = upper + (uint32_t)r * chunks + i;
		__m512i rest = _mm512_maskz_add_epi8(_mm512_cmpeq_epi8_mask(*u, at), lower[(uint32_t)r * chunks + i],
						     _mm512_set1_epi8(1));
		*u = _mm512_mask_mov_epi8(rest, _mm512_cmpgt_epu8_mask(*u, at), _mm512_set1_epi8(-1));
	}
}

/* The values of sixteen channels that are kept; with `room` what follows them may be written, too. */
INLINE uint8_t *put_values(const uint16_t *row, uint32_t left, uint16_t map, uint8_t *to, const bool room)
{
	uint32_t n = (uint32_t)__builtin_popcount(map);
	__m256i x = left >= 16 ? _mm256_loadu_si256((const __m256i *)row)
			       : _mm256_maskz_loadu_epi16((__mmask16)((1u << left) - 1), row);
	x = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32((__mmask16)map, _mm512_cvtepu16_epi32(x)));
	if (room)
		_mm256_storeu_si256((__m256i *)to, x);
	else
		_mm256_mask_storeu_epi16(to, (__mmask16)((1u << n) - 1), x);
	return to + 2 * n;
}

/* A row by its bytes as take_lower left them, which have to be above `at` or among the first equal ones. */
INLINE uint8_t *put_row(const uint16_t *row, uint32_t dim, const __m512i *bytes, const uint32_t chunks, unsigned at,
			const bool room, uint8_t *map, uint8_t *values)
{
	const __m512i limit = _mm512_set1_epi8((char)at);
	uint32_t equal = codec_sparse_kept(dim); /* how many of the magnitudes at the threshold have room */
	for (uint32_t i = 0; i < chunks; i++)
		equal -= (uint32_t)__builtin_popcountll(_mm512_cmpgt_epu8_mask(bytes[i], limit));
	for (uint32_t i = 0; i < chunks; i++, row += CHUNK, map += CHUNK / 8) {
		uint32_t left = dim - i * CHUNK;
		uint64_t kept = _mm512_cmpgt_epu8_mask(bytes[i], limit),
			 same = _mm512_cmpeq_epi8_mask(bytes[i], limit);
		if (left < CHUNK)
			same &= (1ull << left) - 1;
		for (; same && equal; same &= same - 1, equal--)
			kept |= same & -same;
		memcpy(map, &kept, left < CHUNK ? codec_sparse_map(left) : CHUNK / 8);
		for (uint32_t c = 0; c < CHUNK && c < left; c += 16)
			values = put_values(row + c, left - c, (uint16_t)(kept >> c), values, room);
	}
	return values;
}

INLINE uint8_t *put_rows(const uint16_t *row, const int rows, uint32_t dim, const uint32_t chunks, __m512i *upper,
			 __m512i *lower, uint8_t *map, uint8_t *values, const uint8_t *end)
{
	unsigned x[ROWS];
	UNROLL for (int r = 0; r < rows; r++) for (uint32_t i = 0; i < chunks; i++)
	    split(row + (uint32_t)r * dim + i * CHUNK, dim - i * CHUNK, upper + (uint32_t)r * chunks + i,
		  lower + (uint32_t)r * chunks + i);
	search(8, 0, upper, rows, chunks, codec_sparse_kept(dim), x);
	take_lower(upper, lower, rows, chunks, x);
	search(7, 1, upper, rows, chunks, codec_sparse_kept(dim), x);
	for (int r = 0; r < rows; r++) {
		const __m512i *bytes = upper + (uint32_t)r * chunks;
		/* Vectors stored beyond the row are overwritten by the next ones. */
		if (end - values >= 2 * (ptrdiff_t)codec_sparse_kept(dim) + 32)
			values = put_row(row, dim, bytes, chunks, x[r] + 1, true, map, values);
		else
			values = put_row(row, dim, bytes, chunks, x[r] + 1, false, map, values);
		row += dim;
		map += codec_sparse_map(dim);
	}
	return values;
}

void encode_avx512_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	const uint32_t chunks = dim / CHUNK + (dim % CHUNK != 0), map_bytes = codec_sparse_map(dim);
	uint8_t *values = stored + (size_t)tokens * map_bytes;
	const uint8_t *end = values + 2 * (size_t)tokens * codec_sparse_kept(dim);
	__m512i upper[LONG], lower[LONG];
	uint32_t t = 0;
	if (chunks > LONG) {
		codec_encode_sparse(rows, tokens, dim, stored);
		return;
	}
	for (; chunks <= SHORT && t + ROWS <= tokens; t += ROWS, rows += ROWS * (size_t)dim) {
		uint8_t *map = stored + (size_t)t * map_bytes;
		if (dim == 128)
			values = put_rows(rows, ROWS, 128, 2, upper, lower, map, values, end);
		else if (chunks == 2)
			values = put_rows(rows, ROWS, dim, 2, upper, lower, map, values, end);
		else
			values = put_rows(rows, ROWS, dim, 1, upper, lower, map, values, end);
	}
	for (; t < tokens; t++, rows += dim)
		values = put_rows(rows, 1, dim, chunks, upper, lower, stored + (size_t)t * map_bytes, values, end);
}

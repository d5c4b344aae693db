/* The encoder of SPARSE for AVX-512, bit for bit that of sparse.c.
 *
 * Magnitudes of FP16 numbers are ordered as integers of 15 bits. They are taken apart into 8 and 7 bits, so that a
 * register has those of 64 channels, and the kept-th largest is found bit by bit, eight rows at once: of one row it
 * is a chain of 15 comparisons that wait for each other. */
#include <immintrin.h>
#include "quant/encode_forms.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define CHUNK  64 /* channels of a register */
#define VALUES 16 /* of which values are stored at once */

typedef __m512i bytes;
typedef uint64_t bits;

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

/* The largest x of so many digits that at least `kept` bytes of a row reach, each of which has `more` added. */
INLINE void search(const int digits, const int more, const __m512i *of, const int rows, const uint32_t chunks,
		   uint32_t kept, unsigned *x)
{
	UNROLL for (int r = 0; r < rows; r++) x[r] = 0;
	for (unsigned bit = 1u << (digits - 1); bit; bit >>= 1) {
		UNROLL for (int r = 0; r < rows; r++)
		{
			const unsigned next = x[r] | bit;
			const __m512i least = _mm512_set1_epi8((char)(next + (unsigned)more));
			uint32_t n = 0;
			for (uint32_t i = 0; i < chunks; i++)
				n += (uint32_t)__builtin_popcountll(
				    _mm512_cmpge_epu8_mask(of[(uint32_t)r * chunks + i], least));
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

INLINE bits above(__m512i x, unsigned at)
{
	return _mm512_cmpgt_epu8_mask(x, _mm512_set1_epi8((char)at));
}

INLINE bits same(__m512i x, unsigned at)
{
	return _mm512_cmpeq_epi8_mask(x, _mm512_set1_epi8((char)at));
}

#include "quant/encode_sparse.h"

void encode_avx512_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	encode_sparse(rows, tokens, dim, stored);
}

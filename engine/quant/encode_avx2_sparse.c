/* The encoder of SPARSE for AVX2, bit for bit that of sparse.c; the search is that of encode_avx512_sparse.c with 32
 * channels a register. Bytes are compared as signed ones, so 128 is taken from each. */
#include <immintrin.h>
#include "quant/encode_forms.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define CHUNK  32 /* channels of a register */
#define VALUES 8  /* of which values are stored at once */

typedef __m256i bytes;
typedef uint32_t bits;

/* Channels of a row that are there, the others 0. */
INLINE void load_chunk(const uint16_t *row, uint32_t left, __m256i *x)
{
	uint16_t some[CHUNK] = {0};
	if (left < CHUNK) {
		memcpy(some, row, left * sizeof *row);
		row = some;
	}
	x[0] = _mm256_loadu_si256((const __m256i *)row);
	x[1] = _mm256_loadu_si256((const __m256i *)(row + 16));
}

/* Numbers below 256 as bytes less 128, in order. */
INLINE __m256i narrow(__m256i a, __m256i b)
{
	__m256i x = _mm256_permute4x64_epi64(_mm256_packus_epi16(a, b), 0xd8);
	return _mm256_xor_si256(x, _mm256_set1_epi8(-128));
}

INLINE void split(const uint16_t *row, uint32_t left, __m256i *upper, __m256i *lower)
{
	const __m256i low = _mm256_set1_epi16(0x7f);
	__m256i x[2];
	load_chunk(row, left, x);
	*lower = narrow(_mm256_and_si256(x[0], low), _mm256_and_si256(x[1], low));
	*upper = narrow(_mm256_srli_epi16(_mm256_slli_epi16(x[0], 1), 8),
			_mm256_srli_epi16(_mm256_slli_epi16(x[1], 1), 8));
}

INLINE uint32_t mask_of(__m256i x)
{
	return (uint32_t)_mm256_movemask_epi8(x);
}

INLINE __m256i all(unsigned byte)
{
	return _mm256_set1_epi8((char)(byte ^ 0x80));
}

/* The largest x of so many digits that at least `kept` bytes of a row reach, each of which has `more` added. */
INLINE void search(const int digits, const unsigned more, const __m256i *of, const int rows, const uint32_t chunks,
		   uint32_t kept, unsigned *x)
{
	UNROLL for (int r = 0; r < rows; r++) x[r] = 0;
	for (unsigned bit = 1u << (digits - 1); bit; bit >>= 1) {
		UNROLL for (int r = 0; r < rows; r++)
		{
			const unsigned next = x[r] | bit;
			const __m256i least = all(next + more);
			uint32_t below = 0, i = 0;
			for (; i + 2 <= chunks; i += 2) {
				const __m256i *b = of + (uint32_t)r * chunks + i;
				below += (uint32_t)__builtin_popcountll(
				    mask_of(_mm256_cmpgt_epi8(least, b[0])) |
				    (uint64_t)mask_of(_mm256_cmpgt_epi8(least, b[1])) << 32);
			}
			for (; i < chunks; i++)
				below += (uint32_t)__builtin_popcount(
				    mask_of(_mm256_cmpgt_epi8(least, of[(uint32_t)r * chunks + i])));
			x[r] = chunks * CHUNK - below >= kept ? next : x[r];
		}
	}
}

/* Bytes [rows][chunks] to what orders the rest: 255 above the threshold's upper bits, the lower ones and 1 where they
 * are equal, 0 below; less 128. */
INLINE void take_lower(__m256i *upper, const __m256i *lower, const int rows, const uint32_t chunks, const unsigned *x)
{
	UNROLL for (int r = 0; r < rows; r++) for (uint32_t i = 0; i < chunks; i++)
	{
		const __m256i at = all(x[r]);
		__m256i *u = upper + (uint32_t)r * chunks + i;
		__m256i next = _mm256_add_epi8(lower[(uint32_t)r * chunks + i], _mm256_set1_epi8(1));
		__m256i rest = _mm256_blendv_epi8(all(0), next, _mm256_cmpeq_epi8(*u, at));
		*u = _mm256_blendv_epi8(rest, all(255), _mm256_cmpgt_epi8(*u, at));
	}
}

/* The values of eight channels that are kept; with `room` what follows them may be written, too. */
INLINE uint8_t *put_values(const uint16_t *row, uint32_t left, uint16_t map, uint8_t *to, const bool room)
{
	uint32_t size = 2 * (uint32_t)__builtin_popcount(map);
	uint16_t x[8] = {0};
	if (left < 8) {
		memcpy(x, row, left * sizeof *row);
		row = x;
	}
	__m128i packed = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)row), *(const __m128i *)codec_gather[map]);
	if (room) {
		_mm_storeu_si128((__m128i *)to, packed);
	} else {
		_mm_storeu_si128((__m128i *)x, packed);
		memcpy(to, x, size);
	}
	return to + size;
}

INLINE bits above(__m256i x, unsigned at)
{
	return mask_of(_mm256_cmpgt_epi8(x, all(at)));
}

INLINE bits same(__m256i x, unsigned at)
{
	return mask_of(_mm256_cmpeq_epi8(x, all(at)));
}

#include "quant/encode_sparse.h"

void encode_avx2_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	encode_sparse(rows, tokens, dim, stored);
}

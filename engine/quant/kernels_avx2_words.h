/* Products of integers for AVX2.
 *
 * Words (16 bits): vpmaddwd makes sixteen where an FMA makes eight, and nothing is converted to float. A dword holds
 * two of the four bytes or nibbles that belong together, the first and the third or the second and the fourth, as
 * words; queries and weights are stored in pairs of the same order.
 * Bytes: vpmaddubsw makes thirty-two of an unsigned and a signed byte. Sums of eight pairs of products fit words where
 * codes have four bits. */
#ifndef QUANT_KERNELS_AVX2_WORDS_H
#define QUANT_KERNELS_AVX2_WORDS_H

#include "quant/kernels_avx2.h"

#ifdef __AVX2__ /* so that the header compiles alone */
/* Sums stay in order: the compiler would add products to one another first, and spill. */
INLINE __m256i in_order(__m256i sum)
{
	__asm__("" : "+x"(sum));
	return sum;
}

/* sums[h][j] += what the words x[j] give with the pair of head h at `pairs`; heads lie `step` words apart. */
INLINE void add_words(const __m256i *x, const int16_t *pairs, size_t step, const int heads, __m256i (*sums)[2])
{
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m256i w = _mm256_castps_si256(_mm256_broadcast_ss((const float *)(pairs + (size_t)h * step)));
		sums[h][0] = in_order(_mm256_add_epi32(sums[h][0], _mm256_madd_epi16(w, x[0])));
		sums[h][1] = in_order(_mm256_add_epi32(sums[h][1], _mm256_madd_epi16(w, x[1])));
	}
}

/* Words 0, 2, 1, 3 of each four. */
INLINE __m256i paired(__m256i x)
{
	return _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(x, 0xd8), 0xd8);
}

/* Sixteen floats times `factor` as words at the nearest. */
INLINE __m256i round_words(const float *x, __m256 factor)
{
	__m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
	__m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), factor));
	return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

/* What follows the V of a block's tiles is fetched in the order in which it lies, a part of a tile with every part that
 * is summed. In the order of the sums, channel by channel, lines of all tiles would be asked for in turns, and with four
 * bits only every other time (docs/kernels.md, "Fetching"). */
struct following {
	const struct tile *tile, *end;
	size_t at, bytes; /* of a tile's V */
};

INLINE void fetch_following(struct following *f, const int lines)
{
	const uint8_t *p = f->tile->v + f->at;
	UNROLL for (int i = 0; i < lines; i++) fetch(p + 64 * i, f->tile->ahead);
	f->at += 64 * (size_t)lines;
	if (f->at >= f->bytes) {
		f->tile++;
		f->at = 0;
	}
}

/* What dimensions that are no multiple of 32 leave. */
INLINE void fetch_rest(struct following *f)
{
	while (f->tile < f->end)
		fetch_following(f, 1);
}

/* The largest of each register. */
INLINE __m128 most4(__m256 a, __m256 b, __m256 c, __m256 d)
{
	__m256 ab = _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
	__m256 cd = _mm256_max_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
	__m256 x = _mm256_max_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
	return _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

/* What makes each of four the number `to`; 0 of what counts as 0. */
INLINE __m128 factors4(__m128 tops, float to, float least)
{
	__m128 some = _mm_cmpgt_ps(tops, _mm_set1_ps(least));
	return _mm_and_ps(_mm_div_ps(_mm_set1_ps(to), tops), some);
}

INLINE __m256i dword(const void *p)
{
	return _mm256_castps_si256(_mm256_broadcast_ss(p));
}

/* Bits [shift, shift + bits) of 32 bytes. */
INLINE __m256i bits_of(__m256i x, const int shift, const int bits)
{
	x = shift ? _mm256_srli_epi16(x, shift) : x;
	return _mm256_and_si256(x, _mm256_set1_epi8((char)((1 << bits) - 1)));
}

/* Sums of the products of 32 channels' codes of 16 tokens with queries, two words a token: bytes of head h at
 * `bytes` + h · step. */
INLINE void dot_group(const int bits, const uint8_t *p, ptrdiff_t ahead, const int8_t *bytes, size_t step,
		      const int heads, __m256i (*sums)[2])
{
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_si256();
	for (int j = 0; j < bits; j++, p += 64, bytes += 4) {
		__m256i x[2] = {load(p), load(p + 32)};
		fetch(p, ahead);
		UNROLL for (int m = 0; m * bits < 8; m++)
		{
			__m256i k[2] = {bits_of(x[0], bits * m, bits), bits_of(x[1], bits * m, bits)};
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256i q = dword(bytes + (size_t)h * step + 4 * bits * m);
				UNROLL for (int i = 0; i < 2; i++) sums[h][i] =
				    in_order(_mm256_add_epi16(sums[h][i], _mm256_maddubs_epi16(k[i], q)));
			}
		}
	}
}

INLINE __m256 widened(__m256i words)
{
	return _mm256_cvtepi32_ps(_mm256_madd_epi16(words, _mm256_set1_epi16(1)));
}

INLINE const uint8_t *v_scales(const struct tile_shape *shape, const struct tile *t, uint32_t g)
{
	return t->k + shape->v_params_at + 64 * g;
}

/* acc_h += units[h] · sums[h] + zeros[h], channels [c, c + 8) and those 16 behind. */
INLINE void put_sums(__m256i (*sums)[2], const float *units, const float *zeros, uint32_t c, const int heads,
		     float *acc, size_t acc_stride)
{
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	{
		float *to = acc + (size_t)h * acc_stride + c + 16 * j;
		__m256 base = _mm256_add_ps(_mm256_loadu_ps(to), _mm256_broadcast_ss(zeros + h));
		_mm256_storeu_ps(to,
				 _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[h][j]), _mm256_broadcast_ss(units + h), base));
	}
}
#endif

/* The kernels of a file that has qk_tile and pv_heads for up to four heads. */
#define WORDS_KERNELS(name)                                                                                          \
	void avx2_qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,                \
			    const struct micro_query *q, uint32_t heads, float *s, float *scratch)                   \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		for (uint32_t i = 0; i < count; i++) {                                                               \
			BY_FOUR(heads, WORDS_QK)                                                                     \
		}                                                                                                    \
	}                                                                                                            \
	void avx2_pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,                \
			    const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,                \
			    float *scratch)                                                                          \
	{                                                                                                            \
		(void)fine;                                                                                          \
		(void)scratch;                                                                                       \
		BY_FOUR(heads, WORDS_PV)                                                                             \
	}
#define WORDS_QK(n)                                                                                                  \
	qk_tile(shape, &tiles[i], q->forms + h * q->forms_stride, q->forms_stride, n,                                \
		s + h * MICRO_BLOCK + i * TILE_TOKENS)
#define WORDS_PV(n) pv_heads(shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)

#endif

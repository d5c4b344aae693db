/* Integer dot products of stored codes, shared by the AVX-512 kernels with VNNI. */
#ifndef QUANT_KERNELS_AVX512_DOTS_H
#define QUANT_KERNELS_AVX512_DOTS_H

#include "quant/kernels_avx512.h"

#ifdef __AVX512VNNI__ /* so that the header compiles alone */
/* 15 code + code2 of the low or high halves. */
INLINE __m512i joined(__m512i a, __m512i b, bool high)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i times16 = high ? _mm512_andnot_si512(low, a) : _mm512_slli_epi16(_mm512_and_si512(a, low), 4);
	__m512i code = _mm512_and_si512(high ? _mm512_srli_epi16(a, 4) : a, low);
	__m512i rest = _mm512_and_si512(high ? _mm512_srli_epi16(b, 4) : b, low);
	return _mm512_add_epi8(_mm512_sub_epi8(times16, code), rest);
}

INLINE __m512i nibbles(__m512i a, bool high)
{
	return _mm512_and_si512(high ? _mm512_srli_epi16(a, 4) : a, _mm512_set1_epi8(15));
}

struct four_bytes {
	uint8_t b[4];
};

/* Four bytes in every lane. */
INLINE __m512i four(const void *p)
{
	int32_t x;
	memcpy(&x, p, sizeof x);
	return _mm512_set1_epi32(x);
}

/* sum += a · b, four unsigned times four signed bytes a lane. Written out, because GCC 12 copies both sums and
 * factors around the intrinsic, which costs a third of the speed. */
INLINE __m512i add_dots(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

/* The same for two sums, of codes a and b times four weights in memory. One statement, so that GCC keeps at most one
 * broadcast in a register: it would load them all first, and spill sums. */
INLINE void add_weighted(__m512i *sums, const uint8_t *weights, __m512i a, __m512i b)
{
	__m512i w;
	__asm__("vpbroadcastd %3, %2\n\tvpdpbusd %4, %2, %0\n\tvpdpbusd %5, %2, %1"
		: "+v"(sums[0]), "+v"(sums[1]), "=&v"(w)
		: "m"(*(const struct four_bytes *)weights), "v"(a), "v"(b));
}

/* sums += codes · q for `count` registers of codes: at q four magnitudes, then what gives their signs to the codes.
 * Written out for the order: where an XOR and a product take turns, both take up to a fourth longer. */
INLINE void add_nine(__m512i *sums, const __m512i *codes, const int count, const uint8_t *q)
{
	const __m512i size = four(q), sign = four(q + 4);
	UNROLL for (int k = 0; k + 2 <= count; k += 2)
	{
		__m512i x, y;
		__asm__("vpxord %4, %6, %2\n\tvpxord %5, %6, %3\n\tvpdpbusd %2, %7, %0\n\tvpdpbusd %3, %7, %1"
			: "+v"(sums[k]), "+v"(sums[k + 1]), "=&v"(x), "=&v"(y)
			: "v"(codes[k]), "v"(codes[k + 1]), "v"(sign), "v"(size));
	}
	if (count % 2)
		sums[count - 1] = add_dots(sums[count - 1], size, _mm512_xor_si512(codes[count - 1], sign));
}

/* Weights of tile i; beyond the tiles there are, none: what lies there may be no number. */
INLINE __m512 tile_weights(const float *w, uint32_t i, uint32_t count)
{
	return _mm512_maskz_loadu_ps(i < count ? 0xffff : 0, w + i * TILE_TOKENS);
}

/* Scales and zeros of group g of V. */
INLINE const uint8_t *params_of(const struct tile_shape *shape, const struct tile *t, uint32_t g)
{
	return t->k + shape->v_params_at + g * 64;
}

#endif
#endif

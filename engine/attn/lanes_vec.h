/* Vectors of sixteen floats for what is compiled once per ISA. Vector types of the compiler; the intrinsics are the exact
 * conversion from FP16 and moves between lanes, so that each operation is the same IEEE operation whatever the
 * register width. */
#ifndef ATTN_LANES_VEC_H
#define ATTN_LANES_VEC_H

#include <string.h>
#include "attn/lanes.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi" /* how they are passed: all that takes them is inlined */

#define LANES_JOIN_(a, b) lanes_##a##_##b
#define LANES_JOIN(a, b)  LANES_JOIN_(a, b)
#define LANES_NAME(name)  LANES_JOIN(name, LANES_ISA) /* of a function that another file's table holds */

#define LANES  16
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));

INLINE vec load(const float *p)
{
	vec v;
	memcpy(&v, p, sizeof v);
	return v;
}

INLINE vec load_tail(const float *p, uint32_t n, float fill)
{
	float a[LANES];
	for (uint32_t i = 0; i < LANES; i++)
		a[i] = i < n ? p[i] : fill;
	return load(a);
}

INLINE vec choose(ivec mask, vec yes, vec no)
{
	return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

#ifdef __F16C__
INLINE vec load_half(const uint16_t *p)
{
	__m256 part[2] = {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
			  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
	vec v;
	memcpy(&v, part, sizeof v);
	return v;
}
#else
/* Exponent and mantissa moved into place are the value times 2^-112, subnormal or not. */
INLINE vec load_half(const uint16_t *p)
{
	ivec h;
	for (int i = 0; i < LANES; i++)
		h[i] = p[i];
	vec magnitude = (vec)((h & 0x7fff) << 13) * 0x1p112f;
	return (vec)((ivec)magnitude | (h & 0x8000) << 16);
}
#endif

INLINE vec load_half_tail(const uint16_t *p, uint32_t n)
{
	uint16_t a[LANES];
	for (uint32_t i = 0; i < LANES; i++)
		a[i] = i < n ? p[i] : 0;
	return load_half(a);
}

#ifdef __AVX2__
/* Sixteen lanes of a sum: one register, or two. */
#ifdef __AVX512F__
typedef __m512 lanes16;

INLINE __m256 fold_to8(lanes16 v)
{
	return _mm256_add_ps(_mm512_castps512_ps256(v),
			     _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
}
#else
typedef struct {
	__m256 half[2];
} lanes16;

INLINE __m256 fold_to8(lanes16 v)
{
	return _mm256_add_ps(v.half[0], v.half[1]);
}
#endif

INLINE __m128 fold_to4(lanes16 v)
{
	const __m256 x = fold_to8(v);
	return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

INLINE float fold(vec v)
{
	lanes16 all;
	memcpy(&all, &v, sizeof all);
	__m128 x = fold_to4(all);
	x = _mm_add_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
#else
INLINE float fold(vec v)
{
	float a[LANES];
	memcpy(a, &v, sizeof a);
	for (int w = LANES / 2; w > 0; w /= 2)
		for (int i = 0; i < w; i++)
			a[i] += a[i + w];
	return a[0];
}
#endif

INLINE void store(float *p, vec v)
{
	memcpy(p, &v, sizeof v);
}

INLINE void store_tail(float *p, vec v, uint32_t n)
{
	float a[LANES];
	store(a, v);
	for (uint32_t i = 0; i < n; i++)
		p[i] = a[i];
}

#ifdef __AVX2__
/* Registers of the width at hand: the compiler keeps wider vectors in memory. */
#ifdef __AVX512F__
#define PART 16
#else
#define PART 8
#endif
typedef float part __attribute__((vector_size(4 * PART)));

INLINE part load_part(const float *p)
{
	part v;
	memcpy(&v, p, sizeof v);
	return v;
}

INLINE part load_half_part(const uint16_t *p)
{
#ifdef __AVX512F__
	return (part)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#else
	return (part)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
#endif
}
#else
#define PART LANES
typedef vec part;

INLINE part load_part(const float *p)
{
	return load(p);
}

INLINE part load_half_part(const uint16_t *p)
{
	return load_half(p);
}
#endif

void LANES_NAME(combine)(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, uint32_t count,
			 float *const *out);
void LANES_NAME(product)(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, uint32_t count,
			 float *const *out);

#endif

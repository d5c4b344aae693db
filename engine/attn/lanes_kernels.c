/* Compiled once per ISA: LANES_TABLE names the table. Vector types of the compiler, no intrinsics but the exact
 * conversion from FP16, so that each operation is the same IEEE operation whatever the register width. */
#include <string.h>
#include "attn/lanes.h"
#ifdef __F16C__
#include <immintrin.h>
#endif

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

INLINE float fold(vec v)
{
	float a[LANES];
	memcpy(a, &v, sizeof a);
	for (int w = LANES / 2; w > 0; w /= 2)
		for (int i = 0; i < w; i++)
			a[i] += a[i + w];
	return a[0];
}

static float dot(const float *a, const float *b, uint32_t n)
{
	vec sum = {0};
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		sum += load(a + i) * load(b + i);
	if (i < n)
		sum += load_tail(a + i, n - i, 0) * load_tail(b + i, n - i, 0);
	return fold(sum);
}

static float dot_h(const float *q, const uint16_t *k, uint32_t n)
{
	vec sum = {0};
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		sum += load(q + i) * load_half(k + i);
	if (i < n)
		sum += load_tail(q + i, n - i, 0) * load_half_tail(k + i, n - i);
	return fold(sum);
}

INLINE vec larger(vec a, vec b)
{
	return choose(a > b, a, b);
}

/* max(q·least, q·most) is the product with the end on q's side: rounding keeps their order. */
INLINE vec end_towards(vec q, vec least, vec most)
{
	return choose(q < 0, least, most);
}

static float bound(const float *q, const uint16_t *ends, uint32_t n)
{
	const uint16_t *least = ends, *most = ends + n;
	vec sum = {0};
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		vec x = load(q + i);
		sum += x * end_towards(x, load_half(least + i), load_half(most + i));
	}
	if (i < n) {
		vec x = load_tail(q + i, n - i, 0);
		sum += x * end_towards(x, load_half_tail(least + i, n - i), load_half_tail(most + i, n - i));
	}
	return fold(sum);
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

/* Four sums folded as in fold(). */
INLINE __m128 fold4(const lanes16 *sums)
{
	__m128 x[4];
	_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
	{
		__m256 y = fold_to8(sums[h]);
		x[h] = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
	}
	__m128 a = _mm_add_ps(_mm_movelh_ps(x[0], x[1]), _mm_movehl_ps(x[1], x[0]));
	__m128 b = _mm_add_ps(_mm_movelh_ps(x[2], x[3]), _mm_movehl_ps(x[3], x[2]));
	return _mm_add_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd));
}

#define BOUNDS_AHEAD 4 /* rows, two of a page: what is fetched meanwhile */

/* Four heads over one page share the conversions and what moves sums between lanes; each has the order of bound().
 * Their largest. */
INLINE float bounds4(const float *q, const uint16_t *least, const uint16_t *most, uint32_t n)
{
#ifdef __AVX512F__
	__m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
	for (uint32_t i = 0; i < n; i += LANES) {
		_mm_prefetch((const char *)(least + BOUNDS_AHEAD * n + i), _MM_HINT_T0);
		_mm_prefetch((const char *)(most + BOUNDS_AHEAD * n + i), _MM_HINT_T0);
		__m512 low = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(least + i)));
		__m512 high = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(most + i)));
		_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
		{
			__m512 x = _mm512_loadu_ps(q + (size_t)h * n + i);
			__mmask16 below = _mm512_cmplt_epi32_mask(_mm512_castps_si512(x), _mm512_setzero_si512());
			sum[h] += x * _mm512_mask_mov_ps(high, below, low);
		}
	}
#else
	lanes16 sum[4] = {{{_mm256_setzero_ps(), _mm256_setzero_ps()}}};
	for (uint32_t i = 0; i < n; i += 8) {
		__m256 low = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(least + i)));
		__m256 high = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(most + i)));
		_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
		{
			__m256 x = _mm256_loadu_ps(q + (size_t)h * n + i);
			sum[h].half[i / 8 % 2] += x * _mm256_blendv_ps(high, low, x);
		}
	}
#endif
	__m128 x = fold4(sum);
	x = _mm_max_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
#endif

static void bounds(const float *q, uint32_t heads, const uint16_t *ends, uint32_t pages, uint32_t n, float *out)
{
	for (uint32_t p = 0; p < pages; p++, ends += 2 * (size_t)n) {
		uint32_t h = 0;
#ifdef __AVX2__
		for (; n % LANES == 0 && h + 4 <= heads; h += 4) {
			float x = bounds4(q + (size_t)h * n, ends, ends + n, n);
			out[p] = x > out[p] ? x : out[p];
		}
#endif
		for (; h < heads; h++) {
			float x = bound(q + (size_t)h * n, ends, n);
			out[p] = x > out[p] ? x : out[p];
		}
	}
}

static float clamped(float s)
{
	return s > 3e38f ? 3e38f : s < -3e38f ? -3e38f : s;
}

/* Four heads share one conversion of k; each sum has the order of dot_h. */
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

INLINE void scores4(const float *q, const uint16_t *k, uint32_t n, float *dots)
{
	part acc[4][LANES / PART] = {0};
	float lanes[4][LANES];
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		_Pragma("GCC unroll 4") for (int p = 0; p < LANES / PART; p++)
		{
			part x = load_half_part(k + i + p * PART);
			_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
			{
				acc[h][p] += load_part(q + (size_t)h * n + i + p * PART) * x;
			}
		}
	}
	memcpy(lanes, acc, sizeof lanes);
	for (int h = 0; h < 4; h++) {
		vec sum = load(lanes[h]);
		if (i < n)
			sum += load_tail(q + (size_t)h * n + i, n - i, 0) * load_half_tail(k + i, n - i);
		dots[h] = fold(sum);
	}
}
#else
INLINE void scores4(const float *q, const uint16_t *k, uint32_t n, float *dots)
{
	vec a = {0}, b = {0}, c = {0}, d = {0};
	const float *q1 = q + n, *q2 = q1 + n, *q3 = q2 + n;
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		vec x = load_half(k + i);
		a += load(q + i) * x;
		b += load(q1 + i) * x;
		c += load(q2 + i) * x;
		d += load(q3 + i) * x;
	}
	if (i < n) {
		uint32_t m = n - i;
		vec x = load_half_tail(k + i, m);
		a += load_tail(q + i, m, 0) * x;
		b += load_tail(q1 + i, m, 0) * x;
		c += load_tail(q2 + i, m, 0) * x;
		d += load_tail(q3 + i, m, 0) * x;
	}
	dots[0] = fold(a);
	dots[1] = fold(b);
	dots[2] = fold(c);
	dots[3] = fold(d);
}
#endif

static void scores(const float *q, uint32_t heads, const uint16_t *k, uint32_t tokens, uint32_t n, float scale,
		   float *s, size_t s_stride)
{
	for (uint32_t t = 0; t < tokens; t++) {
		const uint16_t *row = k + (size_t)t * n;
		uint32_t h = 0;
		for (; h + 4 <= heads; h += 4) {
			float dots[4];
			scores4(q + (size_t)h * n, row, n, dots);
			for (uint32_t i = 0; i < 4; i++)
				s[(h + i) * s_stride + t] = clamped(scale * dots[i]);
		}
		for (; h < heads; h++)
			s[h * s_stride + t] = clamped(scale * dot_h(q + (size_t)h * n, row, n));
	}
}

static float peak(const float *s, uint32_t n)
{
	float a[LANES], best;
	uint32_t i = LANES;
	vec most = load_tail(s, n < LANES ? n : LANES, s[0]);
	for (; i + LANES <= n; i += LANES)
		most = larger(load(s + i), most);
	memcpy(a, &most, sizeof a);
	best = a[0];
	for (int l = 1; l < LANES; l++)
		best = a[l] > best ? a[l] : best;
	for (; i < n; i++)
		best = s[i] > best ? s[i] : best;
	return best;
}

/* exp for x <= 0, relative error below 2e-7, 0 below -87. x = n·ln2 + r, |r| <= ln2/2; Taylor to degree 7. */
INLINE vec exp_negative(vec x)
{
	ivec keep = x >= -87.0f;
	x = choose(keep, x, (vec){0});
	vec shifted = x * 1.44269504f + 0x1.8p23f;
	vec n = shifted - 0x1.8p23f;
	vec r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
	vec p = r * (1 / 5040.0f) + 1 / 720.0f;
	p = p * r + 1 / 120.0f;
	p = p * r + 1 / 24.0f;
	p = p * r + 1 / 6.0f;
	p = p * r + 0.5f;
	p = p * r + 1.0f;
	p = p * r + 1.0f;
	ivec power = (((ivec)shifted - 0x4b400000) + 127) << 23;
	return (vec)((ivec)(p * (vec)power) & keep);
}

static float exp_sum(const float *s, uint32_t n, float shift)
{
	vec sum = {0};
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		sum += exp_negative(load(s + i) - shift);
	if (i < n)
		sum += exp_negative(load_tail(s + i, n - i, -__builtin_inff()) - shift);
	return fold(sum);
}

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

static void exps(const float *s, uint32_t n, float shift, float scale, float *out)
{
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		store(out + i, exp_negative((load(s + i) - shift) * scale));
	if (i < n)
		store_tail(out + i, exp_negative((load_tail(s + i, n - i, shift) - shift) * scale), n - i);
}

/* FP16 in the order of their values: those below zero have their magnitude turned round; -0 goes before 0. The same
 * again takes it back. */
typedef int16_t hvec __attribute__((vector_size(2 * LANES)));

INLINE hvec ordered(hvec h)
{
	return h ^ ((h >> 15) & 0x7fff);
}

INLINE hvec load_bits(const uint16_t *p, uint32_t n)
{
	hvec v = {0};
	memcpy(&v, p, n * sizeof *p);
	return v;
}

INLINE void store_bits(uint16_t *p, hvec v, uint32_t n)
{
	memcpy(p, &v, n * sizeof *p);
}

INLINE void widen_ends(const uint16_t *row, uint16_t *least, uint16_t *most, uint32_t n)
{
	hvec v = ordered(load_bits(row, n)), low = ordered(load_bits(least, n)), high = ordered(load_bits(most, n));
	hvec under = v < low, over = v > high;
	store_bits(least, ordered((v & under) | (low & ~under)), n);
	store_bits(most, ordered((v & over) | (high & ~over)), n);
}

static void summarise(const uint16_t *row, uint32_t n, uint16_t *least, uint16_t *most, float *sum)
{
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES) {
		widen_ends(row + i, least + i, most + i, LANES);
		store(sum + i, load(sum + i) + load_half(row + i));
	}
	if (i < n) {
		uint32_t m = n - i;
		widen_ends(row + i, least + i, most + i, m);
		store_tail(sum + i, load_tail(sum + i, m, 0) + load_half_tail(row + i, m), m);
	}
}

#ifndef __AVX2__
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

/* Registers of sums that combine and product keep: of each vector two parts, or four where there are 32 registers. */
#ifdef __AVX512F__
#define WIDE 4
#else
#define WIDE 2
#endif

INLINE void fetch_part(const uint16_t *p, size_t ahead, uint32_t at)
{
	if (at % (64 / sizeof *p) == 0)
		__builtin_prefetch((const char *)p + ahead);
}

/* Columns [c, c + WIDE parts) of all rows. */
INLINE void combine_columns(const uint16_t *w, uint32_t rows, uint32_t cols, uint32_t c, const float *const *x,
			    const int n, float *const *out)
{
	size_t ahead = 2 * (size_t)rows * cols;
	part a[LANES_BATCH][WIDE] = {0};
	for (uint32_t r = 0; r < rows; r++) {
		const uint16_t *p = w + (size_t)r * cols + c;
		part v[WIDE];
		_Pragma("GCC unroll 4") for (int j = 0; j < WIDE; j++)
		{
			v[j] = load_half_part(p + j * PART);
			fetch_part(p + j * PART, ahead, (uint32_t)j * PART);
		}
		_Pragma("GCC unroll 4") for (int i = 0; i < n; i++)
		{
			_Pragma("GCC unroll 4") for (int j = 0; j < WIDE; j++) a[i][j] += x[i][r] * v[j];
		}
	}
	_Pragma("GCC unroll 4") for (int i = 0; i < n; i++) memcpy(out[i] + c, a[i], sizeof a[i]);
}

INLINE void combine_all(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, const int n,
			float *const *out)
{
	uint32_t c = 0;
	for (; c + WIDE * PART <= cols; c += WIDE * PART)
		combine_columns(w, rows, cols, c, x, n, out);
	for (; c < cols; c += LANES) {
		uint32_t left = cols - c < LANES ? cols - c : LANES;
		for (int i = 0; i < n; i++) {
			vec sum = {0};
			for (uint32_t r = 0; r < rows; r++)
				sum += x[i][r] * load_half_tail(w + (size_t)r * cols + c, left);
			store_tail(out[i] + c, sum, left);
		}
	}
}

/* Rows [r, r + WIDE / (LANES / PART)): the sums of a row and vector lie in all LANES, as in dot_h. */
#define ROWS_AT_ONCE (WIDE * PART / LANES)

INLINE void product_rows(const uint16_t *w, uint32_t cols, const int rows, size_t ahead, const float *const *x,
			 const int n, uint32_t r, float *const *out)
{
	part a[LANES_BATCH][ROWS_AT_ONCE][LANES / PART] = {0};
	uint32_t c = 0;
	for (; c + LANES <= cols; c += LANES) {
		_Pragma("GCC unroll 4") for (int j = 0; j < rows; j++)
		{
			const uint16_t *p = w + (size_t)(r + (uint32_t)j) * cols + c;
			fetch_part(p, ahead, c);
			_Pragma("GCC unroll 4") for (int k = 0; k < LANES / PART; k++)
			{
				part v = load_half_part(p + k * PART);
				_Pragma("GCC unroll 4") for (int i = 0; i < n; i++)
				{
					a[i][j][k] += load_part(x[i] + c + k * PART) * v;
				}
			}
		}
	}
	for (int i = 0; i < n; i++) {
		for (int j = 0; j < rows; j++) {
			vec sum;
			memcpy(&sum, a[i][j], sizeof sum);
			if (c < cols)
				sum += load_tail(x[i] + c, cols - c, 0) *
				       load_half_tail(w + (size_t)(r + (uint32_t)j) * cols + c, cols - c);
			out[i][r + (uint32_t)j] = fold(sum);
		}
	}
}

INLINE void product_all(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, const int n,
			float *const *out)
{
	size_t ahead = 2 * (size_t)rows * cols;
	uint32_t r = 0;
	for (; r + ROWS_AT_ONCE <= rows; r += ROWS_AT_ONCE)
		product_rows(w, cols, ROWS_AT_ONCE, ahead, x, n, r, out);
	for (; r < rows; r++)
		product_rows(w, cols, 1, ahead, x, n, r, out);
}

#define BY_COUNT(name)                                                                                               \
	static void name(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, uint32_t count,     \
			 float *const *out)                                                                          \
	{                                                                                                            \
		switch (count) {                                                                                     \
		case 1:                                                                                              \
			name##_all(w, rows, cols, x, 1, out);                                                        \
			break;                                                                                       \
		case 2:                                                                                              \
			name##_all(w, rows, cols, x, 2, out);                                                        \
			break;                                                                                       \
		case 3:                                                                                              \
			name##_all(w, rows, cols, x, 3, out);                                                        \
			break;                                                                                       \
		case LANES_BATCH:                                                                                    \
			name##_all(w, rows, cols, x, LANES_BATCH, out);                                              \
		}                                                                                                    \
	}
BY_COUNT(combine)
BY_COUNT(product)

#define NAME_OF(x)  #x
#define ISA_NAME(x) NAME_OF(x)
const struct lanes_kernels LANES_TABLE = {
    ISA_NAME(LANES_ISA), dot, dot_h, bound, bounds, scores, peak, exp_sum, exps, summarise, combine, product};

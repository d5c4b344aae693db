/* Compiled once per ISA: WIDE_TABLE names the table. Register blocks are of a size that leaves none in memory. */
#include <math.h>
#include <string.h>
#include "quant/wide.h"
#ifdef __AVX2__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

/* V lanes; scores of TOKENS × a panel at a time, or of more with AVX-512; weighted sums: 4 rows × COLUMNS registers,
 * or TALL rows × 1. */
#if defined __AVX512F__
#define V       16
#define TOKENS  16
#define COLUMNS 4
#define TALL    16
#elif defined __AVX2__
#define V       8
#define TOKENS  6
#define COLUMNS 2
#define TALL    8
#else
#define V       4
#define TOKENS  2
#define COLUMNS 2
#define TALL    8
#endif
#define PARTS (WIDE_ROWS / V) /* registers of a panel */
#define DEPTH 128             /* channels of the query that stay in the first-level cache while tokens go by */

typedef float vec __attribute__((vector_size(4 * V)));
typedef int32_t ivec __attribute__((vector_size(4 * V)));
typedef uint32_t uvec __attribute__((vector_size(4 * V)));

INLINE vec load(const float *p)
{
	vec v;
	memcpy(&v, p, sizeof v);
	return v;
}

INLINE void store(float *p, vec v)
{
	memcpy(p, &v, sizeof v);
}

#if defined __AVX512F__
INLINE vec all(float x)
{
	return (vec)_mm512_set1_ps(x);
}
INLINE vec fma_(vec a, vec b, vec c)
{
	return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
INLINE vec larger(vec a, vec b)
{
	return (vec)_mm512_max_ps((__m512)a, (__m512)b);
}
/* The smaller; b where a is not a number. */
INLINE vec smaller(vec a, vec b)
{
	return (vec)_mm512_min_ps((__m512)a, (__m512)b);
}
#elif defined __AVX2__
INLINE vec all(float x)
{
	return (vec)_mm256_set1_ps(x);
}
INLINE vec fma_(vec a, vec b, vec c)
{
	return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
INLINE vec larger(vec a, vec b)
{
	return (vec)_mm256_max_ps((__m256)a, (__m256)b);
}
INLINE vec smaller(vec a, vec b)
{
	return (vec)_mm256_min_ps((__m256)a, (__m256)b);
}
#else
INLINE vec all(float x)
{
	return (vec){0} + x;
}
INLINE vec fma_(vec a, vec b, vec c)
{
	return a * b + c;
}
INLINE vec larger(vec a, vec b)
{
	ivec m = a > b;
	return (vec)(((ivec)a & m) | ((ivec)b & ~m));
}
INLINE vec smaller(vec a, vec b)
{
	ivec m = a < b;
	return (vec)(((ivec)a & m) | ((ivec)b & ~m));
}
#endif

INLINE vec choose(ivec mask, vec yes, vec no)
{
	return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

/* exp for x <= 0, relative error below 3e-7, 0 below -87: x = n·ln2 + r, |r| <= ln2/2, Taylor to degree 6. */
INLINE vec exp_negative(vec x)
{
	ivec keep = x >= all(-87.0f);
	x = (vec)((ivec)x & keep);
	vec shifted = fma_(x, all(1.44269504f), all(0x1.8p23f));
	vec n = shifted - all(0x1.8p23f);
	vec r = fma_(n, all(-0x1.62e4p-1f), x);
	r = fma_(n, all(-0x1.7f7d1cp-20f), r);
	vec p = fma_(all(1 / 720.0f), r, all(1 / 120.0f));
	p = fma_(p, r, all(1 / 24.0f));
	p = fma_(p, r, all(1 / 6.0f));
	p = fma_(p, r, all(0.5f));
	p = fma_(p, r, all(1));
	p = fma_(p, r, all(1));
	ivec power = ((ivec)shifted - 0x4b400000 + 127) << 23;
	return (vec)((ivec)(p * (vec)power) & keep);
}

static bool all_finite(const float *x, size_t n, float scale)
{
	ivec bad = {0};
	size_t i = 0;
	for (; i + V <= n; i += V) {
		vec y = load(x + i) * all(scale);
		bad |= (y - y) != all(0);
	}
	int any = 0;
	for (int k = 0; k < V; k++)
		any |= bad[k];
	for (; i < n; i++)
		any |= !isfinite(x[i] * scale);
	return !any;
}

#ifdef __AVX2__
/* Eight channels of eight rows. */
INLINE void pack_square(const float *const *rows, uint32_t d, float scale, float *to)
{
	__m256 a[8], b[8], x = _mm256_set1_ps(scale);
	UNROLL for (int i = 0; i < 8; i++) a[i] = _mm256_mul_ps(_mm256_loadu_ps(rows[i] + d), x);
	UNROLL for (int i = 0; i < 8; i += 2)
	{
		b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
		b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
	}
	UNROLL for (int i = 0; i < 8; i += 4) UNROLL for (int k = 0; k < 2; k++)
	{
		__m256d low = _mm256_castps_pd(b[i + k]), high = _mm256_castps_pd(b[i + k + 2]);
		a[i + 2 * k] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
		a[i + 2 * k + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
	}
	UNROLL for (int i = 0; i < 4; i++)
	{
		_mm256_storeu_ps(to + (size_t)(d + (uint32_t)i) * WIDE_ROWS,
				 _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
		_mm256_storeu_ps(to + (size_t)(d + (uint32_t)i + 4) * WIDE_ROWS,
				 _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
	}
}
#endif

static void pack(const float *const rows[WIDE_ROWS], uint32_t dim, float scale, float *to)
{
	uint32_t d = 0;
#ifdef __AVX2__
	for (; d + 8 <= dim; d += 8) {
		pack_square(rows, d, scale, to);
		pack_square(rows + 8, d, scale, to + 8);
	}
#endif
	for (; d < dim; d++)
		for (uint32_t r = 0; r < WIDE_ROWS; r++)
			to[(size_t)d * WIDE_ROWS + r] = rows[r][d] * scale;
}

/* `tokens` tokens × `panels` panels, channels [from, to). */
INLINE void score_block(const int tokens, const int panels, const float *q, size_t q_step, const float *k,
			size_t k_step, uint32_t from, uint32_t to, float *s, size_t s_step)
{
	vec a[16][WIDE_PANELS * PARTS];
	UNROLL for (int t = 0; t < tokens; t++) UNROLL for (int j = 0; j < panels * PARTS; j++) a[t][j] =
	    from ? load(s + (size_t)(j / PARTS) * s_step + t * WIDE_ROWS + j % PARTS * V) : all(0);
	for (uint32_t d = from; d < to; d++) {
		vec x[WIDE_PANELS * PARTS];
		UNROLL for (int j = 0; j < panels * PARTS; j++) x[j] =
		    load(q + (size_t)(j / PARTS) * q_step + (size_t)d * WIDE_ROWS + j % PARTS * V);
		UNROLL for (int t = 0; t < tokens; t++)
		{
			vec y = all(k[t * k_step + d]);
			UNROLL for (int j = 0; j < panels * PARTS; j++) a[t][j] = fma_(y, x[j], a[t][j]);
		}
	}
	UNROLL for (int t = 0; t < tokens; t++) UNROLL for (int j = 0; j < panels * PARTS; j++)
	    store(s + (size_t)(j / PARTS) * s_step + t * WIDE_ROWS + j % PARTS * V, a[t][j]);
}

/* All tokens, `most` at a time, the rest by fours and one by one. */
INLINE void score_tokens(const int most, const int panels, const float *q, size_t q_step, const float *k,
			 size_t k_step, uint32_t n, uint32_t from, uint32_t to, float *s, size_t s_step)
{
	uint32_t t = 0;
#define BLOCK(tokens)                                                                                                \
	score_block(tokens, panels, q, q_step, k + t * k_step, k_step, from, to, s + t * WIDE_ROWS, s_step)
	for (; t + (uint32_t)most <= n; t += (uint32_t)most)
		BLOCK(most);
	for (; most > 4 && t + 4 <= n; t += 4)
		BLOCK(4);
	for (; t < n; t++)
		BLOCK(1);
#undef BLOCK
}

static void scores(const float *q, size_t q_step, uint32_t panels, const float *k, size_t k_step, uint32_t n,
		   uint32_t dim, float *s, size_t s_step)
{
	for (uint32_t from = 0, to; from < dim; from = to) {
		to = dim - from <= DEPTH + DEPTH / 4 ? dim : from + DEPTH;
#ifdef __AVX512F__
		switch (panels) {
		case 1:
			score_tokens(TOKENS, 1, q, q_step, k, k_step, n, from, to, s, s_step);
			break;
		case 2:
			score_tokens(12, 2, q, q_step, k, k_step, n, from, to, s, s_step);
			break;
		case 3:
			score_tokens(8, 3, q, q_step, k, k_step, n, from, to, s, s_step);
			break;
		default:
			score_tokens(6, 4, q, q_step, k, k_step, n, from, to, s, s_step);
		}
#else
		for (uint32_t p = 0; p < panels; p++)
			score_tokens(TOKENS, 1, q + p * q_step, q_step, k, k_step, n, from, to, s + p * s_step,
				     s_step);
#endif
	}
}

/* Largest scores of the registers [part] of a panel; scores beyond the limits become -inf. */
INLINE vec largest(float *s, uint32_t n, const uint32_t *positions, const uint32_t *limits)
{
	vec most = all(-INFINITY), top = all(3e38f);
	uvec limit;
	if (!limits) {
		for (uint32_t t = 0; t < n; t++) {
			vec x = smaller(load(s + (size_t)t * WIDE_ROWS), top);
			store(s + (size_t)t * WIDE_ROWS, x);
			most = larger(most, x);
		}
		return most;
	}
	memcpy(&limit, limits, sizeof limit);
	for (uint32_t t = 0; t < n; t++) {
		vec x = smaller(load(s + (size_t)t * WIDE_ROWS), top);
		x = choose((ivec)(limit >= positions[t]), x, all(-INFINITY));
		store(s + (size_t)t * WIDE_ROWS, x);
		most = larger(most, x);
	}
	return most;
}

static int weigh(float *s, uint32_t n, const uint32_t *positions, const uint32_t *limits, struct wide_softmax *x)
{
	int changed = 0;
	for (int part = 0; part < PARTS; part++) {
		float *at = s + part * V;
		vec old = load(x->shift + part * V), sum = all(0);
		vec top = larger(largest(at, n, positions, limits ? limits + part * V : NULL), old);
		/* While a row has seen nothing, any finite shift makes weights of 0. */
		vec shift = choose(top > all(-INFINITY), top, all(0));
		vec factor = choose(old > all(-INFINITY), exp_negative(old - shift), all(1));
		store(x->shift + part * V, top);
		store(x->factor + part * V, factor);
		for (uint32_t t = 0; t < n; t++) {
			vec e = exp_negative(load(at + (size_t)t * WIDE_ROWS) - shift);
			store(at + (size_t)t * WIDE_ROWS, e);
			sum += e;
		}
		for (int i = 0; i < V; i++) {
			x->sum[part * V + i] = x->sum[part * V + i] * factor[i] + sum[i];
			changed |= factor[i] != 1;
		}
	}
	return changed;
}

INLINE void sum_block(const int rows, const int columns, const float *w, uint32_t n, const float *v, size_t v_step,
		      float *acc, size_t acc_step)
{
	vec a[TALL][COLUMNS];
	UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < columns; j++) a[r][j] =
	    load(acc + (size_t)r * acc_step + j * V);
	for (uint32_t t = 0; t < n; t++, w += WIDE_ROWS, v += v_step) {
		vec x[COLUMNS];
		UNROLL for (int j = 0; j < columns; j++) x[j] = load(v + j * V);
		UNROLL for (int r = 0; r < rows; r++)
		{
			vec y = all(w[r]);
			UNROLL for (int j = 0; j < columns; j++) a[r][j] = fma_(y, x[j], a[r][j]);
		}
	}
	UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < columns; j++)
	    store(acc + (size_t)r * acc_step + j * V, a[r][j]);
}

static void sums(const float *w, uint32_t n, const float *v, size_t v_step, uint32_t dim, float *acc, size_t acc_step)
{
	uint32_t c = 0;
	for (; c + COLUMNS * V <= dim; c += COLUMNS * V)
		for (int r = 0; r < WIDE_ROWS; r += 4)
			sum_block(4, COLUMNS, w + r, n, v + c, v_step, acc + r * acc_step + c, acc_step);
	for (; c < dim; c += V)
		for (int r = 0; r < WIDE_ROWS; r += TALL)
			sum_block(TALL, 1, w + r, n, v + c, v_step, acc + r * acc_step + c, acc_step);
}

static void add(const float *w, uint32_t n, float *total)
{
	for (int part = 0; part < PARTS; part++) {
		vec sum = all(0);
		for (uint32_t t = 0; t < n; t++)
			sum += load(w + (size_t)t * WIDE_ROWS + part * V);
		store(total + part * V, sum);
	}
}

#if defined __AVX512F__
#define LEAST                                                                                                        \
	{                                                                                                            \
		[TILE_FLOAT] = {24, 20}, [TILE_HALF] = {24, 20}, [IKV_FMT_FP16] = {128, 1}, [IKV_FMT_FP8] = {48, 1}, \
		[IKV_FMT_INT8] = {WIDE_NEVER, 1}, [IKV_FMT_INT4] = {WIDE_NEVER, 1},                                  \
		[IKV_FMT_INT4_RESIDUAL] = {WIDE_NEVER, 1}, [IKV_FMT_BF16] = {24, 1},                                 \
		[IKV_FMT_KIVI8] = {WIDE_NEVER, 1}, [IKV_FMT_KIVI4] = {WIDE_NEVER, 1},                                \
		[IKV_FMT_KIVI2] = {WIDE_NEVER, 1}, [IKV_FMT_SPARSE] = {16, 1},                                       \
	}
#elif defined __AVX2__
#define LEAST                                                                                                        \
	{                                                                                                            \
		[TILE_FLOAT] = {16, 16}, [TILE_HALF] = {16, 16}, [IKV_FMT_FP16] = {64, 1}, [IKV_FMT_FP8] = {64, 1},  \
		[IKV_FMT_INT8] = {32, 1}, [IKV_FMT_INT4] = {32, 1}, [IKV_FMT_INT4_RESIDUAL] = {28, 1},               \
		[IKV_FMT_BF16] = {16, 1}, [IKV_FMT_KIVI8] = {32, 1}, [IKV_FMT_KIVI4] = {32, 1},                      \
		[IKV_FMT_KIVI2] = {32, 1}, [IKV_FMT_SPARSE] = {16, 1},                                               \
	}
#else /* tiles are decoded value by value either way */
#define LEAST                                                                                                        \
	{                                                                                                            \
		[TILE_FLOAT] = {4, 4}, [TILE_HALF] = {4, 4}, [IKV_FMT_FP16] = {2, 1}, [IKV_FMT_FP8] = {2, 1},        \
		[IKV_FMT_INT8] = {2, 1}, [IKV_FMT_INT4] = {2, 1}, [IKV_FMT_INT4_RESIDUAL] = {2, 1},                  \
		[IKV_FMT_BF16] = {4, 1}, [IKV_FMT_KIVI8] = {2, 1}, [IKV_FMT_KIVI4] = {2, 1},                         \
		[IKV_FMT_KIVI2] = {2, 1}, [IKV_FMT_SPARSE] = {2, 1},                                                 \
	}
#endif

#ifndef WIDE_DECODE
#define WIDE_DECODE NULL
#endif
const struct wide_kernels WIDE_TABLE = {LEAST, all_finite, pack, scores, weigh, sums, add, WIDE_DECODE};

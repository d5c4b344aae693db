/* Compiled once per ISA: LANES_TABLE names the table. */
#include "attn/lanes_vec.h"

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
/* Four sums folded as in fold(). */
INLINE __m128 fold4(const lanes16 *sums)
{
	__m128 x[4];
	_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++) x[h] = fold_to4(sums[h]);
	__m128 a = _mm_add_ps(_mm_movelh_ps(x[0], x[1]), _mm_movehl_ps(x[1], x[0]));
	__m128 b = _mm_add_ps(_mm_movelh_ps(x[2], x[3]), _mm_movehl_ps(x[3], x[2]));
	return _mm_add_ps(_mm_shuffle_ps(a, b, 0x88), _mm_shuffle_ps(a, b, 0xdd));
}

#ifdef __AVX512F__
INLINE __mmask16 below_zero(__m512 x)
{
	return _mm512_cmplt_epi32_mask(_mm512_castps_si512(x), _mm512_setzero_si512());
}
#endif

#define BOUNDS_AHEAD 8 /* pages on: what is fetched meanwhile, in the order of its addresses */

/* Four heads over one page share the conversions and what moves sums between lanes; each has the order of
 * bound(). Their largest. */
INLINE float bounds4(const float *q, const uint16_t *ends, uint32_t n)
{
	const uint16_t *least = ends, *most = ends + n, *ahead = ends + 2 * (size_t)n * BOUNDS_AHEAD;
	lanes16 sum[4] = {0};
	for (uint32_t i = 0; i < n; i += LANES) {
		_mm_prefetch((const char *)(ahead + 2 * (size_t)i), _MM_HINT_T0);
#ifdef __AVX512F__
		const __m512 low = (__m512)load_half_part(least + i), high = (__m512)load_half_part(most + i);
		_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
		{
			const __m512 x = (__m512)load_part(q + (size_t)h * n + i);
			sum[h] += x * _mm512_mask_mov_ps(high, below_zero(x), low);
		}
#else
		_Pragma("GCC unroll 2") for (uint32_t k = 0; k < 2; k++)
		{
			const __m256 low = (__m256)load_half_part(least + i + 8 * k);
			const __m256 high = (__m256)load_half_part(most + i + 8 * k);
			_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
			{
				const __m256 x = (__m256)load_part(q + (size_t)h * n + i + 8 * k);
				sum[h].half[k] += x * _mm256_blendv_ps(high, low, x);
			}
		}
#endif
	}
	__m128 x = fold4(sum);
	x = _mm_max_ps(x, _mm_movehl_ps(x, x));
	return _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps(x, x, 1)));
}
#endif

#ifdef __AVX512F__
/* Sums of four heads for each of four rows, folded as in fold(): quarter h, lane r that of head h with row r. */
INLINE __m512 fold16(const __m512 *sum)
{
	__m512 eight[8], four[4], two[2];
	_Pragma("GCC unroll 8") for (int k = 0; k < 8; k++)
	{
		const __m512 a = sum[2 * k], b = sum[2 * k + 1];
		eight[k] = _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee);
	}
	_Pragma("GCC unroll 4") for (int k = 0; k < 4; k++)
	{
		const __m512 a = eight[2 * k], b = eight[2 * k + 1];
		four[k] = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
	}
	_Pragma("GCC unroll 2") for (int k = 0; k < 2; k++)
	{
		const __m512 a = four[2 * k], b = four[2 * k + 1];
		two[k] = _mm512_shuffle_ps(a, b, 0x44) + _mm512_shuffle_ps(a, b, 0xee);
	}
	return _mm512_shuffle_ps(two[0], two[1], 0x88) + _mm512_shuffle_ps(two[0], two[1], 0xdd);
}

/* The largest of four quarters. */
INLINE __m128 peak4(__m512 v)
{
	const __m256 x =
	    _mm256_max_ps(_mm512_castps512_ps256(v), _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
	return _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

/* The largest of out[p] and the bounds of four heads, for four pages: they share the queries and their signs. */
INLINE void bounds16(const float *q, const uint16_t *ends, uint32_t n, float *out)
{
	const uint16_t *ahead = ends + 2 * (size_t)n * BOUNDS_AHEAD;
	__m512 sum[16], x[4];
	__mmask16 below[4];
	_Pragma("GCC unroll 16") for (int k = 0; k < 16; k++) sum[k] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < n; i += LANES) {
		_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
		{
			x[h] = (__m512)load_part(q + (size_t)h * n + i);
			below[h] = below_zero(x[h]);
		}
		_Pragma("GCC unroll 4") for (int p = 0; p < 4; p++)
		{
			const uint16_t *least = ends + 2 * (size_t)n * (uint32_t)p + i;
			const __m512 low = (__m512)load_half_part(least), high = (__m512)load_half_part(least + n);
			_mm_prefetch((const char *)(ahead + 8 * (size_t)i + 32 * p), _MM_HINT_T0);
			_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
				sum[4 * p + h] += x[h] * _mm512_mask_mov_ps(high, below[h], low);
		}
	}
	_mm_storeu_ps(out, _mm_max_ps(peak4(fold16(sum)), _mm_loadu_ps(out)));
}
#endif

static void bounds(const float *q, uint32_t heads, const uint16_t *ends, uint32_t pages, uint32_t n, float *out)
{
	uint32_t h = 0;
#ifdef __AVX2__
	for (; n % LANES == 0 && h + 4 <= heads; h += 4) {
		const float *four = q + (size_t)h * n;
		uint32_t p = 0;
#ifdef __AVX512F__
		for (; p + 4 <= pages; p += 4)
			bounds16(four, ends + 2 * (size_t)n * p, n, out + p);
#endif
		for (; p < pages; p++) {
			float x = bounds4(four, ends + 2 * (size_t)n * p, n);
			out[p] = x > out[p] ? x : out[p];
		}
	}
#endif
	for (; h < heads; h++) {
		for (uint32_t p = 0; p < pages; p++) {
			float x = bound(q + (size_t)h * n, ends + 2 * (size_t)n * p, n);
			out[p] = x > out[p] ? x : out[p];
		}
	}
}

static float clamped(float s)
{
	return s > 3e38f ? 3e38f : s < -3e38f ? -3e38f : s;
}

/* Four heads share the conversions of k; each sum has the order of dot_h. */
#ifdef __AVX2__
/* Four heads with a row; the row at `next` is fetched. */
INLINE __m128 scores4(const float *q, const uint16_t *k, const uint16_t *next, uint32_t n)
{
	lanes16 sum[4] = {0};
	for (uint32_t i = 0; i < n; i += LANES) {
		_mm_prefetch((const char *)(next + i), _MM_HINT_T0);
#ifdef __AVX512F__
		const __m512 x = load_half_part(k + i);
		_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++) sum[h] += load_part(q + (size_t)h * n + i) * x;
#else
		_Pragma("GCC unroll 2") for (int p = 0; p < 2; p++)
		{
			const part x = load_half_part(k + i + p * PART);
			_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++)
			{
				sum[h].half[p] += load_part(q + (size_t)h * n + i + p * PART) * x;
			}
		}
#endif
	}
	return fold4(sum);
}
#endif

#ifdef __AVX512F__
/* Four heads with four rows; as many at `next` are fetched, in the order of their addresses. */
INLINE void scores16(const float *q, const uint16_t *k, const uint16_t *next, uint32_t n, float scale, float *s,
		     size_t s_stride)
{
	__m512 sum[16], x[4];
	_Pragma("GCC unroll 16") for (int i = 0; i < 16; i++) sum[i] = _mm512_setzero_ps();
	for (uint32_t i = 0; i < n; i += LANES) {
		_mm_prefetch((const char *)(next + 4 * (size_t)i), _MM_HINT_T0);
		_mm_prefetch((const char *)(next + 4 * (size_t)i + 32), _MM_HINT_T0);
		_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++) x[h] = (__m512)load_part(q + (size_t)h * n + i);
		_Pragma("GCC unroll 4") for (int r = 0; r < 4; r++)
		{
			const __m512 y = (__m512)load_half_part(k + (size_t)r * n + i);
			_Pragma("GCC unroll 4") for (int h = 0; h < 4; h++) sum[4 * r + h] += x[h] * y;
		}
	}
	const __m512 most = _mm512_set1_ps(3e38f), all = _mm512_set1_ps(scale) * fold16(sum);
	const __m512 held = _mm512_max_ps(-most, _mm512_min_ps(most, all)); /* of NaN, NaN */
	_mm_storeu_ps(s, _mm512_castps512_ps128(held));
	_mm_storeu_ps(s + s_stride, _mm512_extractf32x4_ps(held, 1));
	_mm_storeu_ps(s + 2 * s_stride, _mm512_extractf32x4_ps(held, 2));
	_mm_storeu_ps(s + 3 * s_stride, _mm512_extractf32x4_ps(held, 3));
}
#endif

static void scores(const float *q, uint32_t heads, const uint16_t *k, const uint16_t *next, uint32_t tokens,
		   uint32_t n, float scale, float *s, size_t s_stride)
{
	uint32_t h = 0;
	(void)next;
#ifdef __AVX2__
	for (; n % LANES == 0 && h + 4 <= heads; h += 4) {
		const float *four = q + (size_t)h * n;
		uint32_t t = 0;
#ifdef __AVX512F__
		for (; t + 4 <= tokens; t += 4)
			scores16(four, k + (size_t)t * n, next + (size_t)t * n, n, scale, s + h * s_stride + t, s_stride);
#endif
		for (; t < tokens; t++) {
			float dots[4];
			_mm_storeu_ps(dots, scores4(four, k + (size_t)t * n, next + (size_t)t * n, n));
			for (uint32_t i = 0; i < 4; i++)
				s[(h + i) * s_stride + t] = clamped(scale * dots[i]);
		}
	}
#endif
	for (; h < heads; h++)
		for (uint32_t t = 0; t < tokens; t++)
			s[h * s_stride + t] = clamped(scale * dot_h(q + (size_t)h * n, k + (size_t)t * n, n));
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

static void exps(const float *s, uint32_t n, float shift, float scale, float *out)
{
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		store(out + i, exp_negative((load(s + i) - shift) * scale));
	if (i < n)
		store_tail(out + i, exp_negative((load_tail(s + i, n - i, shift) - shift) * scale), n - i);
}

/* log of normal x > 0, absolute error below 1e-7 (1 + |log x|): x = 2^n·m, m in [1/sqrt 2, sqrt 2), and
 * log m = 2 atanh(t), t = (m - 1) / (m + 1), |t| < 0.172, by its series. */
INLINE vec log_positive(vec x)
{
	const ivec shifted = (ivec)x - 0x3f3504f3; /* 1/sqrt 2 */
	const ivec n = shifted >> 23;
	const vec m = (vec)((ivec)x - (n << 23));
	const vec t = (m - 1.0f) / (m + 1.0f), square = t * t;
	vec series = square * (2 / 9.0f) + 2 / 7.0f;
	series = series * square + 2 / 5.0f;
	series = series * square + 2 / 3.0f;
	series = series * square + 2.0f;
	return __builtin_convertvector(n, vec) * 0.693147182f + series * t;
}

INLINE vec divergence_terms(vec x, vec y)
{
	const ivec some = x >= 1e-30f; /* what is less adds less than 1e-28 */
	y = larger(y, (vec){0} + 1e-30f);
	x = choose(some, x, y);
	return choose(some, x * log_positive(x / y), (vec){0});
}

static float divergence(const float *p, const float *d, uint32_t n)
{
	vec sum = {0};
	uint32_t i = 0;
	for (; i + LANES <= n; i += LANES)
		sum += divergence_terms(load(p + i), load(d + i));
	if (i < n)
		sum += divergence_terms(load_tail(p + i, n - i, 0), load_tail(d + i, n - i, 1));
	return fold(sum);
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

#define TEXT_OF(x)  #x
#define ISA_TEXT(x) TEXT_OF(x)
const struct lanes_kernels LANES_TABLE = {ISA_TEXT(LANES_ISA),
					  dot,
					  dot_h,
					  bound,
					  bounds,
					  scores,
					  peak,
					  exp_sum,
					  exps,
					  divergence,
					  summarise,
					  LANES_NAME(combine),
					  LANES_NAME(product)};

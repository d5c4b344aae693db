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

#define BOUNDS_AHEAD 8 /* rows, two of a page: what is fetched meanwhile */

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

/* Four heads share the conversions of k; each sum has the order of dot_h. */
#ifdef __AVX2__
/* Four heads with a row; the row at `next` is fetched. Rows one by one: four that share the loads of q take 15 % longer
 * where the rows come from memory. */
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

static void scores(const float *q, uint32_t heads, const uint16_t *k, const uint16_t *next, uint32_t tokens,
		   uint32_t n, float scale, float *s, size_t s_stride)
{
	for (uint32_t t = 0; t < tokens; t++, k += n, next += n) {
		uint32_t h = 0;
#ifdef __AVX2__
		for (; n % LANES == 0 && h + 4 <= heads; h += 4) {
			float dots[4];
			_mm_storeu_ps(dots, scores4(q + (size_t)h * n, k, next, n));
			for (uint32_t i = 0; i < 4; i++)
				s[(h + i) * s_stride + t] = clamped(scale * dots[i]);
		}
#endif
		for (; h < heads; h++)
			s[h * s_stride + t] = clamped(scale * dot_h(q + (size_t)h * n, k, n));
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

static float divergence(const float *p, const float *d, uint32_t n)
{
	vec sum = {0};
	for (uint32_t i = 0; i < n; i += LANES) {
		const uint32_t left = n - i < LANES ? n - i : LANES;
		vec x = load_tail(p + i, left, 0), y = larger(load_tail(d + i, left, 1), (vec){0} + 1e-30f);
		const ivec some = x >= 1e-30f; /* what is less adds less than 1e-28 */
		x = choose(some, x, y);
		sum += choose(some, x * log_positive(x / y), (vec){0});
	}
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

/* Micro-kernels for AVX2, FMA and F16C.
 *
 * Scores: a tile of 2 tokens × 4 heads keeps its sums in registers, so a row is converted once for four heads and
 * a query load serves two tokens. Weighted sums: 16 channels × 4 heads in registers over the block's tokens.
 * Formats differ only in load8; scales of one token and head multiply sums and weights instead of values. The last
 * used % 32 channels go through the plain decoder. */
#include <immintrin.h>
#include "quant/micro.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

struct source {
	const uint8_t *codes, *remainders; /* of row t0 */
	size_t row_bytes;
	const float *params; /* FP8, INT8: scale [n]; INT4: {scale, zero} [n][groups] */
	size_t groups;
};

INLINE bool token_scaled(enum ikv_format f)
{
	return f == IKV_FMT_FP8 || f == IKV_FMT_INT8;
}

/* n consecutive FP16 numbers to floats. */
INLINE void widen(const uint8_t *halves, size_t n, float *out)
{
	size_t i = 0;
	for (; i + 8 <= n; i += 8)
		_mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(halves + 2 * i))));
	for (; i < n; i++) {
		uint16_t h;
		memcpy(&h, halves + 2 * i, sizeof h);
		out[i] = _cvtsh_ss(h);
	}
}

INLINE struct source source_of(enum ikv_format f, const struct codec_rows *r, uint32_t t0, uint32_t n, float *scratch)
{
	struct source s = {.params = scratch, .groups = codec_groups(r->dim)};
	if (f == IKV_FMT_FP16) {
		s.row_bytes = 2 * (size_t)r->dim;
		s.codes = r->data + t0 * s.row_bytes;
	} else if (token_scaled(f)) {
		s.row_bytes = r->dim;
		s.codes = codec_codes(r) + t0 * s.row_bytes;
		widen(r->data + 2 * (size_t)t0, n, scratch);
		for (uint32_t i = 0; f == IKV_FMT_FP8 && i < n; i++)
			scratch[i] *= 256; /* the codes are read as FP16 numbers 2^-8 their value */
	} else {
		s.row_bytes = codec_pair_bytes(r->dim);
		s.codes = codec_pairs(r) + t0 * s.row_bytes;
		s.remainders = codec_remainders(r) + t0 * s.row_bytes;
		widen(r->data + 4 * t0 * s.groups, 2 * n * s.groups, scratch);
		/* Both codes make one, 15·code + code2, of step scale/15, from zero - 7.5 · scale/15. */
		for (size_t i = 0; f == IKV_FMT_INT4_RESIDUAL && i < n * s.groups; i++) {
			scratch[2 * i + 1] -= 0.5f * scratch[2 * i];
			scratch[2 * i] *= 1 / 15.0f;
		}
	}
	return s;
}

INLINE __m256 nibbles(const uint8_t *bytes, bool high)
{
	__m256i d = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes));
	return _mm256_cvtepi32_ps(high ? _mm256_srli_epi32(d, 4) : _mm256_and_si256(d, _mm256_set1_epi32(15)));
}

/* 15·code + code2 of eight channels. */
INLINE __m256 joined(const uint8_t *bytes, const uint8_t *remainders, bool high)
{
	__m128i x =
	    _mm_unpacklo_epi8(_mm_loadl_epi64((const __m128i *)bytes), _mm_loadl_epi64((const __m128i *)remainders));
	x = _mm_and_si128(high ? _mm_srli_epi16(x, 4) : x, _mm_set1_epi8(15));
	x = _mm_maddubs_epi16(x, _mm_set1_epi16(0x010f));
	return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(x));
}

/* Channels [c + 8u, c + 8u + 8) of row i; c is a multiple of 32, u < 4. */
INLINE __m256 load8(enum ikv_format f, const struct source *s, size_t i, size_t c, unsigned u)
{
	const uint8_t *row = s->codes + i * s->row_bytes;
	if (f == IKV_FMT_FP16)
		return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(row + 2 * (c + 8 * u))));
	if (f == IKV_FMT_INT8)
		return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(row + c + 8 * u))));
	if (f == IKV_FMT_FP8) { /* sign to bit 15, exponent and mantissa to bits 13..7, the copy of the sign away */
		__m128i x = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(row + c + 8 * u)));
		x = _mm_and_si128(_mm_slli_epi16(x, 7), _mm_set1_epi16((short)0xbfff));
		return _mm256_cvtph_ps(x);
	}
	size_t at = c / 2 + 8 * (u & 1);
	const float *param = s->params + 2 * (i * s->groups + c / CODEC_GROUP);
	__m256 scale = _mm256_broadcast_ss(param), zero = _mm256_broadcast_ss(param + 1);
	__m256 x = f == IKV_FMT_INT4 ? nibbles(row + at, u >= 2)
				     : joined(row + at, s->remainders + i * s->row_bytes + at, u >= 2);
	return _mm256_fmadd_ps(x, scale, zero);
}

/* Sums of four registers. */
INLINE __m128 fold4(__m256 a, __m256 b, __m256 c, __m256 d)
{
	__m256 x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
	return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

INLINE void qk_tile(enum ikv_format f, const struct source *src, size_t i, int tokens, int heads, size_t channels,
		    const float *q, size_t q_stride, float *s)
{
	__m256 acc[2][4];
	for (int t = 0; t < 2; t++)
		for (int h = 0; h < 4; h++)
			acc[t][h] = _mm256_setzero_ps();
	for (size_t c = 0; c < channels; c += 32) {
		UNROLL for (unsigned u = 0; u < 4; u++)
		{
			__m256 k[2];
			UNROLL for (int t = 0; t < tokens; t++) k[t] = load8(f, src, i + (size_t)t, c, u);
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 x = _mm256_loadu_ps(q + (size_t)h * q_stride + c + 8 * u);
				UNROLL for (int t = 0; t < tokens; t++) acc[t][h] =
				    _mm256_fmadd_ps(x, k[t], acc[t][h]);
			}
		}
	}
	UNROLL for (int t = 0; t < tokens; t++)
	{
		float sums[4];
		__m128 x = fold4(acc[t][0], acc[t][1], acc[t][2], acc[t][3]);
		if (token_scaled(f))
			x = _mm_mul_ps(x, _mm_set1_ps(src->params[i + (size_t)t]));
		_mm_storeu_ps(sums, x);
		UNROLL for (int h = 0; h < heads; h++) s[h * MICRO_BLOCK + t] = sums[h];
	}
}

/* Meanwhile fetch rows that the weighted sum will want: its column-wise walk is hard on hardware prefetchers. */
INLINE void qk_heads(enum ikv_format f, const struct source *src, uint32_t n, int heads, size_t channels,
		     const float *q, size_t q_stride, float *s, const uint8_t *ahead, size_t ahead_bytes)
{
	uint32_t i = 0;
	for (; i + 2 <= n; i += 2) {
		for (size_t at = i * ahead_bytes; at < (i + 2) * ahead_bytes; at += 64)
			_mm_prefetch((const char *)ahead + at, _MM_HINT_T0);
		qk_tile(f, src, i, 2, heads, channels, q, q_stride, s + i);
	}
	if (i < n)
		qk_tile(f, src, i, 1, heads, channels, q, q_stride, s + i);
}

static void qk_tail(enum ikv_format f, const struct codec_rows *r, uint32_t t0, uint32_t n, uint32_t c,
		    const float *q, size_t q_stride, uint32_t heads, float *s)
{
	float row[MICRO_PAD] = {0};
	for (uint32_t i = 0; i < n; i++) {
		codec_read(f, r, t0 + i, c, r->used - c, row);
		for (uint32_t h = 0; h < heads; h++) {
			const float *x = q + h * q_stride + c;
			__m256 a = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_loadu_ps(row));
			for (int u = 8; u < MICRO_PAD; u += 8)
				a = _mm256_fmadd_ps(_mm256_loadu_ps(x + u), _mm256_loadu_ps(row + u), a);
			s[h * MICRO_BLOCK + i] += _mm_cvtss_f32(fold4(a, a, a, a));
		}
	}
}

INLINE void qk(enum ikv_format f, const struct codec_rows *r, uint32_t t0, uint32_t n, const float *q,
	       size_t q_stride, uint32_t heads, float *s, float *scratch)
{
	struct source src = source_of(f, r, t0, n, scratch);
	const uint8_t *ahead = r->ahead ? r->ahead + t0 * src.row_bytes : NULL;
	size_t ahead_bytes = ahead ? src.row_bytes : 0;
	uint32_t channels = r->used & ~31u, h = 0;
	for (; h + 4 <= heads; h += 4) {
		qk_heads(f, &src, n, 4, channels, q + h * q_stride, q_stride, s + h * MICRO_BLOCK, ahead,
			 h ? 0 : ahead_bytes);
	}
	if (heads - h >= 2) {
		qk_heads(f, &src, n, 2, channels, q + h * q_stride, q_stride, s + h * MICRO_BLOCK, ahead,
			 h ? 0 : ahead_bytes);
		h += 2;
	}
	if (h < heads)
		qk_heads(f, &src, n, 1, channels, q + h * q_stride, q_stride, s + h * MICRO_BLOCK, ahead,
			 h ? 0 : ahead_bytes);
	if (channels < r->used)
		qk_tail(f, r, t0, n, channels, q, q_stride, heads, s);
}

INLINE void pv_tile(enum ikv_format f, const struct source *src, uint32_t n, int heads, size_t c, unsigned u,
		    const float *w, float *acc, size_t acc_stride)
{
	__m256 sum[4][2];
	float *to = acc + c + 8 * u;
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) sum[h][j] =
	    _mm256_loadu_ps(to + (size_t)h * acc_stride + 8 * j);
	for (uint32_t i = 0; i < n; i++) {
		__m256 v0 = load8(f, src, i, c, u), v1 = load8(f, src, i, c, u + 1);
		UNROLL for (int h = 0; h < heads; h++)
		{
			__m256 x = _mm256_broadcast_ss(w + h * MICRO_BLOCK + i);
			sum[h][0] = _mm256_fmadd_ps(x, v0, sum[h][0]);
			sum[h][1] = _mm256_fmadd_ps(x, v1, sum[h][1]);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(to + (size_t)h * acc_stride + 8 * j, sum[h][j]);
}

INLINE void pv_heads(enum ikv_format f, const struct source *src, uint32_t n, int heads, size_t channels,
		     const float *w, float *acc, size_t acc_stride)
{
	for (size_t c = 0; c < channels; c += 32) {
		pv_tile(f, src, n, heads, c, 0, w, acc, acc_stride);
		pv_tile(f, src, n, heads, c, 2, w, acc, acc_stride);
	}
}

static void pv_tail(enum ikv_format f, const struct codec_rows *r, uint32_t t0, uint32_t n, uint32_t c,
		    const float *w, uint32_t heads, float *acc, size_t acc_stride)
{
	float row[MICRO_PAD] = {0};
	for (uint32_t i = 0; i < n; i++) {
		codec_read(f, r, t0 + i, c, r->used - c, row);
		for (uint32_t h = 0; h < heads; h++) {
			float *to = acc + h * acc_stride + c;
			__m256 x = _mm256_broadcast_ss(w + h * MICRO_BLOCK + i);
			for (int u = 0; u < MICRO_PAD; u += 8)
				_mm256_storeu_ps(
				    to + u, _mm256_fmadd_ps(x, _mm256_loadu_ps(row + u), _mm256_loadu_ps(to + u)));
		}
	}
}

INLINE void pv(enum ikv_format f, const struct codec_rows *r, uint32_t t0, uint32_t n, const float *w, uint32_t heads,
	       float *acc, size_t acc_stride, float *scratch)
{
	struct source src = source_of(f, r, t0, n, scratch);
	uint32_t channels = r->used & ~31u, h = 0;
	if (channels < r->used)
		pv_tail(f, r, t0, n, channels, w, heads, acc, acc_stride);
	if (token_scaled(f)) {
		float *scaled = scratch + MICRO_BLOCK;
		for (uint32_t k = 0; k < heads; k++)
			for (uint32_t i = 0; i < n; i++)
				scaled[k * MICRO_BLOCK + i] = w[k * MICRO_BLOCK + i] * src.params[i];
		w = scaled;
	}
	for (; h + 4 <= heads; h += 4)
		pv_heads(f, &src, n, 4, channels, w + h * MICRO_BLOCK, acc + h * acc_stride, acc_stride);
	if (heads - h >= 2) {
		pv_heads(f, &src, n, 2, channels, w + h * MICRO_BLOCK, acc + h * acc_stride, acc_stride);
		h += 2;
	}
	if (h < heads)
		pv_heads(f, &src, n, 1, channels, w + h * MICRO_BLOCK, acc + h * acc_stride, acc_stride);
}

#define KERNELS(name, format)                                                                                        \
	static void qk_##name(const struct codec_rows *r, uint32_t t0, uint32_t n, const float *q, size_t q_stride,  \
			      uint32_t heads, float *s, float *scratch)                                              \
	{                                                                                                            \
		qk(format, r, t0, n, q, q_stride, heads, s, scratch);                                                \
	}                                                                                                            \
	static void pv_##name(const struct codec_rows *r, uint32_t t0, uint32_t n, const float *w, uint32_t heads,   \
			      float *acc, size_t acc_stride, float *scratch)                                         \
	{                                                                                                            \
		pv(format, r, t0, n, w, heads, acc, acc_stride, scratch);                                            \
	}
KERNELS(fp16, IKV_FMT_FP16)
KERNELS(fp8, IKV_FMT_FP8)
KERNELS(int8, IKV_FMT_INT8)
KERNELS(int4, IKV_FMT_INT4)
KERNELS(int4r, IKV_FMT_INT4_RESIDUAL)

/* exp for x <= 0, relative error below 2e-7, 0 below -87: x = n·ln2 + r, Taylor to degree 7. */
INLINE __m256 exp_negative(__m256 x)
{
	__m256 keep = _mm256_cmp_ps(x, _mm256_set1_ps(-87.0f), _CMP_GE_OQ);
	x = _mm256_and_ps(x, keep);
	__m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
				   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1f), x);
	r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20f), r);
	static const float terms[] = {1 / 720.0f, 1 / 120.0f, 1 / 24.0f, 1 / 6.0f, 0.5f, 1, 1};
	__m256 p = _mm256_set1_ps(1 / 5040.0f);
	UNROLL for (int i = 0; i < 7; i++) p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(terms[i]));
	__m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
	return _mm256_and_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(power)), keep);
}

static float peak(float *s, uint32_t n)
{
	float a[8], best = -__builtin_inff();
	uint32_t i = 0;
	__m256 most = _mm256_set1_ps(best), top = _mm256_set1_ps(3e38f);
	for (; i + 8 <= n; i += 8) {
		__m256 x = _mm256_min_ps(_mm256_loadu_ps(s + i), top); /* the second operand if the first is NaN */
		_mm256_storeu_ps(s + i, x);
		most = _mm256_max_ps(most, x);
	}
	_mm256_storeu_ps(a, most);
	for (int l = 0; l < 8; l++)
		best = a[l] > best ? a[l] : best;
	for (; i < n; i++) {
		s[i] = s[i] < 3e38f ? s[i] : 3e38f;
		best = s[i] > best ? s[i] : best;
	}
	return best;
}

static float exp_sum(float *s, uint32_t n, float shift)
{
	static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
	__m256 sum = _mm256_setzero_ps(), m = _mm256_set1_ps(shift);
	uint32_t i = 0;
	for (; i + 8 <= n; i += 8) {
		__m256 e = exp_negative(_mm256_sub_ps(_mm256_loadu_ps(s + i), m));
		_mm256_storeu_ps(s + i, e);
		sum = _mm256_add_ps(sum, e);
	}
	if (i < n) {
		__m256i mask = _mm256_loadu_si256((const __m256i *)(ones + 8 - (n - i)));
		__m256 e = exp_negative(_mm256_sub_ps(_mm256_maskload_ps(s + i, mask), m));
		e = _mm256_and_ps(e, _mm256_castsi256_ps(mask));
		_mm256_maskstore_ps(s + i, mask, e);
		sum = _mm256_add_ps(sum, e);
	}
	return _mm_cvtss_f32(fold4(sum, sum, sum, sum));
}

const struct micro_kernels micro_avx2 = {
    .isa = "avx2",
    .format =
	{
	    [IKV_FMT_FP16] = {qk_fp16, pv_fp16},
	    [IKV_FMT_FP8] = {qk_fp8, pv_fp8},
	    [IKV_FMT_INT8] = {qk_int8, pv_int8},
	    [IKV_FMT_INT4] = {qk_int4, pv_int4},
	    [IKV_FMT_INT4_RESIDUAL] = {qk_int4r, pv_int4r},
	},
    .peak = peak,
    .exp_sum = exp_sum,
};

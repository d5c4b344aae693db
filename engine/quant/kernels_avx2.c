/* Micro-kernels for AVX2, FMA and F16C: codes of INT8, INT4 and INT4_RESIDUAL as floats, for blocks in which a token
 * stands out; the choice between these and the products of integers (quant/kernels_avx2_words.h); the softmax and the
 * table.
 *
 * 16 tokens (scores) or 16 channels (weighted sums) lie across two registers; a dword of codes is taken apart by
 * shifts, and scales of a token, or of a token's group, multiply sums and weights instead of values. */
#include "quant/kernels_avx2.h"
#include "quant/wide.h"

enum kind { BYTES, PAIRS, JOINED }; /* INT8, INT4, INT4_RESIDUAL */

/* Byte b of eight dwords as numbers. */
INLINE __m256 byte_value(__m256i x, const int b)
{
	return _mm256_cvtepi32_ps(_mm256_srai_epi32(b < 3 ? _mm256_slli_epi32(x, 24 - 8 * b) : x, 24));
}

/* A pair's number from byte b of x, or of what join() gives. */
INLINE __m256 pair_value(const enum kind kind, __m256i x, const int half, const int b)
{
	return kind == JOINED ? field(x, 8 * b, 8) : field(x, 8 * b + 4 * half, 4);
}

/* Scores of one tile of INT8. */
INLINE void qk_bytes(const struct tile_shape *shape, const struct tile *t, const float *q, size_t q_stride,
		     const int heads, float *s)
{
	const __m256i flip = _mm256_set1_epi8((char)0x80);
	__m256 sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_ps();
	for (uint32_t c = 0; c < shape->d_qk; c += 4) {
		const uint8_t *p = t->k + c * TILE_TOKENS;
		__m256i x[2] = {_mm256_xor_si256(load(p), flip), _mm256_xor_si256(load(p + 32), flip)};
		fetch(p, t->ahead);
		UNROLL for (int b = 0; b < 4; b++)
		{
			__m256 k[2] = {byte_value(x[0], b), byte_value(x[1], b)};
			add_channel(k, q + c + b, q_stride, heads, sums);
		}
	}
	fetch(t->k + shape->k_params_at, t->ahead); /* V's lie beside them */
	UNROLL for (int j = 0; j < 2; j++)
	{
		__m256 scale = halves8(t->k + shape->k_params_at + 16 * j);
		UNROLL for (int h = 0; h < heads; h++)
		    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, _mm256_mul_ps(sums[h][j], scale));
	}
}

/* Scores of one tile of INT4 or INT4_RESIDUAL: sums within each group, then its scales and zeros. */
INLINE void qk_pairs(const enum kind kind, const struct tile_shape *shape, const struct tile *t,
		     const struct micro_query *all, uint32_t first, const int heads, float *s)
{
	const float *q = all->f + first * all->stride;
	const uint8_t *p = t->k;
	__m256 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) total[h][0] = total[h][1] = _mm256_setzero_ps();
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++, q += 16, p += kind == JOINED ? 256 : 0) {
		__m256 sums[4][2];
		UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_ps();
		for (uint32_t j = 0; j < 4; j++, p += 64, q += 4) {
			__m256i x[2] = {load(p), load(p + 32)}, r[2] = {x[0], x[1]};
			fetch(p, t->ahead);
			if (kind == JOINED) {
				r[0] = load(p + 256);
				r[1] = load(p + 256 + 32);
				fetch(p + 256, t->ahead);
			}
			UNROLL for (int half = 0; half < 2; half++)
			{
				__m256i y[2] = {x[0], x[1]};
				if (kind == JOINED) {
					y[0] = join(x[0], r[0], half);
					y[1] = join(x[1], r[1], half);
				}
				UNROLL for (int b = 0; b < 4; b++)
				{
					__m256 k[2] = {pair_value(kind, y[0], half, b),
						       pair_value(kind, y[1], half, b)};
					add_channel(k, q + 16 * half + b, all->stride, heads, sums);
				}
			}
		}
		fetch(t->k + shape->k_params_at + 64 * g, t->ahead);
		UNROLL for (int j = 0; j < 2; j++)
		{
			const uint8_t *param = t->k + shape->k_params_at + 64 * g + 16 * j;
			__m256 scale = halves8(param), zero = halves8(param + 32);
			if (kind == JOINED) {
				zero = _mm256_fnmadd_ps(scale, _mm256_set1_ps(0.5f), zero);
				scale = _mm256_mul_ps(scale, _mm256_set1_ps(1 / 15.0f));
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				const float *sum =
				    &avx2_forms_of(all->forms + (first + (uint32_t)h) * all->forms_stride, shape->d_qk)
					 .groups[g]
					 .sum;
				total[h][j] = _mm256_fmadd_ps(sums[h][j], scale, total[h][j]);
				total[h][j] = _mm256_fmadd_ps(_mm256_broadcast_ss(sum), zero, total[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, total[h][j]);
}

/* Weights times scales [groups][heads][MICRO_BLOCK], and weighted sums of the zeros [groups][heads]. */
INLINE void weigh(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		  const float *w, uint32_t heads, float *scaled, float *zeros)
{
	uint32_t groups = kind == JOINED ? codec_groups(shape->d_v) : 1;
	for (uint32_t k = 0; k < groups * heads; k++) {
		uint32_t g = k / heads, h = k % heads;
		__m256 sum = _mm256_setzero_ps();
		for (uint32_t i = 0; i < 2 * count; i++) {
			const uint8_t *param = tiles[i / 2].k + shape->v_params_at + 64 * g + 16 * (i % 2);
			__m256 x = _mm256_loadu_ps(w + h * MICRO_BLOCK + 8 * i), scale = halves8(param);
			if (kind == JOINED && h == 0)
				fetch(param, tiles[i / 2].ahead);
			if (kind == JOINED) {
				__m256 zero = _mm256_fnmadd_ps(scale, _mm256_set1_ps(0.5f), halves8(param + 32));
				scale = _mm256_mul_ps(scale, _mm256_set1_ps(1 / 15.0f));
				sum = _mm256_fmadd_ps(x, zero, sum);
			}
			_mm256_storeu_ps(scaled + k * MICRO_BLOCK + 8 * i, _mm256_mul_ps(x, scale));
		}
		zeros[k] = _mm_cvtss_f32(fold4(sum, sum, sum, sum));
	}
}

/* Two times eight channels: [c, c + 16) of bytes, or [c, c + 8) and [c + 16, c + 24) of a group of INT4_RESIDUAL. */
INLINE void pv_columns(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const float *w, const float *zeros, const int heads, float *acc, size_t acc_stride)
{
	const bool joined = kind == JOINED;
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v), at = 4 * (size_t)c;
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) a[h][j] = _mm256_add_ps(
	    _mm256_loadu_ps(acc + (size_t)h * acc_stride + c + (joined ? 16 : 8) * j), _mm256_set1_ps(zeros[h]));
	for (uint32_t i = 0; i < 4 * count; i++) { /* quads of tokens */
		const uint8_t *p = tiles[i / 4].v + i % 4 * quad_bytes + at;
		__m256i x = load(p), y = load(p + (joined ? 64 : 32));
		if (at % 64 == 0) {
			fetch(p, tiles[i / 4].ahead);
			if (joined)
				fetch(p + 64, tiles[i / 4].ahead);
		}
		__m256i low = joined ? join(x, y, 0) : x, high = joined ? join(x, y, 1) : y;
		UNROLL for (int b = 0; b < 4; b++)
		{
			__m256 v[2] = {joined ? field(low, 8 * b, 8) : byte_value(low, b),
				       joined ? field(high, 8 * b, 8) : byte_value(high, b)};
			add_channel(v, w + 4 * i + b, MICRO_BLOCK, heads, a);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + (joined ? 16 : 8) * j, a[h][j]);
}

/* V that aliases K lies in tiles made for scores: decoded first. */
void avx2_pv_decoded(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     bool fine, uint32_t heads, float *acc, size_t acc_stride, float *rows)
{
	(void)fine;
	size_t stride = tile_padded(shape->d_v);
	memset(rows, 0, TILE_TOKENS * stride * sizeof *rows);
	for (uint32_t i = 0; i < count; i++) {
		tile_decode(shape, true, &tiles[i], rows, stride);
		for (uint32_t k = 0; k < heads * stride / 8; k++) {
			float *to = acc + k / (stride / 8) * acc_stride + k % (stride / 8) * 8;
			const float *x = w + k / (stride / 8) * MICRO_BLOCK + i * TILE_TOKENS;
			__m256 a = _mm256_loadu_ps(to);
			for (uint32_t t = 0; t < TILE_TOKENS; t++)
				a = _mm256_fmadd_ps(_mm256_broadcast_ss(x + t),
						    _mm256_loadu_ps(rows + t * stride + k % (stride / 8) * 8), a);
			_mm256_storeu_ps(to, a);
		}
	}
}

INLINE void qk(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const struct micro_query *q, uint32_t heads, float *s)
{
	for (uint32_t i = 0; i < count; i++) {
		float *to = s + i * TILE_TOKENS;
#define TILE(n)                                                                                                      \
	if (kind == PAIRS || kind == JOINED)                                                                         \
		qk_pairs(kind, shape, &tiles[i], q, h, n, to + h * MICRO_BLOCK);                                     \
	else                                                                                                         \
		qk_bytes(shape, &tiles[i], q->f + h * q->stride, q->stride, n, to + h * MICRO_BLOCK)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

INLINE void pv(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	const bool joined = kind == JOINED;
	uint32_t groups = joined ? codec_groups(shape->d_v) : 1, step = joined ? 8 : 16;
	float *scaled = scratch, *zeros = scaled + (size_t)groups * heads * MICRO_BLOCK;
	if (shape->alias) {
		avx2_pv_decoded(shape, tiles, count, w, true, heads, acc, acc_stride, scratch);
		return;
	}
	weigh(kind, shape, tiles, count, w, heads, scaled, zeros);
	for (uint32_t c = 0; c < shape->d_v; c += joined && c % 32 == 8 ? 24 : step) {
		uint32_t g = joined ? c / CODEC_GROUP * heads : 0;
#define HEADS(n)                                                                                                     \
	pv_columns(kind, shape, tiles, count, c, scaled + (g + h) * MICRO_BLOCK, zeros + g + h, n,                   \
		   acc + h * acc_stride, acc_stride)
		BY_FOUR(heads, HEADS)
#undef HEADS
	}
}

#define KERNELS(name, kind)                                                                                          \
	static void qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk(kind, shape, tiles, count, q, heads, s);                                                          \
	}                                                                                                            \
	static void pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		(void)fine;                                                                                          \
		pv(kind, shape, tiles, count, w, heads, acc, acc_stride, scratch);                                   \
	}
KERNELS(exact_int8, BYTES)
KERNELS(exact_int4r, JOINED)
/* Codes, scales and zeros of V of INT4 lie like those of KIVI4. */
static void qk_exact_int4(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			  const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	qk(PAIRS, shape, tiles, count, q, heads, s);
}

/* Kernels that round and those that do not. MLA, whose scores are of 576 channels, is not rounded. */
#define EITHER(name, coarse_qk, exact_qk, coarse_pv, exact_pv)                                                       \
	static void qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(q->fine || shape->alias ? exact_qk : coarse_qk)(shape, tiles, count, q, heads, s, scratch);         \
	}                                                                                                            \
	static void pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		(fine || shape->alias ? exact_pv : coarse_pv)(shape, tiles, count, w, fine, heads, acc, acc_stride,  \
							      scratch);                                              \
	}
EITHER(int8, avx2_qk_bytes, qk_exact_int8, avx2_pv_bytes, pv_exact_int8)
EITHER(int4r, avx2_qk_joined, qk_exact_int4r, avx2_pv_joined, pv_exact_int4r)
EITHER(int4, avx2_qk_pairs, qk_exact_int4, avx2_pv_pairs, avx2_pv_kivi4)
EITHER(kivi4, avx2_qk_narrow4, avx2_qk_kivi4, avx2_pv_narrow4, avx2_pv_kivi4)
EITHER(kivi2, avx2_qk_narrow2, avx2_qk_kivi2, avx2_pv_narrow2, avx2_pv_kivi2)

/* exp for x <= 0: 2^n · 2^r with n + r = x / ln 2, |r| <= 1/2, and the polynomial for 2^r of kernels_avx512.h, off by
 * 1.5·10^-7 at most, with log2(e) as a float by 1.3·10^-8 |x| more; 0 below -87. Adding 1.5 · 2^23 rounds to the
 * nearest whole number and leaves it in the low bits. */
INLINE __m256 exp_negative(__m256 x)
{
	const __m256 log2_e = _mm256_set1_ps(0x1.715476p+0f), shift = _mm256_set1_ps(0x1.8p23f);
	__m256 keep = _mm256_cmp_ps(x, _mm256_set1_ps(-87), _CMP_GE_OQ);
	x = _mm256_max_ps(x, _mm256_set1_ps(-87));
	__m256 n = _mm256_fmadd_ps(x, log2_e, shift);
	__m256 r = _mm256_fmsub_ps(x, log2_e, _mm256_sub_ps(n, shift));
	__m256 p = _mm256_fmadd_ps(_mm256_set1_ps(0x1.5c08e6p-10f), r, _mm256_set1_ps(0x1.3d0c52p-7f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.c6b6e4p-5f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.ebf918p-3f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0x1.62e428p-1f));
	p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1));
	__m256i power = _mm256_slli_epi32(_mm256_castps_si256(n), 23);
	return _mm256_and_ps(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), power)), keep);
}

static void peak(float *s, uint32_t heads, uint32_t n, float *tops)
{
	const __m256 top = _mm256_set1_ps(3e38f);
	for (uint32_t h = 0; h < heads; h++, s += MICRO_BLOCK) {
		__m256 most = _mm256_set1_ps(-__builtin_inff());
		for (uint32_t i = 0; i < n; i += 8) {
			__m256 x = _mm256_min_ps(_mm256_loadu_ps(s + i), top); /* the second operand if the first is NaN */
			_mm256_storeu_ps(s + i, x);
			most = _mm256_max_ps(most, x);
		}
		tops[h] = largest(most);
	}
}

static void exp_sum(float *s, uint32_t heads, uint32_t n, const float *shifts, float *sums)
{
	for (uint32_t h = 0; h < heads; h++, s += MICRO_BLOCK) {
		__m256 sum = _mm256_setzero_ps(), m = _mm256_set1_ps(shifts[h]);
		for (uint32_t i = 0; i < n; i += 8) {
			__m256 e = exp_negative(_mm256_sub_ps(_mm256_loadu_ps(s + i), m));
			_mm256_storeu_ps(s + i, e);
			sum = _mm256_add_ps(sum, e);
		}
		sums[h] = _mm_cvtss_f32(fold4(sum, sum, sum, sum));
	}
}

static void scale(float *x, uint32_t n, float factor)
{
	for (uint32_t i = 0; i < n; i += 8)
		_mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(factor)));
}

const struct micro_kernels micro_avx2 = {
    .isa = "avx2",
    .wide = &wide_avx2,
    .format =
	{
	    [IKV_FMT_FP16] = {avx2_qk_fp16, avx2_pv_fp16, .single = true},
	    [TILE_HALF] = {avx2_qk_half, avx2_pv_fp16},
	    [IKV_FMT_BF16] = {avx2_qk_bf16, avx2_pv_bf16, .single = true},
	    [TILE_FLOAT] = {avx2_qk_float, avx2_pv_float},
	    [IKV_FMT_FP8] = {avx2_qk_fp8, avx2_pv_fp8},
	    [IKV_FMT_INT8] = {qk_int8, pv_int8, .rounds = true},
	    [IKV_FMT_INT4] = {qk_int4, pv_int4, .rounds = true},
	    [IKV_FMT_INT4_RESIDUAL] = {qk_int4r, pv_int4r, .rounds = true},
	    [IKV_FMT_KIVI8] = {avx2_qk_kivi8, avx2_pv_kivi8},
	    [IKV_FMT_KIVI4] = {qk_kivi4, pv_kivi4, .rounds = true},
	    [IKV_FMT_KIVI2] = {qk_kivi2, pv_kivi2, .rounds = true},
	    [IKV_FMT_SPARSE] = {avx2_qk_sparse, avx2_pv_sparse},
	},
    .forms_bytes = avx2_forms_bytes,
    .prepare = avx2_prepare,
    .peak = peak,
    .exp_sum = exp_sum,
    .scale = scale,
};

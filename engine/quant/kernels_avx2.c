/* Micro-kernels for AVX2, FMA and F16C.
 *
 * FP16: rows of 4 or 2 tokens × 2 or 4 heads with their sums in registers, so a row is converted once for several
 * heads. Other formats: 16 tokens (scores) or 16 channels (weighted sums) across two registers; a dword of codes is
 * taken apart by shifts, and scales of a token, or of a token's group, multiply sums and weights instead of values.
 */
#include <immintrin.h>
#include "quant/fetch.h"
#include "quant/micro.h"
#include "quant/wide.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

/* Call f with the number of heads as a constant: 4 as long as there are 4, then the rest. */
#define BY_FOUR(heads, call)                                                                                         \
	for (uint32_t h = 0; h < (heads); h += 4) {                                                                  \
		switch ((heads)-h) {                                                                                 \
		case 1:                                                                                              \
			call(1);                                                                                     \
			break;                                                                                       \
		case 2:                                                                                              \
			call(2);                                                                                     \
			break;                                                                                       \
		case 3:                                                                                              \
			call(3);                                                                                     \
			break;                                                                                       \
		default:                                                                                             \
			call(4);                                                                                     \
		}                                                                                                    \
	}

INLINE __m256 halves8(const uint8_t *p)
{
	return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* The last 1 to 7 FP16 numbers of a row. */
INLINE __m256 halves_tail(const uint8_t *p, uint32_t n)
{
	uint16_t x[8] = {0};
	memcpy(x, p, 2 * (size_t)n);
	return halves8((const uint8_t *)x);
}

/* Sums of four registers. */
INLINE __m128 fold4(__m256 a, __m256 b, __m256 c, __m256 d)
{
	__m256 x = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
	return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}

/* Eight channels of a row of float (wide) or FP16; the last 1 to 7. */
INLINE __m256 row8(const bool wide, const uint8_t *p)
{
	return wide ? _mm256_loadu_ps((const float *)p) : halves8(p);
}

INLINE __m256 row_tail(const bool wide, const uint8_t *p, uint32_t n)
{
	float x[8] = {0};
	if (!wide)
		return halves_tail(p, n);
	memcpy(x, p, 4 * (size_t)n);
	return _mm256_loadu_ps(x);
}

INLINE void qk_rows_tile(const bool wide, const struct tile *tile, uint32_t dim, size_t row_bytes, const float *q,
			 size_t q_stride, const int heads, float *s)
{
	const uint32_t size = wide ? 4 : 2;
	const uint32_t whole = dim & ~7u;
	for (uint32_t t0 = 0; t0 < TILE_TOKENS; t0 += 2) {
		const uint8_t *row[2];
		__m256 a[2][4];
		for (int t = 0; t < 2; t++) {
			uint32_t r = t0 + (uint32_t)t < tile->rows ? t0 + (uint32_t)t : tile->rows - 1;
			row[t] = tile->k + r * row_bytes;
			for (int h = 0; h < 4; h++)
				a[t][h] = _mm256_setzero_ps();
		}
		for (uint32_t c = 0; c < whole; c += 8) {
			__m256 k[2];
			UNROLL for (int t = 0; t < 2; t++) k[t] = row8(wide, row[t] + size * c);
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 x = _mm256_loadu_ps(q + (size_t)h * q_stride + c);
				UNROLL for (int t = 0; t < 2; t++) a[t][h] = _mm256_fmadd_ps(x, k[t], a[t][h]);
			}
			if (c % (64 / size) == 0) {
				fetch(row[0] + size * c, tile->ahead);
				fetch(row[1] + size * c, tile->ahead);
			}
		}
		for (int t = 0; t < 2; t++) {
			float sums[4];
			__m256 k = row_tail(wide, row[t] + size * whole, dim - whole);
			for (int h = 0; whole < dim && h < heads; h++)
				a[t][h] =
				    _mm256_fmadd_ps(_mm256_loadu_ps(q + (size_t)h * q_stride + whole), k, a[t][h]);
			_mm_storeu_ps(sums, fold4(a[t][0], a[t][1], a[t][2], a[t][3]));
			for (int h = 0; h < heads; h++)
				s[h * MICRO_BLOCK + (int)t0 + t] = sums[h];
		}
	}
}

INLINE void qk_rows(const bool wide, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s)
{
	for (uint32_t i = 0; i < count; i++) {
#define TILE(n)                                                                                                      \
	qk_rows_tile(wide, &tiles[i], shape->d_qk, shape->k_step, q->f + h * q->stride, q->stride, n,                \
		     s + h * MICRO_BLOCK + i * TILE_TOKENS)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

/* Channels [c, c + 8 n), the last `tail` of them if that is not 0. */
INLINE void pv_rows_columns(const bool wide, const struct tile *tiles, uint32_t count, size_t row_bytes, uint32_t c,
			    const int n, uint32_t tail, const float *w, const int heads, float *acc,
			    size_t acc_stride)
{
	const uint32_t size = wide ? 4 : 2;
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++) a[h][j] =
	    _mm256_loadu_ps(acc + (size_t)h * acc_stride + c + 8 * j);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + size * c;
		const float *x = w + i * TILE_TOKENS;
		for (uint32_t t = 0; t < tiles[i].rows; t++, p += row_bytes, x++) {
			__m256 v[2];
			UNROLL for (int j = 0; j < n; j++) v[j] =
			    tail ? row_tail(wide, p, tail) : row8(wide, p + 8 * (int)size * j);
			if (c % (64 / size) == 0)
				fetch(p, tiles[i].ahead);
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 y = _mm256_broadcast_ss(x + h * MICRO_BLOCK);
				UNROLL for (int j = 0; j < n; j++) a[h][j] = _mm256_fmadd_ps(y, v[j], a[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + 8 * j, a[h][j]);
}

INLINE void pv_rows_heads(const bool wide, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			  const float *w, const int heads, float *acc, size_t acc_stride)
{
	size_t row_bytes = shape->v_step;
	uint32_t c = 0;
	for (; c + 16 <= shape->d_v; c += 16)
		pv_rows_columns(wide, tiles, count, row_bytes, c, 2, 0, w, heads, acc, acc_stride);
	for (; c < shape->d_v; c += 8)
		pv_rows_columns(wide, tiles, count, row_bytes, c, 1, shape->d_v - c < 8 ? shape->d_v - c : 0, w,
				heads, acc, acc_stride);
}

#define ROW_KERNELS(name, wide)                                                                                      \
	static void qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk_rows(wide, shape, tiles, count, q, heads, s);                                                     \
	}                                                                                                            \
	static void pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		(void)fine;                                                                                          \
		BY_FOUR(heads, pv_rows_call_##name)                                                                  \
	}
#define pv_rows_call_fp16(n)                                                                                         \
	pv_rows_heads(false, shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
#define pv_rows_call_float(n)                                                                                        \
	pv_rows_heads(true, shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
ROW_KERNELS(fp16, false)
ROW_KERNELS(float, true)

enum kind { FLOATS, BYTES, PAIRS, JOINED }; /* FP8, INT8, INT4, INT4_RESIDUAL */

/* Byte b of eight dwords as numbers; E4M3 without its factor 2^120. */
INLINE __m256 byte_value(const enum kind kind, __m256i x, const int b)
{
	x = b < 3 ? _mm256_slli_epi32(x, 24 - 8 * b) : x;
	if (kind == BYTES)
		return _mm256_cvtepi32_ps(_mm256_srai_epi32(x, 24));
	x = _mm256_and_si256(_mm256_srai_epi32(x, 4), _mm256_set1_epi32((int)0x87f00000));
	return _mm256_mul_ps(_mm256_castsi256_ps(x), _mm256_set1_ps(0x1p120f));
}

/* Four bits of eight dwords from bit `shift` on; joined with those of the remainders, 15 code + code2. */
INLINE __m256 pair_value(const enum kind kind, __m256i x, __m256i rest, const int shift)
{
	const __m256i low = _mm256_set1_epi32(15);
	x = _mm256_and_si256(_mm256_srli_epi32(x, shift), low);
	if (kind == JOINED) {
		rest = _mm256_and_si256(_mm256_srli_epi32(rest, shift), low);
		x = _mm256_add_epi32(_mm256_sub_epi32(_mm256_slli_epi32(x, 4), x), rest);
	}
	return _mm256_cvtepi32_ps(x);
}

INLINE __m256i load(const uint8_t *p)
{
	return _mm256_loadu_si256((const __m256i *)p);
}

/* sums[h][j] += q_h[c] times channel c of tokens 8 j … */
INLINE void add_channel(const __m256 *k, const float *q, size_t q_stride, const int heads, __m256 (*sums)[2])
{
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m256 x = _mm256_broadcast_ss(q + (size_t)h * q_stride);
		sums[h][0] = _mm256_fmadd_ps(x, k[0], sums[h][0]);
		sums[h][1] = _mm256_fmadd_ps(x, k[1], sums[h][1]);
	}
}

/* Scores of one tile of FP8 or INT8. */
INLINE void qk_bytes(const enum kind kind, const struct tile_shape *shape, const struct tile *t, const float *q,
		     size_t q_stride, const int heads, float *s)
{
	const __m256i flip = _mm256_set1_epi8((char)0x80);
	__m256 sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_ps();
	for (uint32_t c = 0; c < shape->d_qk; c += 4) {
		const uint8_t *p = t->k + c * TILE_TOKENS;
		__m256i x[2] = {load(p), load(p + 32)};
		fetch(p, t->ahead);
		if (kind == BYTES) {
			x[0] = _mm256_xor_si256(x[0], flip);
			x[1] = _mm256_xor_si256(x[1], flip);
		}
		UNROLL for (int b = 0; b < 4; b++)
		{
			__m256 k[2] = {byte_value(kind, x[0], b), byte_value(kind, x[1], b)};
			add_channel(k, q + c + b, q_stride, heads, sums);
		}
	}
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
	const size_t group_bytes = kind == JOINED ? 512 : 256;
	__m256 total[4][2];
	UNROLL for (int h = 0; h < heads; h++) total[h][0] = total[h][1] = _mm256_setzero_ps();
	for (uint32_t g = 0; g < codec_groups(shape->d_qk); g++) {
		__m256 sums[4][2];
		UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_ps();
		for (uint32_t j = 0; j < 4; j++) {
			const uint8_t *p = t->k + g * group_bytes + 64 * j;
			__m256i x[2] = {load(p), load(p + 32)}, r[2] = {x[0], x[1]};
			fetch(p, t->ahead);
			if (kind == JOINED) {
				r[0] = load(p + 256);
				r[1] = load(p + 256 + 32);
				fetch(p + 256, t->ahead);
			}
			UNROLL for (int b = 0; b < 8; b++)
			{
				__m256 k[2] = {pair_value(kind, x[0], r[0], 8 * (b % 4) + b / 4 * 4),
					       pair_value(kind, x[1], r[1], 8 * (b % 4) + b / 4 * 4)};
				add_channel(k, q + 32 * g + 4 * j + b % 4 + b / 4 * 16, all->stride, heads, sums);
			}
		}
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
				const float *form =
				    (const float *)(all->forms + (first + (uint32_t)h) * all->forms_stride);
				total[h][j] = _mm256_fmadd_ps(sums[h][j], scale, total[h][j]);
				total[h][j] = _mm256_fmadd_ps(_mm256_broadcast_ss(form + g), zero, total[h][j]);
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
	uint32_t groups = kind == FLOATS || kind == BYTES ? 1 : codec_groups(shape->d_v);
	for (uint32_t k = 0; k < groups * heads; k++) {
		uint32_t g = k / heads, h = k % heads;
		__m256 sum = _mm256_setzero_ps();
		for (uint32_t i = 0; i < 2 * count; i++) {
			const uint8_t *param = tiles[i / 2].k + shape->v_params_at + 64 * g + 16 * (i % 2);
			__m256 x = _mm256_loadu_ps(w + h * MICRO_BLOCK + 8 * i), scale = halves8(param);
			if (kind == PAIRS || kind == JOINED) {
				__m256 zero = halves8(param + 32);
				if (kind == JOINED) {
					zero = _mm256_fnmadd_ps(scale, _mm256_set1_ps(0.5f), zero);
					scale = _mm256_mul_ps(scale, _mm256_set1_ps(1 / 15.0f));
				}
				sum = _mm256_fmadd_ps(x, zero, sum);
			}
			_mm256_storeu_ps(scaled + k * MICRO_BLOCK + 8 * i, _mm256_mul_ps(x, scale));
		}
		zeros[k] = _mm_cvtss_f32(fold4(sum, sum, sum, sum));
	}
}

/* Two times eight channels: [c, c + 16) of bytes, or [c, c + 8) and [c + 16, c + 24) of a group's pairs. */
INLINE void pv_columns(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const float *w, const float *zeros, const int heads, float *acc, size_t acc_stride)
{
	const bool paired = kind == PAIRS || kind == JOINED;
	const size_t quad_bytes = (kind == PAIRS ? 2 : 4) * (size_t)tile_padded(shape->d_v);
	const size_t at = kind == PAIRS    ? c / 32 * 64 + c % 32 * 4
			  : kind == JOINED ? c / 32 * 128 + c % 32 * 4
					   : 4 * c;
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) a[h][j] = _mm256_add_ps(
	    _mm256_loadu_ps(acc + (size_t)h * acc_stride + c + (paired ? 16 : 8) * j), _mm256_set1_ps(zeros[h]));
	for (uint32_t i = 0; i < 4 * count; i++) { /* quads of tokens */
		const uint8_t *p = tiles[i / 4].v + i % 4 * quad_bytes + at;
		__m256i x = load(p), y = kind == PAIRS ? x : load(p + (kind == JOINED ? 64 : 32));
		if (at % 64 == 0) {
			fetch(p, tiles[i / 4].ahead);
			if (kind == JOINED)
				fetch(p + 64, tiles[i / 4].ahead);
		}
		UNROLL for (int b = 0; b < 4; b++)
		{
			__m256 v[2];
			UNROLL for (int j = 0; j < 2; j++) v[j] =
			    paired ? pair_value(kind, x, y, 8 * b + 4 * j) : byte_value(kind, j ? y : x, b);
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m256 m = _mm256_broadcast_ss(w + h * MICRO_BLOCK + 4 * i + (uint32_t)b);
				a[h][0] = _mm256_fmadd_ps(m, v[0], a[h][0]);
				a[h][1] = _mm256_fmadd_ps(m, v[1], a[h][1]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + (paired ? 16 : 8) * j, a[h][j]);
}

/* V that aliases K lies in tiles made for scores: decoded first. */
static void pv_decoded(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		       uint32_t heads, float *acc, size_t acc_stride, float *rows)
{
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
		qk_bytes(kind, shape, &tiles[i], q->f + h * q->stride, q->stride, n, to + h * MICRO_BLOCK)
		BY_FOUR(heads, TILE)
#undef TILE
	}
}

INLINE void pv(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	bool paired = kind == PAIRS || kind == JOINED;
	uint32_t groups = paired ? codec_groups(shape->d_v) : 1, step = paired ? 8 : 16;
	float *scaled = scratch, *zeros = scaled + (size_t)groups * heads * MICRO_BLOCK;
	if (shape->alias) {
		pv_decoded(shape, tiles, count, w, heads, acc, acc_stride, scratch);
		return;
	}
	weigh(kind, shape, tiles, count, w, heads, scaled, zeros);
	for (uint32_t c = 0; c < shape->d_v; c += paired && c % 32 == 8 ? 24 : step) {
		uint32_t g = paired ? c / CODEC_GROUP * heads : 0;
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
KERNELS(fp8, FLOATS)
KERNELS(int8, BYTES)
KERNELS(int4, PAIRS)
KERNELS(int4r, JOINED)

/* Sums of each group's channels, for the zeros of INT4. */
static size_t forms_bytes(uint32_t dim)
{
	return (codec_groups(dim) * sizeof(float) + 63) / 64 * 64;
}

static void prepare(const float *q, uint32_t dim, uint8_t *forms)
{
	for (uint32_t g = 0; g < codec_groups(dim); g++, q += CODEC_GROUP) {
		__m256 sum = _mm256_add_ps(_mm256_add_ps(_mm256_loadu_ps(q), _mm256_loadu_ps(q + 8)),
					   _mm256_add_ps(_mm256_loadu_ps(q + 16), _mm256_loadu_ps(q + 24)));
		((float *)forms)[g] = _mm_cvtss_f32(fold4(sum, sum, sum, sum));
	}
}

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

static float peak_row(float *s, uint32_t n)
{
	float a[8], best = -__builtin_inff();
	__m256 most = _mm256_set1_ps(best), top = _mm256_set1_ps(3e38f);
	for (uint32_t i = 0; i < n; i += 8) {
		__m256 x = _mm256_min_ps(_mm256_loadu_ps(s + i), top); /* the second operand if the first is NaN */
		_mm256_storeu_ps(s + i, x);
		most = _mm256_max_ps(most, x);
	}
	_mm256_storeu_ps(a, most);
	for (int l = 0; l < 8; l++)
		best = a[l] > best ? a[l] : best;
	return best;
}

static void peak(float *s, uint32_t heads, uint32_t n, float *tops)
{
	for (uint32_t h = 0; h < heads; h++)
		tops[h] = peak_row(s + h * MICRO_BLOCK, n);
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
	    [IKV_FMT_FP16] = {qk_fp16, pv_fp16},
	    [TILE_FLOAT] = {qk_float, pv_float},
	    [IKV_FMT_FP8] = {qk_fp8, pv_fp8},
	    [IKV_FMT_INT8] = {qk_int8, pv_int8},
	    [IKV_FMT_INT4] = {qk_int4, pv_int4},
	    [IKV_FMT_INT4_RESIDUAL] = {qk_int4r, pv_int4r},
	    [IKV_FMT_BF16] = {micro_plain_qk, micro_plain_pv},
	    [IKV_FMT_KIVI8] = {micro_plain_qk, micro_plain_pv},
	    [IKV_FMT_KIVI4] = {micro_plain_qk, micro_plain_pv},
	    [IKV_FMT_KIVI2] = {micro_plain_qk, micro_plain_pv},
	    [IKV_FMT_SPARSE] = {micro_plain_qk, micro_plain_pv},
	},
    .forms_bytes = forms_bytes,
    .prepare = prepare,
    .peak = peak,
    .exp_sum = exp_sum,
    .scale = scale,
};

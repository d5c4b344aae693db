/* Micro-kernels for AVX-512 F, BW, VL, DQ and VNNI: FP16, the softmax, other forms of the query, and the table. */
#include <math.h>
#include "quant/kernels_avx512.h"
#include "quant/wide.h"

/* Channels [c, c + 16) of a row of float (wide) or FP16; `tail`: only those, the others 0. */
INLINE __m512 row16(const bool wide, const uint8_t *row, uint32_t c)
{
	return wide ? _mm512_loadu_ps(row + 4 * (size_t)c) : halves16(row + 2 * (size_t)c);
}

INLINE __m512 row_tail(const bool wide, const uint8_t *row, uint32_t c, __mmask16 tail)
{
	return wide ? _mm512_maskz_loadu_ps(tail, row + 4 * (size_t)c)
		    : _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(tail, row + 2 * (size_t)c));
}

/* Sixteen sums in registers: 4 tokens × 4 or 3 heads, 8 × 2 or 16 × 1. A row is converted once for all of them. */
INLINE void qk_rows_tile(const bool wide, const struct tile *tile, uint32_t dim, size_t row_bytes, const float *q,
			 size_t q_stride, const int heads, float *s)
{
	const int tokens = heads == 1 ? 16 : heads == 2 ? 8 : 4;
	const uint32_t size = wide ? 4 : 2;
	const uint32_t whole = dim & ~15u;
	const __mmask16 tail = (__mmask16)((1u << dim % 16) - 1);
	for (uint32_t t0 = 0; t0 < TILE_TOKENS; t0 += (uint32_t)tokens) {
		const uint8_t *row[16];
		__m512 a[16];
		UNROLL for (int i = 0; i < 16; i++) a[i] = _mm512_setzero_ps();
		UNROLL for (int t = 0; t < tokens; t++)
		{
			uint32_t r = t0 + (uint32_t)t < tile->rows ? t0 + (uint32_t)t : tile->rows - 1;
			row[t] = tile->k + r * row_bytes;
		}
		for (uint32_t c = 0; c < whole; c += 16) {
			__m512 x[4];
			UNROLL for (int h = 0; h < heads; h++) x[h] = _mm512_loadu_ps(q + (size_t)h * q_stride + c);
			UNROLL for (int t = 0; t < tokens; t++)
			{
				__m512 k = row16(wide, row[t], c);
				UNROLL for (int h = 0; h < heads; h++) a[h * tokens + t] =
				    _mm512_fmadd_ps(x[h], k, a[h * tokens + t]);
				if (wide || c % 32 == 0)
					fetch(row[t] + size * c, tile->ahead);
			}
		}
		if (tail) {
			UNROLL for (int t = 0; t < tokens; t++)
			{
				__m512 k = row_tail(wide, row[t], whole, tail);
				UNROLL for (int h = 0; h < heads; h++) a[h * tokens + t] = _mm512_fmadd_ps(
				    _mm512_loadu_ps(q + (size_t)h * q_stride + whole), k, a[h * tokens + t]);
			}
		}
		__m512 sums = fold16(a);
		if (heads == 1)
			_mm512_storeu_ps(s + t0, sums);
		if (heads == 2) {
			_mm256_storeu_ps(s + t0, _mm512_castps512_ps256(sums));
			_mm256_storeu_ps(s + MICRO_BLOCK + t0, _mm512_extractf32x8_ps(sums, 1));
		}
		if (heads >= 3) {
			_mm_storeu_ps(s + t0, _mm512_castps512_ps128(sums));
			_mm_storeu_ps(s + MICRO_BLOCK + t0, _mm512_extractf32x4_ps(sums, 1));
			_mm_storeu_ps(s + 2 * MICRO_BLOCK + t0, _mm512_extractf32x4_ps(sums, 2));
		}
		if (heads == 4)
			_mm_storeu_ps(s + 3 * MICRO_BLOCK + t0, _mm512_extractf32x4_ps(sums, 3));
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

void avx512_qk_half(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	qk_rows(false, shape, tiles, count, q, heads, s);
}

void avx512_qk_float(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		     const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	qk_rows(true, shape, tiles, count, q, heads, s);
}

/* Channel c of `count` tiles whose K lies by channels, a token a lane, times that of the queries. */
INLINE void add_channel(const uint8_t *const *from, const int count, size_t c, const float *q, const size_t q_stride,
			const int heads, __m512 (*sums)[4])
{
	__m512 k[4];
	UNROLL for (int i = 0; i < count; i++) k[i] = halves16(from[i] + 2 * TILE_TOKENS * c);
	UNROLL for (int h = 0; h < heads; h++)
	{
		__m512 x = _mm512_set1_ps(q[(size_t)h * q_stride + c]);
		UNROLL for (int i = 0; i < count; i++) sums[h][i] = _mm512_fmadd_ps(x, k[i], sums[h][i]);
	}
}

/* Scores of 1, 2 or 4 such tiles. */
INLINE void qk_channels(const struct tile *tiles, const int count, const uint32_t dim, const float *q,
			const size_t q_stride, const int heads, float *s)
{
	const uint8_t *from[4], *next[4];
	__m512 sums[4][4];
	size_t c = 0;
	UNROLL for (int i = 0; i < count; i++)
	{
		from[i] = tiles[i].k;
		next[i] = tiles[i].k + tiles[i].ahead;
		UNROLL for (int h = 0; h < heads; h++) sums[h][i] = _mm512_setzero_ps();
	}
	for (; c + 2 <= dim; c += 2) { /* 64 bytes */
		add_channel(from, count, c, q, q_stride, heads, sums);
		UNROLL for (int i = 0; i < count; i++)
		{
			fetch(next[i] + 2 * TILE_TOKENS * c, 0);
			fetch_again(tiles[i].v + 2 * TILE_TOKENS * c, 0);
		}
		add_channel(from, count, c + 1, q, q_stride, heads, sums);
	}
	if (c < dim)
		add_channel(from, count, c, q, q_stride, heads, sums);
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < count; i++)
	    _mm512_storeu_ps(s + h * MICRO_BLOCK + i * TILE_TOKENS, sums[h][i]);
}

void avx512_qk_fp16(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		    const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	(void)scratch;
	const float *x = q->f;
#define TILES(n, many, dim, stride)                                                                                  \
	qk_channels(tiles + i, many, dim, x + h * (stride), stride, n, s + h * MICRO_BLOCK + i * TILE_TOKENS)
#define HEADS_OF(n, dim, stride)                                                                                     \
	do {                                                                                                         \
		uint32_t i = 0;                                                                                      \
		for (; i + 4 <= count; i += 4)                                                                       \
			TILES(n, 4, dim, stride);                                                                    \
		for (; i + 2 <= count; i += 2)                                                                       \
			TILES(n, 2, dim, stride);                                                                    \
		if (i < count)                                                                                       \
			TILES(n, 1, dim, stride);                                                                    \
	} while (0)
#define HEADS(n)                                                                                                     \
	if (shape->d_qk == 128 && q->stride == 128) /* known: less arithmetic of addresses */                        \
		HEADS_OF(n, 128, 128);                                                                               \
	else                                                                                                         \
		HEADS_OF(n, shape->d_qk, q->stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
#undef HEADS_OF
#undef TILES
}

/* Channels [c, c + 16 n) of all tokens, sums in registers. */
INLINE void pv_rows_columns(const bool wide, const struct tile *tiles, uint32_t count, size_t row_bytes, uint32_t c,
			    const int n, __mmask16 last, const float *w, const int heads, float *acc,
			    size_t acc_stride)
{
	const uint32_t size = wide ? 4 : 2;
	__m512 a[4][4];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++) a[h][j] =
	    _mm512_loadu_ps(acc + (size_t)h * acc_stride + c + 16 * j);
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + size * c;
		const ptrdiff_t k_ahead = tiles[i].ahead - (ptrdiff_t)((uintptr_t)tiles[i].v - (uintptr_t)tiles[i].k);
		const float *x = w + i * TILE_TOKENS;
		for (uint32_t t = 0; t < tiles[i].rows; t++, p += row_bytes, x++) {
			__m512 v[4];
			UNROLL for (int j = 0; j < n; j++)
			{
				v[j] = last != 0xffff && j == n - 1 ? row_tail(wide, p, 16 * (uint32_t)j, last)
								    : row16(wide, p, 16 * (uint32_t)j);
				if (wide || j % 2 == 0) {
					fetch(p + 16 * (int)size * j, tiles[i].ahead);
					fetch_again(p + 16 * (int)size * j, k_ahead);
				}
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				__m512 y = _mm512_set1_ps(x[h * MICRO_BLOCK]);
				UNROLL for (int j = 0; j < n; j++) a[h][j] = _mm512_fmadd_ps(y, v[j], a[h][j]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < n; j++)
	    _mm512_storeu_ps(acc + (size_t)h * acc_stride + c + 16 * j, a[h][j]);
}

INLINE void pv_rows_heads(const bool wide, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
			  const float *w, const int heads, float *acc, size_t acc_stride)
{
	size_t row_bytes = shape->v_step;
	uint32_t c = 0;
	for (; c + 64 <= shape->d_v; c += 64)
		pv_rows_columns(wide, tiles, count, row_bytes, c, 4, 0xffff, w, heads, acc, acc_stride);
	for (; c < shape->d_v; c += 16) {
		uint32_t left = shape->d_v - c;
		__mmask16 mask = left < 16 ? (__mmask16)((1u << left) - 1) : 0xffff;
		pv_rows_columns(wide, tiles, count, row_bytes, c, 1, mask, w, heads, acc, acc_stride);
	}
}

void avx512_pv_fp16(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		    bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	(void)scratch;
	(void)fine;
#define HEADS(n) pv_rows_heads(false, shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

void avx512_pv_float(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		     bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	(void)scratch;
	(void)fine;
#define HEADS(n) pv_rows_heads(true, shape, tiles, count, w + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
	BY_FOUR(heads, HEADS)
#undef HEADS
}

void avx512_pv_decoded(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		       bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	size_t stride = tile_padded(shape->d_v);
	(void)fine;
	for (uint32_t i = 0; i < count; i++) {
		tile_decode(shape, true, &tiles[i], scratch, stride);
		for (uint32_t c = shape->d_v; c < stride; c++)
			for (uint32_t t = 0; t < TILE_TOKENS; t++)
				scratch[t * stride + c] = 0;
		for (uint32_t h = 0; h < heads; h++) {
			for (uint32_t c = 0; c < stride; c += 16) {
				__m512 a = _mm512_loadu_ps(acc + h * acc_stride + c);
				for (uint32_t t = 0; t < TILE_TOKENS; t++)
					a = _mm512_fmadd_ps(_mm512_set1_ps(w[h * MICRO_BLOCK + i * TILE_TOKENS + t]),
							    _mm512_loadu_ps(scratch + t * stride + c), a);
				_mm512_storeu_ps(acc + h * acc_stride + c, a);
			}
		}
	}
}

size_t avx512_forms_bytes(uint32_t dim)
{
	size_t padded = tile_padded(dim);
	size_t bytes = 20 * padded + padded / 32 * sizeof(struct paired) + 5 * forms_round(padded / 8) +
		       (padded + 127) / 128 * 16 + 16;
	return (bytes + 63) & ~(size_t)63;
}

/* In the low half of each lane; to nearest even. */
INLINE __m512i nearest_bf16(__m512 x)
{
	__m512i n = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(n, 16), _mm512_set1_epi32(1));
	return _mm512_srli_epi32(_mm512_add_epi32(n, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd)), 16);
}

/* What is made of three digits a channel: a row whose largest magnitude is `amax`. */
static void put_digits(const float *q, uint32_t padded, float amax, const struct forms *f)
{
	const __m512i byte = _mm512_set1_epi32(255);
	const __m512i weave = _mm512_broadcast_i32x4(
	    _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)); /* 4 × 4 bytes transposed */
	int32_t *bias = (int32_t *)f->bias;
	const float scale = amax > 1e-30f ? 8e6f / amax : 0, step = amax > 1e-30f ? amax / 8e6f : 0;
	__m512 lost[2];
	__m512i total[3]; /* of digits of 128 channels */
	for (uint32_t c = 0; c < padded; c += 16) {
		__m512 x = _mm512_loadu_ps(q + c);
		__m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(scale)));
		__m512i digits = _mm512_setzero_si512();
		if (c % 128 == 0)
			total[0] = total[1] = total[2] = _mm512_setzero_si512();
		UNROLL for (int i = 0; i < 3; i++) /* the lowest byte, as a signed one */
		{
			__m512i d = _mm512_srai_epi32(_mm512_slli_epi32(n, 24), 24);
			digits = _mm512_or_si512(digits, _mm512_slli_epi32(_mm512_and_si512(d, byte), 8 * i));
			total[i] = _mm512_add_epi32(total[i], d);
			n = _mm512_sub_epi32(n, d);
			if (i == 0)
				lost[c % 32 / 16] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(n), _mm512_set1_ps(step), x);
			n = _mm512_srai_epi32(n, 8);
		}
		for (uint32_t i = 0; i < 3 && (c % 128 == 112 || c + 16 == padded); i++)
			bias[c / 128 * 4 + i] = 128 * _mm512_reduce_add_epi32(total[i]);
		digits = _mm512_shuffle_epi8(digits, weave);
		_mm512_storeu_si512((void *)(f->digits + 4 * c), digits);
		/* The second and third dword of each four. */
		_mm256_storeu_si256((__m256i *)(f->coarse + 2 * c),
				    _mm512_castsi512_si256(_mm512_maskz_compress_epi32(0x6666, digits)));
		if (c % 32 == 0)
			continue;
		float sum = _mm512_reduce_add_ps(_mm512_add_ps(x, _mm512_loadu_ps(q + c - 16)));
		float rest = _mm512_reduce_add_ps(_mm512_add_ps(lost[0], lost[1])) * scale / 256;
		((float *)f->sums)[c / 32] = sum;
		((float *)f->steps)[c / 32] = sum * scale / 256;
		((int32_t *)f->middle)[c / 32] = (int32_t)lrintf(rest * 120);
	}
	*(float *)f->step = step;
}

/* A row, and that of magnitudes of at most 1, as BF16 numbers. */
static void put_bf16(const float *q, uint32_t padded, const struct forms *f)
{
	const __m256i second_third = _mm256_broadcastsi128_si256(
	    _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
	for (uint32_t c = 0; c < padded; c += 16) {
		const __m512 x = _mm512_loadu_ps(q + c), part = _mm512_loadu_ps(f->parts + c);
		const __m512i high = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32((int)0xffff0000));
		/* |low| is too small to overflow. */
		const __m512i low = nearest_bf16(_mm512_sub_ps(x, _mm512_castsi512_ps(high)));
		const __m512i near = nearest_bf16(_mm512_mul_ps(part, _mm512_set1_ps(0x1p60f)));
		_mm512_storeu_si512((void *)(f->halves + 2 * c), _mm512_packus_epi32(_mm512_srli_epi32(high, 16), low));
		_mm256_storeu_si256((__m256i *)(f->nearest + c),
				    _mm256_shuffle_epi8(_mm512_cvtepi32_epi16(near), second_third));
	}
}

void avx512_prepare(const float *q, uint32_t dim, uint32_t formats, uint8_t *to)
{
	const uint32_t halves = FORMAT_BIT(IKV_FMT_FP8) | FORMAT_BIT(IKV_FMT_SPARSE);
	const struct forms f = forms_of(to, dim);
	const uint32_t padded = tile_padded(dim);
	__m512 most = _mm512_setzero_ps();
	for (uint32_t c = 0; c < padded; c += 16)
		most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(q + c)));
	const float amax = _mm512_reduce_max_ps(most);
	*(float *)f.size = amax;
	if (formats & ~halves)
		put_digits(q, padded, amax, &f);
	if (formats & FORMAT_BIT(IKV_FMT_INT8))
		avx512_prepare_nine(q, padded / 32, &f);
	if (formats & FORMAT_BIT(IKV_FMT_INT4))
		avx512_prepare_paired(q, padded / 32, &f);
	if (!(formats & ~(FORMAT_BIT(IKV_FMT_INT8) | FORMAT_BIT(IKV_FMT_INT4))))
		return;
	const __m512 unit = _mm512_set1_ps(amax > 1e-30f ? 1 / amax : 0);
	for (uint32_t c = 0; c < padded; c += 32) {
		const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(q + c), unit);
		const __m512 y = _mm512_mul_ps(_mm512_loadu_ps(q + c + 16), unit);
		const __m512i m = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(WHOLE)));
		const __m512i n = _mm512_cvtps_epi32(_mm512_mul_ps(y, _mm512_set1_ps(WHOLE)));
		_mm512_storeu_si512((void *)(f.whole + c), _mm512_packs_epi32(m, n));
		_mm512_storeu_ps((void *)(f.parts + c), x);
		_mm512_storeu_ps((void *)(f.parts + c + 16), y);
	}
	if (formats & halves)
		put_bf16(q, padded, &f);
}

INLINE void peak_rows(float *s, const int heads, uint32_t n, float *tops)
{
	const __m512 top = _mm512_set1_ps(3e38f);
	__m512 most[4];
	__mmask16 beyond = 0;
	UNROLL for (int h = 0; h < 4; h++)
	{
		most[h] = _mm512_set1_ps(-INFINITY);
		for (uint32_t i = 0; i < n && h < heads; i += 16) {
			__m512 x = _mm512_loadu_ps(s + h * MICRO_BLOCK + i);
			beyond |= _mm512_cmp_ps_mask(x, top, _CMP_NLE_UQ);
			most[h] = _mm512_max_ps(x, most[h]);
		}
	}
	if (beyond) {
		for (uint32_t h = 0; h < (uint32_t)heads; h++)
			for (uint32_t i = 0; i < n; i += 16) {
				float *at = s + h * MICRO_BLOCK + i; /* the second operand if the first is NaN */
				__m512 x = _mm512_min_ps(_mm512_loadu_ps(at), top);
				_mm512_storeu_ps(at, x);
				most[h] = i ? _mm512_max_ps(x, most[h]) : x;
			}
	}
	_mm_mask_storeu_ps(tops, (__mmask8)((1 << heads) - 1), most4(most));
}

void avx512_peak(float *s, uint32_t heads, uint32_t n, float *tops)
{
#define ROWS(count) peak_rows(s + h * MICRO_BLOCK, count, n, tops + h)
	BY_FOUR(heads, ROWS)
#undef ROWS
}

void avx512_scale(float *x, uint32_t n, float factor)
{
	for (uint32_t i = 0; i < n; i += 16)
		_mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(factor)));
}

INLINE void exp_rows(float *s, const int heads, uint32_t n, const float *shifts, float *sums)
{
	__m512 sum[4];
	UNROLL for (int h = 0; h < 4; h++)
	{
		sum[h] = _mm512_setzero_ps();
		for (uint32_t i = 0; i < n && h < heads; i += 16) {
			float *at = s + h * MICRO_BLOCK + i;
			__m512 e = exp_negative(_mm512_sub_ps(_mm512_loadu_ps(at), _mm512_set1_ps(shifts[h])));
			_mm512_storeu_ps(at, e);
			sum[h] = _mm512_add_ps(sum[h], e);
		}
	}
	_mm_mask_storeu_ps(sums, (__mmask8)((1 << heads) - 1), sums4(sum));
}

void avx512_exp_sum(float *s, uint32_t heads, uint32_t n, const float *shifts, float *sums)
{
#define ROWS(count) exp_rows(s + h * MICRO_BLOCK, count, n, shifts + h, sums + h)
	BY_FOUR(heads, ROWS)
#undef ROWS
}

const struct micro_kernels micro_avx512 = {
    .isa = "avx512",
    .wide = &wide_avx512,
    .format =
	{
	    [IKV_FMT_FP16] = {avx512_qk_fp16, avx512_pv_fp16},
	    [TILE_HALF] = {avx512_qk_half, avx512_pv_fp16},
	    [IKV_FMT_FP8] = {avx512_qk_fp8, avx512_pv_fp8},
	    [IKV_FMT_INT8] = {avx512_qk_int8, avx512_pv_int8, true},
	    [IKV_FMT_INT4] = {avx512_qk_int4, avx512_pv_int4, true},
	    [IKV_FMT_INT4_RESIDUAL] = {avx512_qk_int4r, avx512_pv_int4r, true},
	    [IKV_FMT_BF16] = {avx512_qk_bf16, avx512_pv_bf16},
	    [IKV_FMT_KIVI8] = {avx512_qk_kivi8, avx512_pv_kivi8, true},
	    [IKV_FMT_KIVI4] = {avx512_qk_kivi4, avx512_pv_int4, true},
	    [IKV_FMT_KIVI2] = {avx512_qk_kivi2, avx512_pv_kivi2, true},
	    [IKV_FMT_SPARSE] = {avx512_qk_sparse, avx512_pv_sparse},
	    [TILE_FLOAT] = {avx512_qk_float, avx512_pv_float},
	},
    .forms_bytes = avx512_forms_bytes,
    .prepare = avx512_prepare,
    .peak = avx512_peak,
    .exp_sum = avx512_exp_sum,
    .scale = avx512_scale,
};

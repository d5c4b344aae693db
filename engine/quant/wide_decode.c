/* Tiles to rows of floats, compiled for AVX2 and AVX-512: DECODE_TABLE names the table.
 *
 * Four registers of four dwords, transposed, are 16 channels of four tokens: those of K as they lie, those of V,
 * whose dwords hold four tokens of a channel, after a transposition of the bytes of each register. */
#include <immintrin.h>
#include "quant/wide.h"

#define INLINE static inline __attribute__((always_inline))

struct side { /* K or V of a tile */
	const uint8_t *codes, *params;
	size_t quads; /* V: bytes from four tokens to the next four */
	uint32_t dim;
	bool v;
};

INLINE struct side side_of(const struct tile_shape *s, bool v, const struct tile *t)
{
	bool own = v && !s->alias;
	struct side x = {.codes = own ? t->v : t->k, .dim = v ? s->d_v : s->d_qk, .v = own};
	x.params = t->k + (own ? s->v_params_at : s->k_params_at);
	return x;
}

/* Registers at p, p + step, … to 16 bytes of tokens 0 to 3. */
INLINE void transpose(const uint8_t *p, size_t step, const bool v, __m128i *out)
{
	const __m128i weave = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
	__m128i a[4];
	for (int i = 0; i < 4; i++) {
		a[i] = _mm_loadu_si128((const __m128i *)(p + (size_t)i * step));
		if (v)
			a[i] = _mm_shuffle_epi8(a[i], weave);
	}
	__m128i low[2] = {_mm_unpacklo_epi32(a[0], a[1]), _mm_unpacklo_epi32(a[2], a[3])};
	__m128i high[2] = {_mm_unpackhi_epi32(a[0], a[1]), _mm_unpackhi_epi32(a[2], a[3])};
	out[0] = _mm_unpacklo_epi64(low[0], low[1]);
	out[1] = _mm_unpackhi_epi64(low[0], low[1]);
	out[2] = _mm_unpacklo_epi64(high[0], high[1]);
	out[3] = _mm_unpackhi_epi64(high[0], high[1]);
}

/* The same codes of the tile that comes next: K's lines are met once for every four tokens. */
INLINE void fetch(const uint8_t *p, const bool v, uint32_t q, ptrdiff_t ahead)
{
	const char *next = (const char *)p + ahead;
	if (v)
		_mm_prefetch(next, _MM_HINT_T0);
	for (int i = 0; !v && q == 0 && i < 4; i++)
		_mm_prefetch(next + (ptrdiff_t)i * 4 * TILE_TOKENS, _MM_HINT_T0);
}

INLINE float half(const uint8_t *p, uint32_t i)
{
	uint16_t h;
	memcpy(&h, p + 2 * i, sizeof h);
	return _cvtsh_ss(h);
}

#ifdef __AVX512F__
INLINE void put_int8(float *to, __m128i codes, float scale)
{
	_mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)), _mm512_set1_ps(scale)));
}

INLINE void put_halves(float *to, __m256i halves, float scale)
{
	_mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(scale)));
}

INLINE void put_bf16(float *to, __m256i codes)
{
	_mm512_storeu_si512((void *)to, _mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}

/* zero + code · scale + (remainder - 7.5) · fine */
INLINE void put_int4(float *to, __m128i codes, __m128i rests, float zero, float scale, float fine)
{
	__m512 x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes)), _mm512_set1_ps(scale),
				   _mm512_set1_ps(zero));
	if (fine != 0) {
		__m512 r = _mm512_sub_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(rests)), _mm512_set1_ps(7.5f));
		x = _mm512_fmadd_ps(r, _mm512_set1_ps(fine), x);
	}
	_mm512_storeu_ps(to, x);
}
#else
INLINE void put_int8(float *to, __m128i codes, float scale)
{
	__m256 s = _mm256_set1_ps(scale);
	_mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), s));
	codes = _mm_srli_si128(codes, 8);
	_mm256_storeu_ps(to + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), s));
}

INLINE void put_halves(float *to, __m256i halves, float scale)
{
	__m256 s = _mm256_set1_ps(scale);
	_mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(halves)), s));
	_mm256_storeu_ps(to + 8, _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(halves, 1)), s));
}

INLINE void put_bf16(float *to, __m256i codes)
{
	__m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(codes));
	__m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(codes, 1));
	_mm256_storeu_si256((__m256i *)to, _mm256_slli_epi32(low, 16));
	_mm256_storeu_si256((__m256i *)(to + 8), _mm256_slli_epi32(high, 16));
}

INLINE void put_int4(float *to, __m128i codes, __m128i rests, float zero, float scale, float fine)
{
	for (int i = 0; i < 2; i++, codes = _mm_srli_si128(codes, 8), rests = _mm_srli_si128(rests, 8)) {
		__m256 x = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes)), _mm256_set1_ps(scale),
					   _mm256_set1_ps(zero));
		if (fine != 0) {
			__m256 r =
			    _mm256_sub_ps(_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(rests)), _mm256_set1_ps(7.5f));
			x = _mm256_fmadd_ps(r, _mm256_set1_ps(fine), x);
		}
		_mm256_storeu_ps(to + 8 * i, x);
	}
}
#endif

INLINE void put_pairs(float *to, const uint8_t *p, const bool bf16)
{
	__m256i x = _mm256_loadu_si256((const __m256i *)p);
	if (bf16)
		put_bf16(to, x);
	else
		put_halves(to, x, 1);
}

/* Rows of two bytes a channel, as they come. */
INLINE void decode_halves(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride,
			  const bool bf16)
{
	struct side x = side_of(shape, v, t);
	size_t row_bytes = x.v ? shape->v_step : shape->k_step;
	uint32_t whole = x.dim & ~15u;
	for (uint32_t i = 0; i < t->rows; i++, rows += stride) {
		const uint8_t *row = x.codes + i * row_bytes;
		for (uint32_t c = 0; c < whole; c += 16) {
			if (c % 32 == 0)
				_mm_prefetch((const char *)row + 2 * c + t->ahead, _MM_HINT_T0);
			put_pairs(rows + c, row + 2 * c, bf16);
		}
		if (whole < x.dim) {
			uint8_t last[32] = {0};
			memcpy(last, row + 2 * whole, 2 * (x.dim - whole));
			put_pairs(rows + whole, last, bf16);
		}
	}
}

static void decode_fp16(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	decode_halves(shape, v, t, rows, stride, false);
}

static void decode_bf16(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	decode_halves(shape, v, t, rows, stride, true);
}

/* Codes of one byte: `step` from four channels of K to the next four, or of V. */
INLINE void decode_bytes(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride,
			 const bool fp8)
{
	struct side x = side_of(shape, v, t);
	const size_t quad = x.v ? 4 * (size_t)tile_padded(x.dim) : 16, step = x.v ? 16 : 4 * TILE_TOKENS;
	const __m128i flip = _mm_set1_epi8(x.v || fp8 ? 0 : (char)0x80);
	for (uint32_t q = 0; q < TILE_TOKENS / 4; q++) {
		const uint8_t *p = x.codes + q * quad;
		float *to = rows + 4 * q * stride, scale[4];
		for (uint32_t i = 0; i < 4; i++)
			scale[i] = half(x.params, 4 * q + i) * (fp8 ? 256 : 1);
		for (uint32_t c = 0; c < x.dim; c += 16, p += 4 * step) {
			__m128i codes[4];
			fetch(p, x.v, q, t->ahead);
			if (x.v)
				transpose(p, step, true, codes);
			else
				transpose(p, step, false, codes);
			for (uint32_t i = 0; i < 4; i++) {
				if (!fp8) {
					put_int8(to + i * stride + c, _mm_xor_si128(codes[i], flip), scale[i]);
					continue;
				}
				/* In an FP16 number's place a code is its value times 2^-8. */
				__m256i wide = _mm256_cvtepi8_epi16(codes[i]);
				__m256i sign = _mm256_and_si256(wide, _mm256_set1_epi16((short)0x8000));
				wide = _mm256_and_si256(_mm256_slli_epi16(wide, 7), _mm256_set1_epi16(0x3f80));
				put_halves(to + i * stride + c, _mm256_or_si256(wide, sign), scale[i]);
			}
		}
	}
}

static void decode_fp8(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	decode_bytes(shape, v, t, rows, stride, true);
}

static void decode_int8(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	decode_bytes(shape, v, t, rows, stride, false);
}

/* Groups of 32 channels: the low halves of 16 bytes are the first 16 of them. */
INLINE void decode_pairs(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride,
			 const bool residual)
{
	struct side x = side_of(shape, v, t);
	const uint32_t groups = codec_groups(x.v ? shape->d_v : shape->d_qk), used = codec_groups(x.dim);
	const size_t planes = residual ? 2 : 1, plane = x.v ? 64 : 256, step = x.v ? 16 : 4 * TILE_TOKENS;
	const __m128i low = _mm_set1_epi8(15);
	for (uint32_t q = 0; q < TILE_TOKENS / 4; q++) {
		const uint8_t *p = x.codes + (x.v ? q * groups * planes * 64 : 16 * (size_t)q);
		for (uint32_t g = 0; g < used; g++, p += planes * plane) {
			const uint8_t *params = x.params + 4 * TILE_TOKENS * (size_t)g;
			__m128i codes[4], rests[4] = {{0}};
			fetch(p, x.v, q, t->ahead);
			if (residual)
				fetch(p + plane, x.v, q, t->ahead);
			if (x.v)
				transpose(p, step, true, codes);
			else
				transpose(p, step, false, codes);
			if (residual && x.v)
				transpose(p + plane, step, true, rests);
			else if (residual)
				transpose(p + plane, step, false, rests);
			for (uint32_t i = 0; i < 4; i++) {
				float scale = half(params, 4 * q + i), zero = half(params, TILE_TOKENS + 4 * q + i);
				float fine = residual ? scale / 15 : 0, *to = rows + (4 * q + i) * stride + 32 * g;
				put_int4(to, _mm_and_si128(codes[i], low), _mm_and_si128(rests[i], low), zero, scale,
					 fine);
				put_int4(to + 16, _mm_and_si128(_mm_srli_epi16(codes[i], 4), low),
					 _mm_and_si128(_mm_srli_epi16(rests[i], 4), low), zero, scale, fine);
			}
		}
	}
}

static void decode_int4(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	decode_pairs(shape, v, t, rows, stride, false);
}

static void decode_int4_residual(const struct tile_shape *shape, bool v, const struct tile *t, float *rows,
				 size_t stride)
{
	decode_pairs(shape, v, t, rows, stride, true);
}

wide_decode *const DECODE_TABLE[IKV_FMT_COUNT] = {
    [IKV_FMT_FP16] = decode_fp16, [IKV_FMT_BF16] = decode_bf16, [IKV_FMT_FP8] = decode_fp8,
    [IKV_FMT_INT8] = decode_int8, [IKV_FMT_INT4] = decode_int4, [IKV_FMT_INT4_RESIDUAL] = decode_int4_residual,
};

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

/* zero + code · scale of sixteen channels */
INLINE void put_channels(float *to, __m128i codes, const float *zero, const float *scale)
{
	__m512 x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(codes));
	_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_loadu_ps(scale), _mm512_loadu_ps(zero)));
}

/* Sixteen channels of SPARSE; returns where the values of the next ones are. */
INLINE const uint8_t *put_spread(float *to, const uint8_t *map, const uint8_t *values)
{
	uint16_t there;
	memcpy(&there, map, sizeof there);
	__m512 x = _mm512_setzero_ps(); /* the zeroing form waits for its register: kernels_avx512_rows.c */
	__m512 packed = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)values));
	__asm__("vexpandps %1, %0%{%2%}" : "+v"(x) : "v"(packed), "Yk"((__mmask16)there));
	_mm512_storeu_ps(to, x);
	return values + 2 * (unsigned)__builtin_popcount(there);
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

INLINE void put_channels(float *to, __m128i codes, const float *zero, const float *scale)
{
	for (int i = 0; i < 2; i++, codes = _mm_srli_si128(codes, 8)) {
		__m256 x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(codes));
		x = _mm256_fmadd_ps(x, _mm256_loadu_ps(scale + 8 * i), _mm256_loadu_ps(zero + 8 * i));
		_mm256_storeu_ps(to + 8 * i, x);
	}
}

INLINE const uint8_t *put_spread(float *to, const uint8_t *map, const uint8_t *values)
{
	for (int i = 0; i < 2; i++) {
		__m128i x = _mm_loadu_si128((const __m128i *)values);
		x = _mm_shuffle_epi8(x, *(const __m128i *)codec_spread[map[i]]);
		_mm256_storeu_ps(to + 8 * i, _mm256_cvtph_ps(x));
		values += 2 * (unsigned)__builtin_popcount(map[i]);
	}
	return values;
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

static void decode_half(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	decode_halves(shape, v, t, rows, stride, false);
}

/* Eight channels of sixteen tokens to those of token i and, in the upper half, of token 8 + i. */
INLINE void transpose8(const uint8_t *p, __m256i *out)
{
	__m256i a[8], b[8];
	for (int i = 0; i < 8; i += 2) {
		__m256i x = _mm256_loadu_si256((const __m256i *)(p + (size_t)i * 2 * TILE_TOKENS));
		__m256i y = _mm256_loadu_si256((const __m256i *)(p + (size_t)(i + 1) * 2 * TILE_TOKENS));
		b[i] = _mm256_unpacklo_epi16(x, y);
		b[i + 1] = _mm256_unpackhi_epi16(x, y);
	}
	for (int i = 0; i < 2; i++) { /* channels 4 i to 4 i + 3: two tokens a register */
		a[4 * i] = _mm256_unpacklo_epi32(b[4 * i], b[4 * i + 2]);
		a[4 * i + 1] = _mm256_unpackhi_epi32(b[4 * i], b[4 * i + 2]);
		a[4 * i + 2] = _mm256_unpacklo_epi32(b[4 * i + 1], b[4 * i + 3]);
		a[4 * i + 3] = _mm256_unpackhi_epi32(b[4 * i + 1], b[4 * i + 3]);
	}
	for (int i = 0; i < 4; i++) {
		out[2 * i] = _mm256_unpacklo_epi64(a[i], a[4 + i]);
		out[2 * i + 1] = _mm256_unpackhi_epi64(a[i], a[4 + i]);
	}
}

static void decode_fp16(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	const size_t step = 2 * TILE_TOKENS;
	uint32_t c = 0;
	if (v) {
		decode_halves(shape, v, t, rows, stride, false);
		return;
	}
	for (; c + 16 <= shape->d_qk; c += 16) {
		const uint8_t *p = t->k + c * step;
		__m256i low[8], high[8];
		for (size_t i = 0; i < 16; i += 2)
			_mm_prefetch((const char *)p + i * step + t->ahead, _MM_HINT_T0);
		transpose8(p, low);
		transpose8(p + 8 * step, high);
		for (uint32_t i = 0; i < 8; i++) {
			put_halves(rows + i * stride + c, _mm256_permute2x128_si256(low[i], high[i], 0x20), 1);
			put_halves(rows + (8 + i) * stride + c, _mm256_permute2x128_si256(low[i], high[i], 0x31), 1);
		}
	}
	for (; c < shape->d_qk; c++)
		for (uint32_t i = 0; i < TILE_TOKENS; i++)
			rows[i * stride + c] = half(t->k + c * step, i);
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

/* Codes of tokens 4 q to 4 q + 3 of a group of 32 channels, as two runs of 16: of K of KIVI, whose group is at p. */
INLINE void take_k(const int bits, const uint8_t *p, uint32_t q, __m128i (*codes)[2])
{
	const __m128i mask = _mm_set1_epi8((char)((1 << bits) - 1));
	const size_t step = 4 * TILE_TOKENS;
	__m128i a[4], b[4];
	p += 16 * q;
	if (bits == 2) {
		__m128i x = _mm_loadu_si128((const __m128i *)p), y = _mm_loadu_si128((const __m128i *)(p + step));
		for (int i = 0; i < 4; i += 2) { /* bits 2 m of byte i: channel 8 m + i */
			__m128i two = i ? _mm_unpackhi_epi32(x, y) : _mm_unpacklo_epi32(x, y);
			__m128i next = _mm_srli_epi16(two, 2);
			__m128i low = _mm_unpacklo_epi64(two, next), high = _mm_unpackhi_epi64(two, next);
			codes[i][0] = _mm_and_si128(low, mask);
			codes[i][1] = _mm_and_si128(_mm_srli_epi16(low, 4), mask);
			codes[i + 1][0] = _mm_and_si128(high, mask);
			codes[i + 1][1] = _mm_and_si128(_mm_srli_epi16(high, 4), mask);
		}
		return;
	}
	transpose(p, step, false, a);
	if (bits == 8)
		transpose(p + 4 * step, step, false, b);
	for (int i = 0; i < 4; i++) {
		codes[i][0] = _mm_and_si128(a[i], mask);
		codes[i][1] = bits == 8 ? b[i] : _mm_and_si128(_mm_srli_epi16(a[i], 4), mask);
	}
}

/* The same of V, whose codes of these tokens (KIVI2: and of four others) are at p. */
INLINE void take_v(const int bits, const uint8_t *p, uint32_t q, __m128i (*codes)[2])
{
	const __m128i mask = _mm_set1_epi8((char)((1 << bits) - 1)), flip = _mm_set1_epi8((char)0x80);
	__m128i a[4], b[4];
	transpose(p, 16, true, a);
	if (bits == 8)
		transpose(p + 64, 16, true, b);
	for (int i = 0; i < 4; i++) {
		if (bits == 8) {
			codes[i][0] = _mm_xor_si128(a[i], flip);
			codes[i][1] = _mm_xor_si128(b[i], flip);
			continue;
		}
		__m128i x = bits == 2 && q % 2 ? _mm_srli_epi16(a[i], 4) : a[i];
		codes[i][0] = _mm_and_si128(x, mask);
		codes[i][1] = _mm_and_si128(_mm_srli_epi16(x, bits), mask);
	}
}

/* K of KIVI: parameters of channels. */
INLINE void decode_kivi_k(const int bits, const struct tile_shape *shape, const struct tile *t, uint32_t dim,
			  float *rows, size_t stride)
{
	const size_t size = 4 * TILE_TOKENS * (size_t)bits;
	for (uint32_t g = 0; g < codec_groups(dim); g++) {
		const uint8_t *p = t->k + g * size, *scales = t->group + 64 * g, *zeros = scales + shape->k_zeros;
		float scale[CODEC_GROUP], zero[CODEC_GROUP];
		for (int i = 0; i < CODEC_GROUP; i += 16) {
			put_halves(scale + i, _mm256_loadu_si256((const __m256i *)(scales + 2 * i)), 1);
			put_halves(zero + i, _mm256_loadu_si256((const __m256i *)(zeros + 2 * i)), 1);
		}
		for (size_t i = 0; i < size; i += 64)
			_mm_prefetch((const char *)p + i + t->ahead, _MM_HINT_T0);
		_mm_prefetch((const char *)scales + t->ahead, _MM_HINT_T0);
		_mm_prefetch((const char *)zeros + t->ahead, _MM_HINT_T0);
		for (uint32_t q = 0; q < TILE_TOKENS / 4; q++) {
			__m128i codes[4][2];
			take_k(bits, p, q, codes);
			for (uint32_t i = 0; i < 4; i++) {
				float *to = rows + (4 * q + i) * stride + CODEC_GROUP * g;
				put_channels(to, codes[i][0], zero, scale);
				put_channels(to + 16, codes[i][1], zero + 16, scale + 16);
			}
		}
	}
}

/* V of KIVI: parameters of a token's groups. */
INLINE void decode_kivi_v(const int bits, const struct tile_shape *shape, const struct tile *t, float *rows,
			  size_t stride)
{
	const uint32_t groups = codec_groups(shape->d_v);
	const size_t size = bits == 8 ? 128 : 64;
	for (uint32_t q = 0; q < TILE_TOKENS / 4; q++) {
		const uint8_t *p = t->v + (bits == 2 ? q / 2 : q) * groups * size;
		for (uint32_t g = 0; g < groups; g++, p += size) {
			const uint8_t *params = t->k + shape->v_params_at + 4 * TILE_TOKENS * (size_t)g;
			__m128i codes[4][2];
			take_v(bits, p, q, codes);
			for (size_t i = 0; i < size && !(bits == 2 && q % 2); i += 64)
				_mm_prefetch((const char *)p + i + t->ahead, _MM_HINT_T0);
			if (q == 0)
				_mm_prefetch((const char *)params + t->ahead, _MM_HINT_T0);
			for (uint32_t i = 0; i < 4; i++) {
				float scale = half(params, 4 * q + i), zero = half(params, TILE_TOKENS + 4 * q + i);
				float *to = rows + (4 * q + i) * stride + CODEC_GROUP * g;
				put_int4(to, codes[i][0], codes[i][0], zero, scale, 0);
				put_int4(to + 16, codes[i][1], codes[i][1], zero, scale, 0);
			}
		}
	}
}

#define DECODE_KIVI(bits)                                                                                            \
	static void decode_kivi##bits(const struct tile_shape *shape, bool v, const struct tile *t, float *rows,     \
				      size_t stride)                                                                 \
	{                                                                                                            \
		if (v && !shape->alias)                                                                              \
			decode_kivi_v(bits, shape, t, rows, stride);                                                 \
		else                                                                                                 \
			decode_kivi_k(bits, shape, t, v ? shape->d_v : shape->d_qk, rows, stride);                   \
	}
DECODE_KIVI(8)
DECODE_KIVI(4)
DECODE_KIVI(2)

static void decode_sparse(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride)
{
	struct side x = side_of(shape, v, t);
	const uint32_t stored = x.v ? shape->d_v : shape->d_qk;
	const size_t row_bytes = 2 * (size_t)codec_sparse_kept(stored), map_bytes = tile_padded(stored) / 8;
	for (uint32_t i = 0; i < t->rows; i++, rows += stride) {
		const uint8_t *values = x.codes + i * row_bytes, *map = x.params + i * map_bytes;
		_mm_prefetch((const char *)values + t->ahead, _MM_HINT_T0);
		_mm_prefetch((const char *)map + t->ahead, _MM_HINT_T0);
		for (uint32_t c = 0; c < x.dim; c += 16)
			values = put_spread(rows + c, map + c / 8, values);
	}
}

wide_decode *const DECODE_TABLE[TILE_FORMS] = {
    [TILE_HALF] = decode_half,
    [IKV_FMT_FP16] = decode_fp16,
    [IKV_FMT_BF16] = decode_bf16,
    [IKV_FMT_FP8] = decode_fp8,
    [IKV_FMT_INT8] = decode_int8,
    [IKV_FMT_INT4] = decode_int4,
    [IKV_FMT_INT4_RESIDUAL] = decode_int4_residual,
    [IKV_FMT_KIVI8] = decode_kivi8,
    [IKV_FMT_KIVI4] = decode_kivi4,
    [IKV_FMT_KIVI2] = decode_kivi2,
    [IKV_FMT_SPARSE] = decode_sparse,
};

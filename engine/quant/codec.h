/* Stored forms of K or V of one KV head in a page; docs/formats.md gives the layouts.
 *
 *   FP16           uint16 [tokens][dim]
 *   FP8, INT8      uint16 scale [tokens], uint8 code [tokens][dim]
 *   INT4           uint16 {scale, zero} [tokens][groups], uint8 pair [tokens][⌈dim/2⌉]
 *   INT4_RESIDUAL  the same, then uint8 pair of the remainder [tokens][⌈dim/2⌉]
 *   BF16           uint16 [tokens][dim]
 *   KIVI8, 4, 2    K: uint16 scale [⌈tokens/32⌉][dim], zero [⌈tokens/32⌉][dim]; V: uint16 {scale, zero}
 * [tokens][groups]; then codes [tokens][bytes of ⌈dim · bits/8⌉] SPARSE         uint8 bitmap [tokens][⌈dim/8⌉],
 * uint16 value [tokens][⌈dim/4⌉] */
#ifndef QUANT_CODEC_H
#define QUANT_CODEC_H

#include <stdbool.h>
#include <string.h>
#include "intentkv/format.h"
#include "quant/half.h"

#define CODEC_GROUP 32 /* channels of a group of INT4 or of V of KIVI, tokens of one of K of KIVI */

struct codec_rows {
	const uint8_t *data;
	uint32_t tokens; /* rows stored: fixes where the codes begin */
	uint32_t dim;    /* values a row */
	bool v;          /* V's form; matters to KIVI */
};

static inline uint32_t codec_groups(uint32_t dim)
{
	return dim / CODEC_GROUP + (dim % CODEC_GROUP != 0);
}

static inline uint32_t codec_pair_bytes(uint32_t dim)
{
	return dim / 2 + dim % 2;
}

static inline const uint8_t *codec_codes(const struct codec_rows *r)
{
	return r->data + 2 * (size_t)r->tokens;
}

static inline const uint8_t *codec_pairs(const struct codec_rows *r)
{
	return r->data + 4 * (size_t)r->tokens * codec_groups(r->dim);
}

static inline const uint8_t *codec_remainders(const struct codec_rows *r)
{
	return codec_pairs(r) + (size_t)r->tokens * codec_pair_bytes(r->dim);
}

/* Half i of an array that need not be aligned. */
static inline float codec_half(const uint8_t *array, size_t i)
{
	uint16_t h;
	memcpy(&h, array + 2 * i, sizeof h);
	return half_to_float(h);
}

static inline float codec_bf16(const uint8_t *array, size_t i)
{
	uint8_t bytes[4] = {0, 0, array[2 * i], array[2 * i + 1]}; /* stored numbers are little-endian */
	float x;
	memcpy(&x, bytes, sizeof x);
	return x;
}

/* Bits of a KIVI code, 0 for other formats. */
static inline unsigned codec_kivi_bits(enum ikv_format f)
{
	return f == IKV_FMT_KIVI8 ? 8 : f == IKV_FMT_KIVI4 ? 4 : f == IKV_FMT_KIVI2 ? 2 : 0;
}

/* Bytes of `dim` codes of a row; of its first c ones where c is a multiple of 32. */
static inline size_t codec_packed_bytes(uint32_t dim, unsigned bits)
{
	return ((size_t)dim * bits + 7) / 8;
}

/* Byte of a row of codes that holds channel c, and its shift: of a group's bytes, the lowest bits are its first
 * channels, the next bits those that follow. */
static inline size_t codec_place(uint32_t dim, unsigned bits, uint32_t c, unsigned *shift)
{
	uint32_t base = c - c % CODEC_GROUP, in = c - base;
	uint32_t width = dim - base < CODEC_GROUP ? dim - base : CODEC_GROUP;
	uint32_t bytes = (uint32_t)codec_packed_bytes(width, bits);
	*shift = in / bytes * bits;
	return codec_packed_bytes(base, bits) + in % bytes;
}

static inline size_t codec_kivi_params(bool v, uint32_t tokens, uint32_t dim)
{
	return 4 * (v ? (size_t)tokens * codec_groups(dim) : (size_t)codec_groups(tokens) * dim);
}

/* Where the scales and zeros of the group of K that token t belongs to begin. */
static inline size_t codec_kivi_scale(uint32_t dim, uint32_t t)
{
	return 2 * (size_t)(t / CODEC_GROUP) * dim;
}

static inline size_t codec_kivi_zero(uint32_t tokens, uint32_t dim, uint32_t t)
{
	return 2 * (size_t)(codec_groups(tokens) + t / CODEC_GROUP) * dim;
}

static inline uint32_t codec_sparse_kept(uint32_t dim)
{
	return dim / 4 + (dim % 4 != 0);
}

static inline uint32_t codec_sparse_map(uint32_t dim)
{
	return dim / 8 + (dim % 8 != 0);
}

/* Byte of a row's pairs that holds channel c, and its shift: low nibbles are the group's first half. */
static inline size_t codec_nibble(uint32_t dim, uint32_t c, unsigned *shift)
{
	uint32_t base = c - c % CODEC_GROUP, in = c - base;
	uint32_t width = dim - base < CODEC_GROUP ? dim - base : CODEC_GROUP;
	uint32_t half = width / 2 + width % 2;
	*shift = in >= half ? 4 : 0;
	return base / 2 + (in >= half ? in - half : in);
}

/* E4M3 to float. */
static inline float codec_e4m3(uint8_t code)
{
	/* Moved into an FP16 number's place the code is its value times 2^-8: the biases differ by 8. */
	return half_to_float((uint16_t)((code & 0x80) << 8 | (code & 0x7f) << 7)) * 256;
}

/* Channels [c, c + n) of row t as floats. */
void codec_read(enum ikv_format f, const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);

/* An error naming the first value that is NaN or infinite. */
int codec_finite(const uint16_t *rows, uint32_t tokens, uint32_t dim, const char *what, struct ikv_err *err);

/* The plain encoders write whole rows; input is finite. */
void codec_encode_fp8(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);
void codec_encode_int8(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);
void codec_encode_int4(const uint16_t *rows, uint32_t tokens, uint32_t dim, bool residual, uint8_t *stored);
void codec_encode_bf16(const uint16_t *values, size_t n, uint8_t *stored);
void codec_encode_kivi(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored);
void codec_encode_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);
/* One code, one group, one row of them. */
void codec_put_sparse(const uint16_t *row, uint32_t dim, uint16_t limit, uint8_t *map, uint8_t *values);
/* Shuffles of bytes, by eight bits of a bitmap: values in a row to the channels of bits that are set, 0 to the
 * others; and back, what follows the last one being anything. */
extern const uint8_t codec_spread[256][16], codec_gather[256][16];
uint16_t codec_code_bf16(uint16_t x);
void codec_encode_kivi_k(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint32_t c, uint32_t n, unsigned bits,
			 uint8_t *scales, uint8_t *zeros, uint8_t *codes);
void codec_encode_kivi_v(const uint16_t *x, uint32_t width, unsigned bits, uint8_t *params, uint8_t *codes);
uint8_t codec_code_fp8(uint16_t x, float scale);
uint8_t codec_code_int8(uint16_t x, float scale);
void codec_encode_group(const uint16_t *x, uint32_t width, uint8_t *params, uint8_t *pairs, uint8_t *remainders);
void codec_read_fp8(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);
void codec_read_int8(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);
void codec_read_int4(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, bool residual, float *out);
void codec_read_bf16(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);
void codec_read_kivi(const struct codec_rows *r, unsigned bits, uint32_t t, uint32_t c, uint32_t n, float *out);
void codec_read_sparse(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);

/* Smallest FP16 number not below x; 0 <= x <= 65504. Scales are rounded up, so that no code clips. */
uint16_t codec_half_up(float x);
/* Nearest FP16 number, saturating at ±65504. */
uint16_t codec_half_saturated(float x);

#endif

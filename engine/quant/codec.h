/* Stored forms of K or V of one KV head in a page; docs/formats.md gives the layouts.
 *
 *   FP16           uint16 [tokens][dim]
 *   FP8, INT8      uint16 scale [tokens], uint8 code [tokens][dim]
 *   INT4           uint16 {scale, zero} [tokens][groups], uint8 pair [tokens][⌈dim/2⌉]
 *   INT4_RESIDUAL  the same, then uint8 pair of the remainder [tokens][⌈dim/2⌉] */
#ifndef QUANT_CODEC_H
#define QUANT_CODEC_H

#include <stdbool.h>
#include <string.h>
#include "intentkv/format.h"
#include "quant/half.h"

#define CODEC_GROUP 32 /* channels of an INT4 group */

struct codec_rows {
	const uint8_t *data;
	uint32_t tokens; /* rows stored: fixes where the codes begin */
	uint32_t dim;    /* values a row */
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
/* One code, and one group, of them. */
uint8_t codec_code_fp8(uint16_t x, float scale);
uint8_t codec_code_int8(uint16_t x, float scale);
void codec_encode_group(const uint16_t *x, uint32_t width, uint8_t *params, uint8_t *pairs, uint8_t *remainders);
void codec_read_fp8(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);
void codec_read_int8(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out);
void codec_read_int4(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, bool residual, float *out);

/* Smallest FP16 number not below x; 0 <= x <= 65504. Scales are rounded up, so that no code clips. */
uint16_t codec_half_up(float x);
/* Nearest FP16 number, saturating at ±65504. */
uint16_t codec_half_saturated(float x);

#endif

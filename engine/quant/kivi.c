/* KIVI (arXiv 2402.02750): asymmetric codes of 2, 4 or 8 bits, K per channel over groups of 32 tokens, V per token
 * over groups of 32 channels. value = zero + scale · code; zero is the group's minimum, itself an FP16 number, scale
 * at least (max - min)/(2^bits - 1). Groups begin with the page; the last one may be short. */
#include <math.h>
#include "quant/codec.h"

struct range {
	uint16_t zero;
	float low, high;
};

static void widen(struct range *r, uint16_t h)
{
	float v = half_to_float(h);
	if (v < r->low) {
		r->low = v;
		r->zero = h;
	}
	r->high = v > r->high ? v : r->high;
}

/* Parameters of a group; returns the scale to divide by. */
static float fix(const struct range *r, unsigned bits, uint8_t *scale_to, uint8_t *zero_to)
{
	uint16_t scale = codec_half_up((r->high - r->low) / (float)((1 << bits) - 1));
	memcpy(scale_to, &scale, sizeof scale);
	memcpy(zero_to, &r->zero, sizeof r->zero);
	return scale ? half_to_float(scale) : 1;
}

static void put_code(uint16_t h, float low, float scale, unsigned bits, uint8_t *byte, unsigned shift)
{
	long n = lrintf((half_to_float(h) - low) / scale), most = (1 << bits) - 1;
	*byte |= (uint8_t)((unsigned)(n < 0 ? 0 : n > most ? most : n) << shift);
}

/* Channels [c, c + n), n <= 32, of the tokens of one group of K. */
void codec_encode_kivi_k(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint32_t c, uint32_t n, unsigned bits,
			 uint8_t *scales, uint8_t *zeros, uint8_t *codes)
{
	struct range r[CODEC_GROUP];
	float scale[CODEC_GROUP];
	size_t row_bytes = codec_packed_bytes(dim, bits);
	for (uint32_t i = 0; i < n; i++) {
		float v = half_to_float(rows[c + i]);
		r[i] = (struct range){rows[c + i], v, v};
	}
	for (uint32_t t = 1; t < tokens; t++)
		for (uint32_t i = 0; i < n; i++)
			widen(&r[i], rows[(size_t)t * dim + c + i]);
	for (uint32_t i = 0; i < n; i++)
		scale[i] = fix(&r[i], bits, scales + 2 * (c + i), zeros + 2 * (c + i));
	for (uint32_t t = 0; t < tokens; t++) {
		uint8_t *row = codes + t * row_bytes;
		memset(row + codec_packed_bytes(c, bits), 0, codec_packed_bytes(n, bits));
		for (uint32_t i = 0; i < n; i++) {
			unsigned shift;
			size_t at = codec_place(dim, bits, c + i, &shift);
			put_code(rows[(size_t)t * dim + c + i], r[i].low, scale[i], bits, row + at, shift);
		}
	}
}

/* A group of `width` channels of one token of V. */
void codec_encode_kivi_v(const uint16_t *x, uint32_t width, unsigned bits, uint8_t *params, uint8_t *codes)
{
	float first = half_to_float(x[0]);
	struct range r = {x[0], first, first};
	for (uint32_t i = 1; i < width; i++)
		widen(&r, x[i]);
	float scale = fix(&r, bits, params, params + 2);
	memset(codes, 0, codec_packed_bytes(width, bits));
	for (uint32_t i = 0; i < width; i++) {
		unsigned shift;
		size_t at = codec_place(width, bits, i, &shift);
		put_code(x[i], r.low, scale, bits, codes + at, shift);
	}
}

void codec_encode_kivi(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored)
{
	size_t row_bytes = codec_packed_bytes(dim, bits);
	uint8_t *codes = stored + codec_kivi_params(v, tokens, dim);
	for (uint32_t t = 0; v && t < tokens; t++) {
		for (uint32_t c = 0; c < dim; c += CODEC_GROUP) {
			uint32_t width = dim - c < CODEC_GROUP ? dim - c : CODEC_GROUP;
			codec_encode_kivi_v(rows + (size_t)t * dim + c, width, bits,
					    stored + 4 * ((size_t)t * codec_groups(dim) + c / CODEC_GROUP),
					    codes + t * row_bytes + codec_packed_bytes(c, bits));
		}
	}
	for (uint32_t t = 0; !v && t < tokens; t += CODEC_GROUP) {
		uint32_t n = tokens - t < CODEC_GROUP ? tokens - t : CODEC_GROUP;
		uint8_t *scales = stored + codec_kivi_scale(dim, t),
			*zeros = stored + codec_kivi_zero(tokens, dim, t);
		for (uint32_t c = 0; c < dim; c += CODEC_GROUP)
			codec_encode_kivi_k(rows + (size_t)t * dim, n, dim, c,
					    dim - c < CODEC_GROUP ? dim - c : CODEC_GROUP, bits, scales, zeros,
					    codes + t * row_bytes);
	}
}

void codec_read_kivi(const struct codec_rows *r, unsigned bits, uint32_t t, uint32_t c, uint32_t n, float *out)
{
	const uint8_t *codes = r->data + codec_kivi_params(r->v, r->tokens, r->dim);
	const uint8_t *row = codes + t * codec_packed_bytes(r->dim, bits);
	for (uint32_t i = c; i < c + n; i++) {
		const uint8_t *scale = r->data + codec_kivi_scale(r->dim, t) + 2 * (size_t)i, *zero;
		zero = r->data + codec_kivi_zero(r->tokens, r->dim, t) + 2 * (size_t)i;
		if (r->v) {
			scale = r->data + 4 * ((size_t)t * codec_groups(r->dim) + i / CODEC_GROUP);
			zero = scale + 2;
		}
		unsigned shift;
		size_t at = codec_place(r->dim, bits, i, &shift);
		unsigned code = row[at] >> shift & ((1u << bits) - 1);
		out[i - c] = codec_half(zero, 0) + (float)code * codec_half(scale, 0);
	}
}

/* INT4: zero + scale · code, code 0..15, groups of 32 channels of a token; zero is the group's minimum, itself an
 * FP16 number, scale at least (max - min)/15. INT4_RESIDUAL adds (code2 - 7.5) · scale/15: sixteen levels spread
 * evenly over the rounding interval ±scale/2. */
#include <math.h>
#include "quant/codec.h"

static unsigned code_of(float x)
{
	long n = lrintf(x);
	return n < 0 ? 0 : n > 15 ? 15 : (unsigned)n;
}

void codec_encode_group(const uint16_t *x, uint32_t width, uint8_t *params, uint8_t *pairs, uint8_t *remainders)
{
	uint16_t zero_half = x[0];
	float low = half_to_float(x[0]), high = low;
	for (uint32_t c = 1; c < width; c++) {
		float v = half_to_float(x[c]);
		if (v < low) {
			low = v;
			zero_half = x[c];
		}
		high = fmaxf(high, v);
	}
	uint16_t scale_half = codec_half_up((high - low) / 15);
	float scale = scale_half ? half_to_float(scale_half) : 1;
	memcpy(params, &scale_half, 2);
	memcpy(params + 2, &zero_half, 2);
	uint32_t half = width / 2 + width % 2;
	memset(pairs, 0, half);
	if (remainders)
		memset(remainders, 0, half);
	for (uint32_t c = 0; c < width; c++) {
		float v = half_to_float(x[c]) - low;
		unsigned code = code_of(v / scale), shift = c < half ? 0 : 4;
		uint32_t byte = c < half ? c : c - half;
		pairs[byte] |= (uint8_t)(code << shift);
		if (remainders) {
			float r = v - (float)code * scale;
			remainders[byte] |= (uint8_t)(code_of(r / scale * 15 + 7.5f) << shift);
		}
	}
}

void codec_encode_int4(const uint16_t *rows, uint32_t tokens, uint32_t dim, bool residual, uint8_t *stored)
{
	uint32_t groups = codec_groups(dim), row_bytes = codec_pair_bytes(dim);
	uint8_t *pairs = stored + 4 * (size_t)tokens * groups;
	uint8_t *remainders = residual ? pairs + (size_t)tokens * row_bytes : NULL;
	for (uint32_t t = 0; t < tokens; t++) {
		for (uint32_t g = 0; g < groups; g++) {
			uint32_t c = g * CODEC_GROUP, width = dim - c < CODEC_GROUP ? dim - c : CODEC_GROUP;
			size_t at = (size_t)t * row_bytes + c / 2;
			codec_encode_group(rows + (size_t)t * dim + c, width, stored + 4 * ((size_t)t * groups + g),
					   pairs + at, remainders ? remainders + at : NULL);
		}
	}
}

void codec_read_int4(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, bool residual, float *out)
{
	size_t row = (size_t)t * codec_pair_bytes(r->dim), groups = codec_groups(r->dim);
	const uint8_t *pairs = codec_pairs(r) + row;
	const uint8_t *remainders = residual ? codec_remainders(r) + row : NULL;
	for (uint32_t i = 0; i < n; i++) {
		size_t param = 2 * ((size_t)t * groups + (c + i) / CODEC_GROUP);
		float scale = codec_half(r->data, param), zero = codec_half(r->data, param + 1);
		unsigned shift;
		size_t byte = codec_nibble(r->dim, c + i, &shift);
		out[i] = zero + (float)(pairs[byte] >> shift & 15) * scale;
		if (residual)
			out[i] += ((float)(remainders[byte] >> shift & 15) - 7.5f) * (scale / 15);
	}
}

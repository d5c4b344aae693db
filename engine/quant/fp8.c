/* FP8 E4M3 (finite only: bias 7, largest 448, 0x7f is NaN and never written), one scale a token, at least
 * amax/448. */
#include <math.h>
#include "quant/codec.h"

/* 0 <= x <= 448, to nearest, ties to even. */
static uint8_t e4m3(float x)
{
	uint32_t u;
	if (x < 0x1p-6f) /* subnormal: multiples of 2^-9; 8 of them are the smallest normal number */
		return (uint8_t)lrintf(x * 0x1p9f);
	memcpy(&u, &x, sizeof u);
	u += 0x7ffff + (u >> 20 & 1);
	u = (u >> 20) - (120u << 3);
	return (uint8_t)(u > 0x7e ? 0x7e : u);
}

uint8_t codec_code_fp8(uint16_t h, float scale)
{
	float x = half_to_float(h) / scale;
	return (uint8_t)(e4m3(fabsf(x)) | (signbit(x) ? 0x80 : 0));
}

void codec_encode_fp8(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	uint8_t *codes = stored + 2 * (size_t)tokens;
	for (uint32_t t = 0; t < tokens; t++) {
		const uint16_t *row = rows + (size_t)t * dim;
		float amax = 0;
		for (uint32_t c = 0; c < dim; c++)
			amax = fmaxf(amax, fabsf(half_to_float(row[c])));
		uint16_t h = codec_half_up(amax / 448);
		float scale = h ? half_to_float(h) : 1;
		memcpy(stored + 2 * (size_t)t, &h, sizeof h);
		for (uint32_t c = 0; c < dim; c++)
			codes[(size_t)t * dim + c] = codec_code_fp8(row[c], scale);
	}
}

void codec_read_fp8(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out)
{
	const uint8_t *codes = codec_codes(r) + (size_t)t * r->dim + c;
	float scale = codec_half(r->data, t);
	for (uint32_t i = 0; i < n; i++)
		out[i] = codec_e4m3(codes[i]) * scale;
}

/* INT8: symmetric codes -127..127, one scale a token, at least amax/127. */
#include <math.h>
#include "quant/codec.h"

uint8_t codec_code_int8(uint16_t x, float scale)
{
	return (uint8_t)lrintf(half_to_float(x) / scale);
}

void codec_encode_int8(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored)
{
	uint8_t *codes = stored + 2 * (size_t)tokens;
	for (uint32_t t = 0; t < tokens; t++) {
		const uint16_t *row = rows + (size_t)t * dim;
		float amax = 0;
		for (uint32_t c = 0; c < dim; c++)
			amax = fmaxf(amax, fabsf(half_to_float(row[c])));
		uint16_t h = codec_half_up(amax / 127);
		float scale = h ? half_to_float(h) : 1;
		memcpy(stored + 2 * (size_t)t, &h, sizeof h);
		for (uint32_t c = 0; c < dim; c++)
			codes[(size_t)t * dim + c] = codec_code_int8(row[c], scale);
	}
}

void codec_read_int8(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out)
{
	const uint8_t *codes = codec_codes(r) + (size_t)t * r->dim + c;
	float scale = codec_half(r->data, t);
	for (uint32_t i = 0; i < n; i++)
		out[i] = (float)(int8_t)codes[i] * scale;
}

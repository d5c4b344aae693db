/* BF16: the upper half of a float, rounded to nearest even. FP16 numbers, subnormal ones too, are normal there, so
 * only the mantissa is shortened: 8 bits instead of 11. */
#include "quant/codec.h"

uint16_t codec_code_bf16(uint16_t h)
{
	float x = half_to_float(h);
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

void codec_encode_bf16(const uint16_t *values, size_t n, uint8_t *stored)
{
	for (size_t i = 0; i < n; i++) {
		uint16_t code = codec_code_bf16(values[i]);
		memcpy(stored + 2 * i, &code, sizeof code);
	}
}

void codec_read_bf16(const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out)
{
	size_t at = (size_t)t * r->dim + c;
	for (uint32_t i = 0; i < n; i++)
		out[i] = codec_bf16(r->data, at + i);
}

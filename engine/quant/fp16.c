/* IEEE binary16 by integer arithmetic: the same bits with and without F16C. */
#include "quant/codec.h"

static uint32_t float_bits(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	return u;
}

static float bits_float(uint32_t u)
{
	float x;
	memcpy(&x, &u, sizeof x);
	return x;
}

uint16_t ikv_fp16_from_float(float x)
{
	uint32_t u = float_bits(x), sign = u >> 16 & 0x8000, m = u & 0x7fffffff;
	if (m > 0x7f800000) /* NaN: quiet, top payload bits kept */
		return (uint16_t)(sign | 0x7e00 | (m >> 13 & 0x3ff));
	if (m >= 0x477ff000) /* 65520 and more round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (m < 0x38800000) { /* below 2^-14: a multiple of 2^-24; the addition rounds to even */
		uint32_t n = float_bits(bits_float(m) + 0.5f) - 0x3f000000;
		return (uint16_t)(sign | n);
	}
	m += 0xfff + (m >> 13 & 1);
	return (uint16_t)(sign | (m - 0x38000000) >> 13);
}

float ikv_fp16_to_float(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, m = h & 0x7fff;
	if (m >= 0x7c00)
		return bits_float(sign | 0x7f800000 | (m & 0x3ff) << 13);
	/* Exponent and mantissa moved into place are the value times 2^-112, subnormal or not. */
	return bits_float(sign | float_bits(bits_float(m << 13) * 0x1p112f));
}

uint16_t codec_half_up(float x)
{
	uint16_t h = ikv_fp16_from_float(x);
	return ikv_fp16_to_float(h) < x ? (uint16_t)(h + 1) : h;
}

uint16_t codec_half_saturated(float x)
{
	return ikv_fp16_from_float(x > 65504 ? 65504 : x < -65504 ? -65504 : x);
}

/* Inline FP16 to float for finite numbers. */
#ifndef QUANT_HALF_H
#define QUANT_HALF_H

#include <stdint.h>
#include <string.h>

static inline float half_to_float(uint16_t h)
{
	/* Exponent and mantissa moved into place are the value times 2^-112, subnormal or not. */
	uint32_t u = (uint32_t)(h & 0x7fff) << 13;
	float x;
	memcpy(&x, &u, sizeof x);
	x *= 0x1p112f;
	memcpy(&u, &x, sizeof u);
	u |= (uint32_t)(h & 0x8000) << 16;
	memcpy(&x, &u, sizeof x);
	return x;
}

#endif

/* Encoders of one ISA; all give the same bits. */
#ifndef QUANT_ENCODE_H
#define QUANT_ENCODE_H

#include "quant/codec.h"

struct encode_kernels { /* whole rows; input is finite but to the first */
	bool (*finite)(const uint16_t *values, size_t n);
	void (*fp8)(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);
	void (*int8)(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);
	void (*int4)(const uint16_t *rows, uint32_t tokens, uint32_t dim, bool residual, uint8_t *stored);
	void (*bf16)(const uint16_t *values, size_t n, uint8_t *stored);
	void (*kivi)(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored);
	void (*sparse)(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);
};
extern const struct encode_kernels encode_scalar, encode_avx2, encode_avx512;

/* Those of the ISA chosen by ikv_isa_select. */
const struct encode_kernels *encode_table(void);

#endif

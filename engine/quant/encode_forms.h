/* Vector encoders of BF16, KIVI and SPARSE, for the tables of encode_avx2.c and encode_avx512.c. */
#ifndef QUANT_ENCODE_FORMS_H
#define QUANT_ENCODE_FORMS_H

#include "quant/encode.h"

void encode_avx512_bf16(const uint16_t *values, size_t n, uint8_t *stored);
void encode_avx512_kivi(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored);
void encode_avx512_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);

void encode_avx2_bf16(const uint16_t *values, size_t n, uint8_t *stored);
void encode_avx2_kivi(const uint16_t *rows, uint32_t tokens, uint32_t dim, unsigned bits, bool v, uint8_t *stored);
void encode_avx2_sparse(const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *stored);

#endif

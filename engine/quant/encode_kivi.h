/* The walk of a KIVI encoder over the groups of a block; each ISA has its own groups. */
#ifndef QUANT_ENCODE_KIVI_H
#define QUANT_ENCODE_KIVI_H

#include "quant/encode.h"

/* Whole groups: CODEC_GROUP channels of `tokens` K rows, channel by channel; CODEC_GROUP channels of one V row. Always
 * inlined, with `bits` constant. */
typedef void kivi_group_k(const int bits, const uint16_t *rows, uint32_t tokens, uint32_t dim, uint8_t *scales,
			  uint8_t *zeros, uint8_t *codes, size_t row_bytes);
typedef void kivi_group_v(const int bits, const uint16_t *x, uint8_t *params, uint8_t *codes);

static inline __attribute__((always_inline)) void encode_kivi_bits(const int bits, kivi_group_k *group_k,
								   kivi_group_v *group_v, const uint16_t *rows,
								   uint32_t tokens, uint32_t dim, bool v,
								   uint8_t *stored)
{
	const size_t row_bytes = codec_packed_bytes(dim, bits);
	uint8_t *codes = stored + codec_kivi_params(v, tokens, dim);
	for (uint32_t t = 0; v && t < tokens; t++) {
		for (uint32_t c = 0; c < dim; c += CODEC_GROUP) {
			const uint16_t *x = rows + (size_t)t * dim + c;
			uint8_t *params = stored + 4 * ((size_t)t * codec_groups(dim) + c / CODEC_GROUP);
			uint8_t *to = codes + t * row_bytes + codec_packed_bytes(c, bits);
			if (dim - c >= CODEC_GROUP)
				group_v(bits, x, params, to);
			else
				codec_encode_kivi_v(x, dim - c, bits, params, to);
		}
	}
	for (uint32_t t = 0; !v && t < tokens; t += CODEC_GROUP) {
		uint32_t n = tokens - t < CODEC_GROUP ? tokens - t : CODEC_GROUP;
		uint8_t *scales = stored + codec_kivi_scale(dim, t),
			*zeros = stored + codec_kivi_zero(tokens, dim, t);
		for (uint32_t c = 0; c < dim; c += CODEC_GROUP) {
			const uint16_t *x = rows + (size_t)t * dim;
			if (dim - c >= CODEC_GROUP)
				group_k(bits, x + c, n, dim, scales + 2 * c, zeros + 2 * c,
					codes + t * row_bytes + codec_packed_bytes(c, bits), row_bytes);
			else
				codec_encode_kivi_k(x, n, dim, c, dim - c, bits, scales, zeros,
						    codes + t * row_bytes);
		}
	}
}

static inline __attribute__((always_inline)) void encode_kivi(unsigned bits, kivi_group_k *group_k,
							      kivi_group_v *group_v, const uint16_t *rows,
							      uint32_t tokens, uint32_t dim, bool v, uint8_t *stored)
{
	if (bits == 8)
		encode_kivi_bits(8, group_k, group_v, rows, tokens, dim, v, stored);
	else if (bits == 4)
		encode_kivi_bits(4, group_k, group_v, rows, tokens, dim, v, stored);
	else
		encode_kivi_bits(2, group_k, group_v, rows, tokens, dim, v, stored);
}

#endif

/* Packing and reading of tiles whose order is not that of bytes or pairs; what they do is said in quant/tile.h. */
#ifndef QUANT_TILE_FORMS_H
#define QUANT_TILE_FORMS_H

#include "quant/tile.h"

void tile_pack_kivi(const struct tile_shape *s, bool v, const uint8_t *canonical, uint32_t tokens, uint8_t *tiles);
void tile_unpack_kivi(const struct tile_shape *s, bool v, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical);
void tile_decode_kivi(const struct tile_shape *s, bool v, const struct tile *t, float *rows, size_t stride);
void tile_pack_sparse(const struct tile_shape *s, bool v, const uint8_t *canonical, uint32_t tokens, uint8_t *tiles);
void tile_unpack_sparse(const struct tile_shape *s, bool v, const uint8_t *tiles, uint32_t tokens,
			uint8_t *canonical);
void tile_decode_sparse(const struct tile_shape *s, bool v, const struct tile *t, float *rows, size_t stride);

/* Sixteen bytes of four tokens, those of a channel together. */
void tile_weave(const uint8_t *const row[4], uint8_t *to);

#endif

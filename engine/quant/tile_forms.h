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
void tile_unpack_channels(const struct tile_shape *s, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical);
void tile_decode_channels(const struct tile *t, uint32_t dim, float *rows, size_t stride);

/* Does K lie by channels? */
static inline bool tile_by_channel(const struct tile_shape *s, bool v)
{
	return s->format == IKV_FMT_FP16 && !v;
}

/* Sixteen bytes of four tokens, those of a channel together. */
void tile_weave(const uint8_t *const row[4], uint8_t *to);

#endif

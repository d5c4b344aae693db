/* SPARSE in tiles: the values of 16 tokens and their maps, padded to whole groups of 32 channels. Maps come last, so
 * that kernels may read beyond the last value. */
#include "quant/tile_forms.h"

struct view {
	uint32_t dim, map_bytes, kept;
	size_t tile_map; /* bytes of a map in a tile */
	uint8_t *maps, *values;
};

static struct view view_of(const struct tile_shape *s, bool v, const uint8_t *tile)
{
	bool as_v = v && !s->alias;
	struct view w = {.dim = as_v ? s->d_v : s->d_qk};
	w.map_bytes = codec_sparse_map(w.dim);
	w.kept = codec_sparse_kept(w.dim);
	w.tile_map = tile_padded(w.dim) / 8;
	w.values = (uint8_t *)tile + (as_v ? s->v_at : 0);
	w.maps = (uint8_t *)tile + (as_v ? s->v_params_at : s->k_params_at);
	return w;
}

void tile_pack_sparse(const struct tile_shape *s, bool v, const uint8_t *canonical, uint32_t tokens, uint8_t *tiles)
{
	for (uint32_t i = 0; i < tile_count(tokens); i++) {
		struct view w = view_of(s, v, tiles + i * s->bytes);
		uint32_t first = i * TILE_TOKENS, n = tokens - first < TILE_TOKENS ? tokens - first : TILE_TOKENS;
		memset(w.maps, 0, TILE_TOKENS * w.tile_map); /* a row that is not there has no value */
		for (uint32_t t = 0; t < n; t++)
			memcpy(w.maps + t * w.tile_map, canonical + (size_t)(first + t) * w.map_bytes, w.map_bytes);
		memcpy(w.values, canonical + (size_t)tokens * w.map_bytes + 2 * (size_t)first * w.kept,
		       2 * (size_t)n * w.kept);
	}
}

void tile_unpack_sparse(const struct tile_shape *s, bool v, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical)
{
	for (uint32_t i = 0; i < tile_count(tokens); i++) {
		struct view w = view_of(s, v, tiles + i * s->bytes);
		uint32_t first = i * TILE_TOKENS, n = tokens - first < TILE_TOKENS ? tokens - first : TILE_TOKENS;
		for (uint32_t t = 0; t < n; t++)
			memcpy(canonical + (size_t)(first + t) * w.map_bytes, w.maps + t * w.tile_map, w.map_bytes);
		memcpy(canonical + (size_t)tokens * w.map_bytes + 2 * (size_t)first * w.kept, w.values,
		       2 * (size_t)n * w.kept);
	}
}

void tile_decode_sparse(const struct tile_shape *s, bool v, const struct tile *t, float *rows, size_t stride)
{
	struct view w = view_of(s, v, t->k);
	uint32_t used = v ? s->d_v : s->d_qk;
	for (uint32_t i = 0; i < TILE_TOKENS; i++) {
		const uint8_t *map = w.maps + i * w.tile_map, *values = w.values + 2 * (size_t)i * w.kept;
		for (uint32_t c = 0; c < used; c++) {
			bool there = map[c / 8] >> c % 8 & 1;
			rows[i * stride + c] = there ? codec_half(values, 0) : 0;
			values += there ? 2 : 0;
		}
	}
}

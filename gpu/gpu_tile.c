#include <string.h>
#include "gpu/tile_place.h"
#include "quant/codec.h"

static void set4(uint8_t *plane, size_t bit, unsigned code)
{
	plane[bit / 8] |= (uint8_t)(code << bit % 8);
}

static unsigned get4(const uint8_t *plane, size_t bit)
{
	return plane[bit / 8] >> bit % 8 & 15;
}

/* Scales and zeros of one token between the stored form (`row`) and a tile. */
static void move_params(enum ikv_format f, bool is_v, uint32_t token, uint32_t groups, uint32_t tile_groups,
			uint8_t *row, uint8_t *params, bool pack)
{
	bool four = f == IKV_FMT_INT4 || f == IKV_FMT_INT4_RESIDUAL;
	for (uint32_t i = 0; i < (four ? 2 * groups : 1); i++) {
		uint32_t group = i / 2;
		size_t at = !four   ? (is_v ? tile_v_token(token) : token)
			    : !is_v ? 2 * ((size_t)token * tile_groups + group) + i % 2
			    : i % 2 ? tile_v_zero(tile_groups, token, group)
				    : tile_v_scale(tile_groups, token, group);
		memcpy(pack ? params + 2 * at : row + 2 * i, pack ? row + 2 * i : params + 2 * at, 2);
	}
}

static void pack_half(enum ikv_format f, bool is_v, uint32_t tokens, uint32_t dim, uint32_t steps,
		      const uint8_t *from, uint8_t *tiles)
{
	struct codec_rows r = {from, tokens, dim, is_v};
	struct tile_planes at = tile_planes_of(f, steps, is_v);
	uint32_t groups = codec_groups(dim), row_bytes = codec_pair_bytes(dim);
	size_t param_bytes = f == IKV_FMT_FP8 || f == IKV_FMT_INT8 ? 2 : 4 * (size_t)groups;
	for (uint32_t t = 0; t < tokens; t++) {
		uint8_t *tile = tiles + (size_t)(t / TILE_TOKENS) * tile_bytes(f, steps);
		uint32_t token = t % TILE_TOKENS;
		if (f != IKV_FMT_FP16)
			move_params(f, is_v, token, groups, tile_groups(steps), (uint8_t *)from + t * param_bytes,
				    tile + at.params, true);
		for (uint32_t c = 0; c < dim; c++) {
			struct tile_place p = tile_place_in(is_v, token, c);
			unsigned shift;
			size_t byte = (size_t)t * row_bytes + codec_nibble(dim, c, &shift);
			switch (f) {
			case IKV_FMT_FP16:
				memcpy(tile + at.codes + tile_at16(c / 16, p), from + 2 * ((size_t)t * dim + c), 2);
				break;
			case IKV_FMT_FP8:
				tile[at.codes + tile_at8(steps, c / 16, p)] = codec_codes(&r)[(size_t)t * dim + c];
				break;
			case IKV_FMT_INT8:
				tile[at.codes + tile_at8(steps, c / 16, p)] = codec_codes(&r)[(size_t)t * dim + c] ^ 0x80;
				break;
			case IKV_FMT_INT4_RESIDUAL:
				set4(tile + at.remainders, tile_bit4(steps, c / 16, p),
				     codec_remainders(&r)[byte] >> shift & 15);
				/* fall through */
			default:
				set4(tile + at.codes, tile_bit4(steps, c / 16, p), codec_pairs(&r)[byte] >> shift & 15);
			}
		}
	}
}

void gpu_tile_pack(enum ikv_format f, uint32_t tokens, uint32_t d_qk, uint32_t d_v, uint32_t steps, const uint8_t *k,
		   const uint8_t *v, uint8_t *tiles)
{
	size_t bytes = (size_t)((tokens + TILE_TOKENS - 1) / TILE_TOKENS) * tile_bytes(f, steps);
	memset(tiles, 0, bytes);
	pack_half(f, false, tokens, d_qk, steps, k, tiles);
	pack_half(f, true, tokens, d_v, steps, v, tiles);
}

static void unpack_half(enum ikv_format f, bool is_v, uint32_t tokens, uint32_t dim, uint32_t steps,
			const uint8_t *tiles, uint8_t *to)
{
	struct tile_planes at = tile_planes_of(f, steps, is_v);
	uint32_t groups = codec_groups(dim), row_bytes = codec_pair_bytes(dim);
	size_t param_bytes = f == IKV_FMT_FP8 || f == IKV_FMT_INT8 ? 2 : 4 * (size_t)groups;
	uint8_t *codes = to + 2 * (size_t)tokens, *pairs = to + 4 * (size_t)tokens * groups;
	uint8_t *remainders = pairs + (size_t)tokens * row_bytes;
	memset(to, 0, ikv_format_bytes(f, is_v ? IKV_SIDE_V : IKV_SIDE_K, tokens, dim));
	for (uint32_t t = 0; t < tokens; t++) {
		const uint8_t *tile = tiles + (size_t)(t / TILE_TOKENS) * tile_bytes(f, steps);
		uint32_t token = t % TILE_TOKENS;
		if (f != IKV_FMT_FP16)
			move_params(f, is_v, token, groups, tile_groups(steps), to + t * param_bytes,
				    (uint8_t *)tile + at.params, false);
		for (uint32_t c = 0; c < dim; c++) {
			struct tile_place p = tile_place_in(is_v, token, c);
			unsigned shift;
			size_t byte = (size_t)t * row_bytes + codec_nibble(dim, c, &shift);
			switch (f) {
			case IKV_FMT_FP16:
				memcpy(to + 2 * ((size_t)t * dim + c), tile + at.codes + tile_at16(c / 16, p), 2);
				break;
			case IKV_FMT_FP8:
				codes[(size_t)t * dim + c] = tile[at.codes + tile_at8(steps, c / 16, p)];
				break;
			case IKV_FMT_INT8:
				codes[(size_t)t * dim + c] = tile[at.codes + tile_at8(steps, c / 16, p)] ^ 0x80;
				break;
			case IKV_FMT_INT4_RESIDUAL:
				remainders[byte] |=
				    (uint8_t)(get4(tile + at.remainders, tile_bit4(steps, c / 16, p)) << shift);
				/* fall through */
			default:
				pairs[byte] |= (uint8_t)(get4(tile + at.codes, tile_bit4(steps, c / 16, p)) << shift);
			}
		}
	}
}

void gpu_tile_unpack(enum ikv_format f, uint32_t tokens, uint32_t d_qk, uint32_t d_v, uint32_t steps,
		     const uint8_t *tiles, uint8_t *k, uint8_t *v)
{
	unpack_half(f, false, tokens, d_qk, steps, tiles, k);
	unpack_half(f, true, tokens, d_v, steps, tiles, v);
}

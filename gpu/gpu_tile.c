#include <string.h>
#include "gpu/gpu_tile.h"
#include "quant/codec.h"

/* Where the matrix instruction wants a value: the operand A of m16n8k16 has, in lane 4g + t, rows g and g + 8 and
 * columns 2t, 2t + 1, 2t + 8, 2t + 9. Rows are K's tokens or V's channels. */
struct place {
	uint32_t lane, value; /* value: 0..7 of the lane */
};

static struct place place_of(uint32_t row, uint32_t col)
{
	return (struct place){row % 8 * 4 + col % 8 / 2, col / 8 * 4 + row / 8 * 2 + col % 2};
}

static struct place place_in(bool is_v, uint32_t token, uint32_t channel)
{
	return is_v ? place_of(channel % 16, token) : place_of(token, channel % 16);
}

static size_t at16(uint32_t step, struct place p)
{
	return 512 * step + 16 * p.lane + 2 * p.value;
}

static size_t at8(uint32_t steps, uint32_t step, struct place p)
{
	uint32_t join = tile_join8(steps);
	return step / join * (join * 256) + 8 * join * p.lane + step % join * 8 + p.value;
}

/* Bit of a plane of 4-bit codes where this code begins. In a lane's word the codes of rows g lie in the lowest four
 * bits of its bytes and those of rows g + 8 above them: gpu/attend_code.cuh says why. */
static size_t bit4(uint32_t steps, uint32_t step, struct place p)
{
	static const uint8_t shift[8] = {0, 16, 4, 20, 8, 24, 12, 28};
	uint32_t join = tile_join4(steps);
	return 8 * (step / join * (join * 128) + 4 * join * p.lane + step % join * 4) + shift[p.value];
}

static void set4(uint8_t *plane, size_t bit, unsigned code)
{
	plane[bit / 8] |= (uint8_t)(code << bit % 8);
}

static unsigned get4(const uint8_t *plane, size_t bit)
{
	return plane[bit / 8] >> bit % 8 & 15;
}

/* Where V's scales and zeros lie, in halves: the operand of weights has, in lane 4g + t, tokens 2t, 2t + 1, 2t + 8
 * and 2t + 9, and so have the scales they are multiplied by; zeros are an operand like codes, groups its rows. */
static uint32_t v_token(uint32_t token)
{
	return token % 8 / 2 * 4 + token / 8 * 2 + token % 2;
}

static size_t v_scale(uint32_t groups, uint32_t token, uint32_t group)
{
	uint32_t at = v_token(token);
	return (size_t)(at / 4) * 4 * groups + 4 * (size_t)group + at % 4;
}

static size_t v_zero(uint32_t groups, uint32_t token, uint32_t group)
{
	return 16 * (size_t)groups + 16 * (size_t)group + v_token(token);
}

/* Offsets of K's (0) or V's (1) codes, remainders and parameters in a tile. */
struct planes {
	size_t codes, remainders, params;
};

static struct planes planes_of(enum ikv_format f, uint32_t steps, bool is_v)
{
	size_t v = is_v, params = 64 * (size_t)tile_groups(steps);
	switch (f) {
	case IKV_FMT_FP16:
		return (struct planes){512 * steps * v, 0, 0};
	case IKV_FMT_INT4:
		return (struct planes){128 * steps * v, 0, 256 * steps + params * v};
	case IKV_FMT_INT4_RESIDUAL:
		return (struct planes){128 * steps * v, 256 * steps + 128 * steps * v, 512 * steps + params * v};
	default:
		return (struct planes){256 * steps * v, 0, 512 * steps + 32 * v};
	}
}

/* Scales and zeros of one token between the stored form (`row`) and a tile. */
static void move_params(enum ikv_format f, bool is_v, uint32_t token, uint32_t groups, uint32_t tile_groups,
			uint8_t *row, uint8_t *params, bool pack)
{
	bool four = f == IKV_FMT_INT4 || f == IKV_FMT_INT4_RESIDUAL;
	for (uint32_t i = 0; i < (four ? 2 * groups : 1); i++) {
		uint32_t group = i / 2;
		size_t at = !four   ? (is_v ? v_token(token) : token)
			    : !is_v ? 2 * ((size_t)token * tile_groups + group) + i % 2
			    : i % 2 ? v_zero(tile_groups, token, group)
				    : v_scale(tile_groups, token, group);
		memcpy(pack ? params + 2 * at : row + 2 * i, pack ? row + 2 * i : params + 2 * at, 2);
	}
}

static void pack_half(enum ikv_format f, bool is_v, uint32_t tokens, uint32_t dim, uint32_t steps,
		      const uint8_t *from, uint8_t *tiles)
{
	struct codec_rows r = {from, tokens, dim, is_v};
	struct planes at = planes_of(f, steps, is_v);
	uint32_t groups = codec_groups(dim), row_bytes = codec_pair_bytes(dim);
	size_t param_bytes = f == IKV_FMT_FP8 || f == IKV_FMT_INT8 ? 2 : 4 * (size_t)groups;
	for (uint32_t t = 0; t < tokens; t++) {
		uint8_t *tile = tiles + (size_t)(t / TILE_TOKENS) * tile_bytes(f, steps);
		uint32_t token = t % TILE_TOKENS;
		if (f != IKV_FMT_FP16)
			move_params(f, is_v, token, groups, tile_groups(steps), (uint8_t *)from + t * param_bytes,
				    tile + at.params, true);
		for (uint32_t c = 0; c < dim; c++) {
			struct place p = place_in(is_v, token, c);
			unsigned shift;
			size_t byte = (size_t)t * row_bytes + codec_nibble(dim, c, &shift);
			switch (f) {
			case IKV_FMT_FP16:
				memcpy(tile + at.codes + at16(c / 16, p), from + 2 * ((size_t)t * dim + c), 2);
				break;
			case IKV_FMT_FP8:
				tile[at.codes + at8(steps, c / 16, p)] = codec_codes(&r)[(size_t)t * dim + c];
				break;
			case IKV_FMT_INT8:
				tile[at.codes + at8(steps, c / 16, p)] = codec_codes(&r)[(size_t)t * dim + c] ^ 0x80;
				break;
			case IKV_FMT_INT4_RESIDUAL:
				set4(tile + at.remainders, bit4(steps, c / 16, p),
				     codec_remainders(&r)[byte] >> shift & 15);
				/* fall through */
			default:
				set4(tile + at.codes, bit4(steps, c / 16, p), codec_pairs(&r)[byte] >> shift & 15);
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
	struct planes at = planes_of(f, steps, is_v);
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
			struct place p = place_in(is_v, token, c);
			unsigned shift;
			size_t byte = (size_t)t * row_bytes + codec_nibble(dim, c, &shift);
			switch (f) {
			case IKV_FMT_FP16:
				memcpy(to + 2 * ((size_t)t * dim + c), tile + at.codes + at16(c / 16, p), 2);
				break;
			case IKV_FMT_FP8:
				codes[(size_t)t * dim + c] = tile[at.codes + at8(steps, c / 16, p)];
				break;
			case IKV_FMT_INT8:
				codes[(size_t)t * dim + c] = tile[at.codes + at8(steps, c / 16, p)] ^ 0x80;
				break;
			case IKV_FMT_INT4_RESIDUAL:
				remainders[byte] |=
				    (uint8_t)(get4(tile + at.remainders, bit4(steps, c / 16, p)) << shift);
				/* fall through */
			default:
				pairs[byte] |= (uint8_t)(get4(tile + at.codes, bit4(steps, c / 16, p)) << shift);
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

#include <string.h>
#include "gpu/tile_place.h"
#include "quant/codec.h"

/* Where a number of 16 bits of a token or channel lies among the parameters, in halves: `i` even a scale, odd a zero,
 * of group i / 2 of the token, or K's of KIVI of channel i / 2. */
static size_t param_at(uint32_t f, bool is_v, uint32_t token, uint32_t steps, uint32_t i)
{
	uint32_t groups = tile_groups(steps), group = i / 2;
	if (f == IKV_FMT_FP8 || f == IKV_FMT_INT8)
		return is_v ? tile_v_token(token) : token;
	if (is_v)
		return i % 2 ? tile_v_zero(groups, token, group) : tile_v_scale(groups, token, group);
	if (tile_kivi(f))
		return 16 * (size_t)steps * (i % 2) + group / 16 * 16 + tile_v_token(group % 16);
	return 2 * ((size_t)token * groups + group) + i % 2;
}

/* One half of a page: K or V, from or to its stored form. */
struct half {
	uint32_t format, steps, tokens, dim;
	bool is_v, pack;
	uint8_t *stored, *tiles;
};

static uint8_t *tile_of(const struct half *h, uint32_t token)
{
	return h->tiles + (size_t)(token / TILE_TOKENS) * tile_bytes(h->format, h->steps);
}

static void move(const struct half *h, uint8_t *in_tile, uint8_t *stored, size_t bytes)
{
	memcpy(h->pack ? in_tile : stored, h->pack ? stored : in_tile, bytes);
}

/* Scales and zeros of one token. */
static void move_params(const struct half *h, uint32_t t)
{
	bool one = h->format == IKV_FMT_FP8 || h->format == IKV_FMT_INT8,
	     by_channel = tile_kivi(h->format) && !h->is_v;
	uint32_t groups = codec_groups(h->dim), n = one ? 1 : 2 * (by_channel ? h->dim : groups);
	uint8_t *params = tile_of(h, t) + tile_planes_of(h->format, h->steps, h->is_v).params;
	if (by_channel && t % TILE_TOKENS)
		return;
	for (uint32_t i = 0; i < n; i++) {
		size_t from = one           ? 2 * (size_t)t
			      : !by_channel ? 4 * (size_t)groups * t + 2 * (size_t)i
			      : i % 2       ? codec_kivi_zero(h->tokens, h->dim, t) + 2 * (size_t)(i / 2)
					    : codec_kivi_scale(h->dim, t) + 2 * (size_t)(i / 2);
		move(h, params + 2 * param_at(h->format, h->is_v, t % TILE_TOKENS, h->steps, i), h->stored + from, 2);
	}
}

/* The unit of K's scales in a tile of KIVI: no less than half the largest one and no more than all of it. */
static void put_unit(const struct half *h, uint8_t *tile)
{
	uint8_t *params = tile + tile_planes_of(h->format, h->steps, false).params;
	float most = 0, unit[4] = {1, 1, 0, 0};
	for (uint32_t c = 0; c < 16 * h->steps; c++) {
		float x = codec_half(params, c);
		most = x > most ? x : most;
	}
	while (unit[1] > most && most > 0)
		unit[1] *= 0.5f;
	while (2 * unit[1] <= most)
		unit[1] *= 2;
	unit[0] = 1 / unit[1];
	memcpy(params - 16, unit, 16);
}

static uint16_t half_of_bf16(uint16_t x)
{
	uint32_t bits = (uint32_t)x << 16;
	float y;
	memcpy(&y, &bits, 4);
	return ikv_fp16_from_float(y);
}

static uint16_t bf16_of_half(uint16_t x)
{
	float y = half_to_float(x);
	uint32_t bits;
	memcpy(&bits, &y, 4);
	return (uint16_t)(bits >> 16);
}

int gpu_tile_wide(const uint8_t *stored, size_t values)
{
	for (size_t i = 0; i < values; i++)
		if ((stored[2 * i + 1] & 0x7f) == 0x47 && stored[2 * i] >= 0x80) /* 65536 and more */
			return 1;
	return 0;
}

static void move_number(const struct half *h, uint8_t *in_tile, uint8_t *stored)
{
	uint16_t x;
	if (h->format != IKV_FMT_BF16) {
		move(h, in_tile, stored, 2);
		return;
	}
	memcpy(&x, h->pack ? stored : in_tile, 2);
	x = h->pack ? half_of_bf16(x) : bf16_of_half(x);
	memcpy(h->pack ? in_tile : stored, &x, 2);
}

/* A code of `bits` bits between two places. */
static void move_bits(const struct half *h, uint8_t *in_tile, size_t bit, uint8_t *stored, unsigned shift,
		      unsigned bits)
{
	unsigned mask = (1u << bits) - 1;
	if (h->pack)
		in_tile[bit / 8] |= (uint8_t)((*stored >> shift & mask) << bit % 8);
	else
		*stored |= (uint8_t)((in_tile[bit / 8] >> bit % 8 & mask) << shift);
}

static void move_code(const struct half *h, const struct tile_planes *at, uint32_t t, uint32_t c)
{
	struct tile_place p = tile_place_in(h->is_v, t % TILE_TOKENS, c);
	uint8_t *tile = tile_of(h, t), *codes = tile + at->codes, *rows = h->stored;
	uint32_t steps = h->steps, step = c / 16, groups = codec_groups(h->dim), row = codec_pair_bytes(h->dim);
	unsigned shift, bits = codec_kivi_bits((enum ikv_format)h->format);
	size_t i = (size_t)t * h->dim + c, from;
	switch (h->format) {
	case IKV_FMT_FP16:
	case IKV_FMT_BF16:
	case TILE_BF16_WIDE:
		move_number(h, codes + tile_at16(step, p), rows + 2 * i);
		break;
	case IKV_FMT_FP8:
		move(h, codes + tile_at8(steps, step, p), rows + 2 * (size_t)h->tokens + i, 1);
		break;
	case IKV_FMT_INT8: {
		uint8_t *code = codes + tile_at8(steps, step, p), *stored = rows + 2 * (size_t)h->tokens + i;
		*(h->pack ? code : stored) = (h->pack ? *stored : *code) ^ 0x80;
		break;
	}
	case IKV_FMT_KIVI8:
	case IKV_FMT_KIVI4:
	case IKV_FMT_KIVI2:
		rows += codec_kivi_params(h->is_v, h->tokens, h->dim) + t * codec_packed_bytes(h->dim, bits);
		from = codec_place(h->dim, bits, c, &shift);
		move_bits(h, codes,
			  bits == 8   ? 8 * tile_at8(steps, step, p)
			  : bits == 4 ? tile_bit4(steps, step, p)
				      : tile_bit2(step, p),
			  rows + from, shift, bits);
		break;
	default:
		from = 4 * (size_t)h->tokens * groups + (size_t)t * row + codec_nibble(h->dim, c, &shift);
		move_bits(h, codes, tile_bit4(steps, step, p), rows + from, shift, 4);
		if (h->format == IKV_FMT_INT4_RESIDUAL)
			move_bits(h, tile + at->remainders, tile_bit4(steps, step, p),
				  rows + from + (size_t)h->tokens * row, shift, 4);
	}
}

/* Bitmaps in words of a step, and values. */
static void move_sparse(const struct half *h, const struct tile_planes *at, uint32_t t)
{
	uint32_t map = codec_sparse_map(h->dim), kept = codec_sparse_kept(h->dim), token = t % TILE_TOKENS;
	uint8_t *tile = tile_of(h, t), *values = h->stored + (size_t)h->tokens * map;
	move(h, tile + at->codes + 2 * (size_t)h->steps * token, h->stored + (size_t)t * map, map);
	move(h, tile + at->remainders + 8 * (size_t)h->steps * token, values + 2 * (size_t)t * kept,
	     2 * (size_t)kept);
}

static void move_half(const struct half *h)
{
	struct tile_planes at = tile_planes_of(h->format, h->steps, h->is_v);
	bool plain = h->format == IKV_FMT_FP16 || tile_format(h->format) == IKV_FMT_BF16;
	for (uint32_t t = 0; t < h->tokens; t++) {
		if (h->format == IKV_FMT_SPARSE) {
			move_sparse(h, &at, t);
			continue;
		}
		if (!plain)
			move_params(h, t);
		if (h->pack && tile_kivi(h->format) && !h->is_v && t % TILE_TOKENS == 0)
			put_unit(h, tile_of(h, t));
		for (uint32_t c = 0; c < h->dim; c++)
			move_code(h, &at, t, c);
	}
}

void gpu_tile_pack(uint32_t f, uint32_t tokens, uint32_t d_qk, uint32_t d_v, uint32_t steps, const uint8_t *k,
		   const uint8_t *v, uint8_t *tiles)
{
	struct half h = {f, steps, tokens, d_qk, false, true, (uint8_t *)k, tiles};
	memset(tiles, 0, (size_t)((tokens + TILE_TOKENS - 1) / TILE_TOKENS) * tile_bytes(f, steps));
	move_half(&h);
	h.dim = d_v;
	h.is_v = true;
	h.stored = (uint8_t *)v;
	move_half(&h);
}

void gpu_tile_unpack(uint32_t f, uint32_t tokens, uint32_t d_qk, uint32_t d_v, uint32_t steps, const uint8_t *tiles,
		     uint8_t *k, uint8_t *v)
{
	enum ikv_format stored = (enum ikv_format)tile_format(f);
	struct half h = {f, steps, tokens, d_qk, false, false, k, (uint8_t *)tiles};
	memset(k, 0, ikv_format_bytes(stored, IKV_SIDE_K, tokens, d_qk));
	memset(v, 0, ikv_format_bytes(stored, IKV_SIDE_V, tokens, d_v));
	move_half(&h);
	h.dim = d_v;
	h.is_v = true;
	h.stored = v;
	move_half(&h);
}

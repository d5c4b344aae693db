#include <string.h>
#include "gpu/mla_tile.h"
#include "quant/codec.h"

static uint8_t *group_of(enum ikv_format f, uint8_t *groups, uint32_t token)
{
	return groups + (size_t)(token / MLA_GROUP) * mla_group_bytes(f);
}

static void pack4(enum ikv_format f, const struct codec_rows *r, uint32_t t, uint8_t *g)
{
	uint32_t n = codec_groups(r->dim), row = t % MLA_GROUP;
	size_t bytes = codec_pair_bytes(r->dim);
	const uint8_t *pairs = codec_pairs(r) + t * bytes, *remainders = codec_remainders(r) + t * bytes;
	for (uint32_t i = 0; i < n; i++)
		memcpy(g + mla_param_at(f, row, i), r->data + 4 * ((size_t)t * n + i), 4);
	for (uint32_t c = 0; c < r->dim; c++) {
		unsigned shift;
		size_t from = codec_nibble(r->dim, c, &shift);
		struct mla_at to = mla_value_at(f, row, c);
		g[to.byte] |= (uint8_t)((pairs[from] >> shift & 15) << to.shift);
		if (f == IKV_FMT_INT4_RESIDUAL)
			g[to.byte + 256] |= (uint8_t)((remainders[from] >> shift & 15) << to.shift);
	}
}

static void unpack4(enum ikv_format f, const struct codec_rows *r, uint32_t t, const uint8_t *g, uint8_t *k)
{
	uint32_t n = codec_groups(r->dim), row = t % MLA_GROUP;
	size_t bytes = codec_pair_bytes(r->dim), pairs = (size_t)(codec_pairs(r) - r->data) + t * bytes,
	       remainders = (size_t)(codec_remainders(r) - r->data) + t * bytes;
	for (uint32_t i = 0; i < n; i++)
		memcpy(k + 4 * ((size_t)t * n + i), g + mla_param_at(f, row, i), 4);
	for (uint32_t c = 0; c < r->dim; c++) {
		unsigned shift;
		size_t to = codec_nibble(r->dim, c, &shift);
		struct mla_at from = mla_value_at(f, row, c);
		k[pairs + to] |= (uint8_t)((g[from.byte] >> from.shift & 15) << shift);
		if (f == IKV_FMT_INT4_RESIDUAL)
			k[remainders + to] |= (uint8_t)((g[from.byte + 256] >> from.shift & 15) << shift);
	}
}

void mla_tile_pack(enum ikv_format f, uint32_t tokens, uint32_t dim, const uint8_t *k, uint8_t *groups)
{
	struct codec_rows rows = {.data = k, .tokens = tokens, .dim = dim};
	uint8_t flip = f == IKV_FMT_INT8 ? 0x80 : 0;
	memset(groups, 0, (size_t)((tokens + TILE_TOKENS - 1) / TILE_TOKENS) * 2 * mla_group_bytes(f));
	for (uint32_t t = 0; t < tokens; t++) {
		uint8_t *g = group_of(f, groups, t);
		uint32_t row = t % MLA_GROUP;
		if (f == IKV_FMT_INT4 || f == IKV_FMT_INT4_RESIDUAL) {
			pack4(f, &rows, t, g);
			continue;
		}
		if (f != IKV_FMT_FP16)
			memcpy(g + (size_t)2 * row, k + (size_t)2 * t, 2);
		for (uint32_t c = 0; c < dim; c++) {
			uint8_t *to = g + mla_value_at(f, row, c).byte;
			if (f == IKV_FMT_FP16)
				memcpy(to, k + 2 * ((size_t)t * dim + c), 2);
			else
				*to = codec_codes(&rows)[(size_t)t * dim + c] ^ flip;
		}
	}
}

void mla_tile_unpack(enum ikv_format f, uint32_t tokens, uint32_t dim, const uint8_t *groups, uint8_t *k)
{
	struct codec_rows rows = {.data = k, .tokens = tokens, .dim = dim};
	uint8_t flip = f == IKV_FMT_INT8 ? 0x80 : 0;
	memset(k, 0, ikv_format_bytes(f, IKV_SIDE_K, tokens, dim));
	for (uint32_t t = 0; t < tokens; t++) {
		const uint8_t *g = groups + (size_t)(t / MLA_GROUP) * mla_group_bytes(f);
		uint32_t row = t % MLA_GROUP;
		if (f == IKV_FMT_INT4 || f == IKV_FMT_INT4_RESIDUAL) {
			unpack4(f, &rows, t, g, k);
			continue;
		}
		if (f != IKV_FMT_FP16)
			memcpy(k + (size_t)2 * t, g + (size_t)2 * row, 2);
		for (uint32_t c = 0; c < dim; c++) {
			const uint8_t *from = g + mla_value_at(f, row, c).byte;
			if (f == IKV_FMT_FP16)
				memcpy(k + 2 * ((size_t)t * dim + c), from, 2);
			else
				k[2 * (size_t)tokens + (size_t)t * dim + c] = *from ^ flip;
		}
	}
}

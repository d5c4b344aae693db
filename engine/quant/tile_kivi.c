/* KIVI in tiles: codes of whole groups of 32 channels, 4 · bits bytes a token, in the order of quant/tile.h. */
#include "quant/tile_forms.h"

enum { GROUP_BYTES_MAX = CODEC_GROUP };

struct view {
	bool v;
	unsigned bits;
	uint32_t dim, groups, n; /* bytes of a group's codes of one token */
	uint8_t *codes;
};

static struct view view_of(const struct tile_shape *s, bool v, const uint8_t *tile)
{
	struct view w = {.v = v && !s->alias, .bits = codec_kivi_bits(s->format)};
	w.dim = w.v ? s->d_v : s->d_qk;
	w.groups = codec_groups(w.dim);
	w.n = 4 * w.bits;
	w.codes = (uint8_t *)tile + (w.v ? s->v_at : 0);
	return w;
}

static uint32_t group_width(uint32_t dim, uint32_t g)
{
	return dim - g * CODEC_GROUP < CODEC_GROUP ? dim - g * CODEC_GROUP : CODEC_GROUP;
}

/* Codes of one token of a group of `width` channels between the order of a short group and that of a whole one. */
static void widen(const uint8_t *from, uint32_t width, unsigned bits, uint8_t *to)
{
	unsigned mask = (1u << bits) - 1;
	memset(to, 0, 4 * bits);
	for (uint32_t c = 0; c < width; c++) {
		unsigned a, b;
		size_t byte = codec_place(width, bits, c, &a), place = codec_place(CODEC_GROUP, bits, c, &b);
		to[place] |= (uint8_t)((from[byte] >> a & mask) << b);
	}
}

static void narrow(const uint8_t *from, uint32_t width, unsigned bits, uint8_t *to)
{
	unsigned mask = (1u << bits) - 1;
	memset(to, 0, codec_packed_bytes(width, bits));
	for (uint32_t c = 0; c < width; c++) {
		unsigned a, b;
		size_t byte = codec_place(width, bits, c, &a), place = codec_place(CODEC_GROUP, bits, c, &b);
		to[byte] |= (uint8_t)((from[place] >> b & mask) << a);
	}
}

/* Two-bit codes of V. Canonical byte i of 8 has channels i, 8 + i, 16 + i, 24 + i; here nibble i of 16 gets channels
 * i and 16 + i. */
static void split_fours(const uint8_t *from, uint64_t *low, uint64_t *high)
{
	uint64_t x;
	memcpy(&x, from, sizeof x);
	*low = (x & 0x0303030303030303) | (x >> 2 & 0x0c0c0c0c0c0c0c0c);
	*high = (x >> 2 & 0x0303030303030303) | (x >> 4 & 0x0c0c0c0c0c0c0c0c);
}

static void join_fours(uint64_t low, uint64_t high, uint8_t *to)
{
	uint64_t x = (low & 0x0303030303030303) | (low & 0x0c0c0c0c0c0c0c0c) << 2 | (high & 0x0303030303030303) << 2 |
		     (high & 0x0c0c0c0c0c0c0c0c) << 4;
	memcpy(to, &x, sizeof x);
}

/* Codes of sixteen tokens of group g, w->n bytes each. */
static void put_k(const struct view *w, uint32_t g, uint8_t (*tokens)[GROUP_BYTES_MAX])
{
	uint8_t *to = w->codes + (size_t)g * w->n * TILE_TOKENS;
	for (uint32_t t = 0; t < TILE_TOKENS; t++)
		for (uint32_t j = 0; j < w->n; j += 4)
			memcpy(to + ((size_t)j / 4 * TILE_TOKENS + t) * 4, tokens[t] + j, 4);
}

static void get_k(const struct view *w, uint32_t g, uint8_t (*tokens)[GROUP_BYTES_MAX])
{
	const uint8_t *from = w->codes + (size_t)g * w->n * TILE_TOKENS;
	for (uint32_t t = 0; t < TILE_TOKENS; t++)
		for (uint32_t j = 0; j < w->n; j += 4)
			memcpy(tokens[t] + j, from + ((size_t)j / 4 * TILE_TOKENS + t) * 4, 4);
}

/* Where 64 bytes of V lie: quad (KIVI8, 4) or octet (KIVI2) q of tokens, 16 bytes from byte i of a group on. */
static uint8_t *v_run(const struct view *w, uint32_t q, uint32_t g, uint32_t i)
{
	uint32_t run = w->bits == 8 ? 2 * g + i / 16 : g, runs = w->bits == 8 ? 2 * w->groups : w->groups;
	return w->codes + ((size_t)q * runs + run) * 64;
}

static void put_v(const struct view *w, uint32_t g, uint8_t (*tokens)[GROUP_BYTES_MAX])
{
	for (uint32_t q = 0; w->bits > 2 && q < 4; q++) {
		for (uint32_t i = 0; i < w->n; i += 16) {
			const uint8_t *row[4];
			uint8_t *to = v_run(w, q, g, i);
			for (uint32_t t = 0; t < 4; t++)
				row[t] = tokens[4 * q + t] + i;
			tile_weave(row, to);
			for (uint32_t k = 0; w->bits == 8 && k < 64; k++)
				to[k] ^= 0x80;
		}
	}
	for (uint32_t q = 0; w->bits == 2 && q < 2; q++) {
		uint64_t both[4][2];
		const uint8_t *row[4];
		for (uint32_t t = 0; t < 4; t++) {
			uint64_t low, high;
			split_fours(tokens[8 * q + t], &both[t][0], &both[t][1]);
			split_fours(tokens[8 * q + 4 + t], &low, &high);
			both[t][0] |= low << 4;
			both[t][1] |= high << 4;
			row[t] = (const uint8_t *)both[t];
		}
		tile_weave(row, v_run(w, q, g, 0));
	}
}

static void get_v(const struct view *w, uint32_t g, uint8_t (*tokens)[GROUP_BYTES_MAX])
{
	const uint64_t nibbles = 0x0f0f0f0f0f0f0f0f;
	for (uint32_t t = 0; w->bits > 2 && t < TILE_TOKENS; t++)
		for (uint32_t i = 0; i < w->n; i++)
			tokens[t][i] = v_run(w, t / 4, g, i)[4 * (i % 16) + t % 4] ^ (w->bits == 8 ? 0x80 : 0);
	for (uint32_t t = 0; w->bits == 2 && t < TILE_TOKENS; t += t % 8 == 3 ? 5 : 1) {
		uint8_t bytes[16];
		uint64_t both[2];
		for (uint32_t i = 0; i < 16; i++)
			bytes[i] = v_run(w, t / 8, g, 0)[4 * i + t % 4];
		memcpy(both, bytes, sizeof both);
		join_fours(both[0] & nibbles, both[1] & nibbles, tokens[t]);
		join_fours(both[0] >> 4 & nibbles, both[1] >> 4 & nibbles, tokens[t + 4]);
	}
}

/* Parameters of K of tile i. */
static void move_k_params(const struct tile_shape *s, uint32_t i, uint32_t tokens, uint8_t *canonical, uint8_t *tiles,
			  bool pack)
{
	size_t bytes = 2 * (size_t)s->d_qk, all = 2 * (size_t)tile_padded(s->d_qk);
	for (int zeros = 0; zeros < 2; zeros++) {
		struct tile t;
		tile_at(s, tiles, i, &t);
		if (s->paired && (i % 2 != 0) != zeros) /* the other tile of the two has them */
			continue;
		uint8_t *here = (uint8_t *)t.group + (zeros ? s->k_zeros : 0);
		uint8_t *there = canonical + (zeros ? codec_kivi_zero(tokens, s->d_qk, i * TILE_TOKENS)
						    : codec_kivi_scale(s->d_qk, i * TILE_TOKENS));
		memcpy(pack ? here : there, pack ? there : here, bytes);
		if (pack)
			memset(here + bytes, 0, all - bytes);
	}
}

static void move_v_params(const struct tile_shape *s, uint32_t i, uint32_t n, uint8_t *canonical, uint8_t *tiles,
			  bool pack)
{
	uint32_t each = 2 * codec_groups(s->d_v);
	uint8_t *params = tiles + i * s->bytes + s->v_params_at;
	if (pack && n < TILE_TOKENS)
		memset(params, 0, 2 * (size_t)TILE_TOKENS * each);
	for (uint32_t t = 0; t < n; t++) {
		for (uint32_t k = 0; k < each; k++) {
			uint8_t *here = params + 2 * ((size_t)k * TILE_TOKENS + t);
			uint8_t *there = canonical + 2 * ((size_t)(i * TILE_TOKENS + t) * each + k);
			memcpy(pack ? here : there, pack ? there : here, 2);
		}
	}
}

static void move(const struct tile_shape *s, bool v, uint8_t *canonical, uint32_t tokens, uint8_t *tiles, bool pack)
{
	for (uint32_t i = 0; i < tile_count(tokens); i++) {
		struct view w = view_of(s, v, tiles + i * s->bytes);
		uint32_t first = i * TILE_TOKENS, n = tokens - first < TILE_TOKENS ? tokens - first : TILE_TOKENS;
		size_t row_bytes = codec_packed_bytes(w.dim, w.bits);
		uint8_t *rows = canonical + codec_kivi_params(w.v, tokens, w.dim) + first * row_bytes;
		uint8_t codes[TILE_TOKENS][GROUP_BYTES_MAX] = {{0}};
		for (uint32_t g = 0; g < w.groups; g++) {
			uint32_t width = group_width(w.dim, g);
			uint8_t *row = rows + codec_packed_bytes(g * CODEC_GROUP, w.bits);
			if (!pack)
				(w.v ? get_v : get_k)(&w, g, codes);
			for (uint32_t t = 0; t < n; t++, row += row_bytes) {
				if (width < CODEC_GROUP)
					pack ? widen(row, width, w.bits, codes[t])
					     : narrow(codes[t], width, w.bits, row);
				else
					memcpy(pack ? codes[t] : row, pack ? row : codes[t], w.n);
			}
			if (pack)
				(w.v ? put_v : put_k)(&w, g, codes);
		}
		if (w.v)
			move_v_params(s, i, n, canonical, tiles, pack);
		else
			move_k_params(s, i, tokens, canonical, tiles, pack);
	}
}

void tile_pack_kivi(const struct tile_shape *s, bool v, const uint8_t *canonical, uint32_t tokens, uint8_t *tiles)
{
	move(s, v, (uint8_t *)canonical, tokens, tiles, true);
}

void tile_unpack_kivi(const struct tile_shape *s, bool v, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical)
{
	move(s, v, canonical, tokens, (uint8_t *)tiles, false);
}

void tile_decode_kivi(const struct tile_shape *s, bool v, const struct tile *t, float *rows, size_t stride)
{
	struct view w = view_of(s, v, t->k);
	uint32_t used = v ? s->d_v : s->d_qk;
	uint8_t codes[TILE_TOKENS][GROUP_BYTES_MAX];
	for (uint32_t c = 0; c < used; c++) {
		const uint8_t *params = t->k + s->v_params_at + 4 * TILE_TOKENS * (size_t)(c / CODEC_GROUP);
		unsigned shift;
		size_t byte = codec_place(CODEC_GROUP, w.bits, c % CODEC_GROUP, &shift);
		if (c % CODEC_GROUP == 0)
			(w.v ? get_v : get_k)(&w, c / CODEC_GROUP, codes);
		for (uint32_t i = 0; i < TILE_TOKENS; i++) {
			float scale = w.v ? codec_half(params, i) : codec_half(t->group, c);
			float zero = w.v ? codec_half(params, TILE_TOKENS + i) : codec_half(t->group + s->k_zeros, c);
			rows[i * stride + c] = zero + (float)(codes[i][byte] >> shift & ((1u << w.bits) - 1)) * scale;
		}
	}
}

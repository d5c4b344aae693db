#include "quant/tile_forms.h"

static size_t round64(size_t n)
{
	return (n + 63) & ~(size_t)63;
}

static size_t code_bytes(enum ikv_format f, uint32_t dim)
{
	size_t p = tile_padded(dim);
	switch ((unsigned)f) {
	case IKV_FMT_FP16:
	case IKV_FMT_BF16:
	case TILE_HALF:
		return round64(TILE_TOKENS * 2 * (size_t)dim);
	case IKV_FMT_SPARSE:
		return round64(TILE_TOKENS * 2 * (size_t)codec_sparse_kept(dim));
	case IKV_FMT_KIVI4:
		return TILE_TOKENS * p / 2;
	case IKV_FMT_KIVI2:
		return TILE_TOKENS * p / 4;
	case IKV_FMT_INT4:
		return TILE_TOKENS * p / 2;
	case IKV_FMT_SKIP:
		return 0;
	default:
		return TILE_TOKENS * p;
	}
}

static size_t param_bytes(const struct tile_shape *s, bool v, uint32_t dim)
{
	switch (s->format) {
	case IKV_FMT_FP8:
	case IKV_FMT_INT8:
		return TILE_TOKENS * 2;
	case IKV_FMT_INT4:
	case IKV_FMT_INT4_RESIDUAL:
		return TILE_TOKENS * 4 * (size_t)codec_groups(dim);
	case IKV_FMT_KIVI8:
	case IKV_FMT_KIVI4:
	case IKV_FMT_KIVI2:
		return v ? TILE_TOKENS * 4 * (size_t)codec_groups(dim)
			 : (s->paired ? 2 : 4) * (size_t)tile_padded(dim);
	case IKV_FMT_SPARSE:
		return TILE_TOKENS * (size_t)tile_padded(dim) / 8;
	default:
		return 0;
	}
}

void tile_shape(struct tile_shape *s, enum ikv_format f, uint32_t d_qk, uint32_t d_v, bool alias)
{
	tile_shape_in(s, f, d_qk, d_v, alias, TILE_TOKENS);
}

void tile_shape_in(struct tile_shape *s, enum ikv_format f, uint32_t d_qk, uint32_t d_v, bool alias,
		   uint32_t page_tokens)
{
	f = f == IKV_FMT_FP16 && alias ? (enum ikv_format)TILE_HALF : f;
	*s = (struct tile_shape){.format = f, .d_qk = d_qk, .d_v = d_v, .alias = alias};
	s->paired = codec_kivi_bits(f) && tile_count(page_tokens) % 2 == 0;
	s->v_at = alias ? 0 : code_bytes(f, d_qk);
	s->k_params_at = s->v_at + code_bytes(f, alias ? d_qk : d_v);
	s->v_params_at = s->k_params_at + (alias ? 0 : param_bytes(s, false, d_qk));
	s->bytes = round64(s->v_params_at + param_bytes(s, !alias, alias ? d_qk : d_v));
	s->k_zeros = s->paired ? s->bytes : 2 * (size_t)tile_padded(d_qk);
	s->k_step = (f == TILE_FLOAT ? sizeof(float) : sizeof(uint16_t)) * d_qk;
	s->v_step = alias ? s->k_step : s->k_step / d_qk * d_v;
}

/* One tile of K or V: its codes and parameters, and where the rows of the canonical form lie. */
struct view {
	enum ikv_format f;
	bool v;
	uint32_t dim, rows; /* rows in this tile */
	uint8_t *codes, *params;
	size_t row_bytes;                          /* of canonical codes, of one plane */
	size_t codes_at, remainders_at, params_at; /* row 0 of this tile in the canonical form */
};

static bool plain(enum ikv_format f)
{
	return f == IKV_FMT_FP16 || f == IKV_FMT_BF16 || f == TILE_FLOAT || f == (enum ikv_format)TILE_HALF;
}

static struct view view_of(const struct tile_shape *s, bool v, uint32_t tokens, uint32_t i, const uint8_t *tiles)
{
	uint32_t left = tokens - i * TILE_TOKENS;
	struct view w = {.f = s->format, .v = v, .dim = v ? s->d_v : s->d_qk};
	uint8_t *tile = (uint8_t *)tiles + i * s->bytes;
	struct codec_rows r = {NULL, tokens, w.dim, v};
	size_t first = (size_t)i * TILE_TOKENS;
	w.rows = left < TILE_TOKENS ? left : TILE_TOKENS;
	w.codes = tile + (v ? s->v_at : 0);
	w.params = tile + (v ? s->v_params_at : s->k_params_at);
	if (plain(w.f)) {
		w.row_bytes = 2 * (size_t)w.dim;
	} else if (w.f == IKV_FMT_FP8 || w.f == IKV_FMT_INT8) {
		w.row_bytes = w.dim;
		w.codes_at = 2 * (size_t)tokens;
		w.params_at = 2 * first;
	} else {
		w.row_bytes = codec_pair_bytes(w.dim);
		w.codes_at = 4 * (size_t)tokens * codec_groups(w.dim);
		w.remainders_at = w.codes_at + r.tokens * w.row_bytes + first * w.row_bytes;
		w.params_at = 4 * first * codec_groups(w.dim);
	}
	w.codes_at += first * w.row_bytes;
	return w;
}

/* Channel bytes [c, c + n) of a tile, n = 16 or less in a row of 4 × dwords: where byte i of token t lies. */
static uint8_t *byte_of(const struct view *w, uint32_t t, uint32_t c)
{
	uint32_t p = tile_padded(w->dim);
	if (w->v)
		return w->codes + ((size_t)(t / 4) * p + c) * 4 + t % 4;
	return w->codes + ((size_t)(c / 4) * TILE_TOKENS + t) * 4 + c % 4;
}

/* The same for byte i of a group's pairs, of plane 0 or 1 out of `planes`. */
static uint8_t *pair_of(const struct view *w, uint32_t t, uint32_t g, uint32_t i, uint32_t plane, uint32_t planes)
{
	size_t groups = codec_groups(w->dim);
	if (w->v)
		return w->codes + (((t / 4) * groups + g) * planes + plane) * 64 + 4 * i + t % 4;
	return w->codes + ((size_t)g * planes + plane) * 256 + ((size_t)(i / 4) * TILE_TOKENS + t) * 4 + i % 4;
}

/* Sixteen bytes of four tokens, those of a channel together. */
void tile_weave(const uint8_t *const row[4], uint8_t *to)
{
	for (unsigned i = 0; i < 16; i++) {
		uint32_t x =
		    row[0][i] | (uint32_t)row[1][i] << 8 | (uint32_t)row[2][i] << 16 | (uint32_t)row[3][i] << 24;
		memcpy(to + 4 * i, &x, 4);
	}
}

static void pack_bytes(const struct view *w, const uint8_t *from)
{
	uint32_t whole = w->v ? w->dim & ~15u : w->dim & ~3u, flip = w->f == IKV_FMT_INT8 && !w->v ? 0x80808080u : 0;
	uint32_t quads = w->v ? w->rows / 4 : 0;
	from += w->codes_at;
	for (uint32_t j = 0; j < quads; j++) {
		const uint8_t *r = from + (size_t)4 * j * w->row_bytes;
		for (uint32_t c = 0; c < whole; c += 16) {
			const uint8_t *rows[4] = {r + c, r + w->row_bytes + c, r + 2 * w->row_bytes + c,
						  r + 3 * w->row_bytes + c};
			tile_weave(rows, byte_of(w, 4 * j, c));
		}
	}
	for (uint32_t t = 0; t < w->rows; t++) {
		const uint8_t *row = from + t * w->row_bytes;
		for (uint32_t c = 0; !w->v && c < whole; c += 4) {
			uint32_t x;
			memcpy(&x, row + c, 4);
			x ^= flip;
			memcpy(byte_of(w, t, c), &x, 4);
		}
		for (uint32_t c = w->v && t >= 4 * quads ? 0 : whole; c < w->dim; c++)
			*byte_of(w, t, c) = row[c] ^ (uint8_t)flip;
	}
}

static void unpack_bytes(const struct view *w, uint8_t *to)
{
	uint8_t flip = w->f == IKV_FMT_INT8 && !w->v ? 0x80 : 0;
	for (uint32_t t = 0; t < w->rows; t++)
		for (uint32_t c = 0; c < w->dim; c++)
			to[w->codes_at + t * w->row_bytes + c] = *byte_of(w, t, c) ^ flip;
}

/* Sixteen bytes of a group of `width` channels between the two orders; they differ in a short group only. */
static void widen_group(const uint8_t *from, uint32_t width, uint8_t *to)
{
	uint32_t half = width / 2 + width % 2;
	memset(to, 0, 16);
	for (uint32_t c = 0; c < width; c++) {
		unsigned code = c < half ? from[c] & 15 : from[c - half] >> 4;
		to[c % 16] |= (uint8_t)(c < 16 ? code : code << 4);
	}
}

static void narrow_group(const uint8_t *from, uint32_t width, uint8_t *to)
{
	uint32_t half = width / 2 + width % 2;
	memset(to, 0, half);
	for (uint32_t c = 0; c < width; c++) {
		unsigned code = c < 16 ? from[c] & 15 : from[c - 16] >> 4;
		to[c < half ? c : c - half] |= (uint8_t)(c < half ? code : code << 4);
	}
}

static uint32_t group_width(uint32_t dim, uint32_t g)
{
	return dim - g * CODEC_GROUP < CODEC_GROUP ? dim - g * CODEC_GROUP : CODEC_GROUP;
}

static void pack_pairs(const struct view *w, const uint8_t *from)
{
	uint32_t planes = w->f == IKV_FMT_INT4_RESIDUAL ? 2 : 1;
	for (uint32_t k = 0; k < codec_groups(w->dim) * planes; k++) {
		uint32_t g = k / planes, plane = k % planes, width = group_width(w->dim, g);
		const uint8_t *rows = from + (plane ? w->remainders_at : w->codes_at) + g * CODEC_GROUP / 2;
		for (uint32_t t = 0; t < w->rows; t += 4) {
			uint8_t group[4][16] = {{0}};
			const uint8_t *four[4] = {group[0], group[1], group[2], group[3]};
			for (uint32_t i = 0; i < 4 && t + i < w->rows; i++) {
				const uint8_t *row = rows + (t + i) * w->row_bytes;
				if (width == CODEC_GROUP)
					memcpy(group[i], row, 16);
				else
					widen_group(row, width, group[i]);
				for (uint32_t b = 0; !w->v && b < 16; b += 4)
					memcpy(pair_of(w, t + i, g, b, plane, planes), group[i] + b, 4);
			}
			if (w->v)
				tile_weave(four, pair_of(w, t, g, 0, plane, planes));
		}
	}
}

static void unpack_pairs(const struct view *w, uint8_t *to)
{
	uint32_t planes = w->f == IKV_FMT_INT4_RESIDUAL ? 2 : 1;
	for (uint32_t k = 0; k < codec_groups(w->dim) * planes; k++) {
		uint32_t g = k / planes, plane = k % planes;
		uint8_t *rows = to + (plane ? w->remainders_at : w->codes_at) + g * CODEC_GROUP / 2;
		for (uint32_t t = 0; t < w->rows; t++) {
			uint8_t group[16];
			for (uint32_t i = 0; i < 16; i++)
				group[i] = *pair_of(w, t, g, i, plane, planes);
			narrow_group(group, group_width(w->dim, g), rows + t * w->row_bytes);
		}
	}
}

/* Scales, or {scale, zero} of groups, which tiles hold with those of 16 tokens together. */
static void move_params(const struct view *w, uint8_t *canonical, bool pack)
{
	uint32_t each = w->f == IKV_FMT_FP8 || w->f == IKV_FMT_INT8 ? 1 : 2 * codec_groups(w->dim);
	for (uint32_t t = 0; !plain(w->f) && t < w->rows; t++) {
		for (uint32_t i = 0; i < each; i++) {
			uint8_t *here = w->params + 2 * ((size_t)i * TILE_TOKENS + t);
			uint8_t *there = canonical + w->params_at + 2 * ((size_t)t * each + i);
			memcpy(pack ? here : there, pack ? there : here, 2);
		}
	}
}

void tile_pack(const struct tile_shape *s, bool v, const uint8_t *canonical, uint32_t tokens, uint8_t *tiles)
{
	if (codec_kivi_bits(s->format)) {
		tile_pack_kivi(s, v, canonical, tokens, tiles);
		return;
	}
	if (s->format == IKV_FMT_SPARSE) {
		tile_pack_sparse(s, v, canonical, tokens, tiles);
		return;
	}
	if (s->format == IKV_FMT_FP16) {
		tile_put(s, v, 0, tokens, (const uint16_t *)canonical, v ? s->d_v : s->d_qk, tiles);
		return;
	}
	for (uint32_t i = 0; i < tile_count(tokens); i++) {
		struct view w = view_of(s, v, tokens, i, tiles);
		if (plain(w.f)) {
			memcpy(w.codes, canonical + w.codes_at, w.rows * w.row_bytes);
			continue;
		}
		if (w.rows < TILE_TOKENS || w.dim % 32) { /* padding: codes and scales of 0 */
			memset(w.codes, 0, code_bytes(w.f, w.dim));
			memset(w.params, 0, param_bytes(s, v, w.dim));
		}
		if (w.f == IKV_FMT_FP8 || w.f == IKV_FMT_INT8)
			pack_bytes(&w, canonical);
		else
			pack_pairs(&w, canonical);
		move_params(&w, (uint8_t *)canonical, true);
	}
}

void tile_unpack(const struct tile_shape *s, bool v, const uint8_t *tiles, uint32_t tokens, uint8_t *canonical)
{
	if (codec_kivi_bits(s->format)) {
		tile_unpack_kivi(s, v, tiles, tokens, canonical);
		return;
	}
	if (s->format == IKV_FMT_SPARSE) {
		tile_unpack_sparse(s, v, tiles, tokens, canonical);
		return;
	}
	if (tile_by_channel(s, v)) {
		tile_unpack_channels(s, tiles, tokens, canonical);
		return;
	}
	for (uint32_t i = 0; i < tile_count(tokens); i++) {
		struct view w = view_of(s, v, tokens, i, tiles);
		if (plain(w.f))
			memcpy(canonical + w.codes_at, w.codes, w.rows * w.row_bytes);
		else if (w.f == IKV_FMT_FP8 || w.f == IKV_FMT_INT8)
			unpack_bytes(&w, canonical);
		else
			unpack_pairs(&w, canonical);
		move_params(&w, canonical, false);
	}
}

static float pair_value(const struct view *w, uint32_t t, uint32_t c)
{
	uint32_t g = c / CODEC_GROUP, in = c % CODEC_GROUP, planes = w->f == IKV_FMT_INT4_RESIDUAL ? 2 : 1;
	const uint8_t *p = w->params + 4 * TILE_TOKENS * (size_t)g;
	float scale = codec_half(p, t), zero = codec_half(p, TILE_TOKENS + t);
	unsigned shift = in < 16 ? 0 : 4;
	float x = zero + (float)(*pair_of(w, t, g, in % 16, 0, planes) >> shift & 15) * scale;
	if (planes == 2)
		x += ((float)(*pair_of(w, t, g, in % 16, 1, planes) >> shift & 15) - 7.5f) * (scale / 15);
	return x;
}

void tile_decode(const struct tile_shape *s, bool v, const struct tile *t, float *rows, size_t stride)
{
	bool as_v = v && !s->alias;
	if (codec_kivi_bits(s->format)) {
		tile_decode_kivi(s, v, t, rows, stride);
		return;
	}
	if (s->format == IKV_FMT_SPARSE) {
		tile_decode_sparse(s, v, t, rows, stride);
		return;
	}
	if (tile_by_channel(s, v)) {
		tile_decode_channels(t, s->d_qk, rows, stride);
		return;
	}
	uint32_t used = v ? s->d_v : s->d_qk, stored = as_v ? s->d_v : s->d_qk;
	const uint8_t *params = t->k + (as_v ? s->v_params_at : s->k_params_at);
	struct view w = {.f = s->format, .v = as_v, .dim = stored};
	w.codes = (uint8_t *)(as_v ? t->v : t->k);
	w.params = (uint8_t *)params;
	for (uint32_t i = 0; i < TILE_TOKENS; i++) {
		float *to = rows + i * stride, scale;
		uint32_t row = i < t->rows ? i : t->rows - 1;
		if (plain(w.f)) {
			const uint8_t *from = w.codes + row * (as_v ? s->v_step : s->k_step);
			if (w.f == TILE_FLOAT)
				memcpy(to, from, used * sizeof *to);
			for (uint32_t c = 0; w.f != TILE_FLOAT && c < used; c++)
				to[c] = w.f == IKV_FMT_BF16 ? codec_bf16(from, c) : codec_half(from, c);
			continue;
		}
		scale = w.f == IKV_FMT_FP8 || w.f == IKV_FMT_INT8 ? codec_half(params, i) : 0;
		for (uint32_t c = 0; c < used; c++) {
			if (w.f == IKV_FMT_INT8)
				to[c] = (float)(int8_t)(*byte_of(&w, i, c) ^ (as_v ? 0 : 0x80)) * scale;
			else if (w.f == IKV_FMT_FP8)
				to[c] = codec_e4m3(*byte_of(&w, i, c)) * scale;
			else
				to[c] = pair_value(&w, i, c);
		}
	}
}

/* The KIVI cache: pages of 32 tokens in tiles, K filled a group at a time, V token by token, and rows in FP16. */
#include "intentkv/kivi.h"
#include <math.h>
#include "attn/geometry.h"
#include "attn/kivi_store.h"
#include "intentkv/alloc.h"

static int check_config(const struct ikv_geometry *g, const struct ikv_kivi_config *c, struct ikv_err *err)
{
	if (geometry_check(g, 1, err))
		return -1;
	if (c->bits != 2 && c->bits != 4 && c->bits != 8)
		return ikv_err_set(err, IKV_BAD_INPUT, "kivi: bits: got %u, expected 2, 4 or 8", c->bits);
	if (c->group != CODEC_GROUP)
		return ikv_err_set(err, IKV_BAD_INPUT, "kivi: group: got %u, expected %d", c->group, CODEC_GROUP);
	if (c->residual < 32 || c->residual > 128 || c->residual % CODEC_GROUP)
		return ikv_err_set(err, IKV_BAD_INPUT, "kivi: residual: got %u, expected 32, 64, 96 or 128",
				   c->residual);
	if (g->v_aliases_k)
		return ikv_err_set(err, IKV_BAD_INPUT, "kivi: V must not alias K");
	return 0;
}

static int create_head(struct ikv_kivi *s, struct kivi_head *h, struct ikv_err *err)
{
	h->k_rows = ikv_alloc((size_t)s->residual * s->g.d_qk, sizeof *h->k_rows, err);
	h->v_rows = ikv_alloc((size_t)2 * s->residual * s->g.d_v, sizeof *h->v_rows, err);
	h->v_page = ikv_alloc(s->v_form, 1, err);
	h->energy = ikv_alloc((size_t)2 * s->groups, sizeof *h->energy, err);
	return h->k_rows && h->v_rows && h->v_page && h->energy ? 0 : -1;
}

int ikv_kivi_create(struct ikv_kivi **out, const struct ikv_geometry *g, const struct ikv_kivi_config *config,
		    const char *isa, struct ikv_err *err)
{
	if (check_config(g, config, err))
		return -1;
	const struct micro_kernels *micro = isa_micro(isa, err);
	struct ikv_kivi *s = micro ? ikv_alloc(1, sizeof *s, err) : NULL;
	if (!s)
		return -1;
	uint32_t dim = g->d_qk > g->d_v ? g->d_qk : g->d_v;
	s->g = *g;
	s->residual = config->residual;
	s->format = config->bits == 2 ? IKV_FMT_KIVI2 : config->bits == 4 ? IKV_FMT_KIVI4 : IKV_FMT_KIVI8;
	s->micro = micro;
	s->groups = codec_groups(dim);
	tile_shape_in(&s->shape, s->format, g->d_qk, g->d_v, false, KIVI_PAGE);
	tile_shape(&s->rows_shape, (enum ikv_format)TILE_HALF, g->d_qk, g->d_v, false);
	s->k_form = ikv_format_bytes(s->format, IKV_SIDE_K, KIVI_PAGE, g->d_qk);
	s->v_form = ikv_format_bytes(s->format, IKV_SIDE_V, KIVI_PAGE, g->d_v);
	s->form = ikv_alloc(s->k_form > s->v_form ? s->k_form : s->v_form, 1, err);
	s->values = ikv_alloc((size_t)KIVI_PAGE * dim, sizeof *s->values, err);
	s->tokens = ikv_alloc(g->layers, sizeof *s->tokens, err);
	s->heads = ikv_alloc((size_t)g->layers * g->kv_heads, sizeof *s->heads, err);
	int rc = s->form && s->values && s->tokens && s->heads ? 0 : -1;
	for (uint32_t i = 0; rc == 0 && i < g->layers * g->kv_heads; i++)
		rc = create_head(s, &s->heads[i], err);
	if (rc) {
		ikv_kivi_destroy(s);
		return -1;
	}
	*out = s;
	return 0;
}

void ikv_kivi_destroy(struct ikv_kivi *s)
{
	if (!s)
		return;
	for (uint32_t i = 0; s->heads && i < s->g.layers * s->g.kv_heads; i++) {
		ikv_free(s->heads[i].tiles);
		ikv_free(s->heads[i].k_rows);
		ikv_free(s->heads[i].v_rows);
		ikv_free(s->heads[i].v_page);
		ikv_free(s->heads[i].energy);
	}
	ikv_free(s->form);
	ikv_free(s->values);
	ikv_free(s->tokens);
	ikv_free(s->heads);
	ikv_free(s->work);
	ikv_free(s);
}

/* What encoding did to rows of one head, counted by groups of channels. */
static void count_noise(struct ikv_kivi *s, struct kivi_head *h, bool v, const uint16_t *rows, const uint8_t *form,
			uint32_t tokens)
{
	uint32_t dim = v ? s->g.d_v : s->g.d_qk;
	struct codec_rows r = {form, tokens, dim, v};
	for (uint32_t t = 0; t < tokens; t++) {
		codec_read(s->format, &r, t, 0, dim, s->values);
		for (uint32_t c = 0; c < dim; c++) {
			struct kivi_energy *e = &h->energy[(v ? s->groups : 0) + c / CODEC_GROUP];
			double x = half_to_float(rows[(size_t)t * dim + c]), lost = x - s->values[c];
			e->signal += x * x;
			e->noise += lost * lost;
		}
	}
	h->encoded[v] += tokens;
}

static int add_pages(struct ikv_kivi *s, struct kivi_head *h, uint32_t pages, struct ikv_err *err)
{
	if (pages > h->cap) {
		uint32_t cap = h->cap ? 2 * h->cap : 16;
		if (ikv_grow(&h->tiles, h->cap * kivi_page_bytes(s), cap * kivi_page_bytes(s), 1, err))
			return -1;
		h->cap = cap;
	}
	return 0;
}

/* K's rows are `residual` in number: groups of 32 of them become pages. */
static int encode_k(struct ikv_kivi *s, struct kivi_head *h, struct ikv_err *err)
{
	for (uint32_t t = 0; t < s->residual; t += KIVI_PAGE) {
		const uint16_t *rows = h->k_rows + (size_t)t * s->g.d_qk;
		uint32_t page = h->encoded[0] / KIVI_PAGE;
		if (add_pages(s, h, page + 1, err) ||
		    ikv_format_encode(s->format, IKV_SIDE_K, rows, KIVI_PAGE, s->g.d_qk, s->form, err))
			return -1;
		uint8_t *tiles = h->tiles + page * kivi_page_bytes(s);
		memset(tiles, 0, kivi_page_bytes(s)); /* V comes later, row by row */
		tile_pack(&s->shape, false, s->form, KIVI_PAGE, tiles);
		count_noise(s, h, false, rows, s->form, KIVI_PAGE);
	}
	h->k_open = 0;
	return 0;
}

/* V's oldest row leaves the window; its page has been there since K left it. */
static int encode_v(struct ikv_kivi *s, struct kivi_head *h, struct ikv_err *err)
{
	const uint16_t *row = h->v_rows + (size_t)h->v_first * s->g.d_v;
	uint32_t in = h->encoded[1] % KIVI_PAGE, page = h->encoded[1] / KIVI_PAGE;
	size_t params = codec_kivi_params(true, 1, s->g.d_v),
	       codes = codec_packed_bytes(s->g.d_v, codec_kivi_bits(s->format));
	if (ikv_format_encode(s->format, IKV_SIDE_V, row, 1, s->g.d_v, s->form, err))
		return -1;
	if (in == 0)
		memset(h->v_page, 0, s->v_form);
	memcpy(h->v_page + in * params, s->form, params);
	memcpy(h->v_page + KIVI_PAGE * params + in * codes, s->form + params, codes);
	count_noise(s, h, true, row, s->form, 1);
	h->v_first++;
	h->v_open--;
	h->v_dirty = in + 1 < KIVI_PAGE;
	if (!h->v_dirty)
		tile_pack(&s->shape, true, h->v_page, KIVI_PAGE, h->tiles + page * kivi_page_bytes(s));
	return 0;
}

static int append_row(struct ikv_kivi *s, struct kivi_head *h, const uint16_t *k, const uint16_t *v,
		      struct ikv_err *err)
{
	memcpy(h->k_rows + (size_t)h->k_open * s->g.d_qk, k, 2 * (size_t)s->g.d_qk);
	if (++h->k_open == s->residual && encode_k(s, h, err))
		return -1;
	if (h->v_first + h->v_open == 2 * s->residual) {
		memmove(h->v_rows, h->v_rows + (size_t)h->v_first * s->g.d_v, 2 * (size_t)h->v_open * s->g.d_v);
		h->v_first = 0;
	}
	memcpy(h->v_rows + (size_t)(h->v_first + h->v_open) * s->g.d_v, v, 2 * (size_t)s->g.d_v);
	h->v_open++;
	return h->v_open > s->residual ? encode_v(s, h, err) : 0;
}

int kivi_check(const struct ikv_kivi *s, uint32_t layer, struct ikv_err *err)
{
	if (layer < s->g.layers)
		return 0;
	return ikv_err_set(err, IKV_FAILED, "kivi: layer %u: there are %u", layer, s->g.layers);
}

int ikv_kivi_append(struct ikv_kivi *s, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
		    struct ikv_err *err)
{
	if (kivi_check(s, layer, err) || codec_finite(k, tokens, s->g.kv_heads * s->g.d_qk, "K", err) ||
	    codec_finite(v, tokens, s->g.kv_heads * s->g.d_v, "V", err))
		return -1;
	if (tokens > UINT32_MAX - s->tokens[layer])
		return ikv_err_set(err, IKV_FAILED, "kivi: layer %u: more than 2^32 tokens", layer);
	for (uint32_t n = 0; n < s->g.kv_heads; n++) {
		struct kivi_head *h = kivi_head(s, layer, n);
		for (uint32_t t = 0; t < tokens; t++) {
			size_t row = (size_t)t * s->g.kv_heads + n;
			if (append_row(s, h, k + row * s->g.d_qk, v + row * s->g.d_v, err))
				return -1;
		}
		if (h->v_dirty)
			tile_pack(&s->shape, true, h->v_page, KIVI_PAGE,
				  h->tiles + h->encoded[1] / KIVI_PAGE * kivi_page_bytes(s));
		h->v_dirty = false;
	}
	s->tokens[layer] += tokens;
	return 0;
}

uint32_t ikv_kivi_tokens(const struct ikv_kivi *s, uint32_t layer)
{
	return layer < s->g.layers ? s->tokens[layer] : 0;
}

uint64_t ikv_kivi_stored(const struct ikv_kivi *s)
{
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < s->g.layers * s->g.kv_heads; i++) {
		const struct kivi_head *h = &s->heads[i];
		bytes += ikv_format_bytes(s->format, IKV_SIDE_K, h->encoded[0], s->g.d_qk) +
			 ikv_format_bytes(s->format, IKV_SIDE_V, h->encoded[1], s->g.d_v) +
			 2 * ((uint64_t)h->k_open * s->g.d_qk + (uint64_t)h->v_open * s->g.d_v);
	}
	return bytes;
}

int ikv_kivi_read(const struct ikv_kivi *s, uint32_t layer, uint32_t kv_head, enum ikv_side side, uint32_t first,
		  uint32_t count, float *rows, struct ikv_err *err)
{
	if (kivi_check(s, layer, err))
		return -1;
	if (kv_head >= s->g.kv_heads || first > s->tokens[layer] || count > s->tokens[layer] - first)
		return ikv_err_set(err, IKV_FAILED, "kivi: KV head %u, tokens %u+%u: there are %u heads, %u tokens",
				   kv_head, first, count, s->g.kv_heads, s->tokens[layer]);
	const struct kivi_head *h = kivi_head(s, layer, kv_head);
	bool v = side == IKV_SIDE_V;
	uint32_t dim = v ? s->g.d_v : s->g.d_qk, done = h->encoded[v];
	const uint16_t *open = v ? h->v_rows + (size_t)h->v_first * dim : h->k_rows;
	struct codec_rows r = {s->form, KIVI_PAGE, dim, v};
	for (uint32_t t = first, page = UINT32_MAX; t < first + count; t++, rows += dim) {
		if (t < done && t / KIVI_PAGE != page) {
			page = t / KIVI_PAGE;
			tile_unpack(&s->shape, v, h->tiles + page * kivi_page_bytes(s), KIVI_PAGE, s->form);
		}
		if (t < done)
			codec_read(s->format, &r, t % KIVI_PAGE, 0, dim, rows);
		for (uint32_t c = 0; t >= done && c < dim; c++)
			rows[c] = half_to_float(open[(size_t)(t - done) * dim + c]);
	}
	return 0;
}

double ikv_kivi_snr(const struct ikv_kivi *s, uint32_t layer, uint32_t kv_head, enum ikv_side side, uint32_t group)
{
	bool v = side == IKV_SIDE_V;
	if (layer >= s->g.layers || kv_head >= s->g.kv_heads || group >= codec_groups(v ? s->g.d_v : s->g.d_qk))
		return NAN;
	const struct kivi_head *h = kivi_head(s, layer, kv_head);
	const struct kivi_energy *e = &h->energy[(v ? s->groups : 0) + group];
	if (!h->encoded[v])
		return NAN;
	return e->noise > 0 ? 10 * log10(e->signal / e->noise) : INFINITY;
}

/* Re-encoding. Formats that the device's kernel knows are re-encoded there, the others by the engine's codecs here,
 * as is an exact copy that replaces a page: in its new format it is less to carry over the link. */
#include <math.h>
#include <string.h>
#include "gpu/mla_tile.h"
#include "gpu/pages.h"
#include "quant/codec.h"

/* `f`: of the entry, as for unpack. */
static void pack(const struct pages *p, uint32_t f, uint32_t tokens, const uint8_t *k, const uint8_t *v,
		 uint8_t *tiles)
{
	if (p->g.v_aliases_k)
		mla_tile_pack((enum ikv_format)f, tokens, p->g.d_qk, k, tiles);
	else
		gpu_tile_pack(f, tokens, p->g.d_qk, p->g.d_v, p->steps, k, v, tiles);
}

static void unpack(const struct pages *p, uint32_t f, const uint8_t *tiles, uint8_t *k, uint8_t *v)
{
	if (p->g.v_aliases_k)
		mla_tile_unpack((enum ikv_format)f, p->g.page_tokens, p->g.d_qk, tiles, k);
	else
		gpu_tile_unpack(f, p->g.page_tokens, p->g.d_qk, p->g.d_v, p->steps, tiles, k, v);
}

int pages_check_heads(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, struct ikv_err *err)
{
	if (pages_check_layer(p, seq, layer, err))
		return -1;
	const struct pages_list *l = pages_list(p, seq, layer);
	if (kv_first > p->g.kv_heads || kv_count > p->g.kv_heads - kv_first)
		return ikv_err_set(err, IKV_FAILED, "KV heads %u+%u: there are %u", kv_first, kv_count,
				   p->g.kv_heads);
	if (page >= l->pages)
		return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: no page %u, there are %u", seq, layer,
				   page, l->pages);
	return 0;
}

static int check_page(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_format to, struct ikv_err *err)
{
	if (pages_check_heads(p, seq, layer, kv_first, kv_count, page, err))
		return -1;
	const struct pages_list *l = pages_list(p, seq, layer);
	if ((unsigned)to >= IKV_FMT_COUNT || to == IKV_FMT_SKIP)
		return ikv_err_set(err, IKV_FAILED, "a page cannot be stored as %s",
				   to == IKV_FMT_SKIP ? "SKIP" : "an unknown format");
	if (p->g.v_aliases_k && to >= MLA_FORMATS)
		return ikv_err_set(err, IKV_UNAVAILABLE,
				   "backend cuda: no kernels for latents in %s; it has FP16, FP8, INT8, INT4 and "
				   "INT4_RESIDUAL",
				   ikv_format_names()[to]);
	if (to != IKV_FMT_FP16 && l->tokens / p->g.page_tokens <= page)
		return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: page %u is still open and stays FP16",
				   seq, layer, page);
	return 0;
}

/* Rows from one stored form to another, in place, as the engine's store converts them. */
static int convert(struct pages *p, enum ikv_format from, enum ikv_format to, enum ikv_side side, uint8_t *stored,
		   uint32_t dim, struct ikv_err *err)
{
	uint32_t n = p->g.page_tokens;
	if (from == IKV_FMT_INT4_RESIDUAL && to == IKV_FMT_INT4)
		return 0; /* the second plane is dropped */
	if (from == IKV_FMT_FP16) {
		memcpy(p->halves, stored, 2 * (size_t)n * dim);
		return ikv_format_encode(to, side, p->halves, n, dim, stored, err);
	}
	if (ikv_format_decode(from, side, stored, n, dim, p->values, err))
		return -1;
	for (size_t i = 0; i < (size_t)n * dim; i++)
		p->halves[i] = ikv_fp16_from_float(fminf(fmaxf(p->values[i], -65504), 65504));
	return ikv_format_encode(to, side, p->halves, n, dim, stored, err);
}

int pages_read(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page, uint8_t *k, uint8_t *v,
	       struct ikv_err *err)
{
	if (pages_check_heads(p, seq, layer, kv_head, 1, page, err))
		return -1;
	attend_entry e = pages_list(p, seq, layer)->table[pages_at(p, page, kv_head)];
	enum ikv_format f = pages_entry_format(e);
	if (device_get(&p->device, p->tiles_back, pages_entry_slot(e), pages_slot_bytes(p, f), err))
		return -1;
	unpack(p, e & 15, p->tiles_back, k, v);
	return 0;
}

/* Upload what p->k and p->v hold to a new slot. */
static int upload(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, enum ikv_format to,
		  bool on_host, struct ikv_err *err)
{
	uint32_t form = to;
	if (pages_put(p, l, page, head, to, on_host, err))
		return -1;
	uint64_t slot = pages_entry_slot(l->table[pages_at(p, page, head)]);
	if (to == IKV_FMT_BF16 && (gpu_tile_wide(p->k, (size_t)p->g.page_tokens * p->g.d_qk) ||
				   gpu_tile_wide(p->v, (size_t)p->g.page_tokens * p->g.d_v))) {
		form = TILE_BF16_WIDE;
		pages_set(p, l, page, head, slot | form, on_host);
	}
	uint8_t *tiles = device_put(&p->device, slot, pages_slot_bytes(p, to), err);
	if (!tiles)
		return -1;
	pack(p, form, p->g.page_tokens, p->k, p->v, tiles);
	return 0;
}

static int recode_head(struct pages *p, uint32_t seq, uint32_t layer, uint32_t page, uint32_t head,
		       enum ikv_format to, struct ikv_err *err)
{
	struct pages_list *l = pages_list(p, seq, layer);
	size_t at = pages_at(p, page, head);
	if ((l->where[at] & MOVES_QUEUED) && tier_force(p, err))
		return -1;
	attend_entry e = l->table[at];
	enum ikv_format from = pages_entry_format(e);
	bool on_host = l->where[at] & MOVES_HOST;
	if (encode_knows(from) && encode_knows(to)) {
		/* What is still to be re-encoded can be read after that only. */
		if ((l->recode_flush[at] == p->device.flushes + 1 && device_flush(&p->device, err)) ||
		    device_recode_room(&p->device, err) || pages_put(p, l, page, head, to, on_host, err))
			return -1;
		device_recode(&p->device, e, l->table[at]);
		l->recode_flush[at] = p->device.flushes + 1;
		return 0;
	}
	if (pages_read(p, seq, layer, head, page, p->k, p->v, err) ||
	    convert(p, from, to, IKV_SIDE_K, p->k, p->g.d_qk, err) ||
	    (!p->g.v_aliases_k && convert(p, from, to, IKV_SIDE_V, p->v, p->g.d_v, err)))
		return -1;
	return upload(p, l, page, head, to, on_host, err);
}

int pages_recode(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		 enum ikv_format to, struct ikv_err *err)
{
	if (check_page(p, seq, layer, kv_first, kv_count, page, to, err))
		return -1;
	for (uint32_t h = kv_first; h < kv_first + kv_count; h++) {
		if (pages_format(p, seq, layer, h, page) == to)
			continue;
		if (recode_head(p, seq, layer, page, h, to, err))
			return -1;
		p->stats.recodes++;
		p->stats.recoded_bytes += p->own[to];
	}
	return 0;
}

/* An exact copy of an open page: the rows that it has, again. */
static int restore_open(struct pages *p, struct pages_list *l, uint32_t kv_first, uint32_t kv_count, uint32_t page,
			const uint16_t *k, const uint16_t *v, struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	return pages_write(p, l, page,
			   &(struct pages_rows){.k = k,
						.v = v,
						.k_head = (size_t)g->page_tokens * g->d_qk,
						.v_head = (size_t)g->page_tokens * g->d_v,
						.k_token = g->d_qk,
						.v_token = g->d_v,
						.tokens = l->tokens % g->page_tokens,
						.kv_first = kv_first,
						.kv_count = kv_count,
						.again = true},
			   err);
}

int pages_restore(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		  enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	uint32_t n = g->page_tokens;
	size_t k_rows = (size_t)n * g->d_qk, v_rows = g->v_aliases_k ? 0 : (size_t)n * g->d_v;
	if (check_page(p, seq, layer, kv_first, kv_count, page, to, err))
		return -1;
	for (uint32_t i = 0; i < kv_count; i++)
		if (pages_check_finite(k + i * k_rows, n, g->d_qk, "K", err) ||
		    (v_rows && pages_check_finite(v + i * v_rows, n, g->d_v, "V", err)))
			return -1;
	struct pages_list *l = pages_list(p, seq, layer);
	if (page >= l->tokens / n)
		return restore_open(p, l, kv_first, kv_count, page, k, v, err);
	for (uint32_t i = 0; i < kv_count; i++, k += k_rows, v = v_rows ? v + v_rows : v) {
		uint32_t h = kv_first + i;
		if (ikv_format_encode(to, IKV_SIDE_K, k, n, g->d_qk, p->k, err) ||
		    (v_rows && ikv_format_encode(to, IKV_SIDE_V, v, n, g->d_v, p->v, err)) ||
		    upload(p, l, page, h, to, l->where[pages_at(p, page, h)] & MOVES_HOST, err))
			return -1;
	}
	return 0;
}

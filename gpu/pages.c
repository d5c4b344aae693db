#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>
#include "gpu/mla.h"
#include "gpu/mla_tile.h"
#include "gpu/pages.h"
#include "intentkv/alloc.h"
#include "intentkv/layout.h"
#include "quant/codec.h"

static int within(const char *what, uint32_t value, uint32_t max, struct ikv_err *err)
{
	if (value >= 1 && value <= max)
		return 0;
	return ikv_err_set(err, IKV_BAD_INPUT, "backend cuda: %s is %u, expected 1 to %u", what, value, max);
}

static int check_geometry(const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	uint32_t k_most = g->v_aliases_k ? MLA_DIM : TILE_DIM_MAX, v_most = g->v_aliases_k ? MLA_OUT : TILE_DIM_MAX;
	if (g->v_aliases_k && g->d_v > g->d_qk)
		return ikv_err_set(err, IKV_BAD_INPUT, "backend cuda: V aliases K but d_v %u exceeds d_qk %u", g->d_v,
				   g->d_qk);
	if (within("layers", g->layers, 4096, err) || within("q_heads", g->q_heads, 4096, err) ||
	    within("kv_heads", g->kv_heads, 4096, err) || within("d_qk", g->d_qk, k_most, err) ||
	    within("d_v", g->d_v, v_most, err) || within("page_tokens", g->page_tokens, IKV_PAGE_TOKENS_MAX, err) ||
	    within("sequences", sequences, 1u << 20, err))
		return -1;
	if (g->q_heads % g->kv_heads)
		return ikv_err_set(err, IKV_BAD_INPUT, "backend cuda: q_heads %u is not a multiple of kv_heads %u",
				   g->q_heads, g->kv_heads);
	if (!isfinite(g->scale))
		return ikv_err_set(err, IKV_BAD_INPUT, "backend cuda: scale is not finite");
	return 0;
}

/* Bytes of a tile of 16 tokens: of K and V, or of the row that is both. */
static uint32_t bytes_of_tile(const struct pages *p, enum ikv_format f)
{
	return p->g.v_aliases_k ? 2 * mla_group_bytes(f) : tile_bytes(f, p->steps);
}

uint64_t pages_slot_bytes(const struct pages *p, enum ikv_format f)
{
	return (uint64_t)p->tiles * bytes_of_tile(p, f);
}

int pages_open(struct pages *p, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	uint64_t slot[IKV_FMT_COUNT] = {0};
	*p = (struct pages){.g = *g, .sequences = sequences};
	if (check_geometry(g, sequences, err))
		return -1;
	uint32_t dim = g->d_qk > g->d_v ? g->d_qk : g->d_v;
	size_t lists = (size_t)sequences * g->layers, rows = (size_t)g->page_tokens * dim, form = 0;
	p->steps = tile_steps(dim);
	p->tiles = (g->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
	for (unsigned f = 1; f < (g->v_aliases_k ? MLA_FORMATS : GPU_FORMATS); f++) {
		uint64_t bytes = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, g->page_tokens, dim);
		uint64_t of_v = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, g->page_tokens, dim);
		bytes = of_v > bytes ? of_v : bytes;
		slot[f] = pages_slot_bytes(p, (enum ikv_format)f);
		p->own[f] = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, g->page_tokens, g->d_qk);
		if (!g->v_aliases_k)
			p->own[f] += ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, g->page_tokens, g->d_v);
		form = bytes > form ? bytes : form;
	}
	if (device_open(&p->device, slot, err))
		return -1;
	p->device.shape = (struct encode_shape){.page_tokens = g->page_tokens,
						.d_qk = g->d_qk,
						.d_v = g->d_v,
						.steps = p->steps,
						.latent = g->v_aliases_k};
	p->lists = ikv_alloc(lists, sizeof *p->lists, err);
	p->queue = ikv_alloc(lists, sizeof *p->queue, err);
	p->k = ikv_alloc(form, 1, err);
	p->v = ikv_alloc(form, 1, err);
	p->tiles_back = ikv_alloc(p->tiles, bytes_of_tile(p, IKV_FMT_FP16), err);
	p->halves = ikv_alloc(rows, sizeof *p->halves, err);
	p->values = ikv_alloc(rows, sizeof *p->values, err);
	if (p->lists && p->queue && p->k && p->v && p->tiles_back && p->halves && p->values)
		return 0;
	pages_close(p);
	return -1;
}

void pages_close(struct pages *p)
{
	for (size_t i = 0; p->lists && i < (size_t)p->sequences * p->g.layers; i++) {
		ikv_free(p->lists[i].table);
		ikv_free(p->lists[i].where);
		ikv_free(p->lists[i].recode_flush);
		ikv_free(p->lists[i].held);
		cudaFree(p->lists[i].device_table);
	}
	tier_close(p);
	device_close(&p->device);
	ikv_free(p->lists);
	ikv_free(p->queue);
	ikv_free(p->k);
	ikv_free(p->v);
	ikv_free(p->tiles_back);
	ikv_free(p->halves);
	ikv_free(p->values);
}

static attend_entry *entries(const struct pages *p, const struct pages_list *l, uint32_t page)
{
	return &l->table[(size_t)page * p->g.kv_heads];
}

static void queue(struct pages *p, struct pages_list *l)
{
	if (!l->queued)
		p->queue[p->queued++] = (uint32_t)(l - p->lists);
	l->queued = true;
}

static void dirty(struct pages *p, struct pages_list *l, uint32_t page)
{
	if (l->dirty_from == l->dirty_to) {
		l->dirty_from = page;
		l->dirty_to = page + 1;
	}
	l->dirty_from = page < l->dirty_from ? page : l->dirty_from;
	l->dirty_to = page >= l->dirty_to ? page + 1 : l->dirty_to;
	queue(p, l);
}

void pages_set(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, attend_entry e, bool on_host)
{
	uint8_t *where = &l->where[pages_at(p, page, head)];
	p->host_pages += on_host;
	p->host_pages -= *where & MOVES_HOST;
	*where = on_host ? MOVES_HOST : MOVES_DEVICE;
	if (entries(p, l, page)[head])
		l->held[head * IKV_FMT_COUNT + pages_entry_format(entries(p, l, page)[head])]--;
	l->held[head * IKV_FMT_COUNT + pages_entry_format(e)]++;
	entries(p, l, page)[head] = e;
	dirty(p, l, page);
}

static void give(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head)
{
	attend_entry e = entries(p, l, page)[head];
	uint8_t where = l->where[pages_at(p, page, head)];
	if (where & MOVES_QUEUED)
		tier_forget(p, (uint32_t)(l - p->lists), page, head);
	device_give(&p->device, where & MOVES_HOST, pages_entry_format(e), pages_entry_slot(e));
	p->stats.bytes_stored -= p->own[pages_entry_format(e)];
	p->stats.pages_stored--;
}

int pages_put(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, enum ikv_format f, bool on_host,
	      struct ikv_err *err)
{
	uint64_t slot = device_take(&p->device, on_host, f, err);
	if (!slot)
		return -1;
	if (entries(p, l, page)[head])
		give(p, l, page, head);
	pages_set(p, l, page, head, slot | (uint64_t)f, on_host);
	p->stats.bytes_stored += p->own[f];
	p->stats.pages_stored++;
	return 0;
}

static void drop(struct pages *p, struct pages_list *l, uint32_t page)
{
	for (uint32_t h = 0; h < p->g.kv_heads; h++) {
		uint8_t *where = &l->where[pages_at(p, page, h)];
		if (!entries(p, l, page)[h])
			continue;
		give(p, l, page, h);
		p->host_pages -= *where & MOVES_HOST;
		*where = MOVES_DEVICE;
		l->held[h * IKV_FMT_COUNT + pages_entry_format(entries(p, l, page)[h])]--;
		entries(p, l, page)[h] = 0;
	}
}

int pages_check_layer(const struct pages *p, uint32_t seq, uint32_t layer, struct ikv_err *err)
{
	if (seq < p->sequences && layer < p->g.layers)
		return 0;
	return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: the backend has %u sequences, %u layers", seq,
			   layer, p->sequences, p->g.layers);
}

/* NaN and infinity cannot be stored. */
int pages_check_finite(const uint16_t *rows, uint32_t tokens, uint32_t dim, const char *what, struct ikv_err *err)
{
	for (size_t i = 0; i < (size_t)tokens * dim; i++)
		if ((rows[i] & 0x7c00) == 0x7c00)
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "%s: row %zu, value %zu is %s, expected a finite number", what, i / dim,
					   i % dim, rows[i] & 0x3ff ? "NaN" : "infinite");
	return 0;
}

static int add_page(struct pages *p, struct pages_list *l, struct ikv_err *err)
{
	uint32_t heads = p->g.kv_heads;
	if (!l->held && !(l->held = ikv_alloc((size_t)heads * IKV_FMT_COUNT, sizeof *l->held, err)))
		return -1;
	if (l->pages == l->cap) {
		uint32_t want = l->cap ? 2 * l->cap : 16;
		if (l->cap > UINT32_MAX / 2 / heads)
			return ikv_err_set(err, IKV_FAILED, "too many pages in a sequence");
		if (ikv_grow(&l->table, (size_t)l->cap * heads, (size_t)want * heads, sizeof *l->table, err) ||
		    ikv_grow(&l->where, (size_t)l->cap * heads, (size_t)want * heads, sizeof *l->where, err) ||
		    ikv_grow(&l->recode_flush, (size_t)l->cap * heads, (size_t)want * heads, sizeof *l->recode_flush,
			     err))
			return -1;
		l->cap = want;
	}
	memset(entries(p, l, l->pages), 0, heads * sizeof *l->table);
	memset(&l->where[pages_at(p, l->pages, 0)], 0, heads);
	for (uint32_t h = 0; h < heads; h++) {
		if (pages_put(p, l, l->pages, h, IKV_FMT_FP16, false, err)) {
			drop(p, l, l->pages);
			return -1;
		}
	}
	l->pages++;
	return 0;
}

/* Rows of two appends to a tile are not to be written at once. */
static int order_appends(struct pages *p, const struct pages_list *l, struct ikv_err *err)
{
	return l->append_flush == p->device.flushes + 1 ? device_flush(&p->device, err) : 0;
}

static void stage_rows(uint8_t *to, const uint16_t *from, size_t head, size_t token, uint32_t heads, uint32_t tokens,
		       uint32_t dim)
{
	for (uint32_t t = 0; t < tokens; t++)
		for (uint32_t h = 0; h < heads; h++, to += 2 * (size_t)dim)
			memcpy(to, from + h * head + t * token, 2 * (size_t)dim);
}

int pages_write(struct pages *p, struct pages_list *l, uint32_t page, const struct pages_rows *x, struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	size_t k_bytes = 2 * (size_t)x->tokens * x->kv_count * g->d_qk,
	       v_bytes = g->v_aliases_k ? 0 : 2 * (size_t)x->tokens * x->kv_count * g->d_v;
	if ((x->first % TILE_TOKENS || x->again) && order_appends(p, l, err))
		return -1;
	/* A page may be on its way between tiers, or become FP16 by a re-encoding that is still to be started. */
	for (uint32_t h = x->kv_first; h < x->kv_first + x->kv_count; h++)
		if (((l->where[pages_at(p, page, h)] & MOVES_QUEUED) && tier_force(p, err)) ||
		    (l->recode_flush[pages_at(p, page, h)] == p->device.flushes + 1 && device_flush(&p->device, err)))
			return -1;
	uint8_t *staged = device_stage(&p->device, k_bytes + v_bytes, x->kv_count, err);
	if (!staged)
		return -1;
	stage_rows(staged, x->k, x->k_head, x->k_token, x->kv_count, x->tokens, g->d_qk);
	if (v_bytes)
		stage_rows(staged + k_bytes, x->v, x->v_head, x->v_token, x->kv_count, x->tokens, g->d_v);
	uint64_t at = device_staged(&p->device, staged);
	for (uint32_t h = 0; h < x->kv_count; h++)
		device_append(&p->device,
			      &(struct append_item){.to = pages_entry_slot(entries(p, l, page)[x->kv_first + h]),
						    .k = at + 2 * (size_t)h * g->d_qk,
						    .v = at + k_bytes + 2 * (size_t)h * g->d_v,
						    .k_stride = x->kv_count * g->d_qk,
						    .v_stride = x->kv_count * g->d_v,
						    .first = x->first,
						    .tokens = x->tokens});
	l->append_flush = p->device.flushes + 1;
	return 0;
}

int pages_append(struct pages *p, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
		 struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	if (pages_check_layer(p, seq, layer, err))
		return -1;
	struct pages_list *l = pages_list(p, seq, layer);
	size_t k_row = (size_t)g->kv_heads * g->d_qk, v_row = (size_t)g->kv_heads * g->d_v;
	if (tokens > UINT32_MAX - l->tokens)
		return ikv_err_set(err, IKV_FAILED, "sequence %u: more than 2^32 tokens", seq);
	if (pages_check_finite(k, tokens, g->kv_heads * g->d_qk, "K", err) ||
	    (!g->v_aliases_k && pages_check_finite(v, tokens, g->kv_heads * g->d_v, "V", err)))
		return -1;
	for (uint32_t i = 0, n; i < tokens; i += n) {
		uint32_t first = l->tokens % g->page_tokens;
		n = tokens - i < g->page_tokens - first ? tokens - i : g->page_tokens - first;
		struct pages_rows rows = {.k = k + i * k_row,
					  .v = g->v_aliases_k ? NULL : v + i * v_row,
					  .k_head = g->d_qk,
					  .v_head = g->d_v,
					  .k_token = k_row,
					  .v_token = v_row,
					  .first = first,
					  .tokens = n,
					  .kv_count = g->kv_heads};
		if ((first == 0 && add_page(p, l, err)) || pages_write(p, l, l->pages - 1, &rows, err))
			return -1;
		l->tokens += n;
	}
	return 0;
}

int pages_truncate(struct pages *p, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	uint32_t size = p->g.page_tokens, rest = tokens % size, cut = tokens / size;
	if (pages_check_layer(p, seq, 0, err))
		return -1;
	for (uint32_t layer = 0; rest && layer < p->g.layers; layer++) {
		for (uint32_t h = 0; tokens < pages_list(p, seq, layer)->tokens && h < p->g.kv_heads; h++) {
			enum ikv_format f = pages_format(p, seq, layer, h, cut);
			if (f != IKV_FMT_FP16)
				return ikv_err_set(err, IKV_FAILED,
						   "sequence %u: page %u of layer %u, KV head %u is %s; "
						   "only an FP16 page can be cut open",
						   seq, cut, layer, h, ikv_format_names()[f]);
		}
	}
	for (uint32_t layer = 0; layer < p->g.layers; layer++) {
		struct pages_list *l = pages_list(p, seq, layer);
		if (tokens >= l->tokens)
			continue;
		if (rest && order_appends(p, l, err))
			return -1;
		while (l->pages > cut + (rest != 0))
			drop(p, l, --l->pages);
		l->tokens = tokens;
		l->dirty_to = l->dirty_to < l->pages ? l->dirty_to : l->pages;
		l->dirty_from = l->dirty_from < l->dirty_to ? l->dirty_from : l->dirty_to;
	}
	return 0;
}

enum ikv_format pages_format(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page)
{
	if (pages_check_layer(p, seq, layer, NULL) || kv_head >= p->g.kv_heads ||
	    page >= pages_list(p, seq, layer)->pages)
		return IKV_FMT_SKIP;
	return pages_entry_format(entries(p, pages_list(p, seq, layer), page)[kv_head]);
}

/* A larger table on the device takes over the old one's entries. */
static int grow_table(struct pages *p, struct pages_list *l, struct ikv_err *err)
{
	if (l->pages <= l->device_cap)
		return 0;
	void *table;
	if (device_failed(cudaMalloc(&table, (size_t)l->cap * p->g.kv_heads * sizeof *l->table),
			  "allocate device memory for a page table", err))
		return -1;
	cudaFree(l->device_table); /* waits for work that uses it */
	l->device_table = table;
	l->device_cap = l->cap;
	l->dirty_from = 0;
	l->dirty_to = l->pages;
	return 0;
}

int pages_upload(struct pages *p, struct ikv_err *err)
{
	for (uint32_t i = 0; i < p->queued; i++) {
		struct pages_list *l = &p->lists[p->queue[i]];
		if (grow_table(p, l, err))
			return -1;
		size_t entry = p->g.kv_heads * sizeof *l->table, bytes = (l->dirty_to - l->dirty_from) * entry;
		if (!bytes)
			continue;
		void *to =
		    device_put(&p->device, (uint64_t)(uintptr_t)l->device_table + l->dirty_from * entry, bytes, err);
		if (!to)
			return -1;
		memcpy(to, entries(p, l, l->dirty_from), bytes);
		l->dirty_from = l->dirty_to = 0;
	}
	for (uint32_t i = 0; i < p->queued; i++)
		p->lists[p->queue[i]].queued = false;
	p->queued = 0;
	return device_flush(&p->device, err);
}

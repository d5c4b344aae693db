#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>
#include "gpu/mla.h"
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

int pages_open(struct pages *p, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	uint64_t slot[IKV_FMT_COUNT] = {0};
	*p = (struct pages){.g = *g, .sequences = sequences};
	if (check_geometry(g, sequences, err))
		return -1;
	uint32_t dim = g->d_qk > g->d_v ? g->d_qk : g->d_v;
	size_t lists = (size_t)sequences * g->layers, rows = (size_t)g->page_tokens * dim, form = 0, tile = 0;
	p->steps = tile_steps(dim);
	p->tiles = (g->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
	for (unsigned f = 1; f < (g->v_aliases_k ? MLA_FORMATS : GPU_FORMATS); f++) {
		uint64_t bytes = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, g->page_tokens, dim);
		uint64_t of_v = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, g->page_tokens, dim);
		bytes = of_v > bytes ? of_v : bytes;
		slot[f] = (uint64_t)p->tiles * bytes_of_tile(p, (enum ikv_format)f);
		p->own[f] = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, g->page_tokens, g->d_qk);
		if (!g->v_aliases_k)
			p->own[f] += ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, g->page_tokens, g->d_v);
		form = bytes > form ? bytes : form;
		tile = bytes_of_tile(p, (enum ikv_format)f) > tile ? bytes_of_tile(p, (enum ikv_format)f) : tile;
	}
	if (device_open(&p->device, slot, err))
		return -1;
	p->lists = ikv_alloc(lists, sizeof *p->lists, err);
	p->queue = ikv_alloc(lists, sizeof *p->queue, err);
	p->k = ikv_alloc(form, 1, err);
	p->v = ikv_alloc(form, 1, err);
	p->tiles_back = ikv_alloc(p->tiles, tile, err);
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
		ikv_free(p->lists[i].open_k);
		ikv_free(p->lists[i].open_v);
		cudaFree(p->lists[i].device_table);
	}
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

static uint64_t entry_slot(attend_entry e)
{
	return e & ~(uint64_t)15;
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

/* Give an entry a slot of a format; the old one, if any, is given back. */
static int place(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, enum ikv_format f,
		 struct ikv_err *err)
{
	attend_entry *e = &entries(p, l, page)[head];
	uint64_t slot = device_take(&p->device, f, err);
	if (!slot)
		return -1;
	if (*e) {
		device_give(&p->device, pages_entry_format(*e), entry_slot(*e));
		p->stats.bytes_stored -= p->own[pages_entry_format(*e)];
		p->stats.pages_stored--;
	}
	*e = slot | (uint64_t)f;
	p->stats.bytes_stored += p->own[f];
	p->stats.pages_stored++;
	dirty(p, l, page);
	return 0;
}

static void drop(struct pages *p, struct pages_list *l, uint32_t page)
{
	for (uint32_t h = 0; h < p->g.kv_heads; h++) {
		attend_entry *e = &entries(p, l, page)[h];
		if (!*e)
			continue;
		device_give(&p->device, pages_entry_format(*e), entry_slot(*e));
		p->stats.bytes_stored -= p->own[pages_entry_format(*e)];
		p->stats.pages_stored--;
		*e = 0;
	}
}

static int check_layer(const struct pages *p, uint32_t seq, uint32_t layer, struct ikv_err *err)
{
	if (seq < p->sequences && layer < p->g.layers)
		return 0;
	return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: the backend has %u sequences, %u layers", seq,
			   layer, p->sequences, p->g.layers);
}

/* NaN and infinity cannot be stored. */
static int check_finite(const uint16_t *rows, uint32_t tokens, uint32_t dim, const char *what, struct ikv_err *err)
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
	if (l->pages == l->cap) {
		uint32_t want = l->cap ? 2 * l->cap : 16;
		if (l->cap > UINT32_MAX / 2 / heads)
			return ikv_err_set(err, IKV_FAILED, "too many pages in a sequence");
		if (ikv_grow(&l->table, (size_t)l->cap * heads, (size_t)want * heads, sizeof *l->table, err))
			return -1;
		l->cap = want;
	}
	memset(entries(p, l, l->pages), 0, heads * sizeof *l->table);
	for (uint32_t h = 0; h < heads; h++) {
		if (place(p, l, l->pages, h, IKV_FMT_FP16, err)) {
			drop(p, l, l->pages);
			return -1;
		}
	}
	l->pages++;
	l->open_loaded = true;
	l->dirty_tile = ATTEND_NONE;
	return 0;
}

/* The open page's changed tiles. `tokens`: rows it holds. */
static int put_open(struct pages *p, struct pages_list *l, uint32_t tokens, struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	if (l->dirty_tile == ATTEND_NONE)
		return 0;
	uint32_t first = l->dirty_tile, t = first * TILE_TOKENS, n = tokens - t,
		 bytes = bytes_of_tile(p, IKV_FMT_FP16);
	size_t size = (size_t)((n + TILE_TOKENS - 1) / TILE_TOKENS) * bytes;
	for (uint32_t h = 0; h < g->kv_heads; h++) {
		uint64_t slot = entry_slot(entries(p, l, l->pages - 1)[h]);
		const uint16_t *k = l->open_k + ((size_t)h * g->page_tokens + t) * g->d_qk;
		const uint16_t *v = g->v_aliases_k ? NULL : l->open_v + ((size_t)h * g->page_tokens + t) * g->d_v;
		uint8_t *to = device_put(&p->device, slot + (uint64_t)first * bytes, size, err);
		if (!to)
			return -1;
		pack(p, IKV_FMT_FP16, n, (const uint8_t *)k, (const uint8_t *)v, to);
	}
	l->dirty_tile = ATTEND_NONE;
	return 0;
}

/* A sequence that was cut inside a page: fetch the rows of that page. */
static int load_open(struct pages *p, struct pages_list *l, struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	for (uint32_t h = 0; h < g->kv_heads; h++) {
		uint64_t slot = entry_slot(entries(p, l, l->pages - 1)[h]);
		if (device_get(&p->device, p->tiles_back, slot, (size_t)p->tiles * bytes_of_tile(p, IKV_FMT_FP16),
			       err))
			return -1;
		unpack(p, IKV_FMT_FP16, p->tiles_back, (uint8_t *)(l->open_k + (size_t)h * g->page_tokens * g->d_qk),
		       g->v_aliases_k ? NULL : (uint8_t *)(l->open_v + (size_t)h * g->page_tokens * g->d_v));
	}
	l->open_loaded = true;
	l->dirty_tile = ATTEND_NONE;
	return 0;
}

static void append_row(struct pages *p, struct pages_list *l, const uint16_t *k, const uint16_t *v)
{
	const struct ikv_geometry *g = &p->g;
	uint32_t t = l->tokens % g->page_tokens;
	for (uint32_t h = 0; h < g->kv_heads; h++) {
		memcpy(l->open_k + ((size_t)h * g->page_tokens + t) * g->d_qk, k + (size_t)h * g->d_qk,
		       2 * (size_t)g->d_qk);
		if (!g->v_aliases_k)
			memcpy(l->open_v + ((size_t)h * g->page_tokens + t) * g->d_v, v + (size_t)h * g->d_v,
			       2 * (size_t)g->d_v);
	}
	if (l->dirty_tile == ATTEND_NONE)
		l->dirty_tile = t / TILE_TOKENS;
	l->tokens++;
	queue(p, l);
}

int pages_append(struct pages *p, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
		 struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	if (check_layer(p, seq, layer, err))
		return -1;
	struct pages_list *l = pages_list(p, seq, layer);
	if (tokens > UINT32_MAX - l->tokens)
		return ikv_err_set(err, IKV_FAILED, "sequence %u: more than 2^32 tokens", seq);
	if (check_finite(k, tokens, g->kv_heads * g->d_qk, "K", err) ||
	    (!g->v_aliases_k && check_finite(v, tokens, g->kv_heads * g->d_v, "V", err)))
		return -1;
	size_t rows = (size_t)g->kv_heads * g->page_tokens;
	if ((!l->open_k && !(l->open_k = ikv_alloc(rows * g->d_qk, 2, err))) ||
	    (!g->v_aliases_k && !l->open_v && !(l->open_v = ikv_alloc(rows * g->d_v, 2, err))))
		return -1;
	for (uint32_t i = 0; i < tokens; i++) {
		uint32_t t = l->tokens % g->page_tokens;
		if ((t == 0 && add_page(p, l, err)) || (t && !l->open_loaded && load_open(p, l, err)))
			return -1;
		append_row(p, l, k + (size_t)i * g->kv_heads * g->d_qk,
			   g->v_aliases_k ? NULL : v + (size_t)i * g->kv_heads * g->d_v);
		if (t + 1 == g->page_tokens && put_open(p, l, g->page_tokens, err))
			return -1;
	}
	return 0;
}

int pages_truncate(struct pages *p, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	uint32_t size = p->g.page_tokens, rest = tokens % size, cut = tokens / size;
	if (check_layer(p, seq, 0, err))
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
		bool same = l->open_loaded && l->pages == cut + 1 && l->tokens % size;
		while (l->pages > cut + (rest != 0))
			drop(p, l, --l->pages);
		l->tokens = tokens;
		l->open_loaded = same && rest;
		if (!l->open_loaded || (l->dirty_tile != ATTEND_NONE && l->dirty_tile * TILE_TOKENS >= rest))
			l->dirty_tile = ATTEND_NONE;
		l->dirty_to = l->dirty_to < l->pages ? l->dirty_to : l->pages;
		l->dirty_from = l->dirty_from < l->dirty_to ? l->dirty_from : l->dirty_to;
	}
	return 0;
}

static int check_page(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_format to, struct ikv_err *err)
{
	if (check_layer(p, seq, layer, err))
		return -1;
	const struct pages_list *l = pages_list(p, seq, layer);
	if (kv_first > p->g.kv_heads || kv_count > p->g.kv_heads - kv_first)
		return ikv_err_set(err, IKV_FAILED, "KV heads %u+%u: there are %u", kv_first, kv_count,
				   p->g.kv_heads);
	if (page >= l->pages)
		return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: no page %u, there are %u", seq, layer,
				   page, l->pages);
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

/* Upload what p->k and p->v hold to a new slot. */
static int put_closed(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, enum ikv_format to,
		      struct ikv_err *err)
{
	if (place(p, l, page, head, to, err))
		return -1;
	uint8_t *tiles = device_put(&p->device, entry_slot(entries(p, l, page)[head]),
				    (size_t)p->tiles * bytes_of_tile(p, to), err);
	if (!tiles)
		return -1;
	uint32_t form = to;
	if (to == IKV_FMT_BF16 && (gpu_tile_wide(p->k, (size_t)p->g.page_tokens * p->g.d_qk) ||
				   gpu_tile_wide(p->v, (size_t)p->g.page_tokens * p->g.d_v))) {
		attend_entry *e = &entries(p, l, page)[head];
		*e = entry_slot(*e) | TILE_BF16_WIDE;
		form = TILE_BF16_WIDE;
	}
	pack(p, form, p->g.page_tokens, p->k, p->v, tiles);
	return 0;
}

int pages_recode(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		 enum ikv_format to, struct ikv_err *err)
{
	if (check_page(p, seq, layer, kv_first, kv_count, page, to, err))
		return -1;
	struct pages_list *l = pages_list(p, seq, layer);
	for (uint32_t h = kv_first; h < kv_first + kv_count; h++) {
		attend_entry e = entries(p, l, page)[h];
		enum ikv_format from = pages_entry_format(e);
		if (from == to)
			continue;
		if (device_get(&p->device, p->tiles_back, entry_slot(e), (size_t)p->tiles * bytes_of_tile(p, from),
			       err))
			return -1;
		unpack(p, e & 15, p->tiles_back, p->k, p->v);
		if (convert(p, from, to, IKV_SIDE_K, p->k, p->g.d_qk, err) ||
		    (!p->g.v_aliases_k && convert(p, from, to, IKV_SIDE_V, p->v, p->g.d_v, err)) ||
		    put_closed(p, l, page, h, to, err))
			return -1;
		p->stats.recodes++;
		p->stats.recoded_bytes += p->own[to];
	}
	return 0;
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
		if (check_finite(k + i * k_rows, n, g->d_qk, "K", err) ||
		    (v_rows && check_finite(v + i * v_rows, n, g->d_v, "V", err)))
			return -1;
	struct pages_list *l = pages_list(p, seq, layer);
	bool open = page >= l->tokens / n;
	if (open && !l->open_loaded && load_open(p, l, err))
		return -1;
	for (uint32_t i = 0; i < kv_count; i++, k += k_rows, v = v_rows ? v + v_rows : v) {
		uint32_t h = kv_first + i;
		if (open) {
			memcpy(l->open_k + h * k_rows, k, 2 * k_rows);
			if (v_rows)
				memcpy(l->open_v + h * v_rows, v, 2 * v_rows);
			l->dirty_tile = 0;
			queue(p, l);
			continue;
		}
		if (ikv_format_encode(to, IKV_SIDE_K, k, n, g->d_qk, p->k, err) ||
		    (v_rows && ikv_format_encode(to, IKV_SIDE_V, v, n, g->d_v, p->v, err)) ||
		    put_closed(p, l, page, h, to, err))
			return -1;
	}
	return 0;
}

enum ikv_format pages_format(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page)
{
	if (check_layer(p, seq, layer, NULL) || kv_head >= p->g.kv_heads || page >= pages_list(p, seq, layer)->pages)
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
		if (put_open(p, l, l->tokens % p->g.page_tokens, err) || grow_table(p, l, err))
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

#include "attn/geometry.h"
#include "attn/store.h"
#include "intentkv/alloc.h"

struct store_block {   /* 64 bytes before the heads' data */
	uint32_t live; /* heads that still lie here */
	uint32_t heads;
	uint32_t format;
	uint8_t pad[52];
};

size_t store_form_bytes(const struct ikv_geometry *g)
{
	uint64_t most = 0;
	for (unsigned f = 1; f < IKV_FMT_COUNT; f++) {
		uint64_t k = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, g->page_tokens, g->d_qk);
		uint64_t v = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, g->page_tokens, g->d_v);
		most = k > most ? k : most;
		most = v > most ? v : most;
	}
	return most;
}

int store_init(struct store *s, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	if (geometry_check(g, sequences, err))
		return -1;
	uint32_t dim = g->d_qk > g->d_v ? g->d_qk : g->d_v;
	*s = (struct store){.g = *g, .sequences = sequences};
	s->lists = ikv_alloc((size_t)sequences * g->layers, sizeof *s->lists, err);
	s->classes = ikv_alloc((size_t)IKV_FMT_COUNT * (g->kv_heads + 1), sizeof *s->classes, err);
	s->values = ikv_alloc((size_t)g->page_tokens * dim, sizeof *s->values, err);
	s->halves = ikv_alloc((size_t)g->page_tokens * dim, sizeof *s->halves, err);
	for (int i = 0; i < 2; i++)
		s->rows[i] = ikv_alloc(store_form_bytes(g), 1, err);
	if (!s->lists || !s->classes || !s->values || !s->halves || !s->rows[0] || !s->rows[1]) {
		store_free(s);
		return -1;
	}
	for (unsigned f = 1; f < IKV_FMT_COUNT; f++) {
		uint64_t k = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, g->page_tokens, g->d_qk);
		uint64_t v =
		    g->v_aliases_k ? 0 : ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, g->page_tokens, g->d_v);
		tile_shape_in(&s->shape[f], (enum ikv_format)f, g->d_qk, g->d_v, g->v_aliases_k, g->page_tokens);
		s->head[f] = tile_count(g->page_tokens) * s->shape[f].bytes;
		s->own[f] = k + v;
		for (uint32_t n = 1; n <= g->kv_heads; n++)
			slab_init(&s->classes[(size_t)f * (g->kv_heads + 1) + n],
				  sizeof(struct store_block) + n * s->head[f]);
	}
	return 0;
}

void store_free(struct store *s)
{
	for (size_t i = 0; s->lists && i < (size_t)s->sequences * s->g.layers; i++)
		ikv_free(s->lists[i].slots);
	for (size_t i = 0; s->classes && i < (size_t)IKV_FMT_COUNT * (s->g.kv_heads + 1); i++)
		slab_destroy(&s->classes[i]);
	ikv_free(s->lists);
	ikv_free(s->classes);
	ikv_free(s->values);
	ikv_free(s->halves);
	ikv_free(s->rows[0]);
	ikv_free(s->rows[1]);
}

static struct slab *class_of(struct store *s, uint32_t format, uint32_t heads)
{
	return &s->classes[(size_t)format * (s->g.kv_heads + 1) + heads];
}

static struct store_block *take_block(struct store *s, enum ikv_format f, uint32_t heads, struct ikv_err *err)
{
	struct store_block *b = slab_take(class_of(s, f, heads), err);
	if (b)
		*b = (struct store_block){.heads = heads, .format = f};
	return b;
}

/* Empty a slot; its block is freed with its last head. */
static void drop(struct store *s, struct store_slot *slot)
{
	struct store_block *b = slot->block;
	s->stats.bytes_stored -= s->own[slot->format];
	s->stats.pages_stored--;
	s->held[slot->format]--;
	if (--b->live == 0)
		slab_give(class_of(s, b->format, b->heads), b);
	*slot = (struct store_slot){0};
}

/* Place an empty slot as head i of a block. */
static void place(struct store *s, struct store_slot *slot, struct store_block *b, uint32_t i)
{
	b->live++;
	*slot = (struct store_slot){
	    .data = (uint8_t *)(b + 1) + i * s->head[b->format], .block = b, .run = 1, .format = (uint8_t)b->format};
	s->stats.bytes_stored += s->own[b->format];
	s->stats.pages_stored++;
	s->held[b->format]++;
}

/* Heads of a page that lie behind each other, whenever one was placed. */
static void find_runs(const struct store *s, struct store_slot *slots)
{
	for (uint32_t h = s->g.kv_heads - 1; h-- > 0;) {
		const struct store_slot *after = &slots[h + 1];
		bool behind =
		    after->block == slots[h].block && after->data == slots[h].data + s->head[slots[h].format];
		slots[h].run = behind ? after->run + 1 : 1;
	}
}

static int check_layer(const struct store *s, uint32_t seq, uint32_t layer, struct ikv_err *err)
{
	if (seq < s->sequences && layer < s->g.layers)
		return 0;
	return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: the backend has %u sequences, %u layers", seq,
			   layer, s->sequences, s->g.layers);
}

static int add_page(struct store *s, struct store_list *l, struct ikv_err *err)
{
	uint32_t heads = s->g.kv_heads, slots = l->cap * heads;
	if (l->pages == UINT32_MAX / heads)
		return ikv_err_set(err, IKV_FAILED, "too many pages in a sequence");
	if (geometry_room(&l->slots, &slots, (l->pages + 1) * heads, sizeof *l->slots, err))
		return -1;
	l->cap = slots / heads;
	struct store_block *b = take_block(s, IKV_FMT_FP16, heads, err);
	if (!b)
		return -1;
	for (uint32_t h = 0; h < heads; h++)
		place(s, &l->slots[(size_t)l->pages * heads + h], b, h);
	find_runs(s, &l->slots[(size_t)l->pages * heads]);
	l->pages++;
	return 0;
}

int store_append(struct store *s, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
		 struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->g;
	if (check_layer(s, seq, layer, err))
		return -1;
	struct store_list *l = store_list(s, seq, layer);
	if (tokens > UINT32_MAX - l->tokens)
		return ikv_err_set(err, IKV_FAILED, "sequence %u: more than 2^32 tokens", seq);
	if (codec_finite(k, tokens, g->kv_heads * g->d_qk, "K", err) ||
	    (!g->v_aliases_k && codec_finite(v, tokens, g->kv_heads * g->d_v, "V", err)))
		return -1;
	for (uint32_t n; tokens; tokens -= n) {
		uint32_t t = l->tokens % g->page_tokens;
		if (t == 0 && add_page(s, l, err))
			return -1;
		n = tokens < g->page_tokens - t ? tokens : g->page_tokens - t;
		const struct store_slot *slots = &l->slots[(size_t)(l->pages - 1) * g->kv_heads];
		const struct tile_shape *shape = &s->shape[IKV_FMT_FP16];
		for (uint32_t h = 0; h < g->kv_heads; h++) {
			tile_put(shape, false, t, n, k + h * g->d_qk, g->kv_heads * (size_t)g->d_qk, slots[h].data);
			if (!g->v_aliases_k)
				tile_put(shape, true, t, n, v + h * g->d_v, g->kv_heads * (size_t)g->d_v,
					 slots[h].data);
		}
		k += (size_t)n * g->kv_heads * g->d_qk;
		v += g->v_aliases_k ? 0 : (size_t)n * g->kv_heads * g->d_v;
		l->tokens += n;
	}
	return 0;
}

int store_truncate(struct store *s, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	if (check_layer(s, seq, 0, err))
		return -1;
	uint32_t rest = tokens % s->g.page_tokens, cut = tokens / s->g.page_tokens;
	for (uint32_t layer = 0; rest && layer < s->g.layers; layer++)
		for (uint32_t h = 0; tokens < store_list(s, seq, layer)->tokens && h < s->g.kv_heads; h++)
			if (store_slot(s, seq, layer, h, cut)->format != IKV_FMT_FP16)
				return ikv_err_set(err, IKV_FAILED,
						   "sequence %u: page %u of layer %u, KV head %u is %s; "
						   "only an FP16 page can be cut open",
						   seq, cut, layer, h,
						   ikv_format_names()[store_slot(s, seq, layer, h, cut)->format]);
	for (uint32_t layer = 0; layer < s->g.layers; layer++) {
		struct store_list *l = store_list(s, seq, layer);
		if (tokens >= l->tokens)
			continue;
		for (; l->pages > cut + (rest != 0); l->pages--)
			for (uint32_t h = 0; h < s->g.kv_heads; h++)
				drop(s, &l->slots[(size_t)(l->pages - 1) * s->g.kv_heads + h]);
		l->tokens = tokens;
	}
	return 0;
}

void store_release(struct store *s, uint32_t seq)
{
	store_truncate(s, seq, 0, NULL);
}

/* Heads and page are there; a page still open takes FP16 only. */
static int check_page(const struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_format to, struct ikv_err *err)
{
	if (check_layer(s, seq, layer, err))
		return -1;
	const struct store_list *l = store_list(s, seq, layer);
	if (kv_first > s->g.kv_heads || kv_count > s->g.kv_heads - kv_first)
		return ikv_err_set(err, IKV_FAILED, "KV heads %u+%u: there are %u", kv_first, kv_count,
				   s->g.kv_heads);
	if (page >= l->pages)
		return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: no page %u, there are %u", seq, layer,
				   page, l->pages);
	if ((unsigned)to >= IKV_FMT_COUNT || to == IKV_FMT_SKIP)
		return ikv_err_set(err, IKV_FAILED, "a page cannot be stored as %s",
				   to == IKV_FMT_SKIP ? "SKIP" : "an unknown format");
	if (to != IKV_FMT_FP16 && l->tokens / s->g.page_tokens <= page)
		return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: page %u is still open and stays FP16",
				   seq, layer, page);
	return 0;
}

void store_read(const struct store *s, const struct store_slot *slot, bool v, uint8_t *canonical)
{
	tile_unpack(&s->shape[slot->format], v, slot->data, s->g.page_tokens, canonical);
}

/* K or V rows from one stored form to another. */
static void convert(struct store *s, const struct store_slot *from, const struct store_slot *to, bool v)
{
	uint32_t n = s->g.page_tokens, dim = v ? s->g.d_v : s->g.d_qk;
	enum ikv_side side = v ? IKV_SIDE_V : IKV_SIDE_K;
	enum ikv_format f = (enum ikv_format)from->format, target = (enum ikv_format)to->format;
	const void *result = s->rows[1];
	store_read(s, from, v, s->rows[0]);
	/* Stored bytes are finite and the formats checked: this cannot fail. */
	if (f == IKV_FMT_INT4_RESIDUAL && target == IKV_FMT_INT4) { /* the second plane is dropped */
		result = s->rows[0];
	} else if (f == IKV_FMT_FP16) {
		ikv_format_encode(target, side, (const uint16_t *)s->rows[0], n, dim, s->rows[1], NULL);
	} else {
		ikv_format_decode(f, side, s->rows[0], n, dim, s->values, NULL);
		for (size_t i = 0; i < (size_t)n * dim; i++)
			s->halves[i] = codec_half_saturated(s->values[i]);
		ikv_format_encode(target, side, s->halves, n, dim, s->rows[1], NULL);
	}
	tile_pack(&s->shape[target], v, result, n, to->data);
}

int store_recode(struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		 enum ikv_format to, struct ikv_err *err)
{
	uint32_t changes = 0;
	if (check_page(s, seq, layer, kv_first, kv_count, page, to, err))
		return -1;
	struct store_slot *slots = &store_list(s, seq, layer)->slots[(size_t)page * s->g.kv_heads + kv_first];
	for (uint32_t i = 0; i < kv_count; i++)
		changes += slots[i].format != to;
	if (!changes)
		return 0;
	struct store_block *b = take_block(s, to, changes, err);
	if (!b)
		return -1;
	for (uint32_t i = 0; i < kv_count; i++) {
		struct store_slot old = slots[i], fresh = {0};
		if (old.format == to)
			continue;
		place(s, &fresh, b, b->live);
		convert(s, &old, &fresh, false);
		if (!s->g.v_aliases_k)
			convert(s, &old, &fresh, true);
		drop(s, &slots[i]);
		slots[i] = fresh;
		s->stats.recodes++;
		s->stats.recoded_bytes += s->own[to];
	}
	find_runs(s, slots - kv_first);
	return 0;
}

int store_restore(struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		  enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err)
{
	uint32_t n = s->g.page_tokens;
	size_t k_rows = (size_t)n * s->g.d_qk, v_rows = (size_t)n * s->g.d_v;
	if (check_page(s, seq, layer, kv_first, kv_count, page, to, err))
		return -1;
	for (uint32_t i = 0; i < kv_count; i++)
		if (codec_finite(k + i * k_rows, n, s->g.d_qk, "K", err) ||
		    (!s->g.v_aliases_k && codec_finite(v + i * v_rows, n, s->g.d_v, "V", err)))
			return -1;
	if (!kv_count)
		return 0;
	struct store_slot *slots = &store_list(s, seq, layer)->slots[(size_t)page * s->g.kv_heads + kv_first];
	struct store_block *b = take_block(s, to, kv_count, err);
	if (!b)
		return -1;
	for (uint32_t i = 0; i < kv_count; i++) {
		drop(s, &slots[i]);
		place(s, &slots[i], b, i);
		ikv_format_encode(to, IKV_SIDE_K, k + i * k_rows, n, s->g.d_qk, s->rows[1], NULL);
		tile_pack(&s->shape[to], false, s->rows[1], n, slots[i].data);
		if (s->g.v_aliases_k)
			continue;
		ikv_format_encode(to, IKV_SIDE_V, v + i * v_rows, n, s->g.d_v, s->rows[1], NULL);
		tile_pack(&s->shape[to], true, s->rows[1], n, slots[i].data);
	}
	find_runs(s, slots - kv_first);
	return 0;
}

enum ikv_format store_format(const struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page)
{
	if (check_layer(s, seq, layer, NULL) || kv_head >= s->g.kv_heads || page >= store_list(s, seq, layer)->pages)
		return IKV_FMT_SKIP;
	return (enum ikv_format)store_slot(s, seq, layer, kv_head, page)->format;
}

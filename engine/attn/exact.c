#include <math.h>
#include "attn/exact_store.h"
#include "attn/geometry.h"
#include "attn/lanes.h"
#include "intentkv/alloc.h"

int ikv_exact_create(struct ikv_exact **out, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	if (geometry_check(g, sequences, err))
		return -1;
	struct ikv_exact *x = ikv_alloc(1, sizeof *x, err);
	if (!x)
		return -1;
	size_t rows = (size_t)g->kv_heads * g->page_tokens;
	x->g = *g;
	x->sequences = sequences;
	x->v_at = slab_round(2 * rows * g->d_qk);
	slab_init(&x->pages, x->v_at + (g->v_aliases_k ? 0 : slab_round(2 * rows * g->d_v)));
	x->sums_at = slab_round(IKV_SUMMARY_PAGES * 2 * sizeof(uint16_t) * g->kv_heads * g->d_qk);
	slab_init(&x->summaries, x->sums_at + IKV_SUMMARY_PAGES * sizeof(float) * g->kv_heads * g->d_qk);
	x->lists = ikv_alloc((size_t)sequences * g->layers, sizeof *x->lists, err);
	x->work = ikv_alloc(1, sizeof *x->work, err);
	if (!x->lists || !x->work) {
		ikv_exact_destroy(x);
		return -1;
	}
	x->work->threads = 1;
	*out = x;
	return 0;
}

void ikv_exact_destroy(struct ikv_exact *x)
{
	if (!x)
		return;
	for (size_t i = 0; x->lists && i < (size_t)x->sequences * x->g.layers; i++) {
		ikv_free(x->lists[i].pages);
		ikv_free(x->lists[i].summaries);
	}
	if (x->work) {
		flash_destroy(x->work->flash);
		ikv_free(x->work->scores);
		ikv_free(x->work->pages);
	}
	slab_destroy(&x->pages);
	slab_destroy(&x->summaries);
	ikv_free(x->work);
	ikv_free(x->lists);
	ikv_free(x);
}

const struct ikv_geometry *ikv_exact_geometry(const struct ikv_exact *x)
{
	return &x->g;
}

void ikv_exact_set_threads(struct ikv_exact *x, uint32_t threads)
{
	x->work->threads = threads;
}

const struct exact_list *exact_store_list(const struct ikv_exact *x, uint32_t seq, uint32_t layer)
{
	return &x->lists[(size_t)seq * x->g.layers + layer];
}

static struct exact_list *list_of(struct ikv_exact *x, uint32_t seq, uint32_t layer)
{
	return &x->lists[(size_t)seq * x->g.layers + layer];
}

int exact_store_check(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
		      struct ikv_err *err)
{
	if (seq >= x->sequences || layer >= x->g.layers)
		return ikv_err_set(err, IKV_FAILED, "sequence %u, layer %u: the store has %u sequences, %u layers",
				   seq, layer, x->sequences, x->g.layers);
	if (q_first > x->g.q_heads || q_count > x->g.q_heads - q_first)
		return ikv_err_set(err, IKV_FAILED, "query heads %u+%u: there are %u", q_first, q_count,
				   x->g.q_heads);
	return 0;
}

static uint16_t *k_rows(const struct ikv_exact *x, uint8_t *page, uint32_t h)
{
	return (uint16_t *)page + (size_t)h * x->g.page_tokens * x->g.d_qk;
}

static uint16_t *v_rows(const struct ikv_exact *x, uint8_t *page, uint32_t h)
{
	if (x->g.v_aliases_k)
		return k_rows(x, page, h);
	return (uint16_t *)(page + x->v_at) + (size_t)h * x->g.page_tokens * x->g.d_v;
}

/* Minimum and maximum [2][d_qk] of a page's keys. */
static uint16_t *ends_of(const struct ikv_exact *x, const struct exact_list *l, uint32_t page, uint32_t h)
{
	uint8_t *some = l->summaries[page / IKV_SUMMARY_PAGES];
	return (uint16_t *)some + 2 * (size_t)x->g.d_qk * (h * IKV_SUMMARY_PAGES + page % IKV_SUMMARY_PAGES);
}

static float *sum_of(const struct ikv_exact *x, const struct exact_list *l, uint32_t page, uint32_t h)
{
	uint8_t *some = l->summaries[page / IKV_SUMMARY_PAGES] + x->sums_at;
	return (float *)some + (size_t)x->g.d_qk * (h * IKV_SUMMARY_PAGES + page % IKV_SUMMARY_PAGES);
}

/* Take row t of a page into its summary; t ascending from 0. */
static void summarise(const struct ikv_exact *x, const struct exact_list *l, uint32_t page, uint32_t h, uint32_t t)
{
	const uint32_t n = x->g.d_qk;
	const uint16_t *row = k_rows(x, l->pages[page], h) + (size_t)t * n;
	uint16_t *least = ends_of(x, l, page, h), *most = least + n;
	float *sum = sum_of(x, l, page, h);
	if (t == 0) {
		memcpy(least, row, n * sizeof *row);
		memcpy(most, row, n * sizeof *row);
		memset(sum, 0, n * sizeof *sum);
	}
	lanes_table()->summarise(row, n, least, most, sum);
}

static int add_page(struct ikv_exact *x, struct exact_list *l, struct ikv_err *err)
{
	const uint32_t some = l->count / IKV_SUMMARY_PAGES;
	const bool first = l->count % IKV_SUMMARY_PAGES == 0;
	if (geometry_room(&l->pages, &l->cap, l->count + 1, sizeof *l->pages, err) ||
	    geometry_room(&l->summaries, &l->summary_cap, some + 1, sizeof *l->summaries, err))
		return -1;
	uint8_t *page = slab_take(&x->pages, err);
	if (!page)
		return -1;
	if (first && !(l->summaries[some] = slab_take(&x->summaries, err))) {
		slab_give(&x->pages, page);
		return -1;
	}
	memset(page, 0, x->pages.item_bytes);
	l->pages[l->count++] = page;
	return 0;
}

/* The last page goes. */
static void drop_page(struct ikv_exact *x, struct exact_list *l)
{
	slab_give(&x->pages, l->pages[--l->count]);
	if (l->count % IKV_SUMMARY_PAGES == 0)
		slab_give(&x->summaries, l->summaries[l->count / IKV_SUMMARY_PAGES]);
}

int ikv_exact_append(struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		     const uint16_t *v, struct ikv_err *err)
{
	const struct ikv_geometry *g = &x->g;
	if (exact_store_check(x, seq, layer, 0, 0, err))
		return -1;
	struct exact_list *l = list_of(x, seq, layer);
	if (tokens > UINT32_MAX - l->tokens)
		return ikv_err_set(err, IKV_FAILED, "sequence %u: more than 2^32 tokens", seq);
	if (codec_finite(k, tokens, g->kv_heads * g->d_qk, "K", err) ||
	    (!g->v_aliases_k && codec_finite(v, tokens, g->kv_heads * g->d_v, "V", err)))
		return -1;
	for (uint32_t i = 0; i < tokens; i++) {
		uint32_t t = l->tokens % g->page_tokens;
		if (t == 0 && add_page(x, l, err))
			return -1;
		uint8_t *page = l->pages[l->count - 1];
		for (uint32_t h = 0; h < g->kv_heads; h++) {
			const uint16_t *key = k + ((size_t)i * g->kv_heads + h) * g->d_qk;
			memcpy(k_rows(x, page, h) + (size_t)t * g->d_qk, key, 2 * (size_t)g->d_qk);
			if (!g->v_aliases_k)
				memcpy(v_rows(x, page, h) + (size_t)t * g->d_v,
				       v + ((size_t)i * g->kv_heads + h) * g->d_v, 2 * (size_t)g->d_v);
			summarise(x, l, l->count - 1, h, t);
		}
		l->tokens++;
	}
	return 0;
}

/* Zero the last page's rows from t on and take the summary of the rest anew. */
static void cut_page(const struct ikv_exact *x, const struct exact_list *l, uint32_t t)
{
	const struct ikv_geometry *g = &x->g;
	uint8_t *page = l->pages[l->count - 1];
	for (uint32_t h = 0; h < g->kv_heads; h++) {
		size_t left = g->page_tokens - t;
		memset(k_rows(x, page, h) + (size_t)t * g->d_qk, 0, 2 * left * g->d_qk);
		if (!g->v_aliases_k)
			memset(v_rows(x, page, h) + (size_t)t * g->d_v, 0, 2 * left * g->d_v);
		for (uint32_t i = 0; i < t; i++)
			summarise(x, l, l->count - 1, h, i);
	}
}

int ikv_exact_truncate(struct ikv_exact *x, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	if (exact_store_check(x, seq, 0, 0, 0, err))
		return -1;
	for (uint32_t layer = 0; layer < x->g.layers; layer++) {
		struct exact_list *l = list_of(x, seq, layer);
		if (tokens >= l->tokens)
			continue;
		uint32_t rest = tokens % x->g.page_tokens, keep = tokens / x->g.page_tokens + (rest != 0);
		while (l->count > keep)
			drop_page(x, l);
		if (rest)
			cut_page(x, l, rest);
		l->tokens = tokens;
	}
	return 0;
}

void ikv_exact_release(struct ikv_exact *x, uint32_t seq)
{
	ikv_exact_truncate(x, seq, 0, NULL);
}

uint32_t ikv_exact_tokens(const struct ikv_exact *x, uint32_t seq, uint32_t layer)
{
	return exact_store_list(x, seq, layer)->tokens;
}

const uint16_t *ikv_exact_page(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page)
{
	return (const uint16_t *)exact_store_list(x, seq, layer)->pages[page];
}

const uint16_t *ikv_exact_k(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page, uint32_t kv_head)
{
	return k_rows(x, exact_store_list(x, seq, layer)->pages[page], kv_head);
}

const uint16_t *ikv_exact_v(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page, uint32_t kv_head)
{
	return v_rows(x, exact_store_list(x, seq, layer)->pages[page], kv_head);
}

const uint16_t *ikv_exact_kmin(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
			       uint32_t kv_head)
{
	return ends_of(x, exact_store_list(x, seq, layer), page, kv_head);
}

const uint16_t *ikv_exact_kmax(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
			       uint32_t kv_head)
{
	return ikv_exact_kmin(x, seq, layer, page, kv_head) + x->g.d_qk;
}

const float *ikv_exact_ksum(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page, uint32_t kv_head)
{
	return sum_of(x, exact_store_list(x, seq, layer), page, kv_head);
}

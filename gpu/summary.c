#include <string.h>
#include "gpu/select.h"
#include "gpu/summary.h"
#include "intentkv/alloc.h"
#include "intentkv/format.h"
#include "intentkv/layout.h"

int summaries_open(struct summaries *s, enum ikv_page_score kind, const struct ikv_geometry *g, uint32_t sequences,
		   struct ikv_err *err)
{
	*s = (struct summaries){.kind = kind, .g = *g, .sequences = sequences, .words = select_words(g->d_qk)};
	s->lists = ikv_alloc((size_t)sequences * g->layers, sizeof *s->lists, err);
	return s->lists ? 0 : -1;
}

void summaries_close(struct summaries *s)
{
	for (size_t i = 0; s->lists && i < (size_t)s->sequences * s->g.layers; i++)
		ikv_free(s->lists[i].rows);
	ikv_free(s->lists);
	s->lists = NULL;
}

/* Of one page and KV head, by channel: least values, then largest ones; or sums. */
static void *row_of(const struct summaries *s, const struct summary_list *l, uint32_t page, uint32_t head)
{
	return l->rows + ((size_t)page * s->g.kv_heads + head) * s->words;
}

static void dirty(struct summary_list *l, uint32_t page)
{
	if (l->dirty_from == l->dirty_to) {
		l->dirty_from = page;
		l->dirty_to = page + 1;
	}
	l->dirty_from = page < l->dirty_from ? page : l->dirty_from;
	l->dirty_to = page >= l->dirty_to ? page + 1 : l->dirty_to;
}

static void take_ends(const uint16_t *row, uint32_t dim, int16_t *least, int16_t *most)
{
	for (uint32_t d = 0; d < dim; d++) {
		int16_t x = summary_order((int16_t)row[d]);
		least[d] = x < least[d] ? x : least[d];
		most[d] = x > most[d] ? x : most[d];
	}
}

/* Take a row of keys into a summary. */
static void take(const struct summaries *s, const uint16_t *key, void *row)
{
	float *sum = row;
	if (s->kind == IKV_PAGE_BOUND)
		take_ends(key, s->g.d_qk, row, (int16_t *)row + s->words);
	for (uint32_t d = 0; s->kind == IKV_PAGE_COSINE && d < s->g.d_qk; d++)
		sum[d] += ikv_fp16_to_float(key[d]);
}

/* No token yet: what any row replaces, or zeros. Channels that only fill up the last chunk stay 0. */
static void clear(const struct summaries *s, void *row)
{
	int16_t *ends = row;
	memset(row, 0, s->words * sizeof(uint32_t));
	for (uint32_t d = 0; s->kind == IKV_PAGE_BOUND && d < s->g.d_qk; d++) {
		ends[d] = INT16_MAX;
		ends[s->words + d] = INT16_MIN;
	}
}

static int room(struct summaries *s, struct summary_list *l, uint32_t pages, struct ikv_err *err)
{
	size_t each = (size_t)s->g.kv_heads * s->words;
	if (pages <= l->cap)
		return 0;
	uint32_t cap = l->cap ? 2 * l->cap : 16;
	while (cap < pages)
		cap *= 2;
	if (ikv_grow(&l->rows, l->cap * each, cap * each, sizeof *l->rows, err))
		return -1;
	l->cap = cap;
	return 0;
}

int summaries_append(struct summaries *s, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		     struct ikv_err *err)
{
	struct summary_list *l = summaries_list(s, seq, layer);
	const struct ikv_geometry *g = &s->g;
	if (room(s, l, ikv_pages(l->tokens + tokens, g->page_tokens), err))
		return -1;
	for (uint32_t i = 0; i < tokens; i++) {
		bool opens = l->tokens % g->page_tokens == 0;
		l->pages += opens;
		for (uint32_t h = 0; h < g->kv_heads; h++) {
			void *row = row_of(s, l, l->pages - 1, h);
			if (opens)
				clear(s, row);
			take(s, k + ((size_t)i * g->kv_heads + h) * g->d_qk, row);
		}
		dirty(l, l->pages - 1);
		l->tokens++;
	}
	return 0;
}

void summaries_set(struct summaries *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		   uint32_t page, uint32_t tokens, const uint16_t *k)
{
	struct summary_list *l = summaries_list(s, seq, layer);
	const struct ikv_geometry *g = &s->g;
	for (uint32_t h = 0; h < kv_count; h++) {
		void *row = row_of(s, l, page, kv_first + h);
		clear(s, row);
		for (uint32_t t = 0; t < tokens; t++)
			take(s, k + ((size_t)h * g->page_tokens + t) * g->d_qk, row);
	}
	dirty(l, page);
}

void summaries_cut(struct summaries *s, uint32_t seq, uint32_t layer, uint32_t tokens)
{
	struct summary_list *l = summaries_list(s, seq, layer);
	if (tokens >= l->tokens)
		return;
	l->tokens = tokens;
	l->pages = ikv_pages(tokens, s->g.page_tokens);
	l->dirty_to = l->dirty_to < l->pages ? l->dirty_to : l->pages;
	l->dirty_from = l->dirty_from < l->dirty_to ? l->dirty_from : l->dirty_to;
}

static void pack_ends(const int16_t *least, const int16_t *most, uint32_t words, uint32_t *out)
{
	for (uint32_t d = 0; d < words; d++)
		out[select_word(d)] = (uint16_t)summary_order(least[d]) | (uint32_t)(uint16_t)summary_order(most[d])
									      << 16;
}

void summaries_pack(const struct summaries *s, const struct summary_list *l, uint32_t from, uint32_t to,
		    uint32_t *out)
{
	const uint32_t *row = row_of(s, l, from, 0);
	for (size_t i = 0; i < (size_t)(to - from) * s->g.kv_heads; i++, out += s->words, row += s->words) {
		const int16_t *least = (const int16_t *)row;
		if (s->kind == IKV_PAGE_BOUND)
			pack_ends(least, least + s->words, s->words, out);
		for (uint32_t d = 0; s->kind == IKV_PAGE_COSINE && d < s->words; d++)
			memcpy(&out[cosine_word(d)], &row[d], sizeof *out); /* a float's bits */
	}
}

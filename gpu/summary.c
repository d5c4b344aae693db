#include <string.h>
#include "gpu/select.h"
#include "gpu/summary.h"
#include "intentkv/alloc.h"
#include "intentkv/layout.h"

int summaries_open(struct summaries *s, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	*s = (struct summaries){.g = *g, .sequences = sequences, .words = select_words(g->d_qk)};
	s->lists = ikv_alloc((size_t)sequences * g->layers, sizeof *s->lists, err);
	return s->lists ? 0 : -1;
}

void summaries_close(struct summaries *s)
{
	for (size_t i = 0; s->lists && i < (size_t)s->sequences * s->g.layers; i++)
		ikv_free(s->lists[i].ends);
	ikv_free(s->lists);
	s->lists = NULL;
}

/* Of one page and KV head, by channel: least values, then largest ones. */
static int16_t *ends_of(const struct summaries *s, const struct summary_list *l, uint32_t page, uint32_t head)
{
	return l->ends + ((size_t)page * s->g.kv_heads + head) * 2 * s->words;
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

static void take_row(const uint16_t *row, uint32_t dim, int16_t *least, int16_t *most)
{
	for (uint32_t d = 0; d < dim; d++) {
		int16_t x = summary_order((int16_t)row[d]);
		least[d] = x < least[d] ? x : least[d];
		most[d] = x > most[d] ? x : most[d];
	}
}

/* No token yet: what any row replaces. Channels that only fill up the last chunk stay 0. */
static void clear(const struct summaries *s, int16_t *ends)
{
	memset(ends, 0, 2 * s->words * sizeof *ends);
	for (uint32_t d = 0; d < s->g.d_qk; d++) {
		ends[d] = INT16_MAX;
		ends[s->words + d] = INT16_MIN;
	}
}

static int room(struct summaries *s, struct summary_list *l, uint32_t pages, struct ikv_err *err)
{
	size_t each = (size_t)s->g.kv_heads * 2 * s->words;
	if (pages <= l->cap)
		return 0;
	uint32_t cap = l->cap ? 2 * l->cap : 16;
	while (cap < pages)
		cap *= 2;
	if (ikv_grow(&l->ends, l->cap * each, cap * each, sizeof *l->ends, err))
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
			int16_t *ends = ends_of(s, l, l->pages - 1, h);
			if (opens)
				clear(s, ends);
			take_row(k + ((size_t)i * g->kv_heads + h) * g->d_qk, g->d_qk, ends, ends + s->words);
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
		int16_t *ends = ends_of(s, l, page, kv_first + h);
		clear(s, ends);
		for (uint32_t t = 0; t < tokens; t++)
			take_row(k + ((size_t)h * g->page_tokens + t) * g->d_qk, g->d_qk, ends, ends + s->words);
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

void summaries_pack(const struct summaries *s, const struct summary_list *l, uint32_t from, uint32_t to, uint32_t *out)
{
	for (size_t i = 0; i < (size_t)(to - from) * s->g.kv_heads; i++, out += s->words) {
		const int16_t *least = ends_of(s, l, from, 0) + i * 2 * s->words, *most = least + s->words;
		for (uint32_t c = 0; c < s->words; c += SELECT_CHUNK)
			for (uint32_t k = 0; k < SELECT_CHUNK; k++) { /* in the order of words */
				uint32_t d = c + k / 4 + k % 4 * SELECT_LANES;
				out[c + k] = (uint16_t)summary_order(least[d]) |
					     (uint32_t)(uint16_t)summary_order(most[d]) << 16;
			}
	}
}

#include "attn/flash_walk.h"
#include <math.h>

#define TOUCHED    4  /* lines of K of a tile */
#define REFS_AHEAD 32 /* references of a plan are fetched so far ahead */

static void clear_heads(const struct flash *f, const struct job *j, uint32_t split, uint32_t kv, uint32_t first,
			uint32_t last)
{
	uint32_t h, heads = job_heads(f, j, kv, &h), all = j->unit->plan->count;
	for (uint32_t i = h; i < h + heads; i++) {
		size_t at = (size_t)split * j->unit->q_count + i;
		memset(j->acc + at * f->acc_stride, 0, f->acc_stride * sizeof *j->acc);
		j->sums[2 * at] = -INFINITY;
		j->sums[2 * at + 1] = 0;
		for (uint32_t p = first; j->shifts && p < last; p++) {
			j->unit->mass[(size_t)i * all + p] = 0;
			j->shifts[(size_t)i * all + p] = -INFINITY;
		}
	}
}

/* A member takes the parts of pieces whose middle lies in its share of the pages: those of a piece together, so that
 * it reads the heads of a page as they lie. False if none of these is its own. */
static bool take_parts(struct walk *w, const struct job *j, uint32_t pages)
{
	const struct flash *f = w->f;
	uint32_t parts = f->parts < j->kv_count ? f->parts : j->kv_count;
	bool own = false;
	for (; w->part < parts; w->part++) {
		uint32_t kv = w->part * j->kv_count / parts, end = (w->part + 1) * j->kv_count / parts;
		uint64_t n = (uint64_t)pages * (end - kv);
		bool mine = (2 * w->before + n) * f->members / (2 * f->pages + 1) == w->member;
		if (own && !mine)
			return true;
		if (mine && !own)
			w->kv = kv;
		own = mine;
		w->kv_end = end;
		w->before += n;
	}
	w->part = 0;
	if (++w->split == j->splits) {
		w->split = 0;
		w->job++;
	}
	return own;
}

static bool next_piece(struct walk *w)
{
	const struct flash *f = w->f;
	while (w->job < f->job_count) {
		const struct job *j = &f->jobs[w->job];
		const struct ikv_plan *plan = j->unit->plan;
		uint32_t split = w->split, first = split * j->split_pages, left = plan->count - first;
		uint32_t pages = left < j->split_pages ? left : j->split_pages;
		if (!take_parts(w, j, pages))
			continue;
		w->now = j;
		w->now_split = split;
		w->index = first;
		w->last = first + pages;
		w->i = pages ? plan->pages[first].lo / TILE_TOKENS : 0;
		for (uint32_t k = w->kv; k < w->kv_end; k++)
			clear_heads(f, j, split, k, first, w->last);
		return true;
	}
	return false;
}

/* The next tiles of the piece with a selected token; false at the end. */
static bool next_block(struct walk *w, struct stretch *s)
{
	s->count = 0;
	while (w->index < w->last && s->count < MICRO_TILES) {
		const struct ikv_plan *plan = w->now->unit->plan;
		const struct ikv_page_ref *r = &plan->pages[w->index];
		__builtin_prefetch(r + REFS_AHEAD);
		uint32_t first = w->i * TILE_TOKENS, mask = flash_taken(plan, r, w->i);
		if (mask) {
			s->index[s->count] = w->index;
			s->i[s->count] = w->i;
			s->tile[s->count].rows = r->hi - first < TILE_TOKENS ? r->hi - first : TILE_TOKENS;
			s->mask[s->count++] = mask;
		}
		w->i++;
		if (first + TILE_TOKENS >= r->hi) {
			w->index++;
			w->i = w->index < w->last ? r[1].lo / TILE_TOKENS : 0;
		}
	}
	return s->count > 0;
}

static void move_tile(struct stretch *s, uint32_t from, uint32_t to)
{
	const uint32_t index = s->index[from], i = s->i[from], mask = s->mask[from];
	const struct tile tile = s->tile[from];
	const struct flash_heads at = s->at[from];
	for (uint32_t k = from; k > to; k--) {
		s->index[k] = s->index[k - 1];
		s->i[k] = s->i[k - 1];
		s->mask[k] = s->mask[k - 1];
		s->tile[k] = s->tile[k - 1];
		s->at[k] = s->at[k - 1];
	}
	s->index[to] = index;
	s->i[to] = i;
	s->mask[to] = mask;
	s->tile[to] = tile;
	s->at[to] = at;
}

static bool goes_before(const struct stretch *s, uint32_t a, uint32_t b)
{
	const int of_a = s->at[a].shape->format, of_b = s->at[b].shape->format;
	if (of_a != of_b)
		return of_a < of_b;
	return s->index[a] != s->index[b] ? s->index[a] < s->index[b] : s->i[a] < s->i[b];
}

/* Tiles of one format side by side: a kernel takes several at once. The order is that of the head alone, whatever the
 * one before it had: sums are the same by whichever thread. */
static void group_formats(struct stretch *s)
{
	for (uint32_t k = 1; k < s->count; k++) {
		uint32_t to = k;
		while (to > 0 && goes_before(s, k, to - 1))
			to--;
		if (to < k)
			move_tile(s, k, to);
	}
	for (uint32_t k = s->count; k-- > 0;)
		s->run[k] = k + 1 < s->count && s->at[k + 1].shape == s->at[k].shape ? s->run[k + 1] + 1 : 1;
}

/* Where the tiles lie, and of how many heads. */
static void find_tiles(const struct walk *w, struct stretch *s)
{
	const struct flash *f = w->f;
	s->heads = w->kv_end - s->kv;
	for (uint32_t k = s->count; k-- > 0;) {
		struct flash_heads *at = &s->at[k];
		f->locate(f->source, s->job->unit, s->job->kv_first + s->kv, s->index[k], s->i[k], &s->tile[k], at);
		s->heads = at->heads < s->heads ? at->heads : s->heads;
		s->tile[k].ahead = at->k_step;
	}
	group_formats(s);
}

/* The first lines of each tile are fetched long before the kernels fetch the rest: fetches that have to wait until an
 * address is translated hold up what comes behind them, and the pages of a plan lie anywhere. */
static void touch_tiles(const struct stretch *s)
{
	for (uint32_t k = 0; k < s->count; k++) {
		for (int i = 0; i < TOUCHED; i++)
			__builtin_prefetch(s->tile[k].k + 64 * i, 0, 2);
		__builtin_prefetch(s->tile[k].v, 0, 2);
	}
}

bool walk_next(struct walk *w, const struct stretch *now, struct stretch *next)
{
	if (now && now->kv + now->heads < w->kv_end) { /* more heads of the same block */
		*next = *now;
		next->kv += now->heads;
	} else {
		while (!next_block(w, next))
			if (!next_piece(w))
				return false;
		next->job = w->now;
		next->split = w->now_split;
		next->kv = w->kv;
	}
	find_tiles(w, next);
	touch_tiles(next);
	return true;
}

struct spot spot_first(const struct stretch *t, uint32_t first, const struct stretch *next)
{
	struct spot p = {.t = t, .next = next, .first = first, .end = first + 1, .k = first};
	while (p.end < t->count && t->index[p.end] == t->index[first])
		p.end++;
	return p;
}

bool spot_next(struct spot *p)
{
	if (++p->k < p->end)
		return true;
	p->k = p->first;
	if (++p->head < p->t->heads)
		return true;
	if (p->end < p->t->count)
		*p = spot_first(p->t, p->end, p->next);
	else if (p->next)
		*p = spot_first(p->next, 0, NULL);
	else
		return false;
	return true;
}

struct tile spot_tile(const struct spot *p)
{
	const struct flash_heads *at = &p->t->at[p->k];
	struct tile tile = p->t->tile[p->k];
	tile.k += (ptrdiff_t)p->head * at->k_step;
	tile.group += (ptrdiff_t)p->head * at->k_step;
	tile.v += (ptrdiff_t)p->head * at->v_step;
	return tile;
}

/* Mass that decisions may use (fixed lanes), and fast dense attention, over the exact pages. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include "attn/crew.h"
#include "attn/exact_store.h"
#include "attn/geometry.h"
#include "attn/isa.h"
#include "intentkv/alloc.h"

static int score_room(struct exact_work *w, size_t need, struct ikv_err *err)
{
	if (need <= w->scores_cap)
		return 0;
	size_t want = need < 2 * w->scores_cap ? 2 * w->scores_cap : need;
	if (ikv_grow(&w->scores, 0, want, sizeof *w->scores, err))
		return -1;
	w->scores_cap = want;
	return 0;
}

/* Kernels and threads as they are chosen now. */
static int ready(const struct ikv_exact *x, struct ikv_err *err)
{
	struct exact_work *w = x->work;
	const struct micro_kernels *micro = isa_micro_selected();
	if (w->flash && ((w->threads && flash_threads(w->flash) != w->threads) || w->micro != micro)) {
		flash_destroy(w->flash);
		w->flash = NULL;
	}
	w->micro = micro;
	return w->flash ? 0 : flash_create(&w->flash, &x->g, micro, w->threads, err);
}

/* Items are handed out some at a time: a thread that wakes late takes fewer. */
#define TAKES 16 /* a thread, about */

struct items {
	void (*item)(void *context, uint32_t i);
	void *context;
	uint32_t count, some;
	atomic_uint taken; /* times `some` */
};

static void take_items(void *context, uint32_t member)
{
	struct items *w = context;
	(void)member;
	for (;;) {
		const uint64_t first = (uint64_t)atomic_fetch_add_explicit(&w->taken, 1, memory_order_relaxed) * w->some;
		const uint64_t end = first + w->some < w->count ? first + w->some : w->count;
		if (first >= w->count)
			return;
		for (uint64_t i = first; i < end; i++)
			w->item(w->context, (uint32_t)i);
	}
}

int exact_store_each(const struct ikv_exact *x, uint32_t items, void (*item)(void *context, uint32_t i), void *context,
		     struct ikv_err *err)
{
	struct items w = {.item = item, .context = context, .count = items, .some = items};
	if (x->work->threads == 1 || items < 2) {
		take_items(&w, 0);
		return 0;
	}
	if (ready(x, err))
		return -1;
	w.some = items / (TAKES * flash_threads(x->work->flash)) + 1;
	crew_run(flash_crew(x->work->flash), take_items, &w);
	return 0;
}

/* One head's scores to the mass of each page. */
static void page_mass(const struct lanes_kernels *lanes, const float *s, uint32_t tokens, uint32_t page_tokens,
		      float *mass)
{
	float top = lanes->peak(s, tokens);
	double sum = 0;
	uint32_t pages = 0;
	for (uint32_t t = 0; t < tokens; t += page_tokens) {
		uint32_t n = tokens - t < page_tokens ? tokens - t : page_tokens;
		mass[pages] = lanes->exp_sum(s + t, n, top);
		sum += mass[pages++];
		if (tokens - t <= page_tokens)
			break; /* t + page_tokens might overflow */
	}
	for (uint32_t p = 0; p < pages; p++)
		mass[p] = (float)(mass[p] / sum);
}

/* Some heads of one KV head over all pages; items are IKV_SUMMARY_PAGES pages, then heads. */
struct mass_work {
	const struct ikv_exact *x;
	const struct exact_list *list;
	uint32_t seq, layer, kv_head, heads;
	const float *q;
	float *mass;
};

static void score_pages(void *context, uint32_t i)
{
	const struct mass_work *w = context;
	const struct ikv_exact *x = w->x;
	const uint32_t size = x->g.page_tokens, count = w->list->count, first = i * IKV_SUMMARY_PAGES;
	for (uint32_t p = first; p < count && p < first + IKV_SUMMARY_PAGES; p++) {
		const uint32_t t = p * size, left = w->list->tokens - t;
		const uint32_t next = p + 1 < count ? p + 1 : p;
		lanes_table()->scores(w->q, w->heads, ikv_exact_k(x, w->seq, w->layer, p, w->kv_head),
				      ikv_exact_k(x, w->seq, w->layer, next, w->kv_head), left < size ? left : size,
				      x->g.d_qk, x->g.scale, x->work->scores + t, w->list->tokens);
	}
}

static void weigh_head(void *context, uint32_t i)
{
	const struct mass_work *w = context;
	page_mass(lanes_table(), w->x->work->scores + (size_t)i * w->list->tokens, w->list->tokens,
		  w->x->g.page_tokens, w->mass + (size_t)i * w->list->count);
}

int ikv_exact_mass(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
		   const float *q, float *mass, struct ikv_err *err)
{
	const struct ikv_geometry *g = &x->g;
	if (exact_store_check(x, seq, layer, q_first, q_count, err))
		return -1;
	for (size_t i = 0; i < (size_t)q_count * g->d_qk; i++)
		if (!isfinite(q[i]))
			return ikv_err_set(err, IKV_BAD_INPUT, "query of head %zu, channel %zu is not finite",
					   q_first + i / g->d_qk, i % g->d_qk);
	const struct exact_list *l = exact_store_list(x, seq, layer);
	const uint32_t group = g->q_heads / g->kv_heads;
	if (!l->tokens)
		return 0;
	if (score_room(x->work, (size_t)l->tokens * group, err))
		return -1;
	struct mass_work w = {.x = x, .list = l, .seq = seq, .layer = layer};
	for (uint32_t h = 0; h < q_count; h += w.heads) {
		w.kv_head = (q_first + h) / group;
		w.heads = group - (q_first + h) % group;
		w.heads = w.heads < q_count - h ? w.heads : q_count - h;
		w.q = q + (size_t)h * g->d_qk;
		w.mass = mass + (size_t)h * l->count;
		if (exact_store_each(x, (l->count + IKV_SUMMARY_PAGES - 1) / IKV_SUMMARY_PAGES, score_pages, &w, err) ||
		    exact_store_each(x, w.heads, weigh_head, &w, err))
			return -1;
	}
	return 0;
}

int ikv_exact_token_mass(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page, uint32_t q_first,
			 uint32_t q_count, const float *q, const float *lse, float *mass, struct ikv_err *err)
{
	const struct ikv_geometry *g = &x->g;
	if (exact_store_check(x, seq, layer, q_first, q_count, err))
		return -1;
	const struct exact_list *l = exact_store_list(x, seq, layer);
	if (page >= l->count)
		return ikv_err_set(err, IKV_FAILED, "page %u: the sequence has %u", page, l->count);
	const struct lanes_kernels *lanes = lanes_table();
	const uint32_t group = g->q_heads / g->kv_heads, left = l->tokens - page * g->page_tokens;
	const uint32_t tokens = left < g->page_tokens ? left : g->page_tokens;
	if (score_room(x->work, (size_t)tokens * group, err))
		return -1;
	memset(mass, 0, tokens * sizeof *mass);
	for (uint32_t h = 0, n; h < q_count; h += n) {
		const uint32_t kv_head = (q_first + h) / group;
		const uint16_t *k = ikv_exact_k(x, seq, layer, page, kv_head);
		/* Where heads have plans of their own, the next call for this page is the next head's. */
		const uint16_t *next = kv_head + 1 < g->kv_heads ? k + (size_t)g->page_tokens * g->d_qk : k;
		float *s = x->work->scores;
		n = group - (q_first + h) % group;
		n = n < q_count - h ? n : q_count - h;
		lanes->scores(q + (size_t)h * g->d_qk, n, k, next, tokens, g->d_qk, g->scale, s, tokens);
		for (uint32_t i = 0; i < n; i++, s += tokens) {
			lanes->exps(s, tokens, lse[h + i], 1, s);
			for (uint32_t t = 0; t < tokens; t++)
				mass[t] += s[t];
		}
	}
	for (uint32_t t = 0; t < tokens; t++)
		mass[t] /= (float)q_count;
	return 0;
}

float ikv_mass_divergence(const float *p, const float *d, uint32_t n)
{
	return lanes_table()->divergence(p, d, n);
}

static void locate(const void *source, const struct ikv_attn_unit *u, uint32_t kv_head, uint32_t index, uint32_t i,
		   struct tile *tile, struct flash_heads *heads)
{
	const struct ikv_exact *x = source;
	size_t row = (size_t)i * TILE_TOKENS, rows = x->g.page_tokens;
	*heads = (struct flash_heads){&x->work->shape, x->g.kv_heads - kv_head,
				      (ptrdiff_t)(rows * x->g.d_qk * sizeof(uint16_t)),
				      (ptrdiff_t)(rows * x->g.d_v * sizeof(uint16_t))};
	tile->k = (const uint8_t *)(ikv_exact_k(x, u->seq, u->layer, index, kv_head) + row * x->g.d_qk);
	tile->v = (const uint8_t *)(ikv_exact_v(x, u->seq, u->layer, index, kv_head) + row * x->g.d_v);
	tile->group = tile->k;
	if (x->g.v_aliases_k)
		heads->v_step = heads->k_step;
}

/* All tokens of a sequence and layer. */
static int make_plan(const struct ikv_exact *x, const struct exact_list *l, struct exact_work *w, struct ikv_err *err)
{
	if (geometry_room(&w->pages, &w->pages_cap, l->count, sizeof *w->pages, err))
		return -1;
	for (uint32_t i = 0; i < l->count; i++) {
		uint32_t left = l->tokens - i * x->g.page_tokens;
		w->pages[i] =
		    (struct ikv_page_ref){.page = i,
					  .hi = (uint16_t)(left < x->g.page_tokens ? left : x->g.page_tokens),
					  .mask = IKV_NO_MASK};
	}
	return 0;
}

int ikv_exact_dense(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
		    const float *q, float *out, float *lse, float *mass, struct ikv_err *err)
{
	struct exact_work *w = x->work;
	if (exact_store_check(x, seq, layer, q_first, q_count, err))
		return -1;
	const struct exact_list *l = exact_store_list(x, seq, layer);
	if (ready(x, err))
		return -1;
	tile_shape(&w->shape, (enum ikv_format)TILE_HALF, x->g.d_qk, x->g.d_v, x->g.v_aliases_k);
	if (make_plan(x, l, w, err))
		return -1;
	struct ikv_plan plan = {.pages = w->pages, .count = l->count, .page_tokens = x->g.page_tokens};
	struct ikv_attn_unit unit = {.seq = seq,
				     .layer = layer,
				     .q_first = q_first,
				     .q_count = q_count,
				     .plan = &plan,
				     .q = q,
				     .out = out,
				     .lse = lse,
				     .mass = mass};
	return flash_attend(w->flash, &unit, 1, locate, x, 0, err);
}

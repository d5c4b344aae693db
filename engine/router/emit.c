#include <math.h>
#include <string.h>
#include "emit.h"
#include "intentkv/alloc.h"
#include "pick.h"

const char *const emit_formats[] = {"FP16",  "FP8",   "INT8",   "INT4", "INT4_RESIDUAL", "BF16", "KIVI8",
				    "KIVI4", "KIVI2", "SPARSE", NULL};
const char *const emit_shares[] = {"step", "layer", "kv_head", "head", NULL};

int emit_copy_config(void **state, const void *config, size_t bytes, const struct ikv_budget *budget,
		     const char *router, struct ikv_err *err)
{
	if (budget && budget->kind == IKV_BUDGET_MASS)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "budget: a mass needs the coming step's mass, which only router oracle knows; "
				   "router %s takes tokens (4096) or a share (25%%)",
				   router);
	*state = ikv_alloc(1, bytes, err);
	if (!*state)
		return -1;
	memcpy(*state, config, bytes);
	return 0;
}

void emit_destroy(void *state)
{
	ikv_free(state);
}

size_t emit_save_nothing(const void *state, void *buffer, size_t size)
{
	(void)state;
	(void)buffer;
	(void)size;
	return 0;
}

int emit_load_nothing(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	(void)state;
	(void)buffer;
	if (size)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved router state of %zu bytes, expected none", size);
	return 0;
}

uint32_t emit_page_count(const struct ikv_route_unit *u)
{
	return ikv_pages(u->layout->total_tokens, u->layout->page_tokens);
}

int emit_prepare(const struct ikv_route_unit *u, struct ikv_err *err)
{
	struct ikv_route *r = u->route;
	if (r->plan.page_tokens != u->layout->page_tokens)
		return ikv_err_set(err, IKV_FAILED, "route of %u-token pages given a layout of %u-token pages",
				   r->plan.page_tokens, u->layout->page_tokens);
	if (ikv_route_reserve(r, emit_page_count(u), u->layout->count, err))
		return -1;
	ikv_plan_reset(&r->plan, u->layout->total_tokens);
	r->decision_count = 0;
	r->prefetch_count = 0;
	return 0;
}

struct emit_scratch emit_scratch(const struct ikv_route_unit *u)
{
	const struct ikv_route *r = u->route;
	struct emit_scratch s;
	s.bitmap = r->scratch;
	s.items = s.bitmap + r->page_cap / 64 + 1;
	s.spare = s.items + r->page_cap;
	s.blocks = s.spare + r->page_cap;
	memset(s.bitmap, 0, (emit_page_count(u) / 64 + 1) * sizeof *s.bitmap);
	return s;
}

void emit_begin(struct emit *e, const struct ikv_route_unit *u, const struct emit_config *c, enum ikv_reason why)
{
	const struct ikv_layout *l = u->layout;
	*e = (struct emit){u, (enum ikv_format)(c->format + 1), why, 0};
	for (uint32_t i = 0; i < l->count; i++) {
		const struct ikv_block *b = &l->blocks[i];
		u->route->decisions[i] = (struct ikv_decision){.block = i,
							       .start = b->start,
							       .end = b->end,
							       .score = b->has_score ? b->score : NAN,
							       .rank = -1,
							       .threshold = NAN};
	}
	u->route->decision_count = l->count;
}

void emit_tokens(struct emit *e, uint32_t start, uint32_t end)
{
	const struct ikv_layout *l = e->u->layout;
	struct ikv_route *r = e->u->route;
	while (start < end) {
		while (e->block < l->count && l->blocks[e->block].end <= start)
			e->block++;
		const struct ikv_block *b = e->block < l->count ? &l->blocks[e->block] : NULL;
		uint32_t stop = end, owner = UINT32_MAX;
		if (b && b->start > start) {
			stop = b->start < end ? b->start : end;
		} else if (b) {
			stop = b->end < end ? b->end : end;
			owner = e->block;
			r->decisions[owner].selected_tokens += stop - start;
		}
		ikv_plan_add(&r->plan, start, stop, e->format, owner);
		start = stop;
	}
}

void emit_pages(struct emit *e, const uint64_t *bitmap)
{
	const uint32_t p = e->u->layout->page_tokens, total = e->u->layout->total_tokens;
	const uint32_t pages = emit_page_count(e->u);
	uint32_t first, last;
	for (uint32_t at = 0; pick_run(bitmap, at, pages, &first, &last); at = last)
		emit_tokens(e, first * p, last == pages ? total : last * p);
}

void emit_end(struct emit *e)
{
	struct ikv_route *r = e->u->route;
	for (uint32_t i = 0; i < r->decision_count; i++) {
		struct ikv_decision *d = &r->decisions[i];
		d->reason = e->why;
		d->format = d->selected_tokens ? e->format : IKV_FMT_SKIP;
		d->code = !d->selected_tokens ? IKV_SKIP : e->format == IKV_FMT_FP16 ? IKV_SELECT : IKV_QUANTIZE;
	}
}

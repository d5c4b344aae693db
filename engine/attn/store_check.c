#include <math.h>
#include "attn/store.h"

static int check_plan(const struct store *s, const struct ikv_attn_unit *u, struct ikv_err *err)
{
	const struct ikv_plan *p = u->plan;
	const struct store_list *l = store_list(s, u->seq, u->layer);
	if (p->count && p->page_tokens != s->g.page_tokens)
		return ikv_err_set(err, IKV_FAILED, "plan: pages of %u tokens, the backend's have %u", p->page_tokens,
				   s->g.page_tokens);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct ikv_page_ref *r = &p->pages[i];
		uint64_t end = (uint64_t)r->page * s->g.page_tokens + r->hi;
		if (r->lo >= r->hi || r->hi > s->g.page_tokens || end > l->tokens)
			return ikv_err_set(err, IKV_FAILED,
					   "plan: page %u, tokens [%u, %u): sequence %u, layer %u has %u tokens",
					   r->page, r->lo, r->hi, u->seq, u->layer, l->tokens);
	}
	return 0;
}

static int check_bias(const struct ikv_attn_unit *u, uint32_t unit, struct ikv_err *err)
{
	for (size_t i = 0; u->bias && i < (size_t)ikv_attn_rows(u) * u->bias_tokens; i++)
		if (isnan(u->bias[i]) || u->bias[i] == INFINITY)
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "unit %u: bias of row %zu, position %zu is %g, expected a number or -inf",
					   unit, i / u->bias_tokens, u->bias_first + i % u->bias_tokens, u->bias[i]);
	return 0;
}

int store_check_units(const struct store *s, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		if (u->seq >= s->sequences || u->layer >= s->g.layers)
			return ikv_err_set(err, IKV_FAILED,
					   "unit %u: sequence %u, layer %u: the backend has %u sequences, %u layers",
					   i, u->seq, u->layer, s->sequences, s->g.layers);
		if (u->q_first > s->g.q_heads || u->q_count > s->g.q_heads - u->q_first)
			return ikv_err_set(err, IKV_FAILED, "unit %u: query heads %u+%u: there are %u", i, u->q_first,
					   u->q_count, s->g.q_heads);
		if (check_plan(s, u, err) || check_bias(u, i, err))
			return -1;
	}
	return 0;
}

uint64_t store_read_bytes(const struct store *s, const struct ikv_attn_unit *units, uint32_t count)
{
	uint64_t bytes = 0;
	uint32_t group = s->g.q_heads / s->g.kv_heads;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		for (uint32_t p = 0; u->q_count && p < u->plan->count; p++) {
			const struct ikv_page_ref *r = &u->plan->pages[p];
			const struct store_slot *slots = store_slot(s, u->seq, u->layer, 0, r->page);
			for (uint32_t h = u->q_first / group; h <= (u->q_first + u->q_count - 1) / group; h++)
				bytes += (r->hi - r->lo) * s->own[slots[h].format] / s->g.page_tokens;
		}
	}
	return bytes;
}

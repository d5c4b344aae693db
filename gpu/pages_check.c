#include "gpu/pages.h"

static int check_plan(const struct pages *p, const struct ikv_attn_unit *u, struct ikv_err *err)
{
	const struct ikv_plan *plan = u->plan;
	const struct pages_list *l = pages_list(p, u->seq, u->layer);
	if (plan->count && plan->page_tokens != p->g.page_tokens)
		return ikv_err_set(err, IKV_FAILED, "plan: pages of %u tokens, the backend's have %u",
				   plan->page_tokens, p->g.page_tokens);
	if (plan->count > UINT32_MAX / p->tiles)
		return ikv_err_set(err, IKV_FAILED, "plan: %u pages are too many", plan->count);
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct ikv_page_ref *r = &plan->pages[i];
		uint64_t end = (uint64_t)r->page * p->g.page_tokens + r->hi, words = (p->g.page_tokens + 63) / 64;
		if (r->lo >= r->hi || r->hi > p->g.page_tokens || end > l->tokens)
			return ikv_err_set(err, IKV_FAILED,
					   "plan: page %u, tokens [%u, %u): sequence %u, layer %u has %u tokens",
					   r->page, r->lo, r->hi, u->seq, u->layer, l->tokens);
		if (r->mask != IKV_NO_MASK && r->mask + words > plan->mask_used)
			return ikv_err_set(err, IKV_FAILED, "plan: page %u: mask at word %u of %u", r->page, r->mask,
					   plan->mask_used);
	}
	return 0;
}

int pages_check(const struct pages *p, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		if (u->seq >= p->sequences || u->layer >= p->g.layers)
			return ikv_err_set(err, IKV_FAILED,
					   "unit %u: sequence %u, layer %u: the backend has %u sequences, %u layers",
					   i, u->seq, u->layer, p->sequences, p->g.layers);
		if (u->q_first > p->g.q_heads || u->q_count > p->g.q_heads - u->q_first)
			return ikv_err_set(err, IKV_FAILED, "unit %u: query heads %u+%u: there are %u", i, u->q_first,
					   u->q_count, p->g.q_heads);
		if (u->bias)
			return ikv_err_set(err, IKV_UNAVAILABLE, "unit %u: the backend \"cuda\" takes no bias", i);
		if (check_plan(p, u, err))
			return -1;
	}
	return 0;
}

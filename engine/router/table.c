#include <stdio.h>
#include <string.h>
#include "emit.h"
#include "intentkv/alloc.h"
#include "table.h"

static const struct ikv_router_ops *const routers[] = {
    &router_semantic,  &router_dense, &router_recency, &router_random,
    &router_streaming, &router_quest, &router_oracle,  NULL};

const struct ikv_router_ops *const *ikv_routers(void)
{
	return routers;
}

const struct ikv_router_ops *ikv_router_find(const char *name)
{
	for (const struct ikv_router_ops *const *r = routers; *r; r++)
		if (!strcmp((*r)->name, name))
			return *r;
	return NULL;
}

const char *const *ikv_share_names(void)
{
	return emit_shares;
}

int ikv_route_init(struct ikv_route *route, uint32_t page_tokens, uint32_t pages, uint32_t blocks,
		   struct ikv_err *err)
{
	memset(route, 0, sizeof *route);
	if (!ikv_plan_init(&route->plan, page_tokens, pages, err) && !ikv_route_reserve(route, pages, blocks, err))
		return 0;
	ikv_route_free(route);
	return -1;
}

/* One block more than asked for, as the recent window splits at most one; growth by half, so that a context
 * that grows by a page now and then rarely allocates. */
static uint32_t roomy(uint32_t want, uint32_t have)
{
	uint32_t more = have + have / 2;
	return more > want && more > have ? more : want;
}

int ikv_route_reserve(struct ikv_route *r, uint32_t pages, uint32_t blocks, struct ikv_err *err)
{
	if (pages <= r->page_cap && blocks < r->block_cap)
		return 0;
	if (blocks > UINT32_MAX / 64 || pages > UINT32_MAX / 4)
		return ikv_err_set(err, IKV_BAD_INPUT, "a route of %u pages and %u blocks is too large", pages,
				   blocks);
	if (ikv_plan_reserve(&r->plan, pages, err))
		return -1;
	uint32_t page_cap = pages <= r->page_cap ? r->page_cap : roomy(pages, r->page_cap);
	uint32_t block_cap = blocks < r->block_cap ? r->block_cap : roomy(blocks + 1, r->block_cap);
	uint64_t words = page_cap / 64 + 1 + 2 * (uint64_t)page_cap + 4 * (uint64_t)block_cap;
	if (words > UINT32_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "a route of %u pages and %u blocks is too large", pages,
				   blocks);
	if (block_cap > r->decision_cap) {
		if (ikv_grow(&r->decisions, r->decision_count, block_cap, sizeof *r->decisions, err))
			return -1;
		r->decision_cap = block_cap;
	}
	if (page_cap > r->prefetch_cap) {
		if (ikv_grow(&r->prefetch, r->prefetch_count, page_cap, sizeof *r->prefetch, err))
			return -1;
		r->prefetch_cap = page_cap;
	}
	if (words > r->scratch_cap) {
		if (ikv_grow(&r->scratch, 0, (size_t)words, sizeof *r->scratch, err))
			return -1;
		r->scratch_cap = (uint32_t)words;
	}
	r->page_cap = page_cap;
	r->block_cap = block_cap;
	return 0;
}

void ikv_route_free(struct ikv_route *r)
{
	ikv_plan_free(&r->plan);
	ikv_free(r->decisions);
	ikv_free(r->prefetch);
	ikv_free(r->scratch);
	memset(r, 0, sizeof *r);
}

const char *ikv_decision_name(enum ikv_decision_code code)
{
	static const char *const names[] = {"SELECT", "QUANTIZE", "PIN_HIGH_PRECISION", "SKIP"};
	return code <= IKV_SKIP ? names[code] : "?";
}

const char *ikv_reason_name(enum ikv_reason reason)
{
	static const char *const names[] = {
	    [IKV_WHY_PINNED] = "pinned",
	    [IKV_WHY_RECENT] = "recent",
	    [IKV_WHY_TOP_K] = "top_k",
	    [IKV_WHY_BELOW_TOP_K] = "below_top_k",
	    [IKV_WHY_RESCUED] = "rescued",
	    [IKV_WHY_BELOW_THRESHOLD] = "below_threshold",
	    [IKV_WHY_LADDER_SKIP] = "ladder_skip",
	    [IKV_WHY_BUDGET] = "budget",
	    [IKV_WHY_PAGES] = "pages",
	    [IKV_WHY_DENSE] = "dense",
	};
	return reason <= IKV_WHY_DENSE ? names[reason] : "?";
}

void ikv_decision_explain(const struct ikv_decision *d, char *text, size_t size)
{
	const uint32_t tokens = d->end - d->start;
	switch (d->reason) {
	case IKV_WHY_PINNED:
		snprintf(text, size, "its policy is ALWAYS or GLOBAL");
		break;
	case IKV_WHY_RECENT:
		snprintf(text, size,
			 d->recent ? "it lies in the recent window of the newest tokens" : "its policy is RECENT");
		break;
	case IKV_WHY_TOP_K:
		snprintf(text, size, "rank %d with score %.4g is below top_k_blocks %.0f", d->rank, d->score,
			 d->threshold);
		break;
	case IKV_WHY_BELOW_TOP_K:
		snprintf(text, size, "rank %d with score %.4g is not below top_k_blocks %.0f", d->rank, d->score,
			 d->threshold);
		break;
	case IKV_WHY_RESCUED:
		snprintf(text, size, "SKIP block rescued: score %.4g reaches score_threshold %.4g", d->score,
			 d->threshold);
		break;
	case IKV_WHY_BELOW_THRESHOLD:
		if (d->score == d->score)
			snprintf(text, size, "SKIP block: score %.4g is below score_threshold %.4g", d->score,
				 d->threshold);
		else
			snprintf(text, size, "SKIP block without a score");
		break;
	case IKV_WHY_LADDER_SKIP:
		snprintf(text, size, "the ladder gives no format to score %.4g at memory pressure %.4g", d->score,
			 d->threshold);
		break;
	case IKV_WHY_BUDGET:
		snprintf(text, size, "none of its %u tokens fitted the budget", tokens);
		break;
	case IKV_WHY_PAGES:
		snprintf(text, size, "selection by page took %u of its %u tokens", d->selected_tokens, tokens);
		break;
	case IKV_WHY_DENSE:
		snprintf(text, size, "everything is read");
		break;
	}
}

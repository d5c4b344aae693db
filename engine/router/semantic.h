/* Parts of router `semantic`: decisions in semantic.c, selection under a budget in semantic_budget.c. */
#ifndef ROUTER_SEMANTIC_H
#define ROUTER_SEMANTIC_H

#include "emit.h"

struct semantic_config {
	int64_t top_k_blocks, recent_window_tokens, prefetch_top_k;
	double score_threshold;
	bool preserve_system, preserve_recent;
	struct ikv_budget budget;
	int refine; /* enum semantic_refine */
	double pinned_share, recent_share;
	bool fill;
	int share;
};
enum semantic_refine { SEMANTIC_REFINE_NONE, SEMANTIC_REFINE_QUEST, SEMANTIC_REFINE_COSINE };

struct semantic {
	struct semantic_config config;
	struct ikv_ladder ladder; /* with the router's own preserve flags */
};

/* Select pages for the route's decisions, at most the budget's number, and put them into the plan. `order` lists
 * the ranked decisions, best first. */
void semantic_budget_select(const struct semantic *s, const struct ikv_route_unit *u, const uint64_t *order,
			    uint32_t ranked);

#endif

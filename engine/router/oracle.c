/* oracle: the pages that will receive the most softmax mass in the coming step. An upper bound, not a policy. */
#include "emit.h"
#include "pick.h"
#include "table.h"

struct oracle_config {
	struct emit_config emit;
};

static const struct ikv_option options[] = {
    EMIT_OPTION_BUDGET(struct oracle_config, emit, "1024",
		       "tokens or share of the context to read, in whole pages, or the mass to reach (mass:0.95)"),
    EMIT_OPTION_FORMAT(struct oracle_config, emit),
    EMIT_OPTION_SHARE(struct oracle_config, emit, "kv_head"),
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	(void)config;
	return IKV_NEEDS_COMING_MASS;
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct oracle_config *)config)->emit.share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	(void)ladder;
	return emit_copy_config(state, config, sizeof(struct oracle_config), NULL, "oracle", err);
}

static int act_one(const struct oracle_config *c, const struct ikv_route_unit *u, struct ikv_err *err)
{
	struct emit e;
	if (emit_prepare(u, err))
		return -1;
	const uint32_t n = emit_page_count(u);
	if (n && !u->page_mass)
		return ikv_err_set(err, IKV_FAILED, "router oracle needs the coming step's mass per page");
	emit_begin(&e, u, &c->emit, IKV_WHY_PAGES);
	struct emit_scratch s = emit_scratch(u);
	for (uint32_t p = 0; p < n; p++)
		s.items[p] = pick_item(u->page_mass[p], p);
	if (c->emit.budget.kind == IKV_BUDGET_MASS)
		pick_mass(s.items, s.spare, n, u->page_mass, c->emit.budget.value, s.bitmap);
	else
		pick_top(s.items, n,
			 ikv_budget_pages(&c->emit.budget, u->layout->total_tokens, u->layout->page_tokens),
			 s.bitmap);
	emit_pages(&e, s.bitmap);
	emit_end(&e);
	return 0;
}

static int act(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++)
		if (act_one(state, &units[i], err))
			return -1;
	return 0;
}

const struct ikv_router_ops router_oracle = {
    .name = "oracle",
    .summary = "the pages with the most true softmax mass of the coming step (upper bound)",
    .options = options,
    .config_bytes = sizeof(struct oracle_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

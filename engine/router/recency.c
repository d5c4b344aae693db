/* recency: the newest tokens. */
#include "emit.h"
#include "table.h"

struct recency_config {
	struct emit_config emit;
	int64_t window;
};

static const struct ikv_option options[] = {
    {"window", IKV_OPT_INT, offsetof(struct recency_config, window), "4096", 1, UINT32_MAX, NULL,
     "newest tokens that are read, when no budget is set"},
    EMIT_OPTION_BUDGET(struct recency_config, emit, "none",
		       "tokens or share of the context to read instead of the window, in whole pages"),
    EMIT_OPTION_FORMAT(struct recency_config, emit),
    EMIT_OPTION_SHARE(struct recency_config, emit, "step"),
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	(void)config;
	return 0;
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct recency_config *)config)->emit.share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	const struct recency_config *c = config;
	(void)ladder;
	return emit_copy_config(state, config, sizeof *c, &c->emit.budget, "recency", err);
}

static int act(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err)
{
	const struct recency_config *c = state;
	struct emit e;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t total = units[i].layout->total_tokens, p = units[i].layout->page_tokens;
		uint32_t start = total > c->window ? total - (uint32_t)c->window : 0;
		if (c->emit.budget.kind != IKV_BUDGET_NONE && total)
			start = (ikv_pages(total, p) - ikv_budget_pages(&c->emit.budget, total, p)) * p;
		if (emit_prepare(&units[i], err))
			return -1;
		emit_begin(&e, &units[i], &c->emit, IKV_WHY_PAGES);
		emit_tokens(&e, start, total);
		emit_end(&e);
	}
	return 0;
}

const struct ikv_router_ops router_recency = {
    .name = "recency",
    .summary = "the newest tokens",
    .options = options,
    .config_bytes = sizeof(struct recency_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

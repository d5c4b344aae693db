/* streaming: the first tokens (attention sinks) and the newest ones (Xiao et al. 2023, arXiv 2309.17453). */
#include "emit.h"
#include "table.h"

struct streaming_config {
	struct emit_config emit;
	int64_t sink, window;
};

static const struct ikv_option options[] = {
    {"sink", IKV_OPT_INT, offsetof(struct streaming_config, sink), "4", 0, UINT32_MAX, NULL,
     "first tokens of the context that are always read"},
    {"window", IKV_OPT_INT, offsetof(struct streaming_config, window), "2000", 1, UINT32_MAX, NULL,
     "newest tokens that are read, when no budget is set"},
    EMIT_OPTION_BUDGET(
	struct streaming_config, emit, "none",
	"tokens or share of the context to read: the sink, and the newest pages in place of the window"),
    EMIT_OPTION_FORMAT(struct streaming_config, emit),
    EMIT_OPTION_SHARE(struct streaming_config, emit, "step"),
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	(void)config;
	return 0;
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct streaming_config *)config)->emit.share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	const struct streaming_config *c = config;
	(void)ladder;
	return emit_copy_config(state, config, sizeof *c, &c->emit.budget, "streaming", err);
}

static int act(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err)
{
	const struct streaming_config *c = state;
	struct emit e;
	for (uint32_t i = 0; i < count; i++) {
		const uint32_t total = units[i].layout->total_tokens, p = units[i].layout->page_tokens;
		uint32_t start = total > c->window ? total - (uint32_t)c->window : 0;
		uint32_t sink = total > c->sink ? (uint32_t)c->sink : total;
		if (c->emit.budget.kind != IKV_BUDGET_NONE && total) {
			/* The newest page comes before the sink when there is room for one page only. */
			uint32_t room = ikv_budget_pages(&c->emit.budget, total, p), front = ikv_pages(sink, p);
			if (front > room - 1) {
				front = room - 1;
				sink = front * p < sink ? front * p : sink;
			}
			start = (ikv_pages(total, p) - (room - front)) * p;
		}
		if (emit_prepare(&units[i], err))
			return -1;
		emit_begin(&e, &units[i], &c->emit, IKV_WHY_PAGES);
		emit_tokens(&e, 0, sink < start ? sink : start);
		emit_tokens(&e, start, total);
		emit_end(&e);
	}
	return 0;
}

const struct ikv_router_ops router_streaming = {
    .name = "streaming",
    .summary = "the first tokens and the newest (StreamingLLM, arXiv 2309.17453)",
    .options = options,
    .config_bytes = sizeof(struct streaming_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

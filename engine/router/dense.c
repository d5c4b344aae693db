/* dense: every token, gaps included. The reference that selections are compared with. */
#include "emit.h"
#include "table.h"

struct dense_config {
	struct emit_config emit;
};

static const struct ikv_option options[] = {
    EMIT_OPTION_FORMAT(struct dense_config, emit),
    EMIT_OPTION_SHARE(struct dense_config, emit, "step"),
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	(void)config;
	return 0;
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct dense_config *)config)->emit.share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	(void)ladder;
	return emit_copy_config(state, config, sizeof(struct dense_config), NULL, "dense", err);
}

static int act(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err)
{
	const struct dense_config *c = state;
	struct emit e;
	for (uint32_t i = 0; i < count; i++) {
		if (emit_prepare(&units[i], err))
			return -1;
		emit_begin(&e, &units[i], &c->emit, IKV_WHY_DENSE);
		emit_tokens(&e, 0, units[i].layout->total_tokens);
		emit_end(&e);
	}
	return 0;
}

const struct ikv_router_ops router_dense = {
    .name = "dense",
    .summary = "everything, gaps between blocks included",
    .options = options,
    .config_bytes = sizeof(struct dense_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

/* random: a seeded random set of pages, the lower bound of any selection that claims to know something. */
#include "emit.h"
#include "table.h"

struct random_config {
	struct emit_config emit;
};

static const struct ikv_option options[] = {
    EMIT_OPTION_BUDGET(struct random_config, emit, "1024",
		       "tokens or share of the context to read, in whole pages; the default is quest's"),
    EMIT_OPTION_FORMAT(struct random_config, emit),
    EMIT_OPTION_SHARE(struct random_config, emit, "layer"),
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	(void)config;
	return 0;
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct random_config *)config)->emit.share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	const struct random_config *c = config;
	(void)ladder;
	return emit_copy_config(state, config, sizeof *c, &c->emit.budget, "random", err);
}

/* Floyd's sampling: k distinct pages of n, every set equally likely, with k draws. */
static void draw(const struct ikv_route_unit *u, uint32_t n, uint32_t k, uint64_t *bitmap)
{
	struct ikv_rng rng;
	uint64_t heads = (uint64_t)u->layer << 32 | u->q_first;
	ikv_rng_stream(&rng, ikv_mix64_2(u->seed, heads), IKV_STREAM_ROUTER, u->seq, u->step);
	for (uint32_t j = n - k; j < n; j++) {
		uint32_t page = (uint32_t)ikv_rng_below(&rng, (uint64_t)j + 1);
		if (bitmap[page / 64] >> page % 64 & 1)
			page = j;
		bitmap[page / 64] |= (uint64_t)1 << page % 64;
	}
}

static int act(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err)
{
	const struct random_config *c = state;
	struct emit e;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_route_unit *u = &units[i];
		if (emit_prepare(u, err))
			return -1;
		const uint32_t n = emit_page_count(u);
		const uint32_t k = ikv_budget_pages(&c->emit.budget, u->layout->total_tokens, u->layout->page_tokens);
		struct emit_scratch s = emit_scratch(u);
		draw(u, n, k < n ? k : n, s.bitmap);
		emit_begin(&e, u, &c->emit, IKV_WHY_PAGES);
		emit_pages(&e, s.bitmap);
		emit_end(&e);
	}
	return 0;
}

const struct ikv_router_ops router_random = {
    .name = "random",
    .summary = "a seeded random set of pages of the same budget",
    .options = options,
    .config_bytes = sizeof(struct random_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

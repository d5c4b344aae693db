/* quest: the pages with the highest score, with scorer `quest` the upper bound of q·k (Tang et al. 2024, arXiv
 * 2406.10774), with `cosine` the cosine of mean query and mean key. The first layers read everything, as attention is not sparse there. */
#include "emit.h"
#include "pick.h"
#include "table.h"

#define LEAST_PAGES 3 /* as in the authors' code */

struct quest_config {
	struct emit_config emit;
	int64_t dense_layers;
};

static const struct ikv_option options[] = {
    EMIT_OPTION_BUDGET(struct quest_config, emit, "1024",
		       "tokens or share of the context to read, in whole pages, at least 3 pages"),
    {"dense_layers", IKV_OPT_INT, offsetof(struct quest_config, dense_layers), "2", 0, 1024, NULL,
     "first layers of the model that read everything"},
    EMIT_OPTION_FORMAT(struct quest_config, emit),
    {"share", IKV_OPT_ENUM, offsetof(struct quest_config, emit.share), "kv_head", 0, 0, emit_shares,
     "how far one selection is shared; the paper decides per query head, kv_head lets a group read the same pages"},
    IKV_OPTION_END,
};

static unsigned needs(const void *config)
{
	(void)config;
	return IKV_NEEDS_PAGE_SCORES;
}

static enum ikv_share share(const void *config)
{
	return (enum ikv_share)((const struct quest_config *)config)->emit.share;
}

static int create(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err)
{
	const struct quest_config *c = config;
	(void)ladder;
	return emit_copy_config(state, config, sizeof *c, &c->emit.budget, "quest", err);
}

/* Pages by score; 0 where all are read. */
static uint32_t pages_by_score(const struct quest_config *c, const struct ikv_route_unit *u)
{
	const uint32_t n = emit_page_count(u);
	uint32_t k = ikv_budget_pages(&c->emit.budget, u->layout->total_tokens, u->layout->page_tokens);
	k = k < LEAST_PAGES ? LEAST_PAGES : k;
	return u->layer < c->dense_layers || k >= n ? 0 : k;
}

static uint32_t top_pages(const void *state, const struct ikv_route_unit *u)
{
	return pages_by_score(state, u);
}

static int act_one(const struct quest_config *c, const struct ikv_route_unit *u, struct ikv_err *err)
{
	struct emit e;
	if (emit_prepare(u, err))
		return -1;
	emit_begin(&e, u, &c->emit, IKV_WHY_PAGES);
	const uint32_t n = emit_page_count(u), k = pages_by_score(c, u);
	if (!k) {
		emit_tokens(&e, 0, u->layout->total_tokens);
	} else if (u->top_pages) {
		emit_pages(&e, u->top_pages);
	} else if (!u->page_scores) {
		return ikv_err_set(err, IKV_FAILED,
				   "router quest needs page scores");
	} else {
		struct emit_scratch s = emit_scratch(u);
		for (uint32_t p = 0; p < n; p++)
			s.items[p] = pick_item(u->page_scores[p], p);
		pick_top(s.items, n, k, s.bitmap);
		emit_pages(&e, s.bitmap);
	}
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

const struct ikv_router_ops router_quest = {
    .name = "quest",
    .summary = "the pages with the highest bound of q·k, first layers dense (Quest, arXiv 2406.10774)",
    .options = options,
    .config_bytes = sizeof(struct quest_config),
    .needs = needs,
    .share = share,
    .create = create,
    .destroy = emit_destroy,
    .act = act,
    .top_pages = top_pages,
    .save = emit_save_nothing,
    .load = emit_load_nothing,
};

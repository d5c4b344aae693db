/* What the memory manager decided, done to the backend's pages. */
#include <string.h>
#include "sim/run.h"

static int restore(struct run *run, uint32_t seq, const struct group *g, uint32_t page, enum ikv_format format,
		   struct ikv_err *err)
{
	for (uint32_t l = g->layer_first; l < g->layer_first + g->layer_count; l++)
		if (run->backend_ops->restore(run->backend, seq, l, g->kv_first, g->kv_count, page, format,
					      ikv_exact_k(run->exact, seq, l, page, g->kv_first),
					      ikv_exact_v(run->exact, seq, l, page, g->kv_first), err))
			return -1;
	return 0;
}

static int recode(struct run *run, uint32_t seq, const struct group *g, uint32_t page, enum ikv_format format,
		  struct ikv_err *err)
{
	for (uint32_t l = g->layer_first; l < g->layer_first + g->layer_count; l++)
		if (run->backend_ops->recode(run->backend, seq, l, g->kv_first, g->kv_count, page, format, err))
			return -1;
	return 0;
}

/* The fastest tier is the backend's fast one; all others are one to it. */
static int place(struct run *run, const struct ikv_action *a, const struct group *g, struct ikv_err *err)
{
	bool was_fast = a->from_tier == 0, fast = a->to_tier == 0;
	if (!run->backend_ops->place || was_fast == fast)
		return 0;
	enum ikv_place where = !fast                            ? IKV_PLACE_SLOW
			       : a->move == IKV_MOVE_PREFETCH ? IKV_PLACE_FAST_AHEAD
							      : IKV_PLACE_FAST;
	for (uint32_t l = g->layer_first; l < g->layer_first + g->layer_count; l++)
		if (run->backend_ops->place(run->backend, a->seq, l, g->kv_first, g->kv_count, a->page, where, err))
			return -1;
	return 0;
}

int apply_actions(struct run *run, struct ikv_err *err)
{
	for (uint32_t i = 0; i < run->moved.action_count; i++) {
		const struct ikv_action *a = &run->moved.actions[i];
		const struct group *g = &run->slots[a->seq].groups[a->group];
		int rc = place(run, a, g, err);
		if (!rc && (a->move == IKV_MOVE_DEMOTE || a->move == IKV_MOVE_PROMOTE || a->move == IKV_MOVE_ENCODE))
			rc = recode(run, a->seq, g, a->page, (enum ikv_format)a->to_format, err);
		else if (!rc && a->move == IKV_MOVE_REFETCH)
			rc = restore(run, a->seq, g, a->page, (enum ikv_format)a->to_format, err);
		if (rc)
			return -1;
	}
	return 0;
}

int apply_reopen(struct run *run, struct slot *s, uint32_t tokens, struct ikv_err *err)
{
	uint32_t seq = (uint32_t)(s - run->slots), page = tokens / run->geometry.page_tokens;
	if (tokens % run->geometry.page_tokens == 0)
		return 0;
	for (uint32_t gi = 0; gi < run->groups; gi++) {
		const struct group *g = &s->groups[gi];
		if (run->backend_ops->format(run->backend, seq, g->layer_first, g->kv_first, page) != IKV_FMT_FP16 &&
		    restore(run, seq, g, page, IKV_FMT_FP16, err))
			return -1;
	}
	return 0;
}

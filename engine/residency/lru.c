/* Least recently used: a use moves a slot to the newest end, the oldest goes. */
#include "residency/queues.h"
#include "residency/residency_table.h"

/* A run of slots that already follow one another in the queue, as those of a repeated plan do, moves to the
 * newest end in one piece. */
static void lru_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct queues *q = state;
	struct queue *all = &q->queue[1];
	struct queue_entry *e = q->entries;
	(void)step;
	for (uint32_t i = 0; i < count;) {
		uint32_t first = slots[i++], last = first;
		__builtin_prefetch(&e[slots[i + 24 < count ? i + 24 : count - 1]]);
		if (!e[first].queue)
			continue;
		while (i < count && e[last].newer == slots[i])
			last = slots[i++];
		uint32_t before = e[first].older, after = e[last].newer;
		if (after == QUEUES_END)
			continue;
		*(before == QUEUES_END ? &all->oldest : &e[before].newer) = after;
		e[after].older = before;
		e[all->newest].newer = first;
		e[first].older = all->newest;
		e[last].newer = QUEUES_END;
		all->newest = last;
	}
}

static uint32_t lru_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	return queues_oldest(state, 1, may, ctx);
}

static const struct ikv_option lru_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_lru = {
    .name = "lru",
    .summary = "evicts the page whose last access is longest ago",
    .options = lru_options,
    .create = queues_op_create,
    .destroy = queues_op_destroy,
    .reserve = queues_op_reserve,
    .insert = queues_op_insert,
    .touch = lru_touch,
    .victim = lru_victim,
    .evict = queues_op_remove,
    .remove = queues_op_remove,
    .holds = queues_op_holds,
    .save = queues_op_save,
    .load = queues_op_load,
};

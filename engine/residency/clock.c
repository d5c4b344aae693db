/* Clock, also called second chance or FIFO-reinsertion (Corbato, "A Paging Experiment with the Multics System",
 * 1968): first in, first out, but a slot that was used since it was last looked at goes round once more. */
#include "residency/queues.h"
#include "residency/residency_table.h"

static void clock_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct queues *q = state;
	(void)step;
	for (uint32_t i = 0; i < count; i++)
		q->entries[slots[i]].uses = 1;
}

/* Slots that may not go keep their place, so the walk ends: each slot moves to the newest end at most once. */
static uint32_t clock_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	struct queues *q = state;
	struct queue_entry *e = q->entries;
	for (uint32_t s = q->queue[1].oldest, next; s != QUEUES_END; s = next) {
		next = e[s].newer == QUEUES_END ? s : e[s].newer; /* the last one is its own successor, moved */
		if (e[s].uses) {
			e[s].uses = 0;
			queues_move(q, 1, s);
		} else if (!may || may(ctx, s)) {
			return s;
		} else {
			next = e[s].newer;
		}
	}
	return IKV_NO_SLOT;
}

static const struct ikv_option clock_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_clock = {
    .name = "clock",
    .summary = "first in, first out, with a second chance for pages used meanwhile (Corbato 1968)",
    .options = clock_options,
    .create = queues_op_create,
    .destroy = queues_op_destroy,
    .reserve = queues_op_reserve,
    .insert = queues_op_insert,
    .touch = clock_touch,
    .victim = clock_victim,
    .evict = queues_op_remove,
    .remove = queues_op_remove,
    .holds = queues_op_holds,
    .save = queues_op_save,
    .load = queues_op_load,
};

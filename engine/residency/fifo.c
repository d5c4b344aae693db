/* First in, first out: uses do not count. */
#include "residency/queues.h"
#include "residency/residency_table.h"

static void fifo_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	(void)state, (void)slots, (void)count, (void)step;
}

static uint32_t fifo_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	return queues_oldest(state, 1, may, ctx);
}

static const struct ikv_option fifo_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_fifo = {
    .name = "fifo",
    .summary = "evicts the page that came first, however often it is used",
    .options = fifo_options,
    .create = queues_op_create,
    .destroy = queues_op_destroy,
    .reserve = queues_op_reserve,
    .insert = queues_op_insert,
    .touch = fifo_touch,
    .victim = fifo_victim,
    .evict = queues_op_remove,
    .remove = queues_op_remove,
    .holds = queues_op_holds,
    .save = queues_op_save,
    .load = queues_op_load,
};

/* SIEVE (Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU", NSDI 2024). One queue in order of
 * arrival and a hand that walks from the oldest slot to the newest and then again from the oldest; it clears the
 * visited bits that it passes and takes the first slot without one. Unlike in Clock, what survives keeps its
 * place. The hand then rests on the next newer slot, or, behind the newest, nowhere: it starts anew. */
#include "intentkv/alloc.h"
#include "residency/queues.h"
#include "residency/residency_table.h"

struct sieve {
	struct queues q; /* first: the shared operations work on it */
	uint32_t hand;   /* QUEUES_END: at the oldest slot when it is needed */
};

static int sieve_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err)
{
	(void)config, (void)capacity_bytes;
	struct sieve *v = ikv_alloc(1, sizeof *v, err);
	if (!v)
		return -1;
	queues_init(&v->q);
	v->hand = QUEUES_END;
	*state = v;
	return 0;
}

static void sieve_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct sieve *v = state;
	(void)step;
	for (uint32_t i = 0; i < count; i++)
		v->q.entries[slots[i]].uses = 1;
}

/* Two rounds are enough: the first clears all visited bits. */
static uint32_t sieve_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	struct sieve *v = state;
	struct queue_entry *e = v->q.entries;
	uint32_t s = v->hand;
	for (uint64_t left = 2 * (uint64_t)v->q.queue[1].count; left; left--) {
		if (s == QUEUES_END)
			s = v->q.queue[1].oldest;
		if (!e[s].uses && (!may || may(ctx, s))) {
			v->hand = s;
			return s;
		}
		e[s].uses = 0;
		s = e[s].newer;
	}
	return IKV_NO_SLOT;
}

static void sieve_remove(void *state, uint32_t slot)
{
	struct sieve *v = state;
	if (slot == v->hand)
		v->hand = v->q.entries[slot].newer;
	queues_op_remove(&v->q, slot);
}

static size_t sieve_save(const void *state, void *buffer, size_t size)
{
	const struct sieve *v = state;
	struct serial_out o = {buffer, size, 0};
	queues_write(&v->q, 1, &o);
	serial_put(&o, v->hand, 4);
	return o.used;
}

static int sieve_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct sieve *v = state;
	struct serial_in in = {buffer, size, 0, false};
	if (queues_read(&v->q, 1, 1, &in, err))
		return -1;
	uint32_t hand = (uint32_t)serial_get(&in, 4);
	if (hand != QUEUES_END && (hand >= v->q.slots || !v->q.entries[hand].queue))
		return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: slot %u is not valid here", hand);
	v->hand = hand;
	return queues_read_end(&in, err);
}

static const struct ikv_option sieve_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_sieve = {
    .name = "sieve",
    .summary = "a hand takes the first page not used since it last passed; others keep their place (NSDI 2024)",
    .options = sieve_options,
    .create = sieve_create,
    .destroy = queues_op_destroy,
    .reserve = queues_op_reserve,
    .insert = queues_op_insert,
    .touch = sieve_touch,
    .victim = sieve_victim,
    .evict = sieve_remove,
    .remove = sieve_remove,
    .holds = queues_op_holds,
    .save = sieve_save,
    .load = sieve_load,
};

/* Queues over slots: growth, saved form, and the operations that policies with one queue share. */
#include "intentkv/alloc.h"
#include "residency/queues.h"

int queues_reserve(struct queues *q, uint32_t slots, struct ikv_err *err)
{
	if (slots <= q->slots)
		return 0;
	if (ikv_grow(&q->entries, q->slots, slots, sizeof *q->entries, err))
		return -1;
	q->slots = slots;
	return 0;
}

#define ENTRY_BYTES 9

void queues_write(const struct queues *q, unsigned numbers, struct serial_out *o)
{
	serial_put(o, q->slots, 4);
	for (unsigned n = 1; n <= numbers; n++) {
		serial_put(o, q->queue[n].count, 4);
		for (uint32_t s = q->queue[n].oldest; s != QUEUES_END; s = q->entries[s].newer) {
			serial_put(o, s, 4);
			serial_put(o, q->entries[s].bytes, 4);
			serial_put(o, q->entries[s].uses, 1);
		}
	}
}

int queues_read(struct queues *q, unsigned numbers, uint8_t most_uses, struct serial_in *in, struct ikv_err *err)
{
	uint32_t slots = (uint32_t)serial_get(in, 4);
	if (in->bad || slots != q->slots)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: %u slots, expected %u", slots,
				   q->slots);
	for (uint32_t s = 0; s < slots; s++)
		q->entries[s].queue = 0;
	queues_init(q);
	for (unsigned n = 1; n <= numbers; n++) {
		uint32_t count = serial_get_count(in, ENTRY_BYTES);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t s = (uint32_t)serial_get(in, 4), bytes = (uint32_t)serial_get(in, 4);
			uint8_t uses = (uint8_t)serial_get(in, 1);
			if (s >= slots || q->entries[s].queue || bytes == 0 || uses > most_uses)
				return ikv_err_set(err, IKV_BAD_INPUT,
						   "saved residency state: slot %u is not valid here", s);
			queues_add(q, n, s, bytes);
			q->entries[s].uses = uses;
		}
	}
	return 0;
}

int queues_read_end(const struct serial_in *in, struct ikv_err *err)
{
	if (in->bad)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: cut short");
	return in->used == in->size ? 0 : ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: bytes left over");
}

int queues_op_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err)
{
	(void)config, (void)capacity_bytes;
	struct queues *q = ikv_alloc(1, sizeof *q, err);
	if (!q)
		return -1;
	queues_init(q);
	*state = q;
	return 0;
}

void queues_op_destroy(void *state)
{
	struct queues *q = state;
	if (q)
		ikv_free(q->entries);
	ikv_free(q);
}

int queues_op_reserve(void *state, uint32_t slots, struct ikv_err *err)
{
	return queues_reserve(state, slots, err);
}

void queues_op_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step)
{
	(void)step;
	queues_add(state, 1, slot, bytes);
}

void queues_op_remove(void *state, uint32_t slot)
{
	struct queues *q = state;
	if (q->entries[slot].queue)
		queues_take(q, slot);
}

bool queues_op_holds(const void *state, uint32_t slot)
{
	const struct queues *q = state;
	return q->entries[slot].queue != 0;
}

size_t queues_op_save(const void *state, void *buffer, size_t size)
{
	struct serial_out o = {buffer, size, 0};
	queues_write(state, 1, &o);
	return o.used;
}

int queues_op_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct serial_in in = {buffer, size, 0, false};
	return queues_read(state, 1, 1, &in, err) || queues_read_end(&in, err) ? -1 : 0;
}

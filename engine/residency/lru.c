/* Least recently used: a doubly linked list over the slots, oldest at the head. All operations are O(1)
 * except `victim`, which passes over the slots that may not go. */
#include "intentkv/alloc.h"
#include "residency/residency_table.h"
#include "serial.h"

#define END    UINT32_MAX
#define ABSENT (UINT32_MAX - 1) /* in `prev`: the slot is not listed */

struct link {
	uint32_t prev, next;
};
struct lru {
	struct link *links;
	uint32_t slots, head, tail, count;
};

static int lru_create(void **state, const void *config, struct ikv_err *err)
{
	(void)config;
	struct lru *l = ikv_alloc(1, sizeof *l, err);
	if (!l)
		return -1;
	l->head = l->tail = END;
	*state = l;
	return 0;
}

static void lru_destroy(void *state)
{
	struct lru *l = state;
	if (l)
		ikv_free(l->links);
	ikv_free(l);
}

static int lru_reserve(void *state, uint32_t slots, struct ikv_err *err)
{
	struct lru *l = state;
	if (slots <= l->slots)
		return 0;
	if (ikv_grow(&l->links, l->slots, slots, sizeof *l->links, err))
		return -1;
	for (uint32_t i = l->slots; i < slots; i++)
		l->links[i].prev = ABSENT;
	l->slots = slots;
	return 0;
}

static void lru_remove(void *state, uint32_t slot)
{
	struct lru *l = state;
	struct link *e = &l->links[slot];
	if (e->prev == ABSENT)
		return;
	*(e->prev == END ? &l->head : &l->links[e->prev].next) = e->next;
	*(e->next == END ? &l->tail : &l->links[e->next].prev) = e->prev;
	e->prev = ABSENT;
	l->count--;
}

static void push(struct lru *l, uint32_t slot)
{
	struct link *e = &l->links[slot];
	e->prev = l->tail;
	e->next = END;
	*(l->tail == END ? &l->head : &l->links[l->tail].next) = slot;
	l->tail = slot;
	l->count++;
}

static void lru_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step)
{
	(void)bytes, (void)step;
	lru_remove(state, slot);
	push(state, slot);
}

/* A run of slots that already follow one another in the list, as those of a repeated plan do, moves to the
 * recent end in one piece. */
static void lru_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct lru *l = state;
	(void)step;
	for (uint32_t i = 0; i < count;) {
		uint32_t first = slots[i++], last = first;
		if (l->links[first].prev == ABSENT)
			continue;
		while (i < count && l->links[last].next == slots[i])
			last = slots[i++];
		uint32_t before = l->links[first].prev, after = l->links[last].next;
		if (after == END)
			continue;
		*(before == END ? &l->head : &l->links[before].next) = after;
		l->links[after].prev = before;
		l->links[l->tail].next = first;
		l->links[first].prev = l->tail;
		l->links[last].next = END;
		l->tail = last;
	}
}

static uint32_t lru_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	const struct lru *l = state;
	for (uint32_t s = l->head; s != END; s = l->links[s].next)
		if (may(ctx, s))
			return s;
	return UINT32_MAX;
}

static size_t lru_save(const void *state, void *buffer, size_t size)
{
	const struct lru *l = state;
	struct serial_out o = {buffer, size, 0};
	serial_put(&o, l->slots, 4);
	serial_put(&o, l->count, 4);
	for (uint32_t s = l->head; s != END; s = l->links[s].next)
		serial_put(&o, s, 4);
	return o.used;
}

static int lru_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct lru *l = state;
	struct serial_in in = {buffer, size, 0, false};
	uint32_t slots = (uint32_t)serial_get(&in, 4), count = serial_get_count(&in, 4);
	if (in.bad || slots != l->slots || count > slots)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: %u slots, expected %u", slots,
				   l->slots);
	for (uint32_t s = 0; s < l->slots; s++)
		lru_remove(l, s);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t s = (uint32_t)serial_get(&in, 4);
		if (s >= slots || l->links[s].prev != ABSENT)
			return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: slot %u is not valid here", s);
		push(l, s);
	}
	return in.used == size ? 0 : ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: bytes left over");
}

static const struct ikv_option lru_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_lru = {
    .name = "lru",
    .summary = "evicts the page whose last access is longest ago",
    .options = lru_options,
    .create = lru_create,
    .destroy = lru_destroy,
    .reserve = lru_reserve,
    .insert = lru_insert,
    .touch = lru_touch,
    .remove = lru_remove,
    .victim = lru_victim,
    .save = lru_save,
    .load = lru_load,
};

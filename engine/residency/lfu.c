/* Least frequently used since it came; of equals the one that reached its count first goes (FIFO among ties).
 * Slots of one count form a list, the lists another in order of counts, so that a use is O(1) (Shah, Mitra,
 * Matani: "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010). */
#include "intentkv/alloc.h"
#include "residency/residency_table.h"
#include "serial.h"

#define NONE UINT32_MAX

struct member { /* of a list */
	uint32_t older, newer;
	uint32_t list; /* index + 1; 0: the slot is not held */
};
struct list { /* all slots used `count` times */
	uint64_t count;
	uint32_t oldest, newest;
	uint32_t rarer, oftener; /* neighbours by count; in a free list, `oftener` is the next free one */
};
struct lfu {
	struct member *members; /* [slots] */
	struct list *lists;     /* [slots + 1]: no list is empty but for the moment of a move */
	uint32_t slots, held;
	uint32_t rarest, free; /* heads */
	uint32_t fresh;        /* lists from here on have never been used */
};

static int lfu_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err)
{
	(void)config, (void)capacity_bytes;
	struct lfu *l = ikv_alloc(1, sizeof *l, err);
	if (!l)
		return -1;
	l->rarest = l->free = NONE;
	*state = l;
	return 0;
}

static void lfu_destroy(void *state)
{
	struct lfu *l = state;
	if (l) {
		ikv_free(l->members);
		ikv_free(l->lists);
	}
	ikv_free(l);
}

static int lfu_reserve(void *state, uint32_t slots, struct ikv_err *err)
{
	struct lfu *l = state;
	if (slots <= l->slots)
		return 0;
	if (ikv_grow(&l->lists, l->slots ? (size_t)l->slots + 1 : 0, (size_t)slots + 1, sizeof *l->lists, err) ||
	    ikv_grow(&l->members, l->slots, slots, sizeof *l->members, err))
		return -1;
	l->slots = slots;
	return 0;
}

/* The list for `count`, made behind list `rarer` (NONE: in front of all) if it is not there. */
static uint32_t list_after(struct lfu *l, uint32_t rarer, uint64_t count)
{
	uint32_t next = rarer == NONE ? l->rarest : l->lists[rarer].oftener;
	if (next != NONE && l->lists[next].count == count)
		return next;
	uint32_t n = l->free;
	if (n == NONE)
		n = l->fresh++;
	else
		l->free = l->lists[n].oftener;
	l->lists[n] = (struct list){.count = count, .oldest = NONE, .newest = NONE, .rarer = rarer, .oftener = next};
	*(rarer == NONE ? &l->rarest : &l->lists[rarer].oftener) = n;
	if (next != NONE)
		l->lists[next].rarer = n;
	return n;
}

static void append(struct lfu *l, uint32_t n, uint32_t slot)
{
	struct list *to = &l->lists[n];
	l->members[slot] = (struct member){.older = to->newest, .newer = NONE, .list = n + 1};
	*(to->newest == NONE ? &to->oldest : &l->members[to->newest].newer) = slot;
	to->newest = slot;
}

static void take(struct lfu *l, uint32_t slot)
{
	struct member *e = &l->members[slot];
	uint32_t n = e->list - 1;
	struct list *from = &l->lists[n];
	*(e->older == NONE ? &from->oldest : &l->members[e->older].newer) = e->newer;
	*(e->newer == NONE ? &from->newest : &l->members[e->newer].older) = e->older;
	e->list = 0;
	if (from->oldest != NONE)
		return;
	*(from->rarer == NONE ? &l->rarest : &l->lists[from->rarer].oftener) = from->oftener;
	if (from->oftener != NONE)
		l->lists[from->oftener].rarer = from->rarer;
	from->oftener = l->free;
	l->free = n;
}

static void lfu_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step)
{
	struct lfu *l = state;
	(void)bytes, (void)step;
	append(l, list_after(l, NONE, 1), slot);
	l->held++;
}

static void lfu_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct lfu *l = state;
	(void)step;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = l->members[slots[i]].list;
		if (!n)
			continue;
		uint32_t to = list_after(l, n - 1, l->lists[n - 1].count + 1);
		take(l, slots[i]);
		append(l, to, slots[i]);
	}
}

static uint32_t lfu_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	const struct lfu *l = state;
	for (uint32_t n = l->rarest; n != NONE; n = l->lists[n].oftener)
		for (uint32_t s = l->lists[n].oldest; s != NONE; s = l->members[s].newer)
			if (!may || may(ctx, s))
				return s;
	return IKV_NO_SLOT;
}

static void lfu_remove(void *state, uint32_t slot)
{
	struct lfu *l = state;
	if (!l->members[slot].list)
		return;
	take(l, slot);
	l->held--;
}

static bool lfu_holds(const void *state, uint32_t slot)
{
	const struct lfu *l = state;
	return l->members[slot].list != 0;
}

static size_t lfu_save(const void *state, void *buffer, size_t size)
{
	const struct lfu *l = state;
	struct serial_out o = {buffer, size, 0};
	serial_put(&o, l->slots, 4);
	serial_put(&o, l->held, 4);
	for (uint32_t n = l->rarest; n != NONE; n = l->lists[n].oftener) {
		for (uint32_t s = l->lists[n].oldest; s != NONE; s = l->members[s].newer) {
			serial_put(&o, s, 4);
			serial_put(&o, l->lists[n].count, 8);
		}
	}
	return o.used;
}

static int lfu_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct lfu *l = state;
	struct serial_in in = {buffer, size, 0, false};
	uint32_t slots = (uint32_t)serial_get(&in, 4), count = serial_get_count(&in, 12), last = NONE;
	if (in.bad || slots != l->slots)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: %u slots, expected %u", slots,
				   l->slots);
	for (uint32_t s = 0; s < slots; s++)
		lfu_remove(l, s);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t s = (uint32_t)serial_get(&in, 4);
		uint64_t uses = serial_get(&in, 8);
		if (s >= slots || l->members[s].list || uses == 0 || uses == UINT64_MAX ||
		    (last != NONE && uses < l->lists[last].count))
			return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: slot %u is not valid here", s);
		if (last == NONE || uses > l->lists[last].count)
			last = list_after(l, last, uses);
		append(l, last, s);
		l->held++;
	}
	return in.used == size ? 0 : ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: bytes left over");
}

static const struct ikv_option lfu_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_lfu = {
    .name = "lfu",
    .summary = "evicts the page used least often since it came; of equals the first to get there",
    .options = lfu_options,
    .create = lfu_create,
    .destroy = lfu_destroy,
    .reserve = lfu_reserve,
    .insert = lfu_insert,
    .touch = lfu_touch,
    .victim = lfu_victim,
    .evict = lfu_remove,
    .remove = lfu_remove,
    .holds = lfu_holds,
    .save = lfu_save,
    .load = lfu_load,
};

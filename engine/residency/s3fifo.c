/* S3-FIFO (Yang, Zhang, Qiu, Yue, Vigfusson: "FIFO Queues are All You Need for Cache Eviction", SOSP 2023).
 *
 * What is new enters a small queue. From its oldest end, slots used often enough move to the main queue, the
 * others leave, and a ghost queue remembers them: what comes back while remembered enters the main queue. That
 * one is a Clock with a count up to USES_MAX. The small queue gives way first, unless the main queue is over its
 * share. A move to the main queue starts a new count, as in the authors' simulator. Unlike there, an object larger
 * than the small queue's share is not refused: it passes it by. */
#include "intentkv/alloc.h"
#include "residency/queues.h"
#include "residency/residency_table.h"

enum { SMALL = 1, MAIN, GHOST };
enum { USES_MAX = 3 };

struct s3fifo_config {
	double small, ghost; /* shares of the capacity */
	int64_t move_at;     /* uses */
};
#define AT(field) offsetof(struct s3fifo_config, field)
static const struct ikv_option s3fifo_options[] = {
    {"small", IKV_OPT_REAL, AT(small), "0.10", 0, 1, NULL, "share of the capacity for the queue of new pages"},
    {"ghost", IKV_OPT_REAL, AT(ghost), "0.90", 0, 10, NULL,
     "bytes of evicted pages to remember, as a share of the capacity"},
    {"move_at", IKV_OPT_INT, AT(move_at), "2", 1, USES_MAX, NULL,
     "uses in the small queue that take a page to the main one"},
    IKV_OPTION_END};

struct s3fifo {
	struct queues q; /* first: the shared operations work on it */
	uint64_t small_bytes, main_bytes, ghost_bytes;
	uint8_t move_at;
	uint32_t wanted; /* a remembered slot that has been missed and not been inserted yet */
};

static int s3fifo_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err)
{
	const struct s3fifo_config *c = config;
	struct s3fifo *f = ikv_alloc(1, sizeof *f, err);
	if (!f)
		return -1;
	queues_init(&f->q);
	f->small_bytes = (uint64_t)((double)capacity_bytes * c->small);
	f->main_bytes = capacity_bytes - f->small_bytes;
	f->ghost_bytes = (uint64_t)((double)capacity_bytes * c->ghost);
	f->move_at = (uint8_t)c->move_at;
	f->wanted = IKV_NO_SLOT;
	*state = f;
	return 0;
}

/* Before room is made: that may push out the memory of the very slot that is wanted. */
static void s3fifo_miss(void *state, uint32_t slot, uint64_t bytes)
{
	struct s3fifo *f = state;
	(void)bytes;
	if (f->wanted == slot)
		return;
	f->wanted = IKV_NO_SLOT;
	if (f->q.entries[slot].queue == GHOST) {
		queues_take(&f->q, slot);
		f->wanted = slot;
	}
}

static void s3fifo_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step)
{
	struct s3fifo *f = state;
	(void)step;
	s3fifo_miss(f, slot, bytes); /* if it has not been told */
	bool to_main = f->wanted == slot || bytes > f->small_bytes;
	f->wanted = IKV_NO_SLOT;
	queues_add(&f->q, to_main ? MAIN : SMALL, slot, bytes);
}

static void s3fifo_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct s3fifo *f = state;
	(void)step;
	for (uint32_t i = 0; i < count; i++) {
		struct queue_entry *e = &f->q.entries[slots[i]];
		e->uses = (uint8_t)(e->uses + (e->uses < USES_MAX));
	}
}

static uint32_t small_victim(struct s3fifo *f, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	struct queue_entry *e = f->q.entries;
	for (uint32_t s = f->q.queue[SMALL].oldest, next; s != QUEUES_END; s = next) {
		next = e[s].newer;
		if (e[s].uses >= f->move_at) {
			queues_move(&f->q, MAIN, s);
			e[s].uses = 0;
		} else if (!may || may(ctx, s)) {
			return s;
		}
	}
	return IKV_NO_SLOT;
}

/* Slots that may not go keep their place, so the walk ends: no slot goes round more than USES_MAX times. */
static uint32_t main_victim(struct s3fifo *f, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	struct queue_entry *e = f->q.entries;
	for (uint32_t s = f->q.queue[MAIN].oldest, next; s != QUEUES_END; s = next) {
		next = e[s].newer == QUEUES_END ? s : e[s].newer; /* the last one is its own successor, moved */
		if (e[s].uses) {
			e[s].uses--;
			queues_move(&f->q, MAIN, s);
		} else if (!may || may(ctx, s)) {
			return s;
		} else {
			next = e[s].newer;
		}
	}
	return IKV_NO_SLOT;
}

static uint32_t s3fifo_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	struct s3fifo *f = state;
	bool main_first = f->q.queue[MAIN].bytes > f->main_bytes;
	uint32_t slot = IKV_NO_SLOT;
	if (!main_first)
		slot = small_victim(f, may, ctx);
	if (slot == IKV_NO_SLOT)
		slot = main_victim(f, may, ctx);
	if (slot == IKV_NO_SLOT && main_first)
		slot = small_victim(f, may, ctx);
	return slot;
}

static void s3fifo_evict(void *state, uint32_t slot)
{
	struct s3fifo *f = state;
	struct queue *ghost = &f->q.queue[GHOST];
	uint32_t bytes = f->q.entries[slot].bytes;
	bool remember = f->q.entries[slot].queue == SMALL && bytes <= f->ghost_bytes;
	queues_take(&f->q, slot);
	if (!remember)
		return;
	while (ghost->bytes + bytes > f->ghost_bytes)
		queues_take(&f->q, ghost->oldest);
	queues_push(&f->q, GHOST, slot);
}

static void s3fifo_remove(void *state, uint32_t slot)
{
	struct s3fifo *f = state;
	if (f->wanted == slot)
		f->wanted = IKV_NO_SLOT;
	queues_op_remove(&f->q, slot);
}

static void s3fifo_resize(void *state, uint32_t slot, uint64_t bytes)
{
	queues_resize(state, slot, bytes);
}

static bool s3fifo_holds(const void *state, uint32_t slot)
{
	const struct s3fifo *f = state;
	return f->q.entries[slot].queue == SMALL || f->q.entries[slot].queue == MAIN;
}

static size_t s3fifo_save(const void *state, void *buffer, size_t size)
{
	const struct s3fifo *f = state;
	struct serial_out o = {buffer, size, 0};
	queues_write(&f->q, GHOST, &o);
	serial_put(&o, f->wanted, 4);
	return o.used;
}

static int s3fifo_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct s3fifo *f = state;
	struct serial_in in = {buffer, size, 0, false};
	if (queues_read(&f->q, GHOST, USES_MAX, &in, err))
		return -1;
	f->wanted = (uint32_t)serial_get(&in, 4);
	return queues_read_end(&in, err);
}

const struct ikv_residency_ops residency_s3fifo = {
    .name = "s3fifo",
    .summary = "a small queue sorts out what is used once, a main one keeps the rest, a ghost remembers (SOSP 2023)",
    .options = s3fifo_options,
    .config_bytes = sizeof(struct s3fifo_config),
    .create = s3fifo_create,
    .destroy = queues_op_destroy,
    .reserve = queues_op_reserve,
    .miss = s3fifo_miss,
    .insert = s3fifo_insert,
    .touch = s3fifo_touch,
    .resize = s3fifo_resize,
    .victim = s3fifo_victim,
    .evict = s3fifo_evict,
    .remove = s3fifo_remove,
    .holds = s3fifo_holds,
    .save = s3fifo_save,
    .load = s3fifo_load,
};

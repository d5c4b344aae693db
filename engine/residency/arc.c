/* ARC (Megiddo and Modha: "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003).
 *
 * RECENT (T1 in the paper) holds what was used once since it came, FREQUENT (T2) what was used again; each has a
 * ghost of what left it (B1, B2). A miss on a ghost moves `target`, the bytes meant for RECENT, towards the queue
 * whose ghost it was. Everything is in bytes, with the cases of the paper as inequalities, as in libCacheSim. */
#include "intentkv/alloc.h"
#include "residency/queues.h"
#include "residency/residency_table.h"

enum { RECENT = 1, FREQUENT, RECENT_GHOST, FREQUENT_GHOST };

struct arc_config {
	int64_t step; /* bytes; 0: of the page that came back */
};
static const struct ikv_option arc_options[] = {
    {"step", IKV_OPT_BYTES, offsetof(struct arc_config, step), "0", 0, 0, NULL,
     "how far the division between recent and frequent pages moves when an evicted page comes back, times the ratio "
     "of the ghosts if above 1; 0: as much as that page's bytes"},
    IKV_OPTION_END};

struct arc {
	struct queues q; /* first: the shared operations work on it */
	uint64_t capacity, step;
	double target;
	uint32_t wanted;       /* the slot of the last miss if it has not been inserted yet, */
	uint32_t wanted_bytes; /* its bytes, */
	uint8_t wanted_ghost;  /* and the ghost that remembered it, or 0 */
};

static void want(struct arc *a, uint32_t slot, uint64_t bytes, uint8_t ghost)
{
	a->wanted = slot;
	a->wanted_bytes = (uint32_t)bytes;
	a->wanted_ghost = ghost;
}

static int arc_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err)
{
	const struct arc_config *c = config;
	struct arc *a = ikv_alloc(1, sizeof *a, err);
	if (!a)
		return -1;
	queues_init(&a->q);
	a->capacity = capacity_bytes;
	a->step = (uint64_t)c->step;
	want(a, IKV_NO_SLOT, 0, 0);
	*state = a;
	return 0;
}

static uint64_t bytes_in(const struct arc *a, int number)
{
	return a->q.queue[number].bytes;
}

static void arc_miss(void *state, uint32_t slot, uint64_t bytes)
{
	struct arc *a = state;
	uint8_t ghost = a->q.entries[slot].queue;
	if (slot == a->wanted) {
		a->wanted_bytes = (uint32_t)bytes;
		return;
	}
	want(a, slot, bytes, ghost);
	if (!ghost)
		return;
	uint8_t other = ghost == RECENT_GHOST ? FREQUENT_GHOST : RECENT_GHOST;
	double ratio = (double)bytes_in(a, other) / (double)bytes_in(a, ghost);
	double step = (double)(a->step ? a->step : bytes) * (ratio > 1 ? ratio : 1);
	a->target += ghost == RECENT_GHOST ? step : -step;
	a->target = a->target < 0 ? 0 : a->target > (double)a->capacity ? (double)a->capacity : a->target;
	queues_take(&a->q, slot);
}

static void arc_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step)
{
	struct arc *a = state;
	(void)step;
	arc_miss(a, slot, bytes); /* if it has not been told */
	queues_add(&a->q, a->wanted_ghost ? FREQUENT : RECENT, slot, bytes);
	want(a, IKV_NO_SLOT, 0, 0);
}

static bool arc_holds(const void *state, uint32_t slot)
{
	const struct arc *a = state;
	return a->q.entries[slot].queue == RECENT || a->q.entries[slot].queue == FREQUENT;
}

static void arc_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct arc *a = state;
	(void)step;
	for (uint32_t i = 0; i < count; i++)
		if (arc_holds(a, slots[i]))
			queues_move(&a->q, FREQUENT, slots[i]);
}

/* The case of the paper in which RECENT and its ghost have no room for something new (IV A). */
static bool recent_is_full(const struct arc *a)
{
	return !a->wanted_ghost && bytes_in(a, RECENT) + bytes_in(a, RECENT_GHOST) + a->wanted_bytes > a->capacity;
}

/* Whether what leaves RECENT is forgotten: it fills the cache alone, without a ghost. */
static bool recent_fills_all(const struct arc *a)
{
	return recent_is_full(a) && a->q.queue[RECENT_GHOST].count == 0;
}

static uint32_t arc_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	struct arc *a = state;
	double recent = (double)bytes_in(a, RECENT);
	bool above = recent > a->target || (recent == a->target && a->wanted_ghost == FREQUENT_GHOST);
	bool from_recent = recent_fills_all(a) || (recent > 0 && above) || bytes_in(a, FREQUENT) == 0;
	uint32_t slot = queues_oldest(&a->q, from_recent ? RECENT : FREQUENT, may, ctx);
	return slot != IKV_NO_SLOT ? slot : queues_oldest(&a->q, from_recent ? FREQUENT : RECENT, may, ctx);
}

static void arc_evict(void *state, uint32_t slot)
{
	struct arc *a = state;
	uint64_t all = 0;
	bool forget = recent_fills_all(a) && a->q.entries[slot].queue == RECENT;
	uint32_t oldest = QUEUES_END; /* ghost to drop */
	for (int number = RECENT; number <= FREQUENT_GHOST; number++)
		all += bytes_in(a, number);
	if (recent_is_full(a))
		oldest = a->q.queue[RECENT_GHOST].oldest;
	else if (!a->wanted_ghost && all >= 2 * a->capacity)
		oldest = a->q.queue[FREQUENT_GHOST].oldest;
	if (oldest != QUEUES_END)
		queues_take(&a->q, oldest);
	if (forget)
		queues_take(&a->q, slot);
	else
		queues_move(&a->q, a->q.entries[slot].queue == RECENT ? RECENT_GHOST : FREQUENT_GHOST, slot);
}

static void arc_remove(void *state, uint32_t slot)
{
	struct arc *a = state;
	if (slot == a->wanted)
		want(a, IKV_NO_SLOT, 0, 0);
	queues_op_remove(&a->q, slot);
}

static void arc_resize(void *state, uint32_t slot, uint64_t bytes)
{
	queues_resize(state, slot, bytes);
}

static size_t arc_save(const void *state, void *buffer, size_t size)
{
	const struct arc *a = state;
	struct serial_out o = {buffer, size, 0};
	queues_write(&a->q, FREQUENT_GHOST, &o);
	serial_put_real(&o, a->target);
	serial_put(&o, a->wanted, 4);
	serial_put(&o, a->wanted_bytes, 4);
	serial_put(&o, a->wanted_ghost, 1);
	return o.used;
}

static int arc_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct arc *a = state;
	struct serial_in in = {buffer, size, 0, false};
	if (queues_read(&a->q, FREQUENT_GHOST, 0, &in, err))
		return -1;
	a->target = serial_get_real(&in);
	a->wanted = (uint32_t)serial_get(&in, 4);
	a->wanted_bytes = (uint32_t)serial_get(&in, 4);
	a->wanted_ghost = (uint8_t)serial_get(&in, 1);
	if (!(a->target >= 0 && a->target <= (double)a->capacity))
		return ikv_err_set(err, IKV_BAD_INPUT, "saved residency state: a target outside the capacity");
	return queues_read_end(&in, err);
}

const struct ikv_residency_ops residency_arc = {
    .name = "arc",
    .summary =
	"divides the cache between pages used once and used again, as misses on evicted ones teach (FAST 2003)",
    .options = arc_options,
    .config_bytes = sizeof(struct arc_config),
    .create = arc_create,
    .destroy = queues_op_destroy,
    .reserve = queues_op_reserve,
    .miss = arc_miss,
    .insert = arc_insert,
    .touch = arc_touch,
    .resize = arc_resize,
    .victim = arc_victim,
    .evict = arc_evict,
    .remove = arc_remove,
    .holds = arc_holds,
    .save = arc_save,
    .load = arc_load,
};

/* Residency policies alone: what every table entry must keep to whatever is asked of it. */
#include <string.h>
#include <intentkv.h>
#include "tap.h"

enum { SLOTS = 200, STEPS = 6000 };

struct world {
	const struct ikv_residency_ops *ops;
	void *state;
	char config[256];
	bool held[SLOTS], may[SLOTS];
	uint32_t bytes[SLOTS], held_count;
	uint32_t *slots, *next; /* a future for those that need one */
};
static struct world world;

static void *open_state(struct world *w)
{
	struct ikv_err err;
	void *state;
	ck_assert_uint_le(w->ops->config_bytes, sizeof w->config);
	ikv_option_defaults(w->ops->options, w->config);
	if (w->ops->create(&state, w->config, 2000, &err) || w->ops->reserve(state, SLOTS / 2, &err) ||
	    w->ops->reserve(state, SLOTS, &err) ||
	    (w->ops->foresee && w->ops->foresee(state, w->slots, w->next, STEPS, &err)))
		ck_abort_msg("%s", err.text);
	return state;
}

static bool may(void *ctx, uint32_t slot)
{
	const struct world *w = ctx;
	ck_assert(slot < SLOTS && w->held[slot]);
	return w->may[slot];
}

static void check_holds(const struct world *w)
{
	for (uint32_t s = 0; s < SLOTS; s++)
		ck_assert_int_eq(w->ops->holds(w->state, s), w->held[s]);
}

static void insert(struct world *w, uint32_t slot, uint32_t bytes, uint32_t step, bool told)
{
	if (told && w->ops->miss)
		w->ops->miss(w->state, slot, bytes);
	w->ops->insert(w->state, slot, bytes, step);
	w->held[slot] = true;
	w->bytes[slot] = bytes;
	w->held_count++;
}

/* A victim is held and allowed, and there is one as long as any slot is both. */
static void evict(struct world *w, struct ikv_rng *r)
{
	uint32_t allowed = 0;
	bool any = ikv_rng_below(r, 3) == 0;
	for (uint32_t s = 0; s < SLOTS; s++) {
		w->may[s] = ikv_rng_below(r, 10) == 0;
		allowed += w->held[s] && (any || w->may[s]);
	}
	uint32_t slot = any ? w->ops->victim(w->state, NULL, NULL) : w->ops->victim(w->state, may, w);
	check_holds(w);
	ck_assert_int_eq(slot != IKV_NO_SLOT, allowed > 0);
	if (slot == IKV_NO_SLOT)
		return;
	ck_assert(slot < SLOTS && w->held[slot] && (any || w->may[slot]));
	w->ops->evict(w->state, slot);
	w->held[slot] = false;
	w->held_count--;
}

static void save_and_load(struct world *w)
{
	struct ikv_err err;
	unsigned char saved[SLOTS * 20], again[SLOTS * 20];
	if (!w->ops->save)
		return;
	size_t size = w->ops->save(w->state, NULL, 0);
	ck_assert_uint_le(size, sizeof saved);
	ck_assert_uint_eq(w->ops->save(w->state, saved, size), size);
	void *copy = open_state(w);
	if (w->ops->load(copy, saved, size, &err))
		ck_abort_msg("%s", err.text);
	ck_assert_uint_eq(w->ops->save(copy, again, size), size);
	ck_assert_mem_eq(saved, again, size);
	w->ops->destroy(w->state);
	w->state = copy; /* it goes on with the copy */
	ck_assert_int_eq(w->ops->load(copy, saved, size - 1, NULL), -1);
	ck_assert_int_eq(w->ops->load(copy, saved, size, &err), 0);
}

/* What happens at each step is drawn beforehand, so that it can be foreseen. */
static void draw_future(struct world *w, struct ikv_rng *r)
{
	uint32_t newest[SLOTS];
	w->slots = ikv_alloc(STEPS, sizeof *w->slots, NULL);
	w->next = ikv_alloc(STEPS, sizeof *w->next, NULL);
	for (uint32_t i = 0; i < STEPS; i++)
		w->slots[i] = (uint32_t)ikv_rng_below(r, 1 + ikv_rng_below(r, SLOTS));
	memset(newest, 0xff, sizeof newest);
	for (uint32_t i = STEPS; i-- > 0;) {
		w->next[i] = newest[w->slots[i]];
		newest[w->slots[i]] = i;
	}
}

START_TEST(any_order_of_operations)
{
	struct world *w = &world;
	struct ikv_rng r;
	memset(w, 0, sizeof *w);
	ikv_rng_stream(&r, 1, IKV_STREAM_TEST, (uint64_t)_i, 0);
	w->ops = ikv_residencies()[_i];
	draw_future(w, &r);
	w->state = open_state(w);
	for (uint32_t step = 0; step < STEPS; step++) {
		uint32_t slot = w->slots[step], bytes = 1 + (uint32_t)ikv_rng_below(&r, 50);
		if (w->held[slot])
			w->ops->touch(w->state, &slot, 1, step);
		else if (ikv_rng_below(&r, 4))
			insert(w, slot, bytes, step, ikv_rng_below(&r, 2));
		else if (w->ops->miss)
			w->ops->miss(w->state, slot, bytes); /* and then it is not let in */
		if (ikv_rng_below(&r, 3) == 0)
			evict(w, &r);
		slot = (uint32_t)ikv_rng_below(&r, SLOTS);
		if (ikv_rng_below(&r, 5) == 0) {
			w->ops->remove(w->state, slot);
			w->held_count -= w->held[slot];
			w->held[slot] = false;
		} else if (w->held[slot] && w->ops->resize) {
			w->ops->resize(w->state, slot, bytes);
		}
		if (step % 500 == 0)
			save_and_load(w);
	}
	check_holds(w);
	while (w->held_count) /* and it can be emptied */
		evict(w, &r);
	check_holds(w);
	w->ops->destroy(w->state);
	ikv_free(w->slots);
	ikv_free(w->next);
}
END_TEST

START_TEST(table)
{
	static const char *const names[] = {"lru", "fifo", "clock", "lfu", "sieve", "s3fifo", "arc", "belady"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		ck_assert_ptr_nonnull(ikv_residency_find(names[i]));
		ck_assert_str_eq(ikv_residencies()[i]->name, names[i]);
	}
	ck_assert_ptr_null(ikv_residencies()[sizeof names / sizeof *names]);
	ck_assert_ptr_null(ikv_residency_find("LRU"));
}
END_TEST

int main(void)
{
	int policies = 0;
	Suite *s = suite_create("residency");
	TCase *t = tcase_create("residency");
	while (ikv_residencies()[policies])
		policies++;
	tcase_add_test(t, table);
	tcase_add_loop_test(t, any_order_of_operations, 0, policies);
	suite_add_tcase(s, t);
	return tap_run(s);
}

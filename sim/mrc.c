/* Caches of many sizes over one pass of references. */
#include <string.h>
#include <time.h>
#include "sim/mrc.h"

enum { BATCH = 1 << 15 }; /* references that one cache sees before the next one does: they stay in the L2 cache */

struct cache {
	void *state;
	uint32_t *held;                  /* [objects] units that each came with; 0: not there */
	uint64_t capacity, used, misses; /* units */
};

static void leave(const struct ikv_residency_ops *ops, struct cache *c, uint32_t slot)
{
	ops->evict(c->state, slot);
	c->used -= c->held[slot];
	c->held[slot] = 0;
}

static void play(const struct ref_trace *t, const struct ikv_residency_ops *ops, struct cache *c, uint32_t from,
		 uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		uint32_t slot = t->slots[i], units = t->bytes ? t->bytes[i] : 1;
		if (c->held[slot]) {
			ops->touch(c->state, &slot, 1, i);
			continue;
		}
		c->misses++;
		if (units > c->capacity)
			continue;
		if (ops->miss)
			ops->miss(c->state, slot, units);
		while (c->used + units > c->capacity)
			leave(ops, c, ops->victim(c->state, NULL, NULL));
		ops->insert(c->state, slot, units, i);
		c->held[slot] = units;
		c->used += units;
	}
}

/* For each reference the next one to the same object. */
static uint32_t *look_ahead(const struct ref_trace *t, struct ikv_err *err)
{
	uint32_t *next = ikv_alloc(t->count, sizeof *next, err);
	uint32_t *newest = next ? ikv_alloc(t->objects, sizeof *newest, err) : NULL;
	if (!newest) {
		ikv_free(next);
		return NULL;
	}
	memset(newest, 0xff, t->objects * sizeof *newest); /* IKV_NO_SLOT */
	for (uint32_t i = t->count; i-- > 0;) {
		next[i] = newest[t->slots[i]];
		newest[t->slots[i]] = i;
	}
	ikv_free(newest);
	return next;
}

static int open_cache(const struct ref_trace *t, const struct ikv_residency_ops *ops, const void *config,
		      const uint32_t *next, struct cache *c, struct ikv_err *err)
{
	c->held = ikv_alloc(t->objects, sizeof *c->held, err);
	if (!c->held || ops->create(&c->state, config, c->capacity, err) || ops->reserve(c->state, t->objects, err))
		return -1;
	return ops->foresee ? ops->foresee(c->state, t->slots, next, t->count, err) : 0;
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Defaults, but ARC's division moves by single bytes, whatever the object, as in libCacheSim. */
static void *default_config(const struct ikv_residency_ops *ops, struct ikv_err *err)
{
	void *config = ikv_alloc(1, ops->config_bytes, err);
	if (!config)
		return NULL;
	ikv_option_defaults(ops->options, config);
	if (ikv_option_find(ops->options, "step"))
		ikv_option_set(ops->options, config, "step", "1", NULL);
	return config;
}

int mrc_run(const struct ref_trace *t, const struct ikv_residency_ops *ops, const void *config,
	    const uint64_t *capacity_bytes, uint32_t caches, uint64_t *misses, double *seconds, struct ikv_err *err)
{
	uint32_t *next = ops->foresee ? look_ahead(t, err) : NULL;
	void *own = config ? NULL : default_config(ops, err);
	struct cache *c = ikv_alloc(caches, sizeof *c, err);
	int rc = c && (config || own) && (next || !ops->foresee) ? 0 : -1;
	for (uint32_t k = 0; k < caches && !rc; k++) {
		c[k].capacity = capacity_bytes[k] / t->unit_bytes;
		rc = open_cache(t, ops, config ? config : own, next, &c[k], err);
	}
	double start = now_s();
	for (uint32_t from = 0; from < t->count && !rc; from += BATCH) {
		uint32_t to = t->count - from > BATCH ? from + BATCH : t->count;
		for (uint32_t k = 0; k < caches; k++)
			play(t, ops, &c[k], from, to);
		if (to == t->count)
			break; /* `from` must not pass 2^32 */
	}
	if (seconds)
		*seconds = now_s() - start;
	for (uint32_t k = 0; c && k < caches; k++) {
		misses[k] = c[k].misses;
		if (c[k].state)
			ops->destroy(c[k].state);
		ikv_free(c[k].held);
	}
	ikv_free(c);
	ikv_free(own);
	ikv_free(next);
	return rc;
}

/* LRU's whole curve in one pass (Mattson, Gecsei, Slutz, Traiger: "Evaluation techniques for storage hierarchies",
 * 1970): a reference hits in every cache that holds all objects used since its object was, and that object itself.
 * Their units are the sum over a Fenwick tree in which each object stands at the time of its last use. Times run
 * up to the tree's size and are then numbered anew, in order, so that memory follows the number of objects. */
#include <string.h>
#include "sim/mrc.h"

struct stack {
	uint64_t *sums;  /* [places + 1] Fenwick tree over times */
	uint32_t *at;    /* [places] the object last used at each time, or IKV_NO_SLOT */
	uint32_t *time;  /* [objects] its time, or IKV_NO_SLOT */
	uint32_t *units; /* [objects] at its last use */
	uint32_t places, now;
	uint64_t total;
};

static void add(struct stack *s, uint32_t time, uint64_t units)
{
	for (uint64_t i = (uint64_t)time + 1; i <= s->places; i += i & (0 - i))
		s->sums[i] += units;
}

/* Units of the objects last used up to and at `time`. */
static uint64_t sum(const struct stack *s, uint32_t time)
{
	uint64_t all = 0;
	for (uint64_t i = (uint64_t)time + 1; i; i -= i & (0 - i))
		all += s->sums[i];
	return all;
}

static void compact(struct stack *s)
{
	uint32_t to = 0;
	for (uint32_t from = 0; from < s->now; from++) {
		uint32_t object = s->at[from];
		if (object == IKV_NO_SLOT)
			continue;
		s->at[to] = object;
		s->time[object] = to++;
	}
	s->now = to;
	memset(s->sums, 0, ((size_t)s->places + 1) * sizeof *s->sums);
	for (uint32_t i = 0; i < to; i++)
		s->sums[i + 1] = s->units[s->at[i]];
	for (uint64_t i = 1; i <= s->places; i++) { /* each node to the next one that includes it */
		uint64_t up = i + (i & (0 - i));
		if (up <= s->places)
			s->sums[up] += s->sums[i];
	}
}

/* The object is used now. Its stack distance in units, itself included; UINT64_MAX the first time. */
static uint64_t use(struct stack *s, uint32_t object, uint32_t units)
{
	uint64_t distance = UINT64_MAX;
	if (s->now == s->places)
		compact(s);
	uint32_t before = s->time[object];
	if (before != IKV_NO_SLOT) {
		distance = s->total - sum(s, before) + units;
		add(s, before, 0 - (uint64_t)s->units[object]);
		s->total -= s->units[object];
		s->at[before] = IKV_NO_SLOT;
	}
	s->time[object] = s->now;
	s->at[s->now] = object;
	s->units[object] = units;
	add(s, s->now++, units);
	s->total += units;
	return distance;
}

static int open_stack(struct stack *s, const struct ref_trace *t, struct ikv_err *err)
{
	uint64_t places = 2 * (uint64_t)t->objects + 1024; /* so that a renumbering pays for itself */
	s->places = places < UINT32_MAX ? (uint32_t)places : UINT32_MAX - 1;
	s->sums = ikv_alloc((size_t)s->places + 1, sizeof *s->sums, err);
	s->at = s->sums ? ikv_alloc(s->places, sizeof *s->at, err) : NULL;
	s->time = s->at ? ikv_alloc(t->objects, sizeof *s->time, err) : NULL;
	s->units = s->time ? ikv_alloc(t->objects, sizeof *s->units, err) : NULL;
	if (!s->units)
		return -1;
	memset(s->time, 0xff, t->objects * sizeof *s->time); /* IKV_NO_SLOT */
	return 0;
}

int mrc_curve(const struct ref_trace *t, const uint64_t *capacity_bytes, uint32_t caches, uint64_t *misses,
	      struct ikv_err *err)
{
	struct stack s = {0};
	int rc = open_stack(&s, t, err);
	for (uint32_t k = 0; k < caches; k++)
		misses[k] = 0;
	for (uint32_t i = 0; i < t->count && !rc; i++) {
		uint64_t distance = use(&s, t->slots[i], t->bytes ? t->bytes[i] : 1);
		uint32_t low = 0, high = caches; /* the first cache that it fits into */
		while (low < high) {
			uint32_t middle = (low + high) / 2;
			if (capacity_bytes[middle] / t->unit_bytes >= distance)
				high = middle;
			else
				low = middle + 1;
		}
		if (low > 0)
			misses[low - 1]++; /* and in all smaller ones, see below */
	}
	for (uint32_t k = caches; k-- > 1;)
		misses[k - 1] += misses[k];
	ikv_free(s.sums);
	ikv_free(s.at);
	ikv_free(s.time);
	ikv_free(s.units);
	return rc;
}

#include "naive_residency.h"
#include <assert.h>
#include <stdbool.h>
#include <string.h>

enum { ITEMS_MAX = 512 };
struct item {
	uint32_t slot, bytes, uses;
	uint64_t since; /* LFU: when it reached its count */
};
struct list { /* oldest first */
	struct item items[ITEMS_MAX];
	int count;
};

static uint64_t bytes_of(const struct list *l)
{
	uint64_t all = 0;
	for (int i = 0; i < l->count; i++)
		all += l->items[i].bytes;
	return all;
}

static int find(const struct list *l, uint32_t slot)
{
	for (int i = 0; i < l->count; i++)
		if (l->items[i].slot == slot)
			return i;
	return -1;
}

static struct item cut(struct list *l, int at)
{
	struct item x = l->items[at];
	assert(at >= 0 && at < l->count);
	memmove(&l->items[at], &l->items[at + 1], sizeof x * (size_t)(l->count - at - 1));
	l->count--;
	return x;
}

static void append(struct list *l, struct item x)
{
	assert(l->count < ITEMS_MAX);
	l->items[l->count++] = x;
}

/* Policies with one list: what a hit does, and who goes. */
static struct list all;
static int hand; /* SIEVE: index of the item it points at */
static const struct naive_trace *trace;

static void hit_nothing(int at, uint32_t step)
{
	(void)at, (void)step;
}

static void hit_move(int at, uint32_t step)
{
	(void)step;
	append(&all, cut(&all, at));
}

static void hit_mark(int at, uint32_t step)
{
	(void)step;
	all.items[at].uses = 1;
}

static void hit_count(int at, uint32_t step)
{
	all.items[at].uses++;
	all.items[at].since = step;
}

static int oldest(uint32_t step)
{
	(void)step;
	return 0;
}

static int clock_victim(uint32_t step)
{
	(void)step;
	while (all.items[0].uses) {
		struct item x = cut(&all, 0);
		x.uses = 0;
		append(&all, x);
	}
	return 0;
}

/* After the cut the hand's index is that of the next newer item; behind the newest it starts anew. */
static int sieve_victim(uint32_t step)
{
	(void)step;
	while (all.items[hand].uses) {
		all.items[hand].uses = 0;
		hand = (hand + 1) % all.count;
	}
	int victim = hand;
	if (hand == all.count - 1)
		hand = 0;
	return victim;
}

static int lfu_victim(uint32_t step)
{
	int best = 0;
	(void)step;
	for (int i = 1; i < all.count; i++) {
		const struct item *x = &all.items[i], *b = &all.items[best];
		if (x->uses < b->uses || (x->uses == b->uses && x->since < b->since))
			best = i;
	}
	return best;
}

/* Of the furthest next reference; those that never come again by their latest one, newest first. */
static int belady_victim(uint32_t step)
{
	uint64_t far = 0;
	int best = 0;
	for (int i = 0; i < all.count; i++) {
		uint64_t next = 0;
		for (uint32_t k = step + 1; k < trace->count && !next; k++)
			if (trace->slots[k] == all.items[i].slot)
				next = k;
		for (uint32_t k = step; k-- > 0 && !next;)
			if (trace->slots[k] == all.items[i].slot)
				next = (uint64_t)trace->count + k;
		if (next >= far) {
			far = next;
			best = i;
		}
	}
	return best;
}

static uint64_t play(void (*hit)(int, uint32_t), int (*victim)(uint32_t))
{
	uint64_t misses = 0;
	all.count = hand = 0;
	for (uint32_t i = 0; i < trace->count; i++) {
		int at = find(&all, trace->slots[i]);
		if (at >= 0) {
			hit(at, i);
			continue;
		}
		misses++;
		if (trace->bytes[i] > trace->capacity)
			continue;
		while (bytes_of(&all) + trace->bytes[i] > trace->capacity)
			cut(&all, victim(i));
		append(&all, (struct item){trace->slots[i], trace->bytes[i], 0, i});
	}
	return misses;
}

static struct list small, main_queue, ghost;

static void s3fifo_evict(uint64_t small_bytes, uint64_t ghost_bytes)
{
	bool from_main = bytes_of(&main_queue) > trace->capacity - small_bytes || small.count == 0;
	while (from_main ? main_queue.count : small.count) {
		struct item x = cut(from_main ? &main_queue : &small, 0);
		if (from_main && x.uses) {
			x.uses = (x.uses > 3 ? 3 : x.uses) - 1;
			append(&main_queue, x);
		} else if (!from_main && x.uses >= 2) {
			x.uses = 0;
			append(&main_queue, x);
		} else {
			if (!from_main && x.bytes <= ghost_bytes) {
				while (bytes_of(&ghost) + x.bytes > ghost_bytes)
					cut(&ghost, 0);
				append(&ghost, x);
			}
			return;
		}
	}
}

static uint64_t s3fifo(void)
{
	uint64_t misses = 0, small_bytes = trace->capacity / 10,
		 ghost_bytes = (uint64_t)((double)trace->capacity * 0.9);
	small.count = main_queue.count = ghost.count = 0;
	for (uint32_t i = 0; i < trace->count; i++) {
		uint32_t slot = trace->slots[i], bytes = trace->bytes[i];
		int s = find(&small, slot), m = find(&main_queue, slot), g = find(&ghost, slot);
		if (s >= 0 || m >= 0) {
			(s >= 0 ? &small.items[s] : &main_queue.items[m])->uses++;
			continue;
		}
		misses++;
		if (bytes > trace->capacity)
			continue;
		if (g >= 0)
			cut(&ghost, g);
		while (bytes_of(&small) + bytes_of(&main_queue) + bytes > trace->capacity)
			s3fifo_evict(small_bytes, ghost_bytes);
		append(g >= 0 || bytes > small_bytes ? &main_queue : &small, (struct item){slot, bytes, 0, 0});
	}
	return misses;
}

static struct list t1, t2, b1, b2;
static double p;

/* REPLACE of the paper. */
static void arc_replace(bool in_b2)
{
	double t1_bytes = (double)bytes_of(&t1);
	if ((t1.count && (t1_bytes > p || (t1_bytes == p && in_b2))) || t2.count == 0)
		append(&b1, cut(&t1, 0));
	else
		append(&b2, cut(&t2, 0));
}

/* Case IV of the paper, with bytes. */
static void arc_make_room_for_new(uint32_t bytes)
{
	uint64_t c = trace->capacity, l1 = bytes_of(&t1) + bytes_of(&b1);
	if (l1 + bytes > c) {
		if (b1.count == 0) {
			cut(&t1, 0);
			return;
		}
		cut(&b1, 0);
	} else if (l1 + bytes_of(&t2) + bytes_of(&b2) >= 2 * c && b2.count) {
		cut(&b2, 0);
	}
	arc_replace(false);
}

/* The division moves by single bytes, as in libCacheSim. */
static void arc_adapt(const struct list *from, const struct list *other, double sign)
{
	double ratio = (double)bytes_of(other) / (double)bytes_of(from);
	p += sign * (ratio > 1 ? ratio : 1);
	p = p < 0 ? 0 : p > (double)trace->capacity ? (double)trace->capacity : p;
}

static uint64_t arc(void)
{
	uint64_t misses = 0;
	t1.count = t2.count = b1.count = b2.count = 0;
	p = 0;
	for (uint32_t i = 0; i < trace->count; i++) {
		uint32_t slot = trace->slots[i], bytes = trace->bytes[i];
		int in_t1 = find(&t1, slot), in_t2 = find(&t2, slot), in_b1 = find(&b1, slot),
		    in_b2 = find(&b2, slot);
		if (in_t1 >= 0 || in_t2 >= 0) {
			append(&t2, in_t1 >= 0 ? cut(&t1, in_t1) : cut(&t2, in_t2));
			continue;
		}
		misses++;
		if (bytes > trace->capacity)
			continue;
		if (in_b1 >= 0) {
			arc_adapt(&b1, &b2, 1);
			cut(&b1, in_b1);
		} else if (in_b2 >= 0) {
			arc_adapt(&b2, &b1, -1);
			cut(&b2, in_b2);
		}
		while (bytes_of(&t1) + bytes_of(&t2) + bytes > trace->capacity) {
			if (in_b1 >= 0 || in_b2 >= 0)
				arc_replace(in_b2 >= 0);
			else
				arc_make_room_for_new(bytes);
		}
		append(in_b1 >= 0 || in_b2 >= 0 ? &t2 : &t1, (struct item){slot, bytes, 0, 0});
	}
	return misses;
}

uint64_t naive_misses(const char *policy, const struct naive_trace *t)
{
	static const struct {
		const char *name;
		void (*hit)(int, uint32_t);
		int (*victim)(uint32_t);
	} simple[] = {{"lru", hit_move, oldest},         {"fifo", hit_nothing, oldest},
		      {"clock", hit_mark, clock_victim}, {"sieve", hit_mark, sieve_victim},
		      {"lfu", hit_count, lfu_victim},    {"belady", hit_nothing, belady_victim}};
	trace = t;
	for (size_t i = 0; i < sizeof simple / sizeof *simple; i++)
		if (!strcmp(policy, simple[i].name))
			return play(simple[i].hit, simple[i].victim);
	return !strcmp(policy, "s3fifo") ? s3fifo() : !strcmp(policy, "arc") ? arc() : UINT64_MAX;
}

#include <sys/random.h>
#include "sim/trace/id_table.h"

static uint64_t seed = 0x9e3779b97f4a7c15u;

/* Before any table is made, since their order depends on it. Without random bytes the constant will do. */
__attribute__((constructor)) static void choose_seed(void)
{
	uint64_t bits;
	if (getrandom(&bits, sizeof bits, GRND_NONBLOCK) == sizeof bits)
		seed = bits;
}

uint64_t id_hash(uint64_t id)
{
	return ikv_mix64(id ^ seed);
}

static size_t place_of(const struct id_table *t, uint64_t key)
{
	size_t i = (size_t)id_hash(key) & (t->cap - 1);
	while (t->state[i] && t->entries[i].key != key)
		i = (i + 1) & (t->cap - 1);
	return i;
}

void id_table_free(struct id_table *t)
{
	ikv_free(t->entries);
	ikv_free(t->state);
	*t = (struct id_table){0};
}

static int rebuild(struct id_table *t, size_t cap, struct ikv_err *err)
{
	struct id_table n = {.cap = cap};
	n.entries = ikv_alloc(cap, sizeof *n.entries, err);
	n.state = n.entries ? ikv_alloc(cap, 1, err) : NULL;
	if (!n.state) {
		id_table_free(&n);
		return -1;
	}
	for (size_t i = 0; i < t->cap; i++) {
		if (!t->state[i])
			continue;
		size_t at = place_of(&n, t->entries[i].key);
		n.entries[at] = t->entries[i];
		n.state[at] = 1;
		n.used++;
	}
	id_table_free(t);
	*t = n;
	return 0;
}

int id_table_put(struct id_table *t, uint64_t key, uint64_t value, struct ikv_err *err)
{
	if (t->used * 2 >= t->cap && rebuild(t, t->cap ? t->cap * 2 : 64, err))
		return -1;
	size_t i = place_of(t, key);
	if (t->state[i] == 0) {
		t->state[i] = 1;
		t->entries[i].key = key;
		t->used++;
	}
	t->entries[i].value = value;
	return 0;
}

bool id_table_get(const struct id_table *t, uint64_t key, uint64_t *value)
{
	if (t->cap == 0)
		return false;
	size_t i = place_of(t, key);
	if (!t->state[i])
		return false;
	*value = t->entries[i].value;
	return true;
}

/* What stands behind the removed place and would not be found any more moves up (Knuth, vol. 3, 6.4, algorithm R). */
void id_table_remove(struct id_table *t, uint64_t key)
{
	if (t->cap == 0)
		return;
	size_t mask = t->cap - 1, hole = place_of(t, key);
	if (!t->state[hole])
		return;
	for (size_t i = (hole + 1) & mask; t->state[i]; i = (i + 1) & mask) {
		size_t home = (size_t)id_hash(t->entries[i].key) & mask;
		if (((i - home) & mask) < ((i - hole) & mask))
			continue;
		t->entries[hole] = t->entries[i];
		hole = i;
	}
	t->state[hole] = 0;
	t->used--;
}

static size_t set_place(const struct id_set *t, uint64_t key)
{
	size_t i = (size_t)id_hash(key) & (t->cap - 1);
	while (t->keys[i] && t->keys[i] != key)
		i = (i + 1) & (t->cap - 1);
	return i;
}

static int set_widen(struct id_set *t, struct ikv_err *err)
{
	struct id_set n = {.cap = t->cap ? t->cap * 2 : 64, .used = t->used, .zero = t->zero};
	if (!(n.keys = ikv_alloc(n.cap, sizeof *n.keys, err)))
		return -1;
	for (size_t i = 0; i < t->cap; i++)
		if (t->keys[i])
			n.keys[set_place(&n, t->keys[i])] = t->keys[i];
	ikv_free(t->keys);
	*t = n;
	return 0;
}

int id_set_add(struct id_set *t, uint64_t key, struct ikv_err *err)
{
	if (key == 0) {
		int new = !t->zero;
		t->zero = true;
		return new;
	}
	if (t->used + t->used / 3 >= t->cap && set_widen(t, err))
		return -1;
	size_t i = set_place(t, key);
	if (t->keys[i])
		return 0;
	t->keys[i] = key;
	t->used++;
	return 1;
}

bool id_set_has(const struct id_set *t, uint64_t key)
{
	return key ? t->cap && t->keys[set_place(t, key)] : t->zero;
}

void id_set_free(struct id_set *t)
{
	ikv_free(t->keys);
	*t = (struct id_set){0};
}

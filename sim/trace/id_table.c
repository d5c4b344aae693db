#include "sim/trace/id_table.h"

static size_t place_of(const struct id_table *t, uint64_t key)
{
	size_t i = (size_t)ikv_mix64(key) & (t->cap - 1);
	while (t->state[i] && !(t->state[i] == 1 && t->entries[i].key == key))
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
		if (t->state[i] != 1)
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
	if (t->state[i] != 1)
		return false;
	*value = t->entries[i].value;
	return true;
}

void id_table_remove(struct id_table *t, uint64_t key)
{
	if (t->cap == 0)
		return;
	size_t i = place_of(t, key);
	if (t->state[i] == 1)
		t->state[i] = 2;
}

static size_t set_place(const struct id_set *t, uint64_t key)
{
	size_t i = (size_t)ikv_mix64(key) & (t->cap - 1);
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

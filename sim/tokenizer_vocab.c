/* Hash tables of the tokenizer. A file whose strings or pairs were chosen to collide is refused. */
#include <xxhash.h>
#include "sim/tokenizer_parts.h"

/* At half load, a run this long does not come about by chance. */
enum { PROBES_MAX = 4096 };

int token_reserve(void *array, size_t *cap, size_t needed, size_t size, struct ikv_err *err)
{
	if (needed <= *cap)
		return 0;
	size_t next = needed + needed / 2 + 64;
	if (ikv_grow(array, *cap, next, size, err))
		return -1;
	*cap = next;
	return 0;
}

int token_text_add(struct token_text *t, const char *bytes, size_t size, struct ikv_err *err)
{
	if (token_reserve(&t->at, &t->cap, t->size + size + 1, 1, err))
		return -1;
	memcpy(t->at + t->size, bytes, size);
	t->size += size;
	t->at[t->size] = '\0';
	return 0;
}

static size_t slots_for(size_t count)
{
	size_t slots = 64;
	while (slots < 2 * count)
		slots *= 2;
	return slots;
}

static int too_many_alike(const char *what, struct ikv_err *err)
{
	return ikv_err_set(err, IKV_BAD_INPUT, "more than %d %s that fall on one place of a hash table", PROBES_MAX,
			   what);
}

int vocab_make(struct vocab *v, size_t count, struct ikv_err *err)
{
	size_t slots = slots_for(count);
	v->slots = ikv_alloc(slots, sizeof *v->slots, err);
	v->mask = slots - 1;
	return v->slots ? 0 : -1;
}

static uint64_t string_hash(const char *string, size_t size)
{
	return XXH3_64bits(string, size) | 1;
}

int vocab_add(struct vocab *v, const char *string, size_t size, uint32_t id, struct ikv_err *err)
{
	uint64_t hash = string_hash(string, size);
	size_t i = hash >> 1 & v->mask;
	for (int probes = 0; v->slots[i].hash; i = (i + 1) & v->mask) {
		struct vocab_slot *s = &v->slots[i];
		if (s->hash == hash && s->size == size && !memcmp(v->text.at + s->at, string, size))
			return 0;
		if (++probes > PROBES_MAX)
			return too_many_alike("strings", err);
	}
	v->slots[i] = (struct vocab_slot){v->text.size, (uint32_t)size, id, hash};
	return token_text_add(&v->text, string, size, err) ? -1 : 1;
}

int32_t vocab_find(const struct vocab *v, const char *string, size_t size)
{
	uint64_t hash = string_hash(string, size);
	for (size_t i = hash >> 1 & v->mask; v->slots[i].hash; i = (i + 1) & v->mask) {
		const struct vocab_slot *s = &v->slots[i];
		if (s->hash == hash && s->size == size && !memcmp(v->text.at + s->at, string, size))
			return (int32_t)s->id;
	}
	return TOKEN_NONE;
}

void vocab_free(struct vocab *v)
{
	ikv_free(v->text.at);
	ikv_free(v->slots);
}

/* Finalizer of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
static size_t pair_hash(uint64_t pair)
{
	pair = (pair ^ pair >> 30) * 0xbf58476d1ce4e5b9u;
	pair = (pair ^ pair >> 27) * 0x94d049bb133111ebu;
	return pair ^ pair >> 31;
}

int merge_table_make(struct merge_table *m, size_t count, struct ikv_err *err)
{
	size_t slots = slots_for(count);
	m->slots = ikv_alloc(slots, sizeof *m->slots, err);
	m->mask = slots - 1;
	return m->slots ? 0 : -1;
}

int merge_table_add(struct merge_table *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id,
		    struct ikv_err *err)
{
	uint64_t pair = ((uint64_t)left << 32 | right) + 1;
	size_t i = pair_hash(pair) & m->mask;
	for (int probes = 0; m->slots[i].pair && m->slots[i].pair != pair; i = (i + 1) & m->mask)
		if (++probes > PROBES_MAX)
			return too_many_alike("merges", err);
	m->slots[i] = (struct merge){pair, rank, id};
	return 0;
}

const struct merge *merge_find(const struct merge_table *m, uint32_t left, uint32_t right)
{
	uint64_t pair = ((uint64_t)left << 32 | right) + 1;
	size_t i = pair_hash(pair) & m->mask;
	while (m->slots[i].pair && m->slots[i].pair != pair)
		i = (i + 1) & m->mask;
	return m->slots[i].pair ? &m->slots[i] : NULL;
}

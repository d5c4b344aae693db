/* Belady's MIN ("A Study of Replacement Algorithms for a Virtual-Storage Computer", 1966): evicts what is needed
 * again last, or never. It knows the future, so that it bounds what a policy can reach (with objects of equal
 * size; with others it is a strong heuristic).
 *
 * Each held slot has a key, the step of its next reference. A key of a set bit in a bitmap; every further level
 * has a bit for each word of the level below that is not zero. So the largest key takes one look per level, and
 * the slot of a key is the one that the trace names there. Slots that are never needed again have keys of their
 * own above all steps: those whose last reference is latest go first. */
#include "intentkv/alloc.h"
#include "residency/residency_table.h"

#define LEVELS_MAX 6 /* 64^6 keys */
#define NO_KEY     UINT32_MAX

struct belady {
	const uint32_t *slots, *next; /* [steps], borrowed: the future */
	uint32_t steps;
	uint64_t *level[LEVELS_MAX];
	uint32_t levels;
	uint32_t *keys; /* [slot_count] */
	uint32_t slot_count;
};

static int belady_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err)
{
	(void)config, (void)capacity_bytes;
	struct belady *b = ikv_alloc(1, sizeof *b, err);
	*state = b;
	return b ? 0 : -1;
}

static void belady_destroy(void *state)
{
	struct belady *b = state;
	for (uint32_t i = 0; b && i < b->levels; i++)
		ikv_free(b->level[i]);
	if (b)
		ikv_free(b->keys);
	ikv_free(b);
}

static int belady_reserve(void *state, uint32_t slots, struct ikv_err *err)
{
	struct belady *b = state;
	if (slots <= b->slot_count)
		return 0;
	if (ikv_grow(&b->keys, b->slot_count, slots, sizeof *b->keys, err))
		return -1;
	for (uint32_t s = b->slot_count; s < slots; s++)
		b->keys[s] = NO_KEY;
	b->slot_count = slots;
	return 0;
}

static int belady_foresee(void *state, const uint32_t *slots, const uint32_t *next, uint32_t count,
			  struct ikv_err *err)
{
	struct belady *b = state;
	if (count >= NO_KEY / 2)
		return ikv_err_set(err, IKV_BAD_INPUT, "belady: %u references, at most %u can be foreseen", count,
				   NO_KEY / 2 - 1);
	b->slots = slots;
	b->next = next;
	b->steps = count;
	uint64_t words = 2 * (uint64_t)count;
	do {
		words = words / 64 + 1;
		b->level[b->levels] = ikv_alloc(words, sizeof **b->level, err);
		if (!b->level[b->levels])
			return -1;
		b->levels++;
	} while (words > 1);
	return 0;
}

static void key_set(struct belady *b, uint32_t key)
{
	for (uint32_t i = 0; i < b->levels; i++, key >>= 6) {
		uint64_t *word = &b->level[i][key >> 6], was = *word;
		*word |= 1ull << (key & 63);
		if (was)
			return;
	}
}

static void key_clear(struct belady *b, uint32_t key)
{
	for (uint32_t i = 0; i < b->levels; i++, key >>= 6) {
		uint64_t *word = &b->level[i][key >> 6];
		*word &= ~(1ull << (key & 63));
		if (*word)
			return;
	}
}

/* The largest key below `limit`, NO_KEY if there is none: up until a level has a bit to the left, then down. */
static uint32_t key_below(const struct belady *b, uint32_t limit)
{
	uint32_t i = 0;
	for (; i < b->levels; i++, limit >>= 6) {
		uint64_t left = b->level[i][limit >> 6] & ((1ull << (limit & 63)) - 1);
		if (!left)
			continue;
		uint32_t key = (limit & ~63u) | (63 - (uint32_t)__builtin_clzll(left));
		while (i-- > 0)
			key = key << 6 | (63 - (uint32_t)__builtin_clzll(b->level[i][key]));
		return key;
	}
	return NO_KEY;
}

static void plan(struct belady *b, uint32_t slot, uint64_t step)
{
	uint32_t next = b->next[step];
	uint32_t key = next != IKV_NO_SLOT ? next : b->steps + (uint32_t)step;
	b->keys[slot] = key;
	key_set(b, key);
}

static void belady_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step)
{
	(void)bytes;
	plan(state, slot, step);
}

static void belady_remove(void *state, uint32_t slot)
{
	struct belady *b = state;
	if (b->keys[slot] == NO_KEY)
		return;
	key_clear(b, b->keys[slot]);
	b->keys[slot] = NO_KEY;
}

static void belady_touch(void *state, const uint32_t *slots, uint32_t count, uint64_t step)
{
	struct belady *b = state;
	for (uint32_t i = 0; i < count; i++) {
		if (b->keys[slots[i]] == NO_KEY)
			continue;
		key_clear(b, b->keys[slots[i]]);
		plan(b, slots[i], step);
	}
}

static uint32_t belady_victim(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx)
{
	const struct belady *b = state;
	for (uint32_t key = key_below(b, 2 * b->steps); key != NO_KEY; key = key_below(b, key)) {
		uint32_t slot = b->slots[key < b->steps ? key : key - b->steps];
		if (!may || may(ctx, slot))
			return slot;
	}
	return IKV_NO_SLOT;
}

static bool belady_holds(const void *state, uint32_t slot)
{
	const struct belady *b = state;
	return b->keys[slot] != NO_KEY;
}

static const struct ikv_option belady_options[] = {IKV_OPTION_END};

const struct ikv_residency_ops residency_belady = {
    .name = "belady",
    .summary = "evicts the page needed again last; it needs the future, so it serves `intentkv mrc` only (1966)",
    .options = belady_options,
    .create = belady_create,
    .destroy = belady_destroy,
    .reserve = belady_reserve,
    .foresee = belady_foresee,
    .insert = belady_insert,
    .touch = belady_touch,
    .victim = belady_victim,
    .evict = belady_remove,
    .remove = belady_remove,
    .holds = belady_holds,
};

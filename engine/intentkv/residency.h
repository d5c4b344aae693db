/* Residency policies: what leaves a cache of limited bytes when something else must come in.
 *
 * One table of operations serves the memory manager (memory.h), whose slots are its page indices, and the replay
 * of reference traces (`intentkv mrc`), whose slots are the trace's objects, numbered densely. A policy keeps
 * flat arrays over slots and knows nothing of what a slot stands for.
 *
 * A reference is either a hit, `touch`, or a miss:
 *     miss(slot); while (no room) evict(victim()); insert(slot);
 * What leaves for another reason than want of room (its sequence ended, it was cut off) is told by `remove`. */
#ifndef INTENTKV_RESIDENCY_H
#define INTENTKV_RESIDENCY_H

#include <stdbool.h>
#include <stdint.h>
#include "option.h"

#define IKV_NO_SLOT UINT32_MAX

/* Operations marked * may be NULL: the policy does not need to know. Bytes are below 2^32, steps never fall. */
struct ikv_residency_ops {
	const char *name, *summary;
	const struct ikv_option *options;
	size_t config_bytes;
	/* `capacity_bytes` of the cache; 0: unbounded. */
	int (*create)(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err);
	void (*destroy)(void *state);
	int (*reserve)(void *state, uint32_t slots, struct ikv_err *err); /* slots 0..slots-1 may be used */
	/* * Only where the policy needs the future: at step i slots[i] is referenced, and next at step next[i], or
	 * IKV_NO_SLOT if never again. Both are borrowed until `destroy`. */
	int (*foresee)(void *state, const uint32_t *slots, const uint32_t *next, uint32_t count, struct ikv_err *err);

	/* * A slot that is not held is wanted: the next calls of `victim` make room for it, and `insert` may
	 * follow. `insert` without it is allowed. */
	void (*miss)(void *state, uint32_t slot, uint64_t bytes);
	void (*insert)(void *state, uint32_t slot, uint64_t bytes, uint64_t step);
	/* Accesses in the order given, no slot twice; slots that are not held are passed over. */
	void (*touch)(void *state, const uint32_t *slots, uint32_t count, uint64_t step);
	/* * A held slot now has other bytes. */
	void (*resize)(void *state, uint32_t slot, uint64_t bytes);
	/* The slot to give up next among those for which `may` is true (NULL: all), IKV_NO_SLOT if there is none.
	 * The policy may advance its hands, but the slot stays held until `evict`. */
	uint32_t (*victim)(void *state, bool (*may)(void *ctx, uint32_t slot), void *ctx);
	void (*evict)(void *state, uint32_t slot);  /* a held slot leaves; the policy may remember it */
	void (*remove)(void *state, uint32_t slot); /* the slot is no more: held, remembered or neither */
	bool (*holds)(const void *state, uint32_t slot);

	/* As ikv_memory_save and ikv_memory_load; NULL in a policy that needs the future. */
	size_t (*save)(const void *state, void *buffer, size_t size);
	int (*load)(void *state, const void *buffer, size_t size, struct ikv_err *err);
};
/* lru, fifo, clock, lfu, sieve, s3fifo, arc, belady; NULL-terminated */
IKV_API const struct ikv_residency_ops *const *ikv_residencies(void);
IKV_API const struct ikv_residency_ops *ikv_residency_find(const char *name);

#endif

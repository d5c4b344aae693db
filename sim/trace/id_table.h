/* A table of 64-bit ids: open addressing, linear probing. Ids come from strangers, so their hash has a seed of the
 * process; nothing that is seen depends on it. Starts zeroed. */
#ifndef SIM_TRACE_ID_TABLE_H
#define SIM_TRACE_ID_TABLE_H

#include <intentkv.h>

struct id_entry {
	uint64_t key, value;
};
struct id_table {
	struct id_entry *entries;
	unsigned char *state; /* 0 free, 1 used */
	size_t cap, used;
};
uint64_t id_hash(uint64_t id);
int id_table_put(struct id_table *t, uint64_t key, uint64_t value, struct ikv_err *err);
bool id_table_get(const struct id_table *t, uint64_t key, uint64_t *value);
void id_table_remove(struct id_table *t, uint64_t key);
void id_table_free(struct id_table *t);

/* Ids only: 8 bytes a place. Starts zeroed. */
struct id_set {
	uint64_t *keys; /* 0: free; the id 0 itself is kept apart */
	size_t cap, used;
	bool zero;
};
/* 1: it is new and now in the set; 0: it was there; -1. */
int id_set_add(struct id_set *t, uint64_t key, struct ikv_err *err);
bool id_set_has(const struct id_set *t, uint64_t key);
void id_set_free(struct id_set *t);

#endif

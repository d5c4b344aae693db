/* What importers share: a table of 64-bit ids, JSON input with places, and building of requests. */
#ifndef SIM_TRACE_TABLE_H
#define SIM_TRACE_TABLE_H

#include <stdio.h>
#include "sim/session.h"

#define SESSION_CONTEXT_MAX 0x7fffffffu /* tokens; offsets stay below 2^31 */

/* Open addressing, linear probing; keys are spread before use. Starts zeroed. */
struct id_table {
	uint64_t *keys, *values;
	unsigned char *state; /* 0 free, 1 used, 2 removed */
	size_t cap, used;     /* used counts removed places too */
};
int id_table_put(struct id_table *t, uint64_t key, uint64_t value, struct ikv_err *err);
bool id_table_get(const struct id_table *t, uint64_t key, uint64_t *value);
void id_table_remove(struct id_table *t, uint64_t key);
void id_table_free(struct id_table *t);

/* Drop sessions from the end until `count` are left. */
void session_list_shrink(struct session_list *list, uint32_t count);
/* End the session where its context would exceed max_context; true if something was cut. */
bool session_shorten(struct session *s, uint64_t max_context);

extern const struct importer importer_intentkv, importer_mooncake, importer_weka, importer_openai_chat;

#endif

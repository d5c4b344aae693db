/* What page-level routers share: their common options, and turning token ranges or page sets into a plan and
 * one decision per block. */
#ifndef ROUTER_EMIT_H
#define ROUTER_EMIT_H

#include "intentkv/router.h"

struct emit_config {
	int format; /* index of emit_formats: enum ikv_format - 1, as nothing is selected in SKIP */
	int share;  /* enum ikv_share */
	struct ikv_budget budget;
};
extern const char *const emit_formats[];
extern const char *const emit_shares[];

#define EMIT_OPTION_FORMAT(config, member)                                                                           \
	{                                                                                                            \
		"format", IKV_OPT_ENUM, offsetof(config, member.format), "FP16", 0, 0, emit_formats,                 \
		    "format the selected pages are requested in"                                                     \
	}
#define EMIT_OPTION_SHARE(config, member, def)                                                                       \
	{                                                                                                            \
		"share", IKV_OPT_ENUM, offsetof(config, member.share), def, 0, 0, emit_shares,                       \
		    "how far one selection is shared: by all layers of a step, a layer's heads, a KV head's group, " \
		    "or not"                                                                                         \
	}
#define EMIT_OPTION_BUDGET(config, member, def, help)                                                                \
	{                                                                                                            \
		"budget", IKV_OPT_BUDGET, offsetof(config, member.budget), def, 0, 0, NULL, help                     \
	}

/* Routers whose state is a copy of their config: create (refusing a mass budget), destroy, save, load. */
int emit_copy_config(void **state, const void *config, size_t bytes, const struct ikv_budget *budget,
		     const char *router, struct ikv_err *err);
void emit_destroy(void *state);
size_t emit_save_nothing(const void *state, void *buffer, size_t size);
int emit_load_nothing(void *state, const void *buffer, size_t size, struct ikv_err *err);

/* Make the unit's route empty, with room for its context. Begins each act. */
int emit_prepare(const struct ikv_route_unit *u, struct ikv_err *err);
uint32_t emit_page_count(const struct ikv_route_unit *u);
/* Working space in the route: a cleared bitmap of pages, two arrays of an item per page, and four words per
 * block. */
struct emit_scratch {
	uint64_t *bitmap, *items, *spare, *blocks;
};
struct emit_scratch emit_scratch(const struct ikv_route_unit *u);

struct emit {
	const struct ikv_route_unit *u;
	enum ikv_format format;
	enum ikv_reason why;
	uint32_t block; /* first block that does not end before what was emitted */
};
/* begin, tokens in ascending order (or pages once), end. */
void emit_begin(struct emit *e, const struct ikv_route_unit *u, const struct emit_config *c, enum ikv_reason why);
void emit_tokens(struct emit *e, uint32_t start, uint32_t end);
void emit_pages(struct emit *e, const uint64_t *bitmap);
void emit_end(struct emit *e);

#endif

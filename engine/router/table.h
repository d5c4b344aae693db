/* The routers of the table; each is defined in the file of its name. */
#ifndef ROUTER_TABLE_H
#define ROUTER_TABLE_H

#include "intentkv/router.h"

extern const struct ikv_router_ops router_semantic, router_dense, router_recency, router_random, router_streaming,
    router_quest, router_oracle;

#endif

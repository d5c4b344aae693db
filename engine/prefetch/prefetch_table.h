/* Every prefetcher, one extern each. */
#ifndef ENGINE_PREFETCH_TABLE_H
#define ENGINE_PREFETCH_TABLE_H

#include "intentkv/prefetch.h"

extern const struct ikv_prefetcher_ops prefetch_none, prefetch_frequency;

#endif

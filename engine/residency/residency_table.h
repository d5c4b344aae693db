/* Every residency policy, one extern each. */
#ifndef ENGINE_RESIDENCY_TABLE_H
#define ENGINE_RESIDENCY_TABLE_H

#include "intentkv/memory.h"

extern const struct ikv_residency_ops residency_lru;

#endif

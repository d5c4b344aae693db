/* Every residency policy, one extern each. */
#ifndef ENGINE_RESIDENCY_TABLE_H
#define ENGINE_RESIDENCY_TABLE_H

#include "intentkv/residency.h"

extern const struct ikv_residency_ops residency_lru, residency_fifo, residency_clock, residency_lfu, residency_sieve,
    residency_s3fifo, residency_arc, residency_belady;

#endif

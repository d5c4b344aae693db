/* Part of gpu_check: pages as they lie on the device against the engine's store, bit for bit. */
#ifndef GPU_STORE_CHECK_H
#define GPU_STORE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* Random pages are appended, cut, re-encoded, replaced and moved between tiers. Prints a line; false: a difference. */
bool gpu_store_check(uint64_t worlds, uint64_t seed, bool latent);

#endif

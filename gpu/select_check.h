/* Scores and choices of the backend `cuda` against the CPU's scorer and selection, bit for bit. */
#ifndef GPU_SELECT_CHECK_H
#define GPU_SELECT_CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* `cases` calls; `small`: short contexts. Prints a line; false where one differs. */
bool select_check(uint64_t cases, uint64_t seed, bool small);

#endif

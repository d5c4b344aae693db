#ifndef ATTN_GEOMETRY_H
#define ATTN_GEOMETRY_H

#include "intentkv/exact.h"

/* Every count within its bounds, so that sizes of a page cannot overflow. */
int geometry_check(const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err);

/* Room for at least `need` elements of `size` bytes in *array, by doubling; old elements stay. */
int geometry_room(void *array, uint32_t *cap, uint32_t need, size_t size, struct ikv_err *err);

#endif

/* Memory: checked sizes and a counter, so that a steady loop can be shown not to allocate. */
#ifndef INTENTKV_ALLOC_H
#define INTENTKV_ALLOC_H

#include <stddef.h>
#include <stdint.h>
#include "error.h"

/* Zeroed room for count × size bytes, 64-byte aligned; NULL with a message when the product overflows or
 * memory is out. count × size of 0 gives a valid pointer. */
IKV_API void *ikv_alloc(size_t count, size_t size, struct ikv_err *err);
/* Grow *array from old_count to new_count elements (new ones zeroed). On failure *array is unchanged. */
IKV_API int ikv_grow(void *array, size_t old_count, size_t new_count, size_t size, struct ikv_err *err);
/* Working memory: room for at least `need` elements in *array, which has *cap; what it held is lost when it grows, at
 * least to twice the size. On failure nothing is changed. */
IKV_API int ikv_reserve(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err);
IKV_API void ikv_free(void *p);
/* Calls of ikv_alloc and ikv_grow in this process so far. */
IKV_API uint64_t ikv_alloc_count(void);

#endif

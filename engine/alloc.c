#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "intentkv/alloc.h"

/* From here on memory is asked for in huge pages: reading a quarter of the 16-token pages of a long context at random
 * is then 15 to 25 % faster, because a 4 KiB page in seven needs its address looked up (docs/results/cpu.md). */
#define HUGE_FROM ((size_t)4 << 20)
#define HUGE_PAGE ((size_t)2 << 20)

static atomic_uint_fast64_t alloc_calls;

static int size_of(size_t count, size_t size, size_t *bytes, struct ikv_err *err)
{
	size_t n;
	if (__builtin_mul_overflow(count, size, &n) || n > SIZE_MAX - 128)
		return ikv_err_set(err, IKV_FAILED, "out of memory: %zu items of %zu bytes overflow", count, size);
	/* aligned_alloc wants a multiple of the alignment, and never 0. */
	*bytes = (n + 64) & ~(size_t)63;
	return 0;
}

void *ikv_alloc(size_t count, size_t size, struct ikv_err *err)
{
	size_t bytes = 0;
	if (size_of(count, size, &bytes, err))
		return NULL;
	atomic_fetch_add_explicit(&alloc_calls, 1, memory_order_relaxed);
	bool huge = bytes >= HUGE_FROM && bytes <= SIZE_MAX - HUGE_PAGE;
	if (huge)
		bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
	void *p = aligned_alloc(huge ? HUGE_PAGE : 64, bytes);
#ifdef MADV_HUGEPAGE
	if (p && huge)
		madvise(p, bytes, MADV_HUGEPAGE); /* advice: where there are none, small pages do */
#endif
	if (!p) {
		ikv_err_set(err, IKV_FAILED, "out of memory: %zu bytes", bytes);
		return NULL;
	}
	return memset(p, 0, bytes);
}

int ikv_grow(void *array, size_t old_count, size_t new_count, size_t size, struct ikv_err *err)
{
	void *old, *p = ikv_alloc(new_count, size, err);
	if (!p)
		return -1;
	memcpy(&old, array, sizeof old);
	if (old)
		memcpy(p, old, (old_count < new_count ? old_count : new_count) * size);
	free(old);
	memcpy(array, &p, sizeof p);
	return 0;
}

int ikv_reserve(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	size_t want = need < 2 * *cap ? 2 * *cap : need;
	if (ikv_grow(array, 0, want, size, err))
		return -1;
	*cap = want;
	return 0;
}

void ikv_free(void *p)
{
	free(p);
}

uint64_t ikv_alloc_count(void)
{
	return atomic_load_explicit(&alloc_calls, memory_order_relaxed);
}

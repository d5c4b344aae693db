/* Prefetchers: which pages will a sequence need next. Pages are logical, of one memory group. */
#ifndef INTENTKV_PREFETCH_H
#define INTENTKV_PREFETCH_H

#include "option.h"

struct ikv_prefetcher_ops {
	const char *name, *summary;
	const struct ikv_option *options;
	size_t config_bytes;
	/* One state serves `streams` independent streams (one per sequence and memory group). */
	int (*create)(void **state, const void *config, uint32_t streams, struct ikv_err *err);
	void (*destroy)(void *state);
	/* After a step: the ids selected (ascending). Writes the predicted ids (ascending, at most cap)
	 * and returns their number. `hints` are the router's, best first. */
	int (*step)(void *state, uint32_t stream, const uint32_t *selected, uint32_t count, const uint32_t *hints,
		    uint32_t hint_count, uint32_t *predicted, uint32_t cap, uint32_t *predicted_count,
		    struct ikv_err *err);
	void (*reset)(void *state, uint32_t stream); /* the layout was replaced */
	size_t (*save)(const void *state, void *buffer, size_t size);
	int (*load)(void *state, const void *buffer, size_t size, struct ikv_err *err);
};
IKV_API const struct ikv_prefetcher_ops *const *ikv_prefetchers(void); /* none, frequency; NULL-terminated */
IKV_API const struct ikv_prefetcher_ops *ikv_prefetcher_find(const char *name);

#endif

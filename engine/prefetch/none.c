/* No prefetching: every page is fetched when a step asks for it. */
#include "intentkv/alloc.h"
#include "prefetch/prefetch_table.h"

static int none_create(void **state, const void *config, uint32_t streams, struct ikv_err *err)
{
	(void)config, (void)streams;
	*state = ikv_alloc(1, 1, err);
	return *state ? 0 : -1;
}

static int none_step(void *state, uint32_t stream, const uint32_t *selected, uint32_t count, const uint32_t *hints,
		     uint32_t hint_count, uint32_t *predicted, uint32_t cap, uint32_t *predicted_count,
		     struct ikv_err *err)
{
	(void)state, (void)stream, (void)selected, (void)count, (void)hints, (void)hint_count;
	(void)predicted, (void)cap, (void)err;
	*predicted_count = 0;
	return 0;
}

static void none_reset(void *state, uint32_t stream)
{
	(void)state, (void)stream;
}

static size_t none_save(const void *state, void *buffer, size_t size)
{
	(void)state, (void)buffer, (void)size;
	return 0;
}

static int none_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	(void)state, (void)buffer;
	return size ? ikv_err_set(err, IKV_BAD_INPUT, "saved prefetcher state: bytes left over") : 0;
}

static const struct ikv_option none_options[] = {IKV_OPTION_END};

const struct ikv_prefetcher_ops prefetch_none = {
    .name = "none",
    .summary = "predicts nothing",
    .options = none_options,
    .create = none_create,
    .destroy = ikv_free,
    .step = none_step,
    .reset = none_reset,
    .save = none_save,
    .load = none_load,
};

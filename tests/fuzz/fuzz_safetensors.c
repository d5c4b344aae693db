/* A safetensors file is taken or refused with a message; what is taken can be read within its bounds, and nothing
 * beyond them. */
#include <stdlib.h>
#include "sim/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static void read_tensor(struct safetensors *f, const struct safetensors_tensor *t, uint64_t bytes)
{
	float real[16];
	uint16_t half[16];
	int64_t whole[16];
	struct ikv_err err = {0};
	uint64_t count = t->values < 16 ? t->values : 16, first = t->values - count;
	require(t->begin <= t->end && t->end <= bytes && t->rank <= SAFETENSORS_RANK_MAX);
	safetensors_read_float(f, t, first, count, real, &err);
	safetensors_read_fp16(f, t, first, count, half, &err);
	safetensors_read_int(f, t, first, count, whole, &err);
	require(safetensors_read_float(f, t, t->values, 1, real, &err) != 0);
	require(safetensors_read_float(f, t, UINT64_MAX, 2, real, &err) != 0);
	require(safetensors_find(f, t->name) == t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct safetensors *f;
	struct ikv_err err = {0};
	if (safetensors_open_bytes(&f, data, size, "fuzz", &err)) {
		require(err.status != IKV_OK && err.text[0] != '\0');
		return 0;
	}
	for (uint32_t i = 0; i < safetensors_count(f); i++)
		read_tensor(f, safetensors_at(f, i), size);
	safetensors_metadata(f, "blocks");
	safetensors_close(f);
	return 0;
}

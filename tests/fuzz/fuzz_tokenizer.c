/* A tokenizer.json is taken or refused with a message; what is taken gives some text the same ids twice, as many as
 * it counts. The file and the text stand one behind the other with a zero byte between them; without one, the text is
 * the file itself. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "intentkv/alloc.h"
#include "sim/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static void encode(struct tokenizer *t, const char *text, size_t size)
{
	struct ikv_err err = {0};
	uint32_t *ids = NULL;
	size_t cap = 0, first = 0, both = 0;
	uint64_t count = 0;
	if (tokenizer_encode(t, text, size, &ids, &cap, &first, &err)) {
		require(err.status != IKV_OK && err.text[0] != '\0');
	} else {
		both = first;
		require(!tokenizer_encode(t, text, size, &ids, &cap, &both, &err));
		require(both == 2 * first && both <= cap);
		require(first == 0 || !memcmp(ids, ids + first, first * sizeof *ids));
		require(!tokenizer_count(t, text, size, &count, &err) && count == first);
	}
	ikv_free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tokenizer *t;
	struct ikv_err err = {0};
	const char *file = (const char *)data, *end = size ? memchr(file, 0, size) : NULL;
	size_t bytes = end ? (size_t)(end - file) : size;
	if (tokenizer_read_bytes(file, bytes, "fuzz", &t, &err)) {
		require(err.status != IKV_OK && err.text[0] != '\0' && !t);
		return 0;
	}
	if (end)
		encode(t, end + 1, size - bytes - 1);
	else
		encode(t, file, size);
	tokenizer_free(t);
	return 0;
}

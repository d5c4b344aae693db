/* The parsed JSON header of a safetensors file; internal to the reader. */
#ifndef SIM_SAFETENSORS_HEADER_H
#define SIM_SAFETENSORS_HEADER_H

#include "safetensors.h"

#define SAFETENSORS_HEADER_MAX  (16u << 20)
#define SAFETENSORS_TENSORS_MAX 65536u

struct safetensors_header {
	char *strings; /* all names, keys and values, NUL-terminated; owned */
	size_t strings_used;
	struct safetensors_tensor *tensors; /* sorted by (begin, end); owned */
	uint32_t count, cap;
	size_t *metadata; /* pairs of offsets into strings; owned */
	uint32_t metadata_count, metadata_cap;
};

/* Parse and check `size` bytes of header text for `data_bytes` bytes of data. On failure nothing is kept. */
int safetensors_header_parse(struct safetensors_header *h, const char *text, size_t size, uint64_t data_bytes,
			     const char *file, struct ikv_err *err);
void safetensors_header_free(struct safetensors_header *h);
/* Bytes of one value of a type. */
uint32_t safetensors_type_bytes(enum safetensors_type t);

#endif

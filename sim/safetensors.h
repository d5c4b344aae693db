/* Reader of the safetensors container: a JSON header of names, types, shapes and offsets, then raw bytes.
 *
 * Files are untrusted: every count, product and offset is checked before anything is allocated for it
 * (header at most 16 MB, 65,536 tensors, rank 8; data contiguous up to the end of the file). */
#ifndef SIM_SAFETENSORS_H
#define SIM_SAFETENSORS_H

#include <intentkv.h>

#define SAFETENSORS_RANK_MAX 8

enum safetensors_type {
	SAFETENSORS_BOOL,
	SAFETENSORS_U8,
	SAFETENSORS_I8,
	SAFETENSORS_U16,
	SAFETENSORS_I16,
	SAFETENSORS_F16,
	SAFETENSORS_BF16,
	SAFETENSORS_U32,
	SAFETENSORS_I32,
	SAFETENSORS_F32,
	SAFETENSORS_U64,
	SAFETENSORS_I64,
	SAFETENSORS_F64,
	SAFETENSORS_TYPE_COUNT
};

struct safetensors_tensor {
	const char *name; /* owned by the file */
	enum safetensors_type type;
	uint32_t rank;
	uint64_t shape[SAFETENSORS_RANK_MAX];
	uint64_t values;     /* product of the shape */
	uint64_t begin, end; /* bytes within the data */
};

struct safetensors;

int safetensors_open(struct safetensors **out, const char *path, struct ikv_err *err);
/* The same checks over bytes in memory, which stay the caller's and must outlive the result. */
int safetensors_open_bytes(struct safetensors **out, const void *bytes, size_t size, const char *name,
			   struct ikv_err *err);
void safetensors_close(struct safetensors *f);

/* In the order of their data. */
uint32_t safetensors_count(const struct safetensors *f);
const struct safetensors_tensor *safetensors_at(const struct safetensors *f, uint32_t index);
const struct safetensors_tensor *safetensors_find(const struct safetensors *f, const char *name);
/* A value of `__metadata__`, or NULL. */
const char *safetensors_metadata(const struct safetensors *f, const char *key);

/* Values [first, first + count) of a tensor, converted. Floats come from F16, BF16, F32 and F64, FP16 from F16
 * (unchanged), BF16 and F32 (rounded to nearest even), integers from the integer types when they fit. */
int safetensors_read_float(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
			   float *out, struct ikv_err *err);
int safetensors_read_fp16(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
			  uint16_t *out, struct ikv_err *err);
int safetensors_read_int(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
			 int64_t *out, struct ikv_err *err);

const char *safetensors_type_name(enum safetensors_type t);

#endif

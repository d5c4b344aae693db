/* Page formats: how the K or V rows of one KV head are stored.
 *
 * A format fixes codes and scales (hence size and error); the order of the bytes
 * belongs to the backend. Sizes here are real: everything stored is counted. */
#ifndef INTENTKV_FORMAT_H
#define INTENTKV_FORMAT_H

#include <stdint.h>
#include "error.h"

enum ikv_format {
	IKV_FMT_SKIP, /* not read, not stored */
	IKV_FMT_FP16,
	IKV_FMT_FP8,           /* E4M3, one FP16 scale a token and head */
	IKV_FMT_INT8,          /* symmetric, one FP16 scale a token and head */
	IKV_FMT_INT4,          /* asymmetric, groups of 32 channels, FP16 scale and zero */
	IKV_FMT_INT4_RESIDUAL, /* INT4 plus an INT4 code of the remainder */
	IKV_FMT_BF16,
	IKV_FMT_KIVI8, /* asymmetric; K per channel over 32 tokens, V per token over 32 channels; FP16 scale and zero */
	IKV_FMT_KIVI4,
	IKV_FMT_KIVI2,
	IKV_FMT_SPARSE, /* the largest quarter of a token's channels: bitmap and FP16 values */
	IKV_FMT_COUNT
};

/* KIVI stores K and V differently. Where V aliases K (MLA) there is K only. */
enum ikv_side { IKV_SIDE_K, IKV_SIDE_V };

struct ikv_format_info {
	const char *name;        /* "INT4_RESIDUAL" */
	double accounting_bytes; /* per value, as papers count: 2 for FP16, 0.5 for INT4 */
	int precision;           /* order of precision, higher is more exact; SKIP 0 */
	const char *summary;
};

IKV_API const struct ikv_format_info *ikv_format_info(enum ikv_format f);
IKV_API const char *const *ikv_format_names(void); /* NULL-terminated, index is enum ikv_format */
IKV_API int ikv_format_by_name(const char *name, enum ikv_format *out);

/* Stored bytes of `tokens` rows of `dim` values (K or V of one head). */
IKV_API uint64_t ikv_format_bytes(enum ikv_format f, enum ikv_side side, uint32_t tokens, uint32_t dim);

/* Reference conversions, canonical byte order (documented in docs/formats.md):
 * FP16 rows [tokens][dim] to the stored form and back to float. */
IKV_API int ikv_format_encode(enum ikv_format f, enum ikv_side side, const uint16_t *rows, uint32_t tokens,
			      uint32_t dim, void *stored, struct ikv_err *err);
IKV_API int ikv_format_decode(enum ikv_format f, enum ikv_side side, const void *stored, uint32_t tokens,
			      uint32_t dim, float *rows, struct ikv_err *err);

/* IEEE binary16, round to nearest even; values beyond 65504 become infinite. */
IKV_API uint16_t ikv_fp16_from_float(float x);
IKV_API float ikv_fp16_to_float(uint16_t h);

#endif

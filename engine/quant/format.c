#include "intentkv/alloc.h"
#include "quant/encode.h"

/* Precision: by the error bounds of docs/formats.md; SPARSE has none and comes last. */
static const struct ikv_format_info infos[IKV_FMT_COUNT] = {
    [IKV_FMT_SKIP] = {"SKIP", 0, 0, "not stored, not read"},
    [IKV_FMT_FP16] = {"FP16", 2, 9, "as the model gave it"},
    [IKV_FMT_FP8] = {"FP8", 1, 6, "E4M3 codes, an FP16 scale a token and head"},
    [IKV_FMT_INT8] = {"INT8", 1, 7, "symmetric 8-bit codes, an FP16 scale a token and head"},
    [IKV_FMT_INT4] = {"INT4", 0.5, 3, "4-bit codes, FP16 scale and minimum for every 32 channels"},
    [IKV_FMT_INT4_RESIDUAL] = {"INT4_RESIDUAL", 1, 5, "INT4 plus a 4-bit code of what INT4 lost"},
    [IKV_FMT_BF16] = {"BF16", 2, 9, "the upper half of a float"},
    [IKV_FMT_KIVI8] = {"KIVI8", 1, 8, "8-bit codes, K per channel over 32 tokens, V per token over 32 channels"},
    [IKV_FMT_KIVI4] = {"KIVI4", 0.5, 4, "4-bit codes, K per channel over 32 tokens, V per token over 32 channels"},
    [IKV_FMT_KIVI2] = {"KIVI2", 0.25, 2, "2-bit codes, K per channel over 32 tokens, V per token over 32 channels"},
    [IKV_FMT_SPARSE] = {"SPARSE", 0.5, 1, "a bitmap and FP16 values of the largest quarter of a token's channels"},
};

const struct ikv_format_info *ikv_format_info(enum ikv_format f)
{
	return (unsigned)f < IKV_FMT_COUNT ? &infos[f] : NULL;
}

const char *const *ikv_format_names(void)
{
	static const char *const names[IKV_FMT_COUNT + 1] = {
	    [IKV_FMT_SKIP] = "SKIP",   [IKV_FMT_FP16] = "FP16",     [IKV_FMT_FP8] = "FP8",
	    [IKV_FMT_INT8] = "INT8",   [IKV_FMT_INT4] = "INT4",     [IKV_FMT_INT4_RESIDUAL] = "INT4_RESIDUAL",
	    [IKV_FMT_BF16] = "BF16",   [IKV_FMT_KIVI8] = "KIVI8",   [IKV_FMT_KIVI4] = "KIVI4",
	    [IKV_FMT_KIVI2] = "KIVI2", [IKV_FMT_SPARSE] = "SPARSE",
	};
	return names;
}

int ikv_format_by_name(const char *name, enum ikv_format *out)
{
	for (unsigned f = 0; f < IKV_FMT_COUNT; f++) {
		if (!strcmp(infos[f].name, name)) {
			*out = (enum ikv_format)f;
			return 0;
		}
	}
	return -1;
}

uint64_t ikv_format_bytes(enum ikv_format f, enum ikv_side side, uint32_t tokens, uint32_t dim)
{
	uint64_t row;
	switch (f) {
	case IKV_FMT_FP16:
	case IKV_FMT_BF16:
		row = 2 * (uint64_t)dim;
		break;
	case IKV_FMT_FP8:
	case IKV_FMT_INT8:
		row = 2 + (uint64_t)dim;
		break;
	case IKV_FMT_INT4:
		row = 4 * (uint64_t)codec_groups(dim) + codec_pair_bytes(dim);
		break;
	case IKV_FMT_INT4_RESIDUAL:
		row = 4 * (uint64_t)codec_groups(dim) + 2 * (uint64_t)codec_pair_bytes(dim);
		break;
	case IKV_FMT_KIVI8:
	case IKV_FMT_KIVI4:
	case IKV_FMT_KIVI2:
		return codec_kivi_params(side == IKV_SIDE_V, tokens, dim) +
		       tokens * codec_packed_bytes(dim, codec_kivi_bits(f));
	case IKV_FMT_SPARSE:
		row = codec_sparse_map(dim) + 2 * (uint64_t)codec_sparse_kept(dim);
		break;
	default:
		row = 0;
	}
	return tokens * row;
}

static bool all_finite(const uint16_t *values, size_t n)
{
	uint64_t bad = 0;
	size_t i = 0;
	for (; i + 4 <= n; i += 4) { /* an exponent of ones carries into the place of the sign */
		uint64_t x;
		memcpy(&x, values + i, sizeof x);
		bad |= (x & 0x7c007c007c007c00) + 0x0400040004000400;
	}
	bad &= 0x8000800080008000;
	for (; i < n; i++)
		bad |= (values[i] & 0x7c00) == 0x7c00;
	return !bad;
}

const struct encode_kernels encode_scalar = {all_finite,         codec_encode_fp8,  codec_encode_int8,
					     codec_encode_int4,  codec_encode_bf16, codec_encode_kivi,
					     codec_encode_sparse};

static int stores(enum ikv_format f, struct ikv_err *err)
{
	if ((unsigned)f >= IKV_FMT_COUNT)
		return ikv_err_set(err, IKV_FAILED, "format %d is not known", (int)f);
	if (f == IKV_FMT_SKIP)
		return ikv_err_set(err, IKV_FAILED, "format SKIP stores nothing");
	return 0;
}

int codec_finite(const uint16_t *rows, uint32_t tokens, uint32_t dim, const char *what, struct ikv_err *err)
{
	size_t n = (size_t)tokens * dim;
	if (encode_table()->finite(rows, n))
		return 0;
	for (size_t i = 0;; i++)
		if ((rows[i] & 0x7c00) == 0x7c00)
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "%s: row %zu, value %zu is %s, expected a finite number", what, i / dim,
					   i % dim, rows[i] & 0x3ff ? "NaN" : "infinite");
}

int ikv_format_encode(enum ikv_format f, enum ikv_side side, const uint16_t *rows, uint32_t tokens, uint32_t dim,
		      void *stored, struct ikv_err *err)
{
	if (stores(f, err) || codec_finite(rows, tokens, dim, infos[f].name, err))
		return -1;
	switch (f) {
	case IKV_FMT_FP8:
		encode_table()->fp8(rows, tokens, dim, stored);
		break;
	case IKV_FMT_INT8:
		encode_table()->int8(rows, tokens, dim, stored);
		break;
	case IKV_FMT_INT4:
	case IKV_FMT_INT4_RESIDUAL:
		encode_table()->int4(rows, tokens, dim, f == IKV_FMT_INT4_RESIDUAL, stored);
		break;
	case IKV_FMT_BF16:
		encode_table()->bf16(rows, (size_t)tokens * dim, stored);
		break;
	case IKV_FMT_KIVI8:
	case IKV_FMT_KIVI4:
	case IKV_FMT_KIVI2:
		encode_table()->kivi(rows, tokens, dim, codec_kivi_bits(f), side == IKV_SIDE_V, stored);
		break;
	case IKV_FMT_SPARSE:
		encode_table()->sparse(rows, tokens, dim, stored);
		break;
	default:
		if (tokens && dim)
			memcpy(stored, rows, 2 * (size_t)tokens * dim);
	}
	return 0;
}

void codec_read(enum ikv_format f, const struct codec_rows *r, uint32_t t, uint32_t c, uint32_t n, float *out)
{
	size_t at = (size_t)t * r->dim + c;
	switch (f) {
	case IKV_FMT_FP8:
		codec_read_fp8(r, t, c, n, out);
		break;
	case IKV_FMT_INT8:
		codec_read_int8(r, t, c, n, out);
		break;
	case IKV_FMT_INT4:
	case IKV_FMT_INT4_RESIDUAL:
		codec_read_int4(r, t, c, n, f == IKV_FMT_INT4_RESIDUAL, out);
		break;
	case IKV_FMT_BF16:
		codec_read_bf16(r, t, c, n, out);
		break;
	case IKV_FMT_KIVI8:
	case IKV_FMT_KIVI4:
	case IKV_FMT_KIVI2:
		codec_read_kivi(r, codec_kivi_bits(f), t, c, n, out);
		break;
	case IKV_FMT_SPARSE:
		codec_read_sparse(r, t, c, n, out);
		break;
	default:
		for (uint32_t i = 0; i < n; i++)
			out[i] = codec_half(r->data, at + i);
	}
}

int ikv_format_decode(enum ikv_format f, enum ikv_side side, const void *stored, uint32_t tokens, uint32_t dim,
		      float *rows, struct ikv_err *err)
{
	if (stores(f, err))
		return -1;
	struct codec_rows r = {stored, tokens, dim, side == IKV_SIDE_V};
	for (uint32_t t = 0; t < tokens; t++)
		codec_read(f, &r, t, 0, dim, rows + (size_t)t * dim);
	return 0;
}

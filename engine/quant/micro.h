/* Micro-kernels of one ISA: scores and weighted sums straight from tiles (quant/tile.h). */
#ifndef QUANT_MICRO_H
#define QUANT_MICRO_H

#include "quant/tile.h"

/* Tiles and tokens of a block: one update of the online softmax. Scores of a block lie [heads][MICRO_BLOCK]. */
#define MICRO_TILES 8
#define MICRO_BLOCK (MICRO_TILES * TILE_TOKENS)

/* Query and output rows are padded with zeros to a multiple of this many channels. */
#define MICRO_PAD 32

/* Queries of the heads that share a KV head. */
struct micro_query {
	const float *f; /* [heads][stride], scaled and padded */
	size_t stride;
	const uint8_t *forms; /* what `prepare` made of them, [heads][forms_stride]; 64-byte aligned; NULL where none rounds */
	size_t forms_stride;
	bool fine; /* a token may have a good part of all weight: round nothing */
};

/* s[h][16 i + t] = q_h · K row t of tile i, for all 16 rows of count <= MICRO_TILES tiles. */
typedef void micro_qk(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		      const struct micro_query *q, uint32_t heads, float *s, float *scratch);
/* acc_h += sum w[h][16 i + t] · V row t of tile i; acc [heads][acc_stride], padded. Where a row is not there its
 * weight is 0. `fine`: one of them is a good part of the whole sum, so round none. */
typedef void micro_pv(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		      bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch);

struct micro_format {
	micro_qk *qk;
	micro_pv *pv;
	bool rounds; /* queries and weights, where they are not fine: reads other forms of the query */
	/* Blocks of one tile are worked through about as fast as others, so that the order in which memory is read
	 * counts for more. Not with `rounds`, whose kernels do much once a block. */
	bool single;
};

#define FORMAT_BIT(format) (1u << (format))

struct wide_kernels;

struct micro_kernels {
	const char *isa;
	const struct wide_kernels *wide; /* for many query rows (quant/wide.h) */
	struct micro_format format[TILE_FORMS]; /* by tile_shape.format */
	/* Other forms of one query row of `dim` channels that the kernels which round want, forms_bytes(dim) of them, a
	 * multiple of 64; both NULL: none. `prepare` makes those of some formats only, a bit each (1 << format): for a
	 * few hundred tokens it takes as long as attention. */
	size_t (*forms_bytes)(uint32_t dim);
	void (*prepare)(const float *q, uint32_t dim, uint32_t formats, uint8_t *forms);
	/* Of each of `heads` rows, MICRO_BLOCK apart, of n scores, a multiple of 16: the largest. +inf and NaN are
	 * lowered to 3e38 in place; -inf (masked out) stays. */
	void (*peak)(float *s, uint32_t heads, uint32_t n, float *tops);
	/* s_i = exp(s_i - shift) in each row, and their sum; every s_i <= the row's shift, which is finite. */
	void (*exp_sum)(float *s, uint32_t heads, uint32_t n, const float *shifts, float *sums);
	/* x_i *= factor; n a multiple of MICRO_PAD */
	void (*scale)(float *x, uint32_t n, float factor);
};

/* Floats that kernels may use in `scratch`: the largest of what they say beside its use. */
static inline size_t micro_scratch(uint32_t dim, uint32_t heads)
{
	size_t rows = (size_t)TILE_TOKENS * tile_padded(dim);
	size_t weights = (MICRO_BLOCK + 8) * (size_t)codec_groups(dim);
	return rows + (weights + MICRO_BLOCK) * heads + 64;
}

/* Any format: tiles decoded by tile_decode. */
micro_qk micro_plain_qk;
micro_pv micro_plain_pv;

/* For kernels: `call(n)` for n heads from h on, n a constant: 4 as long as there are 4, then the rest. */
#define BY_FOUR(heads, call)                                                                                         \
	for (uint32_t h = 0; h < (heads); h += 4) {                                                                  \
		switch ((heads)-h) {                                                                                 \
		case 1:                                                                                              \
			call(1);                                                                                     \
			break;                                                                                       \
		case 2:                                                                                              \
			call(2);                                                                                     \
			break;                                                                                       \
		case 3:                                                                                              \
			call(3);                                                                                     \
			break;                                                                                       \
		default:                                                                                             \
			call(4);                                                                                     \
		}                                                                                                    \
	}

extern const struct micro_kernels micro_scalar, micro_avx2, micro_avx512, micro_avx512vbmi, micro_avx512bf16;
/* The same, fetching into the second-level cache (quant/fetch.h). */
extern const struct micro_kernels micro_avx2_far, micro_avx512_far, micro_avx512vbmi_far, micro_avx512bf16_far;

#endif

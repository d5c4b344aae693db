/* Kernels for many query rows that share a KV head (prefill; MLA, where all heads do): matrix products of panels.
 *
 * Query rows lie in panels of 16, a lane each, so that scores of a token are whole registers of rows, their softmax
 * needs no sum across lanes, and K is read row by row as it is decoded. Weighted sums have channels in lanes. */
#ifndef QUANT_WIDE_H
#define QUANT_WIDE_H

#include "quant/tile.h"

#define WIDE_ROWS   16 /* query rows of a panel */
#define WIDE_PANELS 4  /* most panels of one call of `scores` */

/* Channels to which rows of K and V, and of sums, are padded. */
#define WIDE_PAD 16

/* The softmax of a panel's rows so far: shift is the largest score, sum of exp(score - shift) */
struct wide_softmax {
	float shift[WIDE_ROWS], factor[WIDE_ROWS]; /* factor: what sums before the block are to be multiplied with */
	double sum[WIDE_ROWS];
};

/* A tile's values as tile_decode gives them, as far as t->rows; up to the padded channels anything may be written. */
typedef void wide_decode(const struct tile_shape *shape, bool v, const struct tile *t, float *rows, size_t stride);

/* From how many rows of one KV head on this is faster than the kernels of micro.h, by the format of the pages: where
 * V has its own rows, and where it aliases K, which is decoded once here and twice there. Measured
 * (docs/results/cpu.md, "Many query rows a KV head"). */
#define WIDE_NEVER UINT16_MAX
struct wide_least {
	uint16_t own, alias;
};

struct wide_kernels {
	struct wide_least least[TILE_FORMS];
	/* Is every value times scale finite? */
	bool (*finite)(const float *x, size_t n, float scale);
	/* to[d][row] = scale · rows[row][d]: a panel of 16 rows of dim channels */
	void (*pack)(const float *const rows[WIDE_ROWS], uint32_t dim, float scale, float *to);
	/* s[p][t][row] = q_p,row · k_t for `panels` panels: q [panels][dim][16], panels q_step apart; k [n][k_step];
	 * s [panels][.][16], s_step apart. */
	void (*scores)(const float *q, size_t q_step, uint32_t panels, const float *k, size_t k_step, uint32_t n,
		       uint32_t dim, float *s, size_t s_step);
	/* Scores s [n][16] of a panel to weights, in place. Those of tokens beyond a row's limit become 0 where
	 * `limits` is given: token t lies at position positions[t], row r sees up to limits[r]. +inf and NaN count as
	 * 3e38. False: all factors are 1. */
	int (*weigh)(float *s, uint32_t n, const uint32_t *positions, const uint32_t *limits, struct wide_softmax *x);
	/* acc[row] += sum over t of w[t][row] · v_t, 16 rows, channels [0, dim); w [n][16], v [n][v_step], acc
	 * [16][acc_step]; dim a multiple of WIDE_PAD. */
	void (*sums)(const float *w, uint32_t n, const float *v, size_t v_step, uint32_t dim, float *acc,
		     size_t acc_step);
	/* total[row] = sum over t of w[t][row] */
	void (*add)(const float *w, uint32_t n, float *total);
	wide_decode *const *decode; /* [TILE_FORMS], NULL where tile_decode is all there is; may itself be NULL */
};

extern wide_decode *const wide_decode_avx2[TILE_FORMS], *const wide_decode_avx512[TILE_FORMS];
extern const struct wide_kernels wide_scalar, wide_avx2, wide_avx512;

#endif

/* Scorers: query × block (or page) summaries → scores. One file per policy behind one table. */
#ifndef INTENTKV_SCORER_H
#define INTENTKV_SCORER_H

#include "exact.h"
#include "layout.h"
#include "option.h"

/* What the scores are made from. One entry per unit to score. */
struct ikv_score_unit {
	uint32_t seq, layer;
	uint32_t q_first, q_count;  /* the query heads that share the scores */
	const float *q;             /* [q_count][d_qk] */
	const struct ikv_exact *kv; /* keys and their page summaries */
	struct ikv_layout *layout;  /* in: blocks; out: score and has_score of ATTEND and SKIP blocks */
	float *page_scores;         /* out: [pages], or NULL if not wanted */
	const float *given;         /* [pages] page scores that the backend made (ikv_select_unit), or NULL: from kv */
};

struct ikv_scorer_ops {
	const char *name, *summary;
	const struct ikv_option *options;
	size_t config_bytes;
	int (*create)(void **state, const void *config, const struct ikv_geometry *geometry, uint32_t sequences,
		      struct ikv_err *err);
	void (*destroy)(void *state);
	int (*score)(void *state, struct ikv_score_unit *units, uint32_t count, struct ikv_err *err);
	/* A sequence ended or lost its tail: drop what was cached beyond `tokens`. */
	void (*forget)(void *state, uint32_t seq, uint32_t tokens);
	/* What it fills page_scores with, or takes where a backend has made them. */
	enum ikv_page_score page_scores;
};

IKV_API const struct ikv_scorer_ops *const *ikv_scorers(void); /* NULL-terminated */
IKV_API const struct ikv_scorer_ops *ikv_scorer_find(const char *name);

/* Quest upper bound of a page: max over its tokens of q·k is at most sum_d max(q_d·min_d, q_d·max_d)
 * (Tang et al. 2024, arXiv 2406.10774). ends: minimum and maximum, FP16 [2][dim], as ikv_exact_kmin gives them. Fixed
 * lanes. */
IKV_API float ikv_quest_bound(const float *q, const uint16_t *ends, uint32_t dim);

/* Cosine of the query `q` [dim], whose length is `length`, and a page's mean key over `kv_count` KV heads, clamped to
 * [0, 1]; 0 where one of them is zero. sums: ikv_exact_ksum of the page and the first head; those of the others follow
 * `stride` floats apart. Double precision in eight lanes, lane i taking channels i, i + 8, …, products and sums apart, lanes
 * folded 8 → 4 → 2 → 1: the same bits everywhere. */
IKV_API float ikv_page_cosine(const double *q, double length, const float *sums, size_t stride, uint32_t kv_count,
			      uint32_t dim);

#endif

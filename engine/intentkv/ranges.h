/* Attention over token ranges of a sequence whose K and V lie in the caller's memory: no pages, no copy.
 *
 * For K and V that somebody else keeps, and for a selection that no page boundary should widen. The kernels are those
 * of the CPU backend, straight from rows of FP16 or float. */
#ifndef INTENTKV_RANGES_H
#define INTENTKV_RANGES_H

#include "attn.h"

struct ikv_ranges; /* threads and working memory, kept between calls; one thread at a time uses it */

/* K and V of one sequence, finite numbers, borrowed for the call. Row t of KV head h begins at
 * k + t · k_token + h · k_head, in values: [tokens][heads][d] has {heads · d, d}, [heads][tokens][d] has {d, tokens ·
 * d}.
 */
struct ikv_rows {
	const void *k, *v; /* v is not looked at where V aliases K */
	bool is_float;     /* float, else FP16 */
	uint32_t tokens;
	size_t k_token, k_head, v_token, v_head;
};

struct ikv_range { /* tokens [lo, hi) */
	uint32_t lo, hi;
};

struct ikv_ranges_call {
	struct ikv_rows rows;
	const struct ikv_range *ranges; /* ascending, disjoint, none empty; none at all: zeros and lse = -inf */
	uint32_t count, q_len;
	const float *q; /* [q_len][q_heads][d_qk] */
	/* [q_len]: query i sees tokens up to and including this one only, whatever ranges hold beyond. NULL: all. */
	const uint32_t *position;
	float *out;  /* [q_len][q_heads][d_v] */
	float *lse;  /* [q_len][q_heads], or NULL */
	float *mass; /* [q_len][q_heads][count] share of the softmax that each range received, or NULL */
};

/* Of the geometry heads, dimensions, aliasing and scale count; of the config threads and ISA. */
IKV_API int ikv_ranges_create(struct ikv_ranges **out, const struct ikv_geometry *geometry,
			      const struct ikv_backend_config *config, struct ikv_err *err);
IKV_API void ikv_ranges_destroy(struct ikv_ranges *r);
IKV_API int ikv_ranges_attend(struct ikv_ranges *r, const struct ikv_ranges_call *call, struct ikv_err *err);

#endif

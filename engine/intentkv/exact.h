/* Exact K and V of running sequences, in FP16 as the source gave them, page by page.
 *
 * This is the measuring instrument, not the simulated memory: the dense reference,
 * the true attention mass, block and page scores and refetched pages come from here,
 * while the backend under test reads its own, really compressed pages.
 *
 * Layout of a page of one layer: K [kv_heads][page_tokens][d_qk], then
 * V [kv_heads][page_tokens][d_v] unless V aliases K. Tokens beyond the context are zero. */
#ifndef INTENTKV_EXACT_H
#define INTENTKV_EXACT_H

#include <stdbool.h>
#include <stdint.h>
#include "error.h"

/* What a model's attention looks like; shared by the exact store and all backends.
 * MLA is kv_heads 1, d_qk 576, d_v 512 with V being the first d_v channels of K. */
struct ikv_geometry {
	uint32_t layers;            /* executed ones */
	uint32_t q_heads, kv_heads; /* q_heads a multiple of kv_heads */
	uint32_t d_qk, d_v;
	bool v_aliases_k;
	uint32_t page_tokens;
	float scale; /* of the scores; 1/sqrt(d_qk) usually */
};

/* What scores a page has by itself, whatever blocks it holds. */
enum ikv_page_score {
	IKV_PAGE_UNSCORED,
	IKV_PAGE_BOUND,  /* ikv_quest_bound, the largest over the query heads (scorer `quest`) */
	IKV_PAGE_COSINE, /* ikv_page_cosine of the sum over the query heads (scorer `cosine`) */
};

struct ikv_exact;

IKV_API int ikv_exact_create(struct ikv_exact **out, const struct ikv_geometry *geometry, uint32_t sequences,
			     struct ikv_err *err);
IKV_API void ikv_exact_destroy(struct ikv_exact *x);
IKV_API const struct ikv_geometry *ikv_exact_geometry(const struct ikv_exact *x);
/* Threads of the calls below and of scorers that read the store; 0: the machine's cores. One until this is called. */
IKV_API void ikv_exact_set_threads(struct ikv_exact *x, uint32_t threads);

/* Append FP16 rows k [tokens][kv_heads][d_qk], v [tokens][kv_heads][d_v]. Also keeps, per page, layer and
 * KV head, the per-channel minimum and maximum and the sum of the keys (Quest bounds, block means). */
IKV_API int ikv_exact_append(struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
			     const uint16_t *v, struct ikv_err *err);
IKV_API int ikv_exact_truncate(struct ikv_exact *x, uint32_t seq, uint32_t tokens, struct ikv_err *err);
IKV_API void ikv_exact_release(struct ikv_exact *x, uint32_t seq);
IKV_API uint32_t ikv_exact_tokens(const struct ikv_exact *x, uint32_t seq, uint32_t layer);

/* One page of one layer in the layout above. */
IKV_API const uint16_t *ikv_exact_page(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page);
/* Rows of one KV head in a page: [page_tokens][d]. Where V aliases K both are K's, [page_tokens][d_qk]. */
IKV_API const uint16_t *ikv_exact_k(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
				    uint32_t kv_head);
IKV_API const uint16_t *ikv_exact_v(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
				    uint32_t kv_head);
/* Per-channel minimum and maximum of a page's keys, FP16 [d_qk] each. The maximum follows the minimum, and the same of
 * the head's next page follows both, up to a page whose number is a multiple of IKV_SUMMARY_PAGES. */
#define IKV_SUMMARY_PAGES 16
IKV_API const uint16_t *ikv_exact_kmin(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
				       uint32_t kv_head);
IKV_API const uint16_t *ikv_exact_kmax(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
				       uint32_t kv_head);
/* Per-channel sum of a page's keys, float [d_qk]. */
IKV_API const float *ikv_exact_ksum(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
				    uint32_t kv_head);

/* True softmax mass of every page: mass [q_count][pages], each row summing to 1, for the query rows
 * q [q_count][d_qk] of heads q_first …. Fixed-lane arithmetic: the same bits on every ISA and thread count. */
IKV_API int ikv_exact_mass(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t q_first,
			   uint32_t q_count, const float *q, float *mass, struct ikv_err *err);

/* Softmax mass of each token of a page, mean over the query rows, whose log-sum-exp is lse [q_count]: mass [tokens of
 * the page]. Fixed lanes; IKV_FAILED for a page that is not there. */
IKV_API int ikv_exact_token_mass(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t page,
				 uint32_t q_first, uint32_t q_count, const float *q, const float *lse, float *mass,
				 struct ikv_err *err);

/* Kullback-Leibler divergence (nat) of masses p from d [n], sum of p log(p/d); d counts as 1e-30 at least, and what is
 * below 1e-30 of p as nothing. Fixed lanes; error about 1e-7. */
IKV_API float ikv_mass_divergence(const float *p, const float *d, uint32_t n);

/* Dense attention over the whole context: out [q_count][d_v], lse [q_count] (may be NULL), mass
 * [q_count][pages] (may be NULL). Fast kernels; float accumulation. */
IKV_API int ikv_exact_dense(const struct ikv_exact *x, uint32_t seq, uint32_t layer, uint32_t q_first,
			    uint32_t q_count, const float *q, float *out, float *lse, float *mass,
			    struct ikv_err *err);

#endif

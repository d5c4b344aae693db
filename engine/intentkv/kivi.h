/* A KV cache in the KIVI scheme (Liu et al. 2024, arXiv 2402.02750) with its window of exact tokens: of K the newest
 * (length mod residual) tokens, of V the newest `residual` ones are FP16; the others are KIVI8, KIVI4 or KIVI2, K in
 * groups of 32 tokens a channel, V in groups of 32 channels a token. For one sequence, whose tokens come one by one
 * or many at a time. Unlike KIVI pages of a backend it needs no exact copy elsewhere and re-encodes nothing. */
#ifndef INTENTKV_KIVI_H
#define INTENTKV_KIVI_H

#include "cost.h"
#include "exact.h"
#include "format.h"

struct ikv_kivi;

/* bits 2, 4 or 8; group 32; residual 32, 64, 96 or 128. Pages of the geometry play no part; V must not alias K.
 * isa: "auto", "scalar", … as for a backend. */
IKV_API int ikv_kivi_create(struct ikv_kivi **out, const struct ikv_geometry *g, const struct ikv_kivi_config *config,
			    const char *isa, struct ikv_err *err);
IKV_API void ikv_kivi_destroy(struct ikv_kivi *s);

/* Append FP16 rows k [tokens][kv_heads][d_qk], v [tokens][kv_heads][d_v] to a layer. */
IKV_API int ikv_kivi_append(struct ikv_kivi *s, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
			    struct ikv_err *err);
IKV_API uint32_t ikv_kivi_tokens(const struct ikv_kivi *s, uint32_t layer);
/* Bytes of codes, scales, zeros and FP16 rows, all layers; what ikv_kivi_bytes says of so many tokens where a row of
 * codes fills its bytes. */
IKV_API uint64_t ikv_kivi_stored(const struct ikv_kivi *s);

/* Rows [first, first + count) of K or V of a KV head as they are stored, in float [count][d]. */
IKV_API int ikv_kivi_read(const struct ikv_kivi *s, uint32_t layer, uint32_t kv_head, enum ikv_side side,
			  uint32_t first, uint32_t count, float *rows, struct ikv_err *err);

/* softmax(scale · q Kᵀ) V over all tokens of a layer for query heads [q_first, q_first + q_count): q [q_count][d_qk],
 * out [q_count][d_v], lse [q_count] or NULL. One thread. No token: zeros and -inf. */
IKV_API int ikv_kivi_attend(struct ikv_kivi *s, uint32_t layer, uint32_t q_first, uint32_t q_count, const float *q,
			    float *out, float *lse, struct ikv_err *err);

/* Signal to noise, 10 log10(sum of x² / sum of (x - stored)²) in dB, of channels [32 group, 32 group + 32) of K or V
 * of one layer and KV head, over all tokens encoded so far. +inf without noise, NaN where nothing was encoded. */
IKV_API double ikv_kivi_snr(const struct ikv_kivi *s, uint32_t layer, uint32_t kv_head, enum ikv_side side,
			    uint32_t group);

#endif

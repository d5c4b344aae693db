/* SpecAttn: which blocks stay selected between verifications, and speculative acceptance. */
#ifndef INTENTKV_SPECATTN_H
#define INTENTKV_SPECATTN_H

#include "layout.h"
#include "option.h"
#include "rng.h"

struct ikv_specattn_config {
	bool enabled;
	double alpha;         /* 0.1: weight of the newest verification in the EMA */
	int64_t top_k_blocks; /* 8 */
	int64_t gamma;        /* 4: draft tokens between verifications */
	bool greedy;          /* accept while argmax agrees */
};
IKV_API extern const struct ikv_option ikv_specattn_options[];

struct ikv_specattn;
IKV_API int ikv_specattn_create(struct ikv_specattn **out, const struct ikv_specattn_config *config,
				uint32_t sequences, struct ikv_err *err);
IKV_API void ikv_specattn_destroy(struct ikv_specattn *s);
/* A verification saw `mass[i]` on layout block i: update the EMAs (keyed by block uid) and choose the
 * top_k_blocks ATTEND blocks. */
IKV_API int ikv_specattn_verify(struct ikv_specattn *s, uint32_t seq, const struct ikv_layout *layout,
				const double *mass, struct ikv_err *err);
/* Is this block kept until the next verification? Blocks that are not ATTEND and blocks born since are. */
IKV_API bool ikv_specattn_keeps(const struct ikv_specattn *s, uint32_t seq, const struct ikv_block *block);
IKV_API double ikv_specattn_ema(const struct ikv_specattn *s, uint32_t seq, uint64_t uid); /* NaN if unknown */
IKV_API void ikv_specattn_forget(struct ikv_specattn *s, uint32_t seq);
IKV_API size_t ikv_specattn_save(const struct ikv_specattn *s, void *buffer, size_t size);
IKV_API int ikv_specattn_load(struct ikv_specattn *s, const void *buffer, size_t size, struct ikv_err *err);

/* Speculative sampling (Leviathan et al. 2023; Chen et al. 2023). p [gamma+1][vocab] target rows, q
 * [gamma][vocab] draft rows, drafted [gamma]. Writes up to gamma+1 tokens; *accepted counts accepted
 * draft tokens only (not the corrected or bonus one). */
IKV_API int ikv_speculative_accept(const double *p, const double *q, const uint32_t *drafted, uint32_t gamma,
				   uint32_t vocab, bool greedy, struct ikv_rng *rng, uint32_t *tokens,
				   uint32_t *token_count, uint32_t *accepted, struct ikv_err *err);
IKV_API double ikv_speculative_alpha(const double *p, const double *q, uint32_t vocab); /* sum min(p, q) */
IKV_API double ikv_speculative_tokens(double alpha, uint32_t gamma);                    /* E[tokens per round] */
IKV_API double ikv_speculative_speedup(double alpha, uint32_t gamma, double draft_cost, double verify_cost);

#endif

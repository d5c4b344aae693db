/* Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1): pages hold a latent and a rotated key a
 * token, which all heads share.
 *
 * Head h has keys [W_UK_h c ‖ k_rope] and values W_UV_h c of the latent c. Decoding does not make them: with queries
 * absorbed, (q_nope_h W_UK_h)·c + q_rope_h·k_rope is the score, and W_UV_h is applied to the softmax's mean of
 * latents. To a backend that is one KV head of d_c + d_rope channels whose first d_c are its V, so any backend that
 * takes such a geometry decodes it, over selected pages and in any format that it stores.
 *
 * Weights are FP16: no BF16 number between 2^-14 and 65504 loses a bit by it. */
#ifndef INTENTKV_MLA_H
#define INTENTKV_MLA_H

#include "attn.h"
#include "rope.h"

struct ikv_mla; /* threads and working memory, kept between calls; one thread at a time uses it */

struct ikv_mla_shape {
	uint32_t heads;
	uint32_t d_nope; /* channels of a head's query without position */
	uint32_t d_rope; /* with it; even */
	uint32_t d_c;    /* of the latent */
	uint32_t d_v;    /* of a head's output */
};

struct ikv_mla_weights {    /* of one layer; borrowed */
	const uint16_t *uk; /* [heads][d_nope][d_c] */
	const uint16_t *uv; /* [heads][d_v][d_c] */
	const uint16_t *o;  /* [model][heads · d_v], NULL if ikv_mla_output is not called */
	uint32_t model;     /* channels of the residual stream */
};

/* A sequence that decodes a token. */
struct ikv_mla_unit {
	uint32_t seq;
	uint32_t position; /* of the token */
	const struct ikv_plan *plan;
	const float *q; /* [heads][d_nope + d_rope], not rotated */
	float *out;     /* [heads][d_v] */
	float *lse;     /* [heads], or NULL */
	float *mass;    /* [heads][plan->count], or NULL */
};

/* The scale is 1/sqrt(d_nope + d_rope). YaRN multiplies it by the square of its attention factor, as DeepSeek's
 * models do, instead of scaling what is rotated: the position-free part of the scores is stretched too. threads 0: as
 * many as online cores. */
IKV_API int ikv_mla_create(struct ikv_mla **out, const struct ikv_mla_shape *shape,
			   const struct ikv_rope_config *rope, uint32_t threads, struct ikv_err *err);
IKV_API void ikv_mla_destroy(struct ikv_mla *m);
/* What to open a backend with. */
IKV_API void ikv_mla_geometry(const struct ikv_mla *m, uint32_t layers, uint32_t page_tokens,
			      struct ikv_geometry *out);
/* Formats that latents are kept in: FP16, FP8 and INT8. Four bits of a latent cost every head's keys and values. */
IKV_API bool ikv_mla_stores(enum ikv_format f);

/* What to append: latents c [tokens][d_c] and keys k_rope [tokens][d_rope], not rotated, at position[tokens], to FP16
 * rows [tokens][d_c + d_rope]. */
IKV_API int ikv_mla_rows(struct ikv_mla *m, uint32_t tokens, const float *c, const float *k_rope,
			 const uint32_t *position, uint16_t *rows, struct ikv_err *err);

/* The products alone, of `count` sequences: weights are read once for all of them. The same bits on every ISA and
 * thread count (absorbed queries feed scores). */
/* q [count][heads][d_nope + d_rope] at position[count] → latent [count][heads][d_c + d_rope] */
IKV_API int ikv_mla_absorb(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count, const float *q,
			   const uint32_t *position, float *latent, struct ikv_err *err);
/* context [count][heads][d_c] → out [count][heads][d_v] */
IKV_API int ikv_mla_project(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count, const float *context,
			    float *out, struct ikv_err *err);
/* out [count][heads · d_v] → y [count][model] by W_O */
IKV_API int ikv_mla_output(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count, const float *out,
			   float *y, struct ikv_err *err);

/* Absorb, decode by the backend, project. */
IKV_API int ikv_mla_decode(struct ikv_mla *m, const struct ikv_mla_weights *w, struct ikv_backend *backend,
			   uint32_t layer, const struct ikv_mla_unit *units, uint32_t count, struct ikv_err *err);

/* The yardstick: keys and values of every head and token made, softmax in double precision. rows [tokens][d_c +
 * d_rope] as decoded from their pages, plan NULL: all tokens; q [heads][d_nope + d_rope], out [heads][d_v], lse
 * [heads]. */
IKV_API int ikv_mla_reference(const struct ikv_mla *m, const struct ikv_mla_weights *w, const float *rows,
			      uint32_t tokens, const struct ikv_plan *plan, const float *q, uint32_t position,
			      double *out, double *lse, struct ikv_err *err);

#endif

/* Inside of the MLA object, shared by its files. */
#ifndef MLA_MLA_PARTS_H
#define MLA_MLA_PARTS_H

#include "attn/crew.h"
#include "intentkv/mla.h"

struct ikv_mla {
	struct ikv_mla_shape s;
	double *inv_freq; /* [d_rope / 2] */
	double factor;    /* of YaRN, 1 otherwise */
	struct crew *crew;
	float *turned;      /* [heads][d_rope] */
	uint32_t *position; /* [heads] the same one for all */
	float *latent, *context;
	struct ikv_attn_unit *units;
	const float **in; /* [count] of the call now running, and where its results go */
	float **to;
	size_t latent_cap, context_cap, units_cap, in_cap, to_cap;
};

static inline uint32_t mla_query_dim(const struct ikv_mla *m)
{
	return m->s.d_nope + m->s.d_rope;
}

static inline uint32_t mla_row_dim(const struct ikv_mla *m)
{
	return m->s.d_c + m->s.d_rope;
}

/* Softmax scale, see mla.h. */
double mla_scale(const struct ikv_mla *m);

#endif

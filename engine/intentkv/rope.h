/* Rotary position embedding (Su et al. 2021), half-split rotation, with Llama-3 and YaRN frequency scaling. */
#ifndef INTENTKV_ROPE_H
#define INTENTKV_ROPE_H

#include <stdint.h>
#include "option.h"

enum ikv_rope_scaling { IKV_ROPE_PLAIN, IKV_ROPE_LLAMA3, IKV_ROPE_YARN };

struct ikv_rope_config {
	double base;                                      /* theta */
	int scaling;                                      /* enum ikv_rope_scaling */
	double factor, low_freq_factor, high_freq_factor; /* llama3 */
	double original_context;                          /* llama3, yarn: tokens */
	double beta_fast, beta_slow;                      /* yarn */
};
IKV_API extern const struct ikv_option ikv_rope_options[];

/* inv_freq [dim/2] for an even dim; *attention_factor is YaRN's scale of the rotated vectors, else 1. */
IKV_API int ikv_rope_frequencies(const struct ikv_rope_config *config, uint32_t dim, double *inv_freq,
				 double *attention_factor, struct ikv_err *err);
/* Rotate x [rows][dim] in place; row r is at position[r]. */
IKV_API void ikv_rope_apply(float *x, uint32_t rows, uint32_t dim, const uint32_t *position, const double *inv_freq,
			    double attention_factor);

#endif

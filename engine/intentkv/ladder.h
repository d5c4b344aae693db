/* The precision ladder (quantizer): block policy × score band × memory pressure
 * → format, as data. The first rule that matches decides. */
#ifndef INTENTKV_LADDER_H
#define INTENTKV_LADDER_H

#include "format.h"
#include "layout.h"

#define IKV_ANY (-1)

enum ikv_score_band { IKV_BAND_NONE, IKV_BAND_LOW, IKV_BAND_MEDIUM, IKV_BAND_HIGH }; /* NONE: no score */

struct ikv_ladder_rule {
	int policy;            /* enum ikv_policy or IKV_ANY */
	int kind;              /* enum ikv_kind or IKV_ANY */
	int band;              /* enum ikv_score_band or IKV_ANY */
	int preserved;         /* 1: only if the policy's preserve flag is set, 0: only if not, IKV_ANY */
	double pressure_above; /* the rule holds when pressure > this; negative: always */
	enum ikv_format format;
};

struct ikv_ladder {
	const char *name;
	const char *summary;
	double high, medium; /* score thresholds of the bands: score >= high is HIGH */
	bool preserve_system, preserve_recent;
	const struct ikv_ladder_rule *rules;
	uint32_t count;
};

/* Presets: seed (SEMANTICS' table), conservative, balanced, aggressive, latent (for MLA), and
 * the uniform fp16, fp8, int8, int4, int4_residual. NULL-terminated table. */
IKV_API const struct ikv_ladder *const *ikv_ladder_presets(void);
IKV_API const struct ikv_ladder *ikv_ladder_find(const char *name);

/* Format for a block at `pressure` in [0,1]. A ladder must decide every case:
 * ikv_ladder_check says which case has no rule. */
IKV_API enum ikv_format ikv_ladder_format(const struct ikv_ladder *ladder, const struct ikv_block *block,
					  double pressure);
IKV_API int ikv_ladder_check(const struct ikv_ladder *ladder, struct ikv_err *err);

#endif

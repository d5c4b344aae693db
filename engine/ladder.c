#include <string.h>
#include "intentkv/ladder.h"

#define RULE(policy_, band_, preserved_, above_, format_)                                                            \
	{                                                                                                            \
		.policy = policy_, .kind = IKV_ANY, .band = band_, .preserved = preserved_,                          \
		.pressure_above = above_, .format = IKV_FMT_##format_                                                \
	}
#define ALL   IKV_ANY
#define NEVER (-1.0) /* below every pressure: the rule always holds */

/* The table of the reference semantics, row by row. */
static const struct ikv_ladder_rule seed_rules[] = {
    RULE(IKV_GLOBAL, ALL, 1, 0.8, INT8),
    RULE(IKV_GLOBAL, ALL, 1, NEVER, FP16),
    RULE(IKV_GLOBAL, ALL, 0, 0.9, INT8),
    RULE(IKV_GLOBAL, ALL, 0, 0.7, FP8),
    RULE(IKV_GLOBAL, ALL, 0, NEVER, FP16),
    RULE(IKV_ALWAYS, ALL, ALL, 0.9, INT8),
    RULE(IKV_ALWAYS, ALL, ALL, 0.7, FP8),
    RULE(IKV_ALWAYS, ALL, ALL, NEVER, FP16),
    RULE(IKV_RECENT, ALL, 1, 0.8, INT8),
    RULE(IKV_RECENT, ALL, 1, NEVER, FP8),
    RULE(IKV_RECENT, ALL, 0, 0.6, INT4_RESIDUAL),
    RULE(IKV_RECENT, ALL, 0, NEVER, INT8),
    RULE(IKV_ATTEND, IKV_BAND_NONE, ALL, 0.5, INT8),
    RULE(IKV_ATTEND, IKV_BAND_NONE, ALL, NEVER, FP16),
    RULE(IKV_ATTEND, IKV_BAND_HIGH, ALL, 0.8, INT8),
    RULE(IKV_ATTEND, IKV_BAND_HIGH, ALL, 0.5, FP8),
    RULE(IKV_ATTEND, IKV_BAND_HIGH, ALL, NEVER, INT8),
    RULE(IKV_ATTEND, IKV_BAND_MEDIUM, ALL, 0.6, INT4),
    RULE(IKV_ATTEND, IKV_BAND_MEDIUM, ALL, NEVER, INT4_RESIDUAL),
    RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, 0.3, SKIP),
    RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, NEVER, INT4),
    RULE(IKV_SKIP_BLOCK, ALL, ALL, NEVER, SKIP),
};

/* Never below INT8 and nothing ranked is dropped before the fast tier is nearly full. */
static const struct ikv_ladder_rule conservative_rules[] = {
    RULE(IKV_ALWAYS, ALL, ALL, NEVER, FP16),        RULE(IKV_GLOBAL, ALL, ALL, NEVER, FP16),
    RULE(IKV_RECENT, ALL, ALL, 0.8, INT8),          RULE(IKV_RECENT, ALL, ALL, NEVER, FP16),
    RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, 0.9, SKIP), RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, NEVER, INT8),
    RULE(IKV_ATTEND, ALL, ALL, 0.5, INT8),          RULE(IKV_ATTEND, ALL, ALL, NEVER, FP16),
    RULE(IKV_SKIP_BLOCK, ALL, ALL, NEVER, SKIP),
};

/* Precision follows the score at all pressures: INT8 for what matters, INT4 forms below it. */
static const struct ikv_ladder_rule balanced_rules[] = {
    RULE(IKV_ALWAYS, ALL, ALL, 0.7, INT8),          RULE(IKV_ALWAYS, ALL, ALL, NEVER, FP16),
    RULE(IKV_GLOBAL, ALL, ALL, 0.7, INT8),          RULE(IKV_GLOBAL, ALL, ALL, NEVER, FP16),
    RULE(IKV_RECENT, ALL, ALL, NEVER, INT8),        RULE(IKV_ATTEND, IKV_BAND_MEDIUM, ALL, 0.5, INT4_RESIDUAL),
    RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, 0.6, SKIP), RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, NEVER, INT4),
    RULE(IKV_ATTEND, ALL, ALL, NEVER, INT8),        RULE(IKV_SKIP_BLOCK, ALL, ALL, NEVER, SKIP),
};

/* Smallest memory: pins in INT8, ranked blocks in INT4, low scores are never read. */
static const struct ikv_ladder_rule aggressive_rules[] = {
    RULE(IKV_ALWAYS, ALL, ALL, NEVER, INT8),          RULE(IKV_GLOBAL, ALL, ALL, NEVER, INT8),
    RULE(IKV_RECENT, ALL, ALL, 0.5, INT4_RESIDUAL),   RULE(IKV_RECENT, ALL, ALL, NEVER, INT8),
    RULE(IKV_ATTEND, IKV_BAND_HIGH, ALL, 0.5, INT4),  RULE(IKV_ATTEND, IKV_BAND_HIGH, ALL, NEVER, INT4_RESIDUAL),
    RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, NEVER, SKIP), RULE(IKV_ATTEND, ALL, ALL, NEVER, INT4),
    RULE(IKV_SKIP_BLOCK, ALL, ALL, NEVER, SKIP),
};

/* The reference table with FP8 in place of four bits, for latents (MLA). */
static const struct ikv_ladder_rule latent_rules[] = {
    RULE(IKV_GLOBAL, ALL, 1, 0.8, INT8),
    RULE(IKV_GLOBAL, ALL, 1, NEVER, FP16),
    RULE(IKV_GLOBAL, ALL, 0, 0.7, INT8),
    RULE(IKV_GLOBAL, ALL, 0, NEVER, FP16),
    RULE(IKV_ALWAYS, ALL, ALL, 0.7, INT8),
    RULE(IKV_ALWAYS, ALL, ALL, NEVER, FP16),
    RULE(IKV_RECENT, ALL, ALL, 0.8, INT8),
    RULE(IKV_RECENT, ALL, ALL, NEVER, FP16),
    RULE(IKV_ATTEND, IKV_BAND_NONE, ALL, 0.5, INT8),
    RULE(IKV_ATTEND, IKV_BAND_NONE, ALL, NEVER, FP16),
    RULE(IKV_ATTEND, IKV_BAND_HIGH, ALL, NEVER, INT8),
    RULE(IKV_ATTEND, IKV_BAND_LOW, ALL, 0.3, SKIP),
    RULE(IKV_ATTEND, ALL, ALL, NEVER, FP8),
    RULE(IKV_SKIP_BLOCK, ALL, ALL, NEVER, SKIP),
};

#define UNIFORM(name_, format_)                                                                                      \
	static const struct ikv_ladder_rule name_##_rules[] = {                                                      \
	    RULE(IKV_SKIP_BLOCK, ALL, ALL, NEVER, SKIP),                                                             \
	    RULE(ALL, ALL, ALL, NEVER, format_),                                                                     \
	};
UNIFORM(fp16, FP16)
UNIFORM(fp8, FP8)
UNIFORM(int8, INT8)
UNIFORM(int4, INT4)
UNIFORM(int4_residual, INT4_RESIDUAL)
UNIFORM(bf16, BF16)
UNIFORM(kivi8, KIVI8)
UNIFORM(kivi4, KIVI4)
UNIFORM(kivi2, KIVI2)
UNIFORM(sparse, SPARSE)

#define PRESET(name_, summary_)                                                                                      \
	static const struct ikv_ladder name_ = {.name = #name_,                                                      \
						.summary = summary_,                                                 \
						.high = 0.75,                                                        \
						.medium = 0.40,                                                      \
						.preserve_system = true,                                             \
						.preserve_recent = true,                                             \
						.rules = name_##_rules,                                              \
						.count = sizeof name_##_rules / sizeof *name_##_rules};
PRESET(seed, "the reference table: pins FP16, recent FP8, ranked blocks by score and pressure")
PRESET(conservative, "never below INT8; low scores are dropped only above pressure 0.9")
PRESET(balanced, "INT8 for high scores and recent tokens, INT4 forms below; low scores dropped above 0.6")
PRESET(aggressive, "pins INT8, ranked blocks INT4; low scores are never read")
PRESET(latent, "for latent pages (MLA): pins and recent FP16, ranked blocks INT8 and FP8 by score and pressure")
PRESET(fp16, "everything that is read is FP16")
PRESET(fp8, "everything that is read is FP8")
PRESET(int8, "everything that is read is INT8")
PRESET(int4, "everything that is read is INT4")
PRESET(int4_residual, "everything that is read is INT4_RESIDUAL")
PRESET(bf16, "everything that is read is BF16")
PRESET(kivi8, "everything that is read is KIVI8")
PRESET(kivi4, "everything that is read is KIVI4")
PRESET(kivi2, "everything that is read is KIVI2")
PRESET(sparse, "everything that is read is SPARSE")

static const struct ikv_ladder *const presets[] = {&seed,  &conservative, &balanced, &aggressive,    &latent, &fp16,
						   &fp8,   &int8,         &int4,     &int4_residual, &bf16,
						   &kivi8, &kivi4,        &kivi2,    &sparse,        NULL};

const struct ikv_ladder *const *ikv_ladder_presets(void)
{
	return presets;
}

const struct ikv_ladder *ikv_ladder_find(const char *name)
{
	for (const struct ikv_ladder *const *l = presets; *l; l++)
		if (!strcmp((*l)->name, name))
			return *l;
	return NULL;
}

static enum ikv_score_band band_of(const struct ikv_ladder *l, const struct ikv_block *b)
{
	if (!b->has_score)
		return IKV_BAND_NONE;
	return b->score >= l->high ? IKV_BAND_HIGH : b->score >= l->medium ? IKV_BAND_MEDIUM : IKV_BAND_LOW;
}

static const struct ikv_ladder_rule *find_rule(const struct ikv_ladder *l, int policy, int kind, int band,
					       bool preserved, double pressure)
{
	for (uint32_t i = 0; i < l->count; i++) {
		const struct ikv_ladder_rule *r = &l->rules[i];
		if ((r->policy == IKV_ANY || r->policy == policy) && (r->kind == IKV_ANY || r->kind == kind) &&
		    (r->band == IKV_ANY || r->band == band) &&
		    (r->preserved == IKV_ANY || r->preserved == (int)preserved) && pressure > r->pressure_above)
			return r;
	}
	return NULL;
}

enum ikv_format ikv_ladder_format(const struct ikv_ladder *l, const struct ikv_block *b, double pressure)
{
	bool preserved =
	    (b->policy == IKV_GLOBAL && l->preserve_system) || (b->policy == IKV_RECENT && l->preserve_recent);
	const struct ikv_ladder_rule *r =
	    find_rule(l, (int)b->policy, (int)b->kind, (int)band_of(l, b), preserved, pressure);
	return r ? r->format : IKV_FMT_SKIP;
}

static int check_rules(const struct ikv_ladder *l, struct ikv_err *err)
{
	if (!(l->medium >= 0 && l->medium <= l->high && l->high <= 1))
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "ladder %s: thresholds high %g and medium %g: expected 0 <= medium <= high <= 1",
				   l->name, l->high, l->medium);
	for (uint32_t i = 0; i < l->count; i++) {
		const struct ikv_ladder_rule *r = &l->rules[i];
		if (r->policy < IKV_ANY || r->policy >= IKV_POLICY_COUNT || r->kind < IKV_ANY ||
		    r->kind >= IKV_KIND_COUNT || r->band < IKV_ANY || r->band > IKV_BAND_HIGH ||
		    r->preserved < IKV_ANY || r->preserved > 1 || r->format >= IKV_FMT_COUNT)
			return ikv_err_set(err, IKV_BAD_INPUT, "ladder %s: rule %u: a value out of range", l->name,
					   i + 1);
		if (!(r->pressure_above < 1))
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "ladder %s: rule %u: pressure is never above %g; expected less than 1",
					   l->name, i + 1, r->pressure_above);
	}
	return 0;
}

int ikv_ladder_check(const struct ikv_ladder *l, struct ikv_err *err)
{
	static const char *const bands[] = {"no", "a low", "a medium", "a high"};
	if (check_rules(l, err))
		return -1;
	/* A rule that holds at pressure 0 holds at every pressure, so 0 is the case to decide. */
	for (int p = 0; p < IKV_POLICY_COUNT; p++)
		for (int k = 0; k < IKV_KIND_COUNT; k++)
			for (int b = IKV_BAND_NONE; b <= IKV_BAND_HIGH; b++)
				for (int flag = 0; flag < 2; flag++)
					if (!find_rule(l, p, k, b, flag, 0))
						return ikv_err_set(
						    err, IKV_BAD_INPUT,
						    "ladder %s: no rule for %s blocks of kind %s with %s score%s at "
						    "pressure 0",
						    l->name, ikv_policy_name((enum ikv_policy)p),
						    ikv_kind_name((enum ikv_kind)k), bands[b],
						    p == IKV_GLOBAL || p == IKV_RECENT
							? flag ? ", preserved," : ", not preserved,"
							: "");
	return 0;
}

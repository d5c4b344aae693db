/* What the attention of a source looks like: concentration on pages, recency, drift, shares by role.
 *
 * A session is played against the source; the statistics come from the true softmax over the K and Q it gives,
 * averaged over the last decode steps. Definitions: docs/synthetic-source.md. */
#ifndef SIM_SOURCE_STATS_H
#define SIM_SOURCE_STATS_H

#include "source.h"

enum source_stats_share { SOURCE_STATS_HEAD, SOURCE_STATS_KV_HEAD, SOURCE_STATS_SHARED, SOURCE_STATS_SHARES };
#define SOURCE_STATS_FRACTIONS 5
#define SOURCE_STATS_WINDOWS   4
extern const double source_stats_fraction[SOURCE_STATS_FRACTIONS]; /* .02 .05 .1 .25 .5 of the pages */
extern const uint32_t source_stats_window[SOURCE_STATS_WINDOWS];   /* last 16 64 256 1024 tokens */
extern const uint32_t source_stats_lag[SOURCE_STATS_WINDOWS];      /* 1 4 16 64 steps */

struct source_stats {
	/* Mass in the best ceil(f · pages so far) pages: chosen per query head, per KV head (mean over its group),
	 * or one set for all heads. */
	double recall[SOURCE_STATS_SHARES][SOURCE_STATS_FRACTIONS];
	double recency[SOURCE_STATS_WINDOWS]; /* mass of the newest tokens, the current one included */
	double overlap[SOURCE_STATS_WINDOWS]; /* share of a KV head's best 10 % pages still among them after a lag */
	double effective_pages;               /* exp(entropy of the page masses of a KV head) */
	double sink;                          /* mass of tokens 0..3 */
	double kind_mass[IKV_KIND_COUNT], kind_tokens[IKV_KIND_COUNT]; /* shares, at the measured steps */
	/* The source's modelled mass (model_mass, one set for all heads) against the truth. */
	double model_recall;      /* true mass of the model's best 10 % pages / of the true best 10 % */
	double model_correlation; /* Spearman's rank correlation over pages */
	double score_correlation; /* Spearman: model_scores against the true mass per token of each block */
	double pages;             /* at the last step */
	uint32_t steps;           /* measured */
};

/* Play `session` in `source`, an open one of `setup`, as sequence 0, and measure `layer` (of the executed ones)
 * over its last `steps` decode steps (0: all). With `model` the modelled masses are compared too. */
int source_stats_measure(struct source *source, const struct source_setup *setup, const struct session *session,
			 uint32_t layer, uint32_t steps, bool model, struct source_stats *out, struct ikv_err *err);

/* A session with the mean shape of the recorded ones: `tokens` in all, the last `steps` of them decoded, roles in
 * their mean shares. Free it with session_list_free. */
int source_stats_session(struct session_list *out, uint32_t tokens, uint32_t steps, struct ikv_err *err);

#endif

/* The model "requests": the statistics of a trace, from which requests like its own are generated. Holds quantile
 * tables and shares only, nothing of the trace's content or of single sessions. See docs/generator.md. */
#ifndef SIM_TRACE_TWIN_H
#define SIM_TRACE_TWIN_H

#include "sim/session.h"
#include "sim/trace/draw.h"

enum { TWIN_VERSION = 1, TWIN_BINS = 8, TWIN_KIND_BINS = 4, TWIN_START_BINS = 4 };

/* Blocks: content ids; where the trace has none, tokens. */
struct twin_first_bin {
	double upto;              /* tokens: first inputs up to this size */
	struct draw_table shared; /* blocks that the input shares with earlier requests */
};
struct twin_start_bin {
	double upto;             /* turns: sessions of up to so many */
	struct draw_table input; /* tokens of the first input */
};
struct twin_later_bin {
	double upto;              /* tokens: inputs before of up to this size */
	struct draw_table growth; /* input / input before */
	struct draw_table kept;   /* of the blocks that the request before offers, the share reused */
	double p_back; /* chance that more is reused: an older, longer input of the session is gone back to */
};
struct twin_kind_bin {
	double upto;                  /* tokens that enter */
	double share[IKV_KIND_COUNT]; /* chance that they are of a kind */
};

struct twin {
	uint32_t sessions;
	double turns_mean;
	uint32_t block_tokens; /* 0: no content ids */
	bool global, partial;  /* as in struct trace_stats */
	/* As trace-stats measures them. */
	struct draw_table turns, input, output, prefix_hit;
	struct draw_table session_gap_ms, think_ms;
	struct draw_table reuse_age; /* requests since a shared start was last used */
	double p_think;              /* of a later request: a wait before it */
	struct twin_start_bin start[TWIN_START_BINS];
	struct twin_first_bin first[TWIN_BINS];
	struct twin_later_bin later[TWIN_BINS];
	struct twin_kind_bin kinds[TWIN_KIND_BINS]; /* of what enters with later requests */
	uint32_t start_bins, first_bins, later_bins, kind_bins;
	double first_kinds[IKV_KIND_COUNT], output_kinds[IKV_KIND_COUNT]; /* shares of tokens */
	double confidence[IKV_KIND_COUNT];
};

int twin_read(const struct yaml_node *root, const char *path, void *twin, struct ikv_err *err);
/* Write it as YAML. `name` and `source` are free text. */
int twin_write(const struct twin *t, const char *path, const char *name, const char *source, struct ikv_err *err);

struct trace_stats;
int twin_fit(const struct trace_stats *s, const struct session_list *list, struct twin *t, struct ikv_err *err);

/* Where a request's blocks come from: the first `kept` from those of `donor`, the others are new. */
struct twin_request {
	uint32_t session, turn, input, output, blocks, kept, donor;
	double at_ms, wait_ms;
};
struct twin_plan {
	struct twin_request *requests; /* by session and turn; owned */
	uint32_t count, sessions;
	uint32_t *first;    /* [sessions + 1] places in requests; owned */
	double *arrival_ms; /* owned */
	uint32_t *by_time;  /* owned */
};
int twin_plan(const struct twin *t, const struct generate_config *c, uint64_t seed, struct twin_plan *p,
	      struct ikv_err *err);
/* How much of its input each request shares with earlier ones, and whose; the second half of twin_plan. */
int twin_share(const struct twin *t, uint64_t seed, struct twin_plan *p, struct ikv_err *err);
void twin_plan_free(struct twin_plan *p);
/* Values of the table at the ranks 1..n, ascending: p50, p90 and p99 by nearest rank are those of the table. */
int twin_batch(const struct draw_table *t, size_t n, double **out, struct ikv_err *err);
void twin_shuffle(double *v, size_t n, struct ikv_rng *r);
/* Ranks of values, from the smallest; equal ones in the order they stand. */
int twin_order(const double *v, size_t n, uint32_t **order, struct ikv_err *err);
/* Hand `targets` (ascending) to items: the larger `wish`, the larger the target, but at most `bound`. Where none
 * fits, the item with most room gets its bound, or the target all the same (`exceed`). */
int twin_assign(const double *wish, const double *bound, const double *targets, size_t n, bool exceed, double *out,
		struct ikv_err *err);
/* Blocks that an input of `input` tokens can take over from one of `before`. */
uint32_t twin_offer(const struct twin *t, uint32_t before, uint32_t input);
uint32_t twin_blocks(const struct twin *t, uint32_t input);
int twin_emit(const struct twin *t, const struct twin_plan *p, uint64_t seed, struct session_list *out,
	      struct ikv_err *err);

#endif

/* One run: a resolved scenario played to its end and recorded.
 *
 * A run holds `batch` slots. A slot plays one session after another; its context is a sequence of the
 * exact store, the backend, the source and the memory manager, numbered like the slot. A decision unit is a set of
 * query heads of one executed layer (or of all of them) that shares one plan, as the router's share says. */
#ifndef SIM_RUN_H
#define SIM_RUN_H

#include <signal.h>
#include "db/store.h"
#include "sim/bench_attention.h"
#include "sim/scenario.h"

enum { RUN_GROUP_HEADS_MAX = 1024 }; /* query heads of a KV head */

struct unit {           /* one decision of one slot; arrays grow with the context and are kept */
	uint32_t layer; /* index of the executed layer; 0 where one decision serves all layers */
	uint32_t q_first, q_count;
	uint32_t group;           /* memory group that its pages belong to */
	struct ikv_layout layout; /* copy of the slot's, with this unit's scores */
	struct ikv_route route;
	float *page_scores, *page_mass;
	uint64_t *chosen;     /* a bit a page: what the backend chose, where run->selects */
	uint32_t top;         /* pages that it was asked for, 0: none */
	double selected_mass; /* dense mass on the selection, mean over its heads and layers; NaN if unknown */
};

struct group {                             /* memory group of one slot: what the manager and the prefetcher see */
	uint32_t layer_first, layer_count; /* executed layers */
	uint32_t kv_first, kv_count;
	struct ikv_plan plan; /* union of its units' plans when there are several */
	uint32_t *selected, *predicted;
	uint8_t *missed; /* [plan pages]: selected, but not in the fast tier */
	uint32_t selected_count, predicted_count;
};

struct layer_result { /* of one executed layer of one slot, where attention ran */
	double selected_fraction, mass_recall, rel_l2, max_abs, cosine, kl;
};

struct account { /* what a step of one slot means for the cost model, all layers of the model */
	uint64_t read_bytes, request_bytes, dense_bytes, fetch_bytes, prefetch_bytes, recode_bytes;
	uint64_t tokens, pages, blocks; /* selected; means over units, rounded */
	uint64_t decision_hash;
	double flops, dense_flops;
	uint64_t format_bytes[IKV_FMT_COUNT], page_reads, dense_page_reads; /* a page of a KV head is one read */
	uint64_t plans, jumps, dense_jumps, changes, lone_pages, lone_bytes, lone_fp16_bytes; /* dense: a plan and a jump a layer */
	double format_flops[IKV_FMT_COUNT], format_fine[IKV_FMT_COUNT];
};

struct slot {
	const struct session *session; /* NULL: idle */
	uint32_t index;                /* of the session in the list */
	uint32_t event, decode_left;
	bool decode_begun; /* the block of the current DECODE event exists */
	uint32_t tokens;
	uint64_t steps; /* decode steps so far */
	uint32_t turn;
	double ready_ns; /* on the simulated clock */
	struct ikv_layout layout;
	char **names; /* block names, one allocation each */
	uint32_t block_cap;
	uint64_t next_uid;
	uint64_t compactions;
	uint32_t prompts;  /* appended so far */
	uint32_t page_cap; /* pages that the arrays below have room for */
	struct unit *units;
	struct group *groups;
	float *q;           /* [layers][q_heads][d] */
	float *out, *dense; /* [layers][q_heads][d] */
	float *lse_dense;   /* [q_heads] */
	float *mass_dense;  /* [q_heads][pages] of the layer at hand */
	float *mass_out;    /* [q_heads][pages] received under the plan, of the layer at hand */
	float *mass_row;    /* [pages] of what measures */
	double *block_mass; /* [blocks] dense mass, mean over layers and heads */
	/* Of the current step. */
	bool executed, verified;
	const char *mass_by;
	double kind_mass[IKV_KIND_COUNT], kind_selected[IKV_KIND_COUNT];
	struct layer_result *layers;
	struct layer_result total;
	struct ikv_memory_tally moved; /* what its uses of the manager caused */
	double pressure, spec_accept;
	double sim_executed; /* modelled time of what wall_attention measures; NaN where no attention ran */
	struct account account;
	uint64_t wall_score, wall_route, wall_memory, wall_recode, wall_source, wall_attention, wall_dense;
	uint64_t wall_mass, wall_measure;
};

struct prefill {               /* attention of prompts, chunk by chunk */
	uint32_t first, count; /* tokens of the newest chunk */
	float *q, *out;        /* [count][q_heads][d] of it, at the last layer */
	float *dense;          /* [q_heads][d_v] of its last row */
	uint32_t *positions;   /* [count] */
	struct ikv_plan plan;  /* all pages up to its end */
};

struct run {
	const struct scenario *sc;
	struct session_list *sessions;
	struct store *store;
	int64_t run_id;
	const volatile sig_atomic_t *stop;
	struct ikv_geometry geometry;
	uint32_t model_layers[SCENARIO_MODEL_LAYERS_MAX]; /* number in the model of each executed layer */
	uint32_t layer_weight; /* model layers that one executed layer stands for, rounded down */
	enum ikv_share share;
	unsigned needs;
	uint32_t units, groups, batch, threads;
	bool kv; /* K and V exist: level sampled or full */
	bool selects; /* the backend makes the page scores */
	const struct ikv_ladder *ladder;
	struct ikv_ladder uniform; /* where the router asks for one format */
	struct ikv_ladder_rule uniform_rule;
	struct source *source;
	struct ikv_exact *exact;
	struct bench_reader *cool; /* what is read before attention is timed; NULL: nothing */
	struct ikv_backend *backend;
	const struct ikv_backend_ops *backend_ops;
	void *scorer, *router, *prefetcher;
	struct ikv_memory *memory;
	struct ikv_memory_step moved; /* of the current step, all sequences; actions valid until the next */
	struct prefill *prefill;      /* NULL: prompts cost modelled time only */
	struct ikv_specattn *spec;
	float *projection; /* [64][q_heads * d]: the SpecAttn proxy */
	uint64_t page_bytes[IKV_FMT_COUNT];
	struct slot *slots;
	struct slot **active; /* those that decode in this step */
	uint32_t active_count;
	uint32_t next_session;
	uint64_t batch_step, steps_done, steps_total;
	uint64_t outside; /* batch steps that the machine's profile was not measured for */
	double clock_ns;                    /* simulated */
	double device_ns, transfer_ns, exposed_ns, evict_ns; /* of the current step, by the device's clock; 0 without one */
	uint16_t *k, *v;                    /* staging for appended rows */
	struct ikv_score_unit *score_units; /* [batch * units]: filled anew each step */
	struct ikv_select_unit *select_units; /* [batch * units], where the backend makes the page scores */
	struct ikv_route_unit *route_units; /* [units] */
	struct ikv_memory_use *uses;        /* [batch * groups], by active slot */
	struct ikv_attn_unit *attn_units;   /* [batch * units] */
	double *scores;                     /* [blocks]: modelled ones */
	uint32_t score_cap;
	uint64_t wall_ns;
	void (*progress)(const struct run *run);
	/* Called for each session when its step is decided and measured, before it is over; NULL: nobody looks. */
	int (*watch)(void *ctx, struct slot *s, struct ikv_err *err);
	void *watch_ctx;
};

/* Sessions of a scenario; for a capture they come with its source, so a source may be opened for it. */
int run_sessions(const struct scenario *sc, struct session_list *out, struct ikv_err *err);
/* Do both scenarios play the same sessions? */
bool run_sessions_same(const struct scenario *a, const struct scenario *b);

int run_open(struct run *run, const struct scenario *sc, struct session_list *sessions, struct ikv_err *err);
void run_close(struct run *run);
/* Begin the run in run->store, before run_play. `key`: the point's, from sweep_key. */
int run_begin(struct run *run, const struct scenario_doc *doc, const char *label, const char *key, struct ikv_err *err);
/* Play everything; records into run->store when there is one. 0 when it ended or *stop was set. */
int run_play(struct run *run, struct ikv_err *err);

/* sequence.c: a slot's context. */
int slot_begin(struct run *run, struct slot *s, uint32_t session_index, struct ikv_err *err);
/* Play events until the next token to decode; *decode says whether there is one. May set ready_ns ahead. */
int slot_advance(struct run *run, struct slot *s, bool *decode, struct ikv_err *err);
/* The next decoded token enters the context. */
int slot_decode_token(struct run *run, struct slot *s, struct ikv_err *err);
void slot_end(struct run *run, struct slot *s);
void slot_free(struct run *run, struct slot *s);

/* prefill.c: prompts. Modelled time of one of `tokens` tokens after `before` others: dense arithmetic of the weights
 * and the causal attention, all layers. */
double prefill_model_ns(const struct run *run, uint64_t before, uint64_t tokens);
int prefill_open(struct run *run, struct ikv_err *err);
void prefill_close(struct run *run);
/* Run the attention of tokens [first, s->tokens), which were just appended, and record it beside sim_ns. */
int prefill_execute(struct run *run, struct slot *s, uint32_t first, double sim_ns, struct ikv_err *err);

/* Memory pressure at this moment: as the scenario says, or the fast tier's occupancy. */
double run_pressure(const struct run *run);
/* Does the router take page scores, of a kind that the scorer (or, at level off, the source) has? */
bool run_scores_pages(const struct run *run);

/* step.c and the files beside it, in the order of a decode step. */
int run_step(struct run *run, struct ikv_err *err);
int step_select(struct run *run, struct ikv_err *err);
int step_score(struct run *run, struct ikv_err *err);
int step_route(struct run *run, struct slot *s, struct ikv_err *err);
int step_memory(struct run *run, struct ikv_err *err);
int step_attend(struct run *run, struct ikv_err *err);
uint64_t step_selected_tokens(const struct run *run, const struct slot *s); /* summed over the units' plans */
/* Error of an output of n values against the dense one: rel_l2, cosine and max_abs. */
void step_output_errors(const float *out, const float *dense, size_t n, struct layer_result *r);
int step_measure(struct run *run, struct slot *s, uint32_t layer, struct ikv_err *err);
int step_measure_model(struct run *run, struct slot *s, struct ikv_err *err);
int step_verify(struct run *run, struct slot *s, struct ikv_err *err);
int step_record(struct run *run, struct ikv_err *err);

/* apply.c: make the backend's pages what the manager says. */
int apply_actions(struct run *run, struct ikv_err *err);
/* The page that holds token `tokens` is about to be cut open: exact FP16 again. */
int apply_reopen(struct run *run, struct slot *s, uint32_t tokens, struct ikv_err *err);

uint64_t wall_now_ns(void);

#endif

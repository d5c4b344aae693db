/* The result store: one SQLite file, written by one process at a time.
 *
 * Rows are plain structs; a field that has no value is NaN (reals) or -1 (integers) and becomes NULL.
 * sim_ns is modelled, wall_ns is measured; no row mixes them. Steps are buffered and written in batches,
 * each batch one transaction: a committed step survives kill -9, a run marked done survives power loss. */
#ifndef DB_STORE_H
#define DB_STORE_H

#include <stdbool.h>
#include <intentkv.h>

#define STORE_APPLICATION_ID 0x494b5653 /* "IKVS" */
/* 1: fewer formats; 2: without roll-ups; 3: without times of a device; 4: without prompts; 5: steps in order of their key */
#define STORE_VERSION        7

struct store;

/* Open for writing, creating the file where it is absent. A database of another program or of a newer
 * version, a read-only or locked one is refused with its own status and left as it is. */
int store_open(struct store **out, const char *path, struct ikv_err *err);
int store_close(struct store *s, struct ikv_err *err);
/* Let a thread write the rows of this store, which takes its place: rows are copied into at most 64 blocks of 128 KiB,
 * full ones and what is older than a quarter of a second (with the next step) are written while the caller goes on.
 * The thread also ends runs, with their roll-ups. An error of the thread is returned by a later call, at the latest by the next that is not for a row. All functions
 * work as before; the store is for one thread at a time, as any. */
int store_concurrent(struct store **s, struct ikv_err *err);

struct store_param {
	const char *key, *value, *origin;
}; /* origin: default, scenario, command-line, sweep */
struct store_run {
	const char *name; /* scenario name, with the sweep point's values */
	const char *scenario_path, *scenario_text;
	const char *point; /* "quest budget=5%", empty without a sweep */
	uint64_t seed;
	const char *router, *scorer, *source, *backend, *isa, *execute, *ladder, *model, *machine, *format;
	int threads;
	const struct store_param *params;
	uint32_t param_count;
	int64_t run_id;        /* number it should have where that is free; 0: the next */
	const char *point_key; /* 32 hex digits, or NULL */
	const char *message;   /* what its row says until store_run_message, or NULL */
};
/* Begin a run (status `running`); also records env (host, CPU, versions, command line, UTC time). */
int store_run_begin(struct store *s, const struct store_run *run, int64_t *run_id, struct ikv_err *err);
int store_run_end(struct store *s, int64_t run_id, const char *status, uint64_t wall_ns, struct ikv_err *err);
/* Why the run failed, for its row; before store_run_end. */
int store_run_message(struct store *s, int64_t run_id, const char *message, struct ikv_err *err);

/* A spool: the rows of one run on their way to the process that has the database. Written by store_* functions
 * as a store is, to a file without a name; read by another process that holds the same descriptor. */
struct store_figures { /* of one run, for searching: means over its steps */
	double read_share; /* stored bytes read, of the FP16 bytes of dense attention; NaN without steps */
	double rel_l2;     /* median of the steps that have it; NaN if none has */
	uint64_t steps;
};
/* A descriptor of a nameless file in the folder of the database `path`, which several spools use in turn. */
int store_spool_file(const char *path, int *fd, struct ikv_err *err);
int store_spool_open(struct store **out, int fd, struct ikv_err *err);
/* Write out what is buffered; `bytes` is what a complete spool has. Closes the spool, not the descriptor. */
int store_spool_close(struct store *s, uint64_t *bytes, struct store_figures *figures, struct ikv_err *err);
/* Take the run of a spool in, in place of earlier failures of its point. Where that is cut off, the point is not done,
 * and what was taken in makes way when the point is taken again; after an error nothing of it stays. */
int store_spool_take(struct store *s, int fd, uint64_t bytes, int64_t run_id, const char *point_key, uint64_t wall_ns,
		     struct ikv_err *err);
/* A run that failed, without rows, in place of earlier failures of its point. */
/* A sweep found run->run_id, which is of the same settings: it becomes a run of this scenario, with its name, point and
 * the origins of its settings. The next run that begins, or closing, commits. */
int store_run_adopt(struct store *s, const struct store_run *run, struct ikv_err *err);
int store_failed_run(struct store *s, const struct store_run *run, const char *message, uint64_t wall_ns,
		     struct ikv_err *err);

/* What a file knows of points. */
struct store_point {
	char key[33];
	int64_t run_id;
	bool done; /* else it failed */
};
/* All runs that have a key and are done or failed, by run_id; `out` is freed with ikv_free. An absent file has none. */
int store_points(const char *path, struct store_point **out, uint32_t *count, struct ikv_err *err);
int store_run_figures(const char *path, int64_t run_id, struct store_figures *out, struct ikv_err *err);
/* Remove a file that was merged, and what a killed writer left beside it. */
void store_remove(const char *path);
/* Copy the done and failed runs of the file `from`; one that a killed process left empty has none. Points that are done
 * here are left out, unless `all`. */
int store_merge(struct store *s, const char *from, bool all, uint32_t *taken, uint32_t *left_out, struct ikv_err *err);

struct store_session {
	int64_t run_id, session;
	const char *id, *task, *tokens_by;
	double arrival_ms, reward;
	int64_t turns, appended_tokens, decoded_tokens, longest_context, compactions;
};
int store_session(struct store *s, const struct store_session *row, struct ikv_err *err);

/* One decode step of one session. Deterministic columns first: they make the canonical hash. */
struct store_step {
	int64_t run_id, session, step; /* step counts the session's decode steps from 0 */
	int64_t batch_step;            /* iteration of the run's step loop; sessions batched together share it */
	int64_t turn;
	int64_t context_tokens, blocks, pages;
	int64_t selected_blocks, selected_tokens, selected_pages; /* mean over units, rounded, for tokens and pages */
	uint64_t decision_hash;                                   /* of all plans and decisions of the step */
	double pressure, occupancy;
	int64_t dense_bytes;   /* FP16 KV bytes that dense attention would read, all layers */
	int64_t request_bytes; /* accounting bytes of the selection in the formats asked for */
	int64_t read_bytes;    /* stored bytes actually read, scales included */
	int64_t hit_pages, miss_pages;
	int64_t fetch_bytes, prefetch_bytes, evict_bytes, streamed_bytes, recode_bytes, refetch_bytes;
	int64_t demotions, promotions, evictions;
	int64_t prefetch_useful, prefetch_late, prefetch_wasted, prefetch_missed;
	int64_t fast_bytes, slow_bytes; /* stored in the fast tier, in all others, after the step */
	int64_t pages_fp16, pages_fp8, pages_int8, pages_int4, pages_int4_residual;
	int64_t pages_bf16, pages_kivi8, pages_kivi4, pages_kivi2, pages_sparse;
	int64_t demote_after, promote_after;
	int64_t spec_verified; /* 1: a verification step; 0: not; -1: SpecAttn is off */
	double sim_overhead_ns, sim_attention_ns, sim_weights_ns, sim_recode_ns, sim_transfer_ns, sim_hidden_ns,
	    sim_exposed_ns, sim_total_ns; /* of this session's share of the batched step */
	double sim_dense_ns;              /* the same step with dense FP16 attention and nothing moved */
	/* Measured columns: outside the canonical hash. */
	const char *mass_by;                /* "measured", "model" or NULL */
	double mass_recall;                 /* share of the dense softmax mass on the selected tokens */
	double rel_l2, max_abs, cosine, kl; /* output against dense */
	double spec_accept;                 /* modelled acceptance of the drafts, NaN when none */
	double sim_executed_ns;             /* modelled time of what wall_attention_ns measured */
	int64_t sim_outside;                /* 1: outside of what the machine's profile was measured at */
	double wall_attention_ns, wall_dense_ns, wall_score_ns, wall_route_ns, wall_memory_ns, wall_recode_ns,
	    wall_source_ns, wall_mass_ns, wall_measure_ns;
	/* By a device's own clock, NaN without one: attention alone, copies to the fast tier, and what of these was hidden
	 * behind attention or waited for; copies to slower tiers. */
	double wall_device_ns, wall_transfer_ns, wall_hidden_ns, wall_exposed_ns, wall_evict_ns;
};
int store_step(struct store *s, const struct store_step *row, struct ikv_err *err);
/* Where the next row may be made, before any other call: store_step does not copy it then. What is there is a row given
 * before, so every field is to be set. NULL after an error, as of store_step. */
struct store_step *store_step_room(struct store *s, struct ikv_err *err);

/* What one role got in one step (written for steps where attention ran, and for modelled mass). */
struct store_role {
	int64_t run_id, session, step;
	enum ikv_kind kind;
	int64_t tokens, selected_tokens, read_bytes, hit_pages, miss_pages;
	double mass, mass_selected; /* share of the dense softmax mass on the role, and on its selected tokens */
};
int store_role(struct store *s, const struct store_role *row, struct ikv_err *err);

/* Per executed layer of a step where attention ran. */
struct store_layer {
	int64_t run_id, session, step, layer; /* layer: number in the model */
	double selected_fraction;             /* of pages, mean over units */
	double mass_recall, rel_l2, max_abs, cosine, kl;
};
int store_layer(struct store *s, const struct store_layer *row, struct ikv_err *err);

/* One prompt whose attention ran; measured, outside the canonical hash. */
struct store_prefill {
	int64_t run_id, session, prompt; /* prompt counts the session's appended blocks from 0 */
	int64_t turn, tokens, context_tokens; /* context: the prompt included */
	double sim_ns;                        /* modelled time of the prompt: all layers, weights included */
	double sim_executed_ns;               /* modelled time of what wall_ns measured */
	double flops;                         /* of what was measured: attention of the executed layers */
	double wall_ns;
	double rel_l2; /* of the last token's output against dense attention over exact K and V, mean over layers */
};
int store_prefill(struct store *s, const struct store_prefill *row, struct ikv_err *err);

/* Opt-in event logs. */
struct store_block_event {
	int64_t run_id, session, step, layer, head; /* head: first query head of the unit */
	const char *block;
	enum ikv_kind kind;
	enum ikv_policy policy;
	const struct ikv_decision *decision;
};
int store_block_event(struct store *s, const struct store_block_event *row, struct ikv_err *err);
int store_page_event(struct store *s, int64_t run_id, int64_t session, int64_t step, const struct ikv_action *action,
		     struct ikv_err *err);

/* A fit of the cost model, its constants and the calls that it rests on; kept beside older ones. */
struct store_calibration {
	const struct ikv_machine *machine;
	const char *backend, *isa; /* NULL: figures of a file */
	int64_t threads;           /* -1: not known */
	int64_t cells, held_cells;
	double fit_error_pct, held_error_pct, held_median_pct;
};
struct store_calibration_cell {
	const char *shape, *format, *selected;
	int64_t tokens, kv_bytes, held_out;
	double measured_ns, predicted_ns;
};
int store_calibration(struct store *s, const struct store_calibration *c, const struct store_calibration_cell *cells,
		      uint32_t count, int64_t *id, struct ikv_err *err);

/* Write out what is buffered (one transaction). */
int store_flush(struct store *s, struct ikv_err *err);

/* Canonical hash of a finished run: XXH3-128 over the ordered deterministic columns, as 32 hex digits. */
int store_hash(const char *path, int64_t run_id, char hex[33], struct ikv_err *err);

/* Reading: named queries (db/queries, embedded) and free SQL through an authorizer: SELECT only, no ATTACH. */
/* STORE_GNUPLOT: tab-separated blocks, one per value of the first column. */
enum store_format { STORE_TABLE, STORE_CSV, STORE_JSON, STORE_JSONL, STORE_MARKDOWN, STORE_GNUPLOT };
struct store_query {
	const char *sql;           /* free SQL, or NULL */
	const char *name;          /* a named query, or NULL */
	const char *const *params; /* "key=value" for :key in the SQL */
	uint32_t param_count;
	enum store_format format;
	bool header;
	double time_limit_s; /* 0: none */
};
int store_query_run(const char *path, const struct store_query *query, void *file /* FILE * */, struct ikv_err *err);

/* The same, row by row to a function; what a cell points to lasts until that returns. */
enum { STORE_CELLS_MAX = 100 };
struct store_cell {
	const char *name, *text;
	double number; /* NaN where it is none */
	bool is_number, is_null;
};
typedef int store_row_fn(void *ctx, const struct store_cell *cells, int count, struct ikv_err *err);
int store_select(const char *path, const struct store_query *query, store_row_fn *row, void *ctx, struct ikv_err *err);

/* The whole file. */
/* The schema as SQL. */
int store_schema(const char *path, void *file /* FILE * */, struct ikv_err *err);
/* Every table, or `table` alone, as FOLDER/TABLE.csv; the folder must exist. `told` is given each path and its rows. */
int store_export(const char *path, const char *folder, const char *table, void (*told)(const char *path, int64_t rows),
		 struct ikv_err *err);
/* A copy of one moment, also while a run is recording (SQLite's online backup). `to` must not exist. */
int store_backup(const char *path, const char *to, struct ikv_err *err);
/* Print what is wrong with a file, a line each; *found counts them. */
int store_check(const char *path, void *file /* FILE * */, uint64_t *found, struct ikv_err *err);
/* Bring a file of an older version to this one, after a copy of it to `backup`; *from: its version. */
int store_upgrade(const char *path, const char *backup, int *from, struct ikv_err *err);
/* Make the roll-ups of all runs anew; *runs: how many. */
int store_rollup_all(const char *path, uint64_t *runs, struct ikv_err *err);

struct store_named {
	const char *name, *help, *sql;
};
extern const struct store_named store_queries[]; /* generated from db/queries/<name>.sql; NULL name ends it */

#endif

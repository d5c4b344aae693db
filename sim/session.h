/* Sessions: what an agent did to its context, as events. Every importer and generator produces this
 * form; the step loop plays it. See docs/traces.md for the file form (`intentkv` JSONL). */
#ifndef SIM_SESSION_H
#define SIM_SESSION_H

#include <intentkv.h>

enum session_op {
	SESSION_APPEND,  /* tokens of one block enter the context by prefill */
	SESSION_DECODE,  /* the model generates tokens one step at a time: a new block */
	SESSION_COMPACT, /* the context is cut back to its first keep_tokens tokens */
	SESSION_WAIT,    /* nothing happens for wait_ms: a tool runs, a person thinks */
};

struct session_event {
	enum session_op op;
	enum ikv_kind kind; /* APPEND, DECODE */
	bool unowned;       /* APPEND: tokens that belong to no block (a gap) */
	bool has_policy;    /* the trace itself fixes the block's policy */
	enum ikv_policy policy;
	uint32_t tokens;                 /* APPEND, DECODE: > 0; COMPACT: keep_tokens */
	double wait_ms;                  /* WAIT */
	float confidence;                /* of `kind`, 0..1: 1 when the trace says it, less when inferred */
	char *name;                      /* block name, or NULL: made from kind and number. Owned. */
	uint32_t hash_first, hash_count; /* APPEND: slice of session.hashes; see struct session_chain */
	uint32_t turn;                   /* request number within the session, from 0 */
	int line;                        /* in the source file */
};

struct session {
	char *id;          /* owned; unique in the list */
	double arrival_ms; /* from the start of the trace */
	struct session_event *events;
	uint32_t event_count, event_cap;
	uint64_t *hashes; /* content ids, hash_block_tokens tokens each */
	uint32_t hash_count, hash_cap;
	uint32_t hash_block_tokens; /* 0: the trace has none */
	bool hashes_global;         /* ids mean the same content in all sessions of the list */
	double reward;              /* NaN if the trace has none */
	char *task;                 /* owned; groups the trials of one task, or NULL */
};

/* What a trace says of itself, before sessions are made from it. */
struct trace_facts {
	char format[32];           /* "mooncake", … or "generate" */
	char tokens_by[64];        /* how tokens were counted: "trace", "chars/4", "profile", a tokenizer's file */
	char form[32];             /* of the file: `format`, or "intentkv" for a canonical file made from it */
	bool detected;             /* the format was found from the content, not given */
	bool by_session;           /* requests came session by session, not in order of time */
	uint64_t records, skipped; /* input records read; bad ones left out */
	uint64_t warnings;         /* suspicious places that were read all the same */
	uint64_t requests, input_tokens, output_tokens, block_refs, unique_blocks, prefix_hits;
	uint64_t shortened; /* sessions cut at max_context_tokens */
};

struct session_list {
	struct session *items;
	uint32_t count, cap;
	struct trace_facts facts;
	struct session_index *ids; /* id -> place in items, kept by session_add; owned */
};

struct trace_request; /* sim/trace/trace.h */

/* Building. The returned event is owned by the session and valid until the next call. */
/* An empty session of that name; free with session_clear. */
int session_begin(struct session *s, const char *id, struct ikv_err *err);
struct session *session_add(struct session_list *list, const char *id, struct ikv_err *err);
const struct session *session_find(const struct session_list *list, const char *id);
struct session_event *session_push(struct session *s, enum session_op op, struct ikv_err *err);
int session_push_hashes(struct session *s, struct session_event *e, const uint64_t *ids, uint32_t n,
			struct ikv_err *err);
/* Move a session to the end of the list: what it owns goes over, `s` is left empty. Its id must be new there. */
int session_list_take(struct session_list *list, struct session *s, struct ikv_err *err);
/* Keep the first `count` sessions. */
void session_list_shorten(struct session_list *list, uint32_t count);
void session_list_free(struct session_list *list);
/* Free what a session owns. */
void session_clear(struct session *s);

/* Invariants: positive counts, compaction below the context, known kinds, unique ids. */
int session_check(const struct session *s, struct ikv_err *err);
/* End the session where its context would exceed max_context; true if something was cut. */
bool session_shorten(struct session *s, uint64_t max_context);
/* The requests of a session, worked out from its events: the context and its ids when each was sent, what it
 * generated, and when. A turn without output counts if ids were appended in it. `scope` is left 0. */
int session_requests(const struct session *s,
		     int (*fn)(void *ctx, const struct trace_request *r, struct ikv_err *err), void *ctx,
		     struct ikv_err *err);
/* Tokens appended, decoded, and the longest context it reaches. */
void session_totals(const struct session *s, uint64_t *appended, uint64_t *decoded, uint32_t *longest);

/* Replays the content ids of a session, event by event: after an event, ids[0 .. count) name the content of the
 * context block by block, hash_block_tokens tokens each, up to the end of the last append. A slice of an append
 * goes in place of the chain from the block in which the append before it ended, so that it also names
 * what was decoded in between. Starts zeroed; free with session_chain_free. */
struct session_chain {
	uint64_t *ids;
	uint32_t count, cap;
	uint32_t known;   /* tokens up to the end of the last append */
	uint32_t context; /* tokens */
};
int session_chain_step(struct session_chain *c, const struct session *s, const struct session_event *e,
		       struct ikv_err *err);
void session_chain_free(struct session_chain *c);

/* Block-weighted overlap of requests with the one before them in their stream: of `total` blocks, `shared`
 * were already a prefix of the request before. The first request of a session does not count. */
int session_overlap(const struct session *s, uint64_t *shared, uint64_t *total, struct ikv_err *err);
struct overlap_summary {
	uint32_t sessions;
	double min, p25, median, p75, mean; /* percent over sessions; quartiles interpolate linearly */
};
/* The same over many sessions, added one after the other; those named "<id>/..." (subagents) right after session <id>
 * count with it. Starts zeroed. */
struct overlap_tally {
	double *percent; /* of the sessions before the newest; owned */
	uint32_t count, cap;
	char *root; /* of the newest; owned */
	uint64_t shared, total;
};
int overlap_add(struct overlap_tally *o, const struct session *s, struct ikv_err *err);
/* Frees the tally, whatever it returns. */
int overlap_finish(struct overlap_tally *o, struct overlap_summary *out, struct ikv_err *err);

/* pass^k (Yao et al. 2024, tau-bench): mean over tasks of C(successes, k) / C(trials, k); a trial with reward 1
 * is a success. Tasks with fewer than k trials are left out; -1 when none is left. */
int session_pass_k(const struct session_list *list, uint32_t k, double *out, struct ikv_err *err);
/* Generator of agent sessions from a profile (docs/generator.md). */
struct generate_config {
	int64_t count;
	char profile[IKV_OPT_STRING_BYTES]; /* a preset name or the path of a profile YAML */
	int64_t context_tokens;             /* scale: sessions grow to about this context; 0: as the profile says */
	int64_t turns;                      /* 0: as the profile says */
	int64_t max_decode_tokens;          /* per session, 0: no limit */
};
extern const struct ikv_option generate_options[];
struct generate_profile;
/* `path`: a profile YAML. Free the result with generate_profile_free. */
int generate_profile_read(const char *path, struct generate_profile **out, struct ikv_err *err);
/* The same by preset name (scenarios/profiles/<name>.yaml), or by path if `name` has a '/' or ends in .yaml. */
int generate_profile_find(const char *name, struct generate_profile **out, struct ikv_err *err);
void generate_profile_free(struct generate_profile *p);
/* Sessions of the trace that the profile was fitted on, 0: it was not fitted. */
uint32_t generate_profile_sessions(const struct generate_profile *p);
int session_generate(const struct generate_profile *p, const struct generate_config *config, uint64_t seed,
		     struct session_list *out, struct ikv_err *err);

#endif

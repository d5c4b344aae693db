/* What importers share: the reading under way, sessions being built, and complaints. */
#ifndef SIM_TRACE_IMPORTER_H
#define SIM_TRACE_IMPORTER_H

#include "sim/trace/census.h"
#include "sim/trace/input.h"
#include "sim/trace/reblock.h"
#include "sim/trace/trace.h"

enum { SESSION_ID_MAX = 400 };          /* bytes; subagents are named after their parents */
#define SESSION_CONTEXT_MAX 0x7fffffffu /* tokens; offsets stay below 2^31 */

struct trace_pending { /* a request of the session being built; its ids lie in trace.pending_ids */
	struct trace_request request;
	size_t first;
};

struct trace {
	const struct session_options *opts;
	const struct trace_sink *sink;
	struct trace_facts *facts;
	const struct importer *importer;
	const char *path;              /* of the file at hand */
	uint32_t sessions;             /* handed over so far */
	bool failed;                   /* the sink did: not the record's fault */
	char root[SESSION_ID_MAX + 1]; /* the newest session that is no agent of another, */
	uint64_t scope;                /* and the number of its ids' scope */
	struct id_set names;           /* hashes of the ids of all sessions so far */
	struct census seen;            /* of the content ids, with their scope */
	struct reblocked prior;        /* ids of the request before, */
	uint64_t prior_scope;          /* and their scope */
	void *memory;                  /* what an importer keeps over the files of a folder; freed by forget */
	void (*forget)(void *memory);
	struct id_table places;      /* lint: the place in its request at which each was met */
	struct trace_request newest; /* lint: the one before, without its ids, */
	uint64_t newest_id;          /* and the last of those */
	struct reblocked reblocked;  /* ids of the request at hand, if they are converted */
	struct session session;      /* being built, if `building` */
	bool building;
	struct trace_pending *pending;
	size_t pending_count, pending_cap;
	uint64_t *pending_ids;
	size_t id_count, id_cap;
};

/* Begin a session; one that was begun and not emitted is dropped. NULL with an error, which says "two sessions with
 * the id" where it is taken. The session is the trace's own until trace_emit. */
struct session *trace_session(struct trace *t, const char *id, struct ikv_err *err);
/* Is the id taken by a session that was emitted? */
bool trace_has_session(const struct trace *t, const char *id);
/* The session is whole: check it, hand its requests and then itself to the sink. Requests that were not told of by
 * trace_request are worked out from its events. */
int trace_emit(struct trace *t, struct ikv_err *err);
/* The same for a session whose requests have been told of already, in the order of the trace. */
int trace_hand_over(struct trace *t, struct ikv_err *err);
void trace_drop(struct trace *t);
/* Does the sink take sessions, or requests alone? */
bool trace_wants_sessions(const struct trace *t);
/* As many sessions as wanted have been emitted. */
bool trace_full(const struct trace *t);

/* A request, in the order of the trace. While a session is being built it waits for trace_emit. */
int trace_request(struct trace *t, const struct trace_request *r, struct ikv_err *err);

/* Tokens of a text of `bytes` bytes of UTF-8, by the tokenizer, else its code points / 4, rounded up. */
int trace_tokens(struct trace *t, const char *text, size_t bytes, uint64_t *tokens, struct ikv_err *err);
/* What counted them: "chars/4" or the tokenizer's file; valid as long as the options. */
const char *trace_tokens_by(const struct trace *t);

/* A record is bad, `err` says why and `in` which check failed: drop the session being built. 0 when reading may go
 * on behind it (skip_bad, lint), else -1. */
int trace_bad(struct trace *t, const struct trace_input *in, struct ikv_err *err);
/* The same for a part of a record, while lint is on: true, and reading may go on inside the record, which must be
 * dropped at its end. */
bool trace_note(struct trace *t, const struct trace_input *in, const struct ikv_err *err);
/* A finding that does not keep a record from being read. */
IKV_PRINTF(5, 6)
void trace_warn(struct trace *t, enum trace_check check, int line, const char *key, const char *fmt, ...);

extern const struct importer importer_intentkv, importer_mooncake, importer_weka, importer_openai_chat,
    importer_azure, importer_burstgpt, importer_qwen_bailian, importer_aiperf, importer_tracelab,
    importer_vllm_kv_events, importer_oracle_general, importer_swe_agent, importer_lmcache_agentic,
    importer_otel_genai;

#endif

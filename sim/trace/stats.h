/* Statistics of a trace, whatever its format: taken from its sessions, so that a trace and the canonical file written
 * from it are measured alike. */
#ifndef SIM_TRACE_STATS_H
#define SIM_TRACE_STATS_H

#include "sim/trace/trace.h"

/* What is counted; names in stat_names. */
enum stat_series {
	STAT_INPUT,      /* tokens in the context when a request is sent */
	STAT_OUTPUT,     /* tokens it generates */
	STAT_TURNS,      /* requests a session */
	STAT_THINK,      /* s, waits before a request */
	STAT_ARRIVAL,    /* s between sessions, by time of their first event */
	STAT_GAP,        /* s between requests, by time */
	STAT_PREFIX_HIT, /* share of a request's input that was seen before, 0..1 */
	STAT_GROWTH,     /* tokens by which an input is longer than the one before it in its session */
	STAT_REUSE,      /* references of a block */
	STAT_SERIES
};
extern const char *const stat_names[STAT_SERIES];

struct stat_values {
	double *v; /* ascending once collected; owned */
	size_t count, cap;
};
struct stat_summary {
	uint64_t count;
	double mean, min, p50, p90, p99, max; /* percentiles by nearest rank; all 0 where count is */
};
struct stat_summary stat_summarise(const struct stat_values *v);
/* Value at level 0..1 of ascending values by nearest rank. */
double stat_at(const double *sorted, size_t count, double level);

/* A request, in order of time; requests of one time in the order of their sessions. */
struct stat_request {
	uint32_t session, turn;
	uint32_t input, output;
	uint32_t blocks; /* content ids of the input; 0: none */
	uint32_t hits;   /* of them, met before in the trace; without ids: tokens of the input before it, kept */
	uint32_t age;    /* requests since the last block of the shared start was used; 0: nothing shared */
	bool cut;        /* the context was cut since the request before */
	double at_ms;    /* arrival of the session and the waits since */
	double wait_ms;  /* before this request, 0: none */
	uint32_t first, sent,
	    end; /* events: the turn's first, the first after what was sent, the first after the turn */
};

struct stat_role {
	uint64_t tokens, given; /* given: with confidence 1 */
	double confidence;      /* mean over tokens */
};

struct trace_stats {
	char format[32], tokens_by[64];
	uint32_t sessions, block_tokens; /* block_tokens 0: no content ids */
	bool global, partial; /* ids mean the same in all sessions; the last block of an input may be partial */
	struct stat_request *requests; /* owned */
	uint32_t request_count, request_cap;
	struct stat_values values[STAT_SERIES];
	uint64_t block_refs, unique_blocks, block_hits;
	uint64_t cut, shrunk, later; /* requests whose context was cut; whose input is shorter; all after a first */
	struct stat_role roles[IKV_KIND_COUNT];
	uint64_t role_tokens;
	struct overlap_summary overlap;
};
int trace_stats_collect(const struct session_list *list, struct trace_stats *out, struct ikv_err *err);
/* Counts for a list that was generated, as a reader fills them. */
void stats_to_facts(const struct trace_stats *s, struct trace_facts *f);
void trace_stats_free(struct trace_stats *s);
/* Requests of the sessions in order of time, without what needs content ids; used by trace_stats_collect. */
int stat_requests(const struct session_list *list, struct trace_stats *s, struct ikv_err *err);
int stat_push(struct stat_values *v, double x, struct ikv_err *err);

#endif

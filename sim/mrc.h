/* Miss-ratio curves: how many references of a trace miss in a cache of given bytes under a residency policy.
 *
 * A trace of references is a list of objects, numbered densely in order of appearance. They are either blocks, all
 * of the same bytes, or objects of which each reference tells the bytes. What is held keeps the bytes that it came
 * with; an object larger than the cache is never let in (libCacheSim's rules). */
#ifndef SIM_MRC_H
#define SIM_MRC_H

#include "sim/trace/id_table.h"

struct ref_trace {
	uint32_t *slots;     /* [count] the object of each reference, owned */
	uint32_t *bytes;     /* [count] its bytes in units of `unit_bytes`; NULL: one each. Owned. */
	uint64_t unit_bytes; /* of a block; 1 for objects */
	uint32_t count, cap, objects;
	uint64_t unique_units; /* all objects together, each as it came first */
	struct id_table ids;   /* id -> object, while references are added */
};

/* Starts zeroed. The first reference decides by `units` whether it is a trace of blocks (0) or of objects. */
int ref_trace_add(struct ref_trace *t, uint64_t id, uint32_t units, struct ikv_err *err);
void ref_trace_free(struct ref_trace *t);

struct ref_trace_options {
	const char *format; /* "auto" or an importer */
	enum ref_order { REF_AUTO, REF_TRACE, REF_TIME } order;
	uint64_t token_bytes; /* KV of one token: a block has its tokens times as many */
	uint32_t block_tokens; /* convert ids to blocks of so many tokens, 0: as they are */
	bool skip_bad;
};
/* The block or object references of any trace that has ids. In order of time, equal times keep the order of the
 * trace; AUTO is that where an importer reads session by session, else the order of the trace. */
int ref_trace_read(struct ref_trace *t, const char *path, const struct ref_trace_options *o, struct ikv_err *err);

/* Misses of each of the caches, which all see one pass over the references. `config` may be NULL: defaults, and as
 * libCacheSim has them. `seconds` (may be NULL): spent on the references alone. */
int mrc_run(const struct ref_trace *t, const struct ikv_residency_ops *ops, const void *config,
	    const uint64_t *capacity_bytes, uint32_t caches, uint64_t *misses, double *seconds, struct ikv_err *err);
/* The same for LRU from stack distances, so that the number of caches costs nothing; capacities ascending. Exact
 * where an object keeps its bytes and none is larger than the cache; else weighted by bytes all the same. */
int mrc_curve(const struct ref_trace *t, const uint64_t *capacity_bytes, uint32_t caches, uint64_t *misses,
	      struct ikv_err *err);

#endif

/* What decode calls of both kinds share: arrays that grow, plans that are sent once, answers, and the graph of a call's work
 * on the device. */
#ifndef GPU_CALL_H
#define GPU_CALL_H

#include <stddef.h>
#include "intentkv/attn.h"

struct call_plan { /* where a plan's arrays go; units that share one send it once */
	const struct ikv_plan *plan;
	size_t refs, masks;              /* elements before it */
	const struct ikv_page_ref *kept; /* on the device already, or NULL */
};

struct call_plans {
	struct call_plan *items;
	size_t cap;
	uint32_t count;
	size_t refs, masks; /* elements of all that are sent */
};

int call_room(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err);
static inline size_t call_up(size_t bytes)
{
	return (bytes + 127) & ~(size_t)127;
}

/* For a call of up to `units` units. */
int call_plans_begin(struct call_plans *p, uint32_t units, struct ikv_err *err);
/* Number of a plan, UINT32_MAX if it is new; units that share one mostly follow each other. */
uint32_t call_plans_find(const struct call_plans *p, const struct ikv_plan *plan);
uint32_t call_plans_add(struct call_plans *p, const struct ikv_plan *plan, const struct ikv_page_ref *kept);
void call_plans_put(const struct call_plans *p, struct ikv_page_ref *refs, uint64_t *masks);

/* Answers to the units: rows [heads][d_v] of all of them, then log-sum-exps, then the mass of those that want it. */
void call_answers(const float *out, const float *lse, const float *mass, const struct ikv_geometry *g,
		  const struct ikv_attn_unit *units, uint32_t count);

/* The work of a call, put on the stream: while a graph is recorded, or by itself. */
typedef int call_work(const void *step, void *stream, struct ikv_err *err);

struct call_graph {
	void *exec;   /* cudaGraphExec_t, NULL: none yet */
	size_t nodes; /* launches and copies in it */
	uint32_t kind;
};

/* An event (cudaEvent_t) at this place of the work, each time the graph runs that is being recorded. */
int call_mark(void *event, void *stream, struct ikv_err *err);
/* Nanoseconds between two of them, after the stream's work. */
double call_marked_ns(void *const events[2]);

void call_graph_free(struct call_graph *g);
/* Run the work of `step`, `size` bytes without gaps that differ. Where it is `last`, the graph is run as it is; else it is
 * recorded anew, and the graph that there is takes its parameters if both are of one `kind`: the same launches, and ways in
 * which these overlap. `last` is then a copy of `step`. */
int call_graph_run(struct call_graph *g, const void *step, void *last, size_t size, uint32_t kind, call_work *work,
		   void *stream, struct ikv_err *err);

#endif

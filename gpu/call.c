#include <cuda_runtime_api.h>
#include <string.h>
#include "gpu/call.h"
#include "gpu/device.h"
#include "intentkv/alloc.h"

int call_room(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	size_t want = need < 2 * *cap ? 2 * *cap : need;
	if (ikv_grow(array, 0, want, size, err))
		return -1;
	*cap = want;
	return 0;
}

int call_plans_begin(struct call_plans *p, uint32_t units, struct ikv_err *err)
{
	p->count = 0;
	p->refs = p->masks = 0;
	return call_room(&p->items, &p->cap, units, sizeof *p->items, err);
}

uint32_t call_plans_find(const struct call_plans *p, const struct ikv_plan *plan)
{
	for (uint32_t i = p->count; i-- > 0 && p->count - i <= 16;)
		if (p->items[i].plan == plan)
			return i;
	return UINT32_MAX;
}

uint32_t call_plans_add(struct call_plans *p, const struct ikv_plan *plan, const struct ikv_page_ref *kept)
{
	p->items[p->count] = (struct call_plan){plan, p->refs, p->masks, kept};
	p->refs += kept ? 0 : plan->count;
	p->masks += kept ? 0 : plan->mask_used;
	return p->count++;
}

void call_plans_put(const struct call_plans *p, struct ikv_page_ref *refs, uint64_t *masks)
{
	for (uint32_t i = 0; i < p->count; i++) {
		const struct call_plan *x = &p->items[i];
		if (x->kept)
			continue;
		if (x->plan->count)
			memcpy(refs + x->refs, x->plan->pages, x->plan->count * sizeof *refs);
		if (x->plan->mask_used)
			memcpy(masks + x->masks, x->plan->masks, x->plan->mask_used * sizeof *masks);
	}
}

void call_answers(const float *out, const float *lse, const float *mass, const struct ikv_geometry *g,
		  const struct ikv_attn_unit *units, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		size_t heads = (size_t)ikv_attn_rows(u) * u->q_count, n = heads * g->d_v, pages = heads * u->plan->count;
		if (n)
			memcpy(u->out, out, n * sizeof *out);
		if (u->lse && n)
			memcpy(u->lse, lse, heads * sizeof *lse);
		if (u->mass && pages)
			memcpy(u->mass, mass, pages * sizeof *mass);
		out += n;
		lse += heads;
		mass += u->mass ? pages : 0;
	}
}

int call_mark(void *event, void *stream, struct ikv_err *err)
{
	return device_failed(cudaEventRecordWithFlags(event, stream, cudaEventRecordExternal), "time attention", err);
}

double call_marked_ns(void *const events[2])
{
	float ms = 0;
	if (cudaEventElapsedTime(&ms, events[0], events[1]) != cudaSuccess)
		(void)cudaGetLastError();
	return ms * 1e6;
}

void call_graph_free(struct call_graph *g)
{
	if (g->exec)
		cudaGraphExecDestroy(g->exec);
	g->exec = NULL;
}

/* The graph of the work recorded: the one that there is with other parameters, where it has as many nodes of the same kinds.
 * Another would refuse, which tools that watch the interface report as an error. */
static int take(struct call_graph *g, cudaGraph_t graph, uint32_t kind, struct ikv_err *err)
{
	cudaGraphExec_t exec = g->exec;
	cudaGraphExecUpdateResultInfo why;
	size_t nodes = 0;
	(void)cudaGraphGetNodes(graph, NULL, &nodes);
	if (exec && nodes == g->nodes && kind == g->kind && cudaGraphExecUpdate(exec, graph, &why) == cudaSuccess)
		return 0;
	(void)cudaGetLastError();
	call_graph_free(g);
	if (device_failed(cudaGraphInstantiate(&exec, graph, 0), "record a step", err))
		return -1;
	*g = (struct call_graph){exec, nodes, kind};
	return 0;
}

int call_graph_run(struct call_graph *g, const void *step, void *last, size_t size, uint32_t kind, call_work *work,
		   void *stream, struct ikv_err *err)
{
	if (!g->exec || memcmp(step, last, size) != 0) {
		cudaGraph_t graph = NULL;
		if (device_failed(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "record a step", err))
			return -1;
		int failed = work(step, stream, err), ended = cudaStreamEndCapture(stream, &graph);
		failed = failed || device_failed(ended, "record a step", err) || take(g, graph, kind, err);
		if (graph)
			cudaGraphDestroy(graph);
		if (failed) /* the graph that there is, if any, stays that of its own step */
			return -1;
		memcpy(last, step, size);
	}
	return device_failed(cudaGraphLaunch(g->exec, stream), "compute attention", err);
}

#include <cuda_runtime_api.h>
#include <stdlib.h>
#include "gpu/bench_replay.h"
#include "gpu/device.h"

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static int run(cudaGraphExec_t graph, cudaEvent_t ends[2], cudaStream_t stream, double *ms, struct ikv_err *err)
{
	const char *doing = "time a graph";
	float one;
	if (device_failed(cudaEventRecord(ends[0], stream), doing, err) ||
	    device_failed(cudaGraphLaunch(graph, stream), doing, err) ||
	    device_failed(cudaEventRecord(ends[1], stream), doing, err) ||
	    device_failed(cudaEventSynchronize(ends[1]), doing, err) ||
	    device_failed(cudaEventElapsedTime(&one, ends[0], ends[1]), doing, err))
		return -1;
	*ms = one;
	return 0;
}

static int time_runs(cudaGraphExec_t graph, cudaEvent_t ends[2], cudaStream_t stream, double warm_ms,
		     uint32_t replays, struct bench_replay *result, struct ikv_err *err)
{
	double times[BENCH_REPLAYS_MAX], warm = 0, one;
	replays = replays < BENCH_REPLAYS_MAX ? replays : BENCH_REPLAYS_MAX;
	for (uint32_t i = 0; i < 3 || warm < warm_ms; i++, warm += one)
		if (run(graph, ends, stream, &one, err))
			return -1;
	for (uint32_t i = 0; i < replays; i++)
		if (run(graph, ends, stream, &times[i], err))
			return -1;
	qsort(times, replays, sizeof *times, by_value);
	*result = (struct bench_replay){times[replays / 2], times[0], times[replays - 1]};
	return 0;
}

int bench_replay(void *stream, double warm_ms, uint32_t replays, struct bench_replay *times, struct ikv_err *err)
{
	cudaGraph_t graph = NULL;
	cudaGraphExec_t exec = NULL;
	cudaEvent_t ends[2] = {NULL, NULL};
	int rc = device_failed(cudaStreamEndCapture(stream, &graph), "record a graph", err) ||
			 device_failed(cudaGraphInstantiate(&exec, graph, 0), "make a graph", err) ||
			 device_failed(cudaEventCreate(&ends[0]), "make an event", err) ||
			 device_failed(cudaEventCreate(&ends[1]), "make an event", err)
		     ? -1
		     : time_runs(exec, ends, stream, warm_ms, replays, times, err);
	for (int i = 0; i < 2; i++)
		if (ends[i])
			cudaEventDestroy(ends[i]);
	if (exec)
		cudaGraphExecDestroy(exec);
	if (graph)
		cudaGraphDestroy(graph);
	return rc;
}

/* Times of a graph, for bench_gpu.c and mla_bench.c. */
#ifndef GPU_BENCH_REPLAY_H
#define GPU_BENCH_REPLAY_H

#include <stdint.h>
#include "intentkv/error.h"

#define BENCH_REPLAYS_MAX 250u

struct bench_replay {
	double median, least, most; /* milliseconds of a replay */
};

/* End what is being recorded on the stream (cudaStream_t) and time `replays` runs of it, at most BENCH_REPLAYS_MAX, by
 * events, after it has run for BENCH_WARM_MS. */
int bench_replay(void *stream, uint32_t replays, struct bench_replay *times, struct ikv_err *err);

/* Where the memory has been idle or another kernel has run, an H200 reads up to 15 % slower for its first milliseconds
 * under load, on some cards for more than ten (docs/results/h200.md). */
#define BENCH_WARM_MS 40.0

#endif

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
 * events, after it has run for `warm_ms` and three times at least: for its first milliseconds under load an H200 may read
 * 15 % slower (docs/results/h200.md). */
int bench_replay(void *stream, double warm_ms, uint32_t replays, struct bench_replay *times, struct ikv_err *err);

#endif

/* Times of the attention kernels, for `intentkv bench gpu`. */
#ifndef GPU_BENCH_GPU_H
#define GPU_BENCH_GPU_H

#include <stdbool.h>
#include <stdint.h>
#include "intentkv/error.h"

#define GPU_BENCH_READS 8

struct gpu_bench_setup { /* lists are separated by commas; a name that there is not chooses nothing */
	const char *shapes, *formats, *pages, *selections;
	uint32_t replays; /* at most 250 */
	double warm_ms;   /* that a graph runs before it is timed */
	bool check, attention, moves; /* attention: the kernels that read pages; moves: what moves and re-encodes them */
};

/* The device's own limits. */
struct gpu_bench_limits {
	double kernel_us, copy_gbps, to_device_gbps,
	    to_host_gbps; /* kernel: an empty one in a graph; copy: read + written */
	double products_gflops; /* of FP16 summed in single precision, by the matrix units */
	uint64_t read_bytes[GPU_BENCH_READS];
	double read_us[GPU_BENCH_READS]; /* of so many bytes that are in no cache */
};

struct gpu_bench_result {
	const char *shape, *format;
	uint32_t batch, q_heads, kv_heads, head_dim, kv_tokens, page_tokens, blocks, warps, slots;
	double share; /* of the pages, chosen at random */
	double ms_median, ms_min, ms_max;
	double overlap_ms; /* each launch begins while the one before it ends */
	double resolve_ms; /* the list of tiles made from plan and page table on the device */
	/* Of a choice by Quest's bounds for each KV head, where not all pages are read; 0 otherwise: scores from summaries,
	 * the pages with the highest, and all from scores to the answer, launches overlapping. */
	double score_ms, pick_ms, chain_ms;
	uint64_t summary_bytes; /* that scores are made from */
	double read_ms;    /* a kernel that only reads as many bytes */
	double error;      /* largest difference of one head's output from double precision */
	uint64_t kv_bytes; /* with scales */
	double operations; /* of scores and weighted sums, two a product */
};

typedef void gpu_bench_row(void *context, const struct gpu_bench_result *row);

struct gpu_bench_move {
	const char *kernel; /* to_device, to_host, recode */
	const char *what;   /* copy, batch, gather; "FP16 to INT8" */
	uint64_t piece_bytes; /* of a copy, or of a page before */
	uint32_t blocks;      /* of the copy kernel; 0 where it is none */
	uint64_t bytes;       /* copied; re-encoding: read and written */
	double ms, ceiling_gbps; /* of one large copy */
};

typedef void gpu_bench_move_row(void *context, const struct gpu_bench_move *row);

/* IKV_UNAVAILABLE without a device. An error of the device later on ends the process with a message. */
int gpu_bench(const struct gpu_bench_setup *setup, struct gpu_bench_limits *limits,
	      void (*begin)(void *context, const struct gpu_bench_limits *limits), gpu_bench_row *each,
	      gpu_bench_move_row *each_move, void *context, struct ikv_err *err);

#endif

/* A build without CUDA. */
#include "config.h"
#include "backend.h"
#include "bench_gpu.h"

#include <stdio.h>

void backend_why_not(char *why, size_t size)
{
	snprintf(why, size, "built without CUDA: %s", CUDA_WHY_NOT);
}

void gpu_describe(char *text, size_t size)
{
	backend_why_not(text, size);
}

int gpu_bench(const struct gpu_bench_setup *setup, struct gpu_bench_limits *limits,
	      void (*begin)(void *context, const struct gpu_bench_limits *limits), gpu_bench_row *each,
	      gpu_bench_move_row *each_move, void *context, struct ikv_err *err)
{
	char why[300];
	(void)setup, (void)limits, (void)begin, (void)each, (void)each_move, (void)context;
	backend_why_not(why, sizeof why);
	return ikv_err_set(err, IKV_UNAVAILABLE, "bench gpu: %s", why);
}

// Choice of the kernel by width and number of heads.
#include <cuda_runtime.h>
#include "gpu/attend_kernel.cuh"
#include "gpu/attend_width.h"

// Stages of all warps of a block: more bytes under way only wait longer, and some multiprocessors' longer than others'.
#define STAGES_MAX 24u

uint32_t attend_configure(uint32_t steps, uint32_t heads, uint32_t stage_bytes, uint32_t shared_bytes, int bulk,
			  int four_bits, attend_config *c)
{
	for (int more = four_bits; more >= 0; more--) {
		uint32_t warps = attend_warps(steps, heads, more != 0);
		uint32_t n = bulk ? STAGES_MAX / warps : 2; // without bulk copies arrivals are counted: all but the newest
		while (n >= 2 && plan_shared(steps, heads, warps, n, stage_bytes).end > shared_bytes)
			n--;
		if (n < 2)
			continue;
		c->steps = steps;
		c->heads = heads;
		c->warps = warps;
		c->shared = plan_shared(steps, heads, warps, n, stage_bytes).end;
		return n;
	}
	return 0;
}

int attend_prepare(uint32_t steps, uint32_t shared)
{
	switch (steps) {
	case 4:
		return attend_prepare_4(shared);
	case 5:
		return attend_prepare_5(shared);
	case 6:
		return attend_prepare_6(shared);
	case 8:
		return attend_prepare_8(shared);
	case 16:
		return attend_prepare_16(shared);
	default:
		return cudaErrorInvalidValue;
	}
}

int attend_launch(const attend_args *args, const attend_config *c, void *stream)
{
	switch (c->steps) {
	case 4:
		return attend_launch_4(args, c, stream);
	case 5:
		return attend_launch_5(args, c, stream);
	case 6:
		return attend_launch_6(args, c, stream);
	case 8:
		return attend_launch_8(args, c, stream);
	case 16:
		return attend_launch_16(args, c, stream);
	default:
		return cudaErrorInvalidValue;
	}
}

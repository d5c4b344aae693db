// Latent attention: choice of the kernel, and what follows it where jobs were cut or mass is wanted.
#include <cuda_runtime.h>
#include "gpu/mla_part.cuh"

// A block joins the parts of one head.
__global__ void __launch_bounds__(128) join_parts(const mla_args args, uint32_t rows, uint32_t width)
{
	const mla_job &job = args.jobs[blockIdx.x];
	uint32_t h = blockIdx.y, n = job.parts, channel = threadIdx.x * 4;
	wait_for_predecessor();
	if (n < 2 || h >= job.heads)
		return;
	uint64_t first = ((uint64_t)job.first_part * width + h / rows) * rows + h % rows, step = (uint64_t)width * rows;
	const float2 *sums = (const float2 *)args.part_sums + first;
	float top = MLA_FLOOR, sum = 0;
#pragma unroll 4
	for (uint32_t i = 0; i < n; i++)
		top = fmaxf(top, sums[i * step].x);
	float4 x = make_float4(0, 0, 0, 0);
#pragma unroll 4
	for (uint32_t i = 0; i < n; i++) {
		float2 part = sums[i * step];
		float4 y = *(const float4 *)(args.parts + (first + i * step) * MLA_OUT + channel);
		float shrink = part.y > 0 ? exp2_fast(part.x - top) : 0;
		sum += part.y * shrink;
		x = make_float4(x.x + y.x * shrink, x.y + y.y * shrink, x.z + y.z * shrink, x.w + y.w * shrink);
	}
	float scale = sum > 0 ? 1 / sum : 0, *to = args.out + (uint64_t)(job.row + h) * args.d_v + channel;
	const float y[4] = {x.x * scale, x.y * scale, x.z * scale, x.w * scale};
	for (uint32_t i = 0; i < 4; i++)
		if (channel + i < args.d_v)
			to[i] = y[i];
	if (threadIdx.x)
		return;
	args.lse[job.row + h] = sum > 0 ? (top + log2f(sum)) * LN2 : -INFINITY;
	if (args.sums)
		((float2 *)args.sums)[job.row + h] = make_float2(top, sum);
}

// Shares of pages from the sums of their groups.
__global__ void __launch_bounds__(128) share_mass(const mla_args args)
{
	const mla_job &job = args.jobs[blockIdx.x];
	uint32_t h = blockIdx.y;
	if (job.mass == UINT64_MAX || h >= job.heads)
		return;
	float2 whole = ((const float2 *)args.sums)[job.row + h];
	const float2 *groups = (const float2 *)args.group_mass + job.group_mass + (uint64_t)h * job.groups;
	for (uint32_t page = threadIdx.x; page < job.pages; page += blockDim.x) {
		float sum = 0;
		for (uint32_t i = 0; i < args.page_groups; i++) {
			float2 x = groups[page * args.page_groups + i];
			sum += x.x > 0 ? x.x * exp2_fast(x.y - whole.x) : 0;
		}
		args.mass[job.mass + (uint64_t)h * job.pages + page] = whole.y > 0 ? sum / whole.y : 0;
	}
}

void mla_configure(uint32_t heads, uint32_t hopper, mla_config *c)
{
	c->hopper = hopper;
	c->rows = hopper ? 64 : 16;
	c->groups = hopper ? MLA_STAGE_GROUPS : 8;
	c->width = (heads + c->rows - 1) / c->rows;
}

int mla_prepare(uint32_t hopper)
{
	if (!hopper)
		return mla_portable_prepare();
	int status = mla_plain_prepare();
	return status ? status : mla_codes_prepare();
}

static int launch_join(const mla_args *args, const mla_config *c, cudaStream_t stream)
{
	cudaLaunchAttribute overlap = {};
	overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	overlap.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = dim3(c->jobs, c->rows * c->width);
	config.blockDim = dim3(128);
	config.stream = stream;
	config.attrs = &overlap;
	config.numAttrs = mla_joins_early(c) ? 1 : 0;
	return cudaLaunchKernelEx(&config, join_parts, *args, c->rows, c->width);
}

int mla_launch(const mla_args *args, const mla_config *c, void *stream)
{
	int status = !c->hopper ? mla_portable_launch(args, c, stream)
		     : c->codes ? mla_codes_launch(args, c, stream)
				: mla_plain_launch(args, c, stream);
	if (!status && c->joins)
		status = launch_join(args, c, (cudaStream_t)stream);
	if (!status && c->mass) {
		share_mass<<<dim3(c->jobs, c->rows * c->width), 128, 0, (cudaStream_t)stream>>>(*args);
		status = cudaGetLastError();
	}
	return status;
}

// Latent attention on compute capability 9.0. A block of four warpgroups takes 64 heads of a list's segments:
//   scores   products of queries and keys for 64 tokens at a time, weights, the running reference
//   outputs  two warpgroups, 256 channels of the answer each, in registers
//   copies   each of four warps brings one group of 8 tokens of every stage, and widens its codes
// That the answer is shared by two warpgroups is FlashMLA's scheme (deepseek-ai/FlashMLA, "A Deep-Dive Into the New Flash
// MLA Kernel", 2025); here a third one computes the scores, with half of the queries in its registers,
// which leaves its bandwidth to keys.
#include <cuda_runtime.h>
#include "gpu/mla_ring.cuh"

#if HAS_BULK
#include "gpu/mla_copy.cuh"
#include "gpu/mla_score.cuh"

// ---- outputs

struct output {
	uint32_t shared, warp, lane, part; // part: 0 or 1 of the channels
	ring stage, weights, result;
};

DEVICE void shrink_output(const output &c, float (&o)[2][64])
{
	uint32_t at = c.shared + AT_SHRINK + (c.weights.slot * ROWS + 16 * c.warp + c.lane / 4) * 4;
	float low = load_float(at), high = load_float(at + 32);
	results(o[0]);
	results(o[1]);
#pragma unroll
	for (int i = 0; i < 128; i++)
		o[i / 64][i % 64] *= i / 2 % 2 ? high : low;
}

DEVICE void ask_output(const output &c, float (&o)[2][64], bool begin)
{
	uint64_t p = matrix(c.shared + AT_WEIGHTS + c.weights.slot * 4096, 16, 512, SWIZZLE_64);
	uint64_t v = matrix(c.shared + c.stage.slot * STAGE_BYTES + c.part * 4096, 1024, MLA_GROUP_BYTES, SWIZZLE_128);
	products_begin();
#pragma unroll
	for (int k = 0; k < 2; k++)
#pragma unroll
		for (int h = 0; h < 2; h++)
			weigh(o[h], p + k * 32 / 16, v + (k * 2 * MLA_GROUP_BYTES + h * 2048) / 16, k || !begin);
	products_close();
}

// The stage and the weights before those of c are used up.
DEVICE void release(const output &c)
{
	uint32_t stage = c.stage.slot ? c.stage.slot - 1 : STAGES - 1, weights = c.weights.slot ? c.weights.slot - 1 : WEIGHTS - 1;
	if (c.lane == 0) {
		barrier_arrive(c.shared + AT_EMPTY + stage * 8);
		barrier_arrive(c.shared + AT_USED + weights * 8);
	}
}

// The answer of the block's heads, or its part of it, unnormalised.
DEVICE void put_output(const mla_args &args, const mla_segment &seg, const output &c, const float (&o)[2][64], uint32_t rank,
		       uint32_t heads, bool none)
{
#pragma unroll
	for (int h = 0; h < 2; h++) {
		uint32_t head = 16 * c.warp + c.lane / 4 + 8 * h, d = seg.parts > 1 ? MLA_OUT : args.d_v;
		float sum = load_float(c.shared + AT_RESULT + head * 8 + 4), scale = seg.parts > 1 ? 1 : sum > 0 ? 1 / sum : 0;
		if (head >= heads)
			continue;
		float *to = seg.parts > 1 ? args.parts + (((uint64_t)seg.part * args.width + rank) * ROWS + head) * MLA_OUT
					  : args.out + (uint64_t)(seg.row + rank * ROWS + head) * args.d_v;
#pragma unroll
		for (int m = 0; m < 16; m++) {
			uint32_t at = c.part * 256 + 16 * m + c.lane % 4 * 4;
			const float *y = o[m / 8] + m % 8 * 8 + 2 * h;
			float4 x = make_float4(y[0] * scale, y[1] * scale, y[4] * scale, y[5] * scale);
			if (none)
				x = make_float4(0, 0, 0, 0);
			if (d % 4 == 0) {
				if (at < d)
					*(float4 *)(to + at) = x;
				continue;
			}
			const float z[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
			for (int i = 0; i < 4; i++)
				if (at + i < d)
					to[at + i] = z[i];
		}
	}
}

DEVICE void output_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	output c = {shared, threadIdx.x / 32 % 4, threadIdx.x % 32, threadIdx.x / 128 - 1, {0, 0}, {0, 0}, {0, 0}};
	float o[2][64];
	for (uint32_t k = list; k != ATTEND_NONE; k = args.segments[k].next) {
		const mla_segment &seg = args.segments[k];
		uint32_t heads = block_heads(seg, rank), n = stages_of(seg);
		if (!heads)
			continue;
		for (uint32_t i = 0; i < n; i += 2) {
			barrier_wait(shared + AT_WEIGHED + c.weights.slot * 8, c.weights.parity);
			barrier_wait(full_barrier(shared, c.stage.slot, c.part), c.stage.parity);
			if (i && load4(shared + AT_MOVED + (c.weights.slot * 4 + c.warp) * 4))
				shrink_output(c, o);
			ask_output(c, o, i == 0);
			advance<STAGES>(c.stage);
			advance<WEIGHTS>(c.weights);
			barrier_wait(shared + AT_WEIGHED + c.weights.slot * 8, c.weights.parity);
			barrier_wait(full_barrier(shared, c.stage.slot, c.part), c.stage.parity);
			ask_output(c, o, false);
			products_wait<1>();
			release(c);
			advance<STAGES>(c.stage);
			advance<WEIGHTS>(c.weights);
			products_wait<0>(); // at once, not after the next pair's weights: the keys to come need its place
			release(c);
		}
		results(o[0]);
		results(o[1]);
		if (seg.next == ATTEND_NONE)
			let_successor_begin();
		barrier_wait(shared + AT_DONE, c.result.parity);
		advance<1>(c.result);
		put_output(args, seg, c, o, rank, heads, n == 0);
		__syncwarp();
		if (c.lane == 0)
			barrier_arrive(shared + AT_TAKEN);
	}
}

template <bool mass> __global__ void __launch_bounds__(512, 1) mla_hopper(const __grid_constant__ mla_args args)
{
	extern __shared__ uint8_t memory[];
	uint32_t shared = (shared_address(memory) + 1023) & ~1023u;
	uint32_t list = blockIdx.x / args.width, rank = blockIdx.x % args.width, group = threadIdx.x / 128;
	if (threadIdx.x == 0) {
		for (uint32_t i = 0; i < STAGES; i++) {
			for (uint32_t part = 0; part < PARTS; part++)
				barrier_init_count(full_barrier(shared, i, part), 4);
			barrier_init_count(shared + AT_EMPTY + i * 8, 8);
		}
		for (uint32_t i = 0; i < WEIGHTS; i++) {
			barrier_init_count(shared + AT_WEIGHED + i * 8, 4);
			barrier_init_count(shared + AT_USED + i * 8, 8);
		}
		barrier_init_count(shared + AT_DONE, 4);
		barrier_init_count(shared + AT_TAKEN, 8);
		barrier_init_visible();
	}
	__syncthreads();
	if (group == 3) {
		asm volatile("setmaxnreg.dec.sync.aligned.u32 64;");
		copy_role(args, shared, list, rank);
	} else if (group == 0) {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 128;");
		score_role<mass>(args, shared, list, rank);
	} else {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 160;");
		output_role(args, shared, list, rank);
	}
}

#else
template <bool mass> __global__ void mla_hopper(const __grid_constant__ mla_args args)
{
}
#endif

int mla_hopper_prepare(void)
{
	cudaError_t status = cudaFuncSetAttribute(mla_hopper<false>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
	return status ? status : cudaFuncSetAttribute(mla_hopper<true>, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
}

int mla_hopper_launch(const mla_args *args, const mla_config *c, void *stream)
{
	if (c->mass)
		mla_hopper<true><<<c->lists * c->width, 512, SHARED, (cudaStream_t)stream>>>(*args);
	else
		mla_hopper<false><<<c->lists * c->width, 512, SHARED, (cudaStream_t)stream>>>(*args);
	return cudaGetLastError();
}

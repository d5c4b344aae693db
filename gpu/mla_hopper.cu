// Latent attention on compute capability 9.0. A block of four warpgroups takes 64 heads of a list's segments:
//   scores   products of queries and keys for 48 tokens at a time, weights, the running reference
//   outputs  two warpgroups, 256 channels of the answer each, in registers
//   copies   four warps bring groups of 8 tokens in turn, and widen codes
// That the answer is shared by two warpgroups is FlashMLA's scheme (deepseek-ai/FlashMLA, "A Deep-Dive Into the New Flash
// MLA Kernel", 2025); here a third one computes the scores, with some of the queries in its registers,
// which leaves bandwidth of shared memory to keys.
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

DEVICE void clear_output(float (&o)[2][64])
{
#pragma unroll
	for (int i = 0; i < 128; i++)
		o[i / 64][i % 64] = 0;
}

// Products with a stage's weights, a group of them for each block of 16 tokens.
DEVICE void ask_output(const output &c, float (&o)[2][64], bool begin)
{
	uint64_t p = matrix(c.shared + AT_WEIGHTS + c.weights.slot * WEIGHT_BYTES, 16, 256, SWIZZLE_32);
	uint64_t v = matrix(c.shared + c.stage.slot * STAGE_BYTES + c.part * 4096, 1024, MLA_GROUP_BYTES, SWIZZLE_128);
	products_begin();
#pragma unroll
	for (int k = 0; k < (int)STAGE_BLOCKS; k++) {
#pragma unroll
		for (int h = 0; h < 2; h++)
			weigh(o[h], p + k * BLOCK_BYTES / 16, v + (k * 2 * MLA_GROUP_BYTES + h * 2048) / 16, k || !begin);
		products_close();
	}
}

// Products with a block of 16 tokens are done; `left`: blocks after it.
template <int left> DEVICE void free_block(const output &c, uint32_t empty)
{
	products_wait<left>();
	if (c.lane == 0)
		barrier_arrive(empty);
}

// A row of the answer; `first`: the lane's first channel, four of each 16.
DEVICE void put_row(float *to, const float (&o)[2][64], uint32_t half, float scale, uint32_t first, uint32_t channels)
{
#pragma unroll
	for (int m = 0; m < 16; m++) {
		const float *y = o[m / 8] + m % 8 * 8 + 2 * half;
		if (first + 16 * m < channels)
			*(float4 *)(to + first + 16 * m) = make_float4(y[0] * scale, y[1] * scale, y[4] * scale, y[5] * scale);
	}
}

// The same where rows do not begin at multiples of 16 bytes.
DEVICE void put_odd_row(float *to, const float (&o)[2][64], uint32_t half, float scale, uint32_t first, uint32_t channels)
{
#pragma unroll
	for (int m = 0; m < 16; m++)
#pragma unroll
		for (int i = 0; i < 4; i++)
			if (first + 16 * m + i < channels)
				to[first + 16 * m + i] = o[m / 8][m % 8 * 8 + 2 * half + i / 2 * 4 + i % 2] * scale;
}

// The answer of the block's heads, or its part of it, unnormalised.
DEVICE void put_output(const mla_args &args, const mla_segment &seg, const output &c, const float (&o)[2][64], uint32_t rank,
		       uint32_t heads)
{
#pragma unroll
	for (int half = 0; half < 2; half++) {
		uint32_t head = 16 * c.warp + c.lane / 4 + 8 * half, first = c.part * 256 + c.lane % 4 * 4;
		float sum = load_float(c.shared + AT_RESULT + head * 8 + 4), scale = sum > 0 ? 1 / sum : 0;
		if (head >= heads)
			continue;
		if (seg.parts > 1)
			put_row(args.parts + (((uint64_t)seg.part * args.width + rank) * ROWS + head) * MLA_OUT, o, half, 1, first, MLA_OUT);
		else if (args.d_v % 4 == 0)
			put_row(args.out + (uint64_t)(seg.row + rank * ROWS + head) * args.d_v, o, half, scale, first, args.d_v);
		else
			put_odd_row(args.out + (uint64_t)(seg.row + rank * ROWS + head) * args.d_v, o, half, scale, first, args.d_v);
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
		for (uint32_t i = 0; i < n; i++) {
			barrier_wait(shared + AT_WEIGHED + c.weights.slot * 8, c.weights.parity);
			barrier_wait(shared + AT_FULL + c.stage.slot * 8, c.stage.parity);
			if (i && load4(shared + AT_MOVED + (c.weights.slot * 4 + c.warp) * 4))
				shrink_output(c, o);
			ask_output(c, o, i == 0);
			// At once, not after the next weights: the keys to come need the stage's place.
			uint32_t empty = shared + AT_EMPTY + c.stage.slot * STAGE_BLOCKS * 8;
			free_block<2>(c, empty);
			free_block<1>(c, empty + 8);
			free_block<0>(c, empty + 16);
			if (c.lane == 0)
				barrier_arrive(shared + AT_USED + c.weights.slot * 8);
			advance<STAGES>(c.stage);
			advance<WEIGHTS>(c.weights);
		}
		results(o[0]);
		results(o[1]);
		if (n == 0)
			clear_output(o);
		if (seg.next == ATTEND_NONE)
			let_successor_begin();
		barrier_wait(shared + AT_DONE, c.result.parity);
		advance<1>(c.result);
		put_output(args, seg, c, o, rank, heads);
		barrier_arrive(shared + AT_TAKEN);
	}
}

template <bool codes, bool mass> __global__ void __launch_bounds__(512, 1) mla_hopper(const __grid_constant__ mla_args args)
{
	extern __shared__ uint8_t memory[];
	uint32_t shared = (shared_address(memory) + 1023) & ~1023u;
	uint32_t list = blockIdx.x / args.width, rank = blockIdx.x % args.width, group = threadIdx.x / 128;
	if (threadIdx.x == 0) {
		for (uint32_t i = 0; i < STAGES; i++) {
			barrier_init_count(shared + AT_FULL + i * 8, STAGE_GROUPS);
			for (uint32_t k = 0; k < STAGE_BLOCKS; k++)
				barrier_init_count(shared + AT_EMPTY + (i * STAGE_BLOCKS + k) * 8, 8);
		}
		for (uint32_t i = 0; i < WEIGHTS; i++) {
			barrier_init_count(shared + AT_WEIGHED + i * 8, 4);
			barrier_init_count(shared + AT_USED + i * 8, 8);
		}
		barrier_init_count(shared + AT_DONE, 4 * 32); // every lane: once a segment, and racecheck can follow it
		barrier_init_count(shared + AT_TAKEN, 8 * 32);
		barrier_init_visible();
	}
	__syncthreads();
	if (group == 3) {
		set_registers<COPY_REGISTERS>();
		copy_role(args, shared, list, rank);
	} else if (group == 0) {
		set_registers<SCORE_REGISTERS>();
		score_role<mass>(args, shared, list, rank);
	} else {
		set_registers<160>();
		output_role(args, shared, list, rank);
	}
}

#else
template <bool codes, bool mass> __global__ void mla_hopper(const __grid_constant__ mla_args args)
{
}
#endif

// This file is compiled twice (gpu/local.mk), for pages in FP16 alone and for any.
#if MLA_CODES
#define NAME(name) mla_codes_##name
#else
#define NAME(name) mla_plain_##name
#endif

typedef void kernel(const mla_args);

static kernel *choose(bool mass)
{
	return mass ? mla_hopper<MLA_CODES, true> : mla_hopper<MLA_CODES, false>;
}

int NAME(prepare)(void)
{
	cudaError_t status = cudaFuncSetAttribute(choose(false), cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
	return status ? status : cudaFuncSetAttribute(choose(true), cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
}

int NAME(launch)(const mla_args *args, const mla_config *c, void *stream)
{
	choose(c->mass)<<<c->lists * c->width, 512, SHARED, (cudaStream_t)stream>>>(*args);
	return cudaGetLastError();
}

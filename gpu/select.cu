// Which pages to read: bounds of q·k by page, and the pages with the highest.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include "gpu/attend_ptx.cuh"
#include "gpu/select.h"

#define SCORE_THREADS 128u
#define SCORE_PAGES   4u  // of a half warp at once
#define SCORE_HEADS   4u  // query heads at once
#define SCORE_BLOCKS  4u  // of a multiprocessor, for up to 128 channels
#define QUERY_FLOATS  8192u // of shared memory at most

// Sums of 16 lanes, 16 values each, as the CPU folds them: 16 to 8 to 4 to 2 to 1, lane i and lane i + HALF. Each step
// leaves a lane half of its values, so that lane i ends with value i.
template <uint32_t HALF> __device__ static float fold(float (&x)[2 * HALF], uint32_t lane)
{
	float kept[HALF];
	bool upper = lane & HALF;
#pragma unroll
	for (uint32_t i = 0; i < HALF; i++) {
		float give = upper ? x[i] : x[i + HALF], keep = upper ? x[i + HALF] : x[i];
		kept[i] = __fadd_rn(keep, __shfl_xor_sync(~0u, give, HALF));
	}
	if constexpr (HALF == 1)
		return kept[0];
	else
		return fold<HALF / 2>(kept, lane);
}

// Channels of one load: four a lane. The larger product is that of the largest key where the query is not negative. Of
// fewer than four heads the last one is taken again.
__device__ static void add_chunk(float (&sums)[16], const uint4 (&words)[SCORE_PAGES], const float *q, uint32_t stride,
				 uint32_t heads)
{
#pragma unroll
	for (uint32_t h = 0; h < SCORE_HEADS; h++) {
		float4 four = *reinterpret_cast<const float4 *>(q + min(h, heads - 1) * stride);
		const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
		for (uint32_t e = 0; e < 4; e++) {
			bool up = x[e] >= 0;
#pragma unroll
			for (uint32_t p = 0; p < SCORE_PAGES; p++) {
				uint32_t word = e == 0 ? words[p].x : e == 1 ? words[p].y : e == 2 ? words[p].z : words[p].w;
				float2 key = __half22float2(*reinterpret_cast<__half2 *>(&word));
				sums[p * SCORE_HEADS + h] =
				    __fadd_rn(sums[p * SCORE_HEADS + h], __fmul_rn(x[e], up ? key.y : key.x));
			}
		}
	}
}

// The unit's largest score so far of each page: lane l has that of page l / 4 and head l % 4 of the four at hand.
__device__ static void take_largest(float mine, uint32_t heads, bool first, float &best)
{
#pragma unroll
	for (uint32_t h = 0; h < SCORE_HEADS; h++) {
		float x = __shfl_sync(~0u, mine, h, SCORE_HEADS);
		if (h < heads && ((first && h == 0) || x > best))
			best = x;
	}
}

// Queries of `heads` heads from `from` on to shared memory, in the order of summaries; four at a time are read.
__device__ static void load_queries(const select_unit &u, const select_args &args, uint32_t from, uint32_t heads, uint32_t words,
				    float *q)
{
	uint32_t padded = (heads + SCORE_HEADS - 1) / SCORE_HEADS * SCORE_HEADS;
	for (uint32_t i = threadIdx.x; i < padded * words; i += SCORE_THREADS) {
		uint32_t h = i / words, d = i % words;
		q[h * words + select_word(d)] =
		    h < heads && d < args.d_qk ? u.q[(size_t)(from + h) * args.d_qk + d] : 0.0f;
	}
	__syncthreads();
}

// Summary of a page and KV head, where this lane begins.
__device__ static const uint4 *summary_of(const select_unit &u, const select_args &args, uint32_t page, uint32_t kv, uint32_t words,
					  uint32_t lane)
{
	return reinterpret_cast<const uint4 *>(u.summaries + ((size_t)min(page, u.pages - 1) * args.kv_heads + kv) * words) + lane;
}

// A half warp takes four pages, lane i the channels i, i + 16, … All queries of a unit are in shared memory. What comes
// next, another KV head or four more pages, is asked for as soon as its place is free.
template <uint32_t CHUNKS> __global__ static void __launch_bounds__(SCORE_THREADS, CHUNKS <= 2 ? SCORE_BLOCKS : 2)
score(const __grid_constant__ select_args args)
{
	constexpr uint32_t words = CHUNKS * SELECT_CHUNK, step = SCORE_THREADS / SELECT_LANES * SCORE_PAGES;
	extern __shared__ float q[];
	if (args.overlap)
		wait_for_predecessor();
	let_successor_begin();
	const select_unit u = args.units[blockIdx.y];
	uint32_t lane = threadIdx.x % SELECT_LANES, pages = u.pages, q_first = u.q_first, q_count = u.q_count;
	uint32_t first = blockIdx.x * step * args.steps, page = first + threadIdx.x / SELECT_LANES * SCORE_PAGES;
	if (first >= pages)
		return;
	uint32_t kv_first = q_first / args.group, kv_last = (q_first + q_count - 1) / args.group, kv = kv_first;
	uint4 kept[CHUNKS][SCORE_PAGES];
#pragma unroll
	for (uint32_t p = 0; p < SCORE_PAGES; p++)
#pragma unroll
		for (uint32_t c = 0; c < CHUNKS; c++)
			kept[c][p] = __ldg(summary_of(u, args, page + p, kv, words, lane) + c * SELECT_LANES);
	load_queries(u, args, 0, q_count, words, q);
	float best = 0;
	for (uint32_t left = min((pages - first + step - 1) / step, args.steps); left;) {
		uint32_t begin = kv == kv_first ? 0 : kv * args.group - q_first, end = min((kv + 1) * args.group - q_first, q_count);
		bool last = kv == kv_last; // of the unit's KV heads
		uint32_t next_page = last ? page + step : page, next_kv = last ? kv_first : kv + 1;
		const uint4 *next[SCORE_PAGES];
#pragma unroll
		for (uint32_t p = 0; p < SCORE_PAGES; p++)
			next[p] = summary_of(u, args, next_page + p, next_kv, words, lane);
		for (uint32_t h = begin; h < end; h += SCORE_HEADS) {
			float sums[16] = {};
#pragma unroll
			for (uint32_t c = 0; c < CHUNKS; c++) {
				add_chunk(sums, kept[c], q + h * words + c * SELECT_CHUNK + lane * 4, words, end - h);
				if (h + SCORE_HEADS >= end && (!last || left > 1))
#pragma unroll
					for (uint32_t p = 0; p < SCORE_PAGES; p++)
						kept[c][p] = __ldg(next[p] + c * SELECT_LANES);
			}
			take_largest(fold<8>(sums, lane), end - h, h == 0, best);
		}
		if (last) {
			if (lane % 4 == 0 && page + lane / 4 < pages)
				u.scores[page + lane / 4] = best;
			left--;
		}
		page = next_page;
		kv = next_kv;
	}
}

// The same for any width and number of heads: queries come to shared memory in parts, summaries with each four heads.
__global__ static void __launch_bounds__(SCORE_THREADS) score_any(const __grid_constant__ select_args args)
{
	extern __shared__ float q[];
	if (args.overlap)
		wait_for_predecessor();
	let_successor_begin();
	const select_unit u = args.units[blockIdx.y];
	uint32_t lane = threadIdx.x % SELECT_LANES, half = threadIdx.x / SELECT_LANES;
	uint32_t first = blockIdx.x * (SCORE_THREADS / SELECT_LANES) * SCORE_PAGES, page = first + half * SCORE_PAGES;
	if (first >= u.pages)
		return;
	uint32_t chunks = (args.d_qk + SELECT_CHUNK - 1) / SELECT_CHUNK, words = chunks * SELECT_CHUNK;
	uint32_t at_once = QUERY_FLOATS / words / SCORE_HEADS * SCORE_HEADS;
	float best = 0;
	for (uint32_t i = 0, n; i < u.q_count; i += n) { // heads of one KV head, as many as fit
		uint32_t kv = (u.q_first + i) / args.group;
		n = min(min((kv + 1) * args.group - (u.q_first + i), u.q_count - i), at_once);
		__syncthreads();
		load_queries(u, args, i, n, words, q);
		for (uint32_t h = 0; h < n; h += SCORE_HEADS) {
			float sums[16] = {};
			for (uint32_t c = 0; c < chunks; c++) {
				uint4 keys[SCORE_PAGES];
#pragma unroll
				for (uint32_t p = 0; p < SCORE_PAGES; p++)
					keys[p] = __ldg(summary_of(u, args, page + p, kv, words, lane) + c * SELECT_LANES);
				add_chunk(sums, keys, q + h * words + c * SELECT_CHUNK + lane * 4, words, n - h);
			}
			take_largest(fold<8>(sums, lane), n - h, i + h == 0, best);
		}
	}
	if (lane % 4 == 0 && page + lane / 4 < u.pages)
		u.scores[page + lane / 4] = best;
}

#define PICK_THREADS 1024u // of a block, or PICK_FEW where pages are few
#define PICK_FEW     256u
#define PICK_ROWS    8u // pages of a thread at once
#define PICK_BINS    2048u
#define PICK_PASSES  3u // digits of 11, 11 and 10 bits

struct pick_shared {
	alignas(16) uint32_t histogram[PICK_PASSES][PICK_BINS];
	uint32_t warps[32], rows[PICK_ROWS * 32];
	uint32_t digit, left;
};

// Order-preserving key of a score, as the CPU's pick_item. NaN ranks lowest, -0 equals 0; pinned pages above all.
__device__ static uint32_t key_of(const select_unit &u, uint32_t page)
{
	if (page < u.first || u.pages - page <= u.recent)
		return ~0u;
	float score = u.scores[page] + 0.0f;
	uint32_t bits = __float_as_uint(score);
	return score != score ? 0 : bits >> 31 ? ~bits : bits | 1u << 31;
}

template <bool BYTES> __device__ static uint32_t cost_of(const select_unit &u, const select_args &args, uint32_t page)
{
	uint32_t sum = 0;
	if constexpr (BYTES)
		for (uint32_t h = u.kv_first; h < u.kv_first + u.kv_count; h++)
			sum += args.cost[u.table[(size_t)page * args.kv_heads + h] & 15];
	return BYTES ? sum : 1;
}

// Sum over the threads before this one, and over all of them.
template <uint32_t THREADS> __device__ static uint32_t sum_before(uint32_t mine, uint32_t *warps, uint32_t &all)
{
	uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, sum = mine;
#pragma unroll
	for (uint32_t d = 1; d < 32; d *= 2) {
		uint32_t x = __shfl_up_sync(~0u, sum, d);
		sum += lane >= d ? x : 0;
	}
	__syncthreads();
	if (lane == 31)
		warps[warp] = sum;
	__syncthreads();
	uint32_t w = lane < THREADS / 32 ? warps[lane] : 0, total = w;
#pragma unroll
	for (uint32_t d = 1; d < 32; d *= 2) {
		uint32_t x = __shfl_up_sync(~0u, total, d);
		total += lane >= d ? x : 0;
	}
	all = __shfl_sync(~0u, total, 31);
	return __shfl_sync(~0u, total - w, warp) + sum - mine;
}

// The digit at which the sum from the largest one down exceeds what is left, and what is left before it. There is one:
// the whole costs more.
template <uint32_t THREADS> __device__ static void find_digit(pick_shared &s, const uint32_t *histogram, uint32_t left)
{
	constexpr uint32_t each = PICK_BINS / THREADS;
	uint32_t bin = PICK_BINS - 1 - each * threadIdx.x, sum = 0, all; // larger digits first
	for (uint32_t i = 0; i < each; i++)
		sum += histogram[bin - i];
	uint32_t before = sum_before<THREADS>(sum, s.warps, all);
	for (uint32_t i = 0; i < each && before <= left; i++) {
		uint32_t here = histogram[bin - i];
		if (left - before < here) {
			s.digit = bin - i;
			s.left = left - before;
			break;
		}
		before += here;
	}
	__syncthreads();
}

// Sum of s.rows before each (row, warp) in the order of pages, in place; returns the whole.
template <uint32_t THREADS> __device__ static uint32_t sum_rows(pick_shared &s)
{
	constexpr uint32_t n = PICK_ROWS * (THREADS / 32);
	uint32_t all, i = threadIdx.x, mine = 0;
	__syncthreads();
	if (i < n)
		mine = s.rows[i];
	uint32_t before = sum_before<THREADS>(mine, s.warps, all);
	if (i < n)
		s.rows[i] = before;
	__syncthreads();
	return all;
}

// One block a unit. Radix selection of the key up to which the budget reaches, then references in ascending order. Where
// pages have one key and not all fit, the lower ones are taken.
template <bool BYTES, uint32_t THREADS>
__global__ static void __launch_bounds__(THREADS, PICK_THREADS / THREADS) pick(const __grid_constant__ select_args args)
{
	__shared__ pick_shared s;
	if (args.overlap)
		wait_for_predecessor();
	let_successor_begin();
	const select_unit u = args.units[blockIdx.x];
	if (!u.budget) {
		if (threadIdx.x == 0)
			*u.count = 0;
		return;
	}
	constexpr uint32_t chunk = THREADS * PICK_ROWS, warps = THREADS / 32;
	uint32_t key[PICK_ROWS], cost[PICK_ROWS], lane = threadIdx.x % 32, warp = threadIdx.x / 32;
	bool once = u.pages <= chunk, everything = !BYTES && u.budget >= u.pages;
	uint32_t prefix = 0, mask = 0, left = u.budget;
	auto load = [&](uint32_t base) {
#pragma unroll
		for (uint32_t i = 0; i < PICK_ROWS; i++) {
			uint32_t page = base + i * THREADS + threadIdx.x;
			key[i] = page < u.pages ? key_of(u, page) : 0;
			cost[i] = page < u.pages ? cost_of<BYTES>(u, args, page) : 0;
		}
	};
	for (uint32_t i = threadIdx.x; i < PICK_PASSES * PICK_BINS / 4; i += THREADS)
		reinterpret_cast<uint4 *>(s.histogram)[i] = make_uint4(0, 0, 0, 0);
	if (once)
		load(0);
	__syncthreads();
	// Once nothing is left, all that is larger so far is what fits.
	for (uint32_t pass = 0; pass < PICK_PASSES && left && !everything; pass++) {
		uint32_t shift = pass == 0 ? 21 : pass == 1 ? 10 : 0, bits = pass == 2 ? 10 : 11;
		uint32_t *histogram = s.histogram[pass];
		for (uint32_t base = 0; base < u.pages; base += chunk) {
			if (!once)
				load(base);
#pragma unroll
			for (uint32_t i = 0; i < PICK_ROWS; i++)
				if (cost[i] && (key[i] & mask) == prefix) {
					uint32_t *bin = &histogram[key[i] >> shift & ((1u << bits) - 1)];
					if constexpr (BYTES)
						atomicAdd(bin, cost[i]);
					else
						atomicAdd(bin, 1u); // a constant: a warp's are counted together
				}
		}
		__syncthreads();
		if (BYTES && pass == 0) { // does all of it fit?
			uint32_t all, mine = 0;
			for (uint32_t i = threadIdx.x; i < PICK_BINS; i += THREADS)
				mine += histogram[i];
			sum_before<THREADS>(mine, s.warps, all);
			everything = all <= left;
			if (everything)
				break;
		}
		find_digit<THREADS>(s, histogram, left);
		prefix |= s.digit << shift;
		mask |= ((1u << bits) - 1) << shift;
		left = s.left;
	}
	uint32_t taken = 0, spent = 0; // references, and cost of those with the last key
	for (uint32_t base = 0; base < u.pages; base += chunk) {
		uint32_t chosen = 0; // a bit a row
		if (!once)
			load(base);
		if (left && !everything) { // some of those with the last key
			uint32_t before[PICK_ROWS];
#pragma unroll
			for (uint32_t i = 0; i < PICK_ROWS; i++) {
				uint32_t mine = key[i] == prefix ? cost[i] : 0, sum = mine;
#pragma unroll
				for (uint32_t d = 1; d < 32; d *= 2) {
					uint32_t x = __shfl_up_sync(~0u, sum, d);
					sum += lane >= d ? x : 0;
				}
				before[i] = sum - mine;
				if (lane == 31)
					s.rows[i * warps + warp] = sum;
			}
			uint32_t all = sum_rows<THREADS>(s);
#pragma unroll
			for (uint32_t i = 0; i < PICK_ROWS; i++)
				if (cost[i] && key[i] == prefix && spent + s.rows[i * warps + warp] + before[i] + cost[i] <= left)
					chosen |= 1u << i;
			spent += all;
			__syncthreads();
		}
		uint32_t ballots[PICK_ROWS];
#pragma unroll
		for (uint32_t i = 0; i < PICK_ROWS; i++) {
			if (cost[i] && (everything || (key[i] & mask) > prefix))
				chosen |= 1u << i;
			ballots[i] = __ballot_sync(~0u, chosen >> i & 1);
			if (lane == 0) {
				uint32_t word = base / 32 + i * warps + warp;
				s.rows[i * warps + warp] = __popc(ballots[i]);
				if (word < (u.pages + 63) / 64 * 2)
					u.chosen[word] = ballots[i];
			}
		}
		uint32_t all = sum_rows<THREADS>(s);
#pragma unroll
		for (uint32_t i = 0; i < PICK_ROWS; i++) {
			uint32_t page = base + i * THREADS + threadIdx.x;
			uint32_t at = taken + s.rows[i * warps + warp] + __popc(ballots[i] & ((1u << lane) - 1));
			uint32_t tokens = page + 1 < u.pages ? args.page_tokens : u.last;
			if ((chosen >> i & 1) && at < u.room)
				reinterpret_cast<uint4 *>(u.refs)[at] = make_uint4(page, tokens << 16, IKV_NO_MASK, 0);
		}
		taken += all;
		__syncthreads();
	}
	for (uint32_t i = taken + threadIdx.x; i < u.room; i += THREADS) // page 0, none of its tokens
		reinterpret_cast<uint4 *>(u.refs)[i] = make_uint4(0, 0, IKV_NO_MASK, 0);
	if (threadIdx.x == 0)
		*u.count = taken;
}

static int launch(const void *kernel, dim3 grid, uint32_t threads, uint32_t shared, const select_args *args, void *stream)
{
	cudaLaunchAttribute attribute = {};
	attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
	attribute.val.programmaticStreamSerializationAllowed = 1;
	cudaLaunchConfig_t config = {};
	config.gridDim = grid;
	config.blockDim = threads;
	config.dynamicSmemBytes = shared;
	config.stream = (cudaStream_t)stream;
	config.attrs = &attribute;
	config.numAttrs = args->overlap ? 1 : 0;
	void *list[] = {(void *)args};
	return cudaLaunchKernelExC(&config, kernel, list);
}

int select_scores(const select_args *args, void *stream)
{
	uint32_t chunks = (args->d_qk + SELECT_CHUNK - 1) / SELECT_CHUNK, words = chunks * SELECT_CHUNK;
	uint32_t floats = (args->heads_most + SCORE_HEADS - 1) / SCORE_HEADS * SCORE_HEADS * words;
	bool any = floats > QUERY_FLOATS || chunks == 3 || chunks > 4;
	const void *kernel = any	   ? (const void *)score_any
			     : chunks == 1 ? (const void *)score<1>
			     : chunks == 2 ? (const void *)score<2>
					   : (const void *)score<4>;
	uint32_t each = SCORE_THREADS / SELECT_LANES * SCORE_PAGES, groups = (args->pages_most + each - 1) / each;
	uint64_t slots = (uint64_t)args->multiprocessors * (chunks <= 2 ? SCORE_BLOCKS : 2);
	select_args own = *args;
	if (!args->count || !args->pages_most)
		return cudaSuccess;
	own.steps = any || !slots ? 1 : (uint32_t)(((uint64_t)groups * args->count + slots - 1) / slots); // one wave of blocks
	for (uint32_t i = 0; i < args->count; i += 65535) { // a grid's second side
		own.units = args->units + i;
		if (int e = launch(kernel, dim3((groups + own.steps - 1) / own.steps, min(args->count - i, 65535u)), SCORE_THREADS,
				   (floats < QUERY_FLOATS ? floats : QUERY_FLOATS) * 4, &own, stream))
			return e;
	}
	return cudaSuccess;
}

// Units with a table are counted in bytes; all of a call are or none.
int select_pages(const select_args *args, void *stream)
{
	if (!args->count || !args->pages_most)
		return cudaSuccess;
	bool few = args->pages_most <= PICK_FEW * PICK_ROWS;
	const void *kernel = args->bytes ? few ? (const void *)pick<true, PICK_FEW> : (const void *)pick<true, PICK_THREADS>
			     : few	 ? (const void *)pick<false, PICK_FEW>
					 : (const void *)pick<false, PICK_THREADS>;
	return launch(kernel, args->count, few ? PICK_FEW : PICK_THREADS, 0, args, stream);
}

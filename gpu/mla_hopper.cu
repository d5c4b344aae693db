// Latent attention on compute capability 9.0. A block of four warpgroups takes 64 heads of a list's segments:
//   scores   products of queries and keys for 64 tokens at a time, weights, the running reference
//   outputs  two warpgroups, 256 channels of the answer each, in registers
//   copies   each of four warps brings one group of 8 tokens of every stage, and widens its codes
// That the answer is shared by two warpgroups is FlashMLA's scheme (deepseek-ai/FlashMLA, "A Deep-Dive Into the New Flash
// MLA Kernel", 2025); here a third one computes the scores, with half of the queries in its registers,
// which leaves its bandwidth to keys.
#include <cuda_runtime.h>
#include "gpu/mla_part.cuh"
#include "gpu/mla_ptx.cuh"

#define STAGES       4u
#define STAGE_TOKENS 32u
#define STAGE_BYTES  (4 * MLA_GROUP_BYTES)
#define ROWS         64u
#define WEIGHTS      4u // buffers of a stage's weights
#define HELD         4  // chunks of the queries in registers; the others are in shared memory

// Bytes from the start of shared memory.
#define AT_QUERY   (STAGES * STAGE_BYTES)
#define AT_WEIGHTS (AT_QUERY + (MLA_CHUNKS - HELD) * 8192u)
#define AT_SHRINK  (AT_WEIGHTS + WEIGHTS * 4096u)   // [WEIGHTS][64]
#define AT_RESULT  (AT_SHRINK + WEIGHTS * 256u)    // {reference, sum} [64]
#define AT_MASKS   (AT_RESULT + 512u)       // [STAGES] words
#define AT_MOVED   (AT_MASKS + 32u)                 // [WEIGHTS][4]: did a warp's references move
#define AT_FULL    (AT_MOVED + 64u)
#define AT_EMPTY   (AT_FULL + STAGES * 8)
#define AT_RAW     (AT_EMPTY + STAGES * 8) // [STAGES][4]
#define AT_WEIGHED (AT_RAW + STAGES * 32)         // [WEIGHTS]
#define AT_USED    (AT_WEIGHED + WEIGHTS * 8)    // [WEIGHTS]
#define AT_DONE    (AT_USED + WEIGHTS * 8)
#define AT_TAKEN   (AT_DONE + 8)
#define SHARED     (AT_TAKEN + 8 + 1024)

struct ring { // place in a ring of `n`, with the parity of its round
	uint32_t slot, parity;
};

template <uint32_t n> DEVICE void advance(ring &r)
{
	if (++r.slot == n) {
		r.slot = 0;
		r.parity ^= 1;
	}
}

// The part of a segment's heads that is this block's; 0: none.
DEVICE uint32_t block_heads(const mla_segment &s, uint32_t rank)
{
	uint32_t first = rank * ROWS;
	return s.heads <= first ? 0 : s.heads - first < ROWS ? s.heads - first : ROWS;
}

// Always pairs, side by side in the ring: scores are found for 64 tokens.
DEVICE uint32_t stages_of(const mla_segment &s)
{
	return (s.end - s.first + 7) / 8 * 2;
}

#if HAS_BULK

// ---- copies

struct copier {
	uint32_t shared, warp, lane;
	ring in, out;                  // next stage to be filled, next one to be seen to
	uint32_t waiting;              // stages between them
	uint32_t formats;              // 4 bits a slot
	uint64_t policy;
	bool keep;
};

// See to the oldest stage that has been asked for: 8-bit and 4-bit codes become FP16.
DEVICE bool widen_next(copier &c)
{
	uint32_t format = c.formats >> 4 * c.out.slot & 15;
	if (format > IKV_FMT_FP16) {
		if (!__all_sync(~0u, barrier_passed(c.shared + AT_RAW + (c.out.slot * 4 + c.warp) * 8, c.out.parity)))
			return false;
		expand_group(c.shared + c.out.slot * STAGE_BYTES + c.warp * MLA_GROUP_BYTES, format, c.lane);
		publish();
		__syncwarp();
		if (c.lane == 0)
			barrier_arrive(c.shared + AT_FULL + c.out.slot * 8);
	} else if (c.lane == 0) { // keeps the parity in step with the rounds
		barrier_arrive(c.shared + AT_RAW + (c.out.slot * 4 + c.warp) * 8);
	}
	__syncwarp();
	advance<STAGES>(c.out);
	c.waiting--;
	return true;
}

DEVICE void fill_stage(copier &c, uint64_t at, uint32_t mask)
{
	uint32_t format = (uint32_t)at & 15, slot = c.in.slot;
	uint32_t full = c.shared + AT_FULL + slot * 8, group = c.shared + slot * STAGE_BYTES + c.warp * MLA_GROUP_BYTES;
	while (c.waiting && widen_next(c))
		;
	uint32_t empty = c.shared + AT_EMPTY + slot * 8;
	while (c.waiting && (c.waiting == STAGES || !__all_sync(~0u, barrier_passed(empty, c.in.parity ^ 1)))) {
		if (!widen_next(c))
			__nanosleep(100); // polling takes from the matrix units' bandwidth
	}
	barrier_wait(empty, c.in.parity ^ 1);
	if (!at)
		clear_group(group, c.lane);
	if (c.lane == 0)
		store_byte(c.shared + AT_MASKS + slot * 4 + c.warp, mask);
	if (!at)
		publish();
	__syncwarp();
	if (c.lane == 0) {
		uint32_t bytes = mla_group_bytes(format), to = group + raw_offset(format);
		uint32_t barrier = format == IKV_FMT_FP16 ? full : c.shared + AT_RAW + (slot * 4 + c.warp) * 8;
		if (!at) {
			barrier_arrive(full);
		} else { // the copy alone is no arrival: without one the stage would never be full
			barrier_expect(barrier, bytes);
			if (c.keep)
				bulk_copy_kept(to, at & ~(uint64_t)15, bytes, barrier);
			else
				bulk_copy(to, at & ~(uint64_t)15, bytes, barrier, c.policy);
		}
	}
	__syncwarp();
	c.formats = (c.formats & ~(15u << 4 * slot)) | format << 4 * slot;
	c.waiting++;
	advance<STAGES>(c.in);
	while (c.waiting > 1 && widen_next(c))
		;
}

DEVICE void copy_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	copier c = {shared, threadIdx.x / 32 % 4, threadIdx.x % 32, {0, 0}, {0, 0}, 0, 0, read_once(), args.keep != 0};
	for (uint32_t i = list; i != ATTEND_NONE; i = args.segments[i].next) {
		const mla_segment &s = args.segments[i];
		if (!block_heads(s, rank))
			continue;
		uint32_t n = stages_of(s), first = s.first + c.warp;
		group_note now = find_group(s, first + 4 * c.lane, args.page_groups);
		for (uint32_t base = 0; base < n; base += 32) {
			group_note later = find_group(s, first + 4 * (base + 32 + c.lane), args.page_groups);
			for (uint32_t k = 0; k < 32 && base + k < n; k++)
				fill_stage(c, __shfl_sync(~0u, now.at, k), __shfl_sync(~0u, now.mask, k));
			now = later;
		}
	}
	while (c.waiting)
		widen_next(c);
}

// ---- scores

struct row_state { // of the two rows a thread has in every product
	float factor[2], top[2], sum[2];
};

struct scorer {
	uint32_t shared, warp, lane;
	ring stage, weights;
};

DEVICE void load_queries(const mla_args &args, const scorer &c, uint32_t row, uint32_t heads, uint32_t (&q)[HELD][4][4],
			 row_state &r)
{
	uint32_t g = c.lane / 4, t = c.lane % 4, low = 16 * c.warp + g, thread = threadIdx.x % 128;
#pragma unroll
	for (int half = 0; half < 2; half++) {
		uint32_t h = low + 8 * half;
		bool there = h < heads;
		const uint16_t *from = args.q + (uint64_t)(row + (there ? h : 0)) * MLA_DIM;
		r.factor[half] = there ? args.factor[row + h] : 1;
		r.top[half] = MLA_FLOOR;
		r.sum[half] = 0;
#pragma unroll
		for (int i = 0; i < HELD * 4; i++) {
			uint2 x = there ? __ldg((const uint2 *)(from + i * 16 + 4 * t)) : make_uint2(0, 0);
			q[i / 4][i % 4][half] = x.x;
			q[i / 4][i % 4][2 + half] = x.y;
		}
	}
	meet<128>(1); // all warps are done with the queries before
	const uint32_t pieces = (MLA_CHUNKS - HELD) * 4; // of 16 channels
#pragma unroll
	for (uint32_t batch = 0; batch < ROWS * pieces / 128; batch += 5) { // loads first: one wait for all
		uint4 x[5][2];
#pragma unroll
		for (uint32_t i = 0; i < 5; i++) {
			uint32_t k = thread + 128 * (batch + i), h = k / pieces, piece = k % pieces;
			const uint4 *from = (const uint4 *)(args.q + (uint64_t)(row + (h < heads ? h : 0)) * MLA_DIM + (HELD * 4 + piece) * 16);
			x[i][0] = h < heads ? __ldg(from) : make_uint4(0, 0, 0, 0);
			x[i][1] = h < heads ? __ldg(from + 1) : make_uint4(0, 0, 0, 0);
		}
#pragma unroll
		for (uint32_t i = 0; i < 5; i++) {
			uint32_t k = thread + 128 * (batch + i), h = k / pieces, piece = k % pieces;
			uint32_t to = c.shared + AT_QUERY + piece / 4 * 8192 + h * 128, unit = piece % 4 * 2;
			uint4 a = x[i][0], b = x[i][1];
			store16(to + ((unit ^ h % 8) * 16), make_uint4(a.x, a.z, b.x, b.z));
			store16(to + (((unit + 1) ^ h % 8) * 16), make_uint4(a.y, a.w, b.y, b.w));
		}
	}
	publish();
	meet<128>(1);
}

// Scores of 64 tokens, of stage `slot` and the next.
DEVICE void find_scores(const scorer &c, uint32_t slot, const uint32_t (&q)[HELD][4][4], float (&s)[2][16])
{
	uint64_t keys = matrix(c.shared + slot * STAGE_BYTES, 16, MLA_GROUP_BYTES, SWIZZLE_128);
	uint64_t queries = matrix(c.shared + AT_QUERY, 16, 1024, SWIZZLE_128);
	products_begin();
#pragma unroll
	for (int i = 0; i < (int)MLA_CHUNKS * 4; i++) {
		uint64_t k = keys + (i / 4 * 1024 + i % 4 * 32) / 16;
		if (i < HELD * 4)
			score_registers(s, q[i / 4][i % 4], k, i > 0);
		else
			score_shared(s, queries + ((i / 4 - HELD) * 8192 + i % 4 * 32) / 16, k, 1);
	}
	products_close();
	products_wait<0>();
}

// Tokens that take no part score -inf.
DEVICE void mask_scores(float (&s)[16], uint32_t mask, uint32_t lane)
{
	mask >>= lane % 4 * 2;
#pragma unroll
	for (int i = 0; i < 16; i++)
		if (!(mask >> (i / 4 * 8 + i % 2) & 1))
			s[i] = -INFINITY;
}

// Move the references of rows whose scores have outgrown them; by how much, for what was summed so far.
DEVICE void move_tops(const float (&s)[2][16], row_state &r, float (&shrink)[2], bool &moved)
{
	float most[2] = {-INFINITY, -INFINITY};
#pragma unroll
	for (int i = 0; i < 32; i++)
		most[i / 2 % 2] = fmaxf(most[i / 2 % 2], s[i / 16][i % 16]);
	bool beyond = false;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		most[h] = fmaxf(most[h], __shfl_xor_sync(~0u, most[h], 1));
		most[h] = fmaxf(most[h], __shfl_xor_sync(~0u, most[h], 2)) * r.factor[h];
		beyond = beyond || most[h] > r.top[h] + MLA_SLACK;
	}
	moved = __any_sync(~0u, beyond);
	shrink[0] = shrink[1] = 1;
	if (!moved)
		return;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float top = most[h] > r.top[h] + MLA_SLACK ? most[h] : r.top[h];
		shrink[h] = exp2_fast(r.top[h] - top);
		r.sum[h] *= shrink[h];
		r.top[h] = top;
	}
}

// Sums of each group of 8 tokens, for the mass of pages.
DEVICE void note_mass(const mla_args &args, const mla_segment &seg, const float (&p)[16], const row_state &r, uint32_t group,
		      uint32_t first_head, uint32_t heads, uint32_t lane, uint32_t warp)
{
#pragma unroll
	for (int j = 0; j < 4; j++)
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float sum = p[4 * j + 2 * h] + p[4 * j + 2 * h + 1];
			sum += __shfl_xor_sync(~0u, sum, 1);
			sum += __shfl_xor_sync(~0u, sum, 2);
			uint32_t head = 16 * warp + lane / 4 + 8 * h;
			if (lane % 4 == 0 && head < heads && group + j < seg.end)
				((float2 *)args.group_mass)[seg.group_mass + (uint64_t)(first_head + head) * seg.groups + group + j] =
				    make_float2(sum, r.top[h]);
		}
}

// Scores of a stage to weights, handed to the outputs.
template <bool mass>
DEVICE void give_weights(const mla_args &args, const mla_segment &seg, scorer &c, float (&s)[16], row_state &r, uint32_t group,
			 uint32_t rank, uint32_t heads, const float (&shrink)[2], bool moved)
{
	uint32_t b = c.weights.slot;
#pragma unroll
	for (int i = 0; i < 16; i++)
		s[i] = exp2_fast(fmaf(s[i], r.factor[i / 2 % 2], -r.top[i / 2 % 2]));
#pragma unroll
	for (int h = 0; h < 2; h++)
		r.sum[h] += ((s[2 * h] + s[2 * h + 1]) + (s[2 * h + 4] + s[2 * h + 5])) +
			    ((s[2 * h + 8] + s[2 * h + 9]) + (s[2 * h + 12] + s[2 * h + 13]));
	if (mass && seg.group_mass != UINT64_MAX)
		note_mass(args, seg, s, r, group, rank * ROWS, heads, c.lane, c.warp);
	barrier_wait(c.shared + AT_USED + b * 8, c.weights.parity ^ 1);
	uint32_t half = c.lane / 8 % 2, in = c.lane % 8, tile = c.lane / 16;
	uint32_t to = c.shared + AT_WEIGHTS + b * 4096 + (2 * c.warp + half) * 512 + in * 64;
#pragma unroll
	for (int k = 0; k < 2; k++) {
		uint32_t w[4];
#pragma unroll
		for (int i = 0; i < 4; i++)
			w[i] = half2_bits(__floats2half2_rn(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]));
		store_matrices(to + (((2 * k + tile) ^ in / 2) * 16), w[0], w[1], w[2], w[3]);
	}
	if (moved && c.lane % 4 == 0) {
		uint32_t at = c.shared + AT_SHRINK + (b * ROWS + 16 * c.warp + c.lane / 4) * 4;
		store4(at, shrink[0]);
		store4(at + 32, shrink[1]);
	}
	if (c.lane == 0)
		store_word(c.shared + AT_MOVED + (b * 4 + c.warp) * 4, moved);
	publish();
	__syncwarp();
	if (c.lane == 0)
		barrier_arrive(c.shared + AT_WEIGHED + b * 8);
	advance<WEIGHTS>(c.weights);
}

// Groups from `group` on, of two stages.
template <bool mass>
DEVICE void score_stages(const mla_args &args, const mla_segment &seg, scorer &c, const uint32_t (&q)[HELD][4][4], row_state &r,
			 uint32_t group, uint32_t rank, uint32_t heads)
{
	float s[2][16], shrink[2];
	bool moved;
	barrier_wait(c.shared + AT_FULL + c.stage.slot * 8, c.stage.parity);
	barrier_wait(c.shared + AT_FULL + c.stage.slot * 8 + 8, c.stage.parity);
	find_scores(c, c.stage.slot, q, s);
	results(s[0]);
	results(s[1]);
	uint32_t mask = load4(c.shared + AT_MASKS + c.stage.slot * 4), mask2 = load4(c.shared + AT_MASKS + c.stage.slot * 4 + 4);
	if ((mask & mask2) != ~0u) {
		mask_scores(s[0], mask, c.lane);
		mask_scores(s[1], mask2, c.lane);
	}
	move_tops(s, r, shrink, moved);
	give_weights<mass>(args, seg, c, s[0], r, group, rank, heads, shrink, moved);
	give_weights<mass>(args, seg, c, s[1], r, group + 4, rank, heads, shrink, false);
	advance<STAGES>(c.stage);
	advance<STAGES>(c.stage);
}

DEVICE void give_result(const mla_args &args, const mla_segment &seg, const scorer &c, row_state &r, uint32_t rank, uint32_t heads,
			ring &result)
{
	barrier_wait(c.shared + AT_TAKEN, result.parity ^ 1);
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float sum = r.sum[h];
		sum += __shfl_xor_sync(~0u, sum, 1);
		sum += __shfl_xor_sync(~0u, sum, 2);
		uint32_t head = 16 * c.warp + c.lane / 4 + 8 * h, row = seg.row + rank * ROWS + head;
		if (c.lane % 4)
			continue;
		store4(c.shared + AT_RESULT + head * 8, r.top[h]);
		store4(c.shared + AT_RESULT + head * 8 + 4, sum);
		if (head >= heads)
			continue;
		if (seg.parts > 1) {
			((float2 *)args.part_sums)[((uint64_t)seg.part * args.width + rank) * ROWS + head] = make_float2(r.top[h], sum);
			continue;
		}
		args.lse[row] = sum > 0 ? (r.top[h] + log2f(sum)) * LN2 : -INFINITY;
		if (args.sums)
			((float2 *)args.sums)[row] = make_float2(r.top[h], sum);
	}
	__syncwarp();
	if (c.lane == 0)
		barrier_arrive(c.shared + AT_DONE);
	advance<1>(result);
}

template <bool mass> DEVICE void score_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	scorer c = {shared, threadIdx.x / 32 % 4, threadIdx.x % 32, {0, 0}, {0, 0}};
	ring result = {0, 0};
	uint32_t q[HELD][4][4];
	row_state r;
	for (uint32_t k = list; k != ATTEND_NONE; k = args.segments[k].next) {
		const mla_segment &seg = args.segments[k];
		uint32_t heads = block_heads(seg, rank), n = stages_of(seg);
		if (!heads)
			continue;
		load_queries(args, c, seg.row + rank * ROWS, heads, q, r);
		for (uint32_t i = 0; i < n; i += 2)
			score_stages<mass>(args, seg, c, q, r, seg.first + 4 * i, rank, heads);
		give_result(args, seg, c, r, rank, heads, result);
	}
}

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
			barrier_wait(shared + AT_FULL + c.stage.slot * 8, c.stage.parity);
			if (i && load4(shared + AT_MOVED + (c.weights.slot * 4 + c.warp) * 4))
				shrink_output(c, o);
			ask_output(c, o, i == 0);
			advance<STAGES>(c.stage);
			advance<WEIGHTS>(c.weights);
			barrier_wait(shared + AT_WEIGHED + c.weights.slot * 8, c.weights.parity);
			barrier_wait(shared + AT_FULL + c.stage.slot * 8, c.stage.parity);
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
			barrier_init_count(shared + AT_FULL + i * 8, 4);
			barrier_init_count(shared + AT_EMPTY + i * 8, 8);
			for (uint32_t w = 0; w < 4; w++)
				barrier_init_count(shared + AT_RAW + (i * 4 + w) * 8, 1);
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
		asm volatile("setmaxnreg.dec.sync.aligned.u32 48;");
		copy_role(args, shared, list, rank);
	} else if (group == 0) {
		asm volatile("setmaxnreg.inc.sync.aligned.u32 144;");
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

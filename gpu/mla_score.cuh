// The warpgroup that computes scores and weights, and keeps the running reference.
#ifndef GPU_MLA_SCORE_CUH
#define GPU_MLA_SCORE_CUH

#include "gpu/mla_ring.cuh"

struct row_state { // of the two rows a thread has in every product
	float factor[2], top[2], sum[2];
};

struct scorer {
	uint32_t shared, warp, lane;
	ring stage, weights;
};

DEVICE void load_queries(const mla_args &args, const scorer &c, uint32_t row, uint32_t heads, uint32_t (&q)[HELD][4],
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
		for (int i = 0; i < HELD; i++) {
			uint2 x = there ? __ldg((const uint2 *)(from + i * 16 + 4 * t)) : make_uint2(0, 0);
			q[i][half] = x.x;
			q[i][2 + half] = x.y;
		}
	}
	meet<128>(1); // all warps are done with the queries before
	const uint32_t pieces = STEPS - HELD, each = ROWS * pieces / 128, batch = each % 6 == 0 ? 6 : 4; // steps of 16 channels
	static_assert(HELD % 4 == 0 && each % batch == 0, "whole chunks and batches");
	uint32_t h = thread / pieces, piece = thread % pieces;
#pragma unroll 1
	for (uint32_t begin = 0; begin < each; begin += batch) { // loads first: one wait for all
		uint4 x[batch][2];
		uint32_t to[batch];
#pragma unroll
		for (uint32_t i = 0; i < batch; i++) {
			const uint4 *from = (const uint4 *)(args.q + (uint64_t)(row + h) * MLA_DIM + (HELD + piece) * 16);
			x[i][0] = h < heads ? __ldg(from) : make_uint4(0, 0, 0, 0);
			x[i][1] = h < heads ? __ldg(from + 1) : make_uint4(0, 0, 0, 0);
			to[i] = c.shared + AT_QUERY + piece / 4 * 8192 + h * 128 + ((piece % 4 * 2) ^ h % 8) * 16;
			h += 128 / pieces;
			piece += 128 % pieces;
			if (piece >= pieces) {
				piece -= pieces;
				h++;
			}
		}
#pragma unroll
		for (uint32_t i = 0; i < batch; i++) {
			uint4 a = x[i][0], b = x[i][1];
			store16(to[i], make_uint4(a.x, a.z, b.x, b.z));
			store16(to[i] ^ 16, make_uint4(a.y, a.w, b.y, b.w));
		}
	}
	publish();
	meet<128>(1);
}

// The newest weights are there.
DEVICE void hand_over(const scorer &c)
{
	publish();
	__syncwarp();
	if (c.lane == 0)
		barrier_arrive(c.shared + AT_WEIGHED + slot_before<WEIGHTS>(c.weights) * 8);
}

// Scores of the next stage, and its tokens that take part. `more`: there are weights of a stage before it to hand over.
DEVICE uint2 find_scores(const scorer &c, const uint32_t (&q)[HELD][4], float (&s)[24], bool more)
{
	uint64_t keys = matrix(c.shared + c.stage.slot * STAGE_BYTES, 16, MLA_GROUP_BYTES, SWIZZLE_128);
	uint64_t queries = matrix(c.shared + AT_QUERY, 16, 1024, SWIZZLE_128);
	uint32_t full = c.shared + AT_FULL + c.stage.slot * 8;
	if (MLA_CODES && more && !__all_sync(~0u, barrier_passed(full, c.stage.parity))) { // widening is what decides
		hand_over(c);
		more = false;
	}
	barrier_wait(full, c.stage.parity);
	uint2 mask = load8(c.shared + AT_MASKS + c.stage.slot * 8);
	products_begin();
#pragma unroll
	for (int i = 0; i < (int)STEPS; i++) {
		uint64_t k = keys + (i / 4 * 1024 + i % 4 * 32) / 16;
		if (i == HAND_OVER && more)
			hand_over(c);
		if (i < HELD)
			score_registers(s, q[i], k, i > 0);
		else
			score_shared(s, queries + ((i - HELD) / 4 * 8192 + i % 4 * 32) / 16, k, 1);
	}
	products_close();
	products_wait<0>();
	results(s);
	return make_uint2(mask.x, mask.y & 0xffff);
}

// Tokens that take no part score -inf: a bit each, 32 in `low`, the others in `high`.
DEVICE void mask_scores(float (&s)[24], uint32_t low, uint32_t high, uint32_t lane)
{
	low >>= lane % 4 * 2;
	high >>= lane % 4 * 2;
#pragma unroll
	for (int i = 0; i < 24; i++)
		if (!((i < 16 ? low : high) >> (i / 4 % 4 * 8 + i % 2) & 1))
			s[i] = -INFINITY;
}

// Move the references of rows whose scores have outgrown them, which is seldom; by how much, for what was summed so far.
DEVICE void move_tops(const float (&s)[24], row_state &r, float (&shrink)[2], bool &moved)
{
	float most[2];
	bool beyond = false;
	shrink[0] = shrink[1] = 1;
#pragma unroll
	for (int h = 0; h < 2; h++) { // two chains each
		float a = -INFINITY, b = -INFINITY;
#pragma unroll
		for (int i = 2 * h; i < 24; i += 8) {
			a = fmaxf(a, fmaxf(s[i], s[i + 1]));
			b = fmaxf(b, fmaxf(s[i + 4], s[i + 5]));
		}
		most[h] = fmaxf(a, b);
		beyond |= most[h] * r.factor[h] > r.top[h] + MLA_SLACK;
	}
	moved = __any_sync(~0u, beyond);
	if (!moved)
		return;
#pragma unroll
	for (int h = 0; h < 2; h++) {
		most[h] = fmaxf(most[h], __shfl_xor_sync(~0u, most[h], 1));
		most[h] = fmaxf(most[h], __shfl_xor_sync(~0u, most[h], 2)) * r.factor[h];
		float top = most[h] > r.top[h] + MLA_SLACK ? most[h] : r.top[h];
		shrink[h] = exp2_fast(r.top[h] - top);
		r.sum[h] *= shrink[h];
		r.top[h] = top;
	}
}

// Sums of each group of 8 tokens, for the mass of pages.
DEVICE void note_mass(const mla_args &args, const mla_segment &seg, const float (&p)[24], const row_state &r, uint32_t group,
		      uint32_t first_head, uint32_t heads, uint32_t lane, uint32_t warp)
{
#pragma unroll
	for (int j = 0; j < (int)STAGE_GROUPS; j++)
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

// Scores of a stage to weights; hand_over hands them to the outputs.
template <bool mass>
DEVICE void give_weights(const mla_args &args, const mla_segment &seg, scorer &c, float (&s)[24], row_state &r, uint32_t group,
			 uint32_t rank, uint32_t heads, const float (&shrink)[2], bool moved)
{
	uint32_t b = c.weights.slot;
	barrier_wait(c.shared + AT_USED + b * 8, c.weights.parity ^ 1);
#pragma unroll
	for (int i = 0; i < 24; i++)
		s[i] = exp2_fast(fmaf(s[i], r.factor[i / 2 % 2], -r.top[i / 2 % 2]));
	uint32_t half = c.lane / 8 % 2, in = c.lane % 8, tile = c.lane / 16;
	uint32_t to = c.shared + AT_WEIGHTS + b * WEIGHT_BYTES + (2 * c.warp + half) * 256 + in * 32 + (tile ^ in / 4) * 16;
#pragma unroll
	for (int k = 0; k < 3; k++) {
		uint32_t w[4];
#pragma unroll
		for (int i = 0; i < 4; i++)
			w[i] = half2_bits(__floats2half2_rn(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]));
		store_matrices(to + k * BLOCK_BYTES, w[0], w[1], w[2], w[3]);
	}
	if (moved && c.lane % 4 == 0) {
		uint32_t at = c.shared + AT_SHRINK + (b * ROWS + 16 * c.warp + c.lane / 4) * 4;
		store4(at, shrink[0]);
		store4(at + 32, shrink[1]);
	}
	if (c.lane == 0)
		store_word(c.shared + AT_MOVED + (b * 4 + c.warp) * 4, moved);
	advance<WEIGHTS>(c.weights);
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float sum = 0;
#pragma unroll
		for (int i = 0; i < 24; i += 4)
			sum += s[i + 2 * h] + s[i + 2 * h + 1];
		r.sum[h] += sum;
	}
	if (mass && seg.group_mass != UINT64_MAX)
		note_mass(args, seg, s, r, group, rank * ROWS, heads, c.lane, c.warp);
}

// The stage that begins with `group`.
template <bool mass>
DEVICE void score_stage(const mla_args &args, const mla_segment &seg, scorer &c, const uint32_t (&q)[HELD][4], row_state &r,
			uint32_t group, uint32_t rank, uint32_t heads)
{
	float s[24], shrink[2];
	bool moved;
	uint2 mask = find_scores(c, q, s, group != seg.first);
	if (mask.x != ~0u || mask.y != 0xffff)
		mask_scores(s, mask.x, mask.y, c.lane);
	move_tops(s, r, shrink, moved);
	give_weights<mass>(args, seg, c, s, r, group, rank, heads, shrink, moved);
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
	barrier_arrive(c.shared + AT_DONE);
	advance<1>(result);
}

template <bool mass> DEVICE void score_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	static_assert(STAGE_GROUPS == 6, "scores of a stage are 24 a thread");
	scorer c = {shared, threadIdx.x / 32 % 4, threadIdx.x % 32, {0, 0}, {0, 0}};
	ring result = {0, 0};
	uint32_t q[HELD][4];
	row_state r;
	for (uint32_t k = list; k != ATTEND_NONE; k = args.segments[k].next) {
		const mla_segment &seg = args.segments[k];
		uint32_t heads = block_heads(seg, rank), n = stages_of(seg);
		if (!heads)
			continue;
		load_queries(args, c, seg.row + rank * ROWS, heads, q, r);
		for (uint32_t i = 0; i < n; i++)
			score_stage<mass>(args, seg, c, q, r, seg.first + STAGE_GROUPS * i, rank, heads);
		if (n)
			hand_over(c);
		give_result(args, seg, c, r, rank, heads, result);
	}
}

#endif

// The attention kernel: blocks take segments of jobs; the last block of a job joins its parts.
#ifndef GPU_ATTEND_KERNEL_CUH
#define GPU_ATTEND_KERNEL_CUH

#include "gpu/attend_stream.cuh"
#include "gpu/attend_tile.cuh"

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

// Offsets in a block's shared memory.
struct shared_plan {
	uint32_t row;                                            // floats of a head's row in the sums
	uint32_t tops, sums, query, notes, barriers, rings, end; // bytes
};

__host__ __device__ static inline shared_plan plan_shared(uint32_t steps, uint32_t heads, uint32_t warps, uint32_t stages,
							  uint32_t stage_bytes)
{
	shared_plan p;
	bool in_registers = steps * heads <= 64;
	p.row = 16 * steps + 4;
	p.rings = 0;
	p.sums = warps * stages * stage_bytes;
	p.tops = p.sums + warps * heads * p.row * 4;
	p.query = p.tops + (warps * heads * 2 + heads * 2 + 4) * 4;
	p.query = (p.query + 15) & ~15u;
	p.notes = p.query + (in_registers ? 0 : steps * heads * 64);
	p.barriers = p.notes + warps * stages * (uint32_t)sizeof(stage_note);
	p.end = p.barriers + warps * stages * 8;
	return p;
}

// The job's queries as operands, scaled by a power of two to fill FP16's range.
template <int KT, int NT>
DEVICE void load_query(const attend_args &args, const attend_job &job, uint32_t shared, uint32_t warp, uint32_t warps,
		       uint32_t lane, query<KT, NT> &q)
{
	uint32_t g = lane / 4, t = lane % 4;
	q.shared = shared;
#pragma unroll
	for (int n = 0; n < NT; n++) {
		const float *row = args.q + (uint64_t)(job.row + n * 8 + g) * args.d_qk;
		bool there = n * 8 + g < job.heads;
		float most = 0, sum[query<KT, NT>::groups];
		for (uint32_t c = t; there && c < args.d_qk; c += 4)
			most = fmaxf(most, fabsf(row[c]));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
		int exponent = most > 0 ? (int)(__float_as_uint(most) >> 23) - 127 : 0;
		exponent = max(-120, min(120, exponent));
		float down = __uint_as_float((127 - exponent) << 23), up = __uint_as_float((127 + exponent) << 23);
#pragma unroll
		for (int j = 0; j < query<KT, NT>::groups; j++)
			sum[j] = 0;
#pragma unroll
		for (int k = 0; k < KT; k++) {
			float x[4];
			__half2 high[2], low[2];
#pragma unroll
			for (int i = 0; i < 4; i++) {
				uint32_t c = k * 16 + 2 * t + i % 2 + i / 2 * 8;
				x[i] = there && c < args.d_qk ? row[c] * down : 0;
				sum[k / 2] += x[i];
			}
#pragma unroll
			for (int i = 0; i < 2; i++) {
				high[i] = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
				float2 y = __half22float2(high[i]);
				low[i] = __floats2half2_rn(x[2 * i] - y.x, x[2 * i + 1] - y.y);
			}
			uint4 f = {half2_bits(high[0]), half2_bits(high[1]), half2_bits(low[0]), half2_bits(low[1])};
			if constexpr (query<KT, NT>::in_registers)
				q.frag[n][k] = f;
			else if (k % warps == warp)
				asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(shared + ((k * NT + n) * 32 + lane) * 16),
					     "r"(f.x), "r"(f.y), "r"(f.z), "r"(f.w)
					     : "memory");
		}
		float factor = args.scale * up * LOG2E;
#pragma unroll
		for (int h = 0; h < 2; h++)
			q.factor[n][h] = __shfl_sync(~0u, factor, (2 * t + h) * 4);
#pragma unroll
		for (int j = 0; j < query<KT, NT>::groups; j++) {
			sum[j] += __shfl_xor_sync(~0u, sum[j], 1);
			sum[j] += __shfl_xor_sync(~0u, sum[j], 2);
#pragma unroll
			for (int h = 0; h < 2; h++)
				q.sum[n][j][h] = __shfl_sync(~0u, sum[j], (2 * t + h) * 4);
		}
	}
	if constexpr (!query<KT, NT>::in_registers)
		__syncthreads();
}

template <int NT>
DEVICE void note_mass(const attend_args &args, const attend_job &job, uint32_t index, uint32_t lane, const float p[NT][4],
		      const float top[NT][2])
{
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float sum = over_tokens_sum(p[n][h] + p[n][h + 2]);
			uint32_t head = n * 8 + lane % 4 * 2 + h;
			if (lane < 4 && head < job.heads)
				reinterpret_cast<float2 *>(args.tile_mass)[job.tile_mass + (uint64_t)head * job.tiles + index] =
				    make_float2(sum, top[n][h]);
		}
	}
}

// All tiles of a segment that fall to this warp.
template <int KT, int NT>
DEVICE void attend_segment_tiles(const attend_args &args, const attend_job &job, uint32_t segment, uint32_t lane,
				 const query<KT, NT> &q, stream<KT> &in, sums<KT, NT> &a)
{
	while (in.has(segment)) {
		float p[NT][4];
		uint64_t note = in.notes[in.out_stage].tile;
		uint32_t index = in.notes[in.out_stage].index, selected = (uint32_t)(note >> 48), tile = in.arrive();
		switch (note & 15) {
		case IKV_FMT_FP16:
			attend_tile<IKV_FMT_FP16, KT, NT>(tile, selected, lane, q, a, p);
			break;
		case IKV_FMT_FP8:
			attend_tile<IKV_FMT_FP8, KT, NT>(tile, selected, lane, q, a, p);
			break;
		case IKV_FMT_INT8:
			attend_tile<IKV_FMT_INT8, KT, NT>(tile, selected, lane, q, a, p);
			break;
		case IKV_FMT_INT4:
			attend_tile<IKV_FMT_INT4, KT, NT>(tile, selected, lane, q, a, p);
			break;
		default:
			attend_tile<IKV_FMT_INT4_RESIDUAL, KT, NT>(tile, selected, lane, q, a, p);
		}
		in.pass();
		if (args.tile_mass && job.mass != UINT64_MAX)
			note_mass<NT>(args, job, index, lane, p, a.top);
	}
}

// A warp's sums to shared memory: rows of heads, and {top, sum} of each.
template <int KT, int NT> DEVICE void put_sums(sums<KT, NT> &a, float *rows, float2 *tops, uint32_t row, uint32_t lane)
{
	uint32_t g = lane / 4, t = lane % 4;
	float shrink = 1 / a.gain;
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			uint32_t head = n * 8 + 2 * t + h;
			float sum = over_tokens_sum(a.sum[n][h]), zero = 0;
			if (g == 0)
				tops[head] = make_float2(a.top[n][h], sum);
#pragma unroll
			for (int m = 0; m < KT; m++) {
				if (m % 2 == 0)
					zero = over_tokens_sum(a.zero[n][m / 2][h]);
				rows[head * row + 16 * m + g] = a.out[n][m][h] * shrink + zero;
				rows[head * row + 16 * m + g + 8] = a.out[n][m][h + 2] * shrink + zero;
			}
		}
	}
}

// Mass of each page from the sums of its tiles, when a head's reference `total.x` and sum `total.y` are known.
DEVICE void finish_mass(const attend_args &args, const attend_job &job, const float2 *totals)
{
	if (job.mass == UINT64_MAX)
		return;
	uint32_t tiles = (args.page_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
	for (uint32_t i = threadIdx.x; i < job.heads * job.pages; i += blockDim.x) {
		uint32_t head = i / job.pages, page = i % job.pages;
		const float2 *of = reinterpret_cast<const float2 *>(args.tile_mass) + job.tile_mass +
				   (uint64_t)head * job.tiles + (uint64_t)page * tiles;
		float mass = 0;
		for (uint32_t j = 0; j < tiles; j++) {
			float2 x = __ldcg(&of[j]);
			if (x.x > 0)
				mass += x.x * exp2f(x.y - totals[head].x);
		}
		args.mass[job.mass + i] = totals[head].y > 0 ? mass / totals[head].y : 0;
	}
}

DEVICE void finish_head(const attend_args &args, const attend_job &job, uint32_t head, float2 total)
{
	args.lse[job.row + head] = total.y > 0 ? (total.x + log2f(total.y)) * LN2 : -INFINITY;
}

// Join the parts of a job in their order; by the block that finished last.
template <int KT, int NT>
DEVICE void join_parts(const attend_args &args, const attend_job &job, float2 *totals, uint32_t warp, uint32_t warps,
		       uint32_t lane)
{
	constexpr uint32_t width = 16 * KT, heads = 8 * NT;
	const float2 *tops = reinterpret_cast<const float2 *>(args.part_sums) + (uint64_t)job.first_part * heads;
	const float4 *rows = reinterpret_cast<const float4 *>(args.parts + (uint64_t)job.first_part * heads * width);
	for (uint32_t h = warp; h < job.heads; h += warps) {
		float top = LOWEST, sum = 0;
		for (uint32_t k = lane; k < job.parts; k += 32)
			top = fmaxf(top, __ldcg(&tops[k * heads + h]).x);
		for (int i = 16; i; i /= 2)
			top = fmaxf(top, __shfl_xor_sync(~0u, top, i));
		for (uint32_t k = lane; k < job.parts; k += 32) {
			float2 x = __ldcg(&tops[k * heads + h]);
			sum += x.y * exp2f(x.x - top);
		}
		for (int i = 16; i; i /= 2)
			sum += __shfl_xor_sync(~0u, sum, i);
		if (lane == 0)
			totals[h] = make_float2(top, sum);
	}
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < job.heads * width / 4; i += blockDim.x) {
		uint32_t h = i / (width / 4), c = i % (width / 4) * 4;
		float top = totals[h].x, sum = totals[h].y, weight = sum > 0 ? 1 / sum : 0;
		float o[4] = {};
#pragma unroll 8
		for (uint32_t k = 0; k < job.parts; k++) {
			float w = exp2_fast(__ldcg(&tops[k * heads + h]).x - top) * weight;
			float4 x = __ldcg(&rows[(uint64_t)k * heads * (width / 4) + i]);
			o[0] += w * x.x, o[1] += w * x.y, o[2] += w * x.z, o[3] += w * x.w;
		}
#pragma unroll
		for (int j = 0; j < 4; j++)
			if (c + j < args.d_v)
				args.out[(uint64_t)(job.row + h) * args.d_v + c + j] = o[j];
		if (c == 0)
			finish_head(args, job, h, totals[h]);
	}
}

// Join the warps' sums; write the answer, or a part and, when all parts are there, the answer.
template <int KT, int NT>
DEVICE void finish_segment(const attend_args &args, const attend_segment &s, const attend_job &job, const float *rows,
			   const float2 *tops, float2 *totals, uint32_t *flag, uint32_t row, uint32_t warps)
{
	constexpr uint32_t width = 16 * KT, heads = 8 * NT;
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	__syncthreads();
	for (uint32_t h = threadIdx.x; h < heads; h += blockDim.x) {
		float top = LOWEST, sum = 0;
		for (uint32_t w = 0; w < warps; w++)
			top = fmaxf(top, tops[w * heads + h].x);
		for (uint32_t w = 0; w < warps; w++)
			sum += tops[w * heads + h].y * exp2f(tops[w * heads + h].x - top);
		totals[h] = make_float2(top, sum);
		if (job.parts > 1)
			reinterpret_cast<float2 *>(args.part_sums)[(uint64_t)s.part * heads + h] = totals[h];
		else if (h < job.heads)
			finish_head(args, job, h, totals[h]);
	}
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < job.heads * width; i += blockDim.x) {
		uint32_t h = i / width, c = i % width;
		float o = 0;
		for (uint32_t w = 0; w < warps; w++)
			o += rows[(w * heads + h) * row + c] * exp2_fast(tops[w * heads + h].x - totals[h].x);
		if (job.parts > 1)
			args.parts[((uint64_t)s.part * heads + h) * width + c] = o;
		else if (c < args.d_v)
			args.out[(uint64_t)(job.row + h) * args.d_v + c] = totals[h].y > 0 ? o / totals[h].y : 0;
	}
	if (job.parts > 1) {
		__threadfence();
		__syncthreads();
		if (threadIdx.x == 0)
			*flag = atomicAdd(&args.arrived[s.job], 1) + 1 == job.parts;
		__syncthreads();
		if (!*flag)
			return;
		__threadfence();
		if (threadIdx.x == 0)
			args.arrived[s.job] = 0;
		join_parts<KT, NT>(args, job, totals, warp, warps, lane);
	}
	if (args.tile_mass)
		finish_mass(args, job, totals);
}

template <int KT, int NT>
__global__ void __launch_bounds__(KT *NT <= 8 ? ATTEND_WARPS_MAX * 32 : 256, 1)
    attend(const __grid_constant__ attend_args args)
{
	extern __shared__ __align__(128) uint8_t shared[];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
	shared_plan at = plan_shared(KT, 8 * NT, warps, args.stages, args.stage_bytes);
	float *rows = reinterpret_cast<float *>(shared + at.sums);
	float2 *tops = reinterpret_cast<float2 *>(shared + at.tops), *totals = tops + warps * 8 * NT;
	uint32_t *flag = reinterpret_cast<uint32_t *>(totals + 8 * NT);
	stream<KT> in;
	query<KT, NT> q;
	sums<KT, NT> a;
	in.args = &args;
	in.warp = warp;
	in.warps = warps;
	in.lane = lane;
	in.ring = shared_address(shared + at.rings) + warp * args.stages * args.stage_bytes;
	in.barriers = shared_address(shared + at.barriers) + warp * args.stages * 8;
	in.notes = reinterpret_cast<stage_note *>(shared + at.notes) + warp * args.stages;
#if HAS_BULK
	for (uint32_t i = lane; i < args.stages; i += 32)
		barrier_init(in.barriers + 8 * i);
	barrier_init_visible();
	__syncwarp();
#endif
	in.start(blockIdx.x);
	for (uint32_t i = 0; i < args.stages; i++)
		in.issue();
	for (uint32_t segment = blockIdx.x; segment != ATTEND_NONE;) {
		const attend_segment &s = args.segments[segment];
		const attend_job job = args.jobs[s.job];
		load_query<KT, NT>(args, job, shared_address(shared + at.query), warp, warps, lane, q);
		a.clear();
		attend_segment_tiles<KT, NT>(args, job, segment, lane, q, in, a);
		put_sums<KT, NT>(a, rows + warp * 8 * NT * at.row, tops + warp * 8 * NT, at.row, lane);
		finish_segment<KT, NT>(args, s, job, rows, tops, totals, flag, at.row, warps);
		segment = s.next;
		__syncthreads();
	}
}

#endif

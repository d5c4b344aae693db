// The attention kernel: blocks take segments of jobs; the last block of a job joins its parts.
#ifndef GPU_ATTEND_KERNEL_CUH
#define GPU_ATTEND_KERNEL_CUH

#include "gpu/attend_stream.cuh"
#include "gpu/attend_tile.cuh"

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

// What a block is doing: kept out of registers while tiles are read.
struct block_work {
	attend_segment segment;
	attend_job job;
};

// Offsets in a block's shared memory.
struct shared_plan {
	uint32_t row;                                            // floats of a head's row in the sums
	uint32_t tops, sums, query, notes, barriers, work, rings, end; // bytes
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
	p.barriers = p.notes + warps * NOTES * (uint32_t)sizeof(stage_note);
	p.work = p.barriers + warps * stages * 8;
	p.end = p.work + (uint32_t)sizeof(block_work);
	return p;
}

// The values of a job's queries that this lane's operands hold; columns beyond its heads repeat the last one, and
// nobody reads them. Volatile, so that the loads stay ahead of the ring's: behind them they would wait for all of it.
template <int KT, int NT>
DEVICE void fetch_query(const attend_args &args, uint32_t first_row, uint32_t heads, uint32_t lane, float x[NT][KT][4])
{
#pragma unroll
	for (int n = 0; n < NT; n++) {
		uint32_t row = first_row + min(n * 8 + lane / 4, heads - 1), column = 2 * (lane % 4);
		const float *from = args.q + (uint64_t)row * args.d_qk + column;
		if (args.d_qk == 16 * KT) {
#pragma unroll
			for (int i = 0; i < KT * 2; i++)
				asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];"
					     : "=f"(x[n][i / 2][i % 2 * 2]), "=f"(x[n][i / 2][i % 2 * 2 + 1])
					     : "l"(from + i * 8));
		} else {
#pragma unroll
			for (int i = 0; i < KT * 4; i++)
				x[n][i / 4][i % 4] = column + i / 2 * 8 + i % 2 < args.d_qk ? from[i / 2 * 8 + i % 2] : 0;
		}
	}
}

DEVICE uint4 two_parts(const float x[4])
{
	__half2 high[2], low[2];
#pragma unroll
	for (int i = 0; i < 2; i++) {
		high[i] = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
		float2 y = __half22float2(high[i]);
		low[i] = __floats2half2_rn(x[2 * i] - y.x, x[2 * i + 1] - y.y);
	}
	return {half2_bits(high[0]), half2_bits(high[1]), half2_bits(low[0]), half2_bits(low[1])};
}

// The queries as operands, scaled by a power of two to fill FP16's range.
template <int KT, int NT, uint32_t WARPS>
DEVICE void make_query(float scale, float values[NT][KT][4], uint32_t shared, uint32_t warp, uint32_t lane,
		       query<KT, NT> &q)
{
	constexpr bool in_registers = query<KT, NT>::in_registers;
	uint32_t t = lane % 4;
	q.shared = shared;
#pragma unroll
	for (int n = 0; n < NT; n++) {
		float(&x)[KT][4] = values[n], most = 0, sum[2] = {0, 0}; // sums over groups t and t + 4
#pragma unroll
		for (int i = 0; i < KT * 4; i++)
			most = fmaxf(most, fabsf(x[i / 4][i % 4]));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
		int exponent = most > 0 ? (int)(__float_as_uint(most) >> 23) - 127 : 0;
		exponent = max(-120, min(120, exponent));
		float down = __uint_as_float((127 - exponent) << 23), up = __uint_as_float((127 + exponent) << 23);
#pragma unroll
		for (int k = 0; k < KT; k++) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				x[k][i] *= down;
			uint4 f = two_parts(x[k]);
			if constexpr (in_registers)
				q.frag[n][k] = f;
			else if (k % WARPS == warp)
				asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(shared + ((k * NT + n) * 32 + lane) * 16),
					     "r"(f.x), "r"(f.y), "r"(f.z), "r"(f.w)
					     : "memory");
		}
#pragma unroll
		for (int j = 0; j < query<KT, NT>::groups; j++) {
			float of = x[2 * j][0] + x[2 * j][1] + x[2 * j][2] + x[2 * j][3];
			if (2 * j + 1 < KT)
				of += x[2 * j + 1][0] + x[2 * j + 1][1] + x[2 * j + 1][2] + x[2 * j + 1][3];
			of += __shfl_xor_sync(~0u, of, 1);
			of += __shfl_xor_sync(~0u, of, 2);
			sum[j / 4] = j % 4 == t ? of : sum[j / 4];
		}
		float zeros[4] = {-16 * sum[0], sum[0], -16 * sum[1], sum[1]};
		q.zeros[n] = two_parts(zeros);
		float factor = scale * up * LOG2E;
#pragma unroll
		for (int h = 0; h < 2; h++)
			q.factor[n][h] = __shfl_sync(~0u, factor, (2 * t + h) * 4);
	}
	if constexpr (!in_registers)
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
template <int KT, int NT, uint32_t WARPS>
DEVICE void attend_segment_tiles(const attend_args &args, uint32_t segment, uint32_t lane,
				 const query<KT, NT> &q, stream<KT, WARPS> &in, sums<KT, NT> &a)
{
	stage_note note;
	while (in.next(segment, note)) {
		float p[NT][4];
		uint32_t selected = (uint32_t)(note.tile >> 48), tile = in.arrive();
		switch (note.tile & 15) {
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
		if (args.tile_mass) {
			const attend_job &job = args.jobs[args.segments[segment].job];
			if (job.mass != UINT64_MAX)
				note_mass<NT>(args, job, note.index, lane, p, a.top);
		}
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
			float sum = over_tokens_sum(a.sum[n][h]);
			if (g == 0)
				tops[head] = make_float2(a.top[n][h], sum);
#pragma unroll
			for (int m = 0; m < KT; m++) {
				float zero = __shfl_sync(~0u, a.zero[n][h], m / 2 * 4 + t);
				rows[head * row + 16 * m + g] = (a.out[n][m][h] + zero) * shrink;
				rows[head * row + 16 * m + g + 8] = (a.out[n][m][h + 2] + zero) * shrink;
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
template <int KT, int NT, uint32_t WARPS>
DEVICE void join_parts(const attend_args &args, const attend_job &job, float2 *totals)
{
	constexpr uint32_t width = 16 * KT, heads = 8 * NT;
	const float2 *tops = reinterpret_cast<const float2 *>(args.part_sums) + (uint64_t)job.first_part * heads;
	const float4 *rows = reinterpret_cast<const float4 *>(args.parts + (uint64_t)job.first_part * heads * width);
	for (uint32_t i = threadIdx.x; i < job.heads * width / 4; i += WARPS * 32) {
		uint32_t h = i / (width / 4), c = i % (width / 4) * 4;
		float o[4] = {}, top = LOWEST, sum = 0;
		for (uint32_t k = 0; k < job.parts; k += 8) {
			float4 x[8];
			float2 y[8];
#pragma unroll
			for (uint32_t j = 0; j < 8; j++) {
				y[j] = make_float2(LOWEST, 0);
				x[j] = make_float4(0, 0, 0, 0);
				if (k + j < job.parts) {
					y[j] = __ldcg(&tops[(k + j) * heads + h]);
					x[j] = __ldcg(&rows[(uint64_t)(k + j) * heads * (width / 4) + i]);
				}
			}
			float most = top;
#pragma unroll
			for (uint32_t j = 0; j < 8; j++)
				most = fmaxf(most, y[j].x);
			float shrink = exp2_fast(top - most);
			top = most;
			sum *= shrink;
#pragma unroll
			for (uint32_t j = 0; j < 4; j++)
				o[j] *= shrink;
#pragma unroll
			for (uint32_t j = 0; j < 8; j++) {
				float w = exp2_fast(y[j].x - top);
				sum += w * y[j].y;
				o[0] += w * x[j].x, o[1] += w * x[j].y, o[2] += w * x[j].z, o[3] += w * x[j].w;
			}
		}
		float weight = sum > 0 ? 1 / sum : 0;
#pragma unroll
		for (int j = 0; j < 4; j++)
			if (c + j < args.d_v)
				args.out[(uint64_t)(job.row + h) * args.d_v + c + j] = o[j] * weight;
		if (c == 0) {
			totals[h] = make_float2(top, sum);
			finish_head(args, job, h, totals[h]);
		}
	}
	__syncthreads();
}

// Join the warps' sums; write the answer, or a part and, when all parts are there, the answer.
template <int KT, int NT, uint32_t WARPS>
DEVICE void finish_segment(const attend_args &args, const attend_segment &s, const attend_job &job, const float *rows,
			   const float2 *tops, float2 *totals, uint32_t *flag)
{
	constexpr uint32_t width = 16 * KT, heads = 8 * NT, row = width + 4;
	for (uint32_t i = threadIdx.x; i < job.heads * (width / 4); i += WARPS * 32) {
		uint32_t h = i / (width / 4), c = i % (width / 4) * 4;
		float2 y[WARPS];
		float top = LOWEST, sum = 0;
		float4 o = make_float4(0, 0, 0, 0);
#pragma unroll
		for (uint32_t w = 0; w < WARPS; w++) {
			y[w] = tops[w * heads + h];
			top = fmaxf(top, y[w].x);
		}
#pragma unroll
		for (uint32_t w = 0; w < WARPS; w++) {
			float4 x = *reinterpret_cast<const float4 *>(&rows[(w * heads + h) * row + c]);
			float weight = exp2_fast(y[w].x - top);
			sum += weight * y[w].y;
			o.x += weight * x.x, o.y += weight * x.y, o.z += weight * x.z, o.w += weight * x.w;
		}
		if (job.parts > 1) {
			*reinterpret_cast<float4 *>(&args.parts[((uint64_t)s.part * heads + h) * width + c]) = o;
			if (c == 0)
				reinterpret_cast<float2 *>(args.part_sums)[(uint64_t)s.part * heads + h] = make_float2(top, sum);
			continue;
		}
		const float of[4] = {o.x, o.y, o.z, o.w};
		float weight = sum > 0 ? 1 / sum : 0;
#pragma unroll
		for (uint32_t j = 0; j < 4; j++)
			if (c + j < args.d_v)
				args.out[(uint64_t)(job.row + h) * args.d_v + c + j] = of[j] * weight;
		if (c == 0) {
			totals[h] = make_float2(top, sum);
			finish_head(args, job, h, totals[h]);
		}
	}
	if (job.parts > 1) {
		__syncthreads();
		if (threadIdx.x == 0) {
			__threadfence(); // the barrier made the block's writes this thread's to publish
			*flag = atomicAdd(&args.arrived[s.job], 1) + 1 == job.parts;
		}
		__syncthreads();
		if (!*flag)
			return;
		__threadfence();
		if (threadIdx.x == 0)
			args.arrived[s.job] = 0;
		join_parts<KT, NT, WARPS>(args, job, totals);
	}
	if (args.tile_mass) {
		__syncthreads();
		finish_mass(args, job, totals);
	}
}

// The words of a segment and its job, one of each a lane. Fetched with the queries, for the same reason.
struct work_words {
	uint32_t segment, job;

	DEVICE void fetch(const attend_args &args, uint32_t index, uint32_t lane)
	{
		static_assert(sizeof(attend_segment) <= 128 && sizeof(attend_job) <= 128, "a word a lane");
		const attend_segment *s = &args.segments[index];
		const uint32_t *from = reinterpret_cast<const uint32_t *>(s) + min(lane, (uint32_t)sizeof *s / 4 - 1);
		const uint32_t *job_from = reinterpret_cast<const uint32_t *>(&args.jobs[s->job]) +
					   min(lane, (uint32_t)sizeof(attend_job) / 4 - 1);
		asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(segment) : "l"(from));
		asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(job) : "l"(job_from));
	}

	DEVICE void keep(block_work *to, uint32_t lane) const
	{
		if (lane < sizeof(attend_segment) / 4)
			reinterpret_cast<uint32_t *>(&to->segment)[lane] = segment;
		if (lane < sizeof(attend_job) / 4)
			reinterpret_cast<uint32_t *>(&to->job)[lane] = job;
	}
};

template <int KT, int NT, uint32_t WARPS>
__global__ void __launch_bounds__(WARPS * 32, 1) attend(const __grid_constant__ attend_args args)
{
	constexpr uint32_t row = 16 * KT + 4;
	extern __shared__ __align__(128) uint8_t shared[];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	shared_plan at = plan_shared(KT, 8 * NT, WARPS, args.stages, args.stage_bytes);
	float *rows = reinterpret_cast<float *>(shared + at.sums);
	float2 *tops = reinterpret_cast<float2 *>(shared + at.tops), *totals = tops + WARPS * 8 * NT;
	uint32_t *flag = reinterpret_cast<uint32_t *>(totals + 8 * NT);
	block_work *work = reinterpret_cast<block_work *>(shared + at.work);
	stream<KT, WARPS> in;
	query<KT, NT> q;
	sums<KT, NT> a;
	in.args = &args;
	in.warp = warp;
	in.lane = lane;
	in.stages = args.stages;
	in.stage_bytes = args.stage_bytes;
	in.ring = shared_address(shared + at.rings) + warp * args.stages * args.stage_bytes;
	in.barriers = shared_address(shared + at.barriers) + warp * args.stages * 8;
	in.notes = reinterpret_cast<stage_note *>(shared + at.notes) + warp * NOTES;
	in.policy = read_once();
	in.start(blockIdx.x);
	float x[NT][KT][4];
	work_words words;
	fetch_query<KT, NT>(args, args.segments[blockIdx.x].row, args.segments[blockIdx.x].heads, lane, x);
	words.fetch(args, blockIdx.x, lane);
#if HAS_BULK
	for (uint32_t i = lane; i < args.stages; i += 32)
		barrier_init(in.barriers + 8 * i);
	barrier_init_visible();
	__syncwarp();
#endif
	for (uint32_t i = 0; i < args.stages; i++)
		in.issue();
	for (uint32_t segment = blockIdx.x;;) {
		make_query<KT, NT, WARPS>(args.scale, x, shared_address(shared + at.query), warp, lane, q);
		if (warp == 0)
			words.keep(work, lane);
		a.clear();
		attend_segment_tiles<KT, NT, WARPS>(args, segment, lane, q, in, a);
		put_sums<KT, NT>(a, rows + warp * 8 * NT * row, tops + warp * 8 * NT, row, lane);
		__syncthreads();
		finish_segment<KT, NT, WARPS>(args, work->segment, work->job, rows, tops, totals, flag);
		segment = work->segment.next;
		if (segment == ATTEND_NONE)
			break;
		fetch_query<KT, NT>(args, args.segments[segment].row, args.segments[segment].heads, lane, x);
		words.fetch(args, segment, lane);
		__syncthreads();
	}
}

#endif

// The attention kernel: blocks take segments of jobs; the last block of a job joins its parts.
#ifndef GPU_ATTEND_KERNEL_CUH
#define GPU_ATTEND_KERNEL_CUH

#include "gpu/attend_more.cuh"
#include "gpu/attend_stream.cuh"

// What a block is doing: kept out of registers while tiles are read.
struct block_work {
	attend_segment segment;
	attend_job job;
};

// Floats of a head's row in a warp's sums: rows that lanes write at the same time begin in different banks.
__host__ __device__ constexpr uint32_t sums_row(uint32_t steps, uint32_t heads)
{
	return 16 * steps + (heads == 4 ? 8 : 4);
}

// Offsets in a block's shared memory, bytes.
struct shared_plan {
	uint32_t tops, sums, query, places, work, rings, end;
};

__host__ __device__ static inline shared_plan plan_shared(uint32_t steps, uint32_t heads, uint32_t warps, uint32_t stages,
							  uint32_t stage_bytes)
{
	shared_plan p;
	uint32_t parts = heads == 4 ? 2 : 4; // words of an operand
	bool in_registers = steps * parts * (heads == 16 ? 2 : 1) <= 32;
	p.rings = 0;
	p.sums = warps * stages * stage_bytes;
	p.tops = p.sums + warps * heads * sums_row(steps, heads) * 4;
	p.query = p.tops + (warps * heads * 2 + heads * 2 + 4) * 4;
	p.query = (p.query + 15) & ~15u;
	p.places = p.query + (in_registers ? 0 : steps * parts * 128 * (heads == 16 ? 2 : 1));
	p.work = p.places + warps * stages * 16;
	p.end = p.work + (uint32_t)sizeof(block_work);
	return p;
}

// What a tile's tokens weigh, for `mass`. Heads that have two columns are told once.
template <int KT, int H>
DEVICE void note_mass(const attend_args &args, uint32_t job_index, uint32_t place, uint32_t lane,
		      const float p[query<KT, H>::NT][4], const sums<KT, H> &a)
{
	const attend_job &job = args.jobs[job_index];
	if (job.mass == UINT64_MAX)
		return;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float sum = over_tokens_sum(p[n][h] + p[n][h + 2]);
			uint32_t head = n * 8 + lane % 4 * 2 + h;
			if (lane < (H == 4 ? 2 : 4) && head < job.heads)
				reinterpret_cast<float2 *>(args.tile_mass)[job.tile_mass + (uint64_t)head * job.tiles + place] =
				    make_float2(sum, a.top[n][h]);
		}
	}
}

// The formats that mixtures seldom have. False: the tile is in none of them.
template <int KT, int H>
DEVICE bool attend_other(uint32_t note, uint32_t tile, uint32_t lane, const query<KT, H> &q, sums<KT, H> &a,
			 float p[query<KT, H>::NT][4])
{
	uint32_t selected = note >> 4 & 0xffff;
	switch (note & 15) {
	case IKV_FMT_KIVI8:
		attend_tile<IKV_FMT_KIVI8, true, KT, H>(tile, selected, lane, q, a, p);
		return true;
	case IKV_FMT_KIVI4:
		attend_tile<IKV_FMT_KIVI4, true, KT, H>(tile, selected, lane, q, a, p);
		return true;
	case IKV_FMT_KIVI2:
		attend_tile<IKV_FMT_KIVI2, true, KT, H>(tile, selected, lane, q, a, p);
		return true;
	case IKV_FMT_SPARSE:
		attend_tile<IKV_FMT_SPARSE, true, KT, H>(tile, selected, lane, q, a, p);
		return true;
	case TILE_BF16_WIDE:
		attend_tile<TILE_BF16_WIDE, true, KT, H>(tile, selected, lane, q, a, p);
		return true;
	default:
		return false;
	}
}

// F: the format of all tiles, or where they differ 0, and ATTEND_ANY if there are any but the first five: code for one
// format is a quarter as long, which short launches notice. BF16 tiles hold FP16 numbers.
template <int F, int KT, int H>
DEVICE void attend_any(uint32_t note, uint32_t tile, uint32_t lane, const query<KT, H> &q, sums<KT, H> &a,
		       float p[query<KT, H>::NT][4])
{
	uint32_t selected = note >> 4 & 0xffff;
	if constexpr (F != 0 && F != ATTEND_ANY) {
		attend_tile<F, false, KT, H>(tile, selected, lane, q, a, p);
		return;
	}
	if constexpr (F == ATTEND_ANY)
		if (attend_other<KT, H>(note, tile, lane, q, a, p))
			return;
	switch (note & 15) {
	case IKV_FMT_FP16:
	case IKV_FMT_BF16:
		attend_tile<IKV_FMT_FP16, true, KT, H>(tile, selected, lane, q, a, p);
		break;
	case IKV_FMT_FP8:
		attend_tile<IKV_FMT_FP8, true, KT, H>(tile, selected, lane, q, a, p);
		break;
	case IKV_FMT_INT8:
		attend_tile<IKV_FMT_INT8, true, KT, H>(tile, selected, lane, q, a, p);
		break;
	case IKV_FMT_INT4:
		attend_tile<IKV_FMT_INT4, true, KT, H>(tile, selected, lane, q, a, p);
		break;
	default:
		attend_tile<IKV_FMT_INT4_RESIDUAL, true, KT, H>(tile, selected, lane, q, a, p);
	}
}

// `count` tiles of a job; the first one's place, those of the warp being WARPS apart.
template <int F, int KT, int H, uint32_t WARPS>
DEVICE void attend_places(const attend_args &args, uint32_t job, uint32_t place, uint32_t count, const query<KT, H> &q,
			  stream<F, KT, WARPS> &in, sums<KT, H> &a)
{
	for (; count; count--) {
		float p[query<KT, H>::NT][4];
		uint32_t note = in.arrive();
		if (note >> 4 & 0xffff) {
			attend_any<F, KT, H>(note, in.tile + (note >> 20) * 16, in.lane, q, a, p);
		} else {
#pragma unroll
			for (int i = 0; i < query<KT, H>::NT * 4; i++)
				p[i / 4][i % 4] = 0;
		}
		in.pass();
		if (args.tile_mass)
			note_mass<KT, H>(args, job, place, in.lane, p, a);
		place += WARPS;
	}
}

// A warp's sums to shared memory: rows of heads, and {top, sum} of each. Where heads have two columns, the lanes of one add
// the parts of channels g, those of the other of channels g + 8.
template <int F, int KT, int H> DEVICE void put_sums(sums<KT, H> &a, float *rows, float2 *tops, uint32_t lane)
{
	constexpr uint32_t row = sums_row(KT, H);
	constexpr bool zeros = F != IKV_FMT_FP16 && F != IKV_FMT_FP8;
	uint32_t g = lane / 4, t = lane % 4;
	float shrink = 1 / a.gain, back[2] = {shrink / a.unit[0], shrink / a.unit[1]};
	bool second = H == 4 && t >= 2;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			uint32_t head = n * 8 + 2 * (H == 4 ? t % 2 : t) + h;
			float sum = over_tokens_sum(a.sum[n][h]);
			if (g == 0 && !second)
				tops[head] = make_float2(a.top[n][h], sum);
#pragma unroll
			for (int m = 0; m < KT; m++) {
				float zero = zeros ? __shfl_sync(~0u, a.zero[n][h], m / 2 * 4 + t) * shrink : 0;
				float x = fmaf(a.out[n][m][h], back[0], zero), y = fmaf(a.out[n][m][h + 2], back[1], zero);
				float *to = rows + head * row + 16 * m + g;
				if constexpr (H == 4) {
					float other = __shfl_xor_sync(~0u, second ? x : y, 2);
					to[second ? 8 : 0] = (second ? y : x) + other;
				} else {
					to[0] = x;
					to[8] = y;
				}
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
		const float2 *of =
		    reinterpret_cast<const float2 *>(args.tile_mass) + job.tile_mass + (uint64_t)head * job.tiles;
		float mass = 0;
		for (uint32_t j = 0; j < tiles; j++) {
			float2 x = __ldcg(&of[attend_place(page * tiles + j, job.tiles, job.parts)]);
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

// Sums of parts: four channels of a head.
struct joined {
	float o[4], top, sum;

	DEVICE void scale(float most)
	{
		float shrink = exp2_fast(top - most);
		top = most;
		sum *= shrink;
#pragma unroll
		for (int j = 0; j < 4; j++)
			o[j] *= shrink;
	}

	DEVICE void add(float weight, const float of[4], float its_sum)
	{
		sum += weight * its_sum;
#pragma unroll
		for (int j = 0; j < 4; j++)
			o[j] += weight * of[j];
	}
};

// Parts k to k + BATCH - 1 of a job, and so on `step` further; i: which four channels of which head.
template <int KT, int H, uint32_t BATCH>
DEVICE void join_some(const attend_args &args, const attend_job &job, uint32_t i, uint32_t k, uint32_t step, joined &sums)
{
	constexpr uint32_t fours = 4 * KT;
	const float2 *tops = reinterpret_cast<const float2 *>(args.part_sums) + (uint64_t)job.first_part * H + i / fours;
	const float4 *rows = reinterpret_cast<const float4 *>(args.parts) + (uint64_t)job.first_part * H * fours + i;
	for (; k < job.parts; k += step) {
		float4 x[BATCH];
		float2 y[BATCH];
#pragma unroll
		for (uint32_t j = 0; j < BATCH; j++) {
			y[j] = make_float2(LOWEST, 0);
			x[j] = make_float4(0, 0, 0, 0);
			if (k + j < job.parts) {
				y[j] = __ldcg(&tops[(k + j) * H]);
				x[j] = __ldcg(&rows[(uint64_t)(k + j) * H * fours]);
			}
		}
		float most = sums.top;
#pragma unroll
		for (uint32_t j = 0; j < BATCH; j++)
			most = fmaxf(most, y[j].x);
		sums.scale(most);
#pragma unroll
		for (uint32_t j = 0; j < BATCH; j++) {
			const float of[4] = {x[j].x, x[j].y, x[j].z, x[j].w};
			sums.add(exp2_fast(y[j].x - most), of, y[j].y);
		}
	}
}

// Join the parts of a job in their order; by the block that finished last. Threads in `groups` take batches of parts in turn
// where there are more threads than numbers; `room` is shared memory for their sums.
template <int KT, int H, uint32_t WARPS>
DEVICE void join_parts(const attend_args &args, const attend_job &job, joined *room, float2 *totals)
{
	constexpr uint32_t width = 16 * KT, items = H * width / 4, groups = WARPS * 32 > items ? WARPS * 32 / items : 1;
	constexpr uint32_t batch = WARPS <= 8 ? 10 : 8; // as registers allow
	uint32_t group = groups > 1 ? threadIdx.x / items : 0;
	for (uint32_t i = threadIdx.x - group * items; group < groups && i < job.heads * width / 4; i += WARPS * 32) {
		joined x = {{0, 0, 0, 0}, LOWEST, 0};
		join_some<KT, H, batch>(args, job, i, group * batch, groups * batch, x);
		room[group * items + i] = x;
	}
	__syncthreads();
	for (uint32_t i = threadIdx.x; i < job.heads * width / 4; i += WARPS * 32) {
		uint32_t h = i / (width / 4), c = i % (width / 4) * 4;
		joined x = room[i];
#pragma unroll
		for (uint32_t g = 1; g < groups; g++) {
			const joined &y = room[g * items + i];
			float most = fmaxf(x.top, y.top);
			x.scale(most);
			x.add(exp2_fast(y.top - most), y.o, y.sum);
		}
		float weight = x.sum > 0 ? 1 / x.sum : 0;
#pragma unroll
		for (int j = 0; j < 4; j++)
			if (c + j < args.d_v)
				args.out[(uint64_t)(job.row + h) * args.d_v + c + j] = x.o[j] * weight;
		if (c == 0) {
			totals[h] = make_float2(x.top, x.sum);
			finish_head(args, job, h, totals[h]);
		}
	}
	__syncthreads();
}

// Join the warps' sums; write the answer, or a part and, when all parts are there, the answer.
template <int KT, int H, uint32_t WARPS>
DEVICE void finish_segment(const attend_args &args, const attend_segment &s, const attend_job &job, float *rows,
			   const float2 *tops, float2 *totals, uint32_t *flag)
{
	constexpr uint32_t width = 16 * KT, heads = H, row = sums_row(KT, H);
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
		join_parts<KT, H, WARPS>(args, job, reinterpret_cast<joined *>(rows), totals);
	}
	if (args.tile_mass) {
		__syncthreads();
		finish_mass(args, job, totals);
	}
}

// The words of a segment, one a lane. Loads of what a block does next are volatile: they are to be asked for before the
// ring's copies, behind which they would wait.
struct segment_words {
	uint32_t word;

	DEVICE void fetch(const attend_args &args, uint32_t index, uint32_t lane)
	{
		word = fetch_words(&args.segments[index], lane);
	}

	template <typename T> DEVICE static uint32_t fetch_words(const T *from, uint32_t lane)
	{
		static_assert(sizeof(T) <= 128, "a word a lane");
		uint32_t x;
		asm volatile("ld.global.nc.u32 %0, [%1];"
			     : "=r"(x)
			     : "l"(reinterpret_cast<const uint32_t *>(from) + min(lane, (uint32_t)sizeof(T) / 4 - 1)));
		return x;
	}

	DEVICE uint32_t get(uint32_t at) const
	{
		return __shfl_sync(~0u, word, at);
	}
};

#define SEGMENT_WORD(member) (offsetof(attend_segment, member) / 4)

template <int F, int KT, int H, uint32_t WARPS>
__global__ void __launch_bounds__(WARPS * 32, 1) attend(const __grid_constant__ attend_args args)
{
	constexpr uint32_t row = sums_row(KT, H);
	extern __shared__ __align__(128) uint8_t shared[];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	stream<F, KT, WARPS> in;
	segment_words now;
	if (args.overlap == 2)
		wait_for_predecessor();
	shared_plan at = plan_shared(KT, H, WARPS, args.stages, args.stage_bytes);
	in.open(args, shared_address(shared + at.rings), shared_address(shared + at.places));
	in.start(args.start[blockIdx.x], args.start[blockIdx.x + 1]);
	now.fetch(args, blockIdx.x, lane);
	float *rows = reinterpret_cast<float *>(shared + at.sums);
	float2 *tops = reinterpret_cast<float2 *>(shared + at.tops), *totals = tops + WARPS * H;
	uint32_t *flag = reinterpret_cast<uint32_t *>(totals + H);
	block_work *work = reinterpret_cast<block_work *>(shared + at.work);
	query<KT, H> q;
	sums<KT, H> a;
	uint32_t job = now.get(SEGMENT_WORD(job)), job_words = segment_words::fetch_words(&args.jobs[job], lane);
	float x[query<KT, H>::NT][KT][4];
	if (!args.overlap)
		fetch_query<KT, H>(args, now.get(SEGMENT_WORD(row)), now.get(SEGMENT_WORD(heads)), lane, x);
	else if (warp == 0)
		prefetch_query(args, now.get(SEGMENT_WORD(row)), now.get(SEGMENT_WORD(heads)), lane);
	in.fill();
	wait_for_predecessor();
	let_successor_begin();
	if (args.overlap)
		fetch_query<KT, H>(args, now.get(SEGMENT_WORD(row)), now.get(SEGMENT_WORD(heads)), lane, x);
	for (uint32_t base = 0, done = 0;;) {
		if (warp == 0) {
			if (lane < sizeof(attend_segment) / 4)
				reinterpret_cast<uint32_t *>(&work->segment)[lane] = now.word;
			if (lane < sizeof(attend_job) / 4)
				reinterpret_cast<uint32_t *>(&work->job)[lane] = job_words;
		}
		uint32_t next = now.get(SEGMENT_WORD(next)), tiles = now.get(SEGMENT_WORD(tiles));
		uint32_t place = now.get(SEGMENT_WORD(first)) + done * WARPS + warp - base;
		base += tiles;
		uint32_t until = base > warp ? (base - warp + WARPS - 1) / WARPS : 0;
		if (next != ATTEND_NONE)
			now.fetch(args, next, lane);
		make_query<KT, H, WARPS>(args.scale, x, shared_address(shared + at.query), warp, lane, q);
		a.template clear<F>();
		attend_places<F, KT, H, WARPS>(args, job, place, until - done, q, in, a);
		done = until;
		bool last = next == ATTEND_NONE;
		if (!last) {
			job = now.get(SEGMENT_WORD(job));
			job_words = segment_words::fetch_words(&args.jobs[job], lane);
			if (warp == 0)
				prefetch_query(args, now.get(SEGMENT_WORD(row)), now.get(SEGMENT_WORD(heads)), lane);
		}
		put_sums<F, KT, H>(a, rows + warp * H * row, tops + warp * H, lane);
		__syncthreads();
		finish_segment<KT, H, WARPS>(args, work->segment, work->job, rows, tops, totals, flag);
		if (last)
			break;
		fetch_query<KT, H>(args, now.get(SEGMENT_WORD(row)), now.get(SEGMENT_WORD(heads)), lane, x);
		__syncthreads();
	}
}

#endif

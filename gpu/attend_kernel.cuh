// The attention kernel: blocks take segments of jobs; the block of a job's last part joins its parts.
#ifndef GPU_ATTEND_KERNEL_CUH
#define GPU_ATTEND_KERNEL_CUH

#include "gpu/attend_feed.cuh"
#include "gpu/attend_more.cuh"
#include "gpu/attend_stream.cuh"

// Floats of a head's row in a warp's sums: rows that lanes write at the same time begin in different banks.
__host__ __device__ constexpr uint32_t sums_row(uint32_t steps, uint32_t heads)
{
	return 16 * steps + (heads == 4 ? 8 : 4);
}

// Offsets in a block's shared memory, bytes.
struct shared_plan {
	uint32_t slots, sums, tops, query, raw, stream, feed, signals, end;
};

__host__ __device__ static inline shared_plan plan_shared(uint32_t steps, uint32_t heads, uint32_t warps, uint32_t slots,
							  uint32_t slot_bytes)
{
	shared_plan p;
	uint32_t parts = (heads == 4 ? 2 : 4) * (heads == 16 ? 2 : 1); // words of an operand
	uint32_t operands = (steps + 1) * parts * 128 + heads * 8;     // query::bytes
	bool in_registers = steps * parts <= 32;
	p.slots = 0;
	p.sums = slots * (slot_bytes + STREAM_SLOT_HEAD);
	p.tops = p.sums + warps * heads * sums_row(steps, heads) * 4;
	p.query = (p.tops + (warps * heads * 2 + heads * 2) * 4 + 15) & ~15u;
	// Operands in registers come from two places in turn. Where they are not, warps go together, and no sums are written
	// before all have read the queries.
	p.raw = in_registers ? p.query + 2 * operands : p.sums;
	p.stream = in_registers ? p.raw + feed_query_bytes(steps, heads) : p.query + operands;
	p.feed = p.stream + STREAM_BYTES;
	p.signals = p.feed + FEED_BYTES;
	p.end = p.signals + 48;
	return p;
}

// What a tile's tokens weigh, for `mass`. Heads that have two columns are told once.
template <int KT, int H>
DEVICE void note_mass(const attend_args &args, uint32_t job_index, uint32_t place, uint32_t lane, bool read,
		      const float p[query<KT, H>::NT][4], const sums<KT, H> &a)
{
	const attend_job &job = args.jobs[job_index];
	if (job.mass == UINT64_MAX)
		return;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float sum = over_tokens_sum(read ? p[n][h] + p[n][h + 2] : 0);
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
	uint32_t selected = note & SELECTED_ALL;
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
	uint32_t selected = note & SELECTED_ALL;
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
		bool read = note & SELECTED_ALL;
		if (read)
			attend_any<F, KT, H>(note, in.tile, in.lane, q, a, p);
		in.pass();
		if (args.tile_mass)
			note_mass<KT, H>(args, job, place, in.lane, read, p, a);
		place += WARPS;
	}
}

// A warp's sums to shared memory: rows of heads, and {top, sum} of each. Where heads have two columns, the lanes of one add
// the parts of channels g, those of the other of channels g + 8 (or write them, where both have the same).
template <int F, int KT, int H> DEVICE void put_sums(sums<KT, H> &a, float *rows, float2 *tops, uint32_t lane)
{
	constexpr uint32_t row = sums_row(KT, H);
	constexpr bool zeros = F != IKV_FMT_FP16 && F != IKV_FMT_FP8;
	constexpr bool same = H == 4 && F != 0 && F != ATTEND_ANY && F != IKV_FMT_FP16; // in both columns
	uint32_t g = lane / 4, t = lane % 4;
	float back[2] = {power_of_two_inverse(a.unit[0]), power_of_two_inverse(a.unit[1])};
	bool second = H == 4 && t >= 2;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			uint32_t head = n * 8 + 2 * (H == 4 ? t % 2 : t) + h;
			float sum = over_tokens_sum(a.sum[n][h]), zero = 0;
			if (g == 0 && !second)
				tops[head] = make_float2(a.top[n][h], sum);
#pragma unroll
			for (int m = 0; m < KT; m++) {
				if (zeros && m % 2 == 0) // INT8 has the same for all groups
					zero = F == IKV_FMT_INT8 ? a.zero[n][h] : __shfl_sync(~0u, a.zero[n][h], m / 2 * 4 + t);
				float x = fmaf(a.out[n][m][h], back[0], zero), y = fmaf(a.out[n][m][h + 2], back[1], zero);
				float *to = rows + head * row + 16 * m + g;
				if constexpr (same) {
					to[second ? 8 : 0] = second ? y : x;
				} else if constexpr (H == 4) {
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

// The threads that join the sums of a segment: all of the block, or four warps while the others go on with the next. Which four
// is seen when they come; racecheck does not follow a barrier of the block by number where its warps change.
struct team {
	uint32_t index, count;      // of this thread, of threads
	uint32_t met = 0, turn = 0; // barrier in shared memory of the four, where they meet in each turn or never

	DEVICE void meet() const
	{
		if (met) {
			signal_arrive(met);
			signal_wait(met, turn % 2);
		} else {
			__syncthreads();
		}
	}
};

// Mass of each page from the sums of its tiles, when a head's reference `total.x` and sum `total.y` are known.
DEVICE void finish_mass(const attend_args &args, const attend_job &job, const float2 *totals, const team &all)
{
	if (job.mass == UINT64_MAX)
		return;
	uint32_t tiles = (args.page_tokens + TILE_TOKENS - 1) / TILE_TOKENS;
	for (uint32_t i = all.index; i < job.heads * job.pages; i += all.count) {
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

	DEVICE void add(float weight, const float4 &of, float its_sum)
	{
		sum += weight * its_sum;
		o[0] += weight * of.x, o[1] += weight * of.y, o[2] += weight * of.z, o[3] += weight * of.w;
	}
};

// A part has, for four channels of a head each, their sums in `parts` and {reference, sum} in `part_sums`. Words of it that
// are not there have all bits set, which no number has; whoever reads one takes it away.
#define PART_ABSENT ~0u

DEVICE float present(float x)
{
	return __uint_as_float(min(__float_as_uint(x), PART_ABSENT - 1));
}

DEVICE bool is_absent(float x)
{
	return __float_as_uint(x) == PART_ABSENT;
}

DEVICE void put_part(const attend_args &args, uint64_t i, const joined &x)
{
	if (args.tile_mass) // what this thread knows to be written comes before the part
		order_memory();
	store_relaxed(reinterpret_cast<float4 *>(args.parts) + i,
		      make_float4(present(x.o[0]), present(x.o[1]), present(x.o[2]), present(x.o[3])));
	store_relaxed(reinterpret_cast<float2 *>(args.part_sums) + i, make_float2(present(x.top), present(x.sum)));
}

DEVICE void see_part(const attend_args &args, uint64_t i, float4 &x, float2 &y)
{
	x = load_relaxed(reinterpret_cast<const float4 *>(args.parts) + i);
	y = load_relaxed(reinterpret_cast<const float2 *>(args.part_sums) + i);
}

// What see_part saw, when all of it is there.
DEVICE void take_part(const attend_args &args, uint64_t i, float4 &x, float2 &y)
{
	while (is_absent(x.x) || is_absent(x.y) || is_absent(x.z) || is_absent(x.w) || is_absent(y.x) || is_absent(y.y))
		see_part(args, i, x, y);
	const float none = __uint_as_float(PART_ABSENT);
	reinterpret_cast<float4 *>(args.parts)[i] = make_float4(none, none, none, none);
	reinterpret_cast<float2 *>(args.part_sums)[i] = make_float2(none, none);
}

// The answer of channels c to c + 3 of a head, and what belongs to the head.
DEVICE void put_answer(const attend_args &args, uint32_t row, uint32_t head, uint32_t c, const joined &x, float2 *totals)
{
	float weight = x.sum > 0 ? __fdividef(1, x.sum) : 0;
	float *to = args.out + (uint64_t)(row + head) * args.d_v + c;
#pragma unroll
	for (uint32_t j = 0; j < 4; j++)
		store_if(to + j, x.o[j] * weight, c + j < args.d_v);
	if (c == 0) {
		totals[head] = make_float2(x.top, x.sum);
		args.lse[row + head] = x.sum > 0 ? (x.top + __log2f(x.sum)) * LN2 : -INFINITY;
	}
}

// Parts k to k + BATCH - 1 of a job, and so on `step` further; `from`: four channels of a head in the job's first part.
template <int KT, int H, uint32_t BATCH>
DEVICE void join_some(const attend_args &args, uint64_t from, uint32_t parts, uint32_t k, uint32_t step, joined &sums)
{
	constexpr uint32_t part = 4 * KT * H;
#pragma unroll 1
	for (; k < parts; k += step) {
		float4 x[BATCH];
		float2 y[BATCH];
		float most = sums.top;
#pragma unroll
		for (uint32_t j = 0; j < BATCH; j++) {
			y[j] = make_float2(-INFINITY, 0);
			x[j] = make_float4(0, 0, 0, 0);
			if (k + j < parts)
				see_part(args, from + (k + j) * part, x[j], y[j]);
		}
#pragma unroll
		for (uint32_t j = 0; j < BATCH; j++) {
			if (k + j < parts)
				take_part(args, from + (k + j) * part, x[j], y[j]);
			most = fmaxf(most, y[j].x);
		}
		sums.scale(most);
#pragma unroll
		for (uint32_t j = 0; j < BATCH; j++)
			sums.add(exp2_fast(y[j].x - most), x[j], y[j].y);
	}
}

// Join the parts of a job in their order. `room`, shared memory, takes the sums of batches of
// parts, every GROUPS-th of which are summed first; the order is the same for every team.
template <int KT, int H, uint32_t WARPS>
DEVICE void join_parts(const attend_args &args, const attend_segment &s, joined *room, float2 *totals, const team &all)
{
	constexpr uint32_t width = 16 * KT, items = H * width / 4, groups = WARPS * 32 > items ? WARPS * 32 / items : 1;
	constexpr uint32_t batch = groups >= 4 ? 4 : groups == 3 ? 6 : 8;
#pragma unroll 1
	for (uint32_t i = all.index; i < groups * items; i += all.count) {
		joined x = {{0, 0, 0, 0}, LOWEST, 0};
		uint32_t group = i / items, item = i - group * items;
		if (item >= s.heads * (width / 4)) // of a head that the job has not: nobody wrote it
			continue;
		join_some<KT, H, batch>(args, (uint64_t)s.first_part * items + item, s.parts, group * batch, groups * batch, x);
		room[i] = x;
	}
	all.meet();
#pragma unroll 1
	for (uint32_t i = all.index; i < s.heads * width / 4; i += all.count) {
		joined x = room[i];
#pragma unroll
		for (uint32_t g = 1; g < groups; g++) {
			const joined &y = room[g * items + i];
			float most = fmaxf(x.top, y.top);
			x.scale(most);
			x.add(exp2_fast(y.top - most), make_float4(y.o[0], y.o[1], y.o[2], y.o[3]), y.sum);
		}
		put_answer(args, s.row, i / (width / 4), i % (width / 4) * 4, x, totals);
	}
}

// Sums of the block's warps: four channels of a head.
template <int KT, int H, uint32_t WARPS>
DEVICE void join_warps(const float *rows, const float2 *tops, uint32_t head, uint32_t c, joined &x)
{
	constexpr uint32_t row = sums_row(KT, H);
	x = {{0, 0, 0, 0}, LOWEST, 0};
#pragma unroll
	for (uint32_t w = 0; w < WARPS; w++)
		x.top = fmaxf(x.top, tops[w * H + head].x);
#pragma unroll
	for (uint32_t w = 0; w < WARPS; w++) {
		float2 y = tops[w * H + head];
		x.add(exp2_fast(y.x - x.top), *reinterpret_cast<const float4 *>(&rows[(w * H + head) * row + c]), y.y);
	}
}

// Join the warps' sums; write the answer, or a part.
template <int KT, int H, uint32_t WARPS>
DEVICE void finish_segment(const attend_args &args, const attend_segment &s, const float *rows, const float2 *tops,
			   float2 *totals, const team &all)
{
	constexpr uint32_t width = 16 * KT;
#pragma unroll 1
	for (uint32_t i = all.index; i < s.heads * (width / 4); i += all.count) {
		uint32_t h = i / (width / 4), c = i % (width / 4) * 4;
		joined x;
		join_warps<KT, H, WARPS>(rows, tops, h, c, x);
		if (s.parts == 1) {
			put_answer(args, s.row, h, c, x, totals);
			continue;
		}
		put_part(args, (uint64_t)s.part * (H * width / 4) + i, x);
	}
	if (args.tile_mass) {
		all.meet();
		if (s.parts == 1)
			finish_mass(args, args.jobs[s.job], totals, all);
	}
}

// Where the block's first segment is the last part of a job, wait for the others and join them. Blocks begin in the order of
// their numbers, and those of the other parts have lower ones and wait for nobody before they have written them. By all of
// the block.
template <int KT, int H, uint32_t WARPS>
DEVICE void finish_job(const attend_args &args, const attend_segment &s, float *rows, float2 *totals)
{
	struct team all = {threadIdx.x, WARPS * 32};
	if (!s.joins)
		return;
	__syncthreads(); // `rows` have been read
	join_parts<KT, H, WARPS>(args, s, reinterpret_cast<joined *>(rows), totals, all);
	if (args.tile_mass) {
		order_memory(); // other blocks' masses of tiles come after their parts, which this thread has seen
		__syncthreads();
		finish_mass(args, args.jobs[s.job], totals, all);
	}
}

// Warps take every WARPS-th tile of the block's segments, each at its own pace. At the end of a segment they leave their sums
// in shared memory; the four that do so last join them while the others go on; the last segment's are joined by all. Sums of
// a segment are written when those of the one before have been joined. Where operands are not in registers, all join always.
template <int F, int KT, int H, uint32_t WARPS>
__global__ void __launch_bounds__(WARPS * 32, 1) attend(const __grid_constant__ attend_args args)
{
	constexpr uint32_t row = sums_row(KT, H);
	constexpr bool go_on = query<KT, H>::in_registers;
	constexpr uint32_t joiners = 4; // warps: the last at a segment's end; the first make the next one's operands
	constexpr uint32_t others = WARPS > joiners ? WARPS - joiners : WARPS, converters = others < H ? others : H;
	extern __shared__ __align__(128) uint8_t shared[];
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	stream<F, KT, WARPS> in;
	feed<KT, H> work;
	if (args.overlap == 2)
		wait_for_predecessor();
	shared_plan at = plan_shared(KT, H, WARPS, args.slots, args.slot_bytes);
	in.start(args, shared_address(shared + at.slots), shared_address(shared + at.stream), args.start[blockIdx.x],
		 args.start[blockIdx.x + 1]);
	uint32_t queries = args.queries[blockIdx.x];
	work.start(args, shared_address(shared + at.feed), shared_address(shared + at.raw), queries, warp, lane);
	in.open();
	float *rows = reinterpret_cast<float *>(shared + at.sums);
	float2 *tops = reinterpret_cast<float2 *>(shared + at.tops), *totals = tops + WARPS * H;
	uint32_t full = shared_address(shared + at.signals); // sums are there
	uint32_t free = full + 8, met = full + 16;  // they have been joined; the joiners have met
	uint32_t ready = full + 32;                 // operands are there, in either place
	uint32_t operands = shared_address(shared + at.query);
	if (threadIdx.x == 32) {
		in.open_words();
		work.open();
		signal_init(full, WARPS * 32);
		signal_init(free, joiners * 32);
		signal_init(met, joiners * 32);
		store4(met + 8, 0); // warps that have left sums, of all segments
		for (uint32_t i = 0; i < 2; i++)
			signal_init(ready + 8 * i, converters * 32);
	}
	in.fill();
	wait_for_predecessor();
	let_successor_begin();
	work.go_on(queries, warp, lane);
	copies_wait();
	__syncwarp(); // a warp takes the rows that it has copied
	work.template convert<F>(operands, queries / 32, queries % 32, warp, WARPS, lane);
	__syncthreads();
	for (uint32_t base = 0, done = 0, turn = 0, order = 0;; turn++) { // order: in which the warp has left the last segment
		query<KT, H> q;
		sums<KT, H> a;
		const attend_segment &now = work.arrive();
		uint32_t place = now.first + done * WARPS + warp - base;
		bool last = now.next == ATTEND_NONE;
		if (turn && go_on) {
			uint32_t which = turn % 2, to = operands + which * query<KT, H>::bytes;
			if (order < converters) {
				work.template convert<F>(to, now.row, now.heads, order, converters, lane);
				signal_arrive(ready + 8 * which);
			}
			signal_wait(ready + 8 * which, (turn - 1) / 2 % 2);
		} else if (turn) {
			work.template convert<F>(operands, now.row, now.heads, warp, WARPS, lane);
			__syncthreads();
		}
		get_query<KT, H>(operands + (go_on ? turn % 2 : 0) * query<KT, H>::bytes, lane, q);
		work.follow(now, warp, lane);
		base += now.tiles;
		uint32_t until = base > warp ? (base - warp + WARPS - 1) / WARPS : 0;
		a.template clear<F>();
		attend_places<F, KT, H, WARPS>(args, now.job, place, until - done, q, in, a);
		done = until;
		if (go_on && turn)
			signal_wait(free, (turn - 1) % 2);
		put_sums<F, KT, H>(a, rows + warp * H * row, tops + warp * H, lane);
		signal_arrive(full);
		struct team all = {threadIdx.x, WARPS * 32};
		if (!last && go_on) {
			order = __shfl_sync(~0u, claim(met + 8, lane), 0) - turn * WARPS;
			uint32_t behind = WARPS - 1 - order;
			if (behind >= joiners)
				continue;
			all = {behind * 32 + lane, joiners * 32, met, turn};
		}
		signal_wait(full, turn % 2);
		finish_segment<KT, H, WARPS>(args, now, rows, tops, totals, all);
		if (last)
			finish_job<KT, H, WARPS>(args, work.first(), rows, totals);
		if (last)
			break;
		if (go_on)
			signal_arrive(free);
		else
			__syncthreads();
	}
}

#endif

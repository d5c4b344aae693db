// A block's segments and their queries, which come to shared memory a segment ahead: a load to a register takes
// microseconds while tiles are on their way.
#ifndef GPU_ATTEND_FEED_CUH
#define GPU_ATTEND_FEED_CUH

#include "gpu/attend_query.cuh"

// Places that segments take in turn. When the first warp begins a segment, none of the block is still at the one before the
// last, whose place the next one takes.
#define FEED_PLACES 3u

static_assert(sizeof(attend_segment) % 16 == 0, "a segment is one bulk copy");

// In shared memory: barriers, segments, and the first segment once more, for the end.
#define FEED_SEGMENTS 32u
#define FEED_BYTES    (FEED_SEGMENTS + (FEED_PLACES + 1) * (uint32_t)sizeof(attend_segment))

// Of a segment's queries as they come.
__host__ __device__ constexpr uint32_t feed_query_bytes(uint32_t steps, uint32_t heads)
{
	return heads * 16 * steps * 4;
}

template <int KT, int H> struct feed {
	static constexpr bool ahead = query<KT, H>::in_registers;
	const attend_args *args;
	uint32_t index;         // of the next segment
	uint32_t shared, rows;  // of the block: FEED_BYTES, queries
	uint32_t place, parity; // of the next segment
	bool rows_come;         // are the next segment's queries copied?

#if HAS_BULK
	// The first segment, and where no kernel before this one may still write them, its queries: by all threads, as bulk copies
	// would wait behind those of tiles. After it, copies_wait and a barrier of the block.
	DEVICE void start(const attend_args &of, uint32_t first_byte, uint32_t first_row, uint32_t queries, uint32_t warp,
			  uint32_t lane)
	{
		constexpr uint32_t bytes = sizeof(attend_segment);
		args = &of;
		shared = keep(first_byte);
		rows = keep(first_row);
		place = parity = 0;
		rows_come = of.d_qk % 4 == 0; // copies are of 16 bytes
		if (warp == 0 && lane * 16 < bytes)
			for (uint32_t at = 0; at <= FEED_PLACES; at += FEED_PLACES)
				copy16(shared + FEED_SEGMENTS + at * bytes + lane * 16,
				       reinterpret_cast<uint64_t>(of.segments + blockIdx.x) + lane * 16);
		if (of.overlap != 1)
			copy_first_rows(queries, warp, lane);
		else if (rows_come && threadIdx.x == 0)
			bulk_prefetch(of.q + (uint64_t)(queries / 32) * of.d_qk, queries % 32 * of.d_qk * 4);
	}

	// By one thread.
	DEVICE void open()
	{
		for (uint32_t i = 0; i < FEED_PLACES; i++)
			barrier_init(shared + 8 * i);
		barrier_init_visible();
		signal_arrive(shared); // the first segment comes otherwise
	}

	// The kernel before this one has ended.
	DEVICE void go_on(uint32_t queries, uint32_t warp, uint32_t lane)
	{
		if (args->overlap == 1)
			copy_first_rows(queries, warp, lane);
	}

	DEVICE void copy_first_rows(uint32_t queries, uint32_t warp, uint32_t lane)
	{
		uint32_t row_bytes = args->d_qk * 4;
		if (!rows_come)
			return;
#pragma unroll 1
		for (uint32_t row = warp; row < queries % 32; row += blockDim.x / 32) {
			uint64_t from = reinterpret_cast<uint64_t>(args->q + (uint64_t)(queries / 32 + row) * args->d_qk);
#pragma unroll 1
			for (uint32_t i = lane * 4; i < args->d_qk; i += 128)
				copy16(rows + row * row_bytes + i * 4, from + i * 4);
		}
	}

	// Start the copy of the next segment and its queries.
	DEVICE void copy(uint32_t segment, uint32_t first, uint32_t heads, uint32_t lane)
	{
		constexpr uint32_t bytes = sizeof(attend_segment);
		uint32_t barrier = shared + 8 * place, row_bytes = rows_come ? args->d_qk * 4 : 0;
		if (lane == 0) {
			barrier_expect(barrier, bytes + heads * row_bytes);
			bulk_copy_kept(shared + FEED_SEGMENTS + place * bytes, reinterpret_cast<uint64_t>(args->segments + segment),
				       bytes, barrier);
		}
		__syncwarp();
		if (rows_come && lane < heads)
			bulk_copy_kept(rows + lane * args->d_qk * 4,
				       reinterpret_cast<uint64_t>(args->q + (uint64_t)(first + lane) * args->d_qk), row_bytes, barrier);
		__syncwarp();
	}

	// The next segment is there.
	DEVICE const attend_segment &arrive() const
	{
		barrier_wait(shared + 8 * place, parity);
		return segment(place);
	}

	DEVICE const attend_segment &segment(uint32_t at) const
	{
		return *static_cast<const attend_segment *>(
		    __cvta_shared_to_generic(shared + FEED_SEGMENTS + at * (uint32_t)sizeof(attend_segment)));
	}

	DEVICE const attend_segment &first() const
	{
		return segment(FEED_PLACES);
	}

	// Its queries are operands: let the one after it come.
	DEVICE void follow(const attend_segment &now, uint32_t warp, uint32_t lane)
	{
		place = place == FEED_PLACES - 1 ? 0 : place + 1;
		parity ^= place == 0;
		rows_come = ahead && rows_come;
		if (warp || now.next == ATTEND_NONE)
			return;
		copy(now.next, now.next_row, now.next_heads, lane);
	}
#else
	// Without bulk copies all comes from global memory.
	DEVICE void start(const attend_args &of, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t)
	{
		args = &of;
		index = blockIdx.x;
		rows_come = false;
	}

	DEVICE void open()
	{
	}

	DEVICE void go_on(uint32_t, uint32_t, uint32_t)
	{
	}

	DEVICE const attend_segment &arrive() const
	{
		return args->segments[index];
	}

	DEVICE const attend_segment &first() const
	{
		return args->segments[blockIdx.x];
	}

	DEVICE void follow(const attend_segment &now, uint32_t, uint32_t)
	{
		index = now.next;
	}
#endif

	// Queries of the segment that has arrived, from `row` on, as operands at `to`: every `step`th head, by a warp.
	template <int F>
	DEVICE void convert(uint32_t to, uint32_t row, uint32_t heads, uint32_t first, uint32_t step, uint32_t lane) const
	{
#pragma unroll 1
		for (uint32_t head = first; head < H; head += step) {
			const float *from = rows_come ? static_cast<const float *>(__cvta_shared_to_generic(rows)) + head * args->d_qk
						      : args->q + (uint64_t)(row + head) * args->d_qk;
			put_query<F, KT, H>(to, from, head < heads, args->d_qk, args->scale, head, lane);
		}
	}
};

#endif

// A warp's stream of tiles: from page references and page table through a ring of stages in shared memory.
//
// The warps of a block take the tiles of a segment in turn, each with a ring of its own, so that none waits for
// another. The stream runs on into the block's next segment while sums of the last one are being joined.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/tile.h"

// What the reader of a stage needs to know of it. `tile`: low 48 bits address and format, high 16 selected tokens.
struct stage_note {
	uint64_t tile;
	uint32_t index, segment;
};

template <int KT> struct stream {
	const attend_args *args;
	uint32_t warp, warps, lane;
	uint32_t ring, barriers; // shared memory of this warp
	stage_note *notes;
	// where references are fetched
	attend_segment at;
	uint32_t segment, base; // ATTEND_NONE at the end; tiles of this warp already passed in the segment
	uint4 ref;              // of this lane's tile in the next batch
	// the batch being issued: one tile a lane
	uint64_t tile;
	uint32_t left, first, batch_segment; // lanes whose tile is still to be issued
	// ring
	uint32_t issued, read, in_stage, out_stage, parity;

	DEVICE uint32_t index_of(uint32_t slot) const
	{
		return at.first + warp + (base + slot) * warps;
	}

	// Begin to fetch the references of the next 32 tiles.
	DEVICE void fetch()
	{
		while (segment != ATTEND_NONE && index_of(0) >= at.end) {
			segment = at.next;
			base = 0;
			if (segment != ATTEND_NONE)
				at = args->segments[segment];
		}
		if (segment == ATTEND_NONE)
			return;
		uint32_t tiles = (args->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS, index = index_of(lane);
		if (index < at.end)
			ref = __ldg(reinterpret_cast<const uint4 *>(at.refs) + index / tiles);
	}

	DEVICE void start(uint32_t first_segment)
	{
		segment = first_segment;
		at = args->segments[segment];
		base = left = issued = read = in_stage = out_stage = parity = 0;
		fetch();
	}

	// No weight for tiles that are not read.
	DEVICE void clear_mass(uint32_t index) const
	{
		const attend_job *job = &args->jobs[at.job];
		if (job->mass == UINT64_MAX)
			return;
		for (uint32_t h = 0; h < job->heads; h++)
			reinterpret_cast<float2 *>(args->tile_mass)[job->tile_mass + (uint64_t)h * job->tiles + index] =
			    make_float2(0, 0);
	}

	// Make the next 32 tiles the batch. False at the end.
	DEVICE bool turn()
	{
		if (segment == ATTEND_NONE)
			return false;
		uint32_t tiles = (args->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS, index = index_of(lane), chosen = 0;
		if (index < at.end) {
			uint64_t entry = __ldg(at.table + (uint64_t)ref.x * at.stride);
			uint32_t begin = index % tiles * TILE_TOKENS, lo = ref.y & 0xffff, hi = ref.y >> 16;
			lo = lo > begin ? lo - begin : 0;
			hi = hi > begin ? min(hi - begin, TILE_TOKENS) : 0;
			chosen = hi > lo ? (1u << hi) - (1u << lo) : 0;
			if (ref.z != IKV_NO_MASK)
				chosen &= (uint32_t)(__ldg(at.masks + ref.z + begin / 64) >> begin % 64) & 0xffff;
			tile = (entry + (uint64_t)(index % tiles) * tile_bytes(entry & 15, KT)) | (uint64_t)chosen << 48;
			if (!chosen && args->tile_mass)
				clear_mass(index);
		}
		left = __ballot_sync(~0u, chosen != 0);
		first = index_of(0);
		batch_segment = segment;
		base += 32;
		fetch();
		return true;
	}

	// Start the copy of the next tile into the next stage, if there is one.
	DEVICE void issue()
	{
		bool more = true;
		while (!left && more)
			more = turn();
		if (more) {
			uint32_t slot = __ffs(left) - 1;
			left &= left - 1;
			uint64_t next = __shfl_sync(~0u, tile, slot), from = next & 0xfffffffffff0;
			uint32_t bytes = tile_bytes(next & 15, KT), to = ring + in_stage * args->stage_bytes;
			if (lane == 0) {
				notes[in_stage] = {next, first + slot * warps, batch_segment};
#if HAS_BULK
				bulk_copy(to, from, bytes, barriers + 8 * in_stage);
#endif
			}
#if !HAS_BULK
			for (uint32_t i = lane * 16; i < bytes; i += 512)
				copy16(to + i, from + i);
#endif
			issued++;
			in_stage = in_stage + 1 == args->stages ? 0 : in_stage + 1;
		}
#if !HAS_BULK
		copies_close();
#endif
		__syncwarp();
	}

	// The next tile, if it belongs to this segment.
	DEVICE bool has(uint32_t of_segment) const
	{
		return read != issued && notes[out_stage].segment == of_segment;
	}

	DEVICE uint32_t arrive() const
	{
#if HAS_BULK
		barrier_wait(barriers + 8 * out_stage, parity);
#else
		copies_wait_but_one();
		__syncwarp();
#endif
		return ring + out_stage * args->stage_bytes;
	}

	// The stage that was read last may be overwritten.
	DEVICE void pass()
	{
		read++;
		if (++out_stage == args->stages) {
			out_stage = 0;
			parity ^= 1;
		}
		__syncwarp();
		issue();
	}
};

#endif

// A warp's stream of tiles: from page references and page table through a ring of stages in shared memory.
//
// The warps of a block take the tiles of a segment in turn, each with a ring of its own, so that none waits for
// another. The stream runs on into the block's next segment while sums of the last one are being joined.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

// A tile that is to be read. `tile`: low 48 bits address and format, high 16 selected tokens.
struct stage_note {
	uint64_t tile;
	uint32_t index, segment;
};

#define NOTES 64u // of a warp: a batch of 32, and those of the one before that are still in the ring

template <int KT, uint32_t WARPS> struct stream {
	const attend_args *args;
	uint32_t warp, lane;
	uint32_t ring, barriers, stage_bytes, stages; // shared memory of this warp
	stage_note *notes;
	uint64_t policy;
	// where references are fetched
	const attend_segment *at; // read again where needed: once in 32 tiles, and registers are short
	uint32_t segment, first; // ATTEND_NONE at the end; this warp's first place of the next batch
	uint4 ref;               // of this lane's tile in that batch
	uint32_t index;          // of that tile in its job
	// counters of tiles: noted, copy started, read; places in the ring
	uint32_t noted, issued, read, in_stage, out_stage, parity;

	// The tile at a place of the segment's job.
	DEVICE uint32_t tile_at(uint32_t place) const
	{
		uint32_t each = at->tiles / at->parts, longer = at->tiles % at->parts, split = longer * (each + 1);
		if (place < split)
			return place / (each + 1) + at->parts * (place % (each + 1));
		return longer + (place - split) / each + at->parts * ((place - split) % each);
	}

	// Begin to fetch the references of the next 32 tiles.
	DEVICE void fetch()
	{
		while (segment != ATTEND_NONE && first >= at->end) {
			segment = at->next;
			if (segment != ATTEND_NONE) {
				at = &args->segments[segment];
				first = at->first + warp;
			}
		}
		uint32_t tiles = (args->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS, place = first + lane * WARPS;
		if (segment == ATTEND_NONE || place >= at->end)
			return;
		index = tile_at(place);
		ref = __ldg(reinterpret_cast<const uint4 *>(at->refs) + index / tiles);
	}

	DEVICE void start(uint32_t first_segment)
	{
		segment = first_segment;
		at = &args->segments[segment];
		first = at->first + warp;
		noted = issued = read = in_stage = out_stage = parity = 0;
		fetch();
	}

	// No weight for tiles that are not read.
	DEVICE void clear_mass(uint32_t index) const
	{
		const attend_job *job = &args->jobs[at->job];
		if (job->mass == UINT64_MAX)
			return;
		for (uint32_t h = 0; h < job->heads; h++)
			reinterpret_cast<float2 *>(args->tile_mass)[job->tile_mass + (uint64_t)h * job->tiles + index] =
			    make_float2(0, 0);
	}

	// Note those of the next 32 tiles that hold a selected token. False at the end.
	DEVICE bool turn()
	{
		if (segment == ATTEND_NONE)
			return false;
		uint32_t tiles = (args->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS, chosen = 0;
		uint64_t tile = 0;
		if (first + lane * WARPS < at->end) {
			uint64_t entry = __ldg(at->table + (uint64_t)ref.x * at->stride);
			uint32_t begin = index % tiles * TILE_TOKENS, lo = ref.y & 0xffff, hi = ref.y >> 16;
			lo = lo > begin ? lo - begin : 0;
			hi = hi > begin ? min(hi - begin, TILE_TOKENS) : 0;
			chosen = hi > lo ? (1u << hi) - (1u << lo) : 0;
			if (ref.z != IKV_NO_MASK)
				chosen &= (uint32_t)(__ldg(at->masks + ref.z + begin / 64) >> begin % 64) & 0xffff;
			tile = (entry + (uint64_t)(index % tiles) * tile_bytes(entry & 15, KT)) | (uint64_t)chosen << 48;
			if (!chosen && args->tile_mass)
				clear_mass(index);
		}
		uint32_t all = __ballot_sync(~0u, chosen != 0);
		if (chosen)
			notes[(noted + __popc(all & ((1u << lane) - 1))) % NOTES] = {tile, index, segment};
		noted += __popc(all);
		first += 32 * WARPS;
		fetch();
		__syncwarp();
		return true;
	}

	// Start the copy of the next tile into the next stage, if there is one.
	DEVICE void issue()
	{
		bool more = true;
		while (issued == noted && more)
			more = turn();
		if (more) {
			uint32_t to = ring + in_stage * stage_bytes;
#if HAS_BULK
			if (lane == 0) {
				uint64_t next = notes[issued % NOTES].tile;
				bulk_copy(to, next & 0xfffffffffff0, tile_bytes(next & 15, KT), barriers + 8 * in_stage,
					  policy);
			}
#else
			uint64_t next = notes[issued % NOTES].tile, from = next & 0xfffffffffff0;
			for (uint32_t i = lane * 16; i < tile_bytes(next & 15, KT); i += 512)
				copy16(to + i, from + i);
#endif
			issued++;
			in_stage = in_stage + 1 == stages ? 0 : in_stage + 1;
		}
#if !HAS_BULK
		copies_close();
#endif
	}

	// The next tile, if it belongs to this segment.
	DEVICE bool next(uint32_t of_segment, stage_note &note) const
	{
		if (read == issued)
			return false;
		uint4 x = *reinterpret_cast<const uint4 *>(&notes[read % NOTES]);
		note = {(uint64_t)x.y << 32 | x.x, x.z, x.w};
		return note.segment == of_segment;
	}

	DEVICE uint32_t arrive() const
	{
#if HAS_BULK
		barrier_wait(barriers + 8 * out_stage, parity);
#else
		copies_wait_but_one();
		__syncwarp();
#endif
		return ring + out_stage * stage_bytes;
	}

	// The tile has been read: its stage may be overwritten.
	DEVICE void pass()
	{
		read++;
		if (++out_stage == stages) {
			out_stage = 0;
			parity ^= 1;
		}
		__syncwarp();
		issue();
	}
};

#endif

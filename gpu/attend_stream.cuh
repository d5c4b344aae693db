// A warp's stream of tiles: from words through a ring of stages in shared memory.
//
// The warps of a block take its tiles in turn, each with a ring of its own, so that none waits for another. The stream
// runs on into the block's next segment while sums of the last one are being joined.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

template <uint32_t WARPS> struct stream {
	const attend_args *args;
	const attend_word *words; // of this warp: every WARPS-th
	uint32_t lane;
	uint32_t ring, barriers, notes, stages, stage_bytes; // shared memory of this warp; notes: a word a stage
	uint32_t count, issued;                              // tiles of this warp; those whose copy has started
	uint32_t in_stage, out_stage, parity;
	attend_word word, following; // of tile issued - issued % 32 + lane, and 32 further
	uint64_t policy;

	DEVICE attend_word fetch(uint32_t i) const
	{
		return i < count ? load_word(words + i * WARPS) : 0;
	}

	DEVICE void start(uint32_t warp, uint32_t begin, uint32_t end)
	{
		words = args->words + begin + warp;
		count = begin + warp < end ? (end - begin - warp + WARPS - 1) / WARPS : 0;
		issued = in_stage = out_stage = parity = 0;
		word = fetch(lane);
		following = fetch(lane + 32);
	}

	// Start the copy of the next tile into the next stage, if there is one.
	DEVICE void issue()
	{
		if (issued < count) {
			uint32_t to = ring + in_stage * stage_bytes;
#if HAS_BULK
			if (lane == issued % 32) {
				uint32_t barrier = barriers + 8 * in_stage, note = (uint32_t)(word >> 48) << 4 | ((uint32_t)word & 15);
				store4(notes + 4 * in_stage, note);
				uint32_t bytes = note >> 4 ? args->bytes[note & 15] : 0;
				barrier_expect(barrier, bytes);
				if (bytes)
					bulk_copy(to, word & 0xfffffffffff0, bytes, barrier, policy);
			}
#else
			attend_word next = __shfl_sync(~0u, word, issued % 32);
			uint32_t note = (uint32_t)(next >> 48) << 4 | ((uint32_t)next & 15);
			uint64_t from = next & 0xfffffffffff0;
			if (lane == 0)
				store4(notes + 4 * in_stage, note);
			uint32_t bytes = note >> 4 ? args->bytes[note & 15] : 0;
			for (uint32_t i = lane * 16; i < bytes; i += 512)
				copy16(to + i, from + i);
#endif
			issued++;
			in_stage = in_stage + 1 == stages ? 0 : in_stage + 1;
			if (issued % 32 == 0) {
				word = following;
				following = fetch(issued + 32 + lane);
			}
		}
#if !HAS_BULK
		copies_close();
#endif
	}

	// The tile that was issued first and has not been read: its format in the low four bits, selected tokens above.
	DEVICE uint32_t arrive(uint32_t &tile) const
	{
#if HAS_BULK
		barrier_wait(barriers + 8 * out_stage, parity);
#else
		copies_wait_but_one();
		__syncwarp();
#endif
		tile = ring + out_stage * stage_bytes;
		return load4(notes + 4 * out_stage);
	}

	// The tile has been read: its stage may be overwritten.
	DEVICE void pass()
	{
		if (++out_stage == stages) {
			out_stage = 0;
			parity ^= 1;
		}
		__syncwarp();
		issue();
	}
};

#endif

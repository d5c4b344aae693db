// A warp's stream of tiles: from words through a ring of stages in shared memory.
//
// The warps of a block take its tiles in turn, each with a ring of its own, so that none waits for another. The stream
// runs on into the block's next segment while sums of the last one are being joined.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

// F: the format of all tiles, or one of the values that say that they differ.
template <int F, int KT, uint32_t WARPS> struct stream {
	static constexpr bool one_format = F != 0 && F != ATTEND_ANY;
	const attend_args *args;
	uint32_t lane, warp;
	uint32_t ring, places;       // shared memory of this warp: stages, and 16 bytes for each: barrier, note
	uint32_t tile, place;        // the stage that is read next, and its 16 bytes
	uint32_t parity;             // of its barrier
	uint32_t left, turn;         // tiles whose copy has not started; the lane that has the next one's word
	const attend_word *words;    // of this lane, 32 tiles on from `word`
	attend_word word, following; // of one of the next 32 tiles, and of the 32 after them
	uint64_t policy;

	DEVICE void open(const attend_args &of, uint32_t first_stage, uint32_t first_place)
	{
		args = &of;
		lane = keep(threadIdx.x % 32);
		warp = threadIdx.x / 32;
		ring = tile = keep(first_stage + warp * of.stages * of.stage_bytes);
		places = place = keep(first_place + warp * of.stages * 16);
		parity = 0;
		policy = read_once();
#if HAS_BULK
		if (lane == 0)
			for (uint32_t i = 0; i < of.stages; i++)
				barrier_init(places + 16 * i);
		barrier_init_visible();
		__syncwarp();
#endif
	}

	// Where in its stage a tile begins: where it begins in a line of 128 bytes of memory (tile_room).
	DEVICE static uint32_t skew(uint32_t bytes, uint32_t address)
	{
		return bytes % 128 ? address & 112 : 0;
	}

	// Take every WARPS-th of the words [begin, end).
	DEVICE void start(uint32_t begin, uint32_t end)
	{
		left = keep(begin + warp < end ? (end - begin - warp + WARPS - 1) / WARPS : 0);
		words = args->words + begin + warp + lane * WARPS;
		word = lane < left ? load_word(words) : 0;
		words += 32 * WARPS;
		following = lane + 32 < left ? load_word(words) : 0;
		turn = 0;
	}

	// Start the copy of the next tile, if there is one.
	DEVICE void issue(uint32_t to, uint32_t at)
	{
		if (left) {
#if HAS_BULK
			if (lane == turn) {
				uint32_t note = (uint32_t)(word >> 48) << 4 | ((uint32_t)word & 15);
				uint32_t bytes = one_format ? tile_bytes(F, KT) : args->bytes[note & 15];
				uint32_t begin = skew(bytes, (uint32_t)word);
				store4(at + 8, begin << 16 | note);
				bytes = note >> 4 ? bytes : 0;
				barrier_expect(at, bytes);
				if (bytes)
					bulk_copy(to + begin, word & 0xfffffffffff0, bytes, at, policy);
			}
#else
			attend_word next = __shfl_sync(~0u, word, turn);
			uint32_t note = (uint32_t)(next >> 48) << 4 | ((uint32_t)next & 15);
			uint64_t from = next & 0xfffffffffff0;
			if (lane == 0)
				store4(at + 8, note);
			uint32_t bytes = note >> 4 ? args->bytes[note & 15] : 0;
			for (uint32_t i = lane * 16; i < bytes; i += 512)
				copy16(to + i, from + i);
#endif
			left--;
			turn = (turn + 1) % 32;
			if (turn == 0) {
				word = following;
				words += 32 * WARPS;
				following = lane + 32 < left ? load_word(words) : 0;
			}
		}
#if !HAS_BULK
		copies_close();
#endif
	}

	// Fill the ring at the beginning.
	DEVICE void fill()
	{
		uint32_t to = tile, at = place, end = places + 16 * args->stages;
		for (uint32_t i = 0; i < args->stages; i++) {
			issue(to, at);
			at += 16;
			to = at == end ? ring : to + args->stage_bytes;
			at = at == end ? places : at;
		}
	}

	// The tile that was issued first and has not been read has come: its format in the low four bits, in the next 16 its
	// selected tokens, and above where it begins in its stage, in units of 16 bytes.
	DEVICE uint32_t arrive() const
	{
#if HAS_BULK
		barrier_wait(place, parity);
#else
		copies_wait_but_one();
		__syncwarp();
#endif
		return load4(place + 8);
	}

	// The tile has been read: its stage takes the next one that is not there.
	DEVICE void pass()
	{
		__syncwarp();
		issue(tile, place);
		place += 16;
		bool around = place == places + 16 * args->stages;
		tile = around ? ring : tile + args->stage_bytes;
		place = around ? places : place;
		parity ^= around;
	}
};

#endif

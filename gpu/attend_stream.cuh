// A warp's stream of tiles: from words through a ring of stages in shared memory.
//
// The warps of a block take its tiles in turn, each with a ring of its own, so that none waits for another. The stream
// runs on into the block's next segment while sums of the last one are being joined. Words, too, are copied to shared
// memory: a load to a register would be waited for with whatever else is loaded, and takes microseconds while tiles are
// on their way.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

#define STREAM_WORDS 16u // copied at a time; a warp has room for two such pieces

// F: the format of all tiles, or one of the values that say that they differ.
template <int F, int KT, uint32_t WARPS> struct stream {
	static constexpr bool one_format = F != 0 && F != ATTEND_ANY;
	const attend_args *args;
	uint32_t lane;
	uint32_t ring, places;       // shared memory of this warp: stages, and 16 bytes for each: barrier, note
	uint32_t tile, place;        // the stage that is read next, and its 16 bytes
	uint32_t parity;             // of its barrier
	uint32_t words;              // shared memory of this warp
	uint32_t count, next;        // tiles, and those of them whose copy has started
	const attend_word *from;     // of this lane, in the piece that is copied next
	uint64_t policy;

	// Take every WARPS-th of the words [begin, end). The first ones are there after copies_wait and a barrier of the warp.
	DEVICE void start(const attend_args &of, uint32_t first_words, uint32_t begin, uint32_t end)
	{
		uint32_t warp = threadIdx.x / 32;
		args = &of;
		lane = keep(threadIdx.x % 32);
		words = keep(first_words + warp * STREAM_WORDS * 16);
		count = keep(begin + warp < end ? (end - begin - warp + WARPS - 1) / WARPS : 0);
		from = of.words + begin + warp + lane * WARPS;
		next = 0;
		copy_words(0);
		copy_words(STREAM_WORDS);
	}

	// Copy words `first` and on.
	DEVICE void copy_words(uint32_t first)
	{
		if (lane < STREAM_WORDS && first + lane < count)
			copy8(words + (first % (2 * STREAM_WORDS) + lane) * 8, from);
		from += STREAM_WORDS * WARPS;
	}

	DEVICE void open(uint32_t first_stage, uint32_t first_place)
	{
		uint32_t warp = threadIdx.x / 32;
		ring = tile = keep(first_stage + warp * args->stages * args->stage_bytes);
		places = place = keep(first_place + warp * args->stages * 16);
		parity = 0;
		policy = read_once();
#if HAS_BULK
		if (lane < args->stages)
			barrier_init(places + 16 * lane);
		barrier_init_visible();
#endif
	}

	// Where in its stage a tile begins: where it begins in a line of 128 bytes of memory (tile_room).
	DEVICE static uint32_t skew(uint32_t bytes, uint32_t address)
	{
		return bytes % 128 ? address & 112 : 0;
	}

	// Start the copy of the next tile, if there is one.
	DEVICE void issue(uint32_t to, uint32_t at)
	{
		if (next < count) {
			uint32_t word_at = words + next % (2 * STREAM_WORDS) * 8;
#if HAS_BULK
			if (lane == 0) {
				uint2 word = load8(word_at);
				uint32_t note = word.y >> 16 << 4 | (word.x & 15);
				uint32_t bytes = one_format ? tile_bytes(F, KT) : args->bytes[note & 15];
				uint32_t begin = skew(bytes, word.x);
				store4(at + 8, begin << 16 | note);
				bytes = note >> 4 ? bytes : 0;
				barrier_expect(at, bytes);
				if (bytes)
					bulk_copy(to + begin, (uint64_t)(word.y & 0xffff) << 32 | (word.x & ~15u), bytes, at, policy);
			}
#else
			uint2 word = load8(word_at);
			uint32_t note = word.y >> 16 << 4 | (word.x & 15);
			uint64_t source = (uint64_t)(word.y & 0xffff) << 32 | (word.x & ~15u);
			if (lane == 0)
				store4(at + 8, note);
			uint32_t bytes = note >> 4 ? args->bytes[note & 15] : 0;
			for (uint32_t i = lane * 16; i < bytes; i += 512)
				copy16(to + i, source + i);
#endif
			next++;
			if (next % STREAM_WORDS == 0) { // the next piece is there, and the one after it takes the place of the last
				copies_wait();
				__syncwarp();
				copy_words(next + STREAM_WORDS);
			}
		}
#if !HAS_BULK
		copies_close();
#endif
	}

	// Fill the ring at the beginning.
	DEVICE void fill()
	{
		uint32_t to = tile, at = place;
#pragma unroll 1
		for (uint32_t i = 0; i < args->stages; i++) {
			issue(to, at);
			at += 16;
			to += args->stage_bytes;
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

// A block's stream of tiles: from words through slots of shared memory to its warps.
//
// Tile n of a block belongs to warp n modulo their number. Copies start in the order of the tiles: whoever has read a tile lets
// the next one into its slot, whosever that is, so that a warp whose copies come late does not fall behind. The stream
// runs on into the block's next segment while sums of the last one are being joined. Words, too, are copied to shared
// memory: a load to a register would be waited for with whatever else is loaded, and takes microseconds while tiles are
// on their way.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

// Words are copied in pieces, two ahead of the one that is begun, to a ring of eight. A word is read while its tile waits for
// a slot; until then others can start no more tiles than slots times warps, 512, since those of the warp that waits
// fill the slots. The ring keeps five pieces.
#define STREAM_PIECE  128u
#define STREAM_PIECES 8u

// Entries of a warp's queue, a power of two and no fewer than slots. Each has 16 bytes: barrier, note, the tile's address.
__host__ __device__ static inline uint32_t stream_queue(uint32_t slots)
{
	uint32_t n = 2;
	while (n < slots)
		n *= 2;
	return n;
}

// Offsets in a stream's shared memory: barriers of the words' pieces, the number of the next tile, queues, words.
#define STREAM_NEXT   (STREAM_PIECES * 8)
#define STREAM_QUEUES (STREAM_NEXT + 16)

__host__ __device__ static inline uint32_t stream_bytes(uint32_t warps, uint32_t slots)
{
	return STREAM_QUEUES + warps * stream_queue(slots) * 16 + STREAM_PIECE * STREAM_PIECES * 8;
}

// F: the format of all tiles, or one of the values that say that they differ.
#if HAS_BULK
template <int F, int KT, uint32_t WARPS> struct stream {
	static constexpr bool one_format = F != 0 && F != ATTEND_ANY;
	const attend_args *args;
	uint32_t lane, warp;
	uint32_t slots, shared, queue, words; // shared memory of the block
	uint32_t entry, parity;               // of this warp's next tile
	uint32_t tile, note;                  // of the one that has come
	uint32_t total, next;                 // tiles; the one that comes into the slot of the one that is read: lane 0
	uint32_t odd;                         // 1: the first word is in the middle of 16 bytes
	const attend_word *from;              // first word of the first piece
	uint64_t policy;

	// Take the words [begin, end). After it, a barrier of the block.
	DEVICE void start(const attend_args &of, uint32_t first_slot, uint32_t first_byte, uint32_t begin, uint32_t end)
	{
		args = &of;
		lane = keep(threadIdx.x % 32);
		warp = threadIdx.x / 32;
		slots = keep(first_slot);
		shared = keep(first_byte);
		queue = keep(stream_queue(of.slots));
		words = keep(shared + STREAM_QUEUES + WARPS * queue * 16);
		total = keep(end - begin);
		odd = (uint32_t)(reinterpret_cast<uint64_t>(of.words + begin) / 8 & 1);
		from = of.words + begin - odd;
		parity = 0;
		policy = read_once();
		if (threadIdx.x == 0) {
			for (uint32_t i = 0; i < STREAM_PIECES; i++)
				barrier_init(shared + 8 * i);
			store4(shared + STREAM_NEXT, of.slots);
			barrier_init_visible();
			for (uint32_t i = 0; i < 3; i++)
				copy_words(i);
		}
		entry = shared + STREAM_QUEUES + warp * queue * 16;
		for (uint32_t i = lane; i < queue; i += 32)
			barrier_init(entry + 16 * i);
		barrier_init_visible();
	}

	// Start the copy of a piece of the words, if there is one; by one lane.
	DEVICE void copy_words(uint32_t piece)
	{
		uint32_t first = piece * STREAM_PIECE, barrier = shared + piece % STREAM_PIECES * 8;
		if (first >= total + odd)
			return;
		uint32_t bytes = (min(STREAM_PIECE, total + odd - first) + 1) / 2 * 16;
		barrier_expect(barrier, bytes);
		bulk_copy(words + first % (STREAM_PIECE * STREAM_PIECES) * 8, reinterpret_cast<uint64_t>(from + first), bytes, barrier,
			  policy);
	}

	// Where in its slot a tile begins: where it begins in a line of 128 bytes of memory (tile_room).
	DEVICE static uint32_t skew(uint32_t bytes, uint32_t address)
	{
		return bytes % 128 ? address & 112 : 0;
	}

	// Start the copy of tile `next`, if there is one; by one lane, or by several with a tile each.
	DEVICE void issue(uint32_t slot)
	{
		if (next >= total)
			return;
		uint32_t place = next + odd, piece = place / STREAM_PIECE;
		barrier_wait(shared + piece % STREAM_PIECES * 8, piece / STREAM_PIECES & 1);
		uint2 word = load8(words + place % (STREAM_PIECE * STREAM_PIECES) * 8);
		uint32_t about = word.y >> 16 << 4 | (word.x & 15);
		uint32_t bytes = one_format ? tile_bytes(F, KT) : args->bytes[about & 15];
		uint32_t begin = skew(bytes, word.x);
		uint32_t at = shared + STREAM_QUEUES + (next % WARPS * queue + (next / WARPS & (queue - 1))) * 16;
		store8(at + 8, begin << 16 | about, slot + begin);
		bytes = about >> 4 ? bytes : 0;
		barrier_expect(at, bytes);
		if (bytes)
			bulk_copy(slot + begin, (uint64_t)(word.y & 0xffff) << 32 | (word.x & ~15u), bytes, at, policy);
	}

	// Fill the slots at the beginning.
	DEVICE void fill()
	{
		next = warp + lane * WARPS;
		if (next < args->slots)
			issue(slots + next * args->slot_bytes);
		__syncwarp();
	}

	// The warp's next tile has come: its format in the low four bits, and in the next 16 its selected tokens.
	DEVICE uint32_t arrive()
	{
		barrier_wait(entry, parity);
		uint2 x = load8(entry + 8);
		note = x.x;
		tile = x.y;
		if (lane == 0) {
			next = claim(shared + STREAM_NEXT);
			if ((next + odd) % STREAM_PIECE == 0)
				copy_words((next + odd) / STREAM_PIECE + 2);
		}
		return note;
	}

	// It has been read.
	DEVICE void pass()
	{
		__syncwarp();
		if (lane == 0)
			issue(tile - (note >> 20) * 16);
		entry += 16;
		bool around = entry == shared + STREAM_QUEUES + (warp + 1) * queue * 16;
		entry -= around ? queue * 16 : 0;
		parity ^= around;
	}
};
#else
// Without bulk copies, whose arrival another warp can wait for, each warp has slots of its own.
template <int F, int KT, uint32_t WARPS> struct stream {
	const attend_args *args;
	uint32_t lane;
	uint32_t ring, notes, stages; // of this warp
	uint32_t tile, stage;         // the one that is read next
	uint32_t count, next;         // tiles, and those of them whose copy has started
	const attend_word *words;
	attend_word word; // of tile `next`

	DEVICE void start(const attend_args &of, uint32_t first_slot, uint32_t first_byte, uint32_t begin, uint32_t end)
	{
		uint32_t warp = threadIdx.x / 32;
		args = &of;
		lane = threadIdx.x % 32;
		stages = of.slots / WARPS;
		ring = tile = first_slot + warp * stages * of.slot_bytes;
		notes = first_byte + warp * stages * 4;
		stage = 0;
		count = begin + warp < end ? (end - begin - warp + WARPS - 1) / WARPS : 0;
		next = 0;
		words = of.words + begin + warp;
		word = count ? load_word(words) : 0;
	}

	DEVICE void issue(uint32_t to, uint32_t at)
	{
		if (next < count) {
			uint32_t note = (uint32_t)(word >> 48) << 4 | ((uint32_t)word & 15);
			if (lane == 0)
				store4(at, note);
			uint32_t bytes = note >> 4 ? args->bytes[note & 15] : 0;
			for (uint32_t i = lane * 16; i < bytes; i += 512)
				copy16(to + i, (word & 0xfffffffffff0) + i);
			next++;
			word = next < count ? load_word(words + (uint64_t)next * WARPS) : 0;
		}
		copies_close();
	}

	DEVICE void fill()
	{
		for (uint32_t i = 0; i < stages; i++)
			issue(ring + i * args->slot_bytes, notes + 4 * i);
	}

	DEVICE uint32_t arrive() const
	{
		if (stages == 1)
			copies_wait();
		else
			copies_wait_but_one();
		__syncwarp();
		return load4(notes + 4 * stage);
	}

	DEVICE void pass()
	{
		__syncwarp();
		issue(tile, notes + 4 * stage);
		stage = stage + 1 == stages ? 0 : stage + 1;
		tile = ring + stage * args->slot_bytes;
	}
};
#endif

#endif

// A block's stream of tiles: from words through slots of shared memory to its warps.
//
// Tile n of a block belongs to warp n modulo their number. Copies start in the order of the tiles: whoever has read a tile
// lets the next one into its slot, whosever that is, so that a warp whose copies come late does not fall behind. The stream
// runs on into the block's next segment while sums of the last one are being joined. Words, too, are copied to shared
// memory, but for the first ones: a load to a register would be waited for with whatever else is loaded, and takes
// microseconds while tiles are on their way.
#ifndef GPU_ATTEND_STREAM_CUH
#define GPU_ATTEND_STREAM_CUH

#include "gpu/attend.h"
#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

// A tile that is on its way has an entry, by its number, of eight bytes: note (format and selected tokens), the parity of
// its slot's barrier, a bit that says in which round of the entries it was written; where the tile begins. While a warp
// has not read tile n, those after it that are its own fill the slots, so the others can start none beyond
// n + slots · warps, which is no more than there are entries.
#define STREAM_ENTRIES 512u
#define STREAM_ROUND   22 // to bit 31 from that of a number
#define STREAM_PARITY  (1u << 30)
// Words are copied in pieces, one ahead of that which is begun. By the same reasoning the ring keeps a word until its
// tile's copy has begun, and no warp is two pieces behind another.
#define STREAM_PIECE  256u
#define STREAM_PIECES 4u

// Offsets in a stream's shared memory; entries come first.
#define STREAM_WORDS (STREAM_ENTRIES * 8)
#define STREAM_READY (STREAM_WORDS + STREAM_PIECE * STREAM_PIECES * 8) // barriers of pieces
#define STREAM_NEXT  (STREAM_READY + STREAM_PIECES * 8)                 // number of the tile whose copy starts next
#define STREAM_BYTES (STREAM_NEXT + 16)

// Before a slot lies its barrier.
#define STREAM_SLOT_HEAD 128u

// F: the format of all tiles, or one of the values that say that they differ.
#if HAS_BULK
template <int F, int KT, uint32_t WARPS> struct stream {
	static constexpr bool one_format = F != 0 && F != ATTEND_ANY;
	const attend_args *args;
	uint32_t lane, slots, shared;
	uint32_t number;          // of the warp's next tile
	uint32_t tile, slot;      // addresses of the one that has come and of its slot
	uint32_t entry;           // its entry's first word
	uint32_t next;            // number of the one that comes to its slot; lane 0 knows it
	uint32_t total, ready;    // tiles; those whose words are known to be there
	uint32_t odd;             // 1: the first word is in the middle of 16 bytes
	const attend_word *words; // those 16 bytes and on
	attend_word first;        // word of the lane's tile among the first ones
	uint64_t policy;

	// Take the words [begin, end), of which the first two pieces are there after copies_wait and a barrier of the block.
	DEVICE void start(const attend_args &of, uint32_t first_slot, uint32_t first_byte, uint32_t begin, uint32_t end)
	{
		args = &of;
		lane = keep(threadIdx.x % 32);
		number = threadIdx.x / 32;
		slots = keep(first_slot + STREAM_SLOT_HEAD);
		shared = keep(first_byte);
		total = keep(end - begin);
		odd = begin & 1;
		words = of.words + (begin - odd);
		first = is_first() ? load_word(words + odd + number + lane * WARPS) : 0;
		ready = 0;
		policy = read_once();
#pragma unroll 1 // a bulk copy would wait behind those of tiles
		for (uint32_t i = 2 * threadIdx.x; i < min(2 * STREAM_PIECE, total + odd); i += 64 * WARPS)
			copy16(shared + STREAM_WORDS + i * 8, reinterpret_cast<uint64_t>(words + i));
	}

	// Meanwhile get the entries and the first tiles' slots ready, each warp its own.
	DEVICE void open()
	{
		for (uint32_t i = number + lane * WARPS; i < STREAM_ENTRIES; i += 32 * WARPS)
			store8(shared + i * 8, 0, 0);
		if (number + lane * WARPS < args->slots)
			barrier_init(first_slot() - 8);
		barrier_init_visible();
		__syncwarp();
	}

	// By one thread.
	DEVICE void open_words()
	{
		for (uint32_t i = 0; i < STREAM_PIECES; i++)
			barrier_init(shared + STREAM_READY + 8 * i);
		store4(shared + STREAM_NEXT, args->slots);
		barrier_init_visible();
		for (uint32_t i = 0; i < 2; i++) // the first pieces come otherwise
			signal_arrive(shared + STREAM_READY + 8 * i);
	}

	DEVICE uint32_t first_slot() const
	{
		return slots + (number + lane * WARPS) * (args->slot_bytes + STREAM_SLOT_HEAD);
	}

	// Does this lane start the copy of one of the tiles that fill the slots? Each warp does so with its own.
	DEVICE bool is_first() const
	{
		return number + lane * WARPS < min(args->slots, total);
	}

	// Start the copy of a piece of the words, if there is one; by one lane.
	DEVICE void copy_words(uint32_t piece)
	{
		uint32_t from = piece * STREAM_PIECE, barrier = shared + STREAM_READY + piece % STREAM_PIECES * 8;
		if (from >= total + odd)
			return;
		uint32_t bytes = (min(STREAM_PIECE, total + odd - from) + 1) / 2 * 16;
		barrier_expect(barrier, bytes);
		bulk_copy_kept(shared + STREAM_WORDS + piece % STREAM_PIECES * (STREAM_PIECE * 8),
			       reinterpret_cast<uint64_t>(words + from), bytes, barrier);
	}

	// Where in its slot a tile begins: where it begins in a line of 128 bytes of memory (tile_room).
	DEVICE static uint32_t skew(uint32_t bytes, uint32_t address)
	{
		return bytes % 128 ? address & 112 : 0;
	}

	// Start the copy of tile n.
	DEVICE void put(uint32_t to, uint32_t parity, uint32_t n, uint32_t low, uint32_t high)
	{
		uint32_t note = high >> 16 << 4 | (low & 15), bytes = one_format ? tile_bytes(F, KT) : args->bytes[note & 15];
		uint32_t begin = to + skew(bytes, low), barrier = to - 8;
		store8(shared + n % STREAM_ENTRIES * 8, note | parity | (~n << STREAM_ROUND & 1u << 31), begin);
		bytes = note >> 4 ? bytes : 0;
		barrier_expect(barrier, bytes);
		if (bytes)
			bulk_copy(begin, (uint64_t)(high & 0xffff) << 32 | (low & ~15u), bytes, barrier, policy);
	}

	// Fill the slots at the beginning. After it, a barrier of the block.
	DEVICE void fill()
	{
		if (is_first())
			put(first_slot(), 0, number + lane * WARPS, (uint32_t)first, (uint32_t)(first >> 32));
		__syncwarp();
	}

	// The warp's next tile has come: its format in the low four bits, and in the next 16 its selected tokens.
	DEVICE uint32_t arrive()
	{
		uint2 x = wait_for_sign(shared + number % STREAM_ENTRIES * 8, number << STREAM_ROUND);
		entry = x.x;
		tile = x.y;
		slot = tile & ~127u;
		barrier_wait(slot - 8, entry / STREAM_PARITY & 1);
		number += WARPS;
		next = claim(shared + STREAM_NEXT, lane);
		return entry;
	}

	// Words up to that at `place` are there; whoever takes a piece's first one lets the next piece come.
	DEVICE void wait_for_words(uint32_t place)
	{
		if (place % STREAM_PIECE == 0)
			copy_words(place / STREAM_PIECE + 1);
		for (; ready <= place; ready += STREAM_PIECE) {
			uint32_t piece = ready / STREAM_PIECE;
			barrier_wait(shared + STREAM_READY + piece % STREAM_PIECES * 8, piece / STREAM_PIECES & 1);
		}
	}

	// It has been read.
	DEVICE void pass()
	{
		__syncwarp();
		if (lane == 0 && next < total) {
			uint32_t place = next + odd;
			if (place >= ready)
				wait_for_words(place);
			uint2 word = load8(shared + STREAM_WORDS + place % (STREAM_PIECE * STREAM_PIECES) * 8);
			put(slot, ~entry & STREAM_PARITY, next, word.x, word.y);
		}
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
		ring = tile = first_slot + warp * stages * of.slot_bytes; // heads of slots are left out
		notes = first_byte + warp * stages * 4;
		stage = 0;
		count = begin + warp < end ? (end - begin - warp + WARPS - 1) / WARPS : 0;
		next = 0;
		words = of.words + begin + warp;
		word = count ? load_word(words) : 0;
	}

	DEVICE void open()
	{
	}

	DEVICE void open_words()
	{
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

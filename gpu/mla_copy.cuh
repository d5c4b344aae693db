// The warpgroup that copies. Groups of 8 tokens go to its four warps in turn. A group is one bulk copy, made as soon as its
// stage is free; codes are widened in their place by the warp that asked for them, in the order in which it did.
#ifndef GPU_MLA_COPY_CUH
#define GPU_MLA_COPY_CUH

#include "gpu/mla_ring.cuh"

struct copier {
	uint32_t shared, warp, lane;
	uint64_t policy;
	bool keep;
	ring stage;                    // of the next group
	uint32_t place;                // of it in the stage
	const mla_segment *segment;    // its segment
	uint32_t next, number, count;  // the segment after it; the warp's groups of this one: the next, and all
	group_note now, later;         // a lane's notes of 32 groups, and of the 32 after them
	uint64_t under_way;            // codes asked for, the oldest lowest: format and place in the ring, 10 bits each
	uint32_t waiting, asked;       // how many they are; how many there have been so far
};

// Barrier of the warp's codes number `i`, whose round has parity i / RAW % 2.
DEVICE uint32_t raw_barrier(const copier &c, uint32_t i)
{
	return c.shared + AT_RAW + (c.warp * RAW + i % RAW) * 8;
}

DEVICE group_note note_of(const mla_args &args, const copier &c, uint32_t number)
{
	return find_group(*c.segment, c.segment->first + c.warp + 4 * number, args.page_groups);
}

// The warp's next group, over all segments of its list; false: there is none.
DEVICE bool next_group(const mla_args &args, copier &c, uint32_t rank, group_note &note)
{
	while (c.number == c.count) {
		if (c.next == ATTEND_NONE)
			return false;
		c.segment = args.segments + c.next;
		c.next = c.segment->next;
		c.number = 0;
		c.count = block_heads(*c.segment, rank) ? (stages_of(*c.segment) * STAGE_GROUPS - c.warp + 3) / 4 : 0;
		c.place = c.warp;
		if (c.count)
			c.now = note_of(args, c, c.lane);
	}
	if (c.number % 32 == 8) // not sooner: the first groups are waited for
		c.later = note_of(args, c, c.number + 24 + c.lane);
	note.at = __shfl_sync(~0u, c.now.at, c.number % 32);
	note.mask = __shfl_sync(~0u, c.now.mask, c.number % 32);
	if (++c.number % 32 == 0)
		c.now = c.later;
	return true;
}

// Ask for a group whose stage is free.
DEVICE void ask_group(copier &c, const group_note &note)
{
	uint32_t slot = c.stage.slot, at = slot * STAGE_GROUPS + c.place, group = c.shared + at * MLA_GROUP_BYTES;
	uint32_t format = (uint32_t)note.at & 15, full = c.shared + AT_FULL + slot * 8;
	bool codes = format > IKV_FMT_FP16;
	if (!note.at) {
		clear_group(group, c.lane);
		publish();
	}
	if (c.lane == 0)
		store_byte(c.shared + AT_MASKS + slot * 8 + c.place, note.mask);
	__syncwarp();
	if (c.lane == 0 && !note.at) {
		barrier_arrive(full);
	} else if (c.lane == 0) { // the copy alone is no arrival: without one the stage would never be full
		uint32_t bytes = mla_group_bytes(format), to = group + raw_offset(format);
		uint32_t barrier = codes ? raw_barrier(c, c.asked) : full;
		barrier_expect(barrier, bytes);
		if (c.keep)
			bulk_copy_kept(to, note.at & ~(uint64_t)15, bytes, barrier);
		else
			bulk_copy(to, note.at & ~(uint64_t)15, bytes, barrier, c.policy);
	}
	if (codes) {
		c.under_way |= (uint64_t)(format | at << 4) << 10 * c.waiting;
		c.waiting++;
		c.asked++;
	}
	c.place += 4;
	if (c.place >= STAGE_GROUPS) {
		c.place -= STAGE_GROUPS;
		advance<STAGES>(c.stage);
	}
}

// Widen the oldest codes under way; false: they have not arrived.
DEVICE bool widen_oldest(copier &c)
{
	uint32_t entry = (uint32_t)c.under_way, at = entry >> 4 & 31, i = c.asked - c.waiting;
	if (!__all_sync(~0u, barrier_passed(raw_barrier(c, i), i / RAW % 2)))
		return false;
	expand_group(c.shared + at * MLA_GROUP_BYTES, entry & 15, c.lane);
	publish();
	__syncwarp();
	if (c.lane == 0)
		barrier_arrive(c.shared + AT_FULL + at / STAGE_GROUPS * 8);
	c.under_way >>= 10;
	c.waiting--;
	return true;
}

DEVICE bool stage_free(const copier &c)
{
	uint32_t empty = c.shared + AT_EMPTY + c.stage.slot * 8;
	if (c.waiting)
		return __all_sync(~0u, barrier_passed(empty, c.stage.parity ^ 1));
	barrier_wait(empty, c.stage.parity ^ 1);
	return true;
}

DEVICE void copy_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	copier c = {};
	c.shared = shared;
	c.warp = threadIdx.x / 32 % 4;
	c.lane = threadIdx.x % 32;
	c.policy = read_once();
	c.keep = args.keep != 0;
	c.next = list;
	group_note note;
	bool more = next_group(args, c, rank, note);
	while (more || c.waiting) {
		if (more && stage_free(c)) {
			ask_group(c, note);
			more = next_group(args, c, rank, note);
		} else if (!widen_oldest(c)) {
			__nanosleep(50); // polling takes from the matrix units' bandwidth
		}
	}
}

#endif

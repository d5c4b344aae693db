// The warpgroup that copies. Groups of 8 tokens go to its four warps in turn, each to its place as soon as its stage is
// free: in FP16 by a bulk copy; codes come through the warp's registers, which widens them.
#ifndef GPU_MLA_COPY_CUH
#define GPU_MLA_COPY_CUH

#include "gpu/mla_ring.cuh"

// A warp's groups of codes that are on their way to the L2 cache beyond the one that is waited for: 2.7 stages.
#define FETCHED_AHEAD 4

struct copier {
	uint32_t shared, warp, lane;
	uint64_t policy;
	ring stage;     // of the next group
	uint32_t place; // of it in the stage
};

// Notes of the warp's groups of a segment wait in a ring of 64.
DEVICE uint32_t note_place(const copier &c, uint32_t number)
{
	return c.shared + AT_NOTES + (c.warp * 64 + number % 64) * 8;
}

// Those of 32 groups from `number` on, a lane each.
DEVICE void find_notes(const mla_args &args, const mla_segment &seg, const copier &c, uint32_t number)
{
	number += c.lane;
	__syncwarp(); // all lanes have read what was there before
	group_note note = find_group(seg, seg.first + c.warp + 4 * number, args.page_groups);
	store8(note_place(c, number), (uint32_t)note, (uint32_t)(note >> 32));
	__syncwarp();
}

DEVICE group_note load_note(const copier &c, uint32_t number)
{
	uint2 x = load8(note_place(c, number));
	return x.x | (uint64_t)x.y << 32;
}

// By a reduction, so that the compiler knows that lanes agree.
DEVICE uint32_t warp_format(group_note note)
{
	return __reduce_or_sync(~0u, note_format(note));
}

struct place { // of a group, and its stage's barriers
	uint32_t group, mask, full, empty;
};

DEVICE place next_place(const copier &c)
{
	uint32_t slot = c.stage.slot;
	return {c.shared + (slot * STAGE_GROUPS + c.place) * MLA_GROUP_BYTES, c.shared + AT_MASKS + slot * 8 + c.place,
		c.shared + AT_FULL + slot * 8, c.shared + AT_EMPTY + (slot * STAGE_BLOCKS + c.place / 2) * 8};
}

DEVICE void advance_place(copier &c)
{
	c.place += 4;
	if (c.place >= STAGE_GROUPS) {
		c.place -= STAGE_GROUPS;
		advance<STAGES>(c.stage);
	}
}

// What this warp wrote is there.
DEVICE void group_written(const copier &c, uint32_t full)
{
	publish();
	__syncwarp();
	if (c.lane == 0)
		barrier_arrive(full);
}

#if MLA_CODES
// To the L2 cache, for both blocks that read the same tokens.
DEVICE void fetch_ahead(const copier &c, uint32_t number, uint32_t count, uint32_t rank)
{
	if (rank || c.lane || number >= count)
		return;
	group_note note = load_note(c, number);
	if (has_bytes(note_format(note)))
		bulk_prefetch((const void *)note_address(note), mla_group_bytes(IKV_FMT_FP8));
}

// Groups `i` and on, as long as they have codes of 8 bits: those of the next one are asked for as soon as the registers
// are free, and arrive while this one is handed over. Returns the first group that is not done.
DEVICE uint32_t bring_bytes(copier &c, uint32_t i, uint32_t end, uint32_t count, uint32_t rank, group_note note, uint32_t format)
{
	codes held;
	take_codes(held, note_address(note), c.lane, c.policy);
	for (;;) {
		place p = next_place(c);
		group_note next = load_note(c, i + 1);
		barrier_wait(p.empty, c.stage.parity ^ 1);
		if (c.lane == 0)
			store_byte(p.mask, note_mask(note));
		if (format == IKV_FMT_FP8)
			put_bytes<IKV_FMT_FP8>(p.group, held, c.lane);
		else
			put_bytes<IKV_FMT_INT8>(p.group, held, c.lane);
		format = ++i < end ? warp_format(next) : 0;
		if (!has_bytes(format))
			break;
		take_codes(held, note_address(next), c.lane, c.policy);
		group_written(c, p.full);
		fetch_ahead(c, i + FETCHED_AHEAD, count, rank);
		advance_place(c);
		note = next;
	}
	group_written(c, next_place(c).full);
	advance_place(c);
	return i;
}

#endif

// A group in FP16, with codes of 4 bits, or without any token that takes part.
DEVICE void bring_other(copier &c, group_note note, uint32_t format)
{
	place p = next_place(c);
	barrier_wait(p.empty, c.stage.parity ^ 1);
	if (c.lane == 0)
		store_byte(p.mask, note_mask(note));
	if (format == IKV_FMT_FP16) {
		if (c.lane == 0) { // the copy alone is no arrival: without one the stage would never be full
			barrier_expect(p.full, MLA_GROUP_BYTES);
			bulk_copy(p.group, note_address(note), MLA_GROUP_BYTES, p.full, c.policy);
		}
	} else {
		if (MLA_CODES && format == IKV_FMT_INT4)
			put_nibbles<IKV_FMT_INT4>(p.group, note_address(note), c.lane, c.policy);
		else if (MLA_CODES && format == IKV_FMT_INT4_RESIDUAL)
			put_nibbles<IKV_FMT_INT4_RESIDUAL>(p.group, note_address(note), c.lane, c.policy);
		else
			clear_group(p.group, c.lane);
		group_written(c, p.full);
	}
	advance_place(c);
}

DEVICE void copy_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	copier c = {};
	c.shared = shared;
	c.warp = threadIdx.x / 32 % 4;
	c.lane = threadIdx.x % 32;
	c.policy = args.keep ? read_again() : read_once();
	for (uint32_t k = list; k != ATTEND_NONE; k = args.segments[k].next) {
		const mla_segment &seg = args.segments[k];
		uint32_t count = block_heads(seg, rank) ? (stages_of(seg) * STAGE_GROUPS - c.warp + 3) / 4 : 0;
		c.place = c.warp;
		for (uint32_t i = 0; i < count;) {
			uint32_t end = i ? i + 32 : 8; // notes of 32 more, not sooner: the first groups are waited for
			end = end < count ? end : count;
			find_notes(args, seg, c, i ? i + 24 : 0);
			while (i < end) {
				group_note note = load_note(c, i);
#if MLA_CODES
				uint32_t format = warp_format(note);
				if (has_bytes(format)) {
					i = bring_bytes(c, i, end, count, rank, note, format);
					continue;
				}
#else
				uint32_t format = note ? IKV_FMT_FP16 : 0;
#endif
				bring_other(c, note, format);
				i++;
			}
		}
	}
}

#endif

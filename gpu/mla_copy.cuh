// The warpgroup that copies: each of its four warps brings one group of 8 tokens of every stage. What a warp holds in
// registers is asked for a stage ahead, so that it has arrived when its place in the ring is free; codes are widened on
// their way from there. The rest of FP16 groups follows by bulk copies, behind the first products. All of it is brought
// to the L2 cache some stages before.
#ifndef GPU_MLA_COPY_CUH
#define GPU_MLA_COPY_CUH

#include "gpu/mla_ring.cuh"

#define AHEAD 6u // stages between a group's way to the L2 cache and the one from there

struct copier {
	uint32_t shared, warp, lane, rank;
	uint64_t policy;
	ring stage;
	bool full_once;                // the ring has been filled
	uint32_t segment, next;        // ATTEND_NONE: none; the one after it
	uint32_t number, count;        // of the segment's stages: the next one, all
	group_note now, later;         // a lane's notes of 32 stages, and of the 32 after them
};

// Queries that the block will want are brought near.
DEVICE void prefetch_queries(const mla_args &args, uint32_t row, uint32_t heads)
{
	const char *q = (const char *)(args.q + (uint64_t)row * MLA_DIM);
	for (uint32_t i = threadIdx.x % 128 * 128; i < heads * MLA_DIM * 2; i += 128 * 128)
		prefetch(q + i);
}

DEVICE group_note note_of(const mla_args &args, const copier &c, uint32_t stage)
{
	const mla_segment &s = args.segments[c.segment];
	return find_group(s, s.first + c.warp + 4 * stage, args.page_groups);
}

DEVICE void prefetch_group(const group_note &note)
{
	if (note.at)
		bulk_prefetch(note.at & ~(uint64_t)15, mla_group_bytes((uint32_t)note.at & 15));
}

DEVICE void begin_segment(const mla_args &args, copier &c)
{
	const mla_segment &s = args.segments[c.segment];
	uint32_t heads = block_heads(s, c.rank);
	c.next = s.next;
	c.number = 0;
	c.count = heads ? stages_of(s) : 0;
	if (!c.count)
		return;
	prefetch_queries(args, s.row + c.rank * ROWS, heads);
	c.now = note_of(args, c, c.lane);
	if (c.lane && c.lane < AHEAD && c.lane % args.width == c.rank)
		prefetch_group(c.now);
}

// The warp's next group, over all segments of its list; false: there is none. Blocks of a list share in prefetching.
DEVICE bool next_group(const mla_args &args, copier &c, group_note &note)
{
	while (c.number == c.count) {
		c.segment = c.next;
		if (c.segment == ATTEND_NONE)
			return false;
		begin_segment(args, c);
	}
	if (c.number % 32 == 8) // not sooner: the first stages are waited for
		c.later = note_of(args, c, c.number + 24 + c.lane);
	uint32_t ahead = c.number + AHEAD;
	if (c.lane == ahead % 32 && ahead < c.count && ahead % args.width == c.rank)
		prefetch_group(c.number % 32 + AHEAD < 32 ? c.now : c.later);
	note.at = __shfl_sync(~0u, c.now.at, c.number % 32);
	note.mask = __shfl_sync(~0u, c.now.mask, c.number % 32);
	if (++c.number % 32 == 0)
		c.now = c.later;
	return true;
}

// Does all of a group come by bulk copies? While the ring is filled for the first time nothing is to be overtaken.
DEVICE bool comes_whole(const copier &c, const group_note &note)
{
	return !c.full_once && (note.at & 15) == IKV_FMT_FP16;
}

// The copy alone is no arrival: without one the part would never be full.
DEVICE void copy_part(const copier &c, uint64_t at, uint32_t group, uint32_t part)
{
	uint32_t from = part ? HELD_CHUNKS * 1024 : 0, bytes = part ? MLA_GROUP_BYTES - from : HELD_CHUNKS * 1024;
	uint32_t full = full_barrier(c.shared, c.stage.slot, part);
	barrier_expect(full, bytes);
	bulk_copy(group + from, (at & ~(uint64_t)15) + from, bytes, full, c.policy);
}

// What this warp wrote of a part is there.
DEVICE void hand_part(const copier &c, uint32_t part)
{
	publish();
	__syncwarp();
	if (c.lane == 0)
		barrier_arrive(full_barrier(c.shared, c.stage.slot, part));
}

DEVICE void fill_stage(copier &c, const group_note &note, const held &h)
{
	uint32_t format = (uint32_t)note.at & 15, slot = c.stage.slot;
	uint32_t group = c.shared + slot * STAGE_BYTES + c.warp * MLA_GROUP_BYTES;
	barrier_wait(c.shared + AT_EMPTY + slot * 8, c.stage.parity ^ 1);
	if (c.lane == 0)
		store_byte(c.shared + AT_MASKS + slot * 4 + c.warp, note.mask);
	if (!note.at) {
		clear_group(group, c.lane);
		hand_part(c, 0);
		hand_part(c, 1);
	} else if (format == IKV_FMT_FP16) {
		bool whole = comes_whole(c, note);
		if (c.lane == 0 && whole)
			copy_part(c, note.at, group, 0);
		if (c.lane == 0)
			copy_part(c, note.at, group, 1);
		if (!whole) {
			hand_chunks(h, format, group, c.lane, 0, HELD_CHUNKS);
			hand_part(c, 0);
		}
	} else {
		hand_chunks(h, format, group, c.lane, 0, HELD_CHUNKS);
		hand_part(c, 0);
		hand_chunks(h, format, group, c.lane, HELD_CHUNKS, MLA_CHUNKS);
		hand_part(c, 1);
	}
	advance<STAGES>(c.stage);
	c.full_once = c.full_once || c.stage.slot == 0;
}

DEVICE void copy_role(const mla_args &args, uint32_t shared, uint32_t list, uint32_t rank)
{
	copier c = {};
	c.shared = shared;
	c.warp = threadIdx.x / 32 % 4;
	c.lane = threadIdx.x % 32;
	c.rank = rank;
	c.policy = args.keep ? read_soon_again() : read_once();
	c.next = list;
	held h;
	group_note note;
	while (next_group(args, c, note)) {
		if (!comes_whole(c, note))
			ask_group(h, note.at, c.lane, c.policy);
		fill_stage(c, note, h);
	}
}

#endif

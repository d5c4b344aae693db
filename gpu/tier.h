/* The host tier: pages in pinned memory, and their way over the link. Attention of a layer waits for the pages that
 * it reads. Other copies run beside it, by a few blocks on streams of their own, and attention leaves them as many
 * multiprocessors: pages fetched ahead, those that the next layer is going to read (a step has decided for all its
 * layers before the first one computes), and pages that leave, for which nothing waits. Whatever lies in the host
 * tier and is read nevertheless is copied for that one call. */
#ifndef GPU_TIER_H
#define GPU_TIER_H

#include "gpu/moves.h"
#include "gpu/move.h"

struct pages;

#define TIER_BLOCKS 4u /* that copy beside attention, one direction after the other; docs/gpu.md */
enum {
	TIER_BEGIN,
	TIER_ATTENDED,
	TIER_IN_BEGIN,
	TIER_IN_END,
	TIER_OUT_BEGIN,
	TIER_OUT_END,
	TIER_EVENTS
};
#define TIER_WAITS 16u /* copies before attention between two readings of the clock */

struct tier {
	void *stream, *back; /* cudaStream_t: to the device, to the host; NULL until a page is placed */
	void *events[TIER_EVENTS], *waits[2 * TIER_WAITS]; /* cudaEvent_t */
	uint32_t wait_count;
	struct moves now, beside;  /* queues */
	struct moves due;          /* of the current call, before attention; empty between calls */
	struct moves running;      /* of the current call, beside attention */
	struct moves through;      /* read in the current call and not kept: `from` is the entry to put back */
	struct gather_item *items; /* pinned; what the kernels under way read */
	uint32_t item_count, item_cap;
	struct gather_list in, out; /* of the current call, beside attention */
	bool timed, launched;
};

int tier_open(struct pages *p, struct ikv_err *err);
void tier_close(struct pages *p);
int pages_place(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		enum ikv_place place, struct ikv_err *err);
/* A page's move is not to be: its target is given back. */
void tier_forget(struct pages *p, uint32_t list, uint32_t page, uint32_t head);
/* Everything in the queues, at once: for what must change a page that is in one. */
int tier_force(struct pages *p, struct ikv_err *err);

/* One decode call, in this order. What units read in the host tier is brought first; pages_upload follows. */
int tier_prepare(struct pages *p, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err);
/* Multiprocessors that attention leaves alone. */
uint32_t tier_blocks(const struct pages *p);
/* Around the attention kernels on the stream. */
int tier_begin(struct pages *p, struct ikv_err *err);
int tier_end(struct pages *p, struct ikv_err *err);
/* The stream has been waited for, or the call failed: pages are where they have come to be, and times are taken. */
int tier_settle(struct pages *p, struct ikv_err *err);

#endif

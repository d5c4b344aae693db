/* Inside of the KV memory manager, shared by memory*.c.
 *
 * A page lives in a slot. A slot is at all times in at most one of two lists, which share its links: `cold`,
 * the closed, unpinned pages that could still be re-encoded colder, sorted by cold_since; or `pinned`, the
 * closed pinned pages of the fast tier, oldest access first. The residency policy knows exactly the closed,
 * unpinned pages of the fast tier. So a step finds cold pages and victims from the ends of lists and never
 * walks all pages. */
#ifndef ENGINE_MEMORY_STATE_H
#define ENGINE_MEMORY_STATE_H

#include "intentkv/memory.h"

#define MEMORY_END           UINT32_MAX
#define MEMORY_WINDOW        128 /* steps of demotion history kept for tuning */
#define MEMORY_WASTED_AFTER  4   /* steps without use after which a prefetch was in vain */
#define MEMORY_COLD_MIN      2
#define MEMORY_COLD_MAX      50
#define MEMORY_HOT_MIN       1
#define MEMORY_HOT_MAX       20
#define MEMORY_POWERS        256
#define MEMORY_STATE_VERSION 1

enum memory_list { MEMORY_LIST_NONE, MEMORY_LIST_COLD, MEMORY_LIST_PINNED };
enum memory_hint { MEMORY_HINT_NONE, MEMORY_HINT_WANTED, MEMORY_HINT_ARRIVED };

struct memory_page {
	double accesses;       /* decayed count as of last_step */
	uint64_t last_step;    /* of the last access, or of creation */
	uint64_t cold_since;   /* last access or demotion: the key of the cold list */
	uint64_t demoted_step; /* when `demoted` */
	uint64_t hint_step;    /* when it was predicted, if `hint` */
	uint64_t selected;     /* = memory.epoch: part of the running call's plans */
	uint64_t predicted;    /* = memory.epoch: among the running call's predictions */
	uint32_t unit, page;   /* unit = seq · groups + group; MEMORY_END: slot is free */
	uint32_t prev, next;
	uint32_t uses;  /* accesses in the current format */
	uint32_t lower; /* uses in a row that asked for less, under pressure */
	uint8_t format, tier, policy, list, hint;
	bool open, pinned;
	bool demoted; /* stored colder than its first format; an exact copy or lossy promotion undoes it */
	bool watched; /* a demotion whose page has not been touched again yet */
	bool encode;  /* closed since the last call: its first encoding is still to be told */
};

struct memory_unit {     /* one group of one sequence */
	uint32_t *slots; /* [count] */
	uint32_t count, cap;
};
struct memory_list_ends {
	uint32_t head, tail, count;
};
struct memory_arrival { /* a prefetch whose use is still open; ring buffer */
	uint32_t slot;
	uint64_t step;
};

struct ikv_memory {
	struct ikv_memory_config config;
	const struct ikv_residency_ops *residency;
	void *residency_state, *residency_config;
	struct ikv_tier tiers[IKV_TIERS_MAX];
	uint32_t tier_count, page_tokens, sequences, groups;
	uint64_t page_bytes[IKV_FMT_COUNT];
	uint8_t colder[IKV_FMT_COUNT]; /* next format of a demotion, or the format itself */
	double power[MEMORY_POWERS];   /* access_decay^i */

	struct memory_page *pages; /* [slot_cap] */
	uint32_t slot_count, slot_cap;
	uint32_t *free_slots, free_count; /* stack of capacity slot_cap */
	struct memory_unit *units;        /* [sequences · groups] */
	uint32_t *tokens;                 /* [sequences] */
	struct memory_list_ends lists[3]; /* by enum memory_list; NONE unused */

	uint64_t step, epoch;
	uint64_t tier_bytes[IKV_TIERS_MAX], tier_pages[IKV_TIERS_MAX], format_pages[IKV_FMT_COUNT];
	int64_t demote_after, promote_after, adapt_count;
	uint32_t demoted_at[MEMORY_WINDOW], touched_again[MEMORY_WINDOW]; /* by step of demotion, modulo */
	uint32_t reopened; /* closed pages cut open since the last call */
	uint64_t reopened_bytes;

	uint32_t *encodes, encode_count, encode_cap; /* slots; stale ones have no `encode` flag */
	struct memory_arrival *arrivals;
	uint32_t arrival_head, arrival_count, arrival_cap;
	struct ikv_action *actions;
	uint32_t action_count, action_cap;
	struct ikv_memory_step *out;   /* of the running call */
	bool dry_unpinned, dry_pinned; /* no unselected victim is left in this call */
};

/* memory.c */
static inline uint64_t memory_bytes(const struct ikv_memory *m, const struct memory_page *p)
{
	return m->page_bytes[p->format];
}
int memory_slots_reserve(struct ikv_memory *m, uint32_t slots, struct ikv_err *err);
void memory_list_remove(struct ikv_memory *m, uint32_t slot);
void memory_list_push(struct ikv_memory *m, uint32_t slot, enum memory_list list);
/* Move the page to the recent end of the list that its state calls for. */
void memory_relist(struct ikv_memory *m, uint32_t slot);
enum memory_list memory_list_of(const struct ikv_memory *m, const struct memory_page *p);
int memory_precision(unsigned format);
void memory_count(struct ikv_memory *m, const struct memory_page *p, int sign);
int memory_shell(struct ikv_memory **out, const struct ikv_memory *like, struct ikv_err *err);
double memory_decayed(const struct ikv_memory *m, const struct memory_page *p, uint64_t step);

/* memory_moves.c: change one page and record the action. */
int memory_act_on(struct ikv_memory *m, uint32_t slot, enum ikv_move move, enum ikv_format format, uint32_t tier,
		  uint64_t bytes, struct ikv_err *err);
/* Bring the fast tier back to its capacity. */
int memory_shrink(struct ikv_memory *m, struct ikv_err *err);
/* Free `bytes` of the fast tier at the cost of unselected pages, pinned ones only if `pinned`.
 * 1: done, 0: there is no such room, -1: error. */
int memory_room(struct ikv_memory *m, uint64_t bytes, bool pinned, struct ikv_err *err);
int memory_read_page(struct ikv_memory *m, uint32_t slot, struct ikv_page_ref *ref, double pressure,
		     struct ikv_err *err);
int memory_prefetch(struct ikv_memory *m, const struct ikv_memory_use *use, struct ikv_err *err);
void memory_settle_arrivals(struct ikv_memory *m);
int memory_demote_cold(struct ikv_memory *m, struct ikv_err *err);

/* memory_tune.c */
void memory_tune_advance(struct ikv_memory *m, uint64_t step);
void memory_tune_demoted(struct ikv_memory *m, struct memory_page *p);
void memory_tune_touched(struct ikv_memory *m, struct memory_page *p);
void memory_tune(struct ikv_memory *m);

#endif

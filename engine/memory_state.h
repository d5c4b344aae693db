/* Inside of the KV memory manager, shared by memory*.c.
 *
 * A page lives in a slot. Steps of a page are its sequence's own (struct memory_sequence). What could be
 * re-encoded colder is found by a scan of a unit's `cold_since`, four bytes a page, and only when the oldest of
 * them may have come of age. The residency policy holds the closed pages of the fast tier, pinned ones apart. */
#ifndef ENGINE_MEMORY_STATE_H
#define ENGINE_MEMORY_STATE_H

#include "intentkv/memory.h"

#define MEMORY_END           UINT32_MAX
#define MEMORY_NEVER         UINT32_MAX /* in cold_since: open, pinned, or already as cold as it may be */
#define MEMORY_WINDOW        128        /* steps of demotion history kept for tuning */
#define MEMORY_WASTED_AFTER  4          /* steps without use after which a prefetch was in vain */
#define MEMORY_COLD_MIN      2
#define MEMORY_COLD_MAX      50
#define MEMORY_HOT_MIN       1
#define MEMORY_HOT_MAX       20
#define MEMORY_POWERS        256
#define MEMORY_STATE_VERSION 3

enum memory_hint { MEMORY_HINT_NONE, MEMORY_HINT_WANTED, MEMORY_HINT_ARRIVED };
enum memory_class { MEMORY_PLAIN, MEMORY_PINNED, MEMORY_CLASSES }; /* which residency state holds a page */

struct memory_page {           /* 48 bytes: a dense plan passes over all of them twice a step */
	double accesses;       /* decayed count as of last_step */
	uint32_t last_step;    /* of the last access, or of creation */
	uint32_t kept;         /* = memory.epoch: in the running call's plans or brought ahead by it; not evicted */
	uint32_t predicted;    /* = memory.epoch: among the running call's predictions */
	uint32_t uses;         /* accesses in the current format */
	uint32_t lower;        /* uses in a row that asked for less, under pressure */
	uint32_t demoted_step; /* when `demoted` */
	uint32_t hint_step;    /* when it was predicted, if `hint` */
	uint32_t unit, page;   /* unit = seq · groups + group; MEMORY_END: slot is free */
	uint8_t format, tier, policy;
	uint8_t hint : 2; /* enum memory_hint */
	bool open : 1, pinned : 1;
	bool demoted : 1; /* stored colder than its first format; an exact copy or lossy promotion undoes it */
	bool watched : 1; /* a demotion whose page has not been touched again yet */
	bool encode : 1;  /* closed since its sequence's last step: its first encoding is still to be told */
};

struct memory_unit {          /* one group of one sequence */
	uint32_t *slots;      /* [count] */
	uint32_t *cold_since; /* [count] last access or demotion, or MEMORY_NEVER */
	uint32_t count, cap;
	uint32_t below;                 /* pages that are not in the fast tier */
	uint32_t coldest;               /* no page's cold_since is lower */
	uint64_t grown;                 /* bytes of new pages since its last use */
	uint32_t reopened;              /* closed pages cut open since its last use */
	uint32_t epoch;                 /* = memory.epoch: has a use in the running call … */
	struct ikv_memory_tally *tally; /* … with this tally */
	bool steady;                    /* of its one use in this call all is there as requested, */
	uint64_t steady_bytes;          /* in so many bytes */
};
struct memory_arrival { /* a prefetch whose use is still open; ring buffer */
	uint32_t slot, step;
};
struct memory_sequence {
	uint32_t tokens;
	uint32_t step;  /* calls that it took part in; at the last one, MEMORY_NEVER - 1, it must be released */
	uint32_t epoch; /* = memory.epoch: takes part in the running call */
	uint32_t fp16;  /* closed, unpinned FP16 pages */
	bool stepped;   /* since the last tuning */
	uint32_t demoted_at[MEMORY_WINDOW], touched_again[MEMORY_WINDOW]; /* by step of demotion, modulo */
	struct memory_arrival *arrivals;
	uint32_t arrival_head, arrival_count, arrival_cap;
};

struct ikv_memory {
	struct ikv_memory_config config;
	const struct ikv_residency_ops *residency;
	void *resident[MEMORY_CLASSES], *residency_config;
	struct ikv_tier tiers[IKV_TIERS_MAX];
	uint32_t tier_count, page_tokens, sequence_count, groups;
	uint64_t page_bytes[IKV_FMT_COUNT];
	uint8_t colder[IKV_FMT_COUNT]; /* next format of a demotion, or the format itself */
	double power[MEMORY_POWERS];   /* access_decay^i */

	struct memory_page *pages; /* [slot_cap] */
	uint32_t slot_count, slot_cap;
	uint32_t *free_slots, free_count;  /* stack of capacity slot_cap */
	uint32_t *batch;                   /* [slot_cap] slots on their way to residency.touch */
	struct memory_unit *units;         /* [sequence_count · groups] */
	struct memory_sequence *sequences; /* [sequence_count] */
	uint32_t *taking, taking_count;    /* [sequence_count] sequences of the running call, in order of use */

	uint64_t step;  /* as the caller counts */
	uint32_t epoch; /* number of the call; stamps of pages, units and sequences compare with it */
	uint64_t tier_bytes[IKV_TIERS_MAX], tier_pages[IKV_TIERS_MAX], format_pages[IKV_FMT_COUNT];
	int64_t demote_after, promote_after, adapt_count;

	uint32_t *encodes, encode_count, encode_cap; /* slots; stale ones have no `encode` flag */
	struct ikv_action *actions;
	uint32_t action_count, action_cap;
	struct ikv_memory_tally *tally; /* whoever pays for what happens now */
	struct ikv_memory_tally rest;   /* what nobody in the running call pays for */
	bool dry[MEMORY_CLASSES];       /* no victim is left there in this call */
};

/* memory.c */
static inline uint64_t memory_bytes(const struct ikv_memory *m, const struct memory_page *p)
{
	return m->page_bytes[p->format];
}
static inline struct memory_sequence *memory_sequence(const struct ikv_memory *m, const struct memory_page *p)
{
	return &m->sequences[p->unit / m->groups];
}
static inline void *memory_resident(const struct ikv_memory *m, const struct memory_page *p)
{
	return m->resident[p->pinned ? MEMORY_PINNED : MEMORY_PLAIN];
}
int memory_slots_reserve(struct ikv_memory *m, uint32_t slots, struct ikv_err *err);
/* Whether the page could be re-encoded colder, now or later. */
bool memory_can_cool(const struct ikv_memory *m, const struct memory_page *p);
/* After a change of format or state: its coldness counts from now, if it can cool. */
void memory_warm(struct ikv_memory *m, const struct memory_page *p);
extern const uint8_t memory_precision[IKV_FMT_COUNT];

/* The format that nothing is demoted below. */
static inline enum ikv_format memory_lowest(const struct ikv_memory *m)
{
	return m->config.floor == IKV_FMT_SKIP ? IKV_FMT_SPARSE : (enum ikv_format)m->config.floor;
}

void memory_count(struct ikv_memory *m, const struct memory_page *p, int sign);
int memory_shell(struct ikv_memory **out, const struct ikv_memory *like, struct ikv_err *err);
double memory_decayed_long(const struct ikv_memory *m, const struct memory_page *p, uint32_t step);
/* The access count at a step of the page's sequence; pages of a steady plan were last read a step or two ago. */
static inline double memory_decayed(const struct ikv_memory *m, const struct memory_page *p, uint32_t step)
{
	uint32_t n = step - p->last_step;
	return n < MEMORY_POWERS ? p->accesses * m->power[n] : memory_decayed_long(m, p, step);
}

/* memory_moves.c: change one page and record the action, charged to m->tally. */
int memory_act_on(struct ikv_memory *m, uint32_t slot, enum ikv_move move, enum ikv_format format, uint32_t tier,
		  uint64_t bytes, struct ikv_err *err);
/* From here on the use of this unit pays, if it has one. */
void memory_charge(struct ikv_memory *m, uint32_t unit);
/* Bring the fast tier back to its capacity, at the cost of the uses that have grown. */
int memory_shrink(struct ikv_memory *m, struct ikv_memory_use *uses, uint32_t count, struct ikv_err *err);
int memory_read_page(struct ikv_memory *m, uint32_t slot, struct ikv_page_ref *ref, double pressure,
		     struct ikv_err *err);
int memory_prefetch(struct ikv_memory *m, const struct ikv_memory_use *use, struct ikv_err *err);
void memory_settle_arrivals(struct ikv_memory *m, struct memory_sequence *s);
/* Demote what has come of age in the sequences of the running call. */
int memory_demote_cold(struct ikv_memory *m, struct ikv_err *err);

/* memory_tune.c */
void memory_tune_advance(struct memory_sequence *s);
void memory_tune_demoted(struct memory_sequence *s, struct memory_page *p);
void memory_tune_touched(const struct ikv_memory *m, struct memory_sequence *s, struct memory_page *p);
void memory_tune(struct ikv_memory *m);

#endif

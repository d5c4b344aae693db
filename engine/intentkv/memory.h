/* KV memory manager: where each page lies, in which format, and what has to move.
 *
 * It manages accounts, not bytes: the caller applies its actions to a backend (or
 * to none, at level `off`). A managed page is (sequence, group, logical page); a
 * group is whatever set of layers and KV heads shares decisions, so a managed page
 * may stand for one KV head of one layer or for all layers of the model.
 *
 * Two clocks. Coldness, access decay, thresholds and windows count a sequence's own steps: the calls of
 * ikv_memory_act that it takes part in. A sequence that waits while others step grows no colder. Residency
 * follows the order of all calls, so its pages are still the first to leave a full fast tier. */
#ifndef INTENTKV_MEMORY_H
#define INTENTKV_MEMORY_H

#include "ladder.h"
#include "layout.h"
#include "option.h"
#include "plan.h"
#include "residency.h"

#define IKV_TIERS_MAX 4

struct ikv_tier {
	char name[16];
	int64_t capacity_bytes; /* 0: unbounded (only the last tier may be) */
};

enum ikv_promotion { IKV_PROMOTE_REFETCH, IKV_PROMOTE_LOSSY };

struct ikv_memory_config {
	int64_t demote_cold_after_steps;    /* 10 */
	int64_t promote_hot_after_accesses; /* 3 */
	int64_t adapt_every;                /* 5; 0: thresholds stay */
	int promotion;                      /* enum ikv_promotion */
	bool demote;                        /* whether pages may be re-encoded colder at all */
	int floor;                          /* enum ikv_format: never demote below it */
	double access_decay;                /* factor per step on a page's access count */
	double recode_pressure;             /* 0.8: above it a request below the stored format counts */
	int64_t recode_after_uses;          /* 3: such uses in a row before the page is re-encoded */
};
IKV_API extern const struct ikv_option ikv_memory_options[];

struct ikv_memory_setup {
	const struct ikv_memory_config *config;
	/* Slots are page indices. The manager keeps two states, one of the pinned pages and one of the others, both
	 * told the fast tier's capacity; pinned pages go only when no other page may. */
	const struct ikv_residency_ops *residency;
	const void *residency_config;
	const struct ikv_tier *tiers; /* fastest first */
	uint32_t tier_count;
	uint32_t page_tokens;
	uint32_t sequences, groups;
	/* Stored bytes of one closed page of any group in each format, all its layers and heads, K and V. */
	uint64_t page_bytes[IKV_FMT_COUNT];
};

enum ikv_move {
	IKV_MOVE_FETCH,    /* slower tier → fast, because the step selected it: stalls unless hidden */
	IKV_MOVE_PREFETCH, /* slower tier → fast, ahead of need */
	IKV_MOVE_EVICT,    /* fast → slower tier */
	IKV_MOVE_DEMOTE,   /* re-encoded colder, in place */
	IKV_MOVE_PROMOTE,  /* re-encoded hotter from what is stored: bytes grow, information does not */
	IKV_MOVE_REFETCH,  /* exact copy brought from the slowest tier and encoded */
	IKV_MOVE_ENCODE,   /* a page that has closed since the last call takes its first format, in place */
	IKV_MOVE_COUNT
};
struct ikv_action {
	uint32_t seq, group, page;
	uint8_t move; /* enum ikv_move */
	uint8_t from_format, to_format;
	uint8_t from_tier, to_tier;
	float accesses; /* the page's decayed count at the move */
	uint64_t bytes; /* that cross the link (FETCH, PREFETCH, EVICT, REFETCH) or are rewritten (others) */
};

struct ikv_memory_tally {      /* what one use, or a whole step, did */
	uint64_t hits, misses; /* selected pages found in / missing from the fast tier */
	uint64_t moved_bytes[IKV_MOVE_COUNT];
	uint32_t moves[IKV_MOVE_COUNT];
	uint64_t streamed_bytes; /* read through without a place: the step's own set exceeds the tier */
	uint64_t prefetch_useful, prefetch_late, prefetch_wasted, prefetch_missed; /* pages, settled this step */
	uint64_t read_bytes; /* stored bytes of the plan's pages (whole pages) */
};
IKV_API void ikv_memory_tally_add(struct ikv_memory_tally *to, const struct ikv_memory_tally *from);

struct ikv_memory_use { /* what a step reads of one group of one sequence */
	uint32_t seq, group;
	struct ikv_plan *plan; /* in: pages and requests; out: `stored` of each page */
	const struct ikv_layout *layout;
	const uint32_t *prefetch; /* predicted pages for the coming steps, ascending */
	uint32_t prefetch_count;
	double pressure;
	uint8_t *missed; /* NULL, or out [plan->count]: 1 for each selected page that was not in the fast tier */
	/* out: what this use caused. A fetch or a prefetch pays for the evictions that make room for it, and new
	 * pages of its sequence and group for as many bytes of the other evictions. What follows from a page's age
	 * (demotion, encoding, a prefetch in vain), and any eviction left over, belongs to the use of that page's
	 * sequence and group; without such a use it is in the step's total alone. */
	struct ikv_memory_tally tally;
};

struct ikv_memory_step {                  /* result of one step over all uses */
	const struct ikv_action *actions; /* owned by the manager, valid until the next call */
	uint32_t action_count;
	struct ikv_memory_tally total;
	struct ikv_memory_tally
	    rest; /* the part of it that no use caused: evictions of sequences that take no part */
	uint64_t tier_bytes[IKV_TIERS_MAX]; /* of all sequences, as the fields below */
	uint64_t tier_pages[IKV_TIERS_MAX];
	uint64_t format_pages[IKV_FMT_COUNT];
	double occupancy;                    /* of the fast tier, [0,1] */
	int64_t demote_after, promote_after; /* thresholds now in force */
};

struct ikv_memory;
IKV_API int ikv_memory_create(struct ikv_memory **out, const struct ikv_memory_setup *setup, struct ikv_err *err);
IKV_API void ikv_memory_destroy(struct ikv_memory *m);
/* The sequence has grown to `tokens` in all groups; new pages start FP16 in the fast tier, and a page
 * that has just closed takes the first format of its block. */
IKV_API int ikv_memory_grow(struct ikv_memory *m, uint32_t seq, const struct ikv_layout *layout,
			    const struct ikv_ladder *ladder, double pressure, struct ikv_err *err);
IKV_API int ikv_memory_truncate(struct ikv_memory *m, uint32_t seq, uint32_t tokens, struct ikv_err *err);
IKV_API void ikv_memory_release(struct ikv_memory *m, uint32_t seq);
/* One step of all sequences that step together: none of them can lose a page to another that it is about to
 * read, unless all their pages together exceed the fast tier. Each sequence among the uses advances by one
 * step of its own. `step` numbers the calls: it never falls. */
IKV_API int ikv_memory_act(struct ikv_memory *m, uint64_t step, struct ikv_memory_use *uses, uint32_t count,
			   struct ikv_memory_step *out, struct ikv_err *err);
IKV_API double ikv_memory_occupancy(const struct ikv_memory *m);

struct ikv_page_state { /* for page_event, route and tests */
	enum ikv_format format;
	uint32_t tier;
	double accesses;
	uint64_t last_step; /* of the last access, in the sequence's own steps */
	enum ikv_policy policy;
	bool open, pinned, demoted;
};
IKV_API int ikv_memory_page(const struct ikv_memory *m, uint32_t seq, uint32_t group, uint32_t page,
			    struct ikv_page_state *state, struct ikv_err *err);
IKV_API size_t ikv_memory_save(const struct ikv_memory *m, void *buffer, size_t size);
IKV_API int ikv_memory_load(struct ikv_memory *m, const void *buffer, size_t size, struct ikv_err *err);

#endif

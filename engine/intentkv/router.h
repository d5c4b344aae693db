/* Routers: which tokens a step attends, in which format, and why. One file per policy behind one table. */
#ifndef INTENTKV_ROUTER_H
#define INTENTKV_ROUTER_H

#include "ladder.h"
#include "layout.h"
#include "option.h"
#include "plan.h"
#include "rng.h"

enum ikv_decision_code { IKV_SELECT, IKV_QUANTIZE, IKV_PIN_HIGH_PRECISION, IKV_SKIP };

enum ikv_reason {                          /* why; with the numbers kept in the decision */
		  IKV_WHY_PINNED,          /* ALWAYS or GLOBAL */
		  IKV_WHY_RECENT,          /* RECENT policy or recent window */
		  IKV_WHY_TOP_K,           /* among the top_k_blocks by score */
		  IKV_WHY_BELOW_TOP_K,     /* rank >= top_k_blocks */
		  IKV_WHY_RESCUED,         /* SKIP block with score >= threshold */
		  IKV_WHY_BELOW_THRESHOLD, /* SKIP block with score < threshold or none */
		  IKV_WHY_LADDER_SKIP,     /* the ladder gives no format at this score and pressure */
		  IKV_WHY_BUDGET,          /* did not fit the budget */
		  IKV_WHY_PAGES,           /* a page-level policy selected some or none of its pages */
		  IKV_WHY_DENSE,
};

struct ikv_decision {   /* of one block, or of one of its pieces when the recent window splits it */
	uint32_t block; /* index into the layout */
	uint32_t start, end;
	enum ikv_decision_code code;
	enum ikv_format format;
	enum ikv_reason reason;
	bool recent;      /* the piece inside the recent window */
	double score;     /* NaN if none */
	int32_t rank;     /* among the ATTEND blocks by score, -1 if not ranked */
	double threshold; /* what it was compared with: top_k_blocks, score_threshold or, for LADDER_SKIP,
			     the pressure; NaN if nothing */
	uint32_t selected_tokens;
};

/* Everything one act produced for one unit. Arrays grow on demand and are kept. */
struct ikv_route {
	struct ikv_plan plan;
	struct ikv_decision *decisions;
	uint32_t decision_count, decision_cap;
	uint32_t *prefetch; /* pages hinted, best first: not selected, worth having close */
	uint32_t prefetch_count, prefetch_cap;
	uint64_t *scratch; /* working space of the routers, so that they need none of their own */
	uint32_t page_cap, block_cap, scratch_cap;
};
IKV_API int ikv_route_init(struct ikv_route *route, uint32_t page_tokens, uint32_t pages, uint32_t blocks,
			   struct ikv_err *err);
/* Make room for a grown context; a no-op (no allocation) while it still fits. */
IKV_API int ikv_route_reserve(struct ikv_route *route, uint32_t pages, uint32_t blocks, struct ikv_err *err);
IKV_API void ikv_route_free(struct ikv_route *route);

/* How far one decision is shared. */
enum ikv_share { IKV_SHARE_STEP, IKV_SHARE_LAYER, IKV_SHARE_KV_HEAD, IKV_SHARE_HEAD };
IKV_API const char *const *ikv_share_names(void); /* step, layer, kv_head, head */

/* What a router must be given, ORed. */
enum ikv_router_needs {
	IKV_NEEDS_BLOCK_SCORES = 1,
	IKV_NEEDS_PAGE_SCORES = 2,
	IKV_NEEDS_COMING_MASS = 4, /* knows the future: an oracle */
	/* Does better with page scores of one kind, goes without where the scorer has none of it. */
	IKV_WANTS_PAGE_BOUNDS = 8,
	IKV_WANTS_PAGE_COSINES = 16,
	IKV_WANTS_PAGE_SCORES = IKV_WANTS_PAGE_BOUNDS | IKV_WANTS_PAGE_COSINES, /* one of them */
};

struct ikv_route_unit {
	uint32_t seq, layer; /* layer of the model; executed or not */
	uint32_t q_first, q_count;
	uint64_t step;
	uint64_t seed;                   /* of the run; with step and seq it seeds what is random */
	const struct ikv_layout *layout; /* scores filled as needed */
	double pressure;                 /* [0,1] */
	const float *page_scores;        /* [pages] or NULL */
	const float *page_mass;          /* [pages] mean mass of the coming step over the heads, or NULL */
	const uint64_t *top_pages;       /* a bit a page: the pages that top_pages() asked for, or NULL */
	struct ikv_route *route;         /* out; caller's, reserved for the context */
};

struct ikv_router_ops {
	const char *name, *summary;
	const struct ikv_option *options;
	size_t config_bytes;
	unsigned (*needs)(const void *config);
	enum ikv_share (*share)(const void *config);
	/* The ladder's rules must outlive the state; NULL is the preset `seed`. */
	int (*create)(void **state, const void *config, const struct ikv_ladder *ladder, struct ikv_err *err);
	void (*destroy)(void *state);
	/* Decide for every unit. Does not allocate while the routes have room. */
	int (*act)(void *state, const struct ikv_route_unit *units, uint32_t count, struct ikv_err *err);
	/* How many pages with the highest page scores (ties: the lower page) the unit will get, where that is its
	 * whole choice; 0 where it is not. Who has them may hand them to act as unit->top_pages. Optional. */
	uint32_t (*top_pages)(const void *state, const struct ikv_route_unit *unit);
	/* What the units then received: mean mass per planned page, parallel to plan.pages. Optional. */
	void (*observe)(void *state, const struct ikv_route_unit *unit, const float *mass);
	/* State as bytes, for resume; NULL buffer asks for the size. Stateless routers save nothing. */
	size_t (*save)(const void *state, void *buffer, size_t size);
	int (*load)(void *state, const void *buffer, size_t size, struct ikv_err *err);
};

IKV_API const struct ikv_router_ops *const *ikv_routers(void); /* NULL-terminated */
IKV_API const struct ikv_router_ops *ikv_router_find(const char *name);
IKV_API const char *ikv_decision_name(enum ikv_decision_code code); /* "PIN_HIGH_PRECISION" */
IKV_API const char *ikv_reason_name(enum ikv_reason reason);        /* "below_top_k" */
/* Human sentence for a decision: "rank 9 is not below top_k_blocks 8". */
IKV_API void ikv_decision_explain(const struct ikv_decision *d, char *text, size_t size);

#endif

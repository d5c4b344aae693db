/* Page plan: what one attention call reads. Plain arrays, so that a kernel takes
 * them as they are. */
#ifndef INTENTKV_PLAN_H
#define INTENTKV_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include "format.h"

#define IKV_NO_MASK UINT32_MAX

/* One selected page: tokens [lo, hi) of it take part, or, where the selected
 * tokens have a hole, exactly those whose bit is set in the mask. 16 bytes. */
struct ikv_page_ref {
	uint32_t page; /* logical page of the sequence */
	uint16_t lo, hi;
	uint32_t mask;   /* IKV_NO_MASK, or index of the first word in plan.masks */
	uint8_t request; /* enum ikv_format asked for by the router */
	uint8_t stored;  /* enum ikv_format it is read in; set by the memory manager */
	uint16_t block;  /* index of the strongest block in the layout, UINT16_MAX if none or more than that */
};

struct ikv_plan {
	struct ikv_page_ref *pages; /* ascending, no page twice */
	uint32_t count, cap;
	uint64_t *masks; /* mask_words words a masked page; bit t = token t of the page */
	uint32_t mask_used, mask_cap, mask_words;
	uint32_t page_tokens;
	uint32_t total_tokens;    /* of the sequence when the plan was made */
	uint64_t selected_tokens; /* sum over pages */
};

/* Room for `pages` pages, all of which may carry a mask. No allocation afterwards
 * as long as the context stays within it. */
IKV_API int ikv_plan_init(struct ikv_plan *plan, uint32_t page_tokens, uint32_t pages, struct ikv_err *err);
IKV_API int ikv_plan_reserve(struct ikv_plan *plan, uint32_t pages, struct ikv_err *err); /* grow; keeps content */
IKV_API void ikv_plan_free(struct ikv_plan *plan);
IKV_API void ikv_plan_reset(struct ikv_plan *plan, uint32_t total_tokens);

/* Add tokens [start, end) in `format` for `block`. Calls come in ascending order of
 * start, ranges do not overlap. A page met twice keeps the union of its tokens (a
 * mask where that has a hole) and the higher precision of the two. Space must have
 * been reserved for all pages of the context. */
IKV_API void ikv_plan_add(struct ikv_plan *plan, uint32_t start, uint32_t end, enum ikv_format format,
			  uint32_t block);

/* Is token t (within its page) of this page selected? */
IKV_API bool ikv_plan_has(const struct ikv_plan *plan, const struct ikv_page_ref *ref, uint32_t t);

/* Number of tokens of this page that take part. */
IKV_API uint32_t ikv_plan_page_tokens(const struct ikv_plan *plan, const struct ikv_page_ref *ref);

struct ikv_plan_shape { /* of the pages as they are stored */
	uint32_t pages[IKV_FMT_COUNT];
	uint32_t runs[IKV_FMT_COUNT]; /* maximal runs of pages that follow each other, all of one format */
	uint32_t mixes; /* formats beyond the first, counted anew in each 128 tokens: kernels take so many at a time */
	double fine;    /* share of these 128 tokens with one that stands out, as seen in sessions: docs/cost-model.md */
};
IKV_API void ikv_plan_shape(const struct ikv_plan *plan, struct ikv_plan_shape *shape);

/* Order-sensitive 64-bit digest of pages, bounds, masks and requested formats. */
IKV_API uint64_t ikv_plan_digest(const struct ikv_plan *plan);

#endif

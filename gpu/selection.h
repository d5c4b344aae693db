/* One call that chooses pages: what changed in the summaries goes to the device with queries and units, two launches,
 * scores and choices come back. The page references stay on the device for the decode call that follows. */
#ifndef GPU_SELECTION_H
#define GPU_SELECTION_H

#include "gpu/pages.h"
#include "gpu/select.h"
#include "gpu/summary.h"

struct selection_choice { /* of a unit of the last call that had a budget */
	uint32_t seq, layer, q_first, q_count, pages, last, count;
	const uint64_t *chosen;           /* on the host */
	const struct ikv_page_ref *refs; /* on the device */
};

struct selection {
	struct summaries summaries;
	struct device_buffer in, out, refs; /* out: bitmaps, then scores, then counts */
	struct selection_choice *choices;
	uint32_t count;
	size_t choices_cap;
};

void selection_close(struct selection *s);
/* `units` as the backend's operation `select` takes them. */
int selection_run(struct selection *s, struct pages *p, const struct ikv_select_unit *units, uint32_t count,
		  struct ikv_err *err);

/* References on the device that say what the unit's plan says, or NULL: the last call did not choose it. The search
 * begins at choice *from, and leaves there where the next unit's is likely to be. */
const struct ikv_page_ref *selection_find(const struct selection *s, const struct ikv_attn_unit *u, uint32_t *from);

#endif

/* Queue of page moves between the device and the host tier; no CUDA here. A page is in at most one queue. */
#ifndef GPU_MOVES_H
#define GPU_MOVES_H

#include <stdbool.h>
#include "intentkv/attn.h"

/* Where a page of a KV head lies, and whether it is in a queue. */
enum { MOVES_DEVICE = 0, MOVES_HOST = 1, MOVES_QUEUED = 2 };

struct moves_item {
	uint32_t list, page, head; /* list: of a sequence and layer */
	uint64_t from, to;         /* page table entries */
	bool out;                  /* from the device to the host */
};

struct moves {
	struct moves_item *items;
	uint32_t count, cap;
};

enum moves_what {
	MOVES_NOTHING,
	MOVES_NOW,    /* queue it for before the next attention */
	MOVES_BESIDE, /* queue it for beside the next attention */
	MOVES_HURRY,  /* it is queued for beside; not later than before */
	MOVES_STAY,   /* it is queued to go elsewhere, and is to stay */
};

/* What is to be done with a page that lies at `where` (MOVES_* above) so that it comes to be as wanted. */
enum moves_what moves_decide(unsigned where, enum ikv_place wanted);

int moves_add(struct moves *m, const struct moves_item *x, struct ikv_err *err);
/* Take a page's move out of the queue; the order of the others stays. */
bool moves_take(struct moves *m, uint32_t list, uint32_t page, uint32_t head, struct moves_item *out);
/* Append those of one layer, or all of them (layer >= layers), to `to` and remove them here. */
int moves_split(struct moves *m, uint32_t layer, uint32_t layers, struct moves *to, struct ikv_err *err);
void moves_free(struct moves *m);

struct moves_times { /* milliseconds of one decode call, by the device's clock */
	double attention; /* its kernels */
	double before;    /* copies that attention waits for */
	double beside;    /* copies that run beside it */
	double end;       /* of these, from the beginning of attention */
};

/* Of all copies: how long they took, and how long the device did nothing else. */
void moves_account(const struct moves_times *t, double *transfer, double *exposed);

#endif

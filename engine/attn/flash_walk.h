/* Inside of the attention loop: what a call works on, and the order in which a thread goes through it. */
#ifndef ATTN_FLASH_WALK_H
#define ATTN_FLASH_WALK_H

#include "attn/crew.h"
#include "attn/flash.h"

struct job { /* a unit */
	const struct ikv_attn_unit *unit;
	uint32_t kv_first, kv_count; /* KV heads */
	uint32_t splits, split_pages;
	const float *q; /* [q_count][q_stride], scaled, padded with zeros */
	uint8_t *forms; /* [q_count][forms_stride] */
	float *acc;     /* [splits][q_count][acc_stride] */
	double *sums;   /* [splits][q_count][2]: largest score, sum of exponentials */
	float *shifts;  /* [q_count][plan->count]: score that a page's mass is relative to; NULL without mass */
};

struct flash {
	struct ikv_geometry g;
	uint32_t group; /* query heads of a KV head */
	struct crew *crew;
	struct wide *wide; /* for units of many rows a KV head */
	const struct micro_kernels *micro;
	size_t q_stride, acc_stride, scratch_stride, forms_stride;
	struct job *jobs;
	float *q, *acc, *shifts, *scratch;
	uint8_t *forms;
	double *sums;
	size_t jobs_cap, q_cap, forms_cap, acc_cap, shifts_cap, sums_cap;
	/* of the call now running */
	flash_locate *locate;
	const void *source;
	uint32_t job_count;
	uint32_t rounded; /* formats that want forms */
	uint64_t pages;  /* in all jobs, times KV heads */
	uint64_t joined; /* values that join_share reads */
	uint32_t members;
	uint32_t parts; /* into which the KV heads of a piece are divided among threads */
};

/* A block, which is tiles that go into one update of the softmax, for KV heads whose tiles lie at one distance from
 * each other. Which tiles they are is the same for all heads of a piece. */
struct stretch {
	const struct job *job;
	uint32_t split;
	uint32_t kv, heads; /* KV heads, counted within the job */
	uint32_t count;
	uint32_t index[MICRO_TILES], i[MICRO_TILES]; /* page of the plan, tile of the page */
	uint32_t mask[MICRO_TILES];                  /* of the rows that take part */
	uint32_t run[MICRO_TILES];                   /* tiles from here on that are of one format */
	struct tile tile[MICRO_TILES];               /* of the first head */
	struct flash_heads at[MICRO_TILES];
};

/* Pieces of plans, a thread's share of them; in each its blocks; in each of these its KV heads. */
struct walk {
	const struct flash *f;
	uint32_t member;
	uint32_t job, split, part; /* the piece to look at next */
	uint64_t before;           /* pages times KV heads of all pieces before it */
	const struct job *now;     /* whose piece is at hand */
	uint32_t now_split, kv, kv_end;
	uint32_t index, i; /* where the next block begins: page of the plan, tile of the page */
	uint32_t last;     /* end of the piece */
};

/* The stretch after `now`, which was the last one found (NULL: the first); false at the end. Sums of a piece are
 * cleared when its first stretch is found. */
bool walk_next(struct walk *w, const struct stretch *now, struct stretch *next);

/* A tile of a head of a stretch in the order in which its pages lie: page after page, in each head after head, of
 * each the page's tiles. */
struct spot {
	const struct stretch *t, *next; /* next: what comes after t, NULL if nothing */
	uint32_t first, end;            /* tiles of the page */
	uint32_t k, head;               /* the tile, the head counted from the stretch's first one */
};

/* The first head's tile `first`, a page's first one. */
struct spot spot_first(const struct stretch *t, uint32_t first, const struct stretch *next);
/* Goes from the last tile of t on to the first one of what comes after it; false if that is nothing. */
bool spot_next(struct spot *p);
struct tile spot_tile(const struct spot *p); /* `ahead` is the caller's */

/* Heads [*first, *first + n) of a job that use its KV head kv; returns n. */
static inline uint32_t job_heads(const struct flash *f, const struct job *j, uint32_t kv, uint32_t *first)
{
	uint32_t begin = (j->kv_first + kv) * f->group, end = begin + f->group;
	uint32_t q_end = j->unit->q_first + j->unit->q_count;
	begin = begin > j->unit->q_first ? begin : j->unit->q_first;
	*first = begin - j->unit->q_first;
	return (end < q_end ? end : q_end) - begin;
}

#endif

/* How the work of a launch is cut into blocks. */
#ifndef GPU_SPLIT_H
#define GPU_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include "gpu/attend.h"
#include "intentkv/error.h"

/* What beginning, joining and handing over a piece costs, in bytes that could have been read: about 2 us of a
 * multiprocessor of an H200. */
#define SPLIT_PIECE_BYTES 60000.0
struct split_job {
	uint32_t tiles;
	double weight; /* bytes of a tile, on average */
};

struct split_piece { /* tiles [first, end) of a job */
	uint32_t job, first, end;
	uint32_t block;
	uint32_t at, next; /* places in the list of segments: a block's first piece is at the block's index */
};

struct split_rule {
	uint32_t blocks; /* at most so many */
	uint32_t least;  /* tiles of a piece, where its job has as many: one for each warp */
	uint32_t round;  /* that a piece is a multiple of, but for a job's end */
	/* How much more than the least possible the largest share may be where that saves pieces. Where memory is the limit
	 * and not the blocks, one that reads a little more than the others delays nothing. */
	double slack;
};

/* At most so many pieces come out. */
static inline size_t split_most(uint32_t jobs, uint32_t blocks)
{
	return (size_t)jobs + blocks;
}

/* Cut jobs into pieces, each block taking neighbouring tiles, so that the largest share, bytes and pieces together, is as
 * small as can be, or within the rule's slack of that. Pieces of a block are whole jobs but for its first and its last one.
 * A job without tiles gets a piece too. `pieces` has room for split_most; *used becomes the number of blocks; returns the
 * number of pieces. Order of a job's pieces: by `first`. */
uint32_t split_jobs(const struct split_job *jobs, uint32_t count, const struct split_rule *rule,
		    struct split_piece *pieces, uint32_t *used);

/* The pieces as segments, and of `args` where each block begins. */
void split_segments(const struct split_piece *pieces, uint32_t count, const struct attend_job *jobs,
		    struct attend_segment *segments, struct attend_args *args);

#endif

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

/* At most so many pieces come out. */
static inline size_t split_most(uint32_t jobs, uint32_t blocks)
{
	return (size_t)jobs + blocks;
}

/* Cut jobs for at most `blocks` blocks of `warps` warps, each block taking neighbouring tiles, so that the largest
 * share, bytes and pieces together, is as small as can be. A job without tiles gets a piece too. `pieces` has room
 * for split_most; *used becomes the number of blocks; returns the number of pieces. Order of a job's pieces: by
 * `first`. */
uint32_t split_jobs(const struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps,
		    struct split_piece *pieces, uint32_t *used);

/* The pieces as segments, and the first word of each block, whose number is one more than the blocks'. */
void split_segments(const struct split_piece *pieces, uint32_t count, const struct attend_job *jobs,
		    struct attend_segment *segments, uint32_t start[ATTEND_BLOCKS_MAX + 1]);

#endif

#include <stdbool.h>
#include "gpu/split.h"

/* Fill blocks up to `limit` each, one after the other; a job's end comes along where it costs less than a piece of
 * its own. Returns the number of pieces, 0 when more than `blocks` blocks would be needed. `pieces` may be NULL. */
static uint32_t fill(const struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps, double limit,
		     struct split_piece *pieces)
{
	uint32_t n = 0, block = 0;
	double used = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t first = 0, tiles = jobs[i].tiles;
		double round = warps * jobs[i].weight;
		for (bool more = true; more;) {
			uint32_t left = tiles - first, take = left;
			double room = limit - used - SPLIT_PIECE_BYTES;
			if (left * jobs[i].weight > room) { /* whole rounds of the warps */
				take = room >= round ? (uint32_t)(room / round) * warps : 0;
				take = take < left ? take : left;
				if (!take && used > 0) {
					if (++block >= blocks)
						return 0;
					used = 0;
					continue;
				}
				take = take ? take : left < warps ? left : warps;
			}
			if (pieces)
				pieces[n] = (struct split_piece){i, first, first + take, block, 0, ATTEND_NONE};
			n++;
			first += take;
			used += SPLIT_PIECE_BYTES + take * jobs[i].weight;
			more = first < tiles;
		}
	}
	return n;
}

/* The smallest limit that does, to a thousandth. */
static uint32_t cut(const struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps,
		    struct split_piece *pieces)
{
	double total = 0, most = 0;
	for (uint32_t i = 0; i < count; i++) {
		double bytes = SPLIT_PIECE_BYTES + jobs[i].tiles * jobs[i].weight, round = warps * jobs[i].weight;
		total += bytes;
		most = bytes > most ? bytes : most;
		most = SPLIT_PIECE_BYTES + round > most ? SPLIT_PIECE_BYTES + round : most;
	}
	double low = total / blocks, high = low + most; /* first fit leaves less than one job's room */
	while (!fill(jobs, count, blocks, warps, high, NULL))
		high *= 2;
	while (high - low > 1e-3 * low) {
		double limit = (low + high) / 2;
		if (fill(jobs, count, blocks, warps, limit, NULL))
			high = limit;
		else
			low = limit;
	}
	return fill(jobs, count, blocks, warps, high, pieces);
}

uint32_t split_jobs(const struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps,
		    struct split_piece *pieces, uint32_t *used)
{
	uint64_t tiles = 0;
	for (uint32_t i = 0; i < count; i++)
		tiles += jobs[i].tiles;
	uint64_t most = (tiles + warps - 1) / warps;
	blocks = blocks > most ? (most ? (uint32_t)most : 1) : blocks;
	uint32_t n = cut(jobs, count, blocks, warps, pieces), heads = 0, others;
	for (uint32_t i = 0; i < n; i++)
		heads += i == 0 || pieces[i].block != pieces[i - 1].block;
	*used = heads;
	others = heads;
	heads = 0;
	for (uint32_t i = 0; i < n; i++) {
		bool first = i == 0 || pieces[i].block != pieces[i - 1].block;
		pieces[i].at = first ? heads++ : others++;
		if (!first)
			pieces[i - 1].next = pieces[i].at;
	}
	return n;
}

void split_segments(const struct split_piece *pieces, uint32_t count, const struct attend_job *jobs,
		    struct attend_segment *segments, uint32_t start[ATTEND_BLOCKS_MAX + 1])
{
	uint32_t words = 0, blocks = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct split_piece *x = &pieces[i];
		if (i == 0 || x->block != pieces[i - 1].block)
			start[blocks++] = words;
		segments[x->at] = (struct attend_segment){.job = x->job,
							  .first = x->first,
							  .tiles = x->end - x->first,
							  .row = jobs[x->job].row,
							  .heads = jobs[x->job].heads,
							  .part = i,
							  .next = x->next};
		words += x->end - x->first;
	}
	start[blocks] = words;
}

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
		uint32_t first = 0, tiles = jobs[i].head;
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
		double bytes = SPLIT_PIECE_BYTES + jobs[i].head * jobs[i].weight, round = warps * jobs[i].weight;
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

double split_queue_bytes = 8.2e6;

/* Tiles of a piece of the queue, whole rounds of the warps, 0 if there is to be none; sets the jobs' heads. */
static uint32_t set_aside(struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps, uint64_t tiles)
{
	double bytes = 0, owed = 0;
	uint32_t rounds = (uint32_t)((double)tiles / blocks * SPLIT_QUEUE_PIECE / warps + 0.5);
	uint32_t piece = (rounds < 1 ? 1 : rounds) * warps;
	for (uint32_t i = 0; i < count; i++)
		bytes += jobs[i].tiles * jobs[i].weight;
	bool none = bytes < split_queue_bytes * blocks;
	for (uint32_t i = 0; i < count; i++) {
		owed += none ? 0 : jobs[i].tiles * SPLIT_QUEUE_SHARE / piece;
		uint32_t n = (uint32_t)owed;
		n = n * (uint64_t)piece <= jobs[i].tiles / 2 ? n : jobs[i].tiles / 2 / piece;
		owed -= n;
		jobs[i].head = jobs[i].tiles - n * piece;
	}
	return none ? 0 : piece;
}

/* Put the queue's pieces behind those of their jobs, of which there are `n`. */
static uint32_t add_queue(const struct split_job *jobs, uint32_t count, uint32_t piece, struct split_piece *pieces,
			  uint32_t n)
{
	uint32_t all = n;
	for (uint32_t i = 0; i < count && piece; i++)
		all += (jobs[i].tiles - jobs[i].head) / piece;
	for (uint32_t i = count, to = all; i-- > 0 && to > n;) { /* from the end, in place */
		for (uint32_t end = jobs[i].tiles; end > jobs[i].head; end -= piece)
			pieces[--to] = (struct split_piece){i, end - piece, end, ATTEND_NONE, 0, ATTEND_NONE};
		while (n && pieces[n - 1].job == i)
			pieces[--to] = pieces[--n];
	}
	return all;
}

static uint32_t split(struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps, bool queued,
		      struct split_piece *pieces, uint32_t *used)
{
	uint64_t tiles = 0;
	for (uint32_t i = 0; i < count; i++) {
		tiles += jobs[i].tiles;
		jobs[i].head = jobs[i].tiles;
	}
	uint64_t most = (tiles + warps - 1) / warps;
	blocks = blocks > most ? (most ? (uint32_t)most : 1) : blocks;
	uint32_t piece = queued ? set_aside(jobs, count, blocks, warps, tiles) : 0;
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
	n = add_queue(jobs, count, piece, pieces, n);
	for (uint32_t i = 0; i < n; i++)
		pieces[i].at = pieces[i].block == ATTEND_NONE ? others++ : pieces[i].at;
	return n;
}

uint32_t split_jobs(struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps,
		    struct split_piece *pieces, uint32_t *used)
{
	return split(jobs, count, blocks, warps, false, pieces, used);
}

uint32_t split_queued(struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps,
		      struct split_piece *pieces, uint32_t *used)
{
	return split(jobs, count, blocks, warps, true, pieces, used);
}

uint32_t split_segments(const struct split_piece *pieces, uint32_t count, const struct attend_job *jobs,
			struct attend_segment *segments, uint32_t start[ATTEND_BLOCKS_MAX + 1])
{
	uint32_t words = 0, blocks = 0, queued = 0, block = ATTEND_NONE;
	for (uint32_t i = 0; i < count; i++) {
		bool own = pieces[i].block != ATTEND_NONE;
		if (own && pieces[i].block != block) {
			block = pieces[i].block;
			start[blocks++] = words;
		}
		words += own ? pieces[i].end - pieces[i].first : 0;
		queued += !own;
	}
	start[blocks] = words;
	for (uint32_t i = 0, at = 0, behind = words; i < count; i++) {
		const struct split_piece *x = &pieces[i];
		uint32_t *word = x->block == ATTEND_NONE ? &behind : &at;
		segments[x->at] = (struct attend_segment){.job = x->job,
							  .first = x->first,
							  .tiles = x->end - x->first,
							  .row = jobs[x->job].row,
							  .heads = jobs[x->job].heads,
							  .part = i,
							  .next = x->next,
							  .word = *word};
		*word += x->end - x->first;
	}
	return count - queued;
}

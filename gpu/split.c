#include <stdbool.h>
#include "gpu/split.h"

static uint32_t cut(const struct split_job *jobs, uint32_t count, uint32_t blocks, uint32_t warps,
		    struct split_piece *pieces)
{
	double total = 0, done = 0;
	uint32_t n = 0, block = 0;
	for (uint32_t i = 0; i < count; i++)
		total += jobs[i].tiles * jobs[i].weight;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t first = 0, tiles = jobs[i].tiles;
		do {
			double end = total * (block + 1) / blocks, room = (end - done) / jobs[i].weight;
			uint32_t left = tiles - first, take = left;
			if (block + 1 < blocks && room < left) { /* whole rounds of the warps */
				take = room > 0 ? (uint32_t)(room / warps + 0.5) * warps : 0;
				take = take + warps > left ? left : take;
			}
			if (!take && left) {
				block++;
				continue;
			}
			pieces[n++] = (struct split_piece){i, first, first + take, block, 0, ATTEND_NONE};
			first += take;
			done += take * jobs[i].weight;
			if (block + 1 < blocks && done >= end - 0.5 * warps * jobs[i].weight)
				block++;
		} while (first < tiles);
	}
	return n;
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

#include <stdbool.h>
#include "gpu/split.h"

/* Fill blocks up to `limit` each, one after the other; a job's end comes along where it costs less than a piece of
 * its own. Returns the number of pieces, 0 when more blocks than the rule allows would be needed. `pieces` may be NULL. */
static uint32_t fill(const struct split_job *jobs, uint32_t count, const struct split_rule *rule, double limit,
		     struct split_piece *pieces)
{
	uint32_t n = 0, block = 0;
	double used = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t first = 0, tiles = jobs[i].tiles;
		double weight = jobs[i].weight;
		for (bool more = true; more;) {
			uint32_t left = tiles - first, take = left;
			double room = limit - used - SPLIT_PIECE_BYTES;
			if (left * weight > room) {
				take = room >= rule->least * weight ? (uint32_t)(room / weight) / rule->round * rule->round : 0;
				take = take < left ? take : left;
				if (!take && used > 0) {
					if (++block >= rule->blocks)
						return 0;
					used = 0;
					continue;
				}
				take = take ? take : left < rule->least ? left : rule->least;
			}
			if (pieces)
				pieces[n] = (struct split_piece){i, first, first + take, block, 0, ATTEND_NONE};
			n++;
			first += take;
			used += SPLIT_PIECE_BYTES + take * weight;
			more = first < tiles;
		}
	}
	return n;
}

/* The smallest limit that does, to a thousandth, or one within the rule's slack with fewer pieces. */
static uint32_t cut(const struct split_job *jobs, uint32_t count, const struct split_rule *rule,
		    struct split_piece *pieces)
{
	double total = 0, most = 0;
	for (uint32_t i = 0; i < count; i++) {
		double bytes = SPLIT_PIECE_BYTES + jobs[i].tiles * jobs[i].weight;
		double least = SPLIT_PIECE_BYTES + rule->least * jobs[i].weight;
		total += bytes;
		most = bytes > most ? bytes : most;
		most = least > most ? least : most;
	}
	double low = total / rule->blocks, high = low + most; /* first fit leaves less than one job's room */
	while (!fill(jobs, count, rule, high, NULL))
		high *= 2;
	while (high - low > 1e-3 * low) {
		double limit = (low + high) / 2;
		if (fill(jobs, count, rule, limit, NULL))
			high = limit;
		else
			low = limit;
	}
	double best = high;
	uint32_t n = fill(jobs, count, rule, high, NULL);
	for (double more = 1.005; more <= rule->slack; more += 0.005) {
		uint32_t fewer = fill(jobs, count, rule, more * high, NULL);
		if (fewer < n) {
			n = fewer;
			best = more * high;
		}
	}
	return fill(jobs, count, rule, best, pieces);
}

uint32_t split_jobs(const struct split_job *jobs, uint32_t count, const struct split_rule *rule,
		    struct split_piece *pieces, uint32_t *used)
{
	struct split_rule of = *rule;
	uint64_t tiles = 0;
	for (uint32_t i = 0; i < count; i++)
		tiles += jobs[i].tiles;
	uint64_t most = (tiles + of.least - 1) / of.least;
	of.blocks = of.blocks > most ? (most ? (uint32_t)most : 1) : of.blocks;
	uint32_t n = cut(jobs, count, &of, pieces), heads = 0, others;
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
		    struct attend_segment *segments, struct attend_args *args)
{
	uint32_t words = 0, blocks = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct split_piece *x = &pieces[i];
		const struct attend_job *job = &jobs[x->job];
		if (i == 0 || x->block != pieces[i - 1].block) {
			args->queries[blocks] = job->row * 32 + job->heads;
			args->start[blocks++] = words;
		}
		struct attend_segment *s = &segments[x->at];
		*s = (struct attend_segment){.job = x->job,
					     .first = x->first,
					     .tiles = x->end - x->first,
					     .row = job->row,
					     .heads = job->heads,
					     .parts = job->parts,
					     .first_part = job->first_part,
					     .part = i,
					     .next = x->next,
					     .joins = job->parts > 1 && i + 1 == job->first_part + job->parts};
		if (x->next != ATTEND_NONE) { /* which is the piece after this one */
			s->next_row = jobs[pieces[i + 1].job].row;
			s->next_heads = jobs[pieces[i + 1].job].heads;
		}
		words += x->end - x->first;
	}
	args->start[blocks] = words;
}

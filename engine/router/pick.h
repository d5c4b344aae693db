/* Choosing pages by score: exact selections in linear time, ties by lower page. */
#ifndef ROUTER_PICK_H
#define ROUTER_PICK_H

#include <stdint.h>
#include <string.h>

/* A candidate: order-preserving key of the score above, page below. NaN ranks lowest, -0 equals 0. */
static inline uint64_t pick_item(float score, uint32_t page)
{
	uint32_t b = 0;
	if (score == score) {
		score += 0.0f;
		memcpy(&b, &score, sizeof b);
		b ^= (uint32_t)((int32_t)b >> 31) | UINT32_C(1) << 31;
	}
	return (uint64_t)b << 32 | page;
}

/* Set in `bitmap` the pages of the k largest of n items, which lie in ascending order of page. */
void pick_top(const uint64_t *items, uint32_t n, uint32_t k, uint64_t *bitmap);

/* Set the fewest pages whose mass reaches `share` of the sum, heaviest first. mass[page] belongs to the item's
 * page; items are sorted on the way, `spare` has room for n. */
void pick_mass(uint64_t *items, uint64_t *spare, uint32_t n, const float *mass, double share, uint64_t *bitmap);

/* The next run of set bits at or after `from` and below `end`: [*first, *last). 0 when there is none. */
int pick_run(const uint64_t *bitmap, uint32_t from, uint32_t end, uint32_t *first, uint32_t *last);

#endif

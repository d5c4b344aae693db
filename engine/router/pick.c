#include <string.h>
#include "pick.h"

#define DIGIT_BITS 11
#define DIGITS     3 /* 11 + 11 + 10 bits of a 32-bit key */

uint64_t pick_item(float score, uint32_t page)
{
	uint32_t b = 0;
	if (score == score) {
		score += 0.0f;
		memcpy(&b, &score, sizeof b);
		b = b >> 31 ? ~b : b | UINT32_C(1) << 31;
	}
	return (uint64_t)b << 32 | page;
}

static void set(uint64_t *bitmap, uint32_t page)
{
	bitmap[page / 64] |= (uint64_t)1 << page % 64;
}

/* Radix selection: each pass fixes one more digit of the k-th largest key. */
void pick_top(const uint64_t *items, uint32_t n, uint32_t k, uint64_t *bitmap)
{
	static const int shifts[DIGITS] = {53, 42, 32}, bits[DIGITS] = {11, 11, 10};
	uint64_t prefix = 0, mask = 0;
	uint32_t want = k < n ? k : n;
	if (!want)
		return;
	for (int pass = 0; pass < DIGITS && k < n; pass++) {
		uint32_t histogram[1 << DIGIT_BITS] = {0}, low = (1u << bits[pass]) - 1, d = low;
		for (uint32_t i = 0; i < n; i++)
			if ((items[i] & mask) == prefix)
				histogram[items[i] >> shifts[pass] & low]++;
		for (; histogram[d] < want; d--)
			want -= histogram[d];
		prefix |= (uint64_t)d << shifts[pass];
		mask |= (uint64_t)low << shifts[pass];
	}
	const uint32_t bound = (uint32_t)(prefix >> 32);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t key = (uint32_t)(items[i] >> 32);
		if (key > bound || (key == bound && want)) {
			want -= key == bound && k < n;
			set(bitmap, (uint32_t)items[i]);
		}
	}
}

/* Stable counting passes from the lowest digit, largest key first; the result ends in `items`. */
static void sort_descending(uint64_t *items, uint64_t *spare, uint32_t n)
{
	static const int shifts[4] = {32, 40, 48, 56};
	for (int pass = 0; pass < 4; pass++) {
		uint32_t place[257] = {0};
		for (uint32_t i = 0; i < n; i++)
			place[256 - (items[i] >> shifts[pass] & 255)]++;
		for (int d = 1; d < 257; d++)
			place[d] += place[d - 1];
		for (uint32_t i = 0; i < n; i++)
			spare[place[255 - (items[i] >> shifts[pass] & 255)]++] = items[i];
		uint64_t *swap = items;
		items = spare;
		spare = swap;
	}
}

void pick_mass(uint64_t *items, uint64_t *spare, uint32_t n, const float *mass, double share, uint64_t *bitmap)
{
	double sum = 0, got = 0;
	sort_descending(items, spare, n);
	for (uint32_t i = 0; i < n; i++)
		sum += (double)mass[(uint32_t)items[i]];
	for (uint32_t i = 0; i < n && got < share * sum; i++) {
		got += (double)mass[(uint32_t)items[i]];
		set(bitmap, (uint32_t)items[i]);
	}
}

int pick_run(const uint64_t *bitmap, uint32_t from, uint32_t end, uint32_t *first, uint32_t *last)
{
	uint64_t word;
	if (from >= end)
		return 0;
	for (word = bitmap[from / 64] & ~(uint64_t)0 << from % 64; !word; word = bitmap[from / 64]) {
		from = (from / 64 + 1) * 64;
		if (from >= end)
			return 0;
	}
	from = from / 64 * 64 + (uint32_t)__builtin_ctzll(word);
	if (from >= end)
		return 0;
	*first = from;
	for (word = ~bitmap[from / 64] & ~(uint64_t)0 << from % 64; !word; word = ~bitmap[from / 64]) {
		from = (from / 64 + 1) * 64;
		if (from >= end) {
			*last = end;
			return 1;
		}
	}
	from = from / 64 * 64 + (uint32_t)__builtin_ctzll(word);
	*last = from < end ? from : end;
	return 1;
}

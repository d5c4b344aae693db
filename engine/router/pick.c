#include "pick.h"

#define BUCKETS 1024

static void set(uint64_t *bitmap, uint32_t page)
{
	bitmap[page / 64] |= (uint64_t)1 << page % 64;
}

static uint32_t key_of(uint64_t item)
{
	return (uint32_t)(item >> 32);
}

/* Keys from `low` on that are within `span` of it, counted in buckets of 2^shift keys. Two arrays by turns, since keys
 * that follow one another are often alike. */
static void count_buckets(const uint64_t *items, uint32_t n, uint32_t low, uint32_t span, int shift,
			  uint32_t count[2][BUCKETS])
{
	memset(count, 0, 2 * sizeof *count);
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t above = key_of(items[i]) - low;
		if (above <= span)
			count[i & 1][above >> shift]++;
	}
}

/* The k largest keys are those above the returned one and *ties, at most, that equal it. Each pass divides the range of
 * keys in which the k-th lies by the number of buckets; 0 < k <= n. */
static uint32_t kth_key(const uint64_t *items, uint32_t n, uint32_t k, uint32_t *ties)
{
	uint32_t low = UINT32_MAX, high = 0, count[2][BUCKETS];
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t key = key_of(items[i]);
		low = key < low ? key : low;
		high = key > high ? key : high;
	}
	while (low < high) {
		const uint32_t span = high - low;
		const int bits = 32 - __builtin_clz(span), shift = bits > 10 ? bits - 10 : 0;
		uint32_t b = span >> shift;
		count_buckets(items, n, low, span, shift, count);
		for (; count[0][b] + count[1][b] < k; b--)
			k -= count[0][b] + count[1][b];
		low += b << shift;
		if (count[0][b] + count[1][b] == k)
			break; /* all from here on */
		high = high - low < (1u << shift) - 1 ? high : low + (1u << shift) - 1;
	}
	*ties = k; /* of all that are left in the range */
	return low;
}

void pick_top(const uint64_t *items, uint32_t n, uint32_t k, uint64_t *bitmap)
{
	uint32_t least = 0, ties = n; /* of all */
	if (!n || !k)
		return;
	if (k < n)
		least = kth_key(items, n, k, &ties);
	for (uint32_t i = 0; i < n;) {
		const uint32_t w = (uint32_t)items[i] / 64;
		uint64_t above = 0, same = 0;
		for (; i < n && (uint32_t)items[i] / 64 == w; i++) {
			above |= (uint64_t)(key_of(items[i]) > least) << items[i] % 64;
			same |= (uint64_t)(key_of(items[i]) == least) << items[i] % 64;
		}
		for (; same && ties; same &= same - 1, ties--)
			above |= same & -same;
		bitmap[w] |= above;
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

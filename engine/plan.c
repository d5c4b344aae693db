#include <math.h>
#include <string.h>
#include "intentkv/alloc.h"
#include "intentkv/layout.h"
#include "intentkv/plan.h"
#include "intentkv/rng.h"

typedef uint32_t vec4 __attribute__((vector_size(16)));

_Static_assert(sizeof(struct ikv_page_ref) == 16, "a page reference is one 16-byte store");
_Static_assert(offsetof(struct ikv_page_ref, page) == 0, "the page number is the first 32-bit lane");

int ikv_plan_init(struct ikv_plan *plan, uint32_t page_tokens, uint32_t pages, struct ikv_err *err)
{
	memset(plan, 0, sizeof *plan);
	if (page_tokens < 1 || page_tokens > IKV_PAGE_TOKENS_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "page_tokens: got %u, expected from 1 to %d", page_tokens,
				   IKV_PAGE_TOKENS_MAX);
	plan->page_tokens = page_tokens;
	plan->mask_words = (page_tokens + 63) / 64;
	return ikv_plan_reserve(plan, pages, err);
}

int ikv_plan_reserve(struct ikv_plan *plan, uint32_t pages, struct ikv_err *err)
{
	if (pages <= plan->cap)
		return 0;
	uint32_t words, roomy = plan->cap + plan->cap / 2;
	if (roomy > pages && roomy < UINT32_MAX / (2 * plan->mask_words))
		pages = roomy; /* a context grows a page at a time: allocate rarely */
	if (__builtin_mul_overflow(pages, plan->mask_words, &words) || words == IKV_NO_MASK)
		return ikv_err_set(err, IKV_BAD_INPUT, "a plan of %u pages of %u tokens is too large", pages,
				   plan->page_tokens);
	if (words > plan->mask_cap) {
		if (ikv_grow(&plan->masks, plan->mask_used, words, sizeof *plan->masks, err))
			return -1;
		plan->mask_cap = words;
	}
	if (ikv_grow(&plan->pages, plan->count, pages, sizeof *plan->pages, err))
		return -1;
	plan->cap = pages;
	return 0;
}

void ikv_plan_free(struct ikv_plan *plan)
{
	ikv_free(plan->pages);
	ikv_free(plan->masks);
	memset(plan, 0, sizeof *plan);
}

void ikv_plan_reset(struct ikv_plan *plan, uint32_t total_tokens)
{
	plan->count = 0;
	plan->mask_used = 0;
	plan->selected_tokens = 0;
	plan->total_tokens = total_tokens;
}

static void set_bits(uint64_t *words, uint32_t lo, uint32_t hi)
{
	while (lo < hi) {
		uint32_t bit = lo % 64, n = 64 - bit < hi - lo ? 64 - bit : hi - lo;
		words[lo / 64] |= (n == 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1) << bit;
		lo += n;
	}
}

/* Tokens [lo, hi) join a page that already has some, all below lo. */
static void widen(struct ikv_plan *plan, struct ikv_page_ref *r, uint32_t lo, uint32_t hi, enum ikv_format format,
		  uint16_t block)
{
	if (r->mask == IKV_NO_MASK && lo > r->hi) {
		r->mask = plan->mask_used;
		plan->mask_used += plan->mask_words;
		memset(plan->masks + r->mask, 0, plan->mask_words * sizeof *plan->masks);
		set_bits(plan->masks + r->mask, r->lo, r->hi);
	}
	if (r->mask != IKV_NO_MASK)
		set_bits(plan->masks + r->mask, lo, hi);
	r->hi = (uint16_t)hi;
	if (ikv_format_info(format)->precision > ikv_format_info(r->request)->precision) {
		r->request = r->stored = (uint8_t)format;
		r->block = block;
	}
}

static void add_part(struct ikv_plan *plan, uint32_t page, uint32_t lo, uint32_t hi, enum ikv_format format,
		     uint16_t block)
{
	if (plan->count && plan->pages[plan->count - 1].page == page) {
		widen(plan, &plan->pages[plan->count - 1], lo, hi, format, block);
		return;
	}
	plan->pages[plan->count++] = (struct ikv_page_ref){
	    page, (uint16_t)lo, (uint16_t)hi, IKV_NO_MASK, (uint8_t)format, (uint8_t)format, block};
}

/* Whole pages [first, last): nobody else has tokens in them, so each is one 16-byte store of a pattern whose
 * page number counts up; two counters keep the stores independent of each other. */
static void add_whole(struct ikv_plan *plan, uint32_t first, uint32_t last, enum ikv_format format, uint16_t block)
{
	const struct ikv_page_ref pattern = {
	    first, 0, (uint16_t)plan->page_tokens, IKV_NO_MASK, (uint8_t)format, (uint8_t)format, block};
	const vec4 one = {1, 0, 0, 0}, two = {2, 0, 0, 0};
	struct ikv_page_ref *out = plan->pages + plan->count;
	uint32_t n = last - first, i = 0;
	vec4 even, odd;
	memcpy(&even, &pattern, sizeof even);
	odd = even + one;
	for (; i + 2 <= n; i += 2) {
		memcpy(out + i, &even, sizeof even);
		memcpy(out + i + 1, &odd, sizeof odd);
		even += two;
		odd += two;
	}
	if (i < n)
		memcpy(out + i, &even, sizeof even);
	plan->count += n;
}

void ikv_plan_add(struct ikv_plan *plan, uint32_t start, uint32_t end, enum ikv_format format, uint32_t block)
{
	if (start >= end || format == IKV_FMT_SKIP)
		return;
	const uint32_t p = plan->page_tokens;
	const uint16_t b = block < UINT16_MAX ? (uint16_t)block : UINT16_MAX;
	uint32_t first = start / p, lo = start - first * p, last = end / p, hi = end - last * p;
	plan->selected_tokens += end - start;
	if (first == last) {
		add_part(plan, first, lo, hi, format, b);
		return;
	}
	if (lo)
		add_part(plan, first++, lo, p, format, b);
	add_whole(plan, first, last, format, b);
	if (hi)
		add_part(plan, last, 0, hi, format, b);
}

bool ikv_plan_has(const struct ikv_plan *plan, const struct ikv_page_ref *r, uint32_t t)
{
	if (t < r->lo || t >= r->hi)
		return false;
	return r->mask == IKV_NO_MASK || (plan->masks[r->mask + t / 64] >> t % 64 & 1);
}

uint32_t ikv_plan_page_tokens(const struct ikv_plan *plan, const struct ikv_page_ref *r)
{
	if (r->mask == IKV_NO_MASK)
		return (uint32_t)r->hi - r->lo;
	uint32_t n = 0;
	for (uint32_t w = 0; w < plan->mask_words; w++)
		n += (uint32_t)__builtin_popcountll(plan->masks[r->mask + w]);
	return n;
}

#define DIGEST_A 0x9e3779b185ebca87u /* odd constants with well-spread bits (xxHash's primes 1 and 2) */
#define DIGEST_B 0xc2b2ae3d27d4eb4fu

static inline uint64_t digest_round(uint64_t h, uint64_t x)
{
	h += x * DIGEST_B;
	return (h << 31 | h >> 33) * DIGEST_A;
}

/* What is digested of a page: its number and bounds, one load, and its format and whether it is masked. */
static inline uint64_t digest_word(const struct ikv_page_ref *r)
{
	uint64_t place = r->page | (uint64_t)r->lo << 32 | (uint64_t)r->hi << 48;
	return place + DIGEST_A * (r->request * 2u + (r->mask != IKV_NO_MASK));
}

/* 1 + 1/2 + ... + 1/n, within .006. */
static double harmonic(double n)
{
	return n > 0 ? ikv_det_log(n) + 0.5772156649 + 1 / (2 * n) - 1 / (12 * n * n) : 0;
}

/* Blocks that kernels work on at a time, and the pieces that they cut a plan into, each with sums of its own
 * (engine/attn/flash.c). */
enum { TILE = 16, BLOCK_TILES = 8, PIECE_TOKENS = 4096, PIECES = 16 };

static uint32_t ceil_div(uint32_t a, uint32_t b)
{
	return a / b + (a % b != 0);
}

/* A token that has a good part of all weight so far is in block i of a piece once in 3 i / 4 times. */
static double fine_share(uint32_t pages, uint32_t page_tokens)
{
	uint32_t least = ceil_div(PIECE_TOKENS, page_tokens), even = ceil_div(pages, PIECES);
	uint32_t pieces = ceil_div(pages, even > least ? even : least);
	double blocks = ceil(ceil((double)pages / pieces) * ceil_div(page_tokens, TILE) / BLOCK_TILES);
	return fmin(1, 4 * harmonic(blocks) / (3 * blocks));
}

void ikv_plan_shape(const struct ikv_plan *plan, struct ikv_plan_shape *shape)
{
	uint32_t tiles = ceil_div(plan->page_tokens, TILE), together = tiles < BLOCK_TILES ? BLOCK_TILES / tiles : 1;
	memset(shape, 0, sizeof *shape);
	for (uint32_t i = 0; i < plan->count;) {
		uint32_t end = plan->count - i < together ? plan->count : i + together, seen = 0;
		for (; i < end; i++) {
			const struct ikv_page_ref *ref = &plan->pages[i], *before = ref - 1;
			shape->pages[ref->stored]++;
			shape->runs[ref->stored] +=
			    i == 0 || before->page + 1 != ref->page || before->stored != ref->stored;
			seen |= 1u << ref->stored;
		}
		shape->mixes += (uint32_t)__builtin_popcount(seen) - 1;
	}
	shape->fine = plan->count ? fine_share(plan->count, plan->page_tokens) : 0;
}

uint64_t ikv_plan_digest(const struct ikv_plan *plan)
{
	uint64_t lane[4] = {DIGEST_A, DIGEST_B, ~DIGEST_A, ~DIGEST_B}, h;
	uint32_t i = 0;
	for (; i + 4 <= plan->count; i += 4) {
		for (int k = 0; k < 4; k++)
			lane[k] = digest_round(lane[k], digest_word(&plan->pages[i + (uint32_t)k]));
	}
	for (; i < plan->count; i++)
		lane[i % 4] = digest_round(lane[i % 4], digest_word(&plan->pages[i]));
	/* Masks are taken in page order whatever their place in the array. */
	if (plan->mask_used) {
		for (i = 0; i < plan->count; i++) {
			const struct ikv_page_ref *r = &plan->pages[i];
			for (uint32_t w = 0; r->mask != IKV_NO_MASK && w < plan->mask_words; w++)
				lane[0] = digest_round(lane[0], plan->masks[r->mask + w]);
		}
	}
	h = digest_round(plan->count, lane[0]);
	for (int k = 1; k < 4; k++)
		h = digest_round(h, lane[k]);
	h ^= h >> 33;
	h *= DIGEST_B;
	return h ^ h >> 29;
}

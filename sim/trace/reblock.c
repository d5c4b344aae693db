#include <string.h>
#include "sim/trace/reblock.h"

enum { BLOCK_MAX = 1 << 20 };

static uint32_t divisor(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

void reblock_free(struct reblock *r)
{
	ikv_free(r->ids);
	*r = (struct reblock){0};
}

static int check(uint32_t from, uint32_t to, struct ikv_err *err)
{
	if (from >= 1 && from <= BLOCK_MAX && to >= 1 && to <= BLOCK_MAX)
		return 0;
	return ikv_err_set(err, IKV_BAD_INPUT, "blocks of %u tokens in place of %u: expected 1 to %d", to, from,
			   BLOCK_MAX);
}

static int room(struct reblock *r, uint32_t count, struct ikv_err *err)
{
	if (r->cap >= count)
		return 0;
	if (ikv_grow(&r->ids, 0, count, sizeof *r->ids, err))
		return -1;
	r->cap = count;
	return 0;
}

/* Tokens that the ids name, and how many new blocks name them. */
static uint64_t covered(uint32_t count, uint32_t from, uint32_t tokens)
{
	uint64_t all = (uint64_t)count * from;
	return all < tokens ? all : tokens;
}

static uint32_t blocks(uint64_t known, uint32_t tokens, uint32_t to)
{
	return (uint32_t)(known / to + (known == tokens && known % to != 0));
}

/* Names of pieces by the ids of the blocks they lie in. `moved` tokens at the start of block `at` have the id
 * `newer`. */
struct naming {
	const uint64_t *ids;
	uint32_t from, at, moved;
	uint64_t newer;
};

static uint64_t piece(const struct naming *n, uint64_t start, uint32_t size)
{
	uint32_t block = (uint32_t)(start / n->from), inside = (uint32_t)(start % n->from);
	uint64_t id = block == n->at && inside + size <= n->moved ? n->newer : n->ids[block];
	return ikv_mix64_2(id, inside / size);
}

/* New block i of an input of which `known` tokens are named. Below 2^63, so that JSON can hold it. */
static uint64_t new_id(const struct naming *n, uint32_t i, uint32_t to, uint64_t known)
{
	uint32_t size = divisor(n->from, to);
	uint64_t start = (uint64_t)i * to, end = start + to < known ? start + to : known, id = 0x7265626c6f636bu;
	for (uint64_t at = start; at < end; at += size)
		id = ikv_mix64_2(id, piece(n, at, size));
	return id >> 1;
}

int reblock_ids(struct reblock *r, const uint64_t *ids, uint32_t count, uint32_t tokens, struct ikv_err *err)
{
	uint64_t known = covered(count, r->from, tokens);
	struct naming n = {.ids = ids, .from = r->from, .at = UINT32_MAX};
	if (check(r->from, r->to, err))
		return -1;
	uint32_t more = r->from == r->to ? count : blocks(known, tokens, r->to);
	if (room(r, more, err))
		return -1;
	for (uint32_t i = 0; i < more; i++)
		r->ids[i] = r->from == r->to ? ids[i] : new_id(&n, i, r->to, known);
	r->count = more;
	return 0;
}

/* ---- sessions ---- */

/* The block in which an append ends partway, and what names its tokens afterwards. */
struct ending {
	uint32_t at, moved;
	uint64_t newer;
};

/* From the last event to the first: an append that ends inside a block has its tokens named anew by the next one with
 * ids. Only what no compaction cut away in between is the same. */
static void find_endings(const struct session *s, struct ending *ending)
{
	uint32_t block = s->hash_block_tokens, context = 0, known = 0, before = UINT32_MAX;
	for (uint32_t i = 0; i < s->event_count; i++) {
		const struct session_event *e = &s->events[i];
		ending[i] = (struct ending){.at = UINT32_MAX};
		if (e->op == SESSION_COMPACT) {
			context = e->tokens;
			known = known < context ? known : context;
		} else if (e->op == SESSION_DECODE) {
			context += e->tokens;
		} else if (e->op == SESSION_APPEND) {
			if (before != UINT32_MAX && e->hash_count && known % block)
				ending[before] =
				    (struct ending){known / block, known % block, s->hashes[e->hash_first]};
			context += e->tokens;
			known = context;
			before = i;
		}
	}
	/* Where one block is gone on with again and again, the last name counts. */
	struct ending last = {.at = UINT32_MAX};
	for (uint32_t i = s->event_count; i-- > 0;) {
		if (s->events[i].op != SESSION_APPEND)
			continue;
		if (ending[i].at != UINT32_MAX && last.at == ending[i].at && last.moved >= ending[i].moved)
			ending[i].newer = last.newer;
		last = ending[i];
	}
}

struct session_reblock {
	struct session *s;
	struct session_chain chain; /* as the trace has it */
	struct ending *ending;
	uint64_t *hashes; /* new ones; owned */
	uint32_t count, cap, to;
	uint32_t blocks; /* of the new chain, kept as session_chain_step keeps it */
};

static int push(struct session_reblock *r, struct session_event *e, const struct naming *n, uint32_t first,
		uint32_t end, uint64_t known, struct ikv_err *err)
{
	e->hash_first = r->count;
	e->hash_count = end > first ? end - first : 0;
	if (r->cap - r->count < e->hash_count) {
		uint64_t cap = (uint64_t)r->cap * 2 + e->hash_count;
		if (cap > UINT32_MAX)
			return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\": more than %u content ids",
					   r->s->id, UINT32_MAX);
		if (ikv_grow(&r->hashes, r->count, (size_t)cap, sizeof *r->hashes, err))
			return -1;
		r->cap = (uint32_t)cap;
	}
	for (uint32_t i = first; i < end; i++)
		r->hashes[r->count++] = new_id(n, i, r->to, known);
	return 0;
}

static int convert(struct session_reblock *r, struct ikv_err *err)
{
	struct session *s = r->s;
	uint32_t from = s->hash_block_tokens;
	for (uint32_t i = 0; i < s->event_count; i++) {
		struct session_event *e = &s->events[i];
		uint32_t first = r->chain.known / r->to;
		if (session_chain_step(&r->chain, s, e, err))
			return -1;
		if (e->op == SESSION_COMPACT) {
			uint32_t kept = ikv_pages(r->chain.known, r->to);
			r->blocks = r->blocks < kept ? r->blocks : kept;
		}
		if (e->op != SESSION_APPEND)
			continue;
		first = first < r->blocks ? first : r->blocks;
		const struct ending *x = &r->ending[i];
		struct naming n = {r->chain.ids, from, x->at, x->moved, x->newer};
		uint64_t known = covered(r->chain.count, from, r->chain.known);
		uint32_t end = blocks(known, r->chain.known, r->to);
		if (push(r, e, &n, first, end, known, err))
			return -1;
		r->blocks = end > first ? end : first;
	}
	return 0;
}

int reblock_session(struct session *s, uint32_t to, struct ikv_err *err)
{
	struct session_reblock r = {.s = s, .to = to};
	if (s->hash_block_tokens == 0 || s->hash_block_tokens == to)
		return 0;
	if (check(s->hash_block_tokens, to, err))
		return -1;
	r.ending = ikv_alloc(s->event_count, sizeof *r.ending, err);
	int rc = r.ending ? 0 : -1;
	if (!rc) {
		find_endings(s, r.ending);
		rc = convert(&r, err);
	}
	ikv_free(r.ending);
	session_chain_free(&r.chain);
	if (rc) {
		ikv_free(r.hashes);
		return -1;
	}
	ikv_free(s->hashes);
	s->hashes = r.hashes;
	s->hash_count = r.count;
	s->hash_cap = r.cap;
	s->hash_block_tokens = to;
	return 0;
}

#include "sim/trace/reblock.h"

static uint32_t gcd(uint32_t a, uint32_t b)
{
	while (b) {
		uint32_t rest = a % b;
		a = b;
		b = rest;
	}
	return a;
}

/* The id of the new block that begins at token `start` and holds `tokens`. */
static uint64_t new_id(const uint64_t *ids, uint32_t from, uint32_t to, uint64_t start, uint32_t tokens)
{
	uint32_t part = gcd(from, to), parts = ikv_pages(tokens, part), each = from / part;
	uint64_t first = start / part, hash = parts;
	for (uint32_t i = 0; i < parts; i++) {
		uint64_t id = ids[(first + i) / each];
		if (each > 1)
			id = ikv_mix64_2(id, (first + i) % each + 1);
		if (to == part)
			return id;
		hash = ikv_mix64_2(hash, id);
	}
	return hash;
}

int reblock_ids(const uint64_t *ids, uint32_t count, uint32_t from, uint32_t input, uint32_t to,
		struct reblocked *out, struct ikv_err *err)
{
	uint64_t named = (uint64_t)count * from;
	bool whole = named >= input;
	if (whole)
		named = input;
	uint64_t blocks = named / to + (whole && named % to != 0);
	if (blocks > REBLOCK_MAX || named / gcd(from, to) > REBLOCK_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "%llu tokens in blocks of %u from blocks of %u: more than %d parts",
				   (unsigned long long)named, to, from, REBLOCK_MAX);
	out->count = (uint32_t)blocks;
	if (blocks > out->cap) {
		if (ikv_grow(&out->ids, 0, (size_t)blocks, sizeof *out->ids, err))
			return -1;
		out->cap = (size_t)blocks;
	}
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t left = named - i * to;
		out->ids[i] = new_id(ids, from, to, i * to, left < to ? (uint32_t)left : to);
	}
	return 0;
}

void reblock_free(struct reblocked *r)
{
	ikv_free(r->ids);
	*r = (struct reblocked){0};
}

/* Where the conversion of a session stands. */
struct progress {
	struct session_chain chain; /* in old blocks, behind the event at hand */
	struct session made;        /* collects the new ids */
	struct reblocked blocks;
	uint32_t to, count; /* new blocks; in the new chain */
};

static int convert_append(struct progress *p, const struct session *s, struct session_event *e, uint32_t known_before,
			  struct ikv_err *err)
{
	if (reblock_ids(p->chain.ids, p->chain.count, s->hash_block_tokens, p->chain.known, p->to, &p->blocks, err))
		return -1;
	uint32_t first = known_before / p->to;
	if (first > p->count)
		first = p->count;
	e->hash_count = 0;
	p->count = first;
	if (p->blocks.count <= first)
		return 0;
	p->count = p->blocks.count;
	return session_push_hashes(&p->made, e, p->blocks.ids + first, p->blocks.count - first, err);
}

int reblock_session(struct session *s, uint32_t to, struct ikv_err *err)
{
	struct progress p = {.to = to};
	int rc = 0;
	if (s->hash_block_tokens == 0 || s->hash_block_tokens == to)
		return 0;
	for (uint32_t i = 0; !rc && i < s->event_count; i++) {
		struct session_event *e = &s->events[i];
		uint32_t known_before = p.chain.known;
		rc = session_chain_step(&p.chain, s, e, err);
		if (!rc && e->op == SESSION_APPEND)
			rc = convert_append(&p, s, e, known_before, err);
		if (e->op == SESSION_COMPACT && p.count > ikv_pages(p.chain.known, to))
			p.count = ikv_pages(p.chain.known, to);
	}
	session_chain_free(&p.chain);
	reblock_free(&p.blocks);
	if (rc) {
		ikv_free(p.made.hashes);
		return rc;
	}
	ikv_free(s->hashes);
	s->hashes = p.made.hashes;
	s->hash_count = p.made.hash_count;
	s->hash_cap = p.made.hash_cap;
	s->hash_block_tokens = to;
	return 0;
}

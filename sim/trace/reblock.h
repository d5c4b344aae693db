/* Content ids of blocks of one size as ids of blocks of another: traces have 512, 64 or 16 tokens a block, pages what
 * a scenario says.
 *
 * A block is cut into parts of gcd(from, to) tokens, named by the block's id and the part's number, and as many parts
 * as a new block takes are hashed to its id. Equal prefixes stay equal and different ones different (but for 64-bit
 * collisions). What a started last block of the old size shares with a fuller one is not known, and not found. */
#ifndef SIM_TRACE_REBLOCK_H
#define SIM_TRACE_REBLOCK_H

#include "sim/session.h"

enum { REBLOCK_MAX = 16 << 20 }; /* parts of one request */

struct reblocked {     /* starts zeroed */
	uint64_t *ids; /* owned */
	uint32_t count;
	size_t cap;
};

/* ids [count] of `from` tokens each name the first tokens of an input of `input` tokens. If they name all of it, the
 * last block being only started, so do the new ones; else the new ones are full. */
int reblock_ids(const uint64_t *ids, uint32_t count, uint32_t from, uint32_t input, uint32_t to,
		struct reblocked *out, struct ikv_err *err);
void reblock_free(struct reblocked *r);

/* A session's ids, event by event, so that session_chain_step replays the converted chain. */
int reblock_session(struct session *s, uint32_t to, struct ikv_err *err);

#endif

/* Content ids in blocks of another size. */
#ifndef SIM_TRACE_REBLOCK_H
#define SIM_TRACE_REBLOCK_H

#include "sim/session.h"

/* Blocks of `from` tokens become blocks of `to` tokens. Both are cut into pieces of their greatest common divisor: a
 * piece is named by the id of the block it lies in and its place there, a new block by the pieces it holds. So equal
 * prefixes stay equal as far as whole old blocks name them, and unlike ones stay unlike.
 *
 * `tokens`: length of the input. A chain with an id for each started block (ceil, as Mooncake) gives one again, the
 * last block perhaps partial; one with ids of full blocks (floor, as Weka) gives the full new blocks that it names.
 * Sizes are 1 to 2^20 tokens. */
struct reblock {
	uint32_t from, to;
	uint64_t *ids; /* of the newest conversion; owned */
	uint32_t count, cap;
};
int reblock_ids(struct reblock *r, const uint64_t *ids, uint32_t count, uint32_t tokens, struct ikv_err *err);
void reblock_free(struct reblock *r);

/* A whole session. Where an append goes on inside a block, the trace gives the block a new id, although its first
 * tokens are the same; here both requests name these tokens by the newer id, so that smaller blocks can be found
 * again. Nothing changes in a session without content ids. After a failure the session can only be freed. */
int reblock_session(struct session *s, uint32_t to, struct ikv_err *err);

#endif

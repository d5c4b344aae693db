/* Queues over slots, for policies that order what they hold by arrival or use. A slot is in at most one of a
 * policy's queues; all operations but the walks are O(1) and none allocates. */
#ifndef ENGINE_RESIDENCY_QUEUES_H
#define ENGINE_RESIDENCY_QUEUES_H

#include "intentkv/residency.h"
#include "serial.h"

#define QUEUES_END IKV_NO_SLOT
#define QUEUES_MAX 4

struct queue_entry { /* 16 bytes: all that an operation needs of a slot lies in one cache line */
	uint32_t older, newer;
	uint32_t bytes;
	uint8_t queue; /* 1..QUEUES_MAX, 0: in none */
	uint8_t uses;  /* the policy's: a visited bit or a short count */
};
struct queue {
	uint32_t oldest, newest, count;
	uint64_t bytes;
};
struct queues {
	struct queue_entry *entries; /* [slots] */
	uint32_t slots;
	struct queue queue[QUEUES_MAX + 1]; /* number 0 is not used */
};

static inline void queues_init(struct queues *q)
{
	for (int i = 0; i <= QUEUES_MAX; i++)
		q->queue[i] = (struct queue){.oldest = QUEUES_END, .newest = QUEUES_END};
}

/* To the newest end of queue `number`; the slot is in none. */
static inline void queues_push(struct queues *q, unsigned number, uint32_t slot)
{
	struct queue *to = &q->queue[number];
	struct queue_entry *e = &q->entries[slot];
	e->queue = (uint8_t)number;
	e->older = to->newest;
	e->newer = QUEUES_END;
	*(to->newest == QUEUES_END ? &to->oldest : &q->entries[to->newest].newer) = slot;
	to->newest = slot;
	to->count++;
	to->bytes += e->bytes;
}

/* Out of the queue that it is in. */
static inline void queues_take(struct queues *q, uint32_t slot)
{
	struct queue_entry *e = &q->entries[slot];
	struct queue *from = &q->queue[e->queue];
	*(e->older == QUEUES_END ? &from->oldest : &q->entries[e->older].newer) = e->newer;
	*(e->newer == QUEUES_END ? &from->newest : &q->entries[e->newer].older) = e->older;
	from->count--;
	from->bytes -= e->bytes;
	e->queue = 0;
}

static inline void queues_move(struct queues *q, unsigned number, uint32_t slot)
{
	queues_take(q, slot);
	queues_push(q, number, slot);
}

/* A slot that is in no queue arrives. */
static inline void queues_add(struct queues *q, unsigned number, uint32_t slot, uint64_t bytes)
{
	q->entries[slot].bytes = (uint32_t)bytes;
	q->entries[slot].uses = 0;
	queues_push(q, number, slot);
}

static inline void queues_resize(struct queues *q, uint32_t slot, uint64_t bytes)
{
	struct queue_entry *e = &q->entries[slot];
	if (!e->queue)
		return;
	q->queue[e->queue].bytes += bytes - e->bytes;
	e->bytes = (uint32_t)bytes;
}

/* Oldest slot of a queue that may go. */
static inline uint32_t queues_oldest(const struct queues *q, unsigned number, bool (*may)(void *ctx, uint32_t slot),
				     void *ctx)
{
	uint32_t s = q->queue[number].oldest;
	while (may && s != QUEUES_END && !may(ctx, s))
		s = q->entries[s].newer;
	return s;
}

int queues_reserve(struct queues *q, uint32_t slots, struct ikv_err *err);
/* All of the queues 1 to `numbers`, from the oldest on. Reading replaces what they hold; `uses` above `most_uses`
 * is an error. */
void queues_write(const struct queues *q, unsigned numbers, struct serial_out *o);
int queues_read(struct queues *q, unsigned numbers, uint8_t most_uses, struct serial_in *in, struct ikv_err *err);
/* That a saved state ends here. */
int queues_read_end(const struct serial_in *in, struct ikv_err *err);

/* Operations of a policy with a single queue, number 1, whose state is or begins with struct queues. */
int queues_op_create(void **state, const void *config, uint64_t capacity_bytes, struct ikv_err *err);
void queues_op_destroy(void *state);
int queues_op_reserve(void *state, uint32_t slots, struct ikv_err *err);
void queues_op_insert(void *state, uint32_t slot, uint64_t bytes, uint64_t step);
void queues_op_remove(void *state, uint32_t slot);
bool queues_op_holds(const void *state, uint32_t slot);
size_t queues_op_save(const void *state, void *buffer, size_t size);
int queues_op_load(void *state, const void *buffer, size_t size, struct ikv_err *err);

#endif

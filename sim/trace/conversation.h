/* Requests that carry their whole input as messages: what of it is new, what was decoded, and what is gone. */
#ifndef SIM_TRACE_CONVERSATION_H
#define SIM_TRACE_CONVERSATION_H

#include "sim/trace/messages.h"
#include "sim/trace/request.h"

/* Messages as words, so that they can lie in a request log. Starts zeroed. */
struct message_words {
	uint64_t *words; /* owned */
	size_t count, cap;
	uint64_t tokens; /* of all messages in it */
};
int message_words_add(struct message_words *w, const struct message *m, struct ikv_err *err);
void message_words_free(struct message_words *w);

struct spoken {                /* a request */
	const uint64_t *words; /* of the messages of its input, borrowed until the next request */
	size_t count;
	const uint64_t *answer; /* of the message that answers it, or NULL: unknown */
	size_t answer_count;
	int64_t input;   /* tokens; -1: as many as the texts */
	uint32_t output; /* tokens */
	double wait_ms;  /* before it, from the end of the one before */
	int line;
};

/* Where the newest request left the context. Starts zeroed. */
struct conversation {
	struct spoken newest;
	size_t messages;     /* in its input */
	uint32_t *ends;      /* where each of them ends in the context; owned */
	uint32_t *ends_room; /* those of the request under way; owned */
	uint64_t *weights;   /* texts of the new blocks; owned */
	uint32_t *shares;    /* and the tokens they get; owned */
	size_t end_cap, end_room_cap, weight_cap, share_cap;
	bool guessed; /* the session ends with its answer, of which only the length is known */
};
void conversation_restart(struct conversation *c);
void conversation_free(struct conversation *c);

/* Add a request to the session.
 *
 * Messages are compared by their hashes. Those that the request shares with the one before, from the first on, stay
 * in the context; assistant messages right after all of them are what was decoded, with the length that the trace
 * gives; all others are appended. Otherwise the context is cut back to the shared ones. Where the trace gives the
 * length of the input, new blocks share what is not in the context yet in proportion to their texts. */
int conversation_add(struct conversation *c, struct session *s, struct request_stream *stream, const struct spoken *r,
		     struct ikv_err *err);

#endif

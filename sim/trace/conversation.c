#include <stdlib.h>
#include <string.h>
#include "sim/trace/conversation.h"

/* A message is its hash, a word with the number of its blocks and whether it is an assistant's, and a word for each
 * block. */
enum { HEAD_WORDS = 2 };

static int room(void *array, size_t count, size_t *cap, size_t want, size_t size, struct ikv_err *err)
{
	if (want <= *cap)
		return 0;
	size_t next = want + want / 2 + 16;
	if (ikv_grow(array, count, next, size, err))
		return -1;
	*cap = next;
	return 0;
}

int message_words_add(struct message_words *w, const struct message *m, struct ikv_err *err)
{
	if (room(&w->words, w->count, &w->cap, w->count + HEAD_WORDS + m->count, sizeof *w->words, err))
		return -1;
	w->words[w->count++] = m->hash;
	w->words[w->count++] = (uint64_t)m->count << 1 | m->assistant;
	for (size_t i = 0; i < m->count; i++) {
		w->words[w->count++] = (uint64_t)m->blocks[i].kind << 32 | m->blocks[i].tokens;
		w->tokens += m->blocks[i].tokens;
	}
	if (w->tokens > REQUEST_TOKENS_MAX)
		return json_fault(m->in, CHECK_LIMIT, m->key, err, "an input of more than %d tokens",
				  REQUEST_TOKENS_MAX);
	return 0;
}

void message_words_free(struct message_words *w)
{
	ikv_free(w->words);
	*w = (struct message_words){0};
}

/* Stepping over messages. */
struct walk {
	const uint64_t *at, *end;
};

/* Over words that may not be there at all. */
static struct walk walk_over(const uint64_t *words, size_t count)
{
	return (struct walk){words, count ? words + count : words};
}

static const uint64_t *walk_next(struct walk *w)
{
	const uint64_t *message = w->at;
	if (message == w->end)
		return NULL;
	w->at += HEAD_WORDS + (message[1] >> 1);
	return message;
}

static bool assistant(const uint64_t *message)
{
	return message && (message[1] & 1);
}

static enum ikv_kind block_kind(uint64_t block)
{
	return (enum ikv_kind)(block >> 32);
}

static uint32_t block_tokens(uint64_t block)
{
	return (uint32_t)block;
}

struct remainder {
	uint64_t rest;
	size_t index;
};

static int by_rest(const void *a, const void *b)
{
	const struct remainder *x = a, *y = b;
	if (x->rest != y->rest)
		return x->rest < y->rest ? 1 : -1;
	return (x->index > y->index) - (x->index < y->index);
}

/* Deal `total` out in proportion to the weights, whole tokens, by largest remainder. The sum of the weights is above
 * 0 and, as `total`, below 2^32. */
static int deal(uint32_t total, const uint64_t *weights, size_t n, uint32_t *shares, struct ikv_err *err)
{
	struct remainder *order = ikv_alloc(n, sizeof *order, err);
	uint64_t sum = 0, left = total;
	if (!order)
		return -1;
	for (size_t i = 0; i < n; i++)
		sum += weights[i];
	for (size_t i = 0; i < n; i++) {
		shares[i] = (uint32_t)(weights[i] * total / sum);
		order[i] = (struct remainder){weights[i] * total % sum, i};
		left -= shares[i];
	}
	qsort(order, n, sizeof *order, by_rest);
	for (size_t i = 0; i < left; i++)
		shares[order[i].index]++;
	ikv_free(order);
	return 0;
}

/* Weights of the blocks of the messages in `w`, their number and sum. */
static int weigh(struct conversation *c, struct walk w, size_t *n, uint64_t *sum, struct ikv_err *err)
{
	const uint64_t *m;
	*n = 0;
	*sum = 0;
	if (room(&c->weights, 0, &c->weight_cap, (size_t)(w.end - w.at) + 1, sizeof *c->weights, err) ||
	    room(&c->shares, 0, &c->share_cap, (size_t)(w.end - w.at) + 1, sizeof *c->shares, err))
		return -1;
	while ((m = walk_next(&w)))
		for (uint64_t i = 0; i < m[1] >> 1; i++) {
			c->weights[*n] = block_tokens(m[HEAD_WORDS + i]);
			*sum += c->weights[(*n)++];
		}
	return 0;
}

/* Decode the answer: its blocks where the messages in `w` tell them, else one. */
static int decode(struct conversation *c, struct session *s, struct request_stream *stream, struct walk w,
		  uint32_t output, float confidence, struct ikv_err *err)
{
	uint32_t before = s->event_count;
	size_t n, at = 0;
	uint64_t sum;
	const uint64_t *m;
	if (weigh(c, w, &n, &sum, err))
		return -1;
	if (sum == 0) {
		if (request_decode(stream, s, output, IKV_KIND_ASSISTANT, 0.7F, err))
			return -1;
	} else if (deal(output, c->weights, n, c->shares, err)) {
		return -1;
	}
	while (sum && (m = walk_next(&w)))
		for (uint64_t i = 0; i < m[1] >> 1; i++)
			if (request_decode(stream, s, c->shares[at++], block_kind(m[HEAD_WORDS + i]), confidence,
					   err))
				return -1;
	c->guessed = !sum && s->event_count > before;
	return 0;
}

/* The next request shows what the answer before consisted of. */
static int decode_again(struct conversation *c, struct session *s, struct request_stream *stream, struct walk w,
			struct ikv_err *err)
{
	if (!c->guessed)
		return 0;
	s->event_count--; /* a decode owns nothing */
	stream->context -= c->newest.output;
	return decode(c, s, stream, w, c->newest.output, 0.9F, err);
}

/* Assistant messages at the front of `w` are the answer to the request before; step over them. How many. */
static size_t skip_answer(struct walk *w, struct walk *answer)
{
	size_t n = 0;
	answer->at = w->at;
	while (w->at != w->end && assistant(w->at)) {
		walk_next(w);
		n++;
	}
	answer->end = w->at;
	return n;
}

/* Step over what the two requests have in common. How many messages. */
static size_t skip_shared(const struct conversation *c, struct walk *w)
{
	struct walk before = walk_over(c->newest.words, c->newest.count);
	size_t n = 0;
	while (before.at != before.end && w->at != w->end && *before.at == *w->at) {
		walk_next(&before);
		walk_next(w);
		n++;
	}
	return n;
}

static int append(struct conversation *c, struct session *s, struct request_stream *stream, struct walk w,
		  size_t first, uint64_t sum, size_t n, struct ikv_err *err)
{
	uint32_t upto = stream->context, input = stream->input;
	size_t at = 0;
	const uint64_t *m;
	if (sum && deal(input - upto, c->weights, n, c->shares, err))
		return -1;
	for (; (m = walk_next(&w)); first++) {
		for (uint64_t i = 0; i < m[1] >> 1; i++) {
			upto += sum ? c->shares[at++] : 0;
			if (request_append(stream, s, upto, block_kind(m[HEAD_WORDS + i]), 1, err))
				return -1;
		}
		c->ends_room[first] = upto;
	}
	/* No text tells what the rest is. */
	return request_append(stream, s, input, IKV_KIND_USER, 0.3F, err);
}

/* Where the messages that are in the context already end: those the requests share, then the answer. */
static void place(struct conversation *c, size_t shared, struct walk answer, uint32_t context, uint32_t kept)
{
	uint32_t at = shared ? c->ends[shared - 1] : 0;
	size_t n = shared;
	const uint64_t *m;
	for (size_t i = 0; i < shared; i++)
		c->ends_room[i] = c->ends[i] < kept ? c->ends[i] : kept;
	while ((m = walk_next(&answer))) {
		for (uint64_t i = 0; i < m[1] >> 1; i++)
			at += block_tokens(m[HEAD_WORDS + i]);
		uint32_t end = answer.at == answer.end || at > context ? context : at;
		c->ends_room[n++] = end < kept ? end : kept;
	}
}

int conversation_add(struct conversation *c, struct session *s, struct request_stream *stream, const struct spoken *r,
		     struct ikv_err *err)
{
	struct walk w = walk_over(r->words, r->count), answer, all = w;
	size_t messages = 0, n, shared = skip_shared(c, &w), answered = 0;
	bool goes_on = shared == c->messages;
	uint64_t sum;
	while (walk_next(&all))
		messages++;
	if (room(&c->ends_room, 0, &c->end_room_cap, messages + 1, sizeof *c->ends_room, err))
		return -1;
	answer = (struct walk){w.at, w.at};
	if (goes_on && c->messages && c->newest.output)
		answered = skip_answer(&w, &answer);
	if (answered && decode_again(c, s, stream, answer, err))
		return -1;
	stream->line = r->line;
	if (stream->turn && request_wait(stream, s, r->wait_ms, err))
		return -1;
	uint32_t kept = answered || messages == 0 ? stream->context : shared ? c->ends[shared - 1] : 0;
	if (weigh(c, w, &n, &sum, err))
		return -1;
	uint64_t input = r->input >= 0 ? (uint64_t)r->input : kept + sum;
	if (messages == 0 && input <= kept)
		kept = 0; /* another input altogether */
	else if (input < kept + (sum ? 1 : 0))
		kept = (uint32_t)(input - (sum < input ? sum : input));
	place(c, shared, answer, stream->context, kept);
	if (request_keep(stream, s, kept, (uint32_t)input, r->line, err) ||
	    append(c, s, stream, w, shared + answered, sum, n, err) ||
	    decode(c, s, stream, walk_over(r->answer, r->answer_count), r->output, 1, err))
		return -1;
	uint32_t *ends = c->ends_room;
	c->ends_room = c->ends;
	c->ends = ends;
	size_t cap = c->end_room_cap;
	c->end_room_cap = c->end_cap;
	c->end_cap = cap;
	c->messages = messages;
	c->newest = *r;
	return 0;
}

void conversation_restart(struct conversation *c)
{
	c->newest = (struct spoken){0};
	c->messages = 0;
	c->guessed = false;
}

void conversation_free(struct conversation *c)
{
	ikv_free(c->ends);
	ikv_free(c->ends_room);
	ikv_free(c->weights);
	ikv_free(c->shares);
	*c = (struct conversation){0};
}

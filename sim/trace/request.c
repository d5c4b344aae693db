#include "sim/trace/request.h"

static struct session_event *push(const struct request_stream *r, struct session *s, enum session_op op,
				  struct ikv_err *err)
{
	struct session_event *e = session_push(s, op, err);
	if (e) {
		e->turn = r->turn ? r->turn - 1 : 0;
		e->line = r->line;
	}
	return e;
}

int request_keep(struct request_stream *r, struct session *s, uint32_t kept, uint32_t input, int line,
		 struct ikv_err *err)
{
	if (kept > input)
		kept = input;
	if (kept > r->context)
		kept = r->context;
	r->turn++;
	r->line = line;
	if (kept < r->context) {
		struct session_event *e = push(r, s, SESSION_COMPACT, err);
		if (!e)
			return -1;
		e->tokens = kept;
	}
	r->context = kept;
	if (r->known > r->context)
		r->known = r->context;
	uint32_t block = s->hash_block_tokens;
	if (block && r->named > ikv_pages(r->known, block))
		r->named = ikv_pages(r->known, block);
	r->input = input;
	return 0;
}

int request_begin(struct request_stream *r, struct session *s, const uint64_t *ids, uint32_t count, uint32_t input,
		  int line, struct ikv_err *err)
{
	uint32_t block = s->hash_block_tokens, least = count < r->count ? count : r->count, common = 0;
	while (common < least && ids[common] == r->ids[common])
		common++;
	bool goes_on = r->turn == 0 || (common >= (block ? r->input / block : 0) && input > r->context);
	uint64_t kept = goes_on ? r->context : (uint64_t)common * block;
	r->common = common;
	r->ids = ids;
	r->count = count;
	return request_keep(r, s, kept > input ? input : (uint32_t)kept, input, line, err);
}

int request_append(struct request_stream *r, struct session *s, uint32_t upto, enum ikv_kind kind, float confidence,
		   struct ikv_err *err)
{
	if (upto > r->input)
		upto = r->input;
	if (upto <= r->context)
		return 0;
	struct session_event *e = push(r, s, SESSION_APPEND, err);
	if (!e)
		return -1;
	e->kind = kind;
	e->confidence = confidence;
	e->tokens = upto - r->context;
	uint32_t block = s->hash_block_tokens, first = block ? r->known / block : 0,
		 end = upto == r->input ? r->count
		       : block          ? ikv_pages(upto, block)
					: 0;
	if (first > r->named)
		first = r->named;
	if (end > r->count)
		end = r->count;
	r->context = r->known = upto;
	r->named = end > first ? end : first;
	return block && end > first ? session_push_hashes(s, e, r->ids + first, end - first, err) : 0;
}

int request_decode(struct request_stream *r, struct session *s, uint32_t tokens, enum ikv_kind kind, float confidence,
		   struct ikv_err *err)
{
	if (tokens == 0)
		return 0;
	struct session_event *e = push(r, s, SESSION_DECODE, err);
	if (!e)
		return -1;
	e->kind = kind;
	e->confidence = confidence;
	e->tokens = tokens;
	r->context += tokens;
	return 0;
}

int request_wait(const struct request_stream *r, struct session *s, double ms, struct ikv_err *err)
{
	if (!(ms > 0))
		return 0;
	struct session_event *e = push(r, s, SESSION_WAIT, err);
	if (!e)
		return -1;
	e->wait_ms = ms;
	e->turn = r->turn;
	return 0;
}

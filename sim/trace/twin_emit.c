/* Sessions out of a plan of requests. */
#include <string.h>
#include <stdio.h>
#include "sim/trace/request.h"
#include "sim/trace/twin.h"

enum { DRAW_KINDS = 8, DRAW_IDS = 9 };

struct emitter {
	const struct twin *t;
	const struct twin_plan *p;
	struct session *s;
	struct request_stream r;
	struct ikv_rng rng;
	uint64_t salt;
	uint64_t *ids[2]; /* of this request and the one before */
	size_t cap[2];
	struct ikv_err *err;
};

/* Ids of a request: block by block of the request where it was new. Below 2^63, so that JSON can hold them. */
static int make_ids(struct emitter *m, uint32_t place)
{
	const struct twin_request *all = m->p->requests;
	uint32_t end = all[place].blocks;
	uint64_t *ids = m->ids[0];
	size_t cap = m->cap[0];
	m->ids[0] = m->ids[1];
	m->cap[0] = m->cap[1];
	m->ids[1] = ids;
	m->cap[1] = cap;
	if (m->cap[0] < end) {
		if (ikv_grow(&m->ids[0], 0, end, sizeof *m->ids[0], m->err))
			return -1;
		m->cap[0] = end;
	}
	while (end) {
		uint64_t of = ikv_mix64_2(m->salt, place);
		for (uint32_t i = all[place].kept; i < end; i++)
			m->ids[0][i] = ikv_mix64_2(of, i) >> 1;
		end = all[place].kept < end ? all[place].kept : end;
		place = all[place].donor;
	}
	return 0;
}

static struct session_event *push(struct emitter *m, enum session_op op)
{
	struct session_event *e = session_push(m->s, op, m->err);
	if (e)
		e->turn = m->r.turn - 1;
	return e;
}

/* As request_begin, where there are no ids: `kept` tokens of the input before are known to stay. */
static int begin_plain(struct emitter *m, const struct twin_request *q)
{
	struct request_stream *r = &m->r;
	bool goes_on = r->turn == 0 || (q->kept >= r->input && q->input > r->context);
	uint32_t stay = goes_on ? r->context : q->kept;
	r->turn++;
	if (stay < r->context) {
		struct session_event *e = push(m, SESSION_COMPACT);
		if (!e)
			return -1;
		e->tokens = stay;
	}
	r->context = stay;
	r->input = q->input;
	return 0;
}

static int append(struct emitter *m, uint32_t upto, enum ikv_kind kind)
{
	float confidence = (float)m->t->confidence[kind];
	if (m->t->block_tokens)
		return request_append(&m->r, m->s, upto, kind, confidence, m->err);
	if (upto <= m->r.context)
		return 0;
	struct session_event *e = push(m, SESSION_APPEND);
	if (!e)
		return -1;
	e->kind = kind;
	e->confidence = confidence;
	e->tokens = upto - m->r.context;
	m->r.context = upto;
	return 0;
}

/* Cut `tokens` by the shares of the kinds, in the order in which they stand in a context. */
static const enum ikv_kind first_order[] = {
    IKV_KIND_TOOLS,     IKV_KIND_SYSTEM,      IKV_KIND_MEMORY,    IKV_KIND_RETRIEVED, IKV_KIND_OTHER,
    IKV_KIND_ASSISTANT, IKV_KIND_TOOL_OUTPUT, IKV_KIND_REASONING, IKV_KIND_TOOL_CALL, IKV_KIND_USER};
static const enum ikv_kind output_order[] = {
    IKV_KIND_REASONING, IKV_KIND_ASSISTANT, IKV_KIND_TOOL_CALL,   IKV_KIND_USER,      IKV_KIND_SYSTEM,
    IKV_KIND_TOOLS,     IKV_KIND_MEMORY,    IKV_KIND_TOOL_OUTPUT, IKV_KIND_RETRIEVED, IKV_KIND_OTHER};

static int first_appends(struct emitter *m, uint32_t input)
{
	double upto = 0;
	enum ikv_kind last = IKV_KIND_USER;
	for (size_t i = 0; i < IKV_KIND_COUNT; i++) {
		enum ikv_kind k = first_order[i];
		upto += m->t->first_kinds[k] * input;
		last = m->t->first_kinds[k] > 0 ? k : last;
		if (append(m, upto < input ? (uint32_t)(upto + .5) : input, k))
			return -1;
	}
	return append(m, input, last);
}

static int later_append(struct emitter *m, uint32_t input)
{
	const struct twin *t = m->t;
	uint32_t tokens = input > m->r.context ? input - m->r.context : 0, bin = 0;
	double u = ikv_rng_uniform(&m->rng);
	int kind = IKV_KIND_USER;
	while (bin + 1 < t->kind_bins && tokens > t->kinds[bin].upto)
		bin++;
	for (int k = 0; t->kind_bins && k < IKV_KIND_COUNT && u >= 0; k++) {
		if (t->kinds[bin].share[k] > 0)
			kind = k;
		u -= t->kinds[bin].share[k];
	}
	return append(m, input, (enum ikv_kind)kind);
}

static int output(struct emitter *m, uint32_t tokens)
{
	double upto = 0;
	uint32_t done = 0;
	enum ikv_kind last = IKV_KIND_ASSISTANT;
	for (size_t i = 0; i < IKV_KIND_COUNT; i++)
		last = m->t->output_kinds[output_order[i]] > 0 ? output_order[i] : last;
	for (size_t i = 0; i < IKV_KIND_COUNT; i++) {
		enum ikv_kind k = output_order[i];
		upto += m->t->output_kinds[k] * tokens;
		uint32_t end = k == last || upto > tokens ? tokens : (uint32_t)(upto + .5);
		if (end <= done)
			continue;
		if (request_decode(&m->r, m->s, end - done, k, (float)m->t->confidence[k], m->err))
			return -1;
		done = end;
		if (k == last)
			break;
	}
	return 0;
}

static int one_request(struct emitter *m, uint32_t place)
{
	const struct twin_request *q = &m->p->requests[place];
	bool first = m->r.turn == 0;
	if (request_wait(&m->r, m->s, q->wait_ms, m->err))
		return -1;
	if (m->t->block_tokens
		? make_ids(m, place) || request_begin(&m->r, m->s, m->ids[0], q->blocks, q->input, 0, m->err)
		: begin_plain(m, q))
		return -1;
	if (first ? first_appends(m, q->input) : later_append(m, q->input))
		return -1;
	return output(m, q->output);
}

int twin_emit(const struct twin *t, const struct twin_plan *p, uint64_t seed, struct session_list *out,
	      struct ikv_err *err)
{
	struct emitter m = {.t = t, .p = p, .salt = ikv_mix64_2(seed, DRAW_IDS), .err = err};
	int rc = 0;
	for (uint32_t i = 0; !rc && i < p->sessions; i++) {
		char id[32];
		snprintf(id, sizeof id, "generated-%u", i);
		m.s = session_add(out, id, err);
		if (!m.s) {
			rc = -1;
			break;
		}
		m.s->arrival_ms = p->arrival_ms[i];
		m.s->hash_block_tokens = t->block_tokens;
		m.s->hashes_global = t->block_tokens && t->global;
		m.r = (struct request_stream){0};
		ikv_rng_stream(&m.rng, seed, IKV_STREAM_SESSION, i, DRAW_KINDS);
		for (uint32_t k = p->first[i]; !rc && k < p->first[i + 1]; k++)
			rc = one_request(&m, k);
		if (!rc)
			rc = session_check(m.s, err);
	}
	ikv_free(m.ids[0]);
	ikv_free(m.ids[1]);
	return rc;
}

/* Requests out of sessions: one a turn. */
#include <stdlib.h>
#include "sim/trace/stats.h"

static int by_time(const void *a, const void *b)
{
	const struct stat_request *x = a, *y = b;
	if (x->at_ms != y->at_ms)
		return x->at_ms < y->at_ms ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return x->turn < y->turn ? -1 : x->turn > y->turn;
}

struct walk {
	uint32_t context;
	uint32_t held, before; /* tokens of the input before it that are still there; that input */
	double at_ms;
};

/* The turn that begins at event r->first. Without content ids, `hits` is what is left of the input before. */
static bool read_turn(const struct session *s, struct walk *w, struct stat_request *r)
{
	bool sent = false, named = false;
	uint32_t turn = s->events[r->first].turn, i = r->first;
	for (; i < s->event_count && s->events[i].turn == turn; i++) {
		const struct session_event *e = &s->events[i];
		if (e->op == SESSION_WAIT) {
			w->at_ms += e->wait_ms;
			r->wait_ms += e->wait_ms;
		} else if (e->op == SESSION_COMPACT) {
			w->context = e->tokens;
			w->held = w->held < w->context ? w->held : w->context;
			r->cut = r->cut || !sent;
		} else if (e->op == SESSION_APPEND) {
			w->context += e->tokens;
			named = named || e->hash_count > 0;
		} else {
			if (!sent) {
				r->input = w->context;
				r->sent = i;
				r->at_ms = w->at_ms;
			}
			sent = true;
			w->context += e->tokens;
			r->output += e->tokens;
		}
	}
	r->end = i;
	/* What enters and is not answered was sent where the trace names its blocks; see session_requests. */
	if (!sent && !named)
		return false;
	if (!sent) {
		r->input = w->context;
		r->sent = i;
		r->at_ms = w->at_ms;
	}
	r->hits = w->held < r->input ? w->held : r->input;
	w->held = w->before = r->input;
	return true;
}

static int add_session(const struct session *s, uint32_t number, struct trace_stats *out, struct ikv_err *err)
{
	struct walk w = {.at_ms = s->arrival_ms};
	uint32_t turns = 0;
	for (uint32_t i = 0; i < s->event_count;) {
		struct stat_request r = {.session = number, .turn = turns, .first = i};
		bool counts = read_turn(s, &w, &r);
		i = r.end;
		if (!counts)
			continue;
		if (out->request_count == out->request_cap) {
			uint32_t cap = out->request_cap < 1u << 30 ? out->request_cap * 2 + 256 : UINT32_MAX;
			if (out->request_count == UINT32_MAX)
				return ikv_err_set(err, IKV_BAD_INPUT, "more than %u requests", UINT32_MAX);
			if (ikv_grow(&out->requests, out->request_count, cap, sizeof *out->requests, err))
				return -1;
			out->request_cap = cap;
		}
		out->requests[out->request_count++] = r;
		turns++;
	}
	return turns ? stat_push(&out->values[STAT_TURNS], turns, err) : 0;
}

int stat_requests(const struct session_list *list, struct trace_stats *s, struct ikv_err *err)
{
	for (uint32_t i = 0; i < list->count; i++)
		if (add_session(&list->items[i], i, s, err))
			return -1;
	if (s->request_count)
		qsort(s->requests, s->request_count, sizeof *s->requests, by_time);
	return 0;
}

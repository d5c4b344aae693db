/* Published facts of traces, computed from sessions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/trace/trace.h"

/* Blocks that the request which ends here shares with the one before. */
static void compare(const struct session_chain *now, const struct session_chain *before, uint64_t *shared,
		    uint64_t *total)
{
	uint32_t n = 0;
	while (n < now->count && n < before->count && now->ids[n] == before->ids[n])
		n++;
	*shared += n;
	*total += now->count;
}

static int copy_chain(struct session_chain *to, const struct session_chain *from, struct ikv_err *err)
{
	if (to->cap < from->count) {
		if (ikv_grow(&to->ids, 0, from->cap, sizeof *to->ids, err))
			return -1;
		to->cap = from->cap;
	}
	if (from->count)
		memcpy(to->ids, from->ids, from->count * sizeof *to->ids);
	to->count = from->count;
	return 0;
}

int session_overlap(const struct session *s, uint64_t *shared, uint64_t *total, struct ikv_err *err)
{
	struct session_chain now = {0}, before = {0};
	int rc = 0;
	*shared = *total = 0;
	for (uint32_t i = 0; !rc && i < s->event_count; i++) {
		const struct session_event *e = &s->events[i];
		rc = session_chain_step(&now, s, e, err);
		if (rc || (i + 1 < s->event_count && s->events[i + 1].turn == e->turn))
			continue;
		if (e->turn > 0)
			compare(&now, &before, shared, total);
		rc = copy_chain(&before, &now, err);
	}
	session_chain_free(&now);
	session_chain_free(&before);
	return rc;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double quantile(const double *v, uint32_t n, double p)
{
	double at = p * (n - 1);
	uint32_t i = (uint32_t)at;
	return i + 1 < n ? v[i] + (at - i) * (v[i + 1] - v[i]) : v[n - 1];
}

/* The newest session is whole. */
static int close_root(struct overlap_tally *o, struct ikv_err *err)
{
	if (o->total) {
		if (o->count == o->cap) {
			uint32_t cap = o->cap * 2 + 64;
			if (ikv_grow(&o->percent, o->count, cap, sizeof *o->percent, err))
				return -1;
			o->cap = cap;
		}
		o->percent[o->count++] = 100.0 * (double)o->shared / (double)o->total;
	}
	free(o->root);
	o->root = NULL;
	o->shared = o->total = 0;
	return 0;
}

int overlap_add(struct overlap_tally *o, const struct session *s, struct ikv_err *err)
{
	uint64_t shared, total;
	size_t n = o->root ? strlen(o->root) : 0;
	bool agent = o->root && !strncmp(s->id, o->root, n) && s->id[n] == '/';
	if (!agent) {
		if (close_root(o, err))
			return -1;
		if (!(o->root = strdup(s->id)))
			return ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	if (session_overlap(s, &shared, &total, err))
		return -1;
	o->shared += shared;
	o->total += total;
	return 0;
}

int overlap_finish(struct overlap_tally *o, struct overlap_summary *out, struct ikv_err *err)
{
	*out = (struct overlap_summary){0};
	int rc = close_root(o, err);
	uint32_t n = o->count;
	if (!rc && n) {
		double sum = 0;
		for (uint32_t i = 0; i < n; i++)
			sum += o->percent[i];
		qsort(o->percent, n, sizeof *o->percent, ascending);
		*out = (struct overlap_summary){n,
						o->percent[0],
						quantile(o->percent, n, .25),
						quantile(o->percent, n, .5),
						quantile(o->percent, n, .75),
						sum / n};
	}
	ikv_free(o->percent);
	free(o->root);
	*o = (struct overlap_tally){0};
	return rc;
}

static int by_task(const void *a, const void *b)
{
	return strcmp((*(const struct session *const *)a)->task, (*(const struct session *const *)b)->task);
}

/* C(c, k) / C(n, k) as a product, which stays small. */
static double all_succeed(uint32_t c, uint32_t n, uint32_t k)
{
	double p = 1;
	for (uint32_t i = 0; i < k; i++)
		p *= c > i ? (double)(c - i) / (double)(n - i) : 0;
	return p;
}

int session_pass_k(const struct session_list *list, uint32_t k, double *out, struct ikv_err *err)
{
	const struct session **trial = ikv_alloc(list->count, sizeof *trial, err);
	uint32_t count = 0, tasks = 0;
	double sum = 0;
	if (!trial)
		return -1;
	for (uint32_t i = 0; i < list->count; i++)
		if (list->items[i].task && !isnan(list->items[i].reward))
			trial[count++] = &list->items[i];
	if (count)
		qsort(trial, count, sizeof *trial, by_task);
	for (uint32_t i = 0, end; i < count; i = end) {
		uint32_t good = 0;
		for (end = i; end < count && !strcmp(trial[i]->task, trial[end]->task); end++)
			good += fabs(trial[end]->reward - 1) < 1e-6;
		if (end - i < k)
			continue;
		sum += all_succeed(good, end - i, k);
		tasks++;
	}
	ikv_free(trial);
	*out = tasks ? sum / tasks : -1;
	return 0;
}

/* What a turn has done so far. */
struct turn {
	uint32_t context, input, output; /* tokens: now; when the request was sent; generated */
	bool asked, with_ids;
};

int session_requests(const struct session *s,
		     int (*fn)(void *ctx, const struct trace_request *r, struct ikv_err *err), void *ctx,
		     struct ikv_err *err)
{
	struct session_chain chain = {0};
	struct turn turn = {0};
	double now_ms = s->arrival_ms, sent_ms = now_ms;
	int rc = 0, line = 0;
	for (uint32_t i = 0; !rc && i < s->event_count; i++) {
		const struct session_event *e = &s->events[i];
		if (i == 0 || e->turn != e[-1].turn)
			turn = (struct turn){.context = turn.context};
		if (e->op == SESSION_WAIT)
			now_ms += e->wait_ms;
		if ((rc = session_chain_step(&chain, s, e, err)))
			break;
		if (e->op == SESSION_DECODE && !turn.asked) {
			turn.asked = true;
			turn.input = turn.context;
			sent_ms = now_ms;
		}
		turn.output += e->op == SESSION_DECODE ? e->tokens : 0;
		turn.with_ids |= e->op == SESSION_APPEND && e->hash_count;
		turn.context = chain.context;
		line = e->op == SESSION_WAIT ? line : e->line;
		if ((i + 1 < s->event_count && e[1].turn == e->turn) || !(turn.asked || turn.with_ids))
			continue;
		struct trace_request r = {.ids = chain.count ? chain.ids : NULL,
					  .count = chain.count,
					  .block_tokens = chain.count ? s->hash_block_tokens : 0,
					  .input = turn.asked ? turn.input : turn.context,
					  .output = turn.output,
					  .at_ms = turn.asked ? sent_ms : now_ms,
					  .line = line};
		rc = fn(ctx, &r, err);
	}
	session_chain_free(&chain);
	return rc;
}

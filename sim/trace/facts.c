/* Published facts of traces, computed from sessions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/trace/table.h"

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

/* Does `s` belong to the session `root`, as a subagent of it? */
static bool agent_of(const struct session *s, const char *root)
{
	size_t n = strlen(root);
	return !strncmp(s->id, root, n) && s->id[n] == '/';
}

int overlap_summarise(const struct session_list *list, struct overlap_summary *out, struct ikv_err *err)
{
	*out = (struct overlap_summary){0};
	double *percent = ikv_alloc(list->count, sizeof *percent, err), sum = 0;
	if (!percent)
		return -1;
	uint32_t n = 0;
	for (uint32_t i = 0; i < list->count;) {
		uint64_t shared = 0, total = 0;
		const char *root = list->items[i].id;
		do {
			uint64_t a, b;
			if (session_overlap(&list->items[i++], &a, &b, err)) {
				ikv_free(percent);
				return -1;
			}
			shared += a;
			total += b;
		} while (i < list->count && agent_of(&list->items[i], root));
		if (total) {
			percent[n] = 100.0 * (double)shared / (double)total;
			sum += percent[n++];
		}
	}
	if (n) {
		qsort(percent, n, sizeof *percent, ascending);
		*out = (struct overlap_summary){n,
						percent[0],
						quantile(percent, n, .25),
						quantile(percent, n, .5),
						quantile(percent, n, .75),
						sum / n};
	}
	ikv_free(percent);
	return 0;
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

static int ascending_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

int session_inputs(const struct session_list *list, uint32_t **out, uint64_t *count, struct ikv_err *err)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < list->count; i++)
		most += list->items[i].event_count;
	*count = 0;
	*out = ikv_alloc(most, sizeof **out, err);
	if (!*out)
		return -1;
	for (uint32_t i = 0; i < list->count; i++) {
		const struct session *s = &list->items[i];
		uint32_t context = 0;
		bool answered = false;
		for (uint32_t j = 0; j < s->event_count; j++) {
			const struct session_event *e = &s->events[j];
			if (j && e->turn != e[-1].turn)
				answered = false;
			if (e->op == SESSION_DECODE && !answered) {
				(*out)[(*count)++] = context;
				answered = true;
			}
			if (e->op == SESSION_APPEND || e->op == SESSION_DECODE)
				context += e->tokens;
			else if (e->op == SESSION_COMPACT)
				context = e->tokens;
		}
	}
	if (*count)
		qsort(*out, *count, sizeof **out, ascending_u32);
	return 0;
}

/* What the generated requests are: how many a session, when, how long. What they share is in twin_share.c. */
#include <math.h>
#include <stdlib.h>
#include "sim/trace/twin.h"

/* Random streams of a seed. */
enum { DRAW_TURNS = 1, DRAW_TIMES, DRAW_INPUTS, DRAW_OUTPUTS };
enum { TURNS_MAX = 100000, TOKENS_MAX = 100000000 };

uint32_t twin_blocks(const struct twin *t, uint32_t input)
{
	if (!t->block_tokens)
		return input;
	return t->partial ? ikv_pages(input, t->block_tokens) : input / t->block_tokens;
}

uint32_t twin_offer(const struct twin *t, uint32_t before, uint32_t input)
{
	/* A partial last block can be gone on from only by an input that ends in it. */
	if (input <= before)
		return twin_blocks(t, input);
	return t->block_tokens ? before / t->block_tokens : before;
}

void twin_plan_free(struct twin_plan *p)
{
	ikv_free(p->requests);
	ikv_free(p->first);
	ikv_free(p->arrival_ms);
	ikv_free(p->by_time);
	*p = (struct twin_plan){0};
}

/* Move turn counts, ascending, until they have the mean of the trace: it decides how much first and later requests
 * weigh. The ranks that are reported keep theirs. */
static void settle_mean(double *turns, size_t n, double mean)
{
	double left = floor(mean * (double)n + .5);
	for (size_t i = 0; i < n; i++)
		left -= turns[i];
	double step = left > 0 ? 1 : -1;
	for (bool moved = true; moved && left != 0;) {
		moved = false;
		/* Up from the end, down from the beginning, so that the order stays. */
		for (size_t k = 0; k < n && left != 0; k++) {
			size_t i = left > 0 ? n - 1 - k : k;
			size_t rank = i + 1, at[] = {(n + 1) / 2, (n * 9 + 9) / 10, (n * 99 + 99) / 100};
			double limit = step > 0 ? (i + 1 < n ? turns[i + 1] : turns[i]) : (i ? turns[i - 1] : 1);
			if (rank == at[0] || rank == at[1] || rank == at[2] ||
			    (step > 0 ? turns[i] + 1 > limit : turns[i] - 1 < limit))
				continue;
			turns[i] += step;
			left -= step;
			moved = true;
		}
	}
}

static int plan_turns(const struct twin *t, const struct generate_config *c, uint64_t seed, struct twin_plan *p,
		      struct ikv_err *err)
{
	struct ikv_rng r;
	double *turns;
	uint64_t total = 0;
	p->sessions = (uint32_t)c->count;
	if (twin_batch(&t->turns, p->sessions, &turns, err))
		return -1;
	for (uint32_t i = 0; i < p->sessions; i++) {
		double n = c->turns > 0 ? (double)c->turns : floor(turns[i] + .5);
		turns[i] = n < 1 ? 1 : n > TURNS_MAX ? TURNS_MAX : n;
	}
	if (c->turns <= 0)
		settle_mean(turns, p->sessions, t->turns_mean);
	ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_TURNS, 1);
	twin_shuffle(turns, p->sessions, &r);
	for (uint32_t i = 0; i < p->sessions; i++)
		total += (uint64_t)turns[i];
	int rc = total > INT32_MAX ? ikv_err_set(err, IKV_BAD_INPUT, "more than %d requests", INT32_MAX) : 0;
	p->count = (uint32_t)total;
	p->requests = rc ? NULL : ikv_alloc(p->count, sizeof *p->requests, err);
	p->first = p->requests ? ikv_alloc((size_t)p->sessions + 1, sizeof *p->first, err) : NULL;
	for (uint32_t i = 0, n = 0; p->first && i < p->sessions; i++) {
		for (uint32_t k = 0; k < (uint32_t)turns[i]; k++)
			p->requests[n++] = (struct twin_request){.session = i, .turn = k};
		p->first[i + 1] = n;
	}
	ikv_free(turns);
	return p->first ? 0 : -1;
}

struct timed {
	double at_ms;
	uint32_t place;
};

static int by_time(const void *a, const void *b)
{
	const struct timed *x = a, *y = b;
	if (x->at_ms != y->at_ms)
		return x->at_ms < y->at_ms ? -1 : 1;
	return x->place < y->place ? -1 : x->place > y->place;
}

/* Waits before later requests: some have none. */
static int plan_waits(const struct twin *t, struct ikv_rng *r, struct twin_plan *p, struct ikv_err *err)
{
	uint32_t later = p->count - p->sessions, waits = (uint32_t)(t->p_think * later + .5), n = 0;
	double *think = NULL, *wait = later ? ikv_alloc(later, sizeof *wait, err) : NULL;
	if (!later)
		return 0;
	if (!wait || (waits && twin_batch(&t->think_ms, waits, &think, err))) {
		ikv_free(wait);
		return -1;
	}
	for (uint32_t i = 0; i < waits; i++)
		wait[i] = think[i];
	twin_shuffle(wait, later, r);
	for (uint32_t i = 0; i < p->count; i++)
		if (p->requests[i].turn)
			p->requests[i].wait_ms = wait[n++];
	ikv_free(think);
	ikv_free(wait);
	return 0;
}

static int plan_times(const struct twin *t, uint64_t seed, struct twin_plan *p, struct ikv_err *err)
{
	struct ikv_rng r;
	double *gap = NULL, clock_ms = 0;
	ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_TIMES, 1);
	p->arrival_ms = ikv_alloc(p->sessions, sizeof *p->arrival_ms, err);
	p->by_time = p->arrival_ms ? ikv_alloc(p->count, sizeof *p->by_time, err) : NULL;
	struct timed *timed = p->by_time ? ikv_alloc(p->count, sizeof *timed, err) : NULL;
	if (!timed || plan_waits(t, &r, p, err) ||
	    (p->sessions > 1 && t->session_gap_ms.count &&
	     twin_batch(&t->session_gap_ms, p->sessions - 1, &gap, err))) {
		ikv_free(timed);
		return -1;
	}
	if (gap)
		twin_shuffle(gap, p->sessions - 1, &r);
	for (uint32_t i = 0; i < p->sessions; i++) {
		p->arrival_ms[i] = clock_ms;
		double at = clock_ms;
		for (uint32_t k = p->first[i]; k < p->first[i + 1]; k++) {
			at += p->requests[k].wait_ms;
			p->requests[k].at_ms = at;
			timed[k] = (struct timed){at, k};
		}
		clock_ms += gap && i + 1 < p->sessions ? gap[i] : 0;
	}
	qsort(timed, p->count, sizeof *timed, by_time);
	for (uint32_t i = 0; i < p->count; i++)
		p->by_time[i] = timed[i].place;
	ikv_free(gap);
	ikv_free(timed);
	return 0;
}

/* Draws from one table that follow each other evenly over its levels (multiples of the golden ratio, modulo 1). */
static double next_level(double *at)
{
	*at += 0.6180339887498949;
	*at -= floor(*at);
	return *at;
}

static uint32_t start_bin(const struct twin *t, uint32_t turns)
{
	uint32_t bin = 0;
	while (bin + 1 < t->start_bins && turns > t->start[bin].upto)
		bin++;
	return bin;
}

/* First inputs, by how many requests the session will have. */
static int plan_starts(const struct twin *t, const struct twin_plan *p, struct ikv_rng *r, double *raw,
		       struct ikv_err *err)
{
	for (uint32_t bin = 0; bin < t->start_bins; bin++) {
		double *value;
		size_t n = 0;
		for (uint32_t i = 0; i < p->sessions; i++)
			n += start_bin(t, p->first[i + 1] - p->first[i]) == bin;
		if (twin_batch(&t->start[bin].input, n, &value, err))
			return -1;
		twin_shuffle(value, n, r);
		n = 0;
		for (uint32_t i = 0; i < p->sessions; i++)
			if (start_bin(t, p->first[i + 1] - p->first[i]) == bin)
				raw[p->first[i]] = value[n++];
		ikv_free(value);
	}
	return 0;
}

/* A session's inputs follow from each other by factors that depend on the size reached; then all inputs of the batch
 * are moved to the quantiles of the trace, which keeps their order. */
static int plan_inputs(const struct twin *t, uint64_t seed, struct twin_plan *p, struct ikv_err *err)
{
	struct ikv_rng r;
	double *final = NULL, *raw = ikv_alloc(p->count, sizeof *raw, err), at[TWIN_BINS];
	uint32_t *order = NULL;
	int rc = raw ? 0 : -1;
	ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_INPUTS, 1);
	for (int i = 0; i < TWIN_BINS; i++)
		at[i] = ikv_rng_uniform(&r);
	if (!rc)
		rc = plan_starts(t, p, &r, raw, err);
	for (uint32_t i = 0; !rc && i < p->count; i++) {
		const struct twin_request *q = &p->requests[i];
		uint32_t bin = 0;
		if (!q->turn)
			continue;
		while (bin + 1 < t->later_bins && raw[i - 1] > t->later[bin].upto)
			bin++;
		raw[i] = raw[i - 1] * (t->later_bins ? draw_at(&t->later[bin].growth, next_level(&at[bin])) : 1);
		raw[i] = raw[i] < 1 ? 1 : raw[i] > TOKENS_MAX ? TOKENS_MAX : raw[i];
	}
	rc = rc || twin_order(raw, p->count, &order, err) || twin_batch(&t->input, p->count, &final, err) ? -1 : 0;
	for (uint32_t i = 0; !rc && i < p->count; i++) {
		double n = final[i] < 1 ? 1 : final[i] > TOKENS_MAX ? TOKENS_MAX : floor(final[i] + .5);
		p->requests[order[i]].input = (uint32_t)n;
	}
	ikv_free(final);
	ikv_free(raw);
	ikv_free(order);
	return rc;
}

/* Outputs go where the input after them has grown enough to hold them, as far as that works out. */
static int plan_outputs(const struct twin *t, uint64_t seed, struct twin_plan *p, struct ikv_err *err)
{
	struct ikv_rng r;
	double *target = NULL, *wish = ikv_alloc(p->count, sizeof *wish, err);
	double *bound = wish ? ikv_alloc(p->count, sizeof *bound, err) : NULL;
	double *got = bound ? ikv_alloc(p->count, sizeof *got, err) : NULL;
	int rc = got && !twin_batch(&t->output, p->count, &target, err) ? 0 : -1;
	ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_OUTPUTS, 1);
	for (uint32_t i = 0; !rc && i < p->count; i++) {
		const struct twin_request *q = &p->requests[i];
		target[i] = floor(target[i] + .5);
		wish[i] = ikv_rng_uniform(&r);
		bool grows = i + 1 < p->count && q[1].turn && q[1].input > q->input;
		bound[i] = grows ? q[1].input - q->input - 1 : TOKENS_MAX;
	}
	/* What fits nowhere is generated all the same, and left out of the input after it. */
	if (!rc)
		rc = twin_assign(wish, bound, target, p->count, true, got, err);
	for (uint32_t i = 0; !rc && i < p->count; i++)
		p->requests[i].output = (uint32_t)(got[i] > TOKENS_MAX ? TOKENS_MAX : got[i]);
	ikv_free(target);
	ikv_free(wish);
	ikv_free(bound);
	ikv_free(got);
	return rc;
}

/* Options that bound a session, as for the other models: its longest context becomes about context_tokens, and its
 * outputs at most max_decode_tokens. */
static void scale(const struct generate_config *c, struct twin_plan *p)
{
	for (uint32_t i = 0; i < p->sessions; i++) {
		uint64_t most = 1, decoded = 0;
		for (uint32_t k = p->first[i]; k < p->first[i + 1]; k++) {
			uint64_t n = (uint64_t)p->requests[k].input + p->requests[k].output;
			most = n > most ? n : most;
			decoded += p->requests[k].output;
		}
		double in = c->context_tokens > 0 ? (double)c->context_tokens / (double)most : 1,
		       out = in < 1 ? in : 1;
		if (c->max_decode_tokens > 0 && (double)decoded * out > (double)c->max_decode_tokens)
			out = (double)c->max_decode_tokens / (double)decoded;
		for (uint32_t k = p->first[i]; k < p->first[i + 1]; k++) {
			struct twin_request *q = &p->requests[k];
			double n = q->input * in;
			q->input = n < 1 ? 1 : n > TOKENS_MAX ? TOKENS_MAX : (uint32_t)n;
			q->output = (uint32_t)(q->output * out);
		}
	}
}

int twin_plan(const struct twin *t, const struct generate_config *c, uint64_t seed, struct twin_plan *p,
	      struct ikv_err *err)
{
	*p = (struct twin_plan){0};
	if (plan_turns(t, c, seed, p, err) || plan_times(t, seed, p, err) || plan_inputs(t, seed, p, err) ||
	    plan_outputs(t, seed, p, err)) {
		twin_plan_free(p);
		return -1;
	}
	if (c->context_tokens > 0 || c->max_decode_tokens > 0)
		scale(c, p);
	uint64_t blocks = 0;
	for (uint32_t i = 0; i < p->count; i++)
		blocks += p->requests[i].blocks = twin_blocks(t, p->requests[i].input);
	if (t->block_tokens && blocks > UINT32_MAX) {
		twin_plan_free(p);
		return ikv_err_set(err, IKV_BAD_INPUT, "the profile asks for %llu content ids, expected at most %u",
				   (unsigned long long)blocks, UINT32_MAX);
	}
	if (twin_share(t, seed, p, err)) {
		twin_plan_free(p);
		return -1;
	}
	return 0;
}

/* How much of its input each generated request shares with earlier ones, and with which. */
#include <math.h>
#include <stdlib.h>
#include "sim/trace/twin.h"

enum { DRAW_SHARED = 5, DRAW_KEPT, DRAW_DONORS, SEARCH_MAX = 4096 };
/* Shares drawn for each request are moved to the trace's quantiles only where they miss one by more than this. */
#define DRAWN_WELL 0.03

/* What a request can take over: blocks, from the longest input before it that it may share with. */
struct offers {
	uint32_t *of;      /* [count] blocks offered to each request */
	double *wish;      /* [count] share of the input, as drawn */
	uint32_t *scratch; /* [count] */
};

static double next_level(double *at)
{
	*at += 0.6180339887498949;
	*at -= floor(*at);
	return *at;
}

static void find_offers(const struct twin *t, const struct twin_plan *p, struct offers *o)
{
	uint32_t longest = 0;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct twin_request *q = &p->requests[i];
		uint32_t *most = &o->scratch[i]; /* the longest input of the session so far */
		*most = q->turn && o->scratch[i - 1] > q->input ? o->scratch[i - 1] : q->input;
		if (!q->turn)
			continue;
		/* Without ids nothing but the request before can be seen to be shared. */
		o->of[i] = twin_offer(t, t->block_tokens ? o->scratch[i - 1] : q[-1].input, q->input);
	}
	for (uint32_t n = 0; t->block_tokens && t->global && n < p->count; n++) {
		const struct twin_request *q = &p->requests[p->by_time[n]];
		if (!q->turn && n)
			o->of[p->by_time[n]] = twin_offer(t, longest, q->input);
		longest = q->input > longest ? q->input : longest;
	}
}

/* Places of first (or later) requests in order of time, so that what is drawn does not hang on the sessions' order.
 */
static void draw_first(const struct twin *t, const struct twin_plan *p, struct ikv_rng *r, struct offers *o)
{
	double at[TWIN_BINS];
	for (int i = 0; i < TWIN_BINS; i++)
		at[i] = ikv_rng_uniform(r);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct twin_request *q = &p->requests[i];
		uint32_t bin = 0;
		if (q->turn || !q->blocks || !t->first_bins)
			continue;
		while (bin + 1 < t->first_bins && q->input > t->first[bin].upto)
			bin++;
		double blocks = floor(draw_at(&t->first[bin].shared, next_level(&at[bin])) + .5);
		o->wish[i] = blocks / q->blocks;
	}
}

static void draw_later(const struct twin *t, const struct twin_plan *p, struct ikv_rng *r, struct offers *o)
{
	double at[TWIN_BINS];
	for (int i = 0; i < TWIN_BINS; i++)
		at[i] = ikv_rng_uniform(r);
	for (uint32_t i = 0; i < p->count; i++) {
		const struct twin_request *q = &p->requests[i];
		uint32_t bin = 0;
		if (!q->turn || !q->blocks || !t->later_bins)
			continue;
		while (bin + 1 < t->later_bins && q[-1].input > t->later[bin].upto)
			bin++;
		double kept = draw_at(&t->later[bin].kept, next_level(&at[bin]));
		o->wish[i] = floor(kept * o->of[i] + .5) / q->blocks;
	}
}

static bool near(double got, double wanted)
{
	return fabs(got - wanted) <= DRAWN_WELL * wanted;
}

/* Blocks kept: as drawn where the draws have the trace's percentiles, else as near as the offers allow. `at`: places
 * of the requests with blocks. */
static int settle(const struct twin *t, const struct offers *o, struct twin_plan *p, const uint32_t *at, uint32_t n,
		  struct ikv_err *err)
{
	double *wish = ikv_alloc(n, sizeof *wish, err), *bound = wish ? ikv_alloc(n, sizeof *bound, err) : NULL;
	double *got = bound ? ikv_alloc(n, sizeof *got, err) : NULL, *target = NULL;
	uint32_t *order = NULL;
	int rc = got ? 0 : -1;
	for (uint32_t i = 0; !rc && i < n; i++) {
		bound[i] = (double)o->of[at[i]] / p->requests[at[i]].blocks;
		got[i] = wish[i] = o->wish[at[i]] < bound[i] ? o->wish[at[i]] : bound[i];
	}
	rc = rc || twin_batch(&t->prefix_hit, n, &target, err) || twin_order(wish, n, &order, err) ? -1 : 0;
	if (!rc) {
		static const double levels[] = {.5, .9, .99};
		bool well = true;
		for (int i = 0; i < 3; i++) {
			size_t k = (size_t)ceil(levels[i] * n - 1e-9 * n);
			k = k ? k - 1 : 0;
			well = well && near(wish[order[k]], target[k]);
		}
		if (!well)
			rc = twin_assign(wish, bound, target, n, got, err);
	}
	for (uint32_t i = 0; !rc && i < n; i++) {
		struct twin_request *q = &p->requests[at[i]];
		double kept = floor(got[i] * q->blocks + .5);
		q->kept = kept > o->of[at[i]] ? o->of[at[i]] : (uint32_t)kept;
		/* Nearly all that is offered: the session goes on rather than being cut a little. */
		if (q->turn && o->wish[at[i]] >= bound[i] && q->kept + q->blocks / 100 >= o->of[at[i]])
			q->kept = o->of[at[i]];
	}
	ikv_free(wish);
	ikv_free(bound);
	ikv_free(got);
	ikv_free(target);
	ikv_free(order);
	return rc;
}

static bool can_give(const struct twin *t, const struct twin_plan *p, uint32_t donor, const struct twin_request *to)
{
	return twin_offer(t, p->requests[donor].input, to->input) >= to->kept;
}

/* A first request takes the start of one about `age` requests before it; the nearest that is long enough. `longest`
 * is the place in by_time of the longest input so far. */
static uint32_t find_donor(const struct twin *t, const struct twin_plan *p, uint32_t now, double age,
			   uint32_t longest)
{
	const struct twin_request *to = &p->requests[p->by_time[now]];
	uint32_t start = age >= now ? 0 : age < 1 ? now - 1 : now - (uint32_t)age;
	for (uint32_t d = 0; d < SEARCH_MAX; d++) {
		if (start + d < now && can_give(t, p, p->by_time[start + d], to))
			return p->by_time[start + d];
		if (d <= start && can_give(t, p, p->by_time[start - d], to))
			return p->by_time[start - d];
	}
	return p->by_time[longest];
}

static void find_donors(const struct twin *t, uint64_t seed, struct twin_plan *p)
{
	struct ikv_rng r;
	uint32_t longest = 0;
	ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_DONORS, 1);
	double at = ikv_rng_uniform(&r);
	for (uint32_t n = 0; n < p->count; n++) {
		uint32_t place = p->by_time[n];
		struct twin_request *q = &p->requests[place];
		q->donor = place;
		if (q->turn && q->kept) {
			/* The newest of the session that has it. */
			for (q->donor = place - 1; p->requests[q->donor].turn && !can_give(t, p, q->donor, q);)
				q->donor--;
		} else if (q->kept) {
			double age = t->reuse_age.count ? draw_at(&t->reuse_age, next_level(&at)) : 1;
			q->donor = find_donor(t, p, n, age, longest);
		}
		if (q->input > p->requests[p->by_time[longest]].input)
			longest = n;
	}
}

int twin_share(const struct twin *t, uint64_t seed, struct twin_plan *p, struct ikv_err *err)
{
	struct ikv_rng r;
	struct offers o = {0};
	o.of = ikv_alloc(p->count, sizeof *o.of, err);
	o.wish = o.of ? ikv_alloc(p->count, sizeof *o.wish, err) : NULL;
	o.scratch = o.wish ? ikv_alloc(p->count, sizeof *o.scratch, err) : NULL;
	int rc = o.scratch ? 0 : -1;
	if (!rc) {
		uint32_t n = 0;
		find_offers(t, p, &o);
		ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_SHARED, 1);
		draw_first(t, p, &r, &o);
		ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_KEPT, 1);
		draw_later(t, p, &r, &o);
		for (uint32_t i = 0; i < p->count; i++)
			if (p->requests[i].blocks)
				o.scratch[n++] = i;
		rc = n ? settle(t, &o, p, o.scratch, n, err) : 0;
	}
	if (!rc)
		find_donors(t, seed, p);
	ikv_free(o.of);
	ikv_free(o.wish);
	ikv_free(o.scratch);
	return rc;
}

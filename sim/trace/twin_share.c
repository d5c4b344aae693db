/* How much of its input each generated request shares with earlier ones, and with which. */
#include <math.h>
#include <stdlib.h>
#include "sim/trace/twin.h"

enum { DRAW_SHARED = 5, DRAW_KEPT, DRAW_DONORS, SEARCH_MAX = 4096 };
/* Shares drawn for each request are moved to the trace's quantiles only where they miss one by more than this. */
#define DRAWN_WELL 0.04

/* What a request can take over: blocks, from the longest input before it that it may share with. */
struct offers {
	uint32_t *of;      /* [count] blocks offered to each request, at most */
	uint32_t *whole;   /* [count] blocks of a request that was drawn to go on from all of one before, else 0 */
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
		double level = next_level(&at[bin]), kept = draw_at(&t->later[bin].kept, level);
		uint32_t before = twin_offer(t, q[-1].input, q->input);
		bool back = ikv_rng_uniform(r) < t->later[bin].p_back && o->of[i] > before;
		uint32_t blocks = back ? o->of[i] : (uint32_t)(kept * before + .5);
		o->wish[i] = (double)blocks / q->blocks;
		if (back || blocks == before)
			o->whole[i] = blocks;
	}
}

struct settling {
	const struct offers *o;
	const uint32_t *at; /* places of the requests with blocks */
	uint32_t n;
	double *wish, *bound, *target, *got, *share; /* share: what comes out, in whole blocks */
};

/* Blocks kept with `weight` of the way from the draws to what has the trace's quantiles. Sessions that were drawn to
 * go on do so, unless that alone keeps the quantiles from coming out (weight 1). */
static void mix(struct settling *s, struct twin_plan *p, double weight)
{
	for (uint32_t i = 0; i < s->n; i++) {
		struct twin_request *q = &p->requests[s->at[i]];
		uint32_t offer = s->o->of[s->at[i]];
		double share = s->wish[i] + weight * (s->got[i] - s->wish[i]), kept = floor(share * q->blocks + .5);
		uint32_t whole = s->o->whole[s->at[i]];
		q->kept = kept > offer ? offer : (uint32_t)kept;
		/* Rounding must not turn nearly all of a short input into all of it. */
		if (share < 1 - 1e-9 && q->kept == q->blocks)
			q->kept--;
		if (whole && (weight < 1 || fabs(kept - whole) <= q->blocks / 100.))
			q->kept = whole;
		s->share[i] = (double)q->kept / q->blocks;
	}
}

/* The percentiles that must come out, and their ranks. */
struct pin {
	size_t rank;
	double share;
};
enum { PINS = 3 };

static void find_pins(const struct settling *s, struct pin pins[PINS])
{
	static const double levels[PINS] = {.5, .9, .99};
	for (int i = 0; i < PINS; i++) {
		size_t k = (size_t)ceil(levels[i] * s->n - 1e-9 * s->n);
		pins[i].rank = k ? k - 1 : 0;
		pins[i].share = s->target[pins[i].rank];
	}
}

static int misses(const struct settling *s, double *most, struct ikv_err *err)
{
	struct pin pins[PINS];
	uint32_t *order;
	if (twin_order(s->share, s->n, &order, err))
		return -1;
	*most = 0;
	find_pins(s, pins);
	for (int i = 0; i < PINS; i++) {
		double wanted = pins[i].share, miss = fabs(s->share[order[pins[i].rank]] - wanted);
		miss = wanted > 0 ? miss / wanted : miss > 0 ? 1 : 0;
		*most = miss > *most ? miss : *most;
	}
	ikv_free(order);
	return 0;
}

/* `kept` of a request so that its share lies from `low` to `high`, or, if whole blocks do not allow that, below or
 * above both. */
static uint32_t between(const struct twin_request *q, uint32_t offer, double low, double high, bool above)
{
	double least = ceil(low * q->blocks - 1e-9), most = floor(high * q->blocks + 1e-9), kept = q->kept;
	if (least > most)
		kept = above ? least : most;
	else
		kept = kept > most ? most : kept < least ? least : kept;
	return kept > offer ? offer : (uint32_t)kept;
}

/* Short inputs have few shares to choose from, and rounding them all may pass a percentile by. Each request then
 * stays on its side of the percentiles, and below each one the request that can have just that share gets it. */
static int pin_percentiles(struct settling *s, struct twin_plan *p, bool above, struct ikv_err *err)
{
	struct pin pins[PINS];
	uint32_t *order;
	if (twin_order(s->share, s->n, &order, err))
		return -1;
	find_pins(s, pins);
	for (size_t r = 0, m = 0; r < s->n; r++) {
		while (m < PINS && r > pins[m].rank)
			m++;
		uint32_t i = order[r], offer = s->o->of[s->at[i]];
		struct twin_request *q = &p->requests[s->at[i]];
		q->kept = between(q, offer, m ? pins[m - 1].share : 0, m < PINS ? pins[m].share : 1, above);
	}
	for (size_t m = 0; m < PINS; m++) {
		struct twin_request *best = NULL;
		double least = 1, wanted = pins[m].share;
		for (size_t r = m ? pins[m - 1].rank + 1 : 0; r <= pins[m].rank; r++) {
			uint32_t i = order[pins[m].rank - (r - (m ? pins[m - 1].rank + 1 : 0))];
			struct twin_request *q = &p->requests[s->at[i]];
			double kept = floor(wanted * q->blocks + .5), miss = fabs(kept / q->blocks - wanted);
			if (kept <= s->o->of[s->at[i]] && miss < least - 1e-9) {
				least = miss;
				best = q;
			}
		}
		if (best)
			best->kept = (uint32_t)floor(wanted * best->blocks + .5);
	}
	for (uint32_t i = 0; i < s->n; i++)
		s->share[i] = (double)p->requests[s->at[i]].kept / p->requests[s->at[i]].blocks;
	ikv_free(order);
	return 0;
}

/* Blocks kept: as drawn where the draws have the trace's percentiles, else moved as little as brings them near,
 * within the offers. */
static int settle(const struct twin *t, struct settling *s, struct twin_plan *p, struct ikv_err *err)
{
	static const double weights[] = {0, .25, .5, .75, .999, 1};
	enum { WEIGHTS = sizeof weights / sizeof *weights };
	double miss[WEIGHTS];
	int best = 0;
	for (uint32_t i = 0; i < s->n; i++) {
		uint32_t place = s->at[i];
		s->bound[i] = (double)s->o->of[place] / p->requests[place].blocks;
		s->wish[i] = s->o->wish[place] < s->bound[i] ? s->o->wish[place] : s->bound[i];
	}
	if (twin_batch(&t->prefix_hit, s->n, &s->target, err) ||
	    twin_assign(s->wish, s->bound, s->target, s->n, false, s->got, err))
		return -1;
	for (int i = 0; i < WEIGHTS; i++) {
		mix(s, p, weights[i]);
		if (misses(s, &miss[i], err))
			return -1;
		if (miss[i] < miss[best])
			best = i;
		if (miss[i] <= DRAWN_WELL)
			return 0;
	}
	/* Few are above the highest percentile and many below the median, so below first. */
	double pinned[2];
	for (int above = 0; above < 2; above++) {
		mix(s, p, weights[best]);
		if (pin_percentiles(s, p, above, err) || misses(s, &pinned[above], err))
			return -1;
		if (pinned[above] <= DRAWN_WELL)
			return 0;
	}
	mix(s, p, weights[best]);
	if (pinned[0] < miss[best] && pinned[0] <= pinned[1])
		return pin_percentiles(s, p, false, err);
	if (pinned[1] < miss[best])
		return pin_percentiles(s, p, true, err);
	return 0;
}

static int share_all(const struct twin *t, const struct offers *o, struct twin_plan *p, struct ikv_err *err)
{
	struct settling s = {.o = o, .at = o->scratch};
	for (uint32_t i = 0; i < p->count; i++)
		if (p->requests[i].blocks)
			o->scratch[s.n++] = i;
	if (!s.n || !t->prefix_hit.count)
		return 0;
	s.wish = ikv_alloc(s.n, sizeof *s.wish, err);
	s.bound = s.wish ? ikv_alloc(s.n, sizeof *s.bound, err) : NULL;
	s.got = s.bound ? ikv_alloc(s.n, sizeof *s.got, err) : NULL;
	s.share = s.got ? ikv_alloc(s.n, sizeof *s.share, err) : NULL;
	int rc = s.share ? settle(t, &s, p, err) : -1;
	ikv_free(s.wish);
	ikv_free(s.bound);
	ikv_free(s.got);
	ikv_free(s.share);
	ikv_free(s.target);
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
	o.whole = o.of ? ikv_alloc(p->count, sizeof *o.whole, err) : NULL;
	o.wish = o.whole ? ikv_alloc(p->count, sizeof *o.wish, err) : NULL;
	o.scratch = o.wish ? ikv_alloc(p->count, sizeof *o.scratch, err) : NULL;
	int rc = o.scratch ? 0 : -1;
	if (!rc) {
		find_offers(t, p, &o);
		ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_SHARED, 1);
		draw_first(t, p, &r, &o);
		ikv_rng_stream(&r, seed, IKV_STREAM_SESSION, DRAW_KEPT, 1);
		draw_later(t, p, &r, &o);
		rc = share_all(t, &o, p, err);
	}
	if (!rc)
		find_donors(t, seed, p);
	ikv_free(o.of);
	ikv_free(o.whole);
	ikv_free(o.wish);
	ikv_free(o.scratch);
	return rc;
}

/* Fitting a profile of the model "requests" to a trace. */
#include <math.h>
#include <stdlib.h>
#include "sim/trace/stats.h"
#include "sim/trace/twin.h"

/* A bin holds at least so many values, or there are fewer bins. */
enum { BIN_VALUES_MIN = 40, LADDER_MAX = 100 };

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* Levels of a table: every value where they are few, else denser around the percentiles that are reported and at the
 * ends. */
static uint32_t ladder(size_t n, double *level)
{
	static const double fine[] = {
	    0,    .001, .002, .005, .01,  .02,  .03,   .04,  .06,  .08,  .1,   .12,  .14,  .16,  .18, .2,
	    .22,  .24,  .26,  .28,  .3,   .32,  .34,   .36,  .38,  .4,   .42,  .44,  .46,  .48,  .49, .498,
	    .5,   .502, .51,  .52,  .54,  .56,  .58,   .6,   .62,  .64,  .66,  .68,  .7,   .72,  .74, .76,
	    .78,  .8,   .82,  .84,  .86,  .88,  .89,   .898, .9,   .902, .91,  .92,  .93,  .94,  .95, .96,
	    .965, .97,  .975, .98,  .984, .987, .9885, .99,  .991, .993, .995, .997, .998, .999, 1};
	uint32_t count = 0;
	if (n > sizeof fine / sizeof *fine) {
		for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
			level[count++] = fine[i];
		return count;
	}
	static const double reported[] = {.5, .9, .99};
	int next = 0;
	for (size_t i = 1; i <= n; i++) {
		double at = (double)i / (double)n;
		for (; next < 3 && reported[next] < at - 1e-9; next++)
			level[count++] = reported[next];
		if (next < 3 && fabs(reported[next] - at) <= 1e-9)
			next++;
		level[count++] = at;
	}
	return count;
}

/* Sorts v. Points on the straight line between their neighbours are left out. */
static void tabulate(double *v, size_t n, struct draw_table *t)
{
	double level[LADDER_MAX], value[LADDER_MAX];
	t->count = 0;
	if (!n)
		return;
	qsort(v, n, sizeof *v, ascending);
	uint32_t count = ladder(n, level);
	for (uint32_t i = 0; i < count; i++)
		value[i] = stat_at(v, n, level[i]);
	for (uint32_t i = 0; i < count; i++) {
		bool flat = i && i + 1 < count && value[i - 1] == value[i] && value[i] == value[i + 1];
		if (flat)
			continue;
		t->level[t->count] = level[i];
		t->value[t->count++] = value[i];
	}
}

static void tabulate_stat(const struct stat_values *v, double factor, struct draw_table *t)
{
	/* Already ascending. */
	tabulate(v->v, v->count, t);
	for (uint32_t i = 0; i < t->count; i++)
		t->value[i] *= factor;
}

/* What a request had before it. */
struct fit_request {
	const struct stat_request *r;
	uint32_t before, longest; /* inputs of its session: the one before, the longest so far; 0: none */
};

struct fit {
	const struct trace_stats *s;
	struct twin *t;
	struct fit_request *requests; /* in order of time */
	double *v;                    /* scratch, a value a request */
	double *sizes;                /* scratch */
};

static uint32_t bins_for(size_t n)
{
	size_t bins = n / BIN_VALUES_MIN;
	return bins < 1 ? (n > 0) : bins > TWIN_BINS ? TWIN_BINS : (uint32_t)bins;
}

static uint32_t size_of(const struct fit_request *q)
{
	return q->r->turn ? q->before : q->r->input;
}

/* Edges of bins with about as many requests each: first requests by their input, later ones by the input before. */
static uint32_t find_edges(struct fit *f, bool later, double *edge)
{
	size_t n = 0;
	for (uint32_t i = 0; i < f->s->request_count; i++)
		if ((f->requests[i].r->turn > 0) == later)
			f->sizes[n++] = size_of(&f->requests[i]);
	uint32_t bins = bins_for(n);
	if (n)
		qsort(f->sizes, n, sizeof *f->sizes, ascending);
	for (uint32_t b = 0; b < bins; b++)
		edge[b] = stat_at(f->sizes, n, (double)(b + 1) / bins);
	uint32_t kept = 0;
	for (uint32_t b = 0; b < bins; b++)
		if (!kept || edge[b] > edge[kept - 1])
			edge[kept++] = edge[b];
	return kept;
}

static bool in_bin(const struct fit_request *q, bool later, const double *edge, uint32_t b, uint32_t bins)
{
	double size = size_of(q);
	return (q->r->turn > 0) == later && (b == 0 || size > edge[b - 1]) && (b + 1 == bins || size <= edge[b]);
}

/* First inputs, by the requests of their sessions: `turns` of each. */
static void fit_start(struct fit *f, const uint32_t *turns)
{
	const struct stat_values *all = &f->s->values[STAT_TURNS];
	size_t bins = all->count / BIN_VALUES_MIN;
	bins = bins < 1 ? 1 : bins > TWIN_START_BINS ? TWIN_START_BINS : bins;
	double edge[TWIN_START_BINS];
	for (uint32_t b = 0; b < bins; b++) {
		/* Among sessions weighted by their requests: single requests are otherwise all that is seen. */
		uint64_t sum = 0, want = (uint64_t)f->s->request_count * (b + 1) / bins;
		size_t i = 0;
		while (i + 1 < all->count && (sum += (uint64_t)all->v[i]) < want)
			i++;
		edge[b] = b + 1 == bins ? all->v[all->count - 1] : all->v[i];
	}
	for (uint32_t b = 0; b < bins; b++) {
		struct twin_start_bin *bin = &f->t->start[f->t->start_bins];
		size_t n = 0;
		for (uint32_t i = 0; i < f->s->request_count; i++) {
			const struct stat_request *r = &f->s->requests[i];
			double k = turns[r->session];
			if (!r->turn && (b == 0 || k > edge[b - 1]) && k <= edge[b])
				f->v[n++] = r->input;
		}
		bin->upto = edge[b];
		tabulate(f->v, n, &bin->input);
		f->t->start_bins += n > 0;
	}
}

static void fit_first(struct fit *f)
{
	double edge[TWIN_BINS];
	uint32_t bins = f->t->block_tokens ? find_edges(f, false, edge) : 0, filled = 0;
	for (uint32_t b = 0; b < bins; b++) {
		struct twin_first_bin *bin = &f->t->first[filled];
		size_t n = 0;
		for (uint32_t i = 0; i < f->s->request_count; i++)
			if (f->requests[i].r->blocks && in_bin(&f->requests[i], false, edge, b, bins))
				f->v[n++] = f->requests[i].r->hits;
		tabulate(f->v, n, &bin->shared);
		bin->upto = edge[b];
		filled += n > 0;
	}
	f->t->first_bins = filled;
}

static void fit_later(struct fit *f)
{
	double edge[TWIN_BINS];
	uint32_t bins = find_edges(f, true, edge), filled = 0;
	for (uint32_t b = 0; b < bins; b++) {
		struct twin_later_bin *bin = &f->t->later[filled];
		size_t n = 0, kept = 0, back = 0;
		for (uint32_t i = 0; i < f->s->request_count; i++) {
			const struct fit_request *q = &f->requests[i];
			if (!in_bin(q, true, edge, b, bins) || !q->before)
				continue;
			f->v[n++] = (double)q->r->input / q->before;
			uint32_t offer = twin_offer(f->t, q->before, q->r->input);
			back += q->r->hits > offer && q->longest > q->before;
			if (offer)
				f->sizes[kept++] = q->r->hits < offer ? (double)q->r->hits / offer : 1;
		}
		tabulate(f->v, n, &bin->growth);
		tabulate(f->sizes, kept, &bin->kept);
		bin->p_back = n ? (double)back / (double)n : 0;
		bin->upto = edge[b];
		filled += n && kept;
	}
	f->t->later_bins = filled;
}

static void fit_series(struct fit *f)
{
	struct twin *t = f->t;
	const struct trace_stats *s = f->s;
	size_t age = 0, waits = 0;
	tabulate_stat(&s->values[STAT_TURNS], 1, &t->turns);
	tabulate_stat(&s->values[STAT_INPUT], 1, &t->input);
	tabulate_stat(&s->values[STAT_OUTPUT], 1, &t->output);
	tabulate_stat(&s->values[STAT_PREFIX_HIT], 1, &t->prefix_hit);
	tabulate_stat(&s->values[STAT_ARRIVAL], 1e3, &t->session_gap_ms);
	for (uint32_t i = 0; i < s->request_count; i++)
		if (!s->requests[i].turn && s->requests[i].age)
			f->v[age++] = s->requests[i].age;
	tabulate(f->v, age, &t->reuse_age);
	for (uint32_t i = 0; i < s->request_count; i++)
		if (s->requests[i].turn && s->requests[i].wait_ms > 0)
			f->v[waits++] = s->requests[i].wait_ms;
	tabulate(f->v, waits, &t->think_ms);
	t->p_think = s->later ? (double)waits / (double)s->later : 0;
}

/* Kinds: of what enters with a request, before it is answered. */
static void entering(const struct session *s, const struct stat_request *r, double *tokens)
{
	for (uint32_t i = r->first; i < r->sent; i++)
		if (s->events[i].op == SESSION_APPEND)
			tokens[s->events[i].kind] += s->events[i].tokens;
}

static void to_shares(double *tokens)
{
	double sum = 0;
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		sum += tokens[k];
	for (int k = 0; sum > 0 && k < IKV_KIND_COUNT; k++)
		tokens[k] /= sum;
}

static void fit_kinds(struct fit *f, const struct session_list *list)
{
	struct twin *t = f->t;
	const struct trace_stats *s = f->s;
	size_t n = 0;
	for (uint32_t i = 0; i < s->request_count; i++) {
		const struct stat_request *r = &s->requests[i];
		const struct session *from = &list->items[r->session];
		double tokens[IKV_KIND_COUNT] = {0}, sum = 0;
		entering(from, r, r->turn ? tokens : t->first_kinds);
		for (int k = 0; k < IKV_KIND_COUNT; k++)
			sum += tokens[k];
		if (sum > 0)
			f->v[n++] = sum;
		for (uint32_t k = r->first; k < r->end; k++)
			if (from->events[k].op == SESSION_DECODE)
				t->output_kinds[from->events[k].kind] += from->events[k].tokens;
	}
	if (n)
		qsort(f->v, n, sizeof *f->v, ascending);
	t->kind_bins = n == 0 ? 0 : n < TWIN_KIND_BINS * BIN_VALUES_MIN ? 1 : TWIN_KIND_BINS;
	/* Where many are alike, quartiles coincide: one bin for them. */
	uint32_t wanted = t->kind_bins;
	t->kind_bins = 0;
	for (uint32_t b = 0; b < wanted; b++) {
		double upto = stat_at(f->v, n, (double)(b + 1) / wanted);
		if (t->kind_bins == 0 || upto > t->kinds[t->kind_bins - 1].upto)
			t->kinds[t->kind_bins++].upto = upto;
	}
	for (uint32_t i = 0; t->kind_bins && i < s->request_count; i++) {
		double tokens[IKV_KIND_COUNT] = {0}, sum = 0;
		uint32_t bin = 0;
		if (!s->requests[i].turn)
			continue;
		entering(&list->items[s->requests[i].session], &s->requests[i], tokens);
		for (int k = 0; k < IKV_KIND_COUNT; k++)
			sum += tokens[k];
		while (bin + 1 < t->kind_bins && sum > t->kinds[bin].upto)
			bin++;
		for (int k = 0; k < IKV_KIND_COUNT; k++)
			t->kinds[bin].share[k] += tokens[k];
	}
	to_shares(t->first_kinds);
	to_shares(t->output_kinds);
	for (uint32_t b = 0; b < t->kind_bins; b++)
		to_shares(t->kinds[b].share);
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		t->confidence[k] = s->roles[k].tokens ? s->roles[k].confidence : 1;
}

static int look_back(struct fit *f, uint32_t **turns, struct ikv_err *err)
{
	uint32_t n = f->s->sessions;
	uint32_t *before = ikv_alloc(n, sizeof *before, err),
		 *longest = before ? ikv_alloc(n, sizeof *longest, err) : NULL;
	*turns = longest ? ikv_alloc(n, sizeof **turns, err) : NULL;
	for (uint32_t i = 0; *turns && i < f->s->request_count; i++) {
		const struct stat_request *r = &f->s->requests[i];
		f->requests[i] = (struct fit_request){r, before[r->session], longest[r->session]};
		before[r->session] = r->input;
		++(*turns)[r->session];
		if (r->input > longest[r->session])
			longest[r->session] = r->input;
	}
	ikv_free(before);
	ikv_free(longest);
	return *turns ? 0 : -1;
}

int twin_fit(const struct trace_stats *s, const struct session_list *list, struct twin *t, struct ikv_err *err)
{
	struct fit f = {.s = s, .t = t};
	uint32_t *turns = NULL;
	*t = (struct twin){.block_tokens = s->block_tokens, .global = s->global, .partial = s->partial};
	if (!s->request_count)
		return ikv_err_set(err, IKV_BAD_INPUT, "the trace has no request to fit a profile to");
	f.requests = ikv_alloc(s->request_count, sizeof *f.requests, err);
	f.v = f.requests ? ikv_alloc(s->request_count, sizeof *f.v, err) : NULL;
	f.sizes = f.v ? ikv_alloc(s->request_count, sizeof *f.sizes, err) : NULL;
	int rc = f.sizes ? look_back(&f, &turns, err) : -1;
	if (!rc) {
		/* Sessions without a request cannot be drawn. */
		t->sessions = (uint32_t)s->values[STAT_TURNS].count;
		t->turns_mean = (double)s->request_count / t->sessions;
		fit_series(&f);
		fit_start(&f, turns);
		fit_first(&f);
		fit_later(&f);
		fit_kinds(&f, list);
	}
	ikv_free(turns);
	ikv_free(f.requests);
	ikv_free(f.v);
	ikv_free(f.sizes);
	return rc;
}

/* Stratified draws: a batch takes each rank of a distribution once, so that chance does not move its percentiles. */
#include <math.h>
#include <stdlib.h>
#include "sim/trace/twin.h"

/* Level of a rank. The ranks that a reader by nearest rank takes for p50, p90 and p99 lie on these levels exactly;
 * others are spread evenly between them. Where ranks coincide the lower level counts. */
static double level_of(size_t rank, size_t n)
{
	static const double reported[] = {.5, .9, .99};
	double from_rank = 1, from = 1 / (double)n;
	for (int i = 0; i < 3; i++) {
		double at = ceil(reported[i] * (double)n - 1e-9 * (double)n);
		at = at < 1 ? 1 : at;
		if (i == 0 && at <= 1)
			from = reported[0];
		if ((double)rank <= at) {
			double share = at > from_rank ? ((double)rank - from_rank) / (at - from_rank) : 0;
			return at > from_rank ? from + share * (reported[i] - from) : from;
		}
		if (at > from_rank) {
			from_rank = at;
			from = reported[i];
		}
	}
	double share = (double)n > from_rank ? ((double)rank - from_rank) / ((double)n - from_rank) : 0;
	return from + share * (1 - from);
}

int twin_batch(const struct draw_table *t, size_t n, double **out, struct ikv_err *err)
{
	*out = ikv_alloc(n, sizeof **out, err);
	if (!*out)
		return -1;
	for (size_t i = 0; i < n; i++)
		(*out)[i] = draw_at(t, level_of(i + 1, n));
	return 0;
}

void twin_shuffle(double *v, size_t n, struct ikv_rng *r)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = (size_t)ikv_rng_below(r, i);
		double x = v[i - 1];
		v[i - 1] = v[k];
		v[k] = x;
	}
}

struct ranked {
	double value;
	uint32_t place;
};

static int by_value(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;
	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	return x->place < y->place ? -1 : x->place > y->place;
}

int twin_order(const double *v, size_t n, uint32_t **order, struct ikv_err *err)
{
	struct ranked *all = ikv_alloc(n, sizeof *all, err);
	*order = all ? ikv_alloc(n, sizeof **order, err) : NULL;
	for (size_t i = 0; *order && i < n; i++)
		all[i] = (struct ranked){v[i], (uint32_t)i};
	if (*order && n)
		qsort(all, n, sizeof *all, by_value);
	for (size_t i = 0; *order && i < n; i++)
		(*order)[i] = all[i].place;
	ikv_free(all);
	return *order ? 0 : -1;
}

/* A heap of places, the largest wish on top. */
struct heap {
	uint32_t *place;
	size_t count;
	const double *wish;
};

static bool above(const struct heap *h, size_t a, size_t b)
{
	double x = h->wish[h->place[a]], y = h->wish[h->place[b]];
	return x > y || (x == y && h->place[a] < h->place[b]);
}

static void swap(struct heap *h, size_t a, size_t b)
{
	uint32_t x = h->place[a];
	h->place[a] = h->place[b];
	h->place[b] = x;
}

static void heap_add(struct heap *h, uint32_t place)
{
	size_t i = h->count++;
	h->place[i] = place;
	for (; i && above(h, i, (i - 1) / 2); i = (i - 1) / 2)
		swap(h, i, (i - 1) / 2);
}

static uint32_t heap_take(struct heap *h)
{
	uint32_t top = h->place[0];
	h->place[0] = h->place[--h->count];
	for (size_t i = 0;;) {
		size_t best = i;
		for (size_t k = 2 * i + 1; k <= 2 * i + 2; k++)
			if (k < h->count && above(h, k, best))
				best = k;
		if (best == i)
			return top;
		swap(h, i, best);
		i = best;
	}
}

int twin_assign(const double *wish, const double *bound, const double *targets, size_t n, bool exceed, double *out,
		struct ikv_err *err)
{
	uint32_t *order;
	if (twin_order(bound, n, &order, err))
		return -1;
	struct heap h = {.place = ikv_alloc(n, sizeof *h.place, err), .wish = wish};
	size_t left = n; /* of `order`, from its end: items that no target fitted so far */
	for (size_t i = n; h.place && i-- > 0;) {
		while (left && bound[order[left - 1]] >= targets[i])
			heap_add(&h, order[--left]);
		if (h.count)
			out[heap_take(&h)] = targets[i];
		else
			/* Taking what has most room leaves the others for smaller targets. */
			left--, out[order[left]] = exceed ? targets[i] : bound[order[left]];
	}
	ikv_free(order);
	int rc = h.place ? 0 : -1;
	ikv_free(h.place);
	return rc;
}

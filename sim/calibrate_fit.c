/* Constants of the cost model from measured calls. */
#include <math.h>
#include <stddef.h>
#include <string.h>
#include "sim/calibrate.h"
#include "sim/bench_attention.h"

enum { TERMS_MAX = 3 * IKV_FMT_COUNT + 12, REWEIGHTED = 40, SWEEPS = 4000 };

struct calibrate_cell *calibrate_add(struct calibrate_set *set, struct ikv_err *err)
{
	if (set->count == set->cap) {
		uint32_t cap = set->cap ? 2 * set->cap : 64;
		if (ikv_grow(&set->cells, set->cap, cap, sizeof *set->cells, err))
			return NULL;
		set->cap = cap;
	}
	struct calibrate_cell *c = &set->cells[set->count++];
	memset(c, 0, sizeof *c);
	return c;
}

void calibrate_free(struct calibrate_set *set)
{
	ikv_free(set->cells);
	memset(set, 0, sizeof *set);
}

/* Minimise c' A c / 2 - b' c over c >= 0 by going through the coordinates in turn; A is positive semidefinite. */
static void descend(const double *a, const double *b, uint32_t n, double *c)
{
	for (int sweep = 0; sweep < SWEEPS; sweep++) {
		double moved = 0;
		for (uint32_t i = 0; i < n; i++) {
			double diagonal = a[(size_t)i * n + i], slope = b[i];
			if (!(diagonal > 0))
				continue;
			for (uint32_t j = 0; j < n; j++)
				slope -= a[(size_t)i * n + j] * c[j];
			double next = fmax(0, c[i] + slope / diagonal);
			moved = fmax(moved, fabs(next - c[i]) * sqrt(diagonal));
			c[i] = next;
		}
		if (moved < 1e-12)
			break;
	}
}

/* Normal equations of rows that are divided by y, columns of unit length, row weights 1 / |error|. */
static void weigh(const double *x, const double *y, uint32_t rows, uint32_t n, const double *scale, const double *c,
		  double *a, double *b)
{
	memset(a, 0, (size_t)n * n * sizeof *a);
	memset(b, 0, n * sizeof *b);
	for (uint32_t r = 0; r < rows; r++) {
		double row[TERMS_MAX], error = -1;
		for (uint32_t i = 0; i < n; i++) {
			row[i] = x[(size_t)r * n + i] / y[r] * scale[i];
			error += c ? row[i] * c[i] : 0;
		}
		double weight = c ? 1 / fmax(fabs(error), 1e-4) : 1;
		for (uint32_t i = 0; i < n; i++) {
			b[i] += weight * row[i];
			for (uint32_t j = 0; j < n; j++)
				a[(size_t)i * n + j] += weight * row[i] * row[j];
		}
	}
}

int calibrate_solve(const double *x, const double *y, uint32_t rows, uint32_t n, double *coefficients,
		    struct ikv_err *err)
{
	double a[TERMS_MAX * TERMS_MAX], b[TERMS_MAX], scale[TERMS_MAX], c[TERMS_MAX] = {0};
	if (n > TERMS_MAX || rows < n)
		return ikv_err_set(err, IKV_BAD_INPUT, "%u measurements are too few for %u constants", rows, n);
	for (uint32_t i = 0; i < n; i++) {
		double square = 0;
		for (uint32_t r = 0; r < rows; r++)
			square += x[(size_t)r * n + i] / y[r] * (x[(size_t)r * n + i] / y[r]);
		scale[i] = square > 0 ? 1 / sqrt(square) : 0;
	}
	for (int i = 0; i < REWEIGHTED; i++) {
		weigh(x, y, rows, n, scale, i ? c : NULL, a, b);
		descend(a, b, n, c);
	}
	for (uint32_t i = 0; i < n; i++)
		coefficients[i] = c[i] * scale[i];
	return 0;
}

enum amount {
	CALLS,
	FORMATS,
	SEQUENCES,
	PLANS,
	PAGES,
	JUMPS,
	CHANGES,
	LONE,
	LONE_BYTES,
	LONE_FP16,
	CACHED,
	PLAIN,
	FORMAT_BYTES,
	FORMAT_FLOPS,
	FORMAT_FINE
};
struct term { /* one constant: so many nanoseconds each of what `amount` counts */
	enum amount amount;
	int format;
};

static double amount_of(const struct term *t, const struct ikv_cost_work *w, double cache)
{
	double plain = (double)w->kv_bytes;
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		plain -= (double)w->format_bytes[f];
	switch (t->amount) {
	case CALLS:
		return 1;
	case FORMATS:
		return ikv_cost_more_formats(w);
	case SEQUENCES:
		return w->sequences;
	case PLANS:
		return (double)w->plans;
	case PAGES:
		return (double)w->pages;
	case JUMPS:
		return (double)w->jumps;
	case CHANGES:
		return (double)w->changes;
	case LONE:
		return (double)w->lone_pages;
	case LONE_BYTES:
		return (double)w->lone_bytes;
	case LONE_FP16:
		return (double)w->lone_fp16_bytes;
	case CACHED:
		return fmin(plain, cache);
	case PLAIN:
		return fmax(plain - cache, 0);
	case FORMAT_BYTES:
		return (double)w->format_bytes[t->format];
	case FORMAT_FLOPS:
		return w->format_flops[t->format];
	case FORMAT_FINE:
		return w->format_fine[t->format];
	}
	return 0;
}

/* Is what a term counts not the same for all cells that are fitted? Pages and arithmetic are looked at beside the bytes of
 * a format (of pages any): where they grow just as these do, their time cannot be told from that of the bytes. */
static bool varies(const struct calibrate_set *set, const struct term *t)
{
	double least[IKV_FMT_COUNT], most[IKV_FMT_COUNT];
	bool beside = t->amount == FORMAT_FLOPS || t->amount == PAGES, found = false;
	for (int f = 0; f < IKV_FMT_COUNT; f++) {
		least[f] = INFINITY;
		most[f] = -INFINITY;
	}
	for (uint32_t k = 0; k < set->count; k++) {
		const struct ikv_cost_work *w = &set->cells[k].work;
		double x = amount_of(t, w, t->amount == CACHED ? INFINITY : 0);
		for (int f = 0; f < IKV_FMT_COUNT && !set->cells[k].held; f++) {
			double bytes = beside ? (double)w->format_bytes[f] : 1;
			bool counts = !beside || (t->amount == PAGES ? bytes == (double)w->kv_bytes : f == t->format);
			if (!counts || !(bytes > 0))
				continue;
			least[f] = fmin(least[f], x / bytes);
			most[f] = fmax(most[f], x / bytes);
		}
	}
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		found |= most[f] > least[f] * (1 + 1e-9);
	return found;
}

/* The call itself always, and what varies. */
static uint32_t choose_terms(const struct calibrate_set *set, struct term *terms)
{
	struct term all[TERMS_MAX] = {{CALLS, 0},   {FORMATS, 0}, {SEQUENCES, 0},  {PLANS, 0},  {PAGES, 0}, {JUMPS, 0},
				      {CHANGES, 0}, {LONE, 0},	  {LONE_BYTES, 0}, {LONE_FP16, 0}, {CACHED, 0},
				      {PLAIN, 0}};
	uint32_t n = 12, kept = 0;
	for (int f = IKV_FMT_SKIP + 1; f < IKV_FMT_COUNT; f++) {
		all[n++] = (struct term){FORMAT_BYTES, f};
		all[n++] = (struct term){FORMAT_FLOPS, f};
		all[n++] = (struct term){FORMAT_FINE, f};
	}
	for (uint32_t i = 0; i < n; i++)
		if (all[i].amount == CALLS || varies(set, &all[i]))
			terms[kept++] = all[i];
	return kept;
}

/* A rate of 0 would mean "not modelled"; one that costs nothing is a very high one. */
static double rate(double ns)
{
	return ns > 0 ? fmin(1e9 / ns, 1e15) : 1e15;
}

static void put(struct ikv_machine *m, const struct term *t, double ns, double cache)
{
	switch (t->amount) {
	case CALLS:
		m->kernel_overhead_ns = ns;
		break;
	case FORMATS:
		m->format_overhead_ns = ns;
		break;
	case SEQUENCES:
		m->sequence_overhead_ns = ns;
		break;
	case PLANS:
		m->plan_overhead_ns = ns;
		break;
	case PAGES:
		m->page_overhead_ns = ns;
		break;
	case JUMPS:
		m->jump_ns = ns;
		break;
	case CHANGES:
		m->format_change_ns = ns;
		break;
	case LONE:
		m->lone_page_ns = ns;
		break;
	case LONE_BYTES:
		m->lone_bytes_per_s = ns > 0 ? 1e9 / ns : 0;
		break;
	case LONE_FP16:
		m->lone_fp16_bytes_per_s = ns > 0 ? 1e9 / ns : 0;
		break;
	case CACHED:
		m->cache_bytes = cache;
		m->cache_bytes_per_s = rate(ns);
		break;
	case PLAIN:
		m->read_bytes_per_s = rate(ns);
		break;
	case FORMAT_BYTES:
		m->format_bytes_per_s[t->format] = rate(ns);
		break;
	case FORMAT_FLOPS:
		m->format_flops_per_s[t->format] = ns > 0 ? 1e9 / ns : 0;
		break;
	case FORMAT_FINE:
		m->format_fine_ns[t->format] = ns;
		break;
	}
}

static double predict(const struct ikv_machine *m, const struct ikv_cost_work *w)
{
	struct ikv_cost_time t;
	ikv_cost_step(m, w, &t);
	return t.attention + t.overhead - m->step_overhead_ns;
}

struct fit {
	struct calibrate_set *set;
	struct term terms[TERMS_MAX];
	uint32_t n, rows;
	double *x, *y;
};

/* The best constants for a cache of so many bytes; *error is the mean relative one on the fitted cells. */
static int fit_cache(struct fit *f, double cache, struct ikv_machine *m, double *error, struct ikv_err *err)
{
	double c[TERMS_MAX];
	uint32_t rows = 0;
	for (uint32_t k = 0; k < f->set->count; k++) {
		const struct calibrate_cell *cell = &f->set->cells[k];
		if (cell->held)
			continue;
		for (uint32_t i = 0; i < f->n; i++)
			f->x[(size_t)rows * f->n + i] = amount_of(&f->terms[i], &cell->work, cache);
		f->y[rows++] = cell->measured_ns;
	}
	if (calibrate_solve(f->x, f->y, rows, f->n, c, err))
		return -1;
	for (uint32_t i = 0; i < f->n; i++)
		put(m, &f->terms[i], c[i], cache);
	*error = 0;
	for (uint32_t r = 0; r < rows; r++) {
		double sum = 0;
		for (uint32_t i = 0; i < f->n; i++)
			sum += f->x[(size_t)r * f->n + i] * c[i];
		*error += fabs(sum / f->y[r] - 1) / rows;
	}
	return 0;
}

/* Sizes of the cache are tried from 1 MB on, a sixteenth more each time. */
static int fit_all(struct fit *f, bool cached, struct ikv_machine *m, struct ikv_err *err)
{
	double largest = 0, best = INFINITY, error;
	struct ikv_machine tried = *m;
	for (uint32_t k = 0; k < f->set->count; k++)
		largest = fmax(largest, (double)f->set->cells[k].work.kv_bytes);
	if (!cached)
		return fit_cache(f, 0, m, &error, err);
	for (double cache = 1e6; cache < largest; cache *= 1.0625) {
		if (fit_cache(f, cache, &tried, &error, err))
			return -1;
		if (error < best) {
			best = error;
			*m = tried;
		}
	}
	return best < INFINITY ? 0 : fit_cache(f, largest, m, &error, err);
}

/* The uint32_t at `offset` of the work of all cells that are fitted; 0: several, or not stated. */
static double common(const struct calibrate_set *set, size_t offset)
{
	uint32_t all = 0;
	for (uint32_t k = 0; k < set->count; k++) {
		uint32_t one;
		memcpy(&one, (const char *)&set->cells[k].work + offset, sizeof one);
		if (set->cells[k].held)
			continue;
		if (!one || (all && one != all))
			return 0;
		all = one;
	}
	return all;
}

int calibrate_fit(struct calibrate_set *set, struct ikv_machine *m, struct ikv_err *err)
{
	struct fit f = {.set = set};
	bool cached = false;
	f.n = choose_terms(set, f.terms);
	for (uint32_t i = 0; i < f.n; i++)
		cached |= f.terms[i].amount == CACHED;
	if (!cached) /* plain bytes there are none */
		for (uint32_t i = f.n; i-- > 0;)
			if (f.terms[i].amount == PLAIN)
				f.terms[i] = f.terms[--f.n];
	f.x = ikv_alloc((size_t)set->count * f.n, sizeof *f.x, err);
	f.y = ikv_alloc(set->count, sizeof *f.y, err);
	int rc = f.x && f.y ? fit_all(&f, cached, m, err) : -1;
	m->measured_group = common(set, offsetof(struct ikv_cost_work, group));
	m->measured_kv_heads = common(set, offsetof(struct ikv_cost_work, kv_heads));
	m->measured_page_tokens = common(set, offsetof(struct ikv_cost_work, page_tokens));
	m->measured_from_bytes = INFINITY;
	m->measured_to_bytes = 0;
	for (uint32_t k = 0; !rc && k < set->count; k++) {
		double bytes = (double)set->cells[k].work.kv_bytes;
		set->cells[k].predicted_ns = predict(m, &set->cells[k].work);
		m->measured_from_bytes = fmin(m->measured_from_bytes, bytes);
		m->measured_to_bytes = fmax(m->measured_to_bytes, bytes);
	}
	ikv_free(f.x);
	ikv_free(f.y);
	return rc;
}

struct calibrate_error calibrate_errors(const struct calibrate_set *set, bool held, const char *format,
					const char *shape)
{
	struct calibrate_error e = {0};
	double *all = ikv_alloc(set->count ? set->count : 1, sizeof *all, NULL);
	for (uint32_t k = 0; all && k < set->count; k++) {
		const struct calibrate_cell *c = &set->cells[k];
		if (c->held != held || (format && strcmp(format, c->format) != 0) ||
		    (shape && strcmp(shape, c->shape) != 0))
			continue;
		all[e.cells] = 100 * fabs(c->predicted_ns / c->measured_ns - 1);
		e.mean += all[e.cells];
		e.worst = fmax(e.worst, all[e.cells++]);
	}
	if (e.cells) {
		e.mean /= e.cells;
		e.median = bench_median(all, e.cells);
	}
	ikv_free(all);
	return e;
}

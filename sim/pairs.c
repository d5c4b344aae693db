/* Pairs of steps and the bootstrap over them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "db/store.h"
#include "sim/pairs.h"

const struct pair_metric pair_metrics[PAIR_METRICS] = {
    {"read_fraction", "1", "share of dense bytes read", -1},
    {"mass_recall", "1", "recalled softmax mass", 1},
    {"rel_l2", "1", "relative L2 error", -1},
    {"kl", "nat", "KL divergence", -1},
    {"hit_rate", "1", "fast-tier hit rate", 1},
    {"sim_total_ns", "ns", "modelled step", -1},
    {"sim_attention_ns", "ns", "modelled attention", -1},
    {"sim_exposed_ns", "ns", "modelled stalls", -1},
    {"wall_attention_ns", "ns", "measured attention", -1},
};

struct side { /* one run's steps, ordered by session and step */
	uint64_t count, cap;
	int64_t *session, *step, *batch;
	uint64_t *hash;
	double *values[PAIR_METRICS];
};

static void side_free(struct side *s)
{
	ikv_free(s->session);
	ikv_free(s->step);
	ikv_free(s->batch);
	ikv_free(s->hash);
	for (int m = 0; m < PAIR_METRICS; m++)
		ikv_free(s->values[m]);
}

static int add_step(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct side *s = ctx;
	if (s->count == s->cap) {
		size_t old = s->cap, cap = old ? 2 * old : 1024;
		if (ikv_grow(&s->session, old, cap, sizeof *s->session, err) ||
		    ikv_grow(&s->step, old, cap, sizeof *s->step, err) ||
		    ikv_grow(&s->batch, old, cap, sizeof *s->batch, err) ||
		    ikv_grow(&s->hash, old, cap, sizeof *s->hash, err))
			return -1;
		for (int m = 0; m < PAIR_METRICS; m++)
			if (ikv_grow(&s->values[m], old, cap, sizeof *s->values[m], err))
				return -1;
		s->cap = cap;
	}
	s->session[s->count] = (int64_t)c[0].number;
	s->step[s->count] = (int64_t)c[1].number;
	s->batch[s->count] = (int64_t)c[2].number;
	s->hash[s->count] = strtoull(c[3].text, NULL, 16);
	for (int m = 0; m < PAIR_METRICS && 4 + m < n; m++)
		s->values[m][s->count] = c[4 + m].number;
	s->count++;
	return 0;
}

static int read_side(const char *db, int64_t run, struct side *s, struct ikv_err *err)
{
	char sql[600] = "SELECT session, step, batch_step, decision_hash", param[40];
	const char *params[] = {param};
	size_t used = strlen(sql);
	for (int m = 0; m < PAIR_METRICS; m++)
		used += (size_t)snprintf(sql + used, sizeof sql - used, ", %s", pair_metrics[m].name);
	snprintf(sql + used, sizeof sql - used, " FROM v_step WHERE run_id = :run ORDER BY session, step");
	snprintf(param, sizeof param, "run=%lld", (long long)run);
	struct store_query q = {.sql = sql, .params = params, .param_count = 1, .time_limit_s = 300};
	return store_select(db, &q, add_step, s, err);
}

static int reserve(struct pairs *p, uint64_t n, struct ikv_err *err)
{
	p->session = ikv_alloc(n + 1, sizeof *p->session, err);
	p->step = ikv_alloc(n + 1, sizeof *p->step, err);
	if (!p->session || !p->step)
		return -1;
	for (int m = 0; m < PAIR_METRICS; m++) {
		p->a[m] = ikv_alloc(n + 1, sizeof *p->a[m], err);
		p->b[m] = ikv_alloc(n + 1, sizeof *p->b[m], err);
		if (!p->a[m] || !p->b[m])
			return -1;
	}
	return 0;
}

static void add_pair(struct pairs *p, const struct side *a, uint64_t i, const struct side *b, uint64_t j)
{
	p->session[p->count] = a->session[i];
	p->step[p->count] = a->step[i];
	for (int m = 0; m < PAIR_METRICS; m++) {
		p->a[m][p->count] = a->values[m][i];
		p->b[m][p->count] = b->values[m][j];
	}
	p->count++;
	if (a->hash[i] == b->hash[j])
		return;
	p->differing++;
	if (p->first_batch < 0 || a->batch[i] < p->first_batch) {
		p->first_batch = a->batch[i];
		p->first_session = a->session[i];
		p->first_step = a->step[i];
	}
}

int pairs_read(const char *db_a, int64_t run_a, const char *db_b, int64_t run_b, struct pairs *out,
	       struct ikv_err *err)
{
	struct side a = {.count = 0}, b = {.count = 0};
	memset(out, 0, sizeof *out);
	out->first_session = out->first_step = out->first_batch = -1;
	int rc = read_side(db_a, run_a, &a, err) || read_side(db_b, run_b, &b, err) ||
			 reserve(out, a.count < b.count ? a.count : b.count, err)
		     ? -1
		     : 0;
	for (uint64_t i = 0, j = 0; rc == 0 && (i < a.count || j < b.count);) {
		bool have_a = i < a.count, have_b = j < b.count;
		int64_t by = !have_a                        ? 1
			     : !have_b                      ? -1
			     : a.session[i] != b.session[j] ? a.session[i] - b.session[j]
							    : a.step[i] - b.step[j];
		if (by == 0)
			add_pair(out, &a, i, &b, j);
		out->only_a += by < 0;
		out->only_b += by > 0;
		i += by <= 0;
		j += by >= 0;
	}
	side_free(&a);
	side_free(&b);
	if (rc)
		pairs_free(out);
	return rc;
}

void pairs_free(struct pairs *p)
{
	ikv_free(p->session);
	ikv_free(p->step);
	for (int m = 0; m < PAIR_METRICS; m++) {
		ikv_free(p->a[m]);
		ikv_free(p->b[m]);
	}
	memset(p, 0, sizeof *p);
}

struct drawn {
	double *sum;            /* [n + 1]: of the differences before each; owned */
	uint64_t *first, *last; /* [n]: the pair's session is [first, last); owned */
	uint64_t n;
	uint32_t block;
};

static void drawn_free(struct drawn *d)
{
	ikv_free(d->sum);
	ikv_free(d->first);
	ikv_free(d->last);
}

/* Differences of the pairs that have both values, and where each one's session begins and ends among them. */
static void fill(const struct pairs *p, int metric, struct drawn *d, struct pair_result *out)
{
	const double *a = p->a[metric], *b = p->b[metric];
	int64_t session = -1;
	for (uint64_t i = 0; i < p->count; i++) {
		if (isnan(a[i]) || isnan(b[i]))
			continue;
		double difference = b[i] - a[i];
		out->mean_a += a[i];
		out->mean_b += b[i];
		out->better += difference * pair_metrics[metric].better > 0;
		out->worse += difference * pair_metrics[metric].better < 0;
		d->first[d->n] = d->n && p->session[i] == session ? d->first[d->n - 1] : d->n;
		session = p->session[i];
		d->sum[d->n + 1] = d->sum[d->n] + difference;
		d->n++;
	}
	for (uint64_t i = d->n; i-- > 0;)
		d->last[i] = i + 1 < d->n && d->first[i + 1] == d->first[i] ? d->last[i + 1] : i + 1;
}

static int collect(const struct pairs *p, int metric, struct drawn *d, struct pair_result *out, struct ikv_err *err)
{
	double squares = 0;
	d->sum = ikv_alloc(p->count + 1, sizeof *d->sum, err);
	d->first = ikv_alloc(p->count + 1, sizeof *d->first, err);
	d->last = ikv_alloc(p->count + 1, sizeof *d->last, err);
	if (!d->sum || !d->first || !d->last)
		return -1;
	fill(p, metric, d, out);
	out->count = d->n;
	if (!d->n)
		return 0;
	d->block = out->block = (uint32_t)ceil(cbrt((double)d->n) - 1e-9);
	double mean = d->sum[d->n] / (double)d->n;
	for (uint64_t i = 0; i < d->n; i++) {
		double x = d->sum[i + 1] - d->sum[i] - mean;
		squares += x * x;
	}
	double deviation = d->n > 1 ? sqrt(squares / (double)(d->n - 1)) : 0;
	out->mean_a /= (double)d->n;
	out->mean_b /= (double)d->n;
	out->difference = mean;
	out->effect = deviation > 0 ? mean / deviation : 0;
	return 0;
}

/* Mean of one resample: blocks from anywhere, around the end of a session to its beginning, until n pairs are drawn.
 */
static double resample(const struct drawn *d, struct ikv_rng *rng)
{
	double sum = 0;
	uint64_t drawn = 0;
	while (drawn < d->n) {
		uint64_t at = ikv_rng_below(rng, d->n), first = d->first[at], last = d->last[at];
		uint64_t length = last - first < d->block ? last - first : d->block, end = at + length;
		if (end <= last)
			sum += d->sum[end] - d->sum[at];
		else
			sum += d->sum[last] - d->sum[at] + d->sum[first + (end - last)] - d->sum[first];
		drawn += length;
	}
	return sum / (double)drawn;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int pairs_compare(const struct pairs *p, int metric, uint32_t rounds, uint64_t seed, struct pair_result *out,
		  struct ikv_err *err)
{
	struct drawn d = {.n = 0};
	double *means = NULL;
	memset(out, 0, sizeof *out);
	int rc = collect(p, metric, &d, out, err);
	if (rc == 0 && !(means = ikv_alloc(rounds, sizeof *means, err)))
		rc = -1;
	out->low = out->high = NAN;
	if (rc == 0 && d.n) {
		for (uint32_t r = 0; r < rounds; r++) {
			struct ikv_rng rng;
			ikv_rng_stream(&rng, seed, IKV_STREAM_COMPARE, (uint64_t)metric, r);
			means[r] = resample(&d, &rng);
		}
		qsort(means, rounds, sizeof *means, ascending);
		out->low = means[(uint32_t)(0.025 * (rounds - 1) + 0.5)];
		out->high = means[(uint32_t)(0.975 * (rounds - 1) + 0.5)];
	}
	ikv_free(means);
	drawn_free(&d);
	return rc;
}

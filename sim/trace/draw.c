#include <string.h>
#include "sim/trace/draw.h"

#define DRAW_MAX 1e9
enum { REDRAWS = 1000 };

static const char *const shape_names[] = {"constant",    "uniform",   "normal", "lognormal",
					  "exponential", "geometric", "choice", "quantiles"};
enum { SHAPES = sizeof shape_names / sizeof *shape_names };

double draw_at(const struct draw_table *t, double level)
{
	uint32_t i = 0;
	if (level <= t->level[0])
		return t->value[0];
	while (i + 1 < t->count && t->level[i + 1] < level)
		i++;
	if (i + 1 == t->count)
		return t->value[i];
	double share = (level - t->level[i]) / (t->level[i + 1] - t->level[i]);
	return t->value[i] + share * (t->value[i + 1] - t->value[i]);
}

static double lognormal(const struct draw *d, struct ikv_rng *r)
{
	double x = d->a;
	for (int i = 0; i < REDRAWS; i++) {
		x = d->a * ikv_det_exp(d->b * ikv_rng_normal(r));
		if (d->max <= 0 || x <= d->max)
			return x;
	}
	return x < d->max ? x : d->max;
}

double draw_value(const struct draw *d, struct ikv_rng *r)
{
	switch (d->shape) {
	case DRAW_UNIFORM:
		return d->a + (d->b - d->a) * ikv_rng_uniform(r);
	case DRAW_NORMAL:
		return d->a + d->b * ikv_rng_normal(r);
	case DRAW_LOGNORMAL:
		return lognormal(d, r);
	case DRAW_EXPONENTIAL:
		return -d->a * ikv_det_log(1 - ikv_rng_uniform(r));
	case DRAW_GEOMETRIC: {
		double u = 1 - ikv_rng_uniform(r);
		return d->a <= 1 ? 1 : 1 + (double)(int64_t)(ikv_det_log(u) / ikv_det_log(1 - 1 / d->a));
	}
	case DRAW_CHOICE: {
		double u = ikv_rng_uniform(r);
		uint32_t i = 0;
		while (i + 1 < d->table->count && d->table->level[i] <= u)
			i++;
		return d->table->value[i];
	}
	case DRAW_QUANTILES:
		return draw_at(d->table, ikv_rng_uniform(r));
	case DRAW_CONSTANT:
		break;
	}
	return d->a;
}

void draw_free(struct draw *d)
{
	ikv_free(d->table);
	d->table = NULL;
}

/* A list of pairs. */
static int read_pairs(const struct yaml_node *n, const char *path, const char *key, struct draw_table *t,
		      struct ikv_err *err)
{
	if (yaml_expect(n, YAML_SEQ, path, key, err))
		return -1;
	if (n->count == 0 || n->count > DRAW_TABLE_MAX)
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key, "found %u pairs, expected 1 to %d",
				  n->count, DRAW_TABLE_MAX);
	t->count = n->count;
	for (uint32_t i = 0; i < n->count; i++) {
		const struct yaml_node *pair = n->items[i];
		if (yaml_expect(pair, YAML_SEQ, path, key, err))
			return -1;
		if (pair->count != 2)
			return ikv_err_at(err, IKV_BAD_INPUT, path, pair->line, pair->col, key,
					  "found a list of %u, expected a pair", pair->count);
		if (yaml_real(pair->items[0], path, key, -DRAW_MAX, DRAW_MAX, &t->level[i], err) ||
		    yaml_real(pair->items[1], path, key, 0, DRAW_MAX * 1e3, &t->value[i], err))
			return -1;
	}
	return 0;
}

int draw_read_quantiles(const struct yaml_node *n, const char *path, const char *key, struct draw_table *t,
			struct ikv_err *err)
{
	static const char *const valid[] = {"quantiles"};
	if (yaml_expect(n, YAML_MAP, path, key, err) || yaml_check_keys(n, path, key, valid, 1, err))
		return -1;
	if (n->count != 1)
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key, "empty, expected quantiles");
	if (read_pairs(n->items[0], path, key, t, err))
		return -1;
	for (uint32_t i = 0; i < t->count; i++)
		if (t->level[i] < 0 || t->level[i] > 1 ||
		    (i && (t->level[i] <= t->level[i - 1] || t->value[i] < t->value[i - 1])))
			return ikv_err_at(err, IKV_BAD_INPUT, path, n->items[0]->items[i]->line,
					  n->items[0]->items[i]->col, key,
					  "pair %u is out of order: expected rising levels from 0 to 1 with values "
					  "that do not fall",
					  i + 1);
	return 0;
}

static int read_choice(const struct yaml_node *n, const char *path, const char *key, struct draw_table *t,
		       struct ikv_err *err)
{
	double sum = 0;
	if (read_pairs(n, path, key, t, err))
		return -1;
	/* Pairs are value and weight; kept as cumulative weight and value. */
	for (uint32_t i = 0; i < t->count; i++) {
		double value = t->level[i];
		if (value < 0)
			return ikv_err_at(err, IKV_BAD_INPUT, path, n->items[i]->line, n->items[i]->col, key,
					  "a value of %g, expected 0 or more", value);
		sum += t->value[i];
		t->level[i] = sum;
		t->value[i] = value;
	}
	if (!(sum > 0))
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key, "all weights are 0");
	for (uint32_t i = 0; i < t->count; i++)
		t->level[i] /= sum;
	return 0;
}

static int missing(const struct yaml_node *n, const char *path, const char *shape, const char *key,
		   struct ikv_err *err)
{
	return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, shape, "\"%s\" is missing", key);
}

/* Named parameters; a `lognormal` takes p50 and p99, or median and mean. */
static int read_shape(const struct yaml_node *value, const char *path, enum draw_shape shape, struct draw *d,
		      struct ikv_err *err)
{
	static const char *const keys[][5] = {
	    [DRAW_UNIFORM] = {"min", "max"},
	    [DRAW_NORMAL] = {"mean", "sd"},
	    [DRAW_LOGNORMAL] = {"p50", "p99", "median", "mean", "max"},
	    [DRAW_EXPONENTIAL] = {"mean"},
	    [DRAW_GEOMETRIC] = {"mean"},
	};
	static const size_t known[] = {[DRAW_UNIFORM] = 2,
				       [DRAW_NORMAL] = 2,
				       [DRAW_LOGNORMAL] = 5,
				       [DRAW_EXPONENTIAL] = 1,
				       [DRAW_GEOMETRIC] = 1};
	const char *name = shape_names[shape];
	double v[2] = {0, 0};
	if (yaml_expect(value, YAML_MAP, path, name, err) ||
	    yaml_check_keys(value, path, name, keys[shape], known[shape], err))
		return -1;
	bool by_mean = shape == DRAW_LOGNORMAL && yaml_get(value, "median");
	size_t first = by_mean ? 2 : 0, count = known[shape] < 2 ? known[shape] : 2;
	for (size_t i = 0; i < count; i++) {
		const struct yaml_node *n = yaml_get(value, keys[shape][first + i]);
		if (!n)
			return missing(value, path, name, keys[shape][first + i], err);
		if (yaml_real(n, path, keys[shape][first + i], 0, DRAW_MAX, &v[i], err))
			return -1;
	}
	if ((shape == DRAW_UNIFORM && v[1] < v[0]) || (shape == DRAW_LOGNORMAL && (v[0] <= 0 || v[1] < v[0])) ||
	    (shape == DRAW_GEOMETRIC && v[0] < 1))
		return ikv_err_at(err, IKV_BAD_INPUT, path, value->line, value->col, name,
				  "out of order: expected min <= max, 0 < p50 <= p99, 0 < median <= mean, and a "
				  "geometric mean of at least 1");
	d->a = v[0];
	d->b = v[1];
	if (shape != DRAW_LOGNORMAL)
		return 0;
	/* The 99th percentile lies 2.3263... standard deviations above the median; a lognormal's mean is its median
	 * times exp(sigma^2 / 2). */
	double ratio = ikv_det_log(v[1]) - ikv_det_log(v[0]);
	d->b = by_mean ? (ratio > 0 ? ikv_det_exp(ikv_det_log(2 * ratio) / 2) : 0) : ratio / 2.3263478740408408;
	const struct yaml_node *max = yaml_get(value, "max");
	return max ? yaml_real(max, path, "max", v[0] / 1e3, DRAW_MAX, &d->max, err) : 0;
}

int draw_read(const struct yaml_node *n, const char *path, const char *key, struct draw *d, struct ikv_err *err)
{
	*d = (struct draw){.shape = DRAW_CONSTANT};
	if (n->type == YAML_SCALAR)
		return yaml_real(n, path, key, 0, DRAW_MAX, &d->a, err);
	if (yaml_expect(n, YAML_MAP, path, key, err) || yaml_check_keys(n, path, key, shape_names, SHAPES, err))
		return -1;
	if (n->count != 1)
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key,
				  "found %u distributions, expected one of constant, uniform, normal, lognormal, "
				  "exponential, geometric, choice, quantiles",
				  n->count);
	int shape = 0;
	while (strcmp(n->keys[0], shape_names[shape]) != 0)
		shape++;
	d->shape = (enum draw_shape)shape;
	if (shape == DRAW_CONSTANT)
		return yaml_real(n->items[0], path, key, 0, DRAW_MAX, &d->a, err);
	if (shape != DRAW_CHOICE && shape != DRAW_QUANTILES)
		return read_shape(n->items[0], path, d->shape, d, err);
	if (!(d->table = ikv_alloc(1, sizeof *d->table, err)))
		return -1;
	return shape == DRAW_CHOICE ? read_choice(n->items[0], path, key, d->table, err)
				    : draw_read_quantiles(n, path, key, d->table, err);
}

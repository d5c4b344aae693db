/* Distributions of profiles: what a profile's YAML may name, and values drawn from them. */
#ifndef SIM_TRACE_DRAW_H
#define SIM_TRACE_DRAW_H

#include <intentkv.h>
#include "sim/yaml.h"

enum draw_shape {
	DRAW_CONSTANT,
	DRAW_UNIFORM,
	DRAW_NORMAL,
	DRAW_LOGNORMAL,
	DRAW_EXPONENTIAL,
	DRAW_GEOMETRIC,
	DRAW_CHOICE,
	DRAW_QUANTILES
};
enum { DRAW_TABLE_MAX = 128 };

struct draw_table { /* choice: cumulative weights up to 1; quantiles: levels 0..1; both ascending */
	uint32_t count;
	double level[DRAW_TABLE_MAX], value[DRAW_TABLE_MAX];
};

struct draw {
	enum draw_shape shape;
	double a, b; /* constant a; uniform a..b; normal mean a, sd b; lognormal median a, sigma b; else mean a */
	double max;  /* lognormal: drawn again above it; 0: no limit */
	struct draw_table *table; /* choice, quantiles; owned */
};

double draw_value(const struct draw *d, struct ikv_rng *r);
/* Value at a level 0..1; interpolates between the quantiles. */
double draw_at(const struct draw_table *t, double level);
/* Read one; `d` is released by draw_free also after a failure. */
int draw_read(const struct yaml_node *n, const char *path, const char *key, struct draw *d, struct ikv_err *err);
/* Read only `quantiles: [[level, value], ...]`. */
int draw_read_quantiles(const struct yaml_node *n, const char *path, const char *key, struct draw_table *t,
			struct ikv_err *err);
void draw_free(struct draw *d);

#endif

/* Numbers with units, ranges of them, and random draws. A draw depends on the seed, the name of its key and the
 * number of the sample, so that another key beside it changes nothing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

int sweep_number(const char *text, double *value, double *plain, char unit[8])
{
	static const struct {
		const char *unit;
		double factor;
	} units[] = {{"", 1},      {"%", 0.01},     {"B", 1},        {"k", 1e3},      {"M", 1e6},
		     {"G", 1e9},   {"T", 1e12},     {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},
		     {"TB", 1e12}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
	char *end;
	double v = strtod(text, &end);
	if (end == text || !isfinite(v))
		return -1;
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		*plain = v;
		*value = v * units[i].factor;
		memcpy(unit, units[i].unit, strlen(units[i].unit) + 1);
		return 0;
	}
	return -1;
}

void sweep_between(double from, double to, double share, bool log, bool whole, const char *unit, char *text,
		   size_t size)
{
	double v = share <= 0   ? from
		   : share >= 1 ? to
		   : log        ? ikv_det_exp(ikv_det_log(from) + share * (ikv_det_log(to) - ikv_det_log(from)))
				: from + share * (to - from);
	if (whole)
		v = floor(v + 0.5);
	snprintf(text, size, whole ? "%.0f%s" : "%.6g%s", v, unit);
}

static const struct ikv_option *among(const char *section, const char *name)
{
	const struct ikv_option *o = NULL;
#define LOOK(table)                                                                                                  \
	for (uint32_t i_ = 0; !o && (table)[i_]; i_++)                                                               \
	o = ikv_option_find((table)[i_]->options, name)
	for (const struct section *s = sections; !o && s->name; s++)
		if (!strcmp(s->name, section))
			o = ikv_option_find(s->options, name);
	if (!strcmp(section, "kv"))
		LOOK(sources);
	if (!strcmp(section, "scorer"))
		LOOK(ikv_scorers());
	if (!strcmp(section, "router"))
		LOOK(ikv_routers());
	if (!strcmp(section, "prefetch"))
		LOOK(ikv_prefetchers());
	if (!strcmp(section, "memory.residency"))
		LOOK(ikv_residencies());
	if (!o && !strcmp(section, "memory"))
		o = ikv_option_find(ikv_memory_options, name);
	if (!o && !strcmp(section, "cost"))
		o = ikv_option_find(ikv_machine_options, name);
#undef LOOK
	return o;
}

static const struct ikv_option *option_of(const char *key)
{
	char section[160] = "";
	const char *dot = strrchr(key, '.');
	if (dot && (size_t)(dot - key) < sizeof section)
		snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
	return among(section, dot ? dot + 1 : key);
}

bool sweep_key_is_whole(const char *key, double from, const char *unit)
{
	const struct ikv_option *o = option_of(key);
	if (!o || *unit)
		return false;
	return o->type == IKV_OPT_INT || o->type == IKV_OPT_BYTES || (o->type == IKV_OPT_BUDGET && from >= 1);
}

const char *sweep_default(const char *key)
{
	static const struct {
		const char *key, *value;
	} choices[] = {{"kv.source", "synthetic"},
		       {"scorer.policy", "quest"},
		       {"router.policy", "semantic"},
		       {"prefetch.policy", "frequency"},
		       {"memory.residency", "lru"},
		       {"memory.residency.policy", "lru"}};
	for (size_t i = 0; i < sizeof choices / sizeof *choices; i++)
		if (!strcmp(choices[i].key, key))
			return choices[i].value;
	const struct ikv_option *o = option_of(key);
	return o ? o->def : NULL;
}

struct yaml_node *sweep_scalar(const char *text, const struct yaml_node *at)
{
	struct yaml_node *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	n->type = YAML_SCALAR;
	n->origin = YAML_SWEEP;
	n->text = strdup(text);
	n->line = at->line;
	n->col = at->col;
	n->option = at->option;
	if (n->text)
		return n;
	free(n);
	return NULL;
}

int sweep_push(struct yaml_node *list, struct yaml_node *value, struct ikv_err *err)
{
	struct yaml_node **items = value ? realloc(list->items, (list->count + (size_t)1) * sizeof *items) : NULL;
	if (!items) {
		yaml_release(value);
		return ikv_err_set(err, IKV_FAILED, "out of memory while reading a scenario");
	}
	list->items = items;
	list->items[list->count++] = value;
	list->cap = list->count;
	return 0;
}

struct range {
	double from, to; /* before the unit */
	char unit[8];
	bool log, whole;
	int64_t count;
};

static int end_of(const char *file, const char *key, const struct yaml_node *map, const char *which, double *plain,
		  char unit[8], struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(map, which);
	char full[200];
	double value;
	snprintf(full, sizeof full, "sweep.%.150s.%s", key, which);
	if (!n)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, map), full,
				  "missing; a range has from and to");
	if (yaml_expect(n, YAML_SCALAR, file, full, err))
		return -1;
	if (sweep_number(n->text, &value, plain, unit))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), full,
				  "got \"%.40s\", expected a number, as 0.5, 5%% or 64KiB", n->text);
	return 0;
}

static int read_range(const char *file, const char *key, const struct yaml_node *map, bool counted, struct range *r,
		      struct ikv_err *err)
{
	static const char *const valid[] = {"from", "to", "scale", "count"};
	char full[200], unit[8];
	snprintf(full, sizeof full, "sweep.%.150s", key);
	*r = (struct range){.count = 1};
	if (yaml_check_keys(map, file, full, valid, counted ? 4 : 3, err) ||
	    end_of(file, key, map, "from", &r->from, r->unit, err) || end_of(file, key, map, "to", &r->to, unit, err))
		return -1;
	if (strcmp(unit, r->unit) != 0)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, map), full,
				  "from is in \"%s\" and to in \"%s\", expected the same unit", r->unit, unit);
	const struct yaml_node *scale = yaml_get(map, "scale"), *count = yaml_get(map, "count");
	if (scale && (scale->type != YAML_SCALAR || (strcmp(scale->text, "log") && strcmp(scale->text, "linear")))) {
		char what[80];
		yaml_describe(scale, what, sizeof what);
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, scale), full,
				  "scale: got %s, expected log or linear", what);
	}
	r->log = scale && !strcmp(scale->text, "log");
	if (r->log && !(r->from > 0 && r->to > 0))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, map), full,
				  "got %g to %g, expected both above 0 for scale: log", r->from, r->to);
	r->whole = sweep_key_is_whole(key, r->from, r->unit);
	if (counted && !count)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, map), full,
				  "count is missing: how many values");
	snprintf(full, sizeof full, "sweep.%.150s.count", key);
	return counted ? yaml_int(count, file, full, 1, SWEEP_POINTS_MAX, &r->count, err) : 0;
}

static void note_axis(struct sweep *sweep, const char *key, const struct range *r)
{
	if (!strcmp(key, "seed")) /* nothing lies between two seeds */
		return;
	for (uint32_t i = 0; i < sweep->axis_count; i++)
		if (!strcmp(sweep->axes[i].key, key))
			return;
	if (sweep->axis_count == SWEEP_AXES_MAX)
		return;
	struct sweep_axis *a = &sweep->axes[sweep->axis_count++];
	snprintf(a->key, sizeof a->key, "%s", key);
	memcpy(a->unit, r->unit, sizeof a->unit);
	a->log = r->log;
	a->whole = r->whole;
}

void sweep_numbers(const char *key, const struct yaml_node *list, struct sweep *sweep)
{
	struct range r = {.count = list->count};
	double value, plain;
	char unit[8];
	for (uint32_t i = 0; i < list->count; i++) {
		const struct yaml_node *n = list->items[i];
		if (n->type != YAML_SCALAR || sweep_number(n->text, &value, &plain, i ? unit : r.unit) ||
		    (i && strcmp(unit, r.unit) != 0))
			return;
		r.from = i && r.from < plain ? r.from : plain;
	}
	r.whole = sweep_key_is_whole(key, r.from, r.unit);
	note_axis(sweep, key, &r);
}

int sweep_range(const char *file, const char *key, const struct yaml_node *map, struct sweep *sweep,
		struct yaml_node *list, struct ikv_err *err)
{
	struct range r;
	char text[64], last[64] = "";
	if (read_range(file, key, map, true, &r, err))
		return -1;
	note_axis(sweep, key, &r);
	for (int64_t i = 0; i < r.count; i++) {
		sweep_between(r.from, r.to, r.count > 1 ? (double)i / (double)(r.count - 1) : 0, r.log, r.whole,
			      r.unit, text, sizeof text);
		if (!strcmp(text, last)) /* whole numbers close together */
			continue;
		memcpy(last, text, sizeof last);
		if (sweep_push(list, sweep_scalar(text, map), err))
			return -1;
	}
	return 0;
}

int sweep_draw(const char *file, const char *key, const struct yaml_node *from, uint64_t seed, uint64_t sample,
	       struct sweep *sweep, struct yaml_node **value, struct ikv_err *err)
{
	struct ikv_rng rng;
	struct range r;
	uint64_t name = 0;
	char text[64];
	for (const char *p = key; *p; p++)
		name = ikv_mix64_2(name, (unsigned char)*p);
	ikv_rng_stream(&rng, seed, IKV_STREAM_SWEEP, name, sample);
	if (from->type == YAML_SEQ) {
		if (!from->count)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, from), key,
					  "got an empty list, expected at least one value");
		*value = yaml_copy(from->items[ikv_rng_below(&rng, from->count)], YAML_SWEEP);
	} else {
		if (yaml_expect(from, YAML_MAP, file, key, err) || read_range(file, key, from, false, &r, err))
			return -1;
		note_axis(sweep, key, &r);
		sweep_between(r.from, r.to, ikv_rng_uniform(&rng), r.log, r.whole, r.unit, text, sizeof text);
		*value = sweep_scalar(text, from);
	}
	return *value ? 0 : ikv_err_set(err, IKV_FAILED, "out of memory while reading a scenario");
}

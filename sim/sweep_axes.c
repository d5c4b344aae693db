/* From the `sweep` section to its points. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

/* Every point is a copy of the document's tree: 5 million nodes are about 1 GB. */
enum { SWEEP_NODES_MAX = 5000000 };

struct assignment {
	const char *key; /* borrowed from the document */
	struct yaml_node *value;
	uint32_t number; /* of the value in its list, for labels of values without a short text */
};
struct choice { /* what one place on a dimension sets */
	struct assignment *items;
	uint32_t count;
};
struct dimension {
	struct choice *choices;
	uint32_t count;
};
struct expansion {
	const struct scenario_doc *doc;
	struct sweep *sweep;
	struct dimension *dims;
	uint32_t dim_count;
	uint32_t set_by[SWEEP_AXES_MAX]; /* for each of the sweep's keys, the number of the dimension that sets it */
};

static int out_of_memory(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_FAILED, "out of memory while reading a scenario");
}

static uint64_t node_count(const struct yaml_node *n)
{
	uint64_t sum = 1;
	for (uint32_t i = 0; i < n->count; i++)
		sum += node_count(n->items[i]);
	return sum;
}

const struct yaml_node *sweep_value(const struct yaml_node *root, const char *key)
{
	char part[128];
	const char *dot;
	const struct yaml_node *top = root;
	while (root && (dot = strchr(key, '.'))) {
		if ((size_t)(dot - key) >= sizeof part)
			return NULL;
		snprintf(part, sizeof part, "%.*s", (int)(dot - key), key);
		root = yaml_get(root, part);
		key = dot + 1;
		/* `router: quest` is short for `router: {policy: quest}` */
		if (root && root->type == YAML_SCALAR && (!strcmp(key, "policy") || !strcmp(key, "source")))
			return root;
	}
	return root && (root == top || root->type == YAML_MAP) ? yaml_get(root, key) : NULL;
}

static struct dimension *add_dimension(struct expansion *x, uint32_t choices)
{
	struct dimension *dims = realloc(x->dims, (x->dim_count + (size_t)1) * sizeof *dims);
	if (!dims)
		return NULL;
	x->dims = dims;
	struct dimension *d = &dims[x->dim_count];
	d->choices = calloc(choices, sizeof *d->choices);
	d->count = choices;
	if (!d->choices)
		return NULL;
	x->dim_count++;
	return d;
}

/* Takes `value` over. */
static int assign(struct expansion *x, struct choice *c, const char *key, struct yaml_node *value, uint32_t number,
		  struct ikv_err *err)
{
	if (value && (!strcmp(key, "sweep") || !strncmp(key, "sweep.", 6) || !strcmp(key, "intentkv"))) {
		int rc = ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, value), key,
				    "no setting of a point, so no axis");
		yaml_release(value);
		return rc;
	}
	struct assignment *items = value ? realloc(c->items, (c->count + (size_t)1) * sizeof *items) : NULL;
	if (!items) {
		yaml_release(value);
		return out_of_memory(err);
	}
	c->items = items;
	c->items[c->count++] = (struct assignment){key, value, number};
	struct sweep *s = x->sweep;
	for (uint32_t i = 0; i < s->key_count; i++) {
		if (strcmp(s->keys[i], key) != 0)
			continue;
		if (x->set_by[i] == x->dim_count)
			return 0;
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, value), key,
				  "two parts of the sweep set it, and only the second would count%s",
				  strcmp(key, "seed") ? "" : "; `repeat` sets seeds, too");
	}
	if (s->key_count == SWEEP_AXES_MAX)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, value), key, "more than %d axes",
				  SWEEP_AXES_MAX);
	x->set_by[s->key_count] = x->dim_count;
	s->keys[s->key_count] = strdup(key);
	return s->keys[s->key_count++] ? 0 : out_of_memory(err);
}

/* The values of an axis: a list as it is, a range spelled out into `made`. NULL after an error. */
static const struct yaml_node *values_of(struct expansion *x, const char *key, const struct yaml_node *axis,
					 struct yaml_node *made, struct ikv_err *err)
{
	char full[200];
	snprintf(full, sizeof full, "sweep.%.150s", key);
	memset(made, 0, sizeof *made);
	made->type = YAML_SEQ;
	if (axis->type == YAML_MAP && (yaml_get(axis, "from") || yaml_get(axis, "to")))
		return sweep_range(x->doc->path, key, axis, x->sweep, made, err) ? NULL : made;
	if (yaml_expect(axis, YAML_SEQ, x->doc->path, full, err))
		return NULL;
	if (axis->count) {
		sweep_numbers(key, axis, x->sweep);
		return axis;
	}
	ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, axis), full,
		   "got an empty list, expected at least one value");
	return NULL;
}

static void drop_values(struct yaml_node *made)
{
	for (uint32_t i = 0; i < made->count; i++)
		yaml_release(made->items[i]);
	free(made->items);
}

/* Axes that move together: one for a plain axis, several for a zip. */
static int add_axes(struct expansion *x, const struct yaml_node *map, uint32_t first, uint32_t n, struct ikv_err *err)
{
	struct dimension *d = NULL;
	for (uint32_t i = first; i < first + n; i++) {
		struct yaml_node made;
		const struct yaml_node *values = values_of(x, map->keys[i], map->items[i], &made, err);
		int rc = values ? 0 : -1;
		if (!rc && d && values->count != d->count)
			rc = ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, map->items[i]), "sweep.zip",
					"%s has %u values and %s %u, expected as many", map->keys[i], values->count,
					map->keys[first], d->count);
		if (!rc && !d && !(d = add_dimension(x, values->count)))
			rc = out_of_memory(err);
		for (uint32_t k = 0; !rc && k < values->count; k++)
			rc = assign(x, &d->choices[k], map->keys[i], yaml_copy(values->items[k], YAML_SWEEP), k, err);
		drop_values(&made);
		if (rc)
			return -1;
	}
	return 0;
}

static int add_zip(struct expansion *x, const struct yaml_node *zip, struct ikv_err *err)
{
	if (zip->type == YAML_SEQ) {
		for (uint32_t i = 0; i < zip->count; i++)
			if (yaml_expect(zip->items[i], YAML_MAP, x->doc->path, "sweep.zip", err) ||
			    add_zip(x, zip->items[i], err))
				return -1;
		return 0;
	}
	if (yaml_expect(zip, YAML_MAP, x->doc->path, "sweep.zip", err))
		return -1;
	return zip->count ? add_axes(x, zip, 0, zip->count, err) : 0;
}

static int add_list(struct expansion *x, const struct yaml_node *list, struct ikv_err *err)
{
	const char *file = x->doc->path;
	if (yaml_expect(list, YAML_SEQ, file, "sweep.list", err))
		return -1;
	if (!list->count)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, list), "sweep.list",
				  "got an empty list, expected at least one point");
	struct dimension *d = add_dimension(x, list->count);
	if (!d)
		return out_of_memory(err);
	for (uint32_t i = 0; i < list->count; i++) {
		const struct yaml_node *p = list->items[i];
		if (yaml_expect(p, YAML_MAP, file, "sweep.list", err))
			return -1;
		for (uint32_t k = 0; k < p->count; k++)
			if (assign(x, &d->choices[i], p->keys[k], yaml_copy(p->items[k], YAML_SWEEP), i, err))
				return -1;
	}
	return 0;
}

static int seed_of(const struct expansion *x, int64_t *seed, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(x->doc->root, "seed");
	*seed = 42;
	return n ? yaml_int(n, x->doc->path, "seed", 0, (int64_t)9e15, seed, err) : 0;
}

static int add_random(struct expansion *x, const struct yaml_node *random, struct ikv_err *err)
{
	const char *file = x->doc->path;
	int64_t count, seed;
	if (yaml_expect(random, YAML_MAP, file, "sweep.random", err) || seed_of(x, &seed, err))
		return -1;
	const struct yaml_node *n = yaml_get(random, "count"), *s = yaml_get(random, "seed");
	if (!n)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, random), "sweep.random",
				  "count is missing: how many points to draw");
	if (yaml_int(n, file, "sweep.random.count", 1, SWEEP_POINTS_MAX, &count, err) ||
	    (s && yaml_int(s, file, "sweep.random.seed", 0, (int64_t)9e15, &seed, err)))
		return -1;
	struct dimension *d = add_dimension(x, (uint32_t)count);
	if (!d)
		return out_of_memory(err);
	for (uint32_t k = 0; k < random->count; k++) {
		const char *key = random->keys[k];
		if (!strcmp(key, "count") || !strcmp(key, "seed"))
			continue;
		for (uint32_t i = 0; i < d->count; i++) {
			struct yaml_node *value;
			if (sweep_draw(file, key, random->items[k], (uint64_t)seed, i, x->sweep, &value, err) ||
			    assign(x, &d->choices[i], key, value, i, err))
				return -1;
		}
	}
	return 0;
}

/* Seeds that follow the scenario's own. */
static int add_repeats(struct expansion *x, const struct yaml_node *repeat, struct ikv_err *err)
{
	int64_t count, seed;
	char text[32];
	if (yaml_int(repeat, x->doc->path, "sweep.repeat", 1, SWEEP_POINTS_MAX, &count, err) ||
	    seed_of(x, &seed, err))
		return -1;
	struct dimension *d = add_dimension(x, (uint32_t)count);
	if (!d)
		return out_of_memory(err);
	for (uint32_t i = 0; i < d->count; i++) {
		snprintf(text, sizeof text, "%lld", (long long)(seed + i));
		if (assign(x, &d->choices[i], "seed", sweep_scalar(text, repeat), i, err))
			return -1;
	}
	return 0;
}

static int read_refine(struct expansion *x, const struct yaml_node *refine, struct ikv_err *err)
{
	static const char *const valid[] = {"rounds", "points"};
	int64_t rounds = 1, points = 8;
	const char *file = x->doc->path;
	if (yaml_expect(refine, YAML_MAP, file, "sweep.refine", err) ||
	    yaml_check_keys(refine, file, "sweep.refine", valid, 2, err))
		return -1;
	const struct yaml_node *r = yaml_get(refine, "rounds"), *p = yaml_get(refine, "points");
	if ((r && yaml_int(r, file, "sweep.refine.rounds", 1, 100, &rounds, err)) ||
	    (p && yaml_int(p, file, "sweep.refine.points", 1, 10000, &points, err)))
		return -1;
	x->sweep->refine_rounds = (uint32_t)rounds;
	x->sweep->refine_points = (uint32_t)points;
	return 0;
}

static int read_section(struct expansion *x, const struct yaml_node *axes, struct ikv_err *err)
{
	if (yaml_expect(axes, YAML_MAP, x->doc->path, "sweep", err))
		return -1;
	const struct yaml_node *repeat = NULL;
	for (uint32_t i = 0; i < axes->count; i++) {
		const char *key = axes->keys[i];
		const struct yaml_node *n = axes->items[i];
		int rc = 0;
		if (!strcmp(key, "where"))
			continue;
		if (!strcmp(key, "repeat"))
			repeat = n;
		else if (!strcmp(key, "refine"))
			rc = read_refine(x, n, err);
		else if (!strcmp(key, "zip"))
			rc = add_zip(x, n, err);
		else if (!strcmp(key, "list"))
			rc = add_list(x, n, err);
		else if (!strcmp(key, "random"))
			rc = add_random(x, n, err);
		else
			rc = add_axes(x, axes, i, 1, err);
		if (rc)
			return -1;
	}
	return repeat ? add_repeats(x, repeat, err) : 0;
}

/* One axis in a point's label, short enough for plots: the router by its name alone, another policy as
 * section=name, anything else as the last word of its key and the value; a map or list by its number. */
static size_t label_part(char *out, size_t size, bool first, const char *key, const struct yaml_node *value,
			 uint32_t number)
{
	const char *dot = strrchr(key, '.');
	char text[64], word[64];
	if (value->type == YAML_SCALAR)
		snprintf(text, sizeof text, "%.60s", value->text);
	else
		snprintf(text, sizeof text, "%u", number + 1);
	if (dot && !strcmp(dot, ".policy"))
		snprintf(word, sizeof word, "%.*s=", (int)(dot - key > 40 ? 40 : dot - key), key);
	else
		snprintf(word, sizeof word, "%.60s=", dot ? dot + 1 : key);
	int n = snprintf(out, size, "%s%s%s", first ? "" : " ", strcmp(key, "router.policy") ? word : "", text);
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

int scenario_sweep_add(struct sweep *sweep, struct yaml_node *root, const char *label, struct ikv_err *err)
{
	if (sweep->count == sweep->cap) {
		uint32_t cap = sweep->cap ? 2 * sweep->cap : 16;
		struct sweep_point *points = realloc(sweep->points, cap * sizeof *points);
		if (!points) {
			yaml_release(root);
			return out_of_memory(err);
		}
		sweep->points = points;
		sweep->cap = cap;
	}
	char *copy = strdup(label);
	if (!copy) {
		yaml_release(root);
		return out_of_memory(err);
	}
	sweep->points[sweep->count++] = (struct sweep_point){copy, root};
	return 0;
}

static int conditions_met(const struct expansion *x, const struct yaml_node *where, const struct yaml_node *root,
			  bool *met, struct ikv_err *err)
{
	*met = true;
	if (!where)
		return 0;
	if (where->type == YAML_SCALAR)
		return sweep_where(x->doc->path, where, root, met, err);
	if (yaml_expect(where, YAML_SEQ, x->doc->path, "sweep.where", err))
		return -1;
	for (uint32_t i = 0; *met && i < where->count; i++)
		if (yaml_expect(where->items[i], YAML_SCALAR, x->doc->path, "sweep.where", err) ||
		    sweep_where(x->doc->path, where->items[i], root, met, err))
			return -1;
	return 0;
}

static int make_point(struct expansion *x, const struct yaml_node *where, uint64_t index, uint64_t total,
		      struct ikv_err *err)
{
	char label[1000] = "";
	size_t n = 0;
	bool met;
	struct yaml_node *root = yaml_copy(x->doc->root, YAML_FILE);
	if (!root)
		return out_of_memory(err);
	for (uint32_t d = 0; d < x->dim_count; d++) {
		total /= x->dims[d].count;
		const struct choice *c = &x->dims[d].choices[index / total % x->dims[d].count];
		for (uint32_t i = 0; i < c->count; i++) {
			const struct assignment *a = &c->items[i];
			struct yaml_node *value = yaml_copy(a->value, YAML_FILE);
			n += label_part(label + n, sizeof label - n, n == 0, a->key, a->value, a->number);
			if (!value || yaml_put(root, a->key, value, err)) {
				yaml_release(root);
				return value ? -1 : out_of_memory(err);
			}
		}
	}
	if (conditions_met(x, where, root, &met, err)) {
		yaml_release(root);
		return -1;
	}
	if (met)
		return scenario_sweep_add(x->sweep, root, label, err);
	x->sweep->excluded++;
	yaml_release(root);
	return 0;
}

static int make_points(struct expansion *x, const struct yaml_node *axes, struct ikv_err *err)
{
	const struct yaml_node *where = axes ? yaml_get(axes, "where") : NULL;
	uint64_t total = 1, nodes = node_count(x->doc->root);
	for (uint32_t d = 0; d < x->dim_count; d++) {
		total *= x->dims[d].count;
		if (total > SWEEP_POINTS_MAX)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, axes), "sweep",
					  "more than %d combinations", SWEEP_POINTS_MAX);
		if (total * nodes > SWEEP_NODES_MAX)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, axes), "sweep",
					  "%llu combinations or more of a document this large; split it",
					  (unsigned long long)total);
	}
	for (uint64_t i = 0; i < total; i++)
		if (make_point(x, where, i, total, err))
			return -1;
	if (!x->sweep->count)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(x->doc->path, where), "sweep.where",
				  "none of %llu combinations meets the conditions", (unsigned long long)total);
	return 0;
}

int scenario_sweep(const struct scenario_doc *doc, struct sweep *out, struct ikv_err *err)
{
	const struct yaml_node *axes = yaml_get(doc->root, "sweep");
	struct expansion x = {.doc = doc, .sweep = out};
	memset(out, 0, sizeof *out);
	int rc = (axes && read_section(&x, axes, err)) || make_points(&x, axes, err) ? -1 : 0;
	for (uint32_t d = 0; d < x.dim_count; d++) {
		for (uint32_t c = 0; c < x.dims[d].count; c++) {
			for (uint32_t i = 0; i < x.dims[d].choices[c].count; i++)
				yaml_release(x.dims[d].choices[c].items[i].value);
			free(x.dims[d].choices[c].items);
		}
		free(x.dims[d].choices);
	}
	free(x.dims);
	if (rc)
		scenario_sweep_free(out);
	return rc;
}

void scenario_sweep_point_free(struct sweep_point *point)
{
	free(point->label);
	yaml_release(point->root);
}

void scenario_sweep_free(struct sweep *sweep)
{
	for (uint32_t i = 0; i < sweep->count; i++)
		scenario_sweep_point_free(&sweep->points[i]);
	for (uint32_t i = 0; i < sweep->key_count; i++)
		free(sweep->keys[i]);
	free(sweep->points);
	memset(sweep, 0, sizeof *sweep);
}

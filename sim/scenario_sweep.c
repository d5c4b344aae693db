/* Overrides and sweeps: editing the scenario's tree before it is resolved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

/* Every point is a copy of the document's tree: 5 million nodes are about 1 GB. */
enum { SWEEP_POINTS_MAX = 100000, SWEEP_NODES_MAX = 5000000 };

static uint64_t node_count(const struct yaml_node *n)
{
	uint64_t sum = 1;
	for (uint32_t i = 0; i < n->count; i++)
		sum += node_count(n->items[i]);
	return sum;
}

struct yaml_node *yaml_copy(const struct yaml_node *n, enum yaml_origin origin)
{
	struct yaml_node *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	*c = *n;
	if (origin != YAML_FILE)
		c->origin = origin;
	if (origin == YAML_COMMAND_LINE)
		c->by_option = true;
	c->count = 0;
	c->cap = n->count;
	c->text = n->text ? strdup(n->text) : NULL;
	c->items = n->count ? calloc(n->count, sizeof *c->items) : NULL;
	c->keys = n->keys ? calloc(n->count + 1, sizeof *c->keys) : NULL;
	c->key_line = n->keys ? calloc(n->count + 1, sizeof *c->key_line) : NULL;
	c->key_col = n->keys ? calloc(n->count + 1, sizeof *c->key_col) : NULL;
	bool ok =
	    (!n->text || c->text) && (!n->count || c->items) && (!n->keys || (c->keys && c->key_line && c->key_col));
	for (uint32_t i = 0; ok && i < n->count; i++) {
		c->items[i] = yaml_copy(n->items[i], origin);
		if (!c->items[i]) {
			ok = false;
			break;
		}
		c->count++;
		if (n->keys) {
			c->keys[i] = strdup(n->keys[i]);
			c->key_line[i] = n->key_line[i];
			c->key_col[i] = n->key_col[i];
			ok = c->keys[i] != NULL;
		}
	}
	if (!ok) {
		yaml_release(c);
		return NULL;
	}
	return c;
}

static int out_of_memory(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_FAILED, "out of memory while reading a scenario");
}

/* Add or replace a child of a map; takes `value` over, also on failure. */
static int map_set(struct yaml_node *map, const char *key, struct yaml_node *value, struct ikv_err *err)
{
	for (uint32_t i = 0; i < map->count; i++) {
		if (!strcmp(map->keys[i], key)) {
			yaml_release(map->items[i]);
			map->items[i] = value;
			return 0;
		}
	}
	uint32_t n = map->count + 1;
	struct yaml_node **items = realloc(map->items, n * sizeof *items);
	if (items)
		map->items = items;
	char **keys = realloc(map->keys, n * sizeof *keys);
	if (keys)
		map->keys = keys;
	int *lines = realloc(map->key_line, n * sizeof *lines);
	if (lines)
		map->key_line = lines;
	int *cols = realloc(map->key_col, n * sizeof *cols);
	if (cols)
		map->key_col = cols;
	char *copy = strdup(key);
	if (!items || !keys || !lines || !cols || !copy) {
		free(copy);
		yaml_release(value);
		return out_of_memory(err);
	}
	map->cap = n;
	items[map->count] = value;
	keys[map->count] = copy;
	lines[map->count] = value->line;
	cols[map->count] = value->col;
	map->count = n;
	return 0;
}

int yaml_put(struct yaml_node *root, const char *path, struct yaml_node *value, struct ikv_err *err)
{
	struct yaml_node *at = root;
	char part[128];
	const char *dot;
	while ((dot = strchr(path, '.'))) {
		size_t n = (size_t)(dot - path);
		if (n == 0 || n >= sizeof part)
			break;
		memcpy(part, path, n);
		part[n] = 0;
		struct yaml_node *next = yaml_get(at, part);
		if (!next || next->type != YAML_MAP) {
			next = calloc(1, sizeof *next);
			if (!next) {
				yaml_release(value);
				return out_of_memory(err);
			}
			next->type = YAML_MAP;
			next->origin = value->origin;
			next->by_option = value->by_option;
			next->line = value->line;
			next->col = value->col;
			if (map_set(at, part, next, err)) {
				yaml_release(value);
				return -1;
			}
		}
		at = next;
		path = dot + 1;
	}
	if (!*path || dot) {
		yaml_release(value);
		return ikv_err_set(err, IKV_USAGE, "\"%s\" is not a key; expected section.key", path);
	}
	return map_set(at, path, value, err);
}

int scenario_override(struct scenario_doc *doc, const char *assignment, struct ikv_err *err)
{
	const char *eq = strchr(assignment, '=');
	char key[160];
	if (!eq || eq == assignment || (size_t)(eq - assignment) >= sizeof key)
		return ikv_err_set(err, IKV_USAGE, "-s %.100s: expected section.key=value", assignment);
	memcpy(key, assignment, (size_t)(eq - assignment));
	key[eq - assignment] = 0;
	struct yaml_node *value, *marked;
	if (eq[1] && strchr("[{\"'", eq[1])) {
		if (yaml_parse("-s", eq + 1, strlen(eq + 1), &value, err))
			return -1;
		marked = yaml_copy(value, YAML_COMMAND_LINE);
		yaml_release(value);
	} else { /* plain text stays as it is: paths with ": " or "#" need no quoting */
		marked = calloc(1, sizeof *marked);
		if (marked) {
			marked->type = YAML_SCALAR;
			marked->origin = YAML_COMMAND_LINE;
			marked->by_option = true;
			marked->text = strdup(eq + 1);
		}
	}
	if (!marked || (marked->type == YAML_SCALAR && !marked->text)) {
		yaml_release(marked);
		return out_of_memory(err);
	}
	return yaml_put(doc->root, key, marked, err);
}

static int check_axes(const struct scenario_doc *doc, const struct yaml_node *axes, uint64_t *points,
		      struct ikv_err *err)
{
	if (yaml_expect(axes, YAML_MAP, doc->path, "sweep", err))
		return -1;
	*points = 1;
	for (uint32_t i = 0; i < axes->count; i++) {
		const struct yaml_node *axis = axes->items[i];
		char key[160];
		snprintf(key, sizeof key, "sweep.%.150s", axes->keys[i]);
		if (yaml_expect(axis, YAML_SEQ, doc->path, key, err))
			return -1;
		if (!axis->count)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(doc->path, axis), key,
					  "got an empty list, expected at least one value");
		*points *= axis->count;
		if (*points > SWEEP_POINTS_MAX)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(doc->path, axis), "sweep",
					  "more than %d combinations", SWEEP_POINTS_MAX);
		if (*points * node_count(doc->root) > SWEEP_NODES_MAX)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(doc->path, axis), "sweep",
					  "%llu combinations or more of a document this large; split it",
					  (unsigned long long)*points);
	}
	return 0;
}

/* One axis in a point's label, short enough for plots: the router by its name alone, another policy as
 * section=name, anything else as the last word of its key and the value; a map or list by its number. */
static size_t label_part(char *out, size_t size, uint32_t axis, const char *key, const struct yaml_node *value,
			 uint64_t number)
{
	const char *dot = strrchr(key, '.');
	char text[64], word[64];
	if (value->type == YAML_SCALAR)
		snprintf(text, sizeof text, "%.60s", value->text);
	else
		snprintf(text, sizeof text, "%llu", (unsigned long long)number + 1);
	if (dot && !strcmp(dot, ".policy"))
		snprintf(word, sizeof word, "%.*s=", (int)(dot - key > 40 ? 40 : dot - key), key);
	else
		snprintf(word, sizeof word, "%.60s=", dot ? dot + 1 : key);
	int n = snprintf(out, size, "%s%s%s", axis ? " " : "", strcmp(key, "router.policy") ? word : "", text);
	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

static int make_point(const struct scenario_doc *doc, const struct yaml_node *axes, uint64_t index,
		      struct sweep_point *p, struct ikv_err *err)
{
	char label[1000] = "";
	size_t n = 0;
	uint64_t stride = 1;
	p->root = yaml_copy(doc->root, YAML_FILE);
	if (!p->root)
		return out_of_memory(err);
	for (uint32_t i = 0; axes && i < axes->count; i++)
		stride *= axes->items[i]->count;
	for (uint32_t i = 0; axes && i < axes->count; i++) {
		const struct yaml_node *axis = axes->items[i];
		stride /= axis->count;
		struct yaml_node *value = yaml_copy(axis->items[index / stride % axis->count], YAML_SWEEP);
		if (!value)
			return out_of_memory(err);
		n += label_part(label + n, sizeof label - n, i, axes->keys[i], value, index / stride % axis->count);
		if (yaml_put(p->root, axes->keys[i], value, err))
			return -1;
	}
	p->label = strdup(label);
	return p->label ? 0 : out_of_memory(err);
}

int scenario_sweep(const struct scenario_doc *doc, struct sweep *out, struct ikv_err *err)
{
	const struct yaml_node *axes = yaml_get(doc->root, "sweep");
	uint64_t points = 1;
	memset(out, 0, sizeof *out);
	if (axes && check_axes(doc, axes, &points, err))
		return -1;
	out->points = calloc(points, sizeof *out->points);
	if (!out->points)
		return out_of_memory(err);
	for (uint64_t i = 0; i < points; i++) {
		out->count++;
		if (make_point(doc, axes, i, &out->points[i], err)) {
			scenario_sweep_free(out);
			return -1;
		}
	}
	return 0;
}

void scenario_sweep_free(struct sweep *sweep)
{
	for (uint32_t i = 0; i < sweep->count; i++) {
		free(sweep->points[i].label);
		yaml_release(sweep->points[i].root);
	}
	free(sweep->points);
	memset(sweep, 0, sizeof *sweep);
}

/* Overrides: editing the scenario's tree before it is resolved. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

struct yaml_node *yaml_copy(const struct yaml_node *n, enum yaml_origin origin)
{
	struct yaml_node *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	*c = *n;
	if (origin != YAML_FILE)
		c->origin = origin;
	if (origin == YAML_COMMAND_LINE)
		c->option = "-s";
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

int yaml_set(struct yaml_node *map, const char *key, struct yaml_node *value, struct ikv_err *err)
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

/* What a section's plain text is short for: `router: quest` for `router: {policy: quest}`. NULL: it has no such form. */
static const char *short_for(const char *section)
{
	static const char *const by_policy[] = {"scorer", "router", "prefetch", "residency"};
	for (size_t i = 0; i < sizeof by_policy / sizeof *by_policy; i++)
		if (!strcmp(section, by_policy[i]))
			return "policy";
	return strcmp(section, "kv") ? NULL : "source";
}

/* The map below `key` of `at`, made in the place of `value` where there is none. NULL with an error. */
static struct yaml_node *map_below(struct yaml_node *at, const char *key, const struct yaml_node *value,
				   struct ikv_err *err)
{
	struct yaml_node *there = yaml_get(at, key), *name = NULL;
	const char *chooser = short_for(key);
	if (there && there->type == YAML_MAP)
		return there;
	if (chooser && there && there->type == YAML_SCALAR && !yaml_is_null(there)) {
		name = yaml_copy(there, YAML_FILE);
		if (!name) {
			out_of_memory(err);
			return NULL;
		}
	}
	struct yaml_node *map = calloc(1, sizeof *map);
	if (!map) {
		yaml_release(name);
		out_of_memory(err);
		return NULL;
	}
	*map = (struct yaml_node){.type = YAML_MAP,
				  .origin = value->origin,
				  .option = value->option,
				  .line = value->line,
				  .col = value->col};
	if (name && yaml_set(map, chooser, name, err)) {
		yaml_release(map);
		return NULL;
	}
	return yaml_set(at, key, map, err) ? NULL : map;
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
		at = map_below(at, part, value, err);
		if (!at) {
			yaml_release(value);
			return -1;
		}
		path = dot + 1;
	}
	if (!*path || dot) {
		yaml_release(value);
		return ikv_err_set(err, IKV_USAGE, "\"%s\" is not a key; expected section.key", path);
	}
	return yaml_set(at, path, value, err);
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
			marked->option = "-s";
			marked->text = strdup(eq + 1);
		}
	}
	if (!marked || (marked->type == YAML_SCALAR && !marked->text)) {
		yaml_release(marked);
		return out_of_memory(err);
	}
	return yaml_put(doc->root, key, marked, err);
}

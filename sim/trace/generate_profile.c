#include <stdio.h>
#include <string.h>
#include "sim/trace/generate.h"
#include "sim/datadir.h"
#include "sim/yaml.h"

#define DRAW_MAX 1e9

static const char *const draw_keys[GEN_DRAWS] = {
    "turns",
    "arrival_gap_ms",
    "think_ms",
    "tool_ms",
    "system_tokens",
    "tools_tokens",
    "user_tokens",
    "reasoning_tokens",
    "assistant_tokens",
    "tool_call_tokens",
    "tool_output_tokens",
    "retrieved_tokens",
    "memory_tokens",
};
static const char *const chance_keys[GEN_CHANCES] = {"p_reasoning", "p_tool_call", "p_assistant_text", "p_retrieved",
						     "p_compaction"};
static const char *const shape_names[] = {"constant", "uniform", "normal", "lognormal", "exponential", "geometric"};
/* Parameters of each shape; NULL: the value itself is the parameter. */
static const char *const shape_keys[][2] = {
    {NULL, NULL}, {"min", "max"}, {"mean", "sd"}, {"p50", "p99"}, {"mean", NULL}, {"mean", NULL},
};

static int read_shape(const struct yaml_node *value, const char *path, enum draw_shape shape, struct draw *d,
		      struct ikv_err *err)
{
	double v[2] = {0, 0};
	size_t count = shape_keys[shape][1] ? 2 : 1;
	if (yaml_expect(value, YAML_MAP, path, shape_names[shape], err) ||
	    yaml_check_keys(value, path, shape_names[shape], shape_keys[shape], count, err))
		return -1;
	for (size_t i = 0; i < count; i++) {
		const struct yaml_node *n = yaml_get(value, shape_keys[shape][i]);
		if (!n)
			return ikv_err_at(err, IKV_BAD_INPUT, path, value->line, value->col, shape_names[shape],
					  "\"%s\" is missing", shape_keys[shape][i]);
		if (yaml_real(n, path, shape_keys[shape][i], 0, DRAW_MAX, &v[i], err))
			return -1;
	}
	if ((shape == DRAW_UNIFORM && v[1] < v[0]) || (shape == DRAW_LOGNORMAL && (v[0] <= 0 || v[1] < v[0])) ||
	    (shape == DRAW_GEOMETRIC && v[0] < 1))
		return ikv_err_at(
		    err, IKV_BAD_INPUT, path, value->line, value->col, shape_names[shape],
		    "out of order: expected min <= max, 0 < p50 <= p99, and a geometric mean of at least 1");
	*d = (struct draw){shape, v[0], v[1]};
	/* The 99th percentile lies 2.3263... standard deviations above the median. */
	if (shape == DRAW_LOGNORMAL)
		d->b = (ikv_det_log(v[1]) - ikv_det_log(v[0])) / 2.3263478740408408;
	return 0;
}

static int read_draw(const struct yaml_node *n, const char *path, const char *key, struct draw *d,
		     struct ikv_err *err)
{
	enum { SHAPES = sizeof shape_names / sizeof *shape_names };
	*d = (struct draw){.shape = DRAW_CONSTANT};
	if (n->type == YAML_SCALAR)
		return yaml_real(n, path, key, 0, DRAW_MAX, &d->a, err);
	if (yaml_expect(n, YAML_MAP, path, key, err) || yaml_check_keys(n, path, key, shape_names, SHAPES, err))
		return -1;
	if (n->count != 1)
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key,
				  "found %u distributions, expected one of constant, uniform, normal, lognormal, "
				  "exponential, geometric",
				  n->count);
	for (int i = 0; i < SHAPES; i++)
		if (!strcmp(n->keys[0], shape_names[i]))
			return i == DRAW_CONSTANT ? yaml_real(n->items[0], path, key, 0, DRAW_MAX, &d->a, err)
						  : read_shape(n->items[0], path, (enum draw_shape)i, d, err);
	return -1;
}

static int read_profile(const struct yaml_node *root, const char *path, struct generate_profile *p,
			struct ikv_err *err)
{
	const char *valid[GEN_DRAWS + GEN_CHANCES + 2] = {"profile", "source"};
	memcpy(valid + 2, draw_keys, sizeof draw_keys);
	memcpy(valid + 2 + GEN_DRAWS, chance_keys, sizeof chance_keys);
	if (yaml_expect(root, YAML_MAP, path, "profile", err) ||
	    yaml_check_keys(root, path, NULL, valid, sizeof valid / sizeof *valid, err))
		return -1;
	for (size_t i = 2; i < sizeof valid / sizeof *valid; i++) {
		const struct yaml_node *n = yaml_get(root, valid[i]);
		size_t chance = i - 2 - GEN_DRAWS;
		if (!n)
			return ikv_err_at(err, IKV_BAD_INPUT, path, root->line, root->col, valid[i], "is missing");
		int rc = i < 2 + GEN_DRAWS ? read_draw(n, path, valid[i], &p->draws[i - 2], err)
					   : yaml_real(n, path, valid[i], 0, 1, &p->chances[chance], err);
		if (rc)
			return -1;
	}
	return 0;
}

int generate_profile_read(const char *path, struct generate_profile **out, struct ikv_err *err)
{
	struct yaml_node *root = NULL;
	if (yaml_read(path, &root, err))
		return -1;
	struct generate_profile *p = ikv_alloc(1, sizeof *p, err);
	int rc = p ? read_profile(root, path, p, err) : -1;
	yaml_release(root);
	if (rc) {
		ikv_free(p);
		return -1;
	}
	*out = p;
	return 0;
}

int generate_profile_find(const char *name, struct generate_profile **out, struct ikv_err *err)
{
	char relative[600], path[4096];
	size_t n = strlen(name);
	if (strchr(name, '/') || (n > 5 && !strcmp(name + n - 5, ".yaml")))
		return generate_profile_read(name, out, err);
	snprintf(relative, sizeof relative, "scenarios/profiles/%s.yaml", name);
	if (!datadir_find(relative, path, sizeof path))
		return ikv_err_set(
		    err, IKV_BAD_INPUT,
		    "no profile \"%.60s\"; presets are coding-agent, customer-service, deep-research; a "
		    "path ends in .yaml",
		    name);
	return generate_profile_read(path, out, err);
}

void generate_profile_free(struct generate_profile *p)
{
	ikv_free(p);
}

/* Resolving a scenario's tree into typed structs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"
#include "sim/scenario_parts.h"

int scenario_read(const char *path, struct scenario_doc *doc, struct ikv_err *err)
{
	memset(doc, 0, sizeof *doc);
	if (yaml_read_text(path, &doc->text, err))
		return -1;
	doc->path = strdup(path);
	if (!doc->path || yaml_parse(path, doc->text, strlen(doc->text), &doc->root, err) ||
	    yaml_expect(doc->root, YAML_MAP, path, NULL, err)) {
		scenario_doc_free(doc);
		return -1;
	}
	return 0;
}

void scenario_doc_free(struct scenario_doc *doc)
{
	free(doc->path);
	free(doc->text);
	yaml_release(doc->root);
	memset(doc, 0, sizeof *doc);
}

/* One policy of a table, in a form that all tables share. */
struct candidate {
	const char *name;
	const struct ikv_option *options;
	size_t config_bytes;
};

struct candidates {
	struct candidate items[64];
	uint32_t count;
};

#define CANDIDATES(out, table)                                                                                       \
	for (uint32_t i_ = 0; (table)[i_] && (out)->count < 64; i_++)                                                \
		(out)->items[(out)->count++] = (struct candidate)                                                    \
		{                                                                                                    \
			(table)[i_]->name, (table)[i_]->options, (table)[i_]->config_bytes                           \
		}

static const struct candidate *find_candidate(const struct candidates *all, const char *name)
{
	for (uint32_t i = 0; i < all->count; i++)
		if (!strcmp(all->items[i].name, name))
			return &all->items[i];
	return NULL;
}

static int unknown_policy(const struct yaml_node *n, const char *file, const char *key, const struct candidates *all,
			  struct ikv_err *err)
{
	const char *names[64];
	char list[400] = "";
	size_t used = 0;
	for (uint32_t i = 0; i < all->count; i++) {
		names[i] = all->items[i].name;
		if (used >= sizeof list)
			continue;
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", names[i]);
	}
	const char *near = ikv_nearest(n->text, names, all->count);
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key, "got \"%.60s\", expected one of: %s%s%s%s",
			  n->text, list, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* The first policy that has this option. Where there is one, a sweep over policies may carry the key for those. */
static const char *policy_with(const struct candidates *all, const char *key)
{
	for (uint32_t i = 0; i < all->count; i++)
		if (ikv_option_find(all->items[i].options, key))
			return all->items[i].name;
	return NULL;
}

static int policy_key(const struct yaml_node *map, uint32_t i, const char *file, const char *section,
		      const char *chooser, const struct candidates *all, const struct ikv_option *own,
		      struct policy_choice *out, struct ikv_err *err)
{
	const char *key = map->keys[i];
	const struct yaml_node *v = map->items[i];
	char full[160];
	snprintf(full, sizeof full, "%s.%s", section, key);
	if (!ikv_option_find(out->options, key)) {
		const struct yaml_node *name = yaml_get(map, chooser);
		const char *other = policy_with(all, key);
		if (name && name->origin == YAML_SWEEP && other)
			return 0;
		if (other)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_KEY_PLACE(file, map, i), full,
					  "unknown key for \"%s\"; it is an option of \"%s\"", out->name, other);
		const char *names[256];
		size_t n = 0;
		names[n++] = chooser;
		for (const struct ikv_option *o = own; o && o->name && n < 256; o++)
			names[n++] = o->name;
		for (const struct ikv_option *o = out->options; o && o->name && n < 256; o++)
			names[n++] = o->name;
		const char *near = ikv_nearest(key, names, n);
		return ikv_err_at(
		    err, IKV_BAD_INPUT, YAML_KEY_PLACE(file, map, i), full, "unknown key for \"%s\"%s%s%s", out->name,
		    near ? "; did you mean \"" : "; see `intentkv list`", near ? near : "", near ? "\"?" : "");
	}
	if (yaml_expect(v, YAML_SCALAR, file, full, err))
		return -1;
	struct ikv_err e;
	if (ikv_option_set(out->options, out->config, key, v->text, &e)) {
		const char *what = strstr(e.text, ": ");
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, v), full, "%s", what ? what + 2 : e.text);
	}
	return 0;
}

/* A section that names a policy under `chooser` and gives its options beside it. `own` are options of the section
 * itself, already read. A plain scalar instead of a map names the policy alone. */
static int resolve_policy(const struct yaml_node *n, const char *file, const char *section, const char *chooser,
			  const char *def, const struct candidates *all, const struct ikv_option *own,
			  struct policy_choice *out, struct ikv_err *err)
{
	const struct yaml_node *name = n && n->type == YAML_SCALAR ? n : n ? yaml_get(n, chooser) : NULL;
	char key[160];
	snprintf(key, sizeof key, "%s%s%s", section, name == n && n ? "" : ".", name == n && n ? "" : chooser);
	if (n && n->type == YAML_SEQ)
		return yaml_expect(n, YAML_MAP, file, section, err);
	if (name && yaml_expect(name, YAML_SCALAR, file, key, err))
		return -1;
	const struct candidate *c = find_candidate(all, name ? name->text : def);
	if (!c)
		return unknown_policy(name, file, key, all, err);
	out->name = c->name;
	out->options = c->options;
	out->config = calloc(1, c->config_bytes + 1);
	if (!out->config)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	ikv_option_defaults(c->options, out->config);
	for (uint32_t i = 0; n && n->type == YAML_MAP && i < n->count; i++) {
		if (!strcmp(n->keys[i], chooser) || ikv_option_find(own, n->keys[i]))
			continue;
		if (policy_key(n, i, file, section, chooser, all, own, out, err))
			return -1;
	}
	return 0;
}

/* The keys of `n` that `table` knows, leaving the rest to others. */
static int known_options(const struct yaml_node *n, const char *file, const char *section,
			 const struct ikv_option *table, void *config, struct ikv_err *err)
{
	struct ikv_err e;
	for (uint32_t i = 0; n && n->type == YAML_MAP && i < n->count; i++) {
		const struct yaml_node *v = n->items[i];
		char full[160];
		if (!ikv_option_find(table, n->keys[i]))
			continue;
		snprintf(full, sizeof full, "%s%s%s", section, *section ? "." : "", n->keys[i]);
		if (yaml_expect(v, YAML_SCALAR, file, full, err))
			return -1;
		if (ikv_option_set(table, config, n->keys[i], v->text, &e)) {
			const char *what = strstr(e.text, ": ");
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, v), full, "%s",
					  what ? what + 2 : e.text);
		}
	}
	return 0;
}

static int whole_section(const struct yaml_node *root, const char *file, const char *section,
			 const struct ikv_option *table, void *config, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(root, section);
	ikv_option_defaults(table, config);
	return n ? yaml_options(n, file, section, table, config, err) : 0;
}

static int resolve_top(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	const char *valid[64] = {"intentkv", "name", "description", "seed"};
	size_t n = 4;
	int64_t version;
	for (const struct section *p = sections; p->name; p++)
		if (*p->name)
			valid[n++] = p->name;
	if (yaml_check_keys(root, file, NULL, valid, n, err))
		return -1;
	const struct yaml_node *v = yaml_get(root, "intentkv");
	if (!v)
		return ikv_err_at(err, IKV_BAD_INPUT, file, 1, 1, "intentkv",
				  "missing; expected the line \"intentkv: 1\"");
	if (yaml_int(v, file, "intentkv", 1, 1, &version, err))
		return -1;
	ikv_option_defaults(scenario_top_options, s);
	if (known_options(root, file, "", scenario_top_options, s, err))
		return -1;
	v = yaml_get(root, "name");
	bool control = false; /* it names files below results/ and stands in tables */
	for (const char *c = s->name; *c; c++)
		control |= (unsigned char)*c < 0x20 || *c == 0x7f;
	if (*s->name == '.' || strchr(s->name, '/') || control)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, v), "name",
				  "got \"%.60s\", expected a name without '/' or control characters that does not begin "
				  "with '.'",
				  s->name);
	if (!*s->name) {
		const char *base = strrchr(file, '/');
		snprintf(s->name, sizeof s->name, "%s", base ? base + 1 : file);
		char *dot = strrchr(s->name, '.');
		if (dot)
			*dot = 0;
	}
	return 0;
}

/* The value of one of two keys of a section that clash, else the section: a place for the message. */
static const struct yaml_node *either(const struct yaml_node *section, const char *first, const char *second)
{
	const struct yaml_node *n = yaml_get(section, first);
	n = n ? n : yaml_get(section, second);
	return n ? n : section;
}

static int resolve_model(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	struct model_config *m = &s->model;
	if (whole_section(root, file, "model", scenario_model_options, m, err))
		return -1;
	const struct model_preset *p = model_presets;
	while (p->name && strcmp(p->name, m->preset) != 0)
		p++;
	const struct yaml_node *n = yaml_get(yaml_get(root, "model"), "preset");
	if (!p->name) {
		const char *names[32];
		size_t count = 0;
		for (p = model_presets; p->name; p++)
			names[count++] = p->name;
		const char *near = ikv_nearest(m->preset, names, count);
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), "model.preset",
				  "got \"%.60s\", expected one of `intentkv list models`%s%s%s", m->preset,
				  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	s->preset = *p;
	if (m->layers)
		s->preset.layers = (uint32_t)m->layers;
	if (m->q_heads)
		s->preset.q_heads = (uint32_t)m->q_heads;
	if (m->kv_heads)
		s->preset.kv_heads = (uint32_t)m->kv_heads;
	if (m->head_dim)
		s->preset.head_dim = (uint32_t)m->head_dim;
	if (!m->weight_bytes)
		m->weight_bytes = (int64_t)(2 * p->parameters);
	if (scenario_latent_model(root, file, s, err))
		return -1;
	n = yaml_get(root, "model");
	if (s->preset.q_heads % s->preset.kv_heads != 0)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, either(n, "q_heads", "kv_heads")),
				  m->q_heads ? "model.q_heads" : "model.kv_heads",
				  "got %u query heads and %u KV heads, expected a multiple", s->preset.q_heads,
				  s->preset.kv_heads);
	if (m->executed_layers > s->preset.layers)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, either(n, "executed_layers", "layers")),
				  "model.executed_layers", "got %lld, but the model has %u layers",
				  (long long)m->executed_layers, s->preset.layers);
	return 0;
}

static int resolve_pressure(const struct yaml_node *n, const char *file, struct scenario *s, struct ikv_err *err)
{
	ikv_option_defaults(scenario_pressure_options, &s->pressure);
	if (known_options(n, file, "router", scenario_pressure_options, &s->pressure, err))
		return -1;
	s->pressure.pressure_auto = !strcmp(s->pressure.pressure, "auto");
	if (s->pressure.pressure_auto)
		return 0;
	const struct yaml_node *v = yaml_get(n, "memory_pressure");
	struct yaml_node fallback = {.type = YAML_SCALAR, .text = s->pressure.pressure};
	return yaml_real(v ? v : &fallback, file, "router.memory_pressure", 0, 1, &s->pressure.memory_pressure, err);
}

static int resolve_policies(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	struct candidates scorers = {.count = 0}, routers = {.count = 0}, prefetchers = {.count = 0},
			  kvs = {.count = 0};
	const struct yaml_node *router = yaml_get(root, "router");
	CANDIDATES(&scorers, ikv_scorers());
	CANDIDATES(&routers, ikv_routers());
	CANDIDATES(&prefetchers, ikv_prefetchers());
	CANDIDATES(&kvs, sources);
	const char *kv_default = s->sessions.source == SESSIONS_CAPTURE ? "capture" : "synthetic";
	if (resolve_policy(yaml_get(root, "kv"), file, "kv", "source", kv_default, &kvs, NULL, &s->kv, err) ||
	    resolve_policy(yaml_get(root, "scorer"), file, "scorer", "policy", "quest", &scorers, NULL, &s->scorer,
			   err) ||
	    resolve_pressure(router, file, s, err) ||
	    resolve_policy(router, file, "router", "policy", "semantic", &routers, scenario_pressure_options,
			   &s->router, err) ||
	    resolve_policy(yaml_get(root, "prefetch"), file, "prefetch", "policy", "frequency", &prefetchers, NULL,
			   &s->prefetch, err))
		return -1;
	s->source = source_find(s->kv.name);
	s->scorer_ops = ikv_scorer_find(s->scorer.name);
	s->router_ops = ikv_router_find(s->router.name);
	s->prefetch_ops = ikv_prefetcher_find(s->prefetch.name);
	const struct ikv_option *window = ikv_option_find(s->router.options, "recent_window_tokens");
	if (window && s->intent.recent_window_tokens >= 0 && !yaml_get(router, "recent_window_tokens"))
		memcpy((char *)s->router.config + window->offset, &s->intent.recent_window_tokens, sizeof(int64_t));
	return 0;
}

static int resolve_memory(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	static const char *const others[] = {"tiers", "residency"};
	struct candidates residencies = {.count = 0};
	const struct yaml_node *n = yaml_get(root, "memory");
	const char *valid[128];
	size_t count = 0;
	CANDIDATES(&residencies, ikv_residencies());
	for (size_t i = 0; i < 2; i++)
		valid[count++] = others[i];
	for (const struct ikv_option *o = scenario_memory_options; o->name; o++)
		valid[count++] = o->name;
	for (const struct ikv_option *o = ikv_memory_options; o->name; o++)
		valid[count++] = o->name;
	if (n && yaml_check_keys(n, file, "memory", valid, count, err))
		return -1;
	ikv_option_defaults(scenario_memory_options, &s->memory);
	ikv_option_defaults(ikv_memory_options, &s->memory.manager);
	if (known_options(n, file, "memory", scenario_memory_options, &s->memory, err) ||
	    known_options(n, file, "memory", ikv_memory_options, &s->memory.manager, err) ||
	    resolve_policy(yaml_get(n, "residency"), file, "memory.residency", "policy", "lru", &residencies, NULL,
			   &s->residency, err) ||
	    scenario_tiers(yaml_get(n, "tiers"), file, s, err))
		return -1;
	s->residency_ops = ikv_residency_find(s->residency.name);
	const struct yaml_node *chosen = yaml_get(n, "residency");
	if (s->residency_ops->foresee)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, chosen), "memory.residency",
				  "got \"%s\", which needs to know the future; only `intentkv mrc` has it",
				  s->residency.name);
	return 0;
}

static int resolve_cost(const struct scenario_doc *doc, const struct yaml_node *root, struct scenario *s,
			struct ikv_err *err)
{
	const char *file = doc->path;
	const struct yaml_node *n = yaml_get(root, "cost");
	const char *valid[64];
	size_t count = 0;
	valid[count++] = "machine";
	for (const struct ikv_option *o = ikv_machine_options; o->name; o++)
		valid[count++] = o->name;
	if (n && yaml_check_keys(n, file, "cost", valid, count, err))
		return -1;
	ikv_option_defaults(scenario_cost_options, s);
	if (known_options(n, file, "cost", scenario_cost_options, s, err))
		return -1;
	struct ikv_err e;
	const struct yaml_node *name = yaml_get(n, "machine");
	if (strchr(s->machine_name, '/') &&
	    scenario_place(doc, name, "cost.machine", s->machine_name, sizeof s->machine_name, err))
		return -1;
	if (machine_read(s->machine_name, &s->machine, &e)) {
		if (name)
			return ikv_err_at(err, e.status, YAML_PLACE(file, name), "cost.machine", "%s", e.text);
		*err = e;
		return -1;
	}
	return known_options(n, file, "cost", ikv_machine_options, &s->machine, err);
}

int scenario_resolve(const struct scenario_doc *doc, const struct yaml_node *root, struct scenario *s,
		     struct ikv_err *err)
{
	const char *file = doc->path;
	memset(s, 0, sizeof *s);
	s->file = file;
	if (resolve_top(root, file, s, err) || resolve_model(root, file, s, err) ||
	    whole_section(root, file, "sessions", scenario_sessions_options, &s->sessions, err) ||
	    whole_section(root, file, "attention", scenario_attention_options, &s->attention, err) ||
	    whole_section(root, file, "intent", scenario_intent_options, &s->intent, err) ||
	    whole_section(root, file, "record", scenario_record_options, &s->record, err) ||
	    whole_section(root, file, "specattn", ikv_specattn_options, &s->specattn, err) ||
	    resolve_policies(root, file, s, err) || resolve_memory(root, file, s, err) ||
	    scenario_formats(yaml_get(root, "formats"), file, s, err) ||
	    scenario_latent_formats(root, file, s, err) || resolve_cost(doc, root, s, err) ||
	    scenario_cross_check(root, file, s, err) || scenario_params(root, s, err)) {
		scenario_free(s);
		return -1;
	}
	return 0;
}

void scenario_free(struct scenario *s)
{
	free(s->kv.config);
	free(s->scorer.config);
	free(s->router.config);
	free(s->prefetch.config);
	free(s->residency.config);
	free(s->params);
	memset(s, 0, sizeof *s);
}

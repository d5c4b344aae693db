/* Tiers, ladders, cross checks and the record of parameters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario_parts.h"
#include "sim/trace/trace.h"

static int read_tier(const struct yaml_node *n, const char *file, bool last, struct ikv_tier *tier,
		     struct ikv_err *err)
{
	static const char *const valid[] = {"name", "capacity"};
	static const struct ikv_option capacity[] = {{"capacity", IKV_OPT_BYTES, 0, "0", 0, 0, NULL, ""},
						     IKV_OPTION_END};
	if (yaml_check_keys(n, file, "memory.tiers", valid, 2, err))
		return -1;
	const struct yaml_node *name = yaml_get(n, "name"), *size = yaml_get(n, "capacity");
	if (!name || name->type != YAML_SCALAR || !*name->text || strlen(name->text) >= sizeof tier->name)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, name ? name : n), "memory.tiers.name",
				  "expected a name of at most %zu letters", sizeof tier->name - 1);
	strcpy(tier->name, name->text);
	tier->capacity_bytes = 0;
	if (size && yaml_expect(size, YAML_SCALAR, file, "memory.tiers.capacity", err))
		return -1;
	if (size && strcmp(size->text, "unbounded") != 0) {
		struct ikv_err e;
		if (ikv_option_set(capacity, &tier->capacity_bytes, "capacity", size->text, &e))
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, size), "memory.tiers.capacity", "%s",
					  strstr(e.text, ": ") ? strstr(e.text, ": ") + 2 : e.text);
		if (tier->capacity_bytes == 0)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, size), "memory.tiers.capacity",
					  "got \"%.40s\", expected more than 0, or unbounded", size->text);
	}
	if (!last && tier->capacity_bytes == 0)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), "memory.tiers",
				  "tier \"%s\" is unbounded; only the last one may be", tier->name);
	return 0;
}

int scenario_tiers(const struct yaml_node *n, const char *file, struct scenario *s, struct ikv_err *err)
{
	if (!n) {
		s->tier_count = 1;
		strcpy(s->tiers[0].name, "hbm");
		return 0;
	}
	if (yaml_expect(n, YAML_SEQ, file, "memory.tiers", err))
		return -1;
	if (n->count < 1 || n->count > IKV_TIERS_MAX)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), "memory.tiers",
				  "got %u tiers, expected 1 to %d", n->count, IKV_TIERS_MAX);
	s->tier_count = n->count;
	for (uint32_t i = 0; i < n->count; i++)
		if (read_tier(n->items[i], file, i + 1 == n->count, &s->tiers[i], err))
			return -1;
	for (uint32_t i = 1; i < n->count; i++)
		for (uint32_t j = 0; j < i; j++)
			if (!strcmp(s->tiers[i].name, s->tiers[j].name))
				return ikv_err_at(
				    err, IKV_BAD_INPUT, YAML_PLACE(file, n->items[i]), "memory.tiers.name",
				    "got \"%s\" twice, expected a name of its own for each tier", s->tiers[i].name);
	return 0;
}

/* One word of a rule as a number: -1 for "any" or an absent key. */
static int rule_word(const struct yaml_node *rule, const char *file, const char *key, const char *const *names,
		     int *out, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(rule, key);
	char full[64];
	size_t count = 0;
	*out = IKV_ANY;
	snprintf(full, sizeof full, "formats.rules.%s", key);
	if (!n)
		return 0;
	if (yaml_expect(n, YAML_SCALAR, file, full, err))
		return -1;
	if (!strcmp(n->text, "any"))
		return 0;
	for (; names[count]; count++) {
		if (!strcmp(names[count], n->text)) {
			*out = (int)count;
			return 0;
		}
	}
	const char *near = ikv_nearest(n->text, names, count);
	char list[300] = "any";
	for (size_t i = 0, used = 3; i < count && used < sizeof list; i++)
		used += (size_t)snprintf(list + used, sizeof list - used, ", %s", names[i]);
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), full, "got \"%.40s\", expected one of: %s%s%s%s",
			  n->text, list, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int read_rule(const struct yaml_node *n, const char *file, struct ikv_ladder_rule *rule, struct ikv_err *err)
{
	static const char *const valid[] = {"policy", "kind", "band", "preserved", "pressure_above", "format"};
	static const char *const bands[] = {"none", "low", "medium", "high", NULL};
	static const char *const flags[] = {"false", "true", NULL};
	int format;
	if (yaml_check_keys(n, file, "formats.rules", valid, 6, err) ||
	    rule_word(n, file, "policy", ikv_policy_names(), &rule->policy, err) ||
	    rule_word(n, file, "kind", ikv_kind_names(), &rule->kind, err) ||
	    rule_word(n, file, "band", bands, &rule->band, err) ||
	    rule_word(n, file, "preserved", flags, &rule->preserved, err) ||
	    rule_word(n, file, "format", ikv_format_names(), &format, err))
		return -1;
	if (format == IKV_ANY)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), "formats.rules.format",
				  "missing; expected a format, see `intentkv list formats`");
	rule->format = (enum ikv_format)format;
	rule->pressure_above = -1;
	const struct yaml_node *p = yaml_get(n, "pressure_above");
	return p ? yaml_real(p, file, "formats.rules.pressure_above", -1, 1, &rule->pressure_above, err) : 0;
}

static int own_rules(const struct yaml_node *n, const char *file, struct scenario *s, struct ikv_err *err)
{
	struct ikv_err e;
	if (yaml_expect(n, YAML_SEQ, file, "formats.rules", err))
		return -1;
	if (n->count > SCENARIO_RULES_MAX)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), "formats.rules",
				  "got %u rules, expected at most %d", n->count, SCENARIO_RULES_MAX);
	for (uint32_t i = 0; i < n->count; i++)
		if (read_rule(n->items[i], file, &s->rules[i], err))
			return -1;
	s->ladder.name = "own";
	s->ladder.summary = "rules of the scenario";
	s->ladder.rules = s->rules;
	s->ladder.count = n->count;
	if (ikv_ladder_check(&s->ladder, &e))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), "formats.rules", "%s", e.text);
	return 0;
}

int scenario_formats(const struct yaml_node *n, const char *file, struct scenario *s, struct ikv_err *err)
{
	static const char *const valid[] = {"ladder", "high", "medium", "rules"};
	ikv_option_defaults(scenario_formats_options, &s->formats);
	if (n && yaml_check_keys(n, file, "formats", valid, 4, err))
		return -1;
	for (const struct ikv_option *o = scenario_formats_options; n && o->name; o++) {
		const struct yaml_node *v = yaml_get(n, o->name);
		struct ikv_err e;
		char full[64];
		snprintf(full, sizeof full, "formats.%s", o->name);
		if (v && (yaml_expect(v, YAML_SCALAR, file, full, err)))
			return -1;
		if (v && ikv_option_set(scenario_formats_options, &s->formats, o->name, v->text, &e))
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, v), full, "%s",
					  strstr(e.text, ": ") ? strstr(e.text, ": ") + 2 : e.text);
	}
	const struct ikv_ladder *preset = ikv_ladder_find(s->formats.ladder);
	if (!preset) {
		const char *names[32];
		size_t count = 0;
		for (const struct ikv_ladder *const *l = ikv_ladder_presets(); *l && count < 32; l++)
			names[count++] = (*l)->name;
		const char *near = ikv_nearest(s->formats.ladder, names, count);
		const struct yaml_node *v = yaml_get(n, "ladder");
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, v), "formats.ladder",
				  "got \"%.60s\", expected one of `intentkv list ladders`%s%s%s", s->formats.ladder,
				  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	s->ladder = *preset;
	if (s->formats.high >= 0)
		s->ladder.high = s->formats.high;
	if (s->formats.medium >= 0)
		s->ladder.medium = s->formats.medium;
	if (s->ladder.medium > s->ladder.high)
		return ikv_err_at(err, IKV_BAD_INPUT, file, n ? n->line : 0, n ? n->col : 0, "formats.medium",
				  "got %g, expected at most high (%g)", s->ladder.medium, s->ladder.high);
	const struct yaml_node *rules = yaml_get(n, "rules");
	return rules ? own_rules(rules, file, s, err) : 0;
}

/* Prompts that are really attended to. */
static int check_prefill(const struct yaml_node *root, const char *file, const struct scenario *s,
			 struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(root, "attention");
	const struct yaml_node *place = n && yaml_get(n, "prefill") ? yaml_get(n, "prefill") : root;
	const char *backend = backend_names[s->attention.backend];
	if (!s->attention.prefill)
		return 0;
	if (s->attention.execute == EXECUTE_OFF)
		return ikv_err_at(
		    err, IKV_BAD_INPUT, YAML_PLACE(file, place), "attention.prefill",
		    "got true, but at attention.execute off no attention runs; expected sampled or full");
	if (!strcmp(backend, "cuda"))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, place), "attention.prefill",
				  "got true, but the backend cuda is not for more than 16 query rows a head; expected "
				  "cpu or ref");
	if (!s->source->prompt)
		return ikv_err_at(
		    err, IKV_BAD_INPUT, YAML_PLACE(file, place), "attention.prefill",
		    "got true, but kv.source \"%s\" has no queries of prompt tokens; expected synthetic", s->kv.name);
	return 0;
}

/* What the source of K and V needs: a file, or channels enough. */
static int check_source(const struct yaml_node *root, const char *file, const struct scenario *s, struct ikv_err *err)
{
	enum { CHANNELS_MIN = 16 };
	const struct ikv_option *path = ikv_option_find(s->kv.options, "path");
	const struct yaml_node *kv = yaml_get(root, "kv"), *dim = yaml_get(yaml_get(root, "model"), "head_dim");
	char text[IKV_OPT_STRING_BYTES];
	if (path) {
		ikv_option_get(path, s->kv.config, text, sizeof text);
		return *text ? 0
			     : ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, kv ? kv : root), "kv.path",
					  "missing; kv.source \"%s\" needs its file: -s kv.path=FILE", s->kv.name);
	}
	if (dim && !s->preset.latent_dim && s->preset.head_dim < CHANNELS_MIN)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, dim), "model.head_dim",
				  "got %u, expected at least %d for kv.source \"%s\"", s->preset.head_dim, CHANNELS_MIN,
				  s->kv.name);
	return 0;
}

int scenario_cross_check(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(root, "sessions");
	const struct yaml_node *place = n ? n : root;
	if (s->sessions.source == SESSIONS_TRACE && !*s->sessions.path)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, place), "sessions.path",
				  "missing; a trace needs its file or folder: -s sessions.path=FILE");
	const struct yaml_node *format = yaml_get(n, "format");
	if (format && strcmp(s->sessions.format, "auto") != 0 && !importer_find(s->sessions.format)) {
		const char *names[32] = {"auto"};
		size_t count = 1;
		for (; importers[count - 1] && count < 32; count++)
			names[count] = importers[count - 1]->name;
		const char *near = ikv_nearest(s->sessions.format, names, count);
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, format), "sessions.format",
				  "got \"%.60s\", expected auto or one of `intentkv list importers`%s%s%s",
				  s->sessions.format, near ? "; did you mean \"" : "", near ? near : "",
				  near ? "\"?" : "");
	}
	bool capture = !strcmp(s->kv.name, "capture");
	if (check_source(root, file, s, err))
		return -1;
	if (s->sessions.source == SESSIONS_CAPTURE && !capture)
		return ikv_err_at(
		    err, IKV_BAD_INPUT, YAML_PLACE(file, place), "sessions.source",
		    "got \"capture\", but kv.source is \"%s\"; captured sessions come with captured K and V",
		    s->kv.name);
	if (capture && s->sessions.source != SESSIONS_CAPTURE)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, place), "sessions.source",
				  "kv.source \"capture\" brings its own sessions; expected sessions.source: capture");
	/* What a policy's options mean together. */
	struct ikv_err e;
	void *router, *prefetcher;
	if (s->router_ops->create(&router, s->router.config, &s->ladder, &e)) {
		n = yaml_get(root, "router");
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n ? n : root), "router", "%s", e.text);
	}
	s->router_ops->destroy(router);
	if (s->prefetch_ops->create(&prefetcher, s->prefetch.config, 1, &e)) {
		n = yaml_get(root, "prefetch");
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n ? n : root), "prefetch", "%s", e.text);
	}
	s->prefetch_ops->destroy(prefetcher);
	if (s->attention.execute != EXECUTE_OFF && s->scorer_ops->page_scores != IKV_PAGE_COSINE &&
	    (s->router_ops->needs(s->router.config) & IKV_WANTS_PAGE_COSINES)) {
		n = yaml_get(yaml_get(root, "router"), "refine");
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n ? n : root), "router.refine",
				  "got \"cosine\", but scorer.policy is \"%s\": expected scorer cosine", s->scorer.name);
	}
	return check_prefill(root, file, s, err);
}

static const char *origin_of(const struct yaml_node *n)
{
	static const char *const names[] = {"scenario", "command-line", "sweep"};
	return n ? names[n->origin] : "default";
}

static int add_param(struct scenario *s, const char *section, const char *key, const char *value,
		     const struct yaml_node *node, struct ikv_err *err)
{
	if (s->param_count == s->param_cap) {
		uint32_t cap = s->param_cap ? 2 * s->param_cap : 64;
		struct param *p = realloc(s->params, cap * sizeof *p);
		if (!p)
			return ikv_err_set(err, IKV_FAILED, "out of memory");
		s->params = p;
		s->param_cap = cap;
	}
	struct param *p = &s->params[s->param_count++];
	snprintf(p->key, sizeof p->key, "%s%s%s", section, *section ? "." : "", key);
	snprintf(p->value, sizeof p->value, "%s", value);
	p->origin = origin_of(node);
	return 0;
}

/* `n`: the map in the scenario that holds the options of the table, which are named "<section>.<option>". */
static int add_options(struct scenario *s, const struct yaml_node *n, const char *section,
		       const struct ikv_option *table, const void *config, struct ikv_err *err)
{
	char value[IKV_OPT_STRING_BYTES];
	for (; table && table->name; table++) {
		ikv_option_get(table, config, value, sizeof value);
		if (add_param(s, section, table->name, value, yaml_get(n, table->name), err))
			return -1;
	}
	return 0;
}

static int add_table(struct scenario *s, const struct yaml_node *root, const char *section,
		     const struct ikv_option *table, const void *config, struct ikv_err *err)
{
	return add_options(s, *section ? yaml_get(root, section) : root, section, table, config, err);
}

static int add_policy(struct scenario *s, const struct yaml_node *root, const char *section, const char *chooser,
		      const struct policy_choice *p, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(root, section);
	const struct yaml_node *name = n && n->type == YAML_SCALAR ? n : yaml_get(n, chooser);
	return add_param(s, section, chooser, p->name, name, err) ||
		       add_table(s, root, section, p->options, p->config, err)
		   ? -1
		   : 0;
}

/* Named "memory.residency" alone; its options follow as "memory.residency.<option>". */
static int add_residency(struct scenario *s, const struct yaml_node *memory, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(memory, "residency");
	const struct yaml_node *name = n && n->type == YAML_SCALAR ? n : yaml_get(n, "policy");
	return add_param(s, "memory", "residency", s->residency.name, name, err) ||
		       add_options(s, n, "memory.residency", s->residency.options, s->residency.config, err)
		   ? -1
		   : 0;
}

int scenario_params(const struct yaml_node *root, struct scenario *s, struct ikv_err *err)
{
	const struct yaml_node *memory = yaml_get(root, "memory");
	char key[32], value[64];
	if (add_table(s, root, "", scenario_top_options, s, err) ||
	    add_table(s, root, "model", scenario_model_options, &s->model, err) ||
	    add_table(s, root, "sessions", scenario_sessions_options, &s->sessions, err) ||
	    add_table(s, root, "attention", scenario_attention_options, &s->attention, err) ||
	    add_table(s, root, "intent", scenario_intent_options, &s->intent, err) ||
	    add_policy(s, root, "kv", "source", &s->kv, err) ||
	    add_policy(s, root, "scorer", "policy", &s->scorer, err) ||
	    add_policy(s, root, "router", "policy", &s->router, err) ||
	    add_table(s, root, "router", scenario_pressure_options, &s->pressure, err) ||
	    add_table(s, root, "formats", scenario_formats_options, &s->formats, err) ||
	    add_table(s, root, "memory", scenario_memory_options, &s->memory, err) ||
	    add_table(s, root, "memory", ikv_memory_options, &s->memory.manager, err) ||
	    add_residency(s, memory, err) ||
	    add_policy(s, root, "prefetch", "policy", &s->prefetch, err) ||
	    add_table(s, root, "specattn", ikv_specattn_options, &s->specattn, err) ||
	    add_table(s, root, "cost", scenario_cost_options, s, err) ||
	    add_table(s, root, "cost", ikv_machine_options, &s->machine, err) ||
	    add_table(s, root, "record", scenario_record_options, &s->record, err))
		return -1;
	for (uint32_t i = 0; i < s->tier_count; i++) {
		snprintf(key, sizeof key, "tiers.%s", s->tiers[i].name);
		if (s->tiers[i].capacity_bytes)
			snprintf(value, sizeof value, "%lld", (long long)s->tiers[i].capacity_bytes);
		else
			snprintf(value, sizeof value, "unbounded");
		if (add_param(s, "memory", key, value, yaml_get(memory, "tiers"), err))
			return -1;
	}
	return 0;
}

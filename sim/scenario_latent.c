/* What a model with latent attention (MLA) allows: its dimensions, and the formats of its pages. */
#include <stdio.h>
#include <string.h>
#include "sim/scenario_parts.h"

enum { LATENT_MIN = 16, ROPE_MIN = 6 }; /* what the synthetic source needs */

int scenario_latent_model(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	const struct model_config *m = &s->model;
	const struct yaml_node *n = yaml_get(root, "model");
	if (m->latent_dim)
		s->preset.latent_dim = (uint32_t)m->latent_dim;
	if (m->rope_dim)
		s->preset.rope_dim = (uint32_t)m->rope_dim;
	if (!s->preset.latent_dim) {
		if (m->rope_dim)
			return ikv_err_at(
			    err, IKV_BAD_INPUT, YAML_PLACE(file, yaml_get(n, "rope_dim")), "model.rope_dim",
			    "got %u, but without latent_dim the keys of a model have one part", s->preset.rope_dim);
		return 0;
	}
	if (m->kv_heads > 1)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, yaml_get(n, "kv_heads")), "model.kv_heads",
				  "got %lld, expected 1: all heads share a latent", (long long)m->kv_heads);
	s->preset.kv_heads = 1;
	if (s->preset.latent_dim < LATENT_MIN)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, yaml_get(n, "latent_dim")), "model.latent_dim",
				  "got %u, expected at least %d", s->preset.latent_dim, LATENT_MIN);
	if (s->preset.rope_dim < ROPE_MIN || s->preset.rope_dim % 2)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, m->rope_dim ? yaml_get(n, "rope_dim") : n),
				  "model.rope_dim", "got %u, expected an even number of at least %d",
				  s->preset.rope_dim, ROPE_MIN);
	return 0;
}

static const char *latent_names(char *text, size_t size)
{
	size_t used = 0;
	*text = 0;
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT && used < size; f++)
		if (ikv_mla_stores((enum ikv_format)f))
			used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
						 ikv_format_info((enum ikv_format)f)->name);
	return text;
}

static int refuse(const struct yaml_node *n, const char *file, const char *key, const char *what, enum ikv_format f,
		  struct ikv_err *err)
{
	char names[120];
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key,
			  "got \"%.60s\"%s%s, but pages of latents are kept in %s", what,
			  strcmp(what, ikv_format_info(f)->name) != 0 ? ", which asks for " : "",
			  strcmp(what, ikv_format_info(f)->name) != 0 ? ikv_format_info(f)->name : "",
			  latent_names(names, sizeof names));
}

int scenario_latent_formats(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(root, "formats"), *router = yaml_get(root, "router"),
			       *memory = yaml_get(root, "memory");
	const struct ikv_option *format = ikv_option_find(s->router.options, "format");
	enum ikv_format f;
	char name[64];
	if (!s->preset.latent_dim || !strcmp(s->kv.name, "capture"))
		return 0;
	if (!yaml_get(n, "ladder") && !yaml_get(n, "rules")) {
		double high = s->ladder.high, medium = s->ladder.medium;
		strcpy(s->formats.ladder, "latent");
		s->ladder = *ikv_ladder_find("latent");
		s->ladder.high = high;
		s->ladder.medium = medium;
	}
	for (uint32_t i = 0; i < s->ladder.count; i++) {
		f = s->ladder.rules[i].format;
		bool own = s->ladder.rules == s->rules;
		if (f != IKV_FMT_SKIP && !ikv_mla_stores(f))
			return refuse(yaml_get(n, own ? "rules" : "ladder"), file,
				      own ? "formats.rules" : "formats.ladder",
				      own ? ikv_format_info(f)->name : s->formats.ladder, f, err);
	}
	if (format) {
		ikv_option_get(format, s->router.config, name, sizeof name);
		if (!ikv_format_by_name(name, &f) && f != IKV_FMT_SKIP && !ikv_mla_stores(f))
			return refuse(yaml_get(router, "format"), file, "router.format", name, f, err);
	}
	if (!yaml_get(memory, "floor"))
		s->memory.manager.floor = IKV_FMT_FP8;
	f = (enum ikv_format)s->memory.manager.floor;
	if (!ikv_mla_stores(f))
		return refuse(yaml_get(memory, "floor"), file, "memory.floor", ikv_format_info(f)->name, f, err);
	return 0;
}

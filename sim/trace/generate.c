/* Agent sessions drawn from a profile, by the profile's model. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "sim/datadir.h"
#include "sim/trace/generate.h"

#define GEN_OPT(field) offsetof(struct generate_config, field)
const struct ikv_option generate_options[] = {
    {"count", IKV_OPT_INT, GEN_OPT(count), "8", 1, 1000000, NULL, "sessions to generate"},
    {"profile", IKV_OPT_STRING, GEN_OPT(profile), "coding-agent", 0, 0, NULL, "preset name or path of a profile"},
    {"context_tokens", IKV_OPT_INT, GEN_OPT(context_tokens), "0", 0, 100000000, NULL,
     "scale sessions to about this longest context; 0: as the profile says"},
    {"turns", IKV_OPT_INT, GEN_OPT(turns), "0", 0, 1000000, NULL, "requests a session; 0: as the profile says"},
    {"max_decode_tokens", IKV_OPT_INT, GEN_OPT(max_decode_tokens), "0", 0, 1000000000, NULL,
     "most tokens generated in a session; 0: no limit"},
    IKV_OPTION_END,
};

static const struct generate_model *const models[] = {&generate_pieces, &generate_requests, &generate_agentic_code};
enum { MODELS = sizeof models / sizeof *models };

const struct yaml_node *generate_need(const struct yaml_node *map, const char *path, const char *key,
				      struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(map, key);
	if (!n)
		ikv_err_at(err, IKV_BAD_INPUT, path, map->line, map->col, key, "is missing");
	return n;
}

static const struct generate_model *find_model(const struct yaml_node *root, const char *path, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(root, "model");
	const char *names[MODELS];
	if (!n)
		return models[0];
	if (yaml_expect(n, YAML_SCALAR, path, "model", err))
		return NULL;
	for (size_t i = 0; i < MODELS; i++) {
		names[i] = models[i]->name;
		if (!strcmp(n->text, names[i]))
			return models[i];
	}
	const char *near = ikv_nearest(n->text, names, MODELS);
	ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, "model",
		   "found \"%.60s\", expected one of pieces, requests, agentic-code%s%s%s", n->text,
		   near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	return NULL;
}

int generate_profile_read(const char *path, struct generate_profile **out, struct ikv_err *err)
{
	struct yaml_node *root = NULL;
	if (yaml_read(path, &root, err))
		return -1;
	struct generate_profile *p = ikv_alloc(1, sizeof *p, err);
	int rc = p ? yaml_expect(root, YAML_MAP, path, "profile", err) : -1;
	if (!rc && !(p->model = find_model(root, path, err)))
		rc = -1;
	if (!rc && !(p->data = ikv_alloc(1, p->model->size, err)))
		rc = -1;
	if (!rc)
		rc = p->model->read(root, path, p->data, err);
	yaml_release(root);
	if (rc) {
		generate_profile_free(p);
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
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "no profile \"%.60s\"; presets are agentic-code, coding-agent, customer-service, "
				   "deep-research; a "
				   "path ends in .yaml",
				   name);
	return generate_profile_read(path, out, err);
}

void generate_profile_free(struct generate_profile *p)
{
	if (p && p->data) {
		p->model->release(p->data);
		ikv_free(p->data);
	}
	ikv_free(p);
}

uint32_t generate_profile_sessions(const struct generate_profile *p)
{
	return p->model->sessions ? p->model->sessions(p->data) : 0;
}

int session_generate(const struct generate_profile *p, const struct generate_config *config, uint64_t seed,
		     struct session_list *out, struct ikv_err *err)
{
	*out = (struct session_list){.facts = {.format = "generate", .tokens_by = "profile"}};
	if (p->model->generate(p->data, config, seed, out, err)) {
		session_list_free(out);
		return -1;
	}
	out->facts.records = out->count;
	return 0;
}

/* Files that a scenario names. A scenario may come from a stranger: what it names lies below its own folder,
 * unless the user says otherwise; what the user gives by -s is taken as it is. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

/* Does `path` lie below `folder`, symbolic links followed? What does not exist is judged as it was `written`. */
static bool below(const char *folder, const char *path, const char *written)
{
	char real_folder[PATH_MAX], real_path[PATH_MAX];
	if (!realpath(folder, real_folder))
		return false;
	if (!realpath(path, real_path))
		return !strstr(written, "..");
	size_t n = strlen(real_folder);
	return !strncmp(real_folder, real_path, n) && (real_path[n] == '/' || !real_path[n] || n == 1);
}

int scenario_place(const struct scenario_doc *doc, const struct yaml_node *n, const char *key, char *path,
		   size_t size, struct ikv_err *err)
{
	char folder[PATH_MAX] = ".", full[PATH_MAX];
	const char *file = doc->path, *slash = strrchr(file, '/');
	if (!n || n->option || !*path)
		return 0;
	if (slash)
		snprintf(folder, sizeof folder, "%.*s", slash == file ? 1 : (int)(slash - file), file);
	int n_full = *path == '/' ? snprintf(full, sizeof full, "%s", path)
				  : snprintf(full, sizeof full, "%s/%s", folder, path);
	if (n_full < 0 || (size_t)n_full >= size || (size_t)n_full >= sizeof full)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key, "the path is too long");
	if (!doc->allow_path && (*path == '/' || !below(folder, full, path)))
		return ikv_err_at(
		    err, IKV_BAD_INPUT, YAML_PLACE(file, n), key,
		    "\"%.200s\" lies outside the scenario's folder; give it with -s %s=FILE or use --allow-path",
		    path, key);
	memcpy(path, full, (size_t)n_full + 1);
	return 0;
}

static bool is_path(const char *profile)
{
	size_t n = strlen(profile);
	return strchr(profile, '/') || (n > 5 && !strcmp(profile + n - 5, ".yaml"));
}

static int place_profile(const struct scenario_doc *doc, const struct yaml_node *n, struct scenario *s,
			 struct ikv_err *err)
{
	char *name = s->sessions.generate.profile;
	struct generate_profile *profile;
	struct ikv_err e;
	if (is_path(name) && scenario_place(doc, n, "sessions.profile", name, IKV_OPT_STRING_BYTES, err))
		return -1;
	if (s->sessions.source != SESSIONS_GENERATE)
		return 0;
	if (!generate_profile_find(name, &profile, &e)) {
		generate_profile_free(profile);
		return 0;
	}
	if (n)
		return ikv_err_at(err, e.status, YAML_PLACE(doc->path, n), "sessions.profile", "%s", e.text);
	*err = e;
	return -1;
}

int scenario_paths(const struct scenario_doc *doc, const struct yaml_node *root, struct scenario *s,
		   struct ikv_err *err)
{
	const struct yaml_node *sessions = yaml_get(root, "sessions"), *kv = yaml_get(root, "kv");
	if (scenario_place(doc, yaml_get(sessions, "path"), "sessions.path", s->sessions.path,
			   sizeof s->sessions.path, err) ||
	    scenario_place(doc, yaml_get(sessions, "tokenizer"), "sessions.tokenizer", s->sessions.tokenizer,
			   sizeof s->sessions.tokenizer, err) ||
	    place_profile(doc, yaml_get(sessions, "profile"), s, err))
		return -1;
	const struct ikv_option *o = ikv_option_find(s->kv.options, "path");
	return o ? scenario_place(doc, yaml_get(kv, "path"), "kv.path", (char *)s->kv.config + o->offset,
				  IKV_OPT_STRING_BYTES, err)
		 : 0;
}

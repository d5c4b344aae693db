/* Files that a scenario names. A scenario may come from a stranger: what it names lies below its own folder,
 * unless the user says otherwise; what the user gives by -s is taken as it is. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

/* Does `path` lie below `folder`, symbolic links followed? A path that does not exist is judged as it is written. */
static bool below(const char *folder, const char *path)
{
	char real_folder[PATH_MAX], real_path[PATH_MAX];
	if (!realpath(folder, real_folder))
		return false;
	if (!realpath(path, real_path))
		return !strstr(path, "..");
	size_t n = strlen(real_folder);
	return !strncmp(real_folder, real_path, n) && (real_path[n] == '/' || !real_path[n] || n == 1);
}

static int place(const char *file, const struct yaml_node *n, const char *key, char *path, size_t size,
                 bool allow_path, struct ikv_err *err)
{
	char folder[PATH_MAX] = ".", full[PATH_MAX];
	const char *slash = strrchr(file, '/');
	if (!n || n->origin == YAML_COMMAND_LINE || !*path)
		return 0;
	if (slash)
		snprintf(folder, sizeof folder, "%.*s", (int)(slash - file), file);
	int n_full = *path == '/' ? snprintf(full, sizeof full, "%s", path) :
	                            snprintf(full, sizeof full, "%s/%s", folder, path);
	if (n_full < 0 || (size_t)n_full >= size || (size_t)n_full >= sizeof full)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key, "the path is too long");
	if (!allow_path && (*path == '/' || !below(folder, full)))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key,
		                  "\"%.200s\" lies outside the scenario's folder; give it with -s %s=… or use --allow-path",
		                  path, key);
	memcpy(path, full, (size_t)n_full + 1);
	return 0;
}

int scenario_paths(const struct scenario_doc *doc, const struct yaml_node *root, struct scenario *s, bool allow_path,
                   struct ikv_err *err)
{
	const struct yaml_node *sessions = yaml_get(root, "sessions"), *kv = yaml_get(root, "kv");
	char *profile = s->sessions.generate.profile;
	if (place(doc->path, yaml_get(sessions, "path"), "sessions.path", s->sessions.path, sizeof s->sessions.path,
	          allow_path, err))
		return -1;
	if (strchr(profile, '/') && place(doc->path, yaml_get(sessions, "profile"), "sessions.profile", profile,
	                                  IKV_OPT_STRING_BYTES, allow_path, err))
		return -1;
	const struct ikv_option *o = ikv_option_find(s->kv.options, "path");
	return o ? place(doc->path, yaml_get(kv, "path"), "kv.path", (char *)s->kv.config + o->offset, IKV_OPT_STRING_BYTES,
	                 allow_path, err) :
	           0;
}

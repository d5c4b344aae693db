/* Machine profiles: machines/<name>.yaml, the constants of the cost model as data. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "sim/calibrate.h"
#include "sim/datadir.h"
#include "sim/output.h"
#include "sim/scenario.h"

/* Options of the profile, `name` and `source` beside them. */
static int read_profile(const char *path, const char *name, struct ikv_machine *out, struct ikv_err *err)
{
	struct yaml_node *root;
	const char *valid[64] = {"name", "source"};
	size_t n = 2;
	if (yaml_read(path, &root, err))
		return -1;
	for (const struct ikv_option *o = ikv_machine_options; o->name && n < 64; o++)
		valid[n++] = o->name;
	int rc = yaml_check_keys(root, path, NULL, valid, n, err);
	memset(out, 0, sizeof *out);
	ikv_option_defaults(ikv_machine_options, out);
	for (uint32_t i = 0; !rc && i < root->count; i++) {
		const struct yaml_node *v = root->items[i];
		struct ikv_err e;
		rc = yaml_expect(v, YAML_SCALAR, path, root->keys[i], err);
		if (rc || !strcmp(root->keys[i], "name") || !strcmp(root->keys[i], "source"))
			continue;
		if (ikv_option_set(ikv_machine_options, out, root->keys[i], v->text, &e)) {
			const char *what = strstr(e.text, ": ");
			rc = ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(path, v), root->keys[i], "%s",
					what ? what + 2 : e.text);
		}
	}
	const struct yaml_node *title = rc ? NULL : yaml_get(root, "name"),
			       *from = rc ? NULL : yaml_get(root, "source");
	snprintf(out->name, sizeof out->name, "%s", title ? title->text : name);
	snprintf(out->source, sizeof out->source, "%s", from ? from->text : "");
	if (!rc && !(out->read_bytes_per_s > 0))
		rc = ikv_err_at(err, IKV_BAD_INPUT, path, root->line, root->col, "read_bytes_per_s",
				"missing; a machine needs its read bandwidth");
	yaml_release(root);
	return rc;
}

int machine_read(const char *name, struct ikv_machine *out, struct ikv_err *err)
{
	char relative[600], path[4096];
	if (strchr(name, '/'))
		return read_profile(name, name, out, err);
	snprintf(relative, sizeof relative, "machines/%.500s.yaml", name);
	if (!datadir_find(relative, path, sizeof path))
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "got \"%.100s\", expected one of `intentkv list machines` or a path", name);
	return read_profile(path, name, out, err);
}

int machine_write(const char *path, const struct ikv_machine *m, bool replace, struct ikv_err *err)
{
	char text[64], usual[64];
	struct ikv_machine defaults;
	struct output out;
	struct stat st;
	if (!replace && stat(path, &st) == 0 && S_ISREG(st.st_mode))
		return ikv_err_set(err, IKV_USAGE, "%s: %s; --force replaces it", path, strerror(EEXIST));
	if (output_open(&out, path, err))
		return -1;
	FILE *f = out.f;
	ikv_option_defaults(ikv_machine_options, &defaults);
	yaml_write_text(f, "name", m->name);
	yaml_write_text(f, "source", m->source);
	for (const struct ikv_option *o = ikv_machine_options; o->name; o++) {
		ikv_option_get(o, m, text, sizeof text);
		ikv_option_get(o, &defaults, usual, sizeof usual);
		if (strcmp(text, usual) != 0)
			fprintf(f, "%s: %.6g\n", o->name, *(const double *)((const char *)m + o->offset));
	}
	return output_close(&out, true, err);
}

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#include "config.h"
#include "sim/datadir.h"
#include "sim/sweep_key.h"

enum { DEPTH_MAX = 8 };

static void add(XXH3_state_t *h, const char *text)
{
	XXH3_128bits_update(h, text, strlen(text) + 1);
}

/* A file's bytes, or a folder's files by name; a file that is missing is told by whoever reads it. */
static int add_file(XXH3_state_t *h, const char *path, int depth, struct ikv_err *err)
{
	static char buffer[1 << 16];
	struct stat st;
	struct dirent **entries;
	int rc = 0;
	if (stat(path, &st) != 0 || depth > DEPTH_MAX) {
		add(h, "missing");
		return 0;
	}
	if (S_ISDIR(st.st_mode)) {
		int n = scandir(path, &entries, NULL, alphasort);
		for (int i = 0; i < n; i++) {
			char inside[4096];
			int size = snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name);
			if (rc == 0 && entries[i]->d_name[0] != '.' && size > 0 && (size_t)size < sizeof inside) {
				add(h, entries[i]->d_name);
				rc = add_file(h, inside, depth + 1, err);
			}
			free(entries[i]);
		}
		if (n >= 0)
			free(entries);
		return rc;
	}
	FILE *f = S_ISREG(st.st_mode) ? fopen(path, "rbe") : NULL;
	if (!f)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot open: %s", path, strerror(errno));
	size_t n;
	while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
		XXH3_128bits_update(h, buffer, n);
	if (ferror(f))
		rc = ikv_err_set(err, IKV_IO, "%s: cannot read: %s", path, strerror(errno));
	fclose(f);
	return rc;
}

/* Points of a sweep read the same few files: a digest is remembered as long as size and time stay. */
static int file_digest(const char *path, XXH128_hash_t *out, struct ikv_err *err)
{
	static struct known {
		char path[IKV_OPT_STRING_BYTES];
		struct timespec changed;
		off_t size;
		XXH128_hash_t digest;
	} known[16];
	static unsigned next;
	struct stat st = {0};
	bool regular = stat(path, &st) == 0 && S_ISREG(st.st_mode);
	for (int i = 0; regular && i < 16; i++) {
		if (!strcmp(known[i].path, path) && known[i].size == st.st_size &&
		    !memcmp(&known[i].changed, &st.st_mtim, sizeof st.st_mtim)) {
			*out = known[i].digest;
			return 0;
		}
	}
	XXH3_state_t *h = XXH3_createState();
	if (!h)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	XXH3_128bits_reset(h);
	int rc = add_file(h, path, 0, err);
	*out = XXH3_128bits_digest(h);
	XXH3_freeState(h);
	if (rc == 0 && regular) {
		struct known *k = &known[next++ % 16];
		snprintf(k->path, sizeof k->path, "%s", path);
		k->changed = st.st_mtim;
		k->size = st.st_size;
		k->digest = *out;
	}
	return rc;
}

static int add_content(XXH3_state_t *h, const char *path, struct ikv_err *err)
{
	XXH128_hash_t digest;
	if (file_digest(path, &digest, err))
		return -1;
	XXH3_128bits_update(h, &digest, sizeof digest);
	return 0;
}

static void add_tree(XXH3_state_t *h, const struct yaml_node *n)
{
	add(h, !n ? "none" : n->type == YAML_SCALAR ? "text" : n->type == YAML_SEQ ? "list" : "map");
	if (n && n->type == YAML_SCALAR)
		add(h, n->text);
	for (uint32_t i = 0; n && i < n->count; i++) {
		if (n->type == YAML_MAP)
			add(h, n->keys[i]);
		add_tree(h, n->items[i]);
	}
	add(h, "end");
}

static bool is_one_of(const char *key, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(key, *list))
			return true;
	return false;
}

/* Names never make another point. Threads and ISA change times alone: they do where a sweep compares those. */
static bool is_silent(const struct param *p)
{
	static const char *const names[] = {"name", "description", NULL};
	static const char *const timing[] = {"attention.threads", "attention.isa", NULL};
	return is_one_of(p->key, names) || (is_one_of(p->key, timing) && strcmp(p->origin, "sweep") != 0);
}

static int add_params(XXH3_state_t *h, const struct scenario *sc, struct ikv_err *err)
{
	static const char *const paths[] = {"sessions.path", "sessions.tokenizer", "kv.path", NULL};
	for (uint32_t i = 0; i < sc->param_count; i++) {
		const struct param *p = &sc->params[i];
		char path[4096];
		if (is_silent(p))
			continue;
		add(h, p->key);
		if (is_one_of(p->key, paths) && *p->value) {
			const struct ikv_option *o =
			    strcmp(p->key, "kv.path") ? NULL : ikv_option_find(sc->kv.options, "path");
			const char *file = o                                 ? (const char *)sc->kv.config + o->offset
					   : strcmp(p->key, "sessions.path") ? sc->sessions.tokenizer
									     : sc->sessions.path;
			if (add_content(h, file, err))
				return -1;
		} else if (!strcmp(p->key, "sessions.profile")) {
			const char *name = sc->sessions.generate.profile;
			size_t n = strlen(name);
			char relative[600];
			bool file = strchr(name, '/') || (n > 5 && !strcmp(name + n - 5, ".yaml"));
			snprintf(relative, sizeof relative, "scenarios/profiles/%.500s.yaml", name);
			if (sc->sessions.source == SESSIONS_GENERATE &&
			    (file || datadir_find(relative, path, sizeof path)) &&
			    add_content(h, file ? name : path, err))
				return -1;
		} else if (strcmp(p->key, "cost.machine")) { /* its constants are settings too */
			add(h, p->value);
		}
	}
	return 0;
}

int sweep_key(const struct scenario *sc, const struct yaml_node *root, char key[33], struct ikv_err *err)
{
	XXH3_state_t *h = XXH3_createState();
	if (!h)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	XXH3_128bits_reset(h);
	add(h, PACKAGE_STRING);
	add_tree(h, yaml_get(yaml_get(root, "formats"), "rules"));
	int rc = add_params(h, sc, err);
	XXH128_hash_t digest = XXH3_128bits_digest(h);
	snprintf(key, 33, "%016llx%016llx", (unsigned long long)digest.high64, (unsigned long long)digest.low64);
	XXH3_freeState(h);
	return rc;
}

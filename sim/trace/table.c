/* The formats that can be read, and reading a file or a folder in one of them. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "sim/trace/table.h"

enum { HEAD_BYTES = 65536, SURE = 50 };

const struct importer *const importers[] = {&importer_intentkv, &importer_mooncake, &importer_weka,
					    &importer_openai_chat, NULL};

const struct importer *importer_find(const char *name)
{
	for (const struct importer *const *i = importers; *i; i++)
		if (!strcmp((*i)->name, name))
			return *i;
	return NULL;
}

static int unknown(const char *path, const char *what, struct ikv_err *err)
{
	char names[200] = "";
	size_t n = 0;
	for (const struct importer *const *i = importers; *i && n < sizeof names; i++)
		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", (*i)->name);
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: %s; known formats: %s", path, what, names);
}

static const struct importer *detect(const char *path, struct ikv_err *err)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
		return NULL;
	}
	char *head = ikv_alloc(HEAD_BYTES, 1, err);
	size_t size = head ? fread(head, 1, HEAD_BYTES, f) : 0;
	fclose(f);
	if (!head)
		return NULL;
	if (size == 0) {
		ikv_free(head);
		ikv_err_set(err, IKV_BAD_INPUT, "%s: the file is empty", path);
		return NULL;
	}
	const struct importer *best = NULL;
	int most = 0;
	bool tie = false;
	for (const struct importer *const *i = importers; *i; i++) {
		int sure = (*i)->detect(path, head, size);
		tie = sure == most ? tie || most > 0 : sure > most ? false : tie;
		if (sure > most) {
			most = sure;
			best = *i;
		}
	}
	ikv_free(head);
	if (most >= SURE && !tie)
		return best;
	unknown(path, tie ? "looks like more than one format, say which" : "the format is not recognised", err);
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(char **names, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(names[i]);
	ikv_free(names);
}

/* Paths of the regular files in a folder, hidden ones left out, in byte order. */
static int list_folder(const char *path, char ***out, size_t *count, struct ikv_err *err)
{
	size_t cap = 0;
	int rc = 0;
	const struct dirent *d;
	DIR *dir = opendir(path);
	*out = NULL;
	*count = 0;
	if (!dir)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
	while (!rc && (d = readdir(dir))) {
		struct stat st;
		char *name = NULL;
		if (d->d_name[0] == '.')
			continue;
		if (asprintf(&name, "%s/%s", path, d->d_name) < 0) {
			rc = ikv_err_set(err, IKV_FAILED, "out of memory");
			break;
		}
		if (stat(name, &st) || !S_ISREG(st.st_mode)) {
			free(name);
			continue;
		}
		if (*count == cap) {
			rc = ikv_grow(out, *count, cap * 2 + 16, sizeof **out, err);
			cap = cap * 2 + 16;
		}
		if (rc)
			free(name);
		else
			(*out)[(*count)++] = name;
	}
	closedir(dir);
	if (rc) {
		free_names(*out, *count);
		return -1;
	}
	if (*count)
		qsort(*out, *count, sizeof **out, by_name);
	return *count ? 0
		      : (free_names(*out, 0), ikv_err_set(err, IKV_BAD_INPUT, "%s: a folder without files", path));
}

static int finish(const char *path, const struct session_options *opts, struct session_list *out, struct ikv_err *err)
{
	if (opts->limit)
		session_list_shrink(out, opts->limit);
	if (out->count == 0)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: no session in it%s", path,
				   out->skipped ? " (all records were bad and skipped)" : "");
	for (uint32_t i = 0; i < out->count; i++) {
		struct ikv_err why;
		if (opts->max_context_tokens > 0 &&
		    session_shorten(&out->items[i], (uint64_t)opts->max_context_tokens))
			out->shortened++;
		if (session_check(&out->items[i], &why))
			return ikv_err_set(err, why.status, "%s: %s", path, why.text);
	}
	return 0;
}

int session_import(const char *path, const char *format, const struct session_options *opts, struct session_list *out,
		   struct ikv_err *err)
{
	static const struct session_options defaults;
	struct stat st;
	char **names = NULL;
	size_t count = 0;
	const struct importer *importer = NULL;
	*out = (struct session_list){.tokens_by = "trace"};
	if (!opts)
		opts = &defaults;
	if (strcmp(format, "auto") != 0 && !(importer = importer_find(format))) {
		char what[80];
		snprintf(what, sizeof what, "unknown format \"%.40s\"", format);
		return unknown(path, what, err);
	}
	if (stat(path, &st))
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
	bool folder = S_ISDIR(st.st_mode);
	if (folder && list_folder(path, &names, &count, err))
		return -1;
	if (!importer)
		importer = detect(folder ? names[0] : path, err);
	int rc = importer ? 0 : -1;
	if (!rc)
		snprintf(out->format, sizeof out->format, "%s", importer->name);
	if (!rc && !folder)
		rc = importer->read(path, opts, out, err);
	for (size_t i = 0; !rc && i < count && !(opts->limit && out->count >= opts->limit); i++)
		rc = importer->read(names[i], opts, out, err);
	if (!rc)
		rc = finish(path, opts, out, err);
	if (folder)
		free_names(names, count);
	if (rc)
		session_list_free(out);
	return rc;
}

/* Reading a file or a folder in one of the formats. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "sim/tokenizer.h"
#include "sim/trace/importer.h"

enum { HEAD_BYTES = 65536, SURE = 50 };

int session_options_tokenizer(struct session_options *options, const char *path, struct ikv_err *err)
{
	if (!path || !*path)
		return 0;
	const char *slash = strrchr(path, '/');
	options->tokenizer_name = slash ? slash + 1 : path;
	return tokenizer_read(path, &options->tokenizer, err);
}

void session_options_free(struct session_options *options)
{
	tokenizer_free(options->tokenizer);
	options->tokenizer = NULL;
}

static int unknown(const char *path, const char *what, struct ikv_err *err)
{
	char names[300] = "";
	size_t n = 0;
	for (const struct importer *const *i = importers; *i && n < sizeof names; i++)
		n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", (*i)->name);
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: %s; known formats: %s", path, what, names);
}

static const struct importer *most_likely(const char *path, const char *head, size_t size, struct ikv_err *err)
{
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
	if (most >= SURE && !tie)
		return best;
	unknown(path, tie ? "looks like more than one format, say which" : "the format is not recognised", err);
	return NULL;
}

/* *check: what an error found wrong. */
static const struct importer *detect(const char *path, enum trace_check *check, struct ikv_err *err)
{
	const struct importer *found = NULL;
	struct trace_input in;
	if (!trace_input_open(&in, path, err)) {
		long size = trace_input_head(&in, HEAD_BYTES, err);
		if (size == 0)
			ikv_err_set(err, IKV_BAD_INPUT, "%s: the file is empty", path);
		else if (size > 0)
			found = most_likely(path, (const char *)in.at, size < HEAD_BYTES ? (size_t)size : HEAD_BYTES,
					    err);
	}
	*check = in.unreadable ? in.check : CHECK_SYNTAX;
	trace_input_close(&in);
	return found;
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

static void release(struct trace *t)
{
	trace_drop(t);
	session_clear(&t->session);
	if (t->forget)
		t->forget(t->memory);
	ikv_free(t->pending);
	ikv_free(t->pending_ids);
	reblock_free(&t->reblocked);
	reblock_free(&t->prior);
	id_set_free(&t->names);
	census_free(&t->seen);
	id_table_free(&t->places);
}

/* A file of a folder that is not what the folder was taken for is left out, and that is said. */
static bool belongs(struct trace *t, const char *path)
{
	struct ikv_err why;
	enum trace_check unused;
	const struct importer *found = detect(path, &unused, &why);
	if (found == t->importer)
		return true;
	t->path = path;
	trace_warn(t, CHECK_SYNTAX, 0, NULL,
		   found ? "left out: %s among files of the format %s" : "left out: not recognised%s%s",
		   found ? found->name : "", found ? t->importer->name : "");
	return false;
}

static int read_files(struct trace *t, char *const *paths, size_t count, struct ikv_err *err)
{
	int rc = 0;
	for (size_t i = 0; !rc && i < count && !trace_full(t); i++) {
		if (count > 1 && t->facts->detected && !belongs(t, paths[i]))
			continue;
		t->path = paths[i];
		t->newest = (struct trace_request){0};
		rc = t->importer->read(t, paths[i], err);
	}
	if (!rc) {
		rc = census_distinct(&t->seen, &t->facts->unique_blocks, err);
		t->facts->prefix_hits = t->facts->block_refs - t->facts->unique_blocks;
	}
	uint64_t read = trace_wants_sessions(t) ? t->sessions : t->facts->requests;
	if (!rc && read == 0 && !t->opts->finding)
		rc = ikv_err_set(err, IKV_BAD_INPUT, "%s: no %s in it%s", paths[0],
				 trace_wants_sessions(t) ? "session" : "request",
				 t->facts->skipped ? " (all records were bad and skipped)" : "");
	return rc;
}

/* The format of the first file that has one. What is wrong with the first is what is told if none has. */
static const struct importer *detect_any(char *const *paths, size_t count, enum trace_check *check, struct ikv_err *err)
{
	const struct importer *found = detect(paths[0], check, err);
	enum trace_check other;
	struct ikv_err unused;
	for (size_t i = 1; !found && i < count; i++)
		found = detect(paths[i], &other, &unused);
	return found;
}

static const struct importer *choose(const char *format, char *const *paths, size_t count, enum trace_check *check,
				     struct ikv_err *err)
{
	char what[80];
	struct stat st;
	if (!strcmp(format, "auto")) {
		if (stat(paths[0], &st) || S_ISREG(st.st_mode))
			return detect_any(paths, count, check, err);
		ikv_err_set(err, IKV_BAD_INPUT, "%s: is no file, and can be read only once; say which format it has",
			    paths[0]);
		return NULL;
	}
	const struct importer *found = importer_find(format);
	snprintf(what, sizeof what, "unknown format \"%.40s\"", format);
	if (!found)
		unknown(paths[0], what, err);
	return found;
}

int trace_read(const char *path, const char *format, const struct session_options *opts,
	       const struct trace_sink *sink, struct trace_facts *facts, struct ikv_err *err)
{
	static const struct session_options defaults;
	struct stat st;
	char *single[] = {(char *)path}, **names = single;
	size_t count = 1;
	*facts = (struct trace_facts){.tokens_by = "trace", .detected = !strcmp(format, "auto")};
	if (stat(path, &st))
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode) && list_folder(path, &names, &count, err))
		return -1;
	struct trace t = {.opts = opts ? opts : &defaults, .sink = sink, .facts = facts};
	enum trace_check check = CHECK_SYNTAX;
	t.importer = choose(format, names, count, &check, err);
	int rc = t.importer ? 0 : -1;
	if (rc && t.opts->finding && facts->detected && err->status == IKV_BAD_INPUT) {
		/* Lint tells of it like of anything else. */
		struct trace_input none = {.path = names[0], .check = check};
		snprintf(facts->format, sizeof facts->format, "unknown");
		rc = trace_bad(&t, &none, err);
	} else if (!rc) {
		snprintf(facts->format, sizeof facts->format, "%s", t.importer->name);
		snprintf(facts->form, sizeof facts->form, "%s", t.importer->name);
		facts->by_session = t.importer->by_session;
		rc = read_files(&t, names, count, err);
	}
	release(&t);
	if (names != single)
		free_names(names, count);
	return rc;
}

static int take(void *ctx, struct session *s, struct ikv_err *err)
{
	return session_list_take(ctx, s, err);
}

int session_import(const char *path, const char *format, const struct session_options *opts, struct session_list *out,
		   struct ikv_err *err)
{
	struct trace_sink sink = {out, take, NULL};
	*out = (struct session_list){0};
	int rc = trace_read(path, format, opts, &sink, &out->facts, err);
	if (rc)
		session_list_free(out);
	return rc;
}

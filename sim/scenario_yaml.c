#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "sim/yaml.h"

enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 64, MAX_EVENTS = 100000 };

struct reader {
	yaml_parser_t parser;
	const char *name, *text;
	size_t size;
	uint32_t events;
	struct ikv_err *err;
};

void yaml_release(struct yaml_node *n)
{
	if (!n)
		return;
	for (uint32_t i = 0; i < n->count; i++) {
		yaml_release(n->items[i]);
		if (n->keys)
			free(n->keys[i]);
	}
	free(n->text);
	free(n->items);
	free(n->keys);
	free(n->key_line);
	free(n->key_col);
	free(n);
}

static int refuse(struct reader *r, yaml_mark_t m, const char *what)
{
	return ikv_err_at(r->err, IKV_BAD_INPUT, r->name, (int)m.line + 1, (int)m.column + 1, NULL, "%s", what);
}

/* The parser's own mark lags behind what it has decoded. */
static yaml_mark_t place_of(const struct reader *r, size_t offset)
{
	yaml_mark_t at = {.index = offset};
	for (size_t i = 0; i < offset && i < r->size; i++) {
		at.column = r->text[i] == '\n' ? 0 : at.column + 1;
		at.line += r->text[i] == '\n';
	}
	return at;
}

static int next_event(struct reader *r, yaml_event_t *e)
{
	if (!yaml_parser_parse(&r->parser, e)) {
		const yaml_parser_t *p = &r->parser;
		if (p->error == YAML_MEMORY_ERROR)
			return ikv_err_set(r->err, IKV_FAILED, "%s: out of memory", r->name);
		yaml_mark_t at = p->error == YAML_READER_ERROR ? place_of(r, p->problem_offset) : p->problem_mark;
		return refuse(r, at, p->problem ? p->problem : "not YAML");
	}
	if (++r->events > MAX_EVENTS) {
		yaml_mark_t at = e->start_mark;
		yaml_event_delete(e);
		return refuse(r, at, "more than 100000 items; this is not a scenario");
	}
	return 0;
}

static struct yaml_node *node_new(struct reader *r, int type, yaml_mark_t m)
{
	struct yaml_node *n = calloc(1, sizeof *n);
	if (!n) {
		ikv_err_set(r->err, IKV_FAILED, "%s: out of memory", r->name);
		return NULL;
	}
	n->type = type;
	n->line = (int)m.line + 1;
	n->col = (int)m.column + 1;
	return n;
}

/* Room for one more child. */
static int node_room(struct reader *r, struct yaml_node *n)
{
	if (n->count < n->cap)
		return 0;
	uint32_t cap = n->cap ? n->cap * 2 : 8;
	void *items = realloc(n->items, cap * sizeof *n->items);
	if (items)
		n->items = items;
	bool ok = items;
	if (n->type == YAML_MAP) {
		void *keys = realloc(n->keys, cap * sizeof *n->keys);
		if (keys)
			n->keys = keys;
		void *lines = realloc(n->key_line, cap * sizeof *n->key_line);
		if (lines)
			n->key_line = lines;
		void *cols = realloc(n->key_col, cap * sizeof *n->key_col);
		if (cols)
			n->key_col = cols;
		ok = ok && keys && lines && cols;
	}
	if (!ok)
		return ikv_err_set(r->err, IKV_FAILED, "%s: out of memory", r->name);
	n->cap = cap;
	return 0;
}

static struct yaml_node *build(struct reader *r, yaml_event_t *e, int depth);

static struct yaml_node *build_scalar(struct reader *r, yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;
	yaml_mark_t at = e->start_mark;
	if (e->data.scalar.anchor || e->data.scalar.tag) {
		refuse(r, at, "anchors and tags are not allowed here");
		return NULL;
	}
	if (strlen(text) != e->data.scalar.length) {
		refuse(r, at, "a NUL character is not allowed here");
		return NULL;
	}
	struct yaml_node *n = node_new(r, YAML_SCALAR, at);
	if (!n)
		return NULL;
	n->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
	n->text = strdup(text);
	if (!n->text) {
		ikv_err_set(r->err, IKV_FAILED, "%s: out of memory", r->name);
		yaml_release(n);
		return NULL;
	}
	return n;
}

static int build_seq(struct reader *r, struct yaml_node *n, int depth)
{
	for (;;) {
		yaml_event_t e;
		if (next_event(r, &e))
			return -1;
		if (e.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&e);
			return 0;
		}
		struct yaml_node *item = node_room(r, n) ? NULL : build(r, &e, depth + 1);
		yaml_event_delete(&e);
		if (!item)
			return -1;
		n->items[n->count++] = item;
	}
}

/* Check a key event and remember it as the key of child n->count. */
static int take_key(struct reader *r, struct yaml_node *n, const yaml_event_t *e)
{
	if (e->type != YAML_SCALAR_EVENT)
		return refuse(r, e->start_mark, "a key must be a plain word");
	const char *key = (const char *)e->data.scalar.value;
	if (!strcmp(key, "<<"))
		return refuse(r, e->start_mark, "merge keys are not allowed here");
	for (uint32_t i = 0; i < n->count; i++)
		if (!strcmp(n->keys[i], key))
			return ikv_err_at(r->err, IKV_BAD_INPUT, r->name, (int)e->start_mark.line + 1,
					  (int)e->start_mark.column + 1, key, "given twice, first in line %d",
					  n->key_line[i]);
	if (node_room(r, n))
		return -1;
	n->key_line[n->count] = (int)e->start_mark.line + 1;
	n->key_col[n->count] = (int)e->start_mark.column + 1;
	n->keys[n->count] = strdup(key);
	return n->keys[n->count] ? 0 : ikv_err_set(r->err, IKV_FAILED, "%s: out of memory", r->name);
}

static int build_map(struct reader *r, struct yaml_node *n, int depth)
{
	for (;;) {
		yaml_event_t e;
		if (next_event(r, &e))
			return -1;
		if (e.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&e);
			return 0;
		}
		int bad = take_key(r, n, &e);
		yaml_event_delete(&e);
		if (bad)
			return -1;
		struct yaml_node *value = NULL;
		if (!next_event(r, &e)) {
			value = build(r, &e, depth + 1);
			yaml_event_delete(&e);
		}
		if (!value) {
			free(n->keys[n->count]);
			return -1;
		}
		n->items[n->count++] = value;
	}
}

static struct yaml_node *build(struct reader *r, yaml_event_t *e, int depth)
{
	struct yaml_node *n;
	if (depth > MAX_DEPTH) {
		refuse(r, e->start_mark, "nested deeper than 64 levels");
		return NULL;
	}
	switch (e->type) {
	case YAML_SCALAR_EVENT:
		return build_scalar(r, e);
	case YAML_SEQUENCE_START_EVENT:
	case YAML_MAPPING_START_EVENT:
		if (e->type == YAML_SEQUENCE_START_EVENT
			? e->data.sequence_start.anchor || e->data.sequence_start.tag
			: e->data.mapping_start.anchor || e->data.mapping_start.tag) {
			refuse(r, e->start_mark, "anchors and tags are not allowed here");
			return NULL;
		}
		n = node_new(r, e->type == YAML_SEQUENCE_START_EVENT ? YAML_SEQ : YAML_MAP, e->start_mark);
		if (n && (n->type == YAML_SEQ ? build_seq(r, n, depth) : build_map(r, n, depth))) {
			yaml_release(n);
			return NULL;
		}
		return n;
	case YAML_ALIAS_EVENT:
		refuse(r, e->start_mark, "aliases are not allowed here");
		return NULL;
	default:
		refuse(r, e->start_mark, "the file is empty");
		return NULL;
	}
}

static int read_document(struct reader *r, struct yaml_node **root)
{
	yaml_event_t e;
	do {
		if (next_event(r, &e))
			return -1;
		if (e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_START_EVENT)
			yaml_event_delete(&e);
		else
			break;
	} while (true);
	*root = build(r, &e, 0);
	yaml_event_delete(&e);
	if (!*root)
		return -1;
	do {
		if (next_event(r, &e))
			return -1;
		bool end = e.type == YAML_STREAM_END_EVENT, more = e.type == YAML_DOCUMENT_START_EVENT;
		yaml_mark_t at = e.start_mark;
		yaml_event_delete(&e);
		if (more)
			return refuse(r, at, "a second document; one file holds one");
		if (end)
			return 0;
	} while (true);
}

int yaml_parse(const char *name, const char *text, size_t size, struct yaml_node **root, struct ikv_err *err)
{
	struct reader r = {.name = name, .text = text, .size = size, .err = err};
	*root = NULL;
	if (size > MAX_BYTES)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: %zu bytes; a scenario has at most %d", name, size,
				   MAX_BYTES);
	if (!yaml_parser_initialize(&r.parser))
		return ikv_err_set(err, IKV_FAILED, "%s: out of memory", name);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, size);
	int bad = read_document(&r, root);
	yaml_parser_delete(&r.parser);
	if (bad) {
		yaml_release(*root);
		*root = NULL;
	}
	return bad;
}

int yaml_read_text(const char *path, char **text, struct ikv_err *err)
{
	*text = NULL;
	FILE *f = fopen(path, "rb");
	if (!f)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot be read: %s", path, strerror(errno));
	char *t = malloc(MAX_BYTES + 2);
	size_t n = t ? fread(t, 1, MAX_BYTES + 1, f) : 0;
	int bad = ferror(f) ? errno : 0;
	fclose(f);
	if (!t)
		return ikv_err_set(err, IKV_FAILED, "%s: out of memory", path);
	t[n] = 0;
	if (bad)
		ikv_err_set(err, IKV_BAD_INPUT, "%s: cannot be read: %s", path, strerror(bad));
	else if (n > MAX_BYTES)
		bad =
		    ikv_err_set(err, IKV_BAD_INPUT, "%s: larger than %d bytes; this is no scenario (a trace is named in one: sessions.path)", path, MAX_BYTES);
	else if (memchr(t, 0, n))
		bad = ikv_err_set(err, IKV_BAD_INPUT, "%s: holds a NUL byte; this is no scenario", path);
	if (bad) {
		free(t);
		return -1;
	}
	*text = t;
	return 0;
}

int yaml_read(const char *path, struct yaml_node **root, struct ikv_err *err)
{
	char *text;
	*root = NULL;
	if (yaml_read_text(path, &text, err))
		return -1;
	int rc = yaml_parse(path, text, strlen(text), root, err);
	free(text);
	return rc;
}

struct yaml_node *yaml_get(const struct yaml_node *map, const char *key)
{
	for (uint32_t i = 0; map && map->type == YAML_MAP && i < map->count; i++)
		if (!strcmp(map->keys[i], key))
			return map->items[i];
	return NULL;
}

bool yaml_is_null(const struct yaml_node *n)
{
	return n->type == YAML_SCALAR && !n->quoted &&
	       (!*n->text || !strcmp(n->text, "~") || !strcmp(n->text, "null"));
}

void yaml_describe(const struct yaml_node *n, char *text, size_t size)
{
	if (n->type == YAML_SCALAR)
		snprintf(text, size, yaml_is_null(n) ? "nothing" : "\"%.80s\"", n->text);
	else
		snprintf(text, size, "%s", n->type == YAML_SEQ ? "a list" : "a map");
}

int yaml_expect(const struct yaml_node *n, int type, const char *file, const char *key, struct ikv_err *err)
{
	static const char *const names[] = {"a single value", "a list", "a map (key: value)"};
	char got[120];
	if ((int)n->type == type)
		return 0;
	yaml_describe(n, got, sizeof got);
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key, "got %s, expected %s", got, names[type]);
}

int yaml_check_keys(const struct yaml_node *map, const char *file, const char *section, const char *const *valid,
		    size_t count, struct ikv_err *err)
{
	if (yaml_expect(map, YAML_MAP, file, section, err))
		return -1;
	for (uint32_t i = 0; i < map->count; i++) {
		size_t k = 0;
		while (k < count && strcmp(valid[k], map->keys[i]) != 0)
			k++;
		if (k < count)
			continue;
		char full[160], list[400] = "";
		snprintf(full, sizeof full, "%s%s%s", section ? section : "", section ? "." : "", map->keys[i]);
		const char *near = ikv_nearest(map->keys[i], valid, count);
		if (near)
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_KEY_PLACE(file, map, i), full,
					  "unknown key; did you mean \"%s\"?", near);
		size_t n = 0;
		for (k = 0; k < count && n < sizeof list - 40; k++)
			n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", k ? ", " : "", valid[k]);
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_KEY_PLACE(file, map, i), full,
				  "unknown key; expected one of: %s", list);
	}
	return 0;
}

int yaml_real(const struct yaml_node *n, const char *file, const char *key, double min, double max, double *out,
	      struct ikv_err *err)
{
	char got[120], *end = NULL;
	double v = 0;
	bool ok = n->type == YAML_SCALAR && !n->quoted && *n->text;
	if (ok) {
		errno = 0;
		v = strtod(n->text, &end);
		ok = !*end && errno != ERANGE && isfinite(v) && v >= min && v <= max;
	}
	if (!ok) {
		yaml_describe(n, got, sizeof got);
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key,
				  "got %s, expected a number from %g to %g", got, min, max);
	}
	*out = v;
	return 0;
}

int yaml_int(const struct yaml_node *n, const char *file, const char *key, int64_t min, int64_t max, int64_t *out,
	     struct ikv_err *err)
{
	char got[120], range[80], *end = NULL;
	long long v = 0;
	bool ok = n->type == YAML_SCALAR && !n->quoted && *n->text;
	if (ok) {
		errno = 0;
		v = strtoll(n->text, &end, 10);
		ok = !*end && !errno && v >= min && v <= max;
	}
	if (!ok) {
		yaml_describe(n, got, sizeof got);
		if (min == max)
			snprintf(range, sizeof range, "%lld", (long long)min);
		else
			snprintf(range, sizeof range, "a whole number from %lld to %lld", (long long)min,
				 (long long)max);
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key, "got %s, expected %s", got, range);
	}
	*out = v;
	return 0;
}

int yaml_options(const struct yaml_node *map, const char *file, const char *section, const struct ikv_option *table,
		 void *config, struct ikv_err *err)
{
	const char *names[256];
	size_t n = 0;
	for (const struct ikv_option *o = table; o && o->name && n < 256; o++)
		names[n++] = o->name;
	if (yaml_check_keys(map, file, section, names, n, err))
		return -1;
	for (uint32_t i = 0; i < map->count; i++) {
		const struct yaml_node *v = map->items[i];
		struct ikv_err e;
		char full[160];
		snprintf(full, sizeof full, "%s%s%s", section ? section : "", section ? "." : "", map->keys[i]);
		if (yaml_expect(v, YAML_SCALAR, file, full, err))
			return -1;
		if (ikv_option_set(table, config, map->keys[i], v->text, &e)) {
			/* The engine's message begins with "key: "; the place and the section belong before it. */
			const char *what = strstr(e.text, ": ");
			return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, v), full, "%s",
					  what ? what + 2 : e.text);
		}
	}
	return 0;
}

void yaml_write_text(FILE *f, const char *key, const char *text)
{
	fprintf(f, "%s: '", key);
	for (const char *p = text; *p; p++) {
		if (*p == '\'')
			fputc('\'', f);
		fputc((unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p, f);
	}
	fputs("'\n", f);
}

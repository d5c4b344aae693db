/* A YAML (or JSON) document as a tree with places, read defensively.
 *
 * Scenario files come from strangers: at most 1 MB, 64 levels deep, 100,000 events; no aliases, anchors,
 * tags or merge keys; duplicate keys are refused. */
#ifndef SIM_YAML_H
#define SIM_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <intentkv.h>

struct yaml_node {
	enum { YAML_SCALAR, YAML_SEQ, YAML_MAP } type;
	char *text;               /* SCALAR */
	bool quoted;              /* SCALAR: was in quotes, so never null or a number */
	struct yaml_node **items; /* SEQ: items; MAP: values */
	char **keys;              /* MAP */
	int *key_line, *key_col;  /* MAP: where each key stands, from 1 */
	uint32_t count, cap;
	int line, col;      /* where the node begins, from 1 */
	const char *option; /* that gave it, "-s": then it has no place in the file; else NULL */
	enum yaml_origin { YAML_FILE, YAML_COMMAND_LINE, YAML_SWEEP } origin;
};

int yaml_read(const char *path, struct yaml_node **root, struct ikv_err *err);
/* The file's text, NUL-terminated and owned by the caller, within the size limit. */
int yaml_read_text(const char *path, char **text, struct ikv_err *err);
/* The same from memory; `name` stands for the file in messages. */
int yaml_parse(const char *name, const char *text, size_t size, struct yaml_node **root, struct ikv_err *err);
/* Not yaml_free: libyaml exports that name. */
void yaml_release(struct yaml_node *root);

/* A deep copy, marked with `origin` unless it is YAML_FILE. NULL when memory is out. */
struct yaml_node *yaml_copy(const struct yaml_node *n, enum yaml_origin origin);
/* Add or replace a child of a map; `value` is taken over, also on failure. */
int yaml_set(struct yaml_node *map, const char *key, struct yaml_node *value, struct ikv_err *err);
/* Put `value` (taken over) at the dotted path, creating maps on the way; replaces what was there. A section that a
 * plain text stands for, such as `router: quest`, becomes a map with that choice. */
int yaml_put(struct yaml_node *root, const char *path, struct yaml_node *value, struct ikv_err *err);
/* Where a node stands, for ikv_err_at: file, line, column; "-s" for what came from the command line. */
#define YAML_PLACE(file, n)                                                                                          \
	(n)->option ? (n)->option : (file), (n)->option ? 0 : (n)->line, (n)->option ? 0 : (n)->col
/* The same of the key of child i of a map. */
#define YAML_KEY_PLACE(file, map, i)                                                                                 \
	(map)->items[i]->option ? (map)->items[i]->option : (file),                                                  \
	    (map)->items[i]->option ? 0 : (map)->key_line[i], (map)->items[i]->option ? 0 : (map)->key_col[i]

/* Value of `key` in a map, NULL if absent. */
struct yaml_node *yaml_get(const struct yaml_node *map, const char *key);
/* A plain null, ~ or empty scalar. */
bool yaml_is_null(const struct yaml_node *n);
/* "a map", "a list", "\"text\"": for messages. */
void yaml_describe(const struct yaml_node *n, char *text, size_t size);

/* Refuse keys of `map` outside `valid`, with the nearest valid one in the message. */
int yaml_check_keys(const struct yaml_node *map, const char *file, const char *section, const char *const *valid,
		    size_t count, struct ikv_err *err);
/* Error unless `n` has the type; `key` names it in the message. */
int yaml_expect(const struct yaml_node *n, int type, const char *file, const char *key, struct ikv_err *err);
/* Numbers: error with place, what was found and the range expected. */
int yaml_real(const struct yaml_node *n, const char *file, const char *key, double min, double max, double *out,
	      struct ikv_err *err);
int yaml_int(const struct yaml_node *n, const char *file, const char *key, int64_t min, int64_t max, int64_t *out,
	     struct ikv_err *err);

/* Read a map into a config struct through its option table; `section` is put before the key in messages. */
int yaml_options(const struct yaml_node *map, const char *file, const char *section, const struct ikv_option *table,
		 void *config, struct ikv_err *err);

/* Write "key: 'text'", on one line and without control characters. */
void yaml_write_text(FILE *f, const char *key, const char *text);

#endif

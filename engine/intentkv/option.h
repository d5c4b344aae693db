/* Option tables: one description of a setting feeds the scenario file, `-s
 * key=value`, `intentkv list`, the generated reference and error messages.
 *
 * A component has a plain config struct and a table of `struct ikv_option` that
 * says, by offset, where each value lies in it. Tables end with a NULL name. */
#ifndef INTENTKV_OPTION_H
#define INTENTKV_OPTION_H

#include <stdbool.h>
#include <stdint.h>
#include "error.h"

enum ikv_option_type {
	IKV_OPT_INT,    /* int64_t */
	IKV_OPT_REAL,   /* double */
	IKV_OPT_BOOL,   /* bool: true/false, yes/no, on/off */
	IKV_OPT_ENUM,   /* int: index into `choices` */
	IKV_OPT_BYTES,  /* int64_t: 512MiB, 1.5GiB, 64KB, 4096 */
	IKV_OPT_BUDGET, /* struct ikv_budget: 4096 (tokens), 25% , mass:0.95, none */
	IKV_OPT_STRING, /* char [IKV_OPT_STRING_BYTES] */
};
#define IKV_OPT_STRING_BYTES 512

/* How much a selection may read. */
struct ikv_budget {
	enum { IKV_BUDGET_NONE, IKV_BUDGET_TOKENS, IKV_BUDGET_FRACTION, IKV_BUDGET_MASS } kind;
	double value;
};

struct ikv_option {
	const char *name;
	enum ikv_option_type type;
	size_t offset;              /* of the value in the config struct */
	const char *def;            /* default, in the text form a user would write */
	double min, max;            /* inclusive, for numbers; both 0: unbounded; min -1 where -1, the default, means
				       "unset": then -1 or from 0 on */
	const char *const *choices; /* NULL-terminated, for ENUM */
	const char *help;           /* one line: what it does, unit, source */
};

/* Fill `config` with the table's defaults. */
IKV_API void ikv_option_defaults(const struct ikv_option *table, void *config);

/* Parse `text` into the option `name`. On failure the message says key, what was
 * found and what was expected, and the nearest valid key; the config is unchanged. */
IKV_API int ikv_option_set(const struct ikv_option *table, void *config, const char *name, const char *text,
			   struct ikv_err *err);

/* The option's value in text form, as ikv_option_set would take it. */
IKV_API void ikv_option_get(const struct ikv_option *opt, const void *config, char *text, size_t size);

IKV_API const struct ikv_option *ikv_option_find(const struct ikv_option *table, const char *name);

/* "number from 0 to 1", "one of: a, b", …: what the option accepts, for messages and the docs. */
IKV_API void ikv_option_expects(const struct ikv_option *opt, char *text, size_t size);

#define IKV_OPTION_END                                                                                               \
	{                                                                                                            \
		.name = NULL                                                                                         \
	}

/* Pages that a budget allows of a context of `tokens`: ceil(fraction · pages) or
 * ceil(tokens / page_tokens), at least 1; all pages for NONE and MASS. */
IKV_API uint32_t ikv_budget_pages(const struct ikv_budget *b, uint32_t tokens, uint32_t page_tokens);

#endif

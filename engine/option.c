#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "intentkv/layout.h"
#include "intentkv/option.h"

const struct ikv_option *ikv_option_find(const struct ikv_option *table, const char *name)
{
	for (; table && table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

static bool bounded(const struct ikv_option *o)
{
	return o->min != 0 || o->max != 0;
}

/* A number of which -1, its default, stands for a value from elsewhere: nothing else below 0 means anything. */
static bool may_be_unset(const struct ikv_option *o)
{
	return o->min == -1 && !strcmp(o->def, "-1");
}

void ikv_option_expects(const struct ikv_option *o, char *text, size_t size)
{
	size_t n = 0;
	switch (o->type) {
	case IKV_OPT_INT:
	case IKV_OPT_REAL:
		n = (size_t)snprintf(text, size, "%s", o->type == IKV_OPT_INT ? "a whole number" : "a number");
		if (may_be_unset(o))
			snprintf(text + n, size - n, " from 0 to %.12g, or -1", o->max);
		else if (bounded(o) && o->max < 1e15)
			snprintf(text + n, size - n, " from %.12g to %.12g", o->min, o->max);
		else if (bounded(o))
			snprintf(text + n, size - n, " of at least %.12g", o->min);
		break;
	case IKV_OPT_BOOL:
		snprintf(text, size, "true or false");
		break;
	case IKV_OPT_BYTES:
		snprintf(text, size, "a size such as 4096, 64KiB, 512MiB or 16GiB");
		break;
	case IKV_OPT_BUDGET:
		snprintf(text, size, "none, a number of tokens (4096), a share (25%%) or a mass (mass:0.95)");
		break;
	case IKV_OPT_STRING:
		snprintf(text, size, "text of at most %d bytes", IKV_OPT_STRING_BYTES - 1);
		break;
	case IKV_OPT_ENUM:
		n = (size_t)snprintf(text, size, "one of");
		for (const char *const *c = o->choices; *c && n < size; c++)
			n += (size_t)snprintf(text + n, size - n, "%s %s", c == o->choices ? "" : ",", *c);
		break;
	}
}

static int parse_number(const char *text, double *out, const char **rest)
{
	char *end;
	errno = 0;
	*out = strtod(text, &end);
	if (end == text || errno == ERANGE || !isfinite(*out))
		return -1;
	*rest = end;
	return 0;
}

static int parse_int(const char *text, int64_t *out)
{
	char *end;
	errno = 0;
	long long v = strtoll(text, &end, 10);
	if (end == text || *end || errno)
		return -1;
	*out = v;
	return 0;
}

static int parse_bool(const char *text, bool *out)
{
	static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
	for (int i = 0; i < 3; i++) {
		if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
			*out = !strcasecmp(text, yes[i]);
			return 0;
		}
	}
	return -1;
}

static int parse_bytes(const char *text, int64_t *out)
{
	static const struct {
		const char *suffix;
		double factor;
	} units[] = {
	    {"", 1},         {"B", 1},        {"k", 1e3},      {"M", 1e6},      {"G", 1e9},
	    {"T", 1e12},     {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},     {"TB", 1e12},
	    {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40},
	};
	double v;
	const char *rest;
	if (parse_number(text, &v, &rest) || v < 0)
		return -1;
	while (*rest == ' ')
		rest++;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (!strcmp(rest, units[i].suffix)) {
			if (v * units[i].factor >= 0x1p62)
				return -1;
			*out = (int64_t)(v * units[i].factor);
			return 0;
		}
	}
	return -1;
}

static int parse_budget(const char *text, struct ikv_budget *out)
{
	struct ikv_budget b = {IKV_BUDGET_NONE, 0};
	const char *rest = "";
	if (!strcmp(text, "none")) {
		*out = b;
		return 0;
	}
	if (!strncmp(text, "mass:", 5)) {
		if (parse_number(text + 5, &b.value, &rest) || *rest || b.value <= 0 || b.value > 1)
			return -1;
		b.kind = IKV_BUDGET_MASS;
		*out = b;
		return 0;
	}
	if (parse_number(text, &b.value, &rest) || b.value <= 0)
		return -1;
	while (*rest == ' ')
		rest++;
	if (!strcmp(rest, "%")) {
		b.kind = IKV_BUDGET_FRACTION;
		b.value /= 100;
	} else if (*rest) {
		return -1;
	} else {
		/* A number below 1 can only be a share; from 1 on it counts tokens. */
		b.kind = b.value < 1 ? IKV_BUDGET_FRACTION : IKV_BUDGET_TOKENS;
	}
	if (b.kind == IKV_BUDGET_FRACTION && b.value > 1)
		return -1;
	if (b.kind == IKV_BUDGET_TOKENS && (b.value != floor(b.value) || b.value > UINT32_MAX))
		return -1;
	*out = b;
	return 0;
}

static bool in_range(const struct ikv_option *o, double v)
{
	return !bounded(o) || (v >= o->min && v <= o->max && (!may_be_unset(o) || v == -1 || v >= 0));
}

static int parse_enum(const struct ikv_option *o, const char *text, int *out)
{
	for (int i = 0; o->choices[i]; i++) {
		if (!strcasecmp(o->choices[i], text)) {
			*out = i;
			return 0;
		}
	}
	return -1;
}

static int parse_value(const struct ikv_option *o, const char *text, void *at)
{
	const char *rest;
	int64_t i;
	double r;
	switch (o->type) {
	case IKV_OPT_INT:
		if (parse_int(text, &i) || !in_range(o, (double)i))
			return -1;
		memcpy(at, &i, sizeof i);
		return 0;
	case IKV_OPT_REAL:
		if (parse_number(text, &r, &rest) || *rest || !in_range(o, r))
			return -1;
		memcpy(at, &r, sizeof r);
		return 0;
	case IKV_OPT_BOOL:
		return parse_bool(text, at);
	case IKV_OPT_ENUM:
		return parse_enum(o, text, at);
	case IKV_OPT_BYTES:
		if (parse_bytes(text, &i) || !in_range(o, (double)i))
			return -1;
		memcpy(at, &i, sizeof i);
		return 0;
	case IKV_OPT_BUDGET:
		return parse_budget(text, at);
	case IKV_OPT_STRING:
		if (strlen(text) >= IKV_OPT_STRING_BYTES)
			return -1;
		strcpy(at, text);
		return 0;
	}
	return -1;
}

static int unknown_key(const struct ikv_option *table, const char *name, struct ikv_err *err)
{
	const char *names[256];
	size_t n = 0;
	for (const struct ikv_option *o = table; o && o->name && n < 256; o++)
		names[n++] = o->name;
	const char *near = ikv_nearest(name, names, n);
	if (near)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: unknown key; did you mean \"%s\"?", name, near);
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: unknown key", name);
}

int ikv_option_set(const struct ikv_option *table, void *config, const char *name, const char *text,
		   struct ikv_err *err)
{
	const struct ikv_option *o = ikv_option_find(table, name);
	if (!o)
		return unknown_key(table, name, err);
	if (!parse_value(o, text, (char *)config + o->offset))
		return 0;
	char expects[300], hint[100] = "";
	ikv_option_expects(o, expects, sizeof expects);
	if (o->type == IKV_OPT_ENUM) {
		size_t n = 0;
		while (o->choices[n])
			n++;
		const char *near = ikv_nearest(text, o->choices, n);
		if (near)
			snprintf(hint, sizeof hint, "; did you mean \"%s\"?", near);
	}
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: got \"%.100s\", expected %s%s", name, text, expects, hint);
}

void ikv_option_defaults(const struct ikv_option *table, void *config)
{
	for (; table && table->name; table++)
		parse_value(table, table->def, (char *)config + table->offset);
}

void ikv_option_get(const struct ikv_option *o, const void *config, char *text, size_t size)
{
	const void *at = (const char *)config + o->offset;
	int64_t i;
	double r;
	int e;
	struct ikv_budget b;
	switch (o->type) {
	case IKV_OPT_INT:
	case IKV_OPT_BYTES:
		memcpy(&i, at, sizeof i);
		snprintf(text, size, "%lld", (long long)i);
		break;
	case IKV_OPT_REAL:
		memcpy(&r, at, sizeof r);
		snprintf(text, size, "%.12g", r);
		break;
	case IKV_OPT_BOOL:
		snprintf(text, size, "%s", *(const bool *)at ? "true" : "false");
		break;
	case IKV_OPT_ENUM:
		memcpy(&e, at, sizeof e);
		snprintf(text, size, "%s", o->choices[e]);
		break;
	case IKV_OPT_STRING:
		snprintf(text, size, "%s", (const char *)at);
		break;
	case IKV_OPT_BUDGET:
		memcpy(&b, at, sizeof b);
		if (b.kind == IKV_BUDGET_NONE)
			snprintf(text, size, "none");
		else if (b.kind == IKV_BUDGET_MASS)
			snprintf(text, size, "mass:%.12g", b.value);
		else if (b.kind == IKV_BUDGET_FRACTION)
			snprintf(text, size, "%.12g%%", b.value * 100);
		else
			snprintf(text, size, "%.0f", b.value);
		break;
	}
}

uint32_t ikv_budget_pages(const struct ikv_budget *b, uint32_t tokens, uint32_t page_tokens)
{
	uint32_t pages = ikv_pages(tokens, page_tokens), n = pages;
	if (b->kind == IKV_BUDGET_TOKENS && b->value < tokens)
		n = ikv_pages((uint32_t)b->value, page_tokens);
	else if (b->kind == IKV_BUDGET_FRACTION)
		n = (uint32_t)ceil(b->value * pages * (1 - 1e-12)); /* 7 % of 100 pages are 7, not 8 by rounding */
	return n < 1 ? 1 : n > pages ? pages : n;
}

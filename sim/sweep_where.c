/* Conditions on points: `router.policy == quest or router.budget <= 10%`. A word with a dot, or one that names a key
 * of the top level, is a key and stands for its value at the point, or its default; other words and quoted text are
 * text. or, and, not, comparisons, in [..], + - * /, parentheses. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

enum { TEXT_MAX = 512, DEPTH_MAX = 64 };

struct value {
	bool number, truth; /* truth: the result of a comparison */
	double v;
	char text[TEXT_MAX];
};
struct parser {
	const char *file, *at;
	const struct yaml_node *node, *root;
	struct ikv_err *err;
	int depth;
};

static int wrong(struct parser *p, const char *expected)
{
	return ikv_err_at(p->err, IKV_BAD_INPUT, YAML_PLACE(p->file, p->node), "sweep.where",
			  "\"%.200s\": at \"%.40s\": expected %s", p->node->text, p->at, expected);
}

static void spaces(struct parser *p)
{
	while (isspace((unsigned char)*p->at))
		p->at++;
}

static bool word_char(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '%' || c == ':' || c == '/';
}

/* Is the next word, or sign, this one? Then go on behind it. */
static bool next_is(struct parser *p, const char *what)
{
	size_t n = strlen(what);
	spaces(p);
	if (strncmp(p->at, what, n) != 0 || (isalpha((unsigned char)*what) && word_char(p->at[n])))
		return false;
	p->at += n;
	return true;
}

static int disjunction(struct parser *p, struct value *out);

static void set_text(struct value *v, const char *text)
{
	double plain;
	char unit[8];
	*v = (struct value){.number = sweep_number(text, &v->v, &plain, unit) == 0};
	if (v->number)
		sweep_number(text, &v->v, &plain, unit);
	snprintf(v->text, sizeof v->text, "%s", text);
}

static int key_value(struct parser *p, const char *key, struct value *out)
{
	const struct yaml_node *n = sweep_value(p->root, key);
	const char *def = n ? NULL : sweep_default(key);
	if (n && n->type == YAML_MAP && yaml_get(n, "policy"))
		n = yaml_get(n, "policy");
	if (n && n->type != YAML_SCALAR)
		return wrong(p, "a key with a single value");
	if (!n && !def) {
		return ikv_err_at(p->err, IKV_BAD_INPUT, YAML_PLACE(p->file, p->node), "sweep.where",
				  "\"%.200s\": %.100s is no key of a scenario; text with a dot needs quotes",
				  p->node->text, key);
	}
	set_text(out, n ? n->text : def);
	return 0;
}

static int primary(struct parser *p, struct value *out)
{
	char text[TEXT_MAX];
	size_t n = 0;
	if (next_is(p, "(")) {
		if (disjunction(p, out))
			return -1;
		return next_is(p, ")") ? 0 : wrong(p, "\")\"");
	}
	if (next_is(p, "-")) {
		if (++p->depth > DEPTH_MAX)
			return wrong(p, "fewer levels");
		if (primary(p, out))
			return -1;
		p->depth--;
		if (!out->number)
			return wrong(p, "a number after \"-\"");
		out->v = -out->v;
		return 0;
	}
	spaces(p);
	if (*p->at == '"' || *p->at == '\'') {
		char quote = *p->at++;
		while (*p->at && *p->at != quote && n < sizeof text - 1)
			text[n++] = *p->at++;
		text[n] = 0;
		if (*p->at != quote)
			return wrong(p, "the closing quote");
		p->at++;
		*out = (struct value){.number = false};
		snprintf(out->text, sizeof out->text, "%s", text);
		return 0;
	}
	while (word_char(*p->at) && n < sizeof text - 1 && !(*p->at == '/' && n == 0))
		text[n++] = *p->at++;
	text[n] = 0;
	if (!n)
		return wrong(p, "a key, a number or text");
	set_text(out, text);
	if (out->number)
		return 0;
	return strchr(text, '.') || !strcmp(text, "seed") || !strcmp(text, "name") ? key_value(p, text, out) : 0;
}

static int arithmetic(struct parser *p, bool product, struct value *out)
{
	struct value right;
	if (product ? primary(p, out) : arithmetic(p, true, out))
		return -1;
	for (;;) {
		char op;
		spaces(p);
		op = *p->at;
		if (!(product ? op == '*' || op == '/' : op == '+' || op == '-'))
			return 0;
		p->at++;
		if (product ? primary(p, &right) : arithmetic(p, true, &right))
			return -1;
		if (!out->number || !right.number)
			return wrong(p, "numbers on both sides of an operator");
		out->v = op == '*'   ? out->v * right.v
			 : op == '/' ? out->v / right.v
			 : op == '+' ? out->v + right.v
				     : out->v - right.v;
		out->text[0] = 0;
	}
}

static bool same(const struct value *a, const struct value *b)
{
	if (a->number && b->number)
		return fabs(a->v - b->v) <= 1e-12 * fmax(fabs(a->v), fabs(b->v));
	return !strcmp(a->text, b->text);
}

static int membership(struct parser *p, struct value *left)
{
	bool found = false;
	struct value item;
	if (!next_is(p, "["))
		return wrong(p, "\"[\" after in");
	do {
		if (arithmetic(p, false, &item))
			return -1;
		found |= same(left, &item);
	} while (next_is(p, ","));
	if (!next_is(p, "]"))
		return wrong(p, "\",\" or \"]\"");
	*left = (struct value){.number = true, .truth = true, .v = found};
	return 0;
}

static int comparison(struct parser *p, struct value *out)
{
	static const char *const ops[] = {"==", "!=", "<=", ">=", "<", ">"};
	struct value right;
	if (arithmetic(p, false, out))
		return -1;
	if (next_is(p, "in"))
		return membership(p, out);
	for (int i = 0; i < 6; i++) {
		if (!next_is(p, ops[i]))
			continue;
		if (arithmetic(p, false, &right))
			return -1;
		bool eq = same(out, &right);
		if (i >= 2 && (!out->number || !right.number))
			return ikv_err_at(
			    p->err, IKV_BAD_INPUT, YAML_PLACE(p->file, p->node), "sweep.where",
			    "\"%.200s\": \"%.60s\" and \"%.60s\" are not both numbers, so %s cannot compare them",
			    p->node->text, out->text, right.text, ops[i]);
		bool less = out->v < right.v && !eq, yes = i == 0   ? eq
							   : i == 1 ? !eq
							   : i == 2 ? less || eq
							   : i == 3 ? !less
							   : i == 4 ? less
								    : !less && !eq;
		*out = (struct value){.number = true, .truth = true, .v = yes};
		return 0;
	}
	return 0;
}

static int truth_of(struct parser *p, const struct value *v)
{
	if (v->truth || !strcmp(v->text, "true") || !strcmp(v->text, "false"))
		return 0;
	return wrong(p, "a comparison, as router.policy == quest");
}

static int negation(struct parser *p, struct value *out)
{
	if (++p->depth > DEPTH_MAX)
		return wrong(p, "fewer levels");
	bool no = next_is(p, "not");
	if (no ? negation(p, out) : comparison(p, out))
		return -1;
	if (no && truth_of(p, out))
		return -1;
	if (no)
		*out =
		    (struct value){.number = true, .truth = true, .v = !(out->v != 0 || !strcmp(out->text, "true"))};
	p->depth--;
	return 0;
}

static int chain(struct parser *p, bool all, struct value *out)
{
	struct value right;
	if (all ? negation(p, out) : chain(p, true, out))
		return -1;
	while (next_is(p, all ? "and" : "or")) {
		if ((all ? negation(p, &right) : chain(p, true, &right)) || truth_of(p, out) || truth_of(p, &right))
			return -1;
		bool a = out->v != 0 || !strcmp(out->text, "true"), b = right.v != 0 || !strcmp(right.text, "true");
		*out = (struct value){.number = true, .truth = true, .v = all ? a && b : a || b};
	}
	return 0;
}

static int disjunction(struct parser *p, struct value *out)
{
	return chain(p, false, out);
}

int sweep_where(const char *file, const struct yaml_node *condition, const struct yaml_node *root, bool *met,
		struct ikv_err *err)
{
	struct parser p = {.file = file, .at = condition->text, .node = condition, .root = root, .err = err};
	struct value v;
	if (disjunction(&p, &v))
		return -1;
	spaces(&p);
	if (*p.at)
		return wrong(&p, "an operator or the end");
	if (truth_of(&p, &v))
		return -1;
	*met = v.v != 0 || !strcmp(v.text, "true");
	return 0;
}

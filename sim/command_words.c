/* Completion: what may stand in place of the last word of a command line, from the tables of commands, options,
 * queries, figures, and of what scenarios choose from. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "db/store.h"
#include "sim/command.h"
#include "sim/command_text.h"
#include "sim/datadir.h"
#include "sim/figure.h"
#include "sim/scenario.h"

struct words {
	FILE *f;
	const char *current; /* the word to complete */
	char stem[600];      /* what of it stays: "--set=", "router.policy=quest," */
	const char *db;      /* the database of the command line, or NULL */
	const char *before;  /* the argument before, or NULL */
};

/* The stem and the word, if the current word begins so. */
static void offer(const struct words *w, const char *word, const char *ending, const char *meaning)
{
	char whole[1000];
	snprintf(whole, sizeof whole, "%s%s%s", w->stem, word, ending);
	if (strncmp(whole, w->current, strlen(w->current)) != 0)
		return;
	command_print(w->f, whole);
	if (meaning && *meaning) {
		fputc('\t', w->f);
		command_print(w->f, meaning);
	}
	fputc('\n', w->f);
}

static void offer_row(void *context, const char *name, const char *summary, const struct ikv_option *options)
{
	(void)options;
	offer(context, name, "", summary);
}

static void queries(struct words *w)
{
	for (const struct store_named *q = store_queries; q->name; q++)
		if (strncmp(q->name, "plot-", 5) != 0)
			offer(w, q->name, "", q->help);
}

static void figure_names(struct words *w)
{
	for (const struct figure *f = figures; f->query; f++)
		offer(w, f->plot.name, "", f->plot.title);
}

static void command_names(struct words *w)
{
	for (const struct command *const *c = commands; *c; c++)
		offer(w, (*c)->name, "", (*c)->summary);
}

static void list_tables(struct words *w)
{
	list_each(NULL, offer_row, w);
}

static void list_rows(struct words *w)
{
	if (w->before)
		list_each(w->before, offer_row, w);
}

static void profiles(struct words *w)
{
	char folder[4096];
	struct dirent **entries;
	int n = datadir_find("scenarios/profiles", folder, sizeof folder) ? scandir(folder, &entries, NULL, alphasort)
									  : -1;
	for (int i = 0; i < n; i++) {
		char *dot = strstr(entries[i]->d_name, ".yaml");
		if (dot && !dot[5]) {
			*dot = 0;
			offer(w, entries[i]->d_name, "", "a profile that comes with the program");
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	fputs("*.yaml\n", w->f);
}

static int offer_run(void *context, const struct store_cell *c, int n, struct ikv_err *err)
{
	(void)n, (void)err;
	offer(context, c[0].text, "", c[1].text);
	return 0;
}

static void runs(struct words *w)
{
	struct ikv_err err;
	struct store_query q = {.sql = "SELECT run_id, label FROM v_run ORDER BY 1", .time_limit_s = 1};
	if (w->db)
		store_select(w->db, &q, offer_run, w, &err);
}

/* FILE or FILE:RUN. */
static void operands(struct words *w)
{
	const char *colon = strrchr(w->current, ':');
	char db[sizeof w->stem];
	if (!colon) {
		fputs("*.db\n", w->f);
		return;
	}
	snprintf(w->stem, sizeof w->stem, "%.*s:", (int)(colon - w->current), w->current);
	snprintf(db, sizeof db, "%.*s", (int)(colon - w->current), w->current);
	w->db = db;
	runs(w);
	w->db = NULL;
}

struct keys {
	struct words *words;
	const char *section;
};

static void offer_keys(const struct keys *k, const struct ikv_option *options)
{
	char key[200];
	for (; options && options->name; options++) {
		snprintf(key, sizeof key, "%s%s%s", k->section, *k->section ? "." : "", options->name);
		offer(k->words, key, "=", options->help);
	}
}

static void offer_policy_keys(void *context, const char *name, const char *summary, const struct ikv_option *options)
{
	(void)name, (void)summary;
	offer_keys(context, options);
}

/* What `chooser` picks, such as router.policy, has options of its own beside those of the section. */
static void offer_chosen(const struct keys *k, const char *chooser)
{
	char key[200];
	snprintf(key, sizeof key, "%s.%s", k->section, chooser);
	if (list_each(key, offer_policy_keys, (void *)k))
		offer(k->words, key, "=", "");
}

static void setting_keys(struct words *w)
{
	bool dot = strchr(w->current + strlen(w->stem), '.') != NULL;
	for (const struct section *s = sections; s->name; s++) {
		struct keys k = {w, s->name};
		if (*s->name && !dot) {
			offer(w, s->name, ".", s->summary);
			continue;
		}
		offer_keys(&k, s->options);
		if (!*s->name)
			continue;
		offer_chosen(&k, "policy");
		offer_chosen(&k, "source");
		if (strcmp(s->name, "memory") == 0)
			offer_keys(&k, ikv_memory_options);
		if (strcmp(s->name, "cost") == 0)
			offer_keys(&k, ikv_machine_options);
	}
}

struct value {
	struct words *words;
	const char *name;
};

static void offer_values(const struct value *v, const struct ikv_option *options)
{
	const struct ikv_option *o = options ? ikv_option_find(options, v->name) : NULL;
	static const char *const booleans[] = {"true", "false", NULL};
	const char *const *choices = !o                        ? NULL
				     : o->type == IKV_OPT_ENUM ? o->choices
				     : o->type == IKV_OPT_BOOL ? booleans
							       : NULL;
	for (; choices && *choices; choices++)
		offer(v->words, *choices, "", "");
}

static void offer_policy_values(void *context, const char *name, const char *summary,
				const struct ikv_option *options)
{
	(void)name, (void)summary;
	offer_values(context, options);
}

static void setting_values(struct words *w, const char *section, const char *name)
{
	char chooser[440];
	struct value v = {w, name};
	snprintf(chooser, sizeof chooser, "%s.%s", section, name);
	if (list_each(chooser, offer_row, w))
		return;
	for (const struct section *s = sections; s->name; s++)
		if (strcmp(s->name, section) == 0)
			offer_values(&v, s->options);
	if (strcmp(section, "memory") == 0)
		offer_values(&v, ikv_memory_options);
	snprintf(chooser, sizeof chooser, "%s.policy", section);
	list_each(chooser, offer_policy_values, &v);
}

/* KEY=VALUE of a scenario, or KEY=A,B. */
static void settings(struct words *w)
{
	size_t used = strlen(w->stem);
	const char *text = w->current + used, *equals = strchr(text, '=');
	char key[200], *dot;
	if (!equals) {
		setting_keys(w);
		return;
	}
	const char *comma = strrchr(equals, ',');
	snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
	snprintf(w->stem, sizeof w->stem, "%.*s", (int)((comma ? comma : equals) + 1 - w->current), w->current);
	dot = strrchr(key, '.');
	if (dot)
		*dot = 0;
	setting_values(w, dot ? key : "", dot ? dot + 1 : key);
}

static const struct {
	const char *name;
	void (*fn)(struct words *w);
} tables[] = {
    {"<queries>", queries},    {"<figures>", figure_names}, {"<commands>", command_names},
    {"<tables>", list_tables}, {"<rows>", list_rows},       {"<profiles>", profiles},
    {"<runs>", runs},          {"<operands>", operands},    {"<settings>", settings},
};

/* Words in the notation of command_text.h. In a list, what follows the last comma is completed. */
static bool offer_words(struct words *w, const char *words, bool is_list)
{
	char word[100];
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
		if (strcmp(words, tables[i].name) == 0) {
			tables[i].fn(w);
			return true;
		}
	}
	const char *comma = is_list ? strrchr(w->current, ',') : NULL;
	if (comma)
		snprintf(w->stem, sizeof w->stem, "%.*s", (int)(comma + 1 - w->current), w->current);
	if (*words == '<') { /* the rows of `intentkv list`, such as <models> */
		snprintf(word, sizeof word, "%.*s", (int)strlen(words) - 2, words + 1);
		return list_each(word, offer_row, w);
	}
	if (!command_words_listed(words)) {
		fprintf(w->f, "%s\n", words);
		return true;
	}
	for (const char *p = words; *p; p += strspn(p, " ")) {
		snprintf(word, sizeof word, "%.*s", (int)strcspn(p, " "), p);
		offer(w, word, "", "");
		p += strcspn(p, " ");
	}
	return true;
}

static void offer_option(const struct words *w, const struct command_option *o)
{
	char text[600], word[100];
	command_option_text(o, text, sizeof text);
	snprintf(word, sizeof word, "--%s", o->name);
	offer(w, word, "", text);
	if (o->value < 256) {
		snprintf(word, sizeof word, "-%c", o->value);
		offer(w, word, "", text);
	}
}

/* The option that `word` is, in short or long form; *value: its argument in the same word, or NULL. */
static const struct command_option *option_of(const struct command *c, const char *word, const char **value)
{
	*value = NULL;
	for (const struct command_option *o = c->options; o && o->name; o++) {
		size_t n = strlen(o->name);
		if (strncmp(word, "--", 2) == 0 && strncmp(word + 2, o->name, n) == 0 &&
		    (!word[2 + n] || word[2 + n] == '=')) {
			*value = word[2 + n] ? word + 3 + n : NULL;
			return o;
		}
		if (word[0] == '-' && word[1] == o->value) {
			*value = word[2] ? word + 2 : NULL;
			return o;
		}
	}
	return NULL;
}

/* What the n-th argument can be, NULL: anything, or no further one is taken. */
static const char *argument_words(const struct command *c, int n)
{
	const char *last = NULL;
	bool more = c->arguments && strstr(c->arguments, "...");
	for (int i = 0; i < COMMAND_ARGUMENTS_MAX && c->words[i]; i++) {
		if (i == n)
			return c->words[i];
		last = c->words[i];
	}
	return more ? last : NULL;
}

static bool offer_value(struct words *w, const struct command_option *o, const char *value)
{
	if (value)
		snprintf(w->stem, sizeof w->stem, "%.*s", (int)(value - w->current), w->current);
	return !o->words || offer_words(w, o->words, strstr(o->argument, "LIST") != NULL);
}

static bool offer_arguments(struct words *w, const struct command *c, int count, char **words)
{
	const struct command_option *pending = NULL;
	const char *value;
	int n = 0;
	for (int i = 0; i < count - 1; i++) {
		if (pending) {
			pending = NULL;
			continue;
		}
		const struct command_option *o = option_of(c, words[i], &value);
		if (o && o->argument && !value)
			pending = o;
		else if (words[i][0] != '-') {
			w->db = n == 0 ? words[i] : w->db;
			w->before = words[i];
			n++;
		}
	}
	if (pending)
		return offer_value(w, pending, NULL);
	const struct command_option *o = option_of(c, w->current, &value);
	if (o && o->argument && value)
		return offer_value(w, o, value);
	if (w->current[0] == '-') {
		for (o = c->options; o && o->name; o++)
			offer_option(w, o);
		offer_option(w, &command_help_option);
		return true;
	}
	const char *expected = argument_words(c, n);
	return !expected || offer_words(w, expected, false);
}

bool command_words(int count, char **words, FILE *f)
{
	struct words w = {.f = f, .current = count > 0 ? words[count - 1] : ""};
	int used;
	if (count <= 1) {
		command_names(&w);
		offer(&w, "help", "", command_help_option.help);
		if (*w.current == '-') {
			offer_option(&w, &command_help_option);
			offer_option(&w, command_program.options);
		}
		return true;
	}
	const struct command *c = command_find(count - 1, words, &used);
	if (!c) {
		if (strcmp(words[0], "help") == 0 && count == 2)
			command_names(&w);
		return true;
	}
	for (const struct command *const *p = c->parts; p && *p && used == count - 1; p++)
		offer(&w, strrchr((*p)->name, ' ') + 1, "", (*p)->summary);
	return offer_arguments(&w, c, count - used, words + used);
}

/* intentkv list: what can be chosen, from the same tables that the scenario reader uses. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/gpu.h"
#include "sim/command.h"
#include "sim/command_text.h"
#include "sim/datadir.h"
#include "sim/scenario.h"
#include "sim/trace/trace.h"

enum { MARKDOWN = 256 };
static const struct command_option options[] = {
    {"markdown", MARKDOWN, NULL, NULL, NULL, "print the scenario reference of docs/scenario.md"},
    {.name = NULL},
};

const struct command command_list = {
    .name = "list",
    .summary = "list what a scenario can choose from: policies, formats, models and their options",
    .arguments = "[WHAT [NAME]]",
    .words = {"<tables>", "<rows>"},
    .examples = "intentkv list\teverything, a line each\n"
		"intentkv list routers\tthe routers\n"
		"intentkv list routers semantic\tone of them, with its options\n"
		"intentkv list sections memory\tthe keys of a section\n",
    .about =
	"WHAT is sections, sources, scorers, routers, prefetchers, residencies, ladders, formats, importers, models, "
	"backends, machines or kinds.\n",
    .options = options,
    .run = cmd_list,
};

static void option_line(const struct ikv_option *o)
{
	char expects[300];
	ikv_option_expects(o, expects, sizeof expects);
	printf("    %-28s %s\n    %-28s %s; default %s\n", o->name, o->help, "", expects, *o->def ? o->def : "none");
}

static void print_options(const struct ikv_option *table)
{
	for (; table && table->name; table++)
		option_line(table);
}

/* A table of policies in a form that all kinds share. */
struct row {
	const char *name, *summary;
	const struct ikv_option *options;
};
struct rows {
	struct row items[64];
	uint32_t count;
};

static void add(struct rows *r, const char *name, const char *summary, const struct ikv_option *table)
{
	if (r->count < 64)
		r->items[r->count++] = (struct row){name, summary, table};
}

#define ADD_POLICIES(r, table)                                                                                       \
	for (uint32_t i_ = 0; (table)[i_]; i_++)                                                                     \
	add(r, (table)[i_]->name, (table)[i_]->summary, (table)[i_]->options)

static void fill_sections(struct rows *r)
{
	for (const struct section *s = sections; s->name; s++)
		add(r, *s->name ? s->name : "(top)", s->summary, s->options);
}

static void fill_sources(struct rows *r)
{
	ADD_POLICIES(r, sources);
}

static void fill_scorers(struct rows *r)
{
	ADD_POLICIES(r, ikv_scorers());
}

static void fill_routers(struct rows *r)
{
	ADD_POLICIES(r, ikv_routers());
}

static void fill_prefetchers(struct rows *r)
{
	ADD_POLICIES(r, ikv_prefetchers());
}

static void fill_residencies(struct rows *r)
{
	ADD_POLICIES(r, ikv_residencies());
}

static void fill_ladders(struct rows *r)
{
	for (const struct ikv_ladder *const *l = ikv_ladder_presets(); *l; l++)
		add(r, (*l)->name, (*l)->summary, NULL);
}

static void fill_formats(struct rows *r)
{
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		add(r, ikv_format_info((enum ikv_format)f)->name, ikv_format_info((enum ikv_format)f)->summary, NULL);
}

static void fill_importers(struct rows *r)
{
	for (uint32_t i = 0; importers[i]; i++)
		add(r, importers[i]->name, importers[i]->summary, NULL);
}

static void fill_models(struct rows *r)
{
	static char text[32][200];
	for (uint32_t i = 0; model_presets[i].name && i < 32; i++) {
		const struct model_preset *m = &model_presets[i];
		char heads[80];
		if (m->latent_dim)
			snprintf(heads, sizeof heads, "%u heads of %u on a latent of %u + %u", m->q_heads,
				 m->head_dim, m->latent_dim, m->rope_dim);
		else
			snprintf(heads, sizeof heads, "%u/%u heads of %u", m->q_heads, m->kv_heads, m->head_dim);
		snprintf(text[i], sizeof text[i], "%u layers, %s, %llu KV bytes a token in FP16; %s", m->layers,
			 heads, 2ull * m->layers * model_kv_values(m), m->source);
		add(r, m->name, text[i], NULL);
	}
}

static void fill_backends(struct rows *r)
{
	static char why[3][300];
	const struct ikv_backend_ops *all[] = {&ikv_backend_cpu, &ikv_backend_ref, gpu_backend()};
	for (int i = 0; i < 3; i++) {
		char reason[250];
		if (all[i]->usable(reason, sizeof reason))
			snprintf(why[i], sizeof why[i], "%s", all[i]->summary);
		else
			snprintf(why[i], sizeof why[i], "not usable here: %s", reason);
		add(r, all[i]->name, why[i], NULL);
	}
}

static void fill_kinds(struct rows *r)
{
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		add(r, ikv_kind_name((enum ikv_kind)k), "", NULL);
}

static void fill_machines(struct rows *r)
{
	static char names[32][64], sources_of[32][256];
	char folder[4096];
	struct dirent **entries;
	if (!datadir_find("machines", folder, sizeof folder))
		return;
	int n = scandir(folder, &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char *dot = strstr(entries[i]->d_name, ".yaml");
		struct ikv_machine m;
		struct ikv_err err;
		if (dot && !dot[5] && r->count < 32) {
			snprintf(names[r->count], sizeof names[0], "%.*s", (int)(dot - entries[i]->d_name),
				 entries[i]->d_name);
			int bad = machine_read(names[r->count], &m, &err);
			snprintf(sources_of[r->count], sizeof sources_of[0], "%.255s", bad ? err.text : m.source);
			add(r, names[r->count], sources_of[r->count], NULL);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

static const struct {
	const char *name, *title;
	void (*fill)(struct rows *);
} tables[] = {
    {"sections", "sections of a scenario", fill_sections},
    {"sources", "kv.source", fill_sources},
    {"scorers", "scorer.policy", fill_scorers},
    {"routers", "router.policy", fill_routers},
    {"prefetchers", "prefetch.policy", fill_prefetchers},
    {"residencies", "memory.residency", fill_residencies},
    {"ladders", "formats.ladder", fill_ladders},
    {"formats", "page formats", fill_formats},
    {"importers", "sessions.format", fill_importers},
    {"models", "model.preset", fill_models},
    {"backends", "attention.backend", fill_backends},
    {"machines", "cost.machine", fill_machines},
    {"kinds", "kinds of blocks", fill_kinds},
};
enum { TABLES = sizeof tables / sizeof *tables };

bool list_each(const char *table, list_row *fn, void *context)
{
	for (int t = 0; t < TABLES; t++) {
		struct rows r = {.count = 0};
		if (!table) {
			fn(context, tables[t].name, tables[t].title, NULL);
			continue;
		}
		if (strcmp(table, tables[t].name) != 0 && strcmp(table, tables[t].title) != 0)
			continue;
		tables[t].fill(&r);
		for (uint32_t i = 0; i < r.count; i++)
			fn(context, r.items[i].name, r.items[i].summary, r.items[i].options);
		return true;
	}
	return !table;
}

static void print_table(int t)
{
	struct rows r = {.count = 0};
	tables[t].fill(&r);
	printf("%s (%s)\n", tables[t].name, tables[t].title);
	for (uint32_t i = 0; i < r.count; i++)
		printf("  %-16s %s\n", r.items[i].name, r.items[i].summary);
}

static int print_one(int t, const char *name)
{
	struct rows r = {.count = 0};
	const char *names[64];
	tables[t].fill(&r);
	for (uint32_t i = 0; i < r.count; i++) {
		names[i] = r.items[i].name;
		if (strcmp(name, r.items[i].name) != 0)
			continue;
		printf("%s: %s\n", r.items[i].name, r.items[i].summary);
		print_options(r.items[i].options);
		if (t == 0 && !strcmp(name, "memory"))
			print_options(ikv_memory_options);
		if (t == 0 && !strcmp(name, "cost"))
			print_options(ikv_machine_options);
		return IKV_OK;
	}
	const char *near = ikv_nearest(name, names, r.count);
	return command_usage("list", "no \"%s\" among the %s%s%s%s", name, tables[t].name,
			     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* One option as a row of the reference. '|' separates columns there. */
static void markdown_options(const char *section, const struct ikv_option *table)
{
	if (!table || !table->name)
		return;
	printf("\n| key | value | default | meaning |\n|---|---|---|---|\n");
	for (; table->name; table++) {
		char expects[300];
		ikv_option_expects(table, expects, sizeof expects);
		printf("| `%s%s%s` | %s | %s | %s |\n", section, *section ? "." : "", table->name, expects,
		       *table->def ? table->def : "", table->help);
	}
}

static void markdown_policies(const char *section, const char *chooser, int t)
{
	struct rows r = {.count = 0};
	tables[t].fill(&r);
	for (uint32_t i = 0; i < r.count; i++) {
		printf("\n### `%s.%s: %s`\n\n%s.\n", section, chooser, r.items[i].name, r.items[i].summary);
		markdown_options(section, r.items[i].options);
	}
}

static void markdown(void)
{
	puts("# Scenario reference\n\nGenerated from the option tables by `intentkv list --markdown`; do not edit.\n"
	     "`sweep` takes any key below: `sweep: {router.policy: [quest, oracle]}` runs every combination.");
	for (const struct section *s = sections; s->name; s++) {
		printf("\n## %s\n\n%s.\n", *s->name ? s->name : "Top level", s->summary);
		markdown_options(s->name, s->options);
		if (!strcmp(s->name, "memory"))
			markdown_options("memory", ikv_memory_options);
		if (!strcmp(s->name, "cost"))
			markdown_options("cost", ikv_machine_options);
		if (!strcmp(s->name, "kv"))
			markdown_policies("kv", "source", 1);
		if (!strcmp(s->name, "scorer"))
			markdown_policies("scorer", "policy", 2);
		if (!strcmp(s->name, "router"))
			markdown_policies("router", "policy", 3);
		if (!strcmp(s->name, "prefetch"))
			markdown_policies("prefetch", "policy", 4);
		if (!strcmp(s->name, "memory"))
			markdown_policies("memory.residency", "policy", 5);
	}
}

int cmd_list(int argc, char **argv)
{
	struct command_line line;
	int c;
	command_begin(&line, &command_list, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c != MARKDOWN)
			return IKV_USAGE;
		markdown();
		return IKV_OK;
	}
	argc -= optind - 1;
	argv += optind - 1;
	if (argc > 3)
		return command_usage("list", "expected at most a table and a name");
	if (argc == 1) {
		for (int t = 0; t < TABLES; t++) {
			print_table(t);
			putchar('\n');
		}
		return IKV_OK;
	}
	const char *names[TABLES];
	for (int t = 0; t < TABLES; t++) {
		names[t] = tables[t].name;
		if (strcmp(argv[1], tables[t].name) != 0)
			continue;
		if (argc == 3)
			return print_one(t, argv[2]);
		print_table(t);
		return IKV_OK;
	}
	const char *near = ikv_nearest(argv[1], names, TABLES);
	return command_usage("list", "no table \"%s\"%s%s%s", argv[1], near ? "; did you mean \"" : "",
			     near ? near : "", near ? "\"?" : "");
}

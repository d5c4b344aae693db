/* The YAML form of the model "requests". */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "sim/output.h"
#include "sim/trace/generate.h"
#include "sim/trace/twin.h"

#define FIELD(f) offsetof(struct twin, f)
static const struct {
	const char *key, *help;
	size_t offset;
	bool optional;
} tables[] = {
    {"turns", "requests a session", FIELD(turns), false},
    {"input", "tokens of a request's input", FIELD(input), false},
    {"output", "tokens it generates", FIELD(output), false},
    {"prefix_hit", "share of an input that was seen before", FIELD(prefix_hit), true},
    {"session_gap_ms", "between the arrivals of sessions", FIELD(session_gap_ms), true},
    {"think_ms", "waits before a later request", FIELD(think_ms), true},
    {"reuse_age_requests", "since a shared start was last used", FIELD(reuse_age), true},
};
enum { TABLES = sizeof tables / sizeof *tables };

static struct draw_table *table_of(const struct twin *t, size_t i)
{
	return (struct draw_table *)((char *)t + tables[i].offset);
}

static int read_bool(const struct yaml_node *root, const char *path, const char *key, bool *out, struct ikv_err *err)
{
	const struct yaml_node *n = generate_need(root, path, key, err);
	char got[120];
	if (!n)
		return -1;
	if (n->type == YAML_SCALAR && (!strcmp(n->text, "true") || !strcmp(n->text, "false"))) {
		*out = n->text[0] == 't';
		return 0;
	}
	yaml_describe(n, got, sizeof got);
	return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key, "got %s, expected true or false", got);
}

static int read_int(const struct yaml_node *root, const char *path, const char *key, int64_t min, int64_t max,
		    int64_t *out, struct ikv_err *err)
{
	const struct yaml_node *n = generate_need(root, path, key, err);
	return n ? yaml_int(n, path, key, min, max, out, err) : -1;
}

static int read_real(const struct yaml_node *root, const char *path, const char *key, double max, double *out,
		     struct ikv_err *err)
{
	const struct yaml_node *n = generate_need(root, path, key, err);
	return n ? yaml_real(n, path, key, 0, max, out, err) : -1;
}

static int read_table(const struct yaml_node *root, const char *path, const char *key, struct draw_table *t,
		      struct ikv_err *err)
{
	const struct yaml_node *n = generate_need(root, path, key, err);
	return n ? draw_read_quantiles(n, path, key, t, err) : -1;
}

/* A map of kinds to shares. */
static int read_kinds(const struct yaml_node *root, const char *path, const char *key, double *share,
		      struct ikv_err *err)
{
	const struct yaml_node *n = generate_need(root, path, key, err);
	if (!n || yaml_expect(n, YAML_MAP, path, key, err) ||
	    yaml_check_keys(n, path, key, ikv_kind_names(), IKV_KIND_COUNT, err))
		return -1;
	for (int k = 0; k < IKV_KIND_COUNT; k++) {
		const char *name = ikv_kind_name((enum ikv_kind)k);
		const struct yaml_node *v = yaml_get(n, name);
		if (v && yaml_real(v, path, name, 0, 1, &share[k], err))
			return -1;
	}
	return 0;
}

/* A list of maps, each with the keys `upto`, ... that `valid` names. */
static int read_bins(const struct yaml_node *root, const char *path, const char *key, const char *const *valid,
		     size_t keys, uint32_t most, const struct yaml_node **list, struct ikv_err *err)
{
	const struct yaml_node *n = generate_need(root, path, key, err);
	double before = -1, upto;
	if (!n || yaml_expect(n, YAML_SEQ, path, key, err))
		return -1;
	if (n->count > most)
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, key,
				  "found %u bins, expected at most %u", n->count, most);
	for (uint32_t i = 0; i < n->count; i++) {
		if (yaml_check_keys(n->items[i], path, key, valid, keys, err) ||
		    read_real(n->items[i], path, "upto", 1e12, &upto, err))
			return -1;
		if (upto <= before)
			return ikv_err_at(err, IKV_BAD_INPUT, path, n->items[i]->line, n->items[i]->col, key,
					  "upto %g after %g, expected rising bins", upto, before);
		before = upto;
	}
	*list = n;
	return 0;
}

static int read_all_bins(const struct yaml_node *root, const char *path, struct twin *t, struct ikv_err *err)
{
	static const char *const first[] = {"upto", "shared_blocks"},
				 *const later[] = {"upto", "growth", "kept", "p_back"},
				 *const kinds[] = {"upto", "kinds"}, *const start[] = {"upto", "input"};
	const struct yaml_node *n;
	if (read_bins(root, path, "start", start, 2, TWIN_START_BINS, &n, err))
		return -1;
	if (n->count == 0)
		return ikv_err_at(err, IKV_BAD_INPUT, path, n->line, n->col, "start",
				  "empty, expected at least one bin");
	t->start_bins = n->count;
	for (uint32_t i = 0; i < n->count; i++)
		if (read_real(n->items[i], path, "upto", 1e12, &t->start[i].upto, err) ||
		    read_table(n->items[i], path, "input", &t->start[i].input, err))
			return -1;
	if (read_bins(root, path, "first", first, 2, TWIN_BINS, &n, err))
		return -1;
	t->first_bins = n->count;
	for (uint32_t i = 0; i < n->count; i++)
		if (read_real(n->items[i], path, "upto", 1e12, &t->first[i].upto, err) ||
		    read_table(n->items[i], path, "shared_blocks", &t->first[i].shared, err))
			return -1;
	if (read_bins(root, path, "later", later, 4, TWIN_BINS, &n, err))
		return -1;
	t->later_bins = n->count;
	for (uint32_t i = 0; i < n->count; i++)
		if (read_real(n->items[i], path, "upto", 1e12, &t->later[i].upto, err) ||
		    read_real(n->items[i], path, "p_back", 1, &t->later[i].p_back, err) ||
		    read_table(n->items[i], path, "growth", &t->later[i].growth, err) ||
		    read_table(n->items[i], path, "kept", &t->later[i].kept, err))
			return -1;
	if (read_bins(root, path, "later_kinds", kinds, 2, TWIN_KIND_BINS, &n, err))
		return -1;
	t->kind_bins = n->count;
	for (uint32_t i = 0; i < n->count; i++)
		if (read_real(n->items[i], path, "upto", 1e12, &t->kinds[i].upto, err) ||
		    read_kinds(n->items[i], path, "kinds", t->kinds[i].share, err))
			return -1;
	return 0;
}

int twin_read(const struct yaml_node *root, const char *path, void *twin, struct ikv_err *err)
{
	struct twin *t = twin;
	static const char *const plain[] = {
	    GENERATE_KEYS,        "version",      "sessions",  "turns_mean", "block_tokens", "global_ids",
	    "partial_last_block", "p_think",      "start",     "first",      "later",        "later_kinds",
	    "first_kinds",        "output_kinds", "confidence"};
	enum { PLAIN = sizeof plain / sizeof *plain };
	const char *valid[PLAIN + TABLES];
	int64_t version, sessions, block;
	memcpy(valid, plain, sizeof plain);
	for (size_t i = 0; i < TABLES; i++)
		valid[PLAIN + i] = tables[i].key;
	if (yaml_check_keys(root, path, NULL, valid, PLAIN + TABLES, err) ||
	    read_int(root, path, "version", TWIN_VERSION, TWIN_VERSION, &version, err) ||
	    read_int(root, path, "sessions", 1, UINT32_MAX, &sessions, err) ||
	    read_int(root, path, "block_tokens", 0, 1 << 20, &block, err) ||
	    read_real(root, path, "turns_mean", 1e6, &t->turns_mean, err) ||
	    read_real(root, path, "p_think", 1, &t->p_think, err) ||
	    read_bool(root, path, "global_ids", &t->global, err) ||
	    read_bool(root, path, "partial_last_block", &t->partial, err))
		return -1;
	t->sessions = (uint32_t)sessions;
	t->block_tokens = (uint32_t)block;
	for (size_t i = 0; i < TABLES; i++) {
		bool waits = tables[i].offset == FIELD(think_ms) && t->p_think > 0; /* there is a share of them */
		if (tables[i].optional && !waits && !yaml_get(root, tables[i].key))
			continue;
		if (read_table(root, path, tables[i].key, table_of(t, i), err))
			return -1;
	}
	return read_all_bins(root, path, t, err) || read_kinds(root, path, "first_kinds", t->first_kinds, err) ||
	       read_kinds(root, path, "output_kinds", t->output_kinds, err) ||
	       read_kinds(root, path, "confidence", t->confidence, err);
}

static void put_table(FILE *f, const struct draw_table *t, const char *indent)
{
	fputs("{quantiles: [", f);
	for (uint32_t i = 0; i < t->count; i++)
		fprintf(f, "%s[%.6g, %.9g]", i == 0 ? "" : i % 8 ? ", " : indent, t->level[i], t->value[i]);
	fputs("]}", f);
}

static void put_kinds(FILE *f, const double *share)
{
	bool some = false;
	fputc('{', f);
	for (int k = 0; k < IKV_KIND_COUNT; k++) {
		if (!(share[k] > 0))
			continue;
		fprintf(f, "%s%s: %.6g", some ? ", " : "", ikv_kind_name((enum ikv_kind)k), share[k]);
		some = true;
	}
	fputs("}", f);
}

static void put_bins(FILE *f, const struct twin *t)
{
	static const char indent[] = ",\n       ";
	fputs("# By the requests of a session: tokens of its first input.\nstart:\n", f);
	for (uint32_t i = 0; i < t->start_bins; i++) {
		fprintf(f, "  - upto: %.9g\n    input: ", t->start[i].upto);
		put_table(f, &t->start[i].input, indent);
		fputc('\n', f);
	}
	fprintf(f,
		"# By the size of a session's first input: blocks that it shares with earlier requests.\nfirst:%s\n",
		t->first_bins ? "" : " []");
	for (uint32_t i = 0; i < t->first_bins; i++) {
		fprintf(f, "  - upto: %.9g\n    shared_blocks: ", t->first[i].upto);
		put_table(f, &t->first[i].shared, indent);
		fputc('\n', f);
	}
	fprintf(f,
		"# By the size of the input before: how much longer the next one is (a factor), which share of it is "
		"kept, and the\n"
		"# chance that an older, longer input of the session is gone back to.\nlater:%s\n",
		t->later_bins ? "" : " []");
	for (uint32_t i = 0; i < t->later_bins; i++) {
		fprintf(f, "  - upto: %.9g\n    p_back: %.6g\n    growth: ", t->later[i].upto, t->later[i].p_back);
		put_table(f, &t->later[i].growth, indent);
		fputs("\n    kept: ", f);
		put_table(f, &t->later[i].kept, indent);
		fputc('\n', f);
	}
	fputs("# Kinds: shares of the first input, and of the outputs; of what enters later, by its tokens.\n"
	      "first_kinds: ",
	      f);
	put_kinds(f, t->first_kinds);
	fputs("\noutput_kinds: ", f);
	put_kinds(f, t->output_kinds);
	fprintf(f, "\nlater_kinds:%s\n", t->kind_bins ? "" : " []");
	for (uint32_t i = 0; i < t->kind_bins; i++) {
		fprintf(f, "  - upto: %.9g\n    kinds: ", t->kinds[i].upto);
		put_kinds(f, t->kinds[i].share);
		fputc('\n', f);
	}
	fputs("# How sure the trace's kinds are, 0 to 1.\nconfidence: ", f);
	put_kinds(f, t->confidence);
	fputc('\n', f);
}

int twin_write(const struct twin *t, const char *path, const char *name, const char *source, struct ikv_err *err)
{
	struct output out;
	if (output_open(&out, path, err))
		return -1;
	FILE *f = out.f;
	fputs("# Requests with the statistics of a trace: quantiles and shares, none of its content "
	      "(docs/generator.md).\n",
	      f);
	yaml_write_text(f, "profile", name);
	fprintf(f, "model: requests\nversion: %d\n", TWIN_VERSION);
	yaml_write_text(f, "source", source);
	fprintf(f,
		"sessions: %u\nturns_mean: %.9g\nblock_tokens: %u\nglobal_ids: %s\npartial_last_block: %s\n"
		"p_think: %.6g\n",
		t->sessions, t->turns_mean, t->block_tokens, t->global ? "true" : "false",
		t->partial ? "true" : "false", t->p_think);
	for (size_t i = 0; i < TABLES; i++) {
		const struct draw_table *table = table_of(t, i);
		if (!table->count)
			continue;
		fprintf(f, "# %s\n%s: ", tables[i].help, tables[i].key);
		put_table(f, table, ",\n   ");
		fputc('\n', f);
	}
	put_bins(f, t);
	return output_close(&out, true, err);
}

static void release(void *twin)
{
	(void)twin; /* owns nothing */
}

static uint32_t sessions(const void *twin)
{
	return ((const struct twin *)twin)->sessions;
}

static int generate(const void *twin, const struct generate_config *config, uint64_t seed, struct session_list *out,
		    struct ikv_err *err)
{
	struct twin_plan plan;
	if (twin_plan(twin, config, seed, &plan, err))
		return -1;
	int rc = twin_emit(twin, &plan, seed, out, err);
	twin_plan_free(&plan);
	return rc;
}

const struct generate_model generate_requests = {
    .name = "requests",
    .summary = "requests with the statistics of a trace",
    .size = sizeof(struct twin),
    .read = twin_read,
    .release = release,
    .generate = generate,
    .sessions = sessions,
};

/* Rebuilding a run's scenario: the file as recorded, and over it every setting that came from elsewhere. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/replay.h"
#include "sim/yaml.h"

struct tier {
	char name[80], capacity[40];
	double bytes; /* for the order: the faster tier is the smaller one */
};

struct settings {
	struct replay *r;
	struct tier tiers[IKV_TIERS_MAX];
	uint32_t tier_count;
};

static int read_rows(const char *db, const char *sql, const char *param, store_row_fn *row, void *ctx,
		     struct ikv_err *err)
{
	const char *params[] = {param};
	struct store_query q = {.sql = sql, .params = params, .param_count = param ? 1 : 0};
	return store_select(db, &q, row, ctx, err);
}

static int take_run(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct replay *r = ctx;
	(void)n;
	r->run_id = (int64_t)c[0].number;
	r->doc.path = strdup(c[1].text);
	r->doc.text = strdup(c[2].text);
	if (!r->doc.path || !r->doc.text)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	return yaml_parse(r->doc.path, r->doc.text, strlen(r->doc.text), &r->doc.root, err);
}

/* Put a setting where it was, as a sweep put it: options that this policy lacks are then no error. */
static int put(struct replay *r, const char *key, const char *value, struct ikv_err *err)
{
	struct yaml_node *n = calloc(1, sizeof *n);
	if (n) {
		*n = (struct yaml_node){.type = YAML_SCALAR, .option = "-s", .origin = YAML_SWEEP};
		n->text = strdup(value);
	}
	if (!n || !n->text) {
		free(n);
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	return yaml_put(r->doc.root, key, n, err);
}

static int take_setting(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct settings *s = ctx;
	const char *key = c[0].text, *value = c[1].text;
	(void)n;
	if (strncmp(key, "memory.tiers.", 13) != 0)
		return put(s->r, key, value, err);
	if (s->tier_count == IKV_TIERS_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "the run has more than %d tiers", IKV_TIERS_MAX);
	struct tier *t = &s->tiers[s->tier_count++];
	snprintf(t->name, sizeof t->name, "%s", key + 13);
	snprintf(t->capacity, sizeof t->capacity, "%s", value);
	t->bytes = strcmp(value, "unbounded") == 0 ? 1e300 : strtod(value, NULL);
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const struct tier *x = a, *y = b;
	return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int put_tiers(struct settings *s, struct ikv_err *err)
{
	char text[1200] = "memory.tiers=[";
	size_t used = strlen(text);
	if (s->tier_count == 0)
		return 0;
	qsort(s->tiers, s->tier_count, sizeof *s->tiers, by_size);
	for (uint32_t i = 0; i < s->tier_count; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s{name: \"%.64s\", capacity: \"%.32s\"}",
					 i ? ", " : "", s->tiers[i].name, s->tiers[i].capacity);
	snprintf(text + used, sizeof text - used, "]");
	return scenario_override(&s->r->doc, text, err);
}

/* Settings that bear on speed or on the record alone. */
static bool matters(const char *key)
{
	static const char *const not [] = {"attention.threads", "attention.isa", "description"};
	for (size_t i = 0; i < sizeof not / sizeof *not ; i++)
		if (strcmp(key, not [i]) == 0)
			return false;
	return strncmp(key, "record.", 7) != 0;
}

static int check_setting(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct replay *r = ctx;
	(void)n, (void)err;
	if (r->differs[0] || !matters(c[0].text))
		return 0;
	for (uint32_t i = 0; i < r->sc.param_count; i++) {
		const struct param *p = &r->sc.params[i];
		if (strcmp(p->key, c[0].text) != 0)
			continue;
		if (strcmp(p->value, c[1].text) != 0)
			snprintf(r->differs, sizeof r->differs,
				 "%.90s is \"%.120s\" here and was \"%.120s\" in the run", p->key, p->value,
				 c[1].text);
		return 0;
	}
	snprintf(r->differs, sizeof r->differs, "%.90s, which was \"%.120s\" in the run, is not there", c[0].text,
		 c[1].text);
	return 0;
}

static int rebuild(struct replay *r, const char *db, const char *const *overrides, uint32_t count,
		   struct ikv_err *err)
{
	struct settings s = {.r = r};
	char param[40];
	snprintf(param, sizeof param, "run=%lld", (long long)r->run_id);
	if (yaml_expect(r->doc.root, YAML_MAP, r->doc.path, NULL, err) ||
	    read_rows(db,
		      "SELECT key, value FROM run_param WHERE run_id = :run AND origin IN ('sweep', 'command-line') "
		      "ORDER BY key",
		      param, take_setting, &s, err) ||
	    put_tiers(&s, err))
		return -1;
	for (uint32_t i = 0; i < count; i++)
		if (scenario_override(&r->doc, overrides[i], err))
			return -1;
	const struct yaml_node *root = r->doc.root;
	if (scenario_resolve(&r->doc, root, &r->sc, err))
		return -1;
	if (scenario_paths(&r->doc, root, &r->sc, err) ||
	    read_rows(db, "SELECT key, value FROM run_param WHERE run_id = :run ORDER BY key", param, check_setting,
		      r, err))
		return -1;
	return run_sessions(&r->sc, &r->sessions, err);
}

int replay_open(struct replay *r, const char *db, const char *run, const char *const *overrides, uint32_t count,
		bool allow_path, struct ikv_err *err)
{
	char which[400];
	memset(r, 0, sizeof *r);
	r->run_id = -1;
	snprintf(which, sizeof which, "which=%s", run ? run : "");
	if (read_rows(
		db,
		"SELECT run_id, path, text FROM v_run JOIN scenario USING (scenario_id) WHERE CASE WHEN :which = "
		"'' THEN"
		" status = 'done' ELSE run_id = :which OR label = :which OR name = :which END ORDER BY run_id "
		"DESC LIMIT 1",
		which, take_run, r, err)) {
		replay_close(r);
		return -1;
	}
	r->doc.allow_path = allow_path;
	int rc = r->run_id < 0
		     ? ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no run %s; `intentkv runs` lists them", db,
				   run ? run : "that is done")
		     : rebuild(r, db, overrides, count, err);
	if (rc)
		replay_close(r);
	return rc;
}

void replay_close(struct replay *r)
{
	session_list_free(&r->sessions);
	scenario_free(&r->sc);
	scenario_doc_free(&r->doc);
	memset(r, 0, sizeof *r);
}

/* intentkv compare: two runs, paired by session and step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/pairs.h"

enum { SEED = 256 };
static const struct command_option options[] = {
    {"resamples", 'n', "N", NULL, "2000", "resamples of the bootstrap"},
    {"seed", SEED, "N", NULL, "42", "its seed"},
    COMMAND_FORMAT,
    {.name = NULL},
};

const struct command command_compare = {
    .name = "compare",
    .summary = "two runs side by side, paired by session and step",
    .arguments = "A B",
    .words = {"<operands>", "<operands>"},
    .examples = "intentkv compare results/quickstart.db:5 results/quickstart.db:6\n"
		"intentkv compare results/quickstart.db:quest results/quickstart.db:semantic --format json\n"
		"intentkv compare before.db after.db\n",
    .about =
	"A and B are FILE or FILE:RUN, RUN a number or a label; without one the newest run that is done. For each "
	"metric: means of both, B - A with its 95 % interval by a seeded bootstrap of blocks of consecutive steps, "
	"Cohen's d of the paired differences, and in how many pairs B is better or worse. Then the first step at "
	"which the two decide differently.\n",
    .options = options,
    .run = cmd_compare,
};

struct operand {
	char db[4096];
	int64_t run;
	char label[300];
};

struct compare {
	struct operand a, b;
	struct pairs pairs;
	struct pair_result results[PAIR_METRICS];
	uint32_t rounds, seed;
	enum store_format format;
};

static int take_run(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct operand *o = ctx;
	(void)n, (void)err;
	o->run = (int64_t)c[0].number;
	snprintf(o->label, sizeof o->label, "%s", c[1].text);
	return 0;
}

/* FILE or FILE:RUN; a file of that whole name wins. */
static int find_run(const char *text, struct operand *o, struct ikv_err *err)
{
	char param[400];
	const char *colon = strrchr(text, ':'), *params[] = {param};
	FILE *whole = fopen(text, "re");
	if (whole) {
		fclose(whole);
		colon = NULL;
	}
	snprintf(o->db, sizeof o->db, "%.*s", colon ? (int)(colon - text) : (int)strlen(text), text);
	snprintf(param, sizeof param, "which=%s", colon ? colon + 1 : "");
	struct store_query q = {.sql = "SELECT run_id, label FROM v_run WHERE CASE WHEN :which = '' THEN status = "
				       "'done' ELSE run_id = :which OR"
				       " label = :which OR name = :which END ORDER BY run_id DESC LIMIT 1",
				.params = params,
				.param_count = 1};
	o->run = -1;
	if (store_select(o->db, &q, take_run, o, err) != 0)
		return -1;
	return o->run >= 0 ? 0
			   : ikv_err_set(err, IKV_BAD_INPUT, "%s: there is no run %s; `intentkv runs` lists them", o->db,
					 colon ? colon + 1 : "that is done");
}

/* Other sessions under the same numbers would be no pairs. */
static int session_names(const struct operand *o, char **text, struct ikv_err *err)
{
	char param[40];
	const char *params[] = {param};
	size_t size;
	snprintf(param, sizeof param, "run=%lld", (long long)o->run);
	struct store_query q = {
	    .sql = "SELECT session, id, turns, decoded_tokens FROM session WHERE run_id = :run ORDER BY 1",
	    .params = params,
	    .param_count = 1,
	    .format = STORE_CSV};
	FILE *f = open_memstream(text, &size);
	if (!f)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = store_query_run(o->db, &q, f, err);
	fclose(f);
	return rc;
}

static int check_sessions(const struct compare *c, struct ikv_err *err)
{
	char *a = NULL, *b = NULL;
	int rc = session_names(&c->a, &a, err) || session_names(&c->b, &b, err) ? -1 : 0;
	if (rc == 0 && strcmp(a, b) != 0)
		fprintf(stderr, "intentkv: compare: the runs played other sessions (`query sessions`): pairs have "
				"the same session number and"
				" step only\n");
	free(a);
	free(b);
	return rc;
}

/* The result goes through the same formats as queries: as rows of VALUES, its numbers exact. */
static char *as_sql(const struct compare *c)
{
	char *sql = NULL;
	size_t size;
	FILE *f = open_memstream(&sql, &size);
	if (!f)
		return NULL;
	bool any = false;
	fputs("WITH r (metric, unit, pairs, a, b, difference, low95, high95, relative_pct, effect_d, better, worse) "
	      "AS (VALUES ",
	      f);
	for (int m = 0; m < PAIR_METRICS; m++) {
		const struct pair_result *r = &c->results[m];
		if (!r->count)
			continue;
		fprintf(f, "%s('%s','%s',%llu,%.17g,%.17g,%.17g,%.17g,%.17g,", any ? "," : "", pair_metrics[m].name,
			pair_metrics[m].unit, (unsigned long long)r->count, r->mean_a, r->mean_b, r->difference,
			r->low, r->high);
		if (r->mean_a != 0)
			fprintf(f, "%.17g", 100 * r->difference / r->mean_a);
		else
			fputs("NULL", f);
		fprintf(f, ",%.17g,%llu,%llu)", r->effect, (unsigned long long)r->better,
			(unsigned long long)r->worse);
		any = true;
	}
	fputs(") SELECT * FROM r", f);
	fclose(f);
	if (!any) {
		free(sql);
		return NULL;
	}
	return sql;
}

static void verdicts(const struct compare *c)
{
	putchar('\n');
	for (int m = 0; m < PAIR_METRICS; m++) {
		const struct pair_result *r = &c->results[m];
		bool sure = r->count && (r->low > 0 || r->high < 0);
		if (!sure)
			continue;
		double d = fabs(r->effect);
		printf("%s: B has %s", pair_metrics[m].label, r->difference > 0 ? "more" : "less");
		if (r->mean_a != 0)
			printf(" (%+.3g %%)", 100 * r->difference / r->mean_a);
		printf(", which is %s; a %s effect\n",
		       r->difference * pair_metrics[m].better > 0 ? "better" : "worse",
		       d < 0.2   ? "very small"
		       : d < 0.5 ? "small"
		       : d < 0.8 ? "medium"
				 : "large");
	}
}

static void first_difference(const struct compare *c)
{
	const struct pairs *p = &c->pairs;
	if (!p->differing) {
		printf("\nAll %llu paired steps were decided alike.\n", (unsigned long long)p->count);
		return;
	}
	printf(
	    "\n%llu of %llu paired steps were decided differently, first session %lld step %lld (batch step %lld):\n",
	    (unsigned long long)p->differing, (unsigned long long)p->count, (long long)p->first_session,
	    (long long)p->first_step, (long long)p->first_batch);
	for (int i = 0; i < 2; i++) {
		const struct operand *o = i ? &c->b : &c->a;
		printf("  intentkv explain %s --run %lld --session %lld --step %lld\n", o->db, (long long)o->run,
		       (long long)p->first_session, (long long)p->first_step);
	}
}

static int show(const struct compare *c)
{
	struct ikv_err err;
	char *sql = as_sql(c);
	if (!sql)
		return command_fail(&(struct ikv_err){IKV_BAD_INPUT, "the runs have no step in common"});
	struct store_query q = {.sql = sql, .format = c->format, .header = true};
	bool words = c->format == STORE_TABLE || c->format == STORE_MARKDOWN;
	if (words) {
		printf("A: ");
		command_print(stdout, c->a.label);
		printf(" (run %lld)\nB: ", (long long)c->a.run);
		command_print(stdout, c->b.label);
		printf(" (run %lld)\n\n", (long long)c->b.run);
	}
	int rc = store_query_run(c->a.db, &q, stdout, &err) == 0 ? 0 : command_fail(&err);
	free(sql);
	if (rc || !words)
		return rc;
	if (c->pairs.only_a || c->pairs.only_b)
		printf("\nwithout a partner: %llu steps of A, %llu of B\n", (unsigned long long)c->pairs.only_a,
		       (unsigned long long)c->pairs.only_b);
	verdicts(c);
	first_difference(c);
	return 0;
}

static int compare(struct compare *c, char **operands)
{
	struct ikv_err err;
	if (find_run(operands[0], &c->a, &err) || find_run(operands[1], &c->b, &err) || check_sessions(c, &err) ||
	    pairs_read(c->a.db, c->a.run, c->b.db, c->b.run, &c->pairs, &err))
		return command_fail(&err);
	int rc = 0;
	for (int m = 0; m < PAIR_METRICS && rc == 0; m++)
		rc = pairs_compare(&c->pairs, m, c->rounds, c->seed, &c->results[m], &err);
	rc = rc ? command_fail(&err) : show(c);
	pairs_free(&c->pairs);
	return rc;
}

int cmd_compare(int argc, char **argv)
{
	struct command_line line;
	struct compare c = {.rounds = 2000, .seed = 42};
	int o, rc = 0;
	command_begin(&line, &command_compare, argc, argv);
	while (rc == 0 && (o = command_next(&line)) != -1) {
		switch (o) {
		case 'n':
			rc = command_count("compare", "--resamples", optarg, 100, 1000000, &c.rounds);
			break;
		case SEED:
			rc = command_count("compare", "--seed", optarg, 0, UINT32_MAX, &c.seed);
			break;
		case 'f':
			rc = command_format(optarg, &c.format) == 0 ? 0 : IKV_USAGE;
			break;
		default:
			return IKV_USAGE;
		}
	}
	if (rc)
		return rc;
	if (optind + 2 != argc)
		return command_usage("compare", "expected two runs, such as FILE:quest FILE:semantic");
	return compare(&c, argv + optind);
}

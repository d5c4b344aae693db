/* intentkv explain: why a block was read or not at one step, and what the oracle would have read. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/explain.h"
#include "sim/replay.h"

enum { RUN = 256, SESSION, STEP, BLOCK, ALLOW };
static const struct command_option options[] = {
    {"run", RUN, "RUN", "<runs>", NULL, "number, label or name (default: the newest that is done)"},
    {"session", SESSION, "N", NULL, "0", "session of the run"},
    {"step", STEP, "N", NULL, NULL, "decode step of the session; needed"},
    {"block", BLOCK, "NAME", NULL, NULL, "this block alone, a row for each unit (layer and heads) that decided"},
    {"set", 's', "KEY=VALUE", "<settings>", NULL,
     "give again a setting that the record cannot hold, such as a list of rules"},
    {"allow-path", ALLOW, NULL, NULL, NULL, "the scenario may name files outside its own folder"},
    COMMAND_FORMAT,
    {.name = NULL},
};

const struct command command_explain = {
    .name = "explain",
    .summary = "why a block was read or not at a step: by which rule, with the numbers",
    .arguments = "DB --step S",
    .words = {"*.db"},
    .examples = "intentkv explain results/quickstart.db --run semantic --step 40\n"
		"intentkv explain results/quickstart.db --run 6 --session 1 --step 40 --block tool_output#7\n",
    .about =
	"The run is played again up to that step, which takes as long as it took then and needs the files that it "
	"read; its decisions must come out with the recorded hash. Beside each block stands its dense softmax mass "
	"in this very step and what the oracle would have read with as many pages.\n",
    .options = options,
    .run = cmd_explain,
};

struct request {
	const char *db, *run, *block;
	const char *sets[32];
	uint32_t set_count, session, step;
	bool has_step, allow_path;
	enum store_format format;
};

/* Blocks over all units: means, and the decision of most units. */
struct summary {
	const struct explain_row *row; /* of the unit that speaks for the most */
	uint32_t units, agree;
	double read, oracle, mass, missed, score;
	uint32_t scored;
	int32_t low_rank, high_rank;
};

static void quoted(FILE *f, const char *text)
{
	fputc('\'', f);
	for (; *text; text++) {
		if (*text == '\'')
			fputc('\'', f);
		fputc(*text, f);
	}
	fputc('\'', f);
}

static void number(FILE *f, double x)
{
	if (isnan(x))
		fputs(",NULL", f);
	else
		fprintf(f, ",significant(%.17g, 4)", x);
}

static bool same_piece(const struct explain_row *a, const struct explain_row *b)
{
	return a->block == b->block && a->start == b->start && a->end == b->end;
}

static bool same_decision(const struct explain_row *a, const struct explain_row *b)
{
	return a->decision.code == b->decision.code && a->decision.reason == b->decision.reason &&
	       a->decision.format == b->decision.format;
}

/* All rows of the piece that row `first` describes. */
static void summarise(const struct explain *e, uint32_t first, struct summary *s)
{
	const struct explain_row *a = &e->rows[first];
	memset(s, 0, sizeof *s);
	s->low_rank = INT32_MAX;
	s->high_rank = -1;
	for (uint32_t i = first; i < e->count; i++) {
		const struct explain_row *r = &e->rows[i];
		uint32_t agree = 0;
		if (!same_piece(a, r))
			continue;
		for (uint32_t k = first; k < e->count; k++)
			agree += same_piece(a, &e->rows[k]) && same_decision(r, &e->rows[k]);
		if (agree > s->agree) {
			s->agree = agree;
			s->row = r;
		}
		s->units++;
		s->read += r->read;
		s->oracle += r->oracle;
		s->mass += r->mass;
		s->missed += r->missed;
		if (!isnan(r->decision.score)) {
			s->score += r->decision.score;
			s->scored++;
		}
		if (r->decision.rank >= 0) {
			s->low_rank = r->decision.rank < s->low_rank ? r->decision.rank : s->low_rank;
			s->high_rank = r->decision.rank > s->high_rank ? r->decision.rank : s->high_rank;
		}
	}
}

static void put_decision(FILE *f, const struct explain_row *r)
{
	const struct ikv_decision *d = &r->decision;
	char why[200];
	ikv_decision_explain(d, why, sizeof why);
	fprintf(f, ",'%s','%s','%s',", ikv_decision_name(d->code), ikv_format_names()[d->format],
		ikv_reason_name(d->reason));
	quoted(f, why);
}

static void put_piece(FILE *f, const struct explain_row *r)
{
	quoted(f, r->name);
	fprintf(f, ",'%s','%s',%u,%u", ikv_kind_name(r->kind), ikv_policy_name(r->policy), r->start, r->end);
}

static void put_blocks(FILE *f, const struct explain *e)
{
	bool any = false;
	fputs("WITH r (block, role, policy, start_token, end_token, decision, format, rule, why, units, score, "
	      "best_rank,"
	      " worst_rank, read_tokens, oracle_tokens, mass_pct, miss_pages) AS (VALUES ",
	      f);
	for (uint32_t i = 0; i < e->count; i++) {
		struct summary s;
		bool seen = false;
		for (uint32_t k = 0; k < i && !seen; k++)
			seen = same_piece(&e->rows[k], &e->rows[i]);
		if (seen)
			continue;
		summarise(e, i, &s);
		fputs(any ? ",(" : "(", f);
		put_piece(f, s.row);
		put_decision(f, s.row);
		fprintf(f, ",'%u of %u'", s.agree, s.units);
		number(f, s.scored ? s.score / s.scored : NAN);
		number(f, s.high_rank >= 0 ? s.low_rank : NAN);
		number(f, s.high_rank >= 0 ? s.high_rank : NAN);
		number(f, s.read / s.units);
		number(f, s.oracle / s.units);
		number(f, 100 * s.mass / s.units);
		number(f, s.missed / s.units);
		fputc(')', f);
		any = true;
	}
	fputs(") SELECT * FROM r ORDER BY start_token", f);
}

static int put_one_block(FILE *f, const struct explain *e, const char *name)
{
	const char *names[4096];
	size_t n = 0;
	bool any = false;
	fputs("WITH r (layer, head, block, role, policy, start_token, end_token, decision, format, rule, why, score, "
	      "rank,"
	      " compared_with, read_tokens, oracle_tokens, mass_pct, pages, miss_pages) AS (VALUES ",
	      f);
	for (uint32_t i = 0; i < e->count; i++) {
		const struct explain_row *r = &e->rows[i];
		if (n < sizeof names / sizeof *names)
			names[n++] = r->name;
		if (strcmp(r->name, name) != 0)
			continue;
		fprintf(f, "%s(%u,%u,", any ? "," : "", r->layer, r->head);
		put_piece(f, r);
		put_decision(f, r);
		number(f, r->decision.score);
		number(f, r->decision.rank >= 0 ? r->decision.rank : NAN);
		number(f, r->decision.threshold);
		fprintf(f, ",%u,%u", r->read, r->oracle);
		number(f, 100 * r->mass);
		fprintf(f, ",%u,%u)", r->pages, r->missed);
		any = true;
	}
	fputs(") SELECT * FROM r ORDER BY layer, head, start_token", f);
	if (any)
		return 0;
	const char *near = ikv_nearest(name, names, n);
	return command_usage("explain", "the step has no block \"%.80s\"%s%s%s", name,
			     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int take_hash(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	(void)n, (void)err;
	snprintf(ctx, 40, "%s", c[0].text);
	return 0;
}

/* What the run decided at the step, asked before it is played again. */
static int read_hash(const struct request *q, const struct replay *r, char recorded[40], struct ikv_err *err)
{
	char sql[200];
	*recorded = 0;
	snprintf(sql, sizeof sql, "SELECT decision_hash FROM step WHERE run_id = %lld AND session = %u AND step = %u",
		 (long long)r->run_id, q->session, q->step);
	struct store_query query = {.sql = sql};
	if (store_select(q->db, &query, take_hash, recorded, err))
		return -1;
	return *recorded ? 0
			 : ikv_err_set(err, IKV_BAD_INPUT, "run %lld has no step %u of session %u", (long long)r->run_id,
				       q->step, q->session);
}

/* The decisions must be those of the run; else what is shown would explain something else. */
static int check_hash(const struct replay *r, const struct explain *e, const char *recorded, struct ikv_err *err)
{
	char now[40];
	snprintf(now, sizeof now, "%016llx", (unsigned long long)e->decision_hash);
	if (strcmp(recorded, now) == 0)
		return 0;
	return ikv_err_set(
	    err, IKV_FAILED,
	    "the replay of run %lld decided otherwise at this step (%s, recorded %s)%s%s; -s KEY=VALUE gives a"
	    " setting again",
	    (long long)r->run_id, now, recorded, r->differs[0] ? ": " : "", r->differs);
}

static void heading(const struct replay *r, const struct explain *e)
{
	printf("run %lld, router ", (long long)r->run_id);
	command_print(stdout, r->sc.router.name);
	printf(", session %llu, step %llu: %u tokens, %u pages, pressure %.3g, %u unit%s\n",
	       (unsigned long long)e->session, (unsigned long long)e->step, e->tokens, e->pages, e->pressure,
	       e->units, e->units == 1 ? "" : "s");
	printf(
	    "The pages read hold %.2f %% of the dense softmax mass%s; as many pages of the oracle hold %.2f %%.\n\n",
	    100 * e->recall, e->modelled ? " (modelled: attention does not run at this level)" : "",
	    100 * e->oracle_recall);
}

static int show(const struct request *q, const struct replay *r, const struct explain *e)
{
	struct ikv_err err;
	char *sql = NULL;
	size_t size;
	FILE *f = open_memstream(&sql, &size);
	if (!f)
		return command_fail(&(struct ikv_err){IKV_FAILED, "out of memory"});
	int rc = 0;
	if (q->block)
		rc = put_one_block(f, e, q->block);
	else
		put_blocks(f, e);
	fclose(f);
	struct store_query query = {.sql = sql, .format = q->format, .header = true};
	if (rc == 0 && (q->format == STORE_TABLE || q->format == STORE_MARKDOWN))
		heading(r, e);
	if (rc == 0 && store_query_run(q->db, &query, stdout, &err))
		rc = command_fail(&err);
	free(sql);
	return rc;
}

static int explain(const struct request *q)
{
	struct ikv_err err;
	struct replay r;
	struct run run;
	struct explain e = {.session = q->session, .step = q->step};
	char recorded[40];
	if (replay_open(&r, q->db, q->run, q->sets, q->set_count, q->allow_path, &err))
		return command_fail(&err);
	int rc = 0;
	if (q->session >= r.sessions.count)
		rc = command_usage("explain", "--session: got %u, the run has sessions 0 to %u", q->session,
				   r.sessions.count - 1);
	else if (read_hash(q, &r, recorded, &err) || run_open(&run, &r.sc, &r.sessions, &err))
		rc = command_fail(&err);
	else {
		if (explain_play(&e, &run, &err) || check_hash(&r, &e, recorded, &err))
			rc = command_fail(&err);
		run_close(&run);
	}
	if (rc == 0)
		rc = show(q, &r, &e);
	explain_free(&e);
	replay_close(&r);
	return rc;
}

int cmd_explain(int argc, char **argv)
{
	struct command_line line;
	struct request q = {.db = NULL};
	int c, rc = 0;
	command_begin(&line, &command_explain, argc, argv);
	while (rc == 0 && (c = command_next(&line)) != -1) {
		switch (c) {
		case RUN:
			q.run = optarg;
			break;
		case SESSION:
			rc = command_count("explain", "--session", optarg, 0, UINT32_MAX, &q.session);
			break;
		case STEP:
			rc = command_count("explain", "--step", optarg, 0, UINT32_MAX, &q.step);
			q.has_step = true;
			break;
		case BLOCK:
			q.block = optarg;
			break;
		case 's':
			if (q.set_count == sizeof q.sets / sizeof *q.sets)
				return command_usage("explain", "too many settings");
			q.sets[q.set_count++] = optarg;
			break;
		case ALLOW:
			q.allow_path = true;
			break;
		case 'f':
			rc = command_format(optarg, &q.format) == 0 ? 0 : IKV_USAGE;
			break;
		default:
			return IKV_USAGE;
		}
	}
	if (rc)
		return rc;
	if (optind + 1 != argc)
		return command_usage("explain", "expected one database");
	if (!q.has_step)
		return command_usage("explain", "--step is needed");
	q.db = argv[optind];
	return explain(&q);
}

/* What a report's runs show, in words: best choices, losses by component, and what looks odd. Bounds of what counts
 * as odd are named below; each sentence carries its numbers. */
#include <math.h>
#include <string.h>
#include "sim/report.h"

#define STALL_SHARE   0.1  /* of the modelled step */
#define HIT_RATE_LOW  50.0 /* percent */
#define TAIL_RATIO    3.0  /* p99 / p50 of the modelled step */
#define PRECISION_LOW 20.0 /* percent of predicted pages */
#define SENTENCES_MAX 12   /* of one kind; of anomalies ANOMALIES_MAX */
#define ANOMALIES_MAX 4
#define LIKE_BYTES    5.0 /* points of bytes; runs further from the oracle's are not compared in words */

struct finding {
	FILE *f;
	int said, more;
	double at, last_run; /* best: the budget and run of the sentence before */
	bool oracle;
};

static void begin(struct finding *s, bool anomaly)
{
	fputs(anomaly ? "<li class=\"anomaly\">" : "<li>", s->f);
	s->said++;
}

/* Is there room for one more anomaly of this kind? */
static bool more_room(struct finding *s)
{
	if (s->said < ANOMALIES_MAX)
		return true;
	s->more++;
	return false;
}

static void end(struct finding *s)
{
	fputs("</li>\n", s->f);
}

static void run_name(FILE *f, const struct store_cell *c, int n)
{
	fputs("<b>", f);
	report_text(f, report_cell(c, n, "label")->text);
	fprintf(f, "</b> (run %.0f)", report_cell(c, n, "run")->number);
}

static int decimals(double x)
{
	return fabs(x) >= 100 ? 0 : fabs(x) >= 1 ? 1 : 4;
}

static double value(const struct store_cell *c, int n, const char *name)
{
	return report_cell(c, n, name)->number;
}

static bool is_router(const struct store_cell *c, int n, const char *name)
{
	return strcmp(report_cell(c, n, "router")->text, name) == 0;
}

/* Rows come by budget, the oracle after the others of the same. */
static int best(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	double run = value(c, n, "run"), error = value(c, n, "rel_l2_p50"), at = value(c, n, "at_most_pct");
	(void)err;
	if (is_router(c, n, "oracle")) {
		if (s->oracle && at == s->at && !isnan(error))
			fprintf(s->f, " The oracle, which knows the future, has %.3g at %.3g %%.", error,
				value(c, n, "read_pct"));
		s->oracle = false;
		return 0;
	}
	s->oracle = false;
	if (run == s->last_run)
		return 0;
	if (s->said)
		end(s);
	begin(s, false);
	fprintf(s->f, "Reading at most %g %% of dense: ", at);
	run_name(s->f, c, n);
	if (isnan(error))
		fprintf(s->f, " recalls most softmax mass, %.4g %%, at %.3g %% of the bytes.",
			value(c, n, "recall_pct"), value(c, n, "read_pct"));
	else
		fprintf(s->f, " has the least error, %.3g (median), at %.3g %% of the bytes.", error,
			value(c, n, "read_pct"));
	s->last_run = run;
	s->at = at;
	s->oracle = true;
	return 0;
}

static int pareto(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	(void)err;
	double on_front = value(c, n, "pareto"); /* the oracle has no place: NAN */
	s->more += !isnan(on_front);
	s->said += on_front == 1;
	return 0;
}

static int regret(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	static const struct {
		const char *column, *what;
	} parts[] = {
	    {"attention_us", "attention"}, {"recode_us", "re-encoding"}, {"stall_us", "stalls for transfers"}};
	struct finding *s = ctx;
	double mass = value(c, n, "missed_mass_pp"), total = value(c, n, "total_us"), most = 0;
	const char *what = NULL;
	(void)err;
	if (fabs(value(c, n, "read_pp")) > LIKE_BYTES || (!(mass > 0.05) && !(fabs(total) > 0)))
		return 0;
	if (s->said == SENTENCES_MAX) {
		s->more++;
		return 0;
	}
	begin(s, false);
	run_name(s->f, c, n);
	fprintf(s->f, " against the oracle (run %.0f): %.3g points of softmax mass %s", value(c, n, "oracle"),
		fabs(mass), mass >= 0 ? "less" : "more");
	if (!isnan(value(c, n, "rel_l2")))
		fprintf(s->f, ", error %+.3g", value(c, n, "rel_l2"));
	fprintf(s->f, ", %+.3g points of bytes", value(c, n, "read_pp"));
	for (int i = 0; i < 3; i++) {
		double x = value(c, n, parts[i].column);
		if (fabs(x) > fabs(most)) {
			most = x;
			what = parts[i].what;
		}
	}
	if (what && total != 0)
		fprintf(s->f, ", a modelled step %+.*f &micro;s, most by %s (%+.*f)", decimals(total), total, what,
			decimals(most), most);
	fputs(".", s->f);
	end(s);
	return 0;
}

/* Rows come by run, the role of the greatest regret first: only that is told. */
static int roles(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	double run = value(c, n, "run"), points = value(c, n, "regret_pp");
	(void)err;
	if (run == s->last_run)
		return 0;
	s->last_run = run;
	if (!(points > 0.5) || s->said == SENTENCES_MAX)
		return 0;
	begin(s, false);
	run_name(s->f, c, n);
	fprintf(s->f, " loses most on <b>");
	report_text(s->f, report_cell(c, n, "role")->text);
	fprintf(s->f, "</b>: it misses %.3g points of softmax mass there, the oracle %.3g.", value(c, n, "missed_pp"),
		value(c, n, "oracle_missed_pp"));
	end(s);
	return 0;
}

static int odd_summary(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	double recall = value(c, n, "recall_pct"), selected = value(c, n, "selected_pct"),
	       hit = value(c, n, "hit_pct");
	(void)err;
	if (selected < 99 && recall < selected && more_room(s)) {
		begin(s, true);
		run_name(s->f, c, n);
		fprintf(
		    s->f,
		    " reads %.3g %% of the tokens and recalls %.3g %% of the mass: worse than reading tokens evenly.",
		    selected, recall);
		end(s);
	}
	if (hit < HIT_RATE_LOW && more_room(s)) {
		begin(s, true);
		run_name(s->f, c, n);
		fprintf(s->f, " finds only %.3g %% of its selected pages in the fast tier.", hit);
		end(s);
	}
	if (!(value(c, n, "steps") > 0) && more_room(s)) {
		begin(s, true);
		run_name(s->f, c, n);
		fputs(" has no steps.", s->f);
		end(s);
	}
	return 0;
}

static int odd_time(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	double stall = value(c, n, "stall_us"), total = value(c, n, "total_us");
	(void)err;
	if (!(stall > STALL_SHARE * total) || !more_room(s))
		return 0;
	begin(s, true);
	run_name(s->f, c, n);
	fprintf(s->f, " stalls: transfers that nothing hides are %.3g %% of a modelled step.", 100 * stall / total);
	end(s);
	return 0;
}

static int odd_tails(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	double p50 = value(c, n, "p50"), p99 = value(c, n, "p99");
	(void)err;
	if (strcmp(report_cell(c, n, "metric")->text, "sim_total_ns") != 0 || !(p99 > TAIL_RATIO * p50) ||
	    !more_room(s))
		return 0;
	begin(s, true);
	run_name(s->f, c, n);
	fprintf(s->f, " has a long tail: the 99th percentile of a modelled step is %.3g times its median.",
		p99 / p50);
	end(s);
	return 0;
}

static int odd_prefetch(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	(void)err;
	if (!(value(c, n, "precision_pct") < PRECISION_LOW) || !more_room(s))
		return 0;
	begin(s, true);
	run_name(s->f, c, n);
	fprintf(s->f, " prefetches mostly in vain: %.3g %% of the predicted pages were selected in time.",
		value(c, n, "precision_pct"));
	end(s);
	return 0;
}

static int failure(void *ctx, const struct store_cell *c, int n, struct ikv_err *err)
{
	struct finding *s = ctx;
	(void)err;
	if (!more_room(s))
		return 0;
	begin(s, true);
	run_name(s->f, c, n);
	const char *message = report_cell(c, n, "message")->text;
	double all = value(c, n, "steps_of_sessions"); /* NaN where it failed before it had sessions */
	fprintf(s->f, " %s after %.0f", strcmp(report_cell(c, n, "status")->text, "failed") ? "was interrupted" : "failed",
		value(c, n, "steps"));
	if (all > 0)
		fprintf(s->f, " of %.0f", all);
	fprintf(s->f, " steps%s", *message ? ": " : "");
	report_text(s->f, message);
	fputs(".", s->f);
	end(s);
	return 0;
}

static void rest(const struct finding *s)
{
	if (s->more)
		fprintf(s->f, "<li>And %d more like it, in the tables below.</li>\n", s->more);
}

int report_findings(const struct report *r, struct ikv_err *err)
{
	static const struct {
		const char *query;
		store_row_fn *fn;
	} odd[] = {{"summary", odd_summary},
		   {"time", odd_time},
		   {"tails", odd_tails},
		   {"prefetch", odd_prefetch},
		   {"failures", failure}};
	struct finding s = {.f = r->f};
	int anomalies = 0;
	fputs("<h3>Best at each byte budget</h3>\n<ul class=\"findings\">\n", r->f);
	if (report_select(r, "best", best, &s, err) != 0)
		return -1;
	if (s.said)
		end(&s);
	else
		fputs("<li>There is neither error nor recalled mass to judge by: attention did not run.</li>\n",
		      r->f);
	struct finding front = {.f = r->f};
	if (report_select(r, "pareto", pareto, &front, err) != 0)
		return -1;
	if (front.said)
		fprintf(r->f,
			"<li>%d of %d runs, the oracle apart, lie on the Pareto front of bytes and error.</li>\n",
			front.said, front.more);
	struct finding losses = {.f = r->f}, by_role = {.f = r->f};
	fputs("</ul>\n<h3>Regret against the oracle</h3>\n<ul class=\"findings\">\n", r->f);
	if (report_select(r, "regret", regret, &losses, err) != 0)
		return -1;
	rest(&losses);
	if (report_select(r, "regret-by-role", roles, &by_role, err) != 0)
		return -1;
	if (losses.said == 0 && by_role.said == 0)
		fputs("<li>No run can be compared with an oracle run of the same settings.</li>\n", r->f);
	fputs("</ul>\n<h3>Anomalies</h3>\n<ul class=\"findings\">\n", r->f);
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct finding a = {.f = r->f};
		if (report_select(r, odd[i].query, odd[i].fn, &a, err) != 0)
			return -1;
		rest(&a);
		anomalies += a.said;
	}
	if (!anomalies)
		fputs("<li>None of those looked for: failed runs, runs without steps, stalls, low hit rates, long "
		      "tails, vain "
		      "prefetching, recall below an even choice.</li>\n",
		      r->f);
	fputs("</ul>\n", r->f);
	return 0;
}

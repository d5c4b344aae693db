/* Sums over the steps of one run, taken in any order: what its roll-ups are written from. */
#ifndef DB_STORE_SUMS_H
#define DB_STORE_SUMS_H

#include "db/store.h"

enum {
	SUMS_BUCKETS = 100, /* of the series */
	SUMS_SLOW = 100,
	SUMS_DERIVED = 5, /* the last metrics: ratios of columns in one step */
	SUMS_METRICS = 80,
	SUMS_SESSION = 10, /* metrics kept by session */
	SUMS_ROLES = 32,
};

/* Sum and what rounding left of it: so near to the true sum that the order of steps cannot be seen in it. */
struct sum_row {
	double sum[SUMS_METRICS], rest[SUMS_METRICS], count[SUMS_METRICS];
};
struct sum_one {
	double sum, rest, count;
};
struct sum_session {
	int64_t session, steps;
	double sum[SUMS_SESSION], rest[SUMS_SESSION], count[SUMS_SESSION];
};
struct sum_role {
	char kind[32];
	int64_t steps;
	int64_t whole[5], whole_count[5]; /* tokens, selected_tokens, read_bytes, hit_pages, miss_pages */
	double mass[2], rest[2];          /* mass, mass_selected */
	int64_t mass_count[2];
};
struct sum_slow {
	double ns;
	int64_t session, step;
};
struct sum_metric {
	const char *name;
	int column;    /* of the table step, -1: derived */
	float *values; /* where percentiles are kept; owned */
	size_t used, cap;
};
struct store_sums {
	struct sum_metric metrics[SUMS_METRICS];
	int count, first_derived;
	struct sum_row buckets[SUMS_BUCKETS];
	struct sum_row all; /* of all steps, as of store_sums_total */
	double min[SUMS_METRICS], max[SUMS_METRICS];
	uint64_t bucket_steps[SUMS_BUCKETS], steps;
	int64_t width;                /* steps of a bucket */
	struct sum_session *sessions; /* by number; owned */
	size_t session_count, session_cap, session_at;
	struct sum_slow slow[SUMS_SLOW]; /* longest first; of equal ones, by session and step */
	int slow_count;
	struct sum_role roles[SUMS_ROLES];
	int role_count;
	int spread[SUMS_METRICS], spread_count; /* metrics of which percentiles are kept */
	int of_session[SUMS_SESSION];           /* metrics kept by session */
	int total, attention, wall, dense, executed, outside, mass; /* metrics with a part in derived ones */
	struct sum_one modelled, measured;                          /* mass, which is kept apart */
};

extern const struct sum_session_column { /* of run_session after run_id, session and steps */
	const char *name;
	bool mean; /* the average of the steps that have it, else the sum */
} sum_session_columns[SUMS_SESSION];

int store_sums_open(struct store_sums **out, struct ikv_err *err);
void store_sums_free(struct store_sums *r);
/* x[i]: value of the metric i, NaN where the step has none; those derived are filled in. modelled: mass_by = model. */
int store_sums_add(struct store_sums *r, int64_t session, int64_t step, double x[SUMS_METRICS], bool modelled,
		   struct ikv_err *err);
int store_sums_add_row(struct store_sums *r, const struct store_step *row, struct ikv_err *err);
/* whole: as in struct sum_role, -1 where there is none; mass: NaN. */
int store_sums_add_role(struct store_sums *r, const char *kind, const int64_t whole[5], const double mass[2],
			struct ikv_err *err);
void store_sums_total(struct store_sums *r);
int store_sums_metric(const struct store_sums *r, const char *name); /* -1: none */
double store_sums_value(double sum, double rest);

#endif

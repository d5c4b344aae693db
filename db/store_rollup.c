/* Roll-ups of a run: what queries and figures over many steps read instead of them. One pass over the run's steps in
 * order of session and step; which metrics the series has is what columns its table has. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "store_internal.h"

enum { BUCKETS = 100, SLOW = 100, DERIVED = 5, METRICS_MAX = 128 };

/* Metrics of which percentiles are kept: each costs 4 bytes a step while the run is closed. */
static const char *const spread[] = {"selected_tokens",
				     "read_bytes",
				     "sim_total_ns",
				     "sim_attention_ns",
				     "sim_exposed_ns",
				     "mass_recall",
				     "rel_l2",
				     "max_abs",
				     "cosine",
				     "kl",
				     "wall_attention_ns",
				     "wall_dense_ns",
				     "wall_score_ns",
				     "wall_route_ns",
				     "wall_memory_ns",
				     "wall_recode_ns",
				     "sim_per_wall",
				     "wall_speedup",
				     "sim_attention_measured_ns",
				     "sim_executed_ns",
				     "prediction_error"};

struct metric {
	const char *name;
	int column;  /* of the statement, -1: derived */
	int series;  /* column of the series, -1: none */
	int session; /* column of the session's roll-up, -1: none */
	bool spread;
	uint64_t count;
	double total, min, max;
	float *values; /* owned */
	size_t cap;
};
struct cell {
	double sum;
	uint64_t count;
};
struct slow {
	double ns;
	int64_t session, step;
};
struct rollup {
	sqlite3 *db;
	const char *path;
	int64_t run;
	struct metric metrics[METRICS_MAX];
	int count, series_count;
	struct cell *series; /* [BUCKETS][series_count]; owned */
	uint64_t series_steps[BUCKETS];
	int64_t width; /* steps of a bucket */
	struct cell session[16];
	int64_t session_at, session_steps;
	struct slow slow[SLOW];
	int slow_count;
	int total, attention, wall, dense, executed, outside, mass,
	    mass_by; /* metrics with a part in derived ones; mass_by: a column */
	struct cell model_mass;
};

/* Columns of run_session after run_id, session and steps; mean: the average of the steps that have it. */
static const struct {
	const char *name;
	bool mean;
} session_columns[] = {{"context_tokens", false}, {"selected_tokens", false}, {"dense_bytes", false},
		       {"read_bytes", false},     {"hit_pages", false},       {"miss_pages", false},
		       {"sim_total_ns", false},   {"sim_dense_ns", false},    {"mass_recall", true},
		       {"rel_l2", true}};
enum { SESSION_COLUMNS = sizeof session_columns / sizeof *session_columns };

static int prepare(struct rollup *r, const char *sql, sqlite3_stmt **stmt, struct ikv_err *err)
{
	if (sqlite3_prepare_v2(r->db, sql, -1, stmt, NULL) != SQLITE_OK)
		return store_fail(r->db, r->path, "cannot roll a run up", err);
	return 0;
}

static int run_once(struct rollup *r, sqlite3_stmt *stmt, struct ikv_err *err)
{
	int rc = sqlite3_step(stmt);
	sqlite3_reset(stmt);
	return rc == SQLITE_DONE ? 0 : store_fail(r->db, r->path, "cannot roll a run up", err);
}

static int execute(struct rollup *r, const char *sql, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (prepare(r, sql, &stmt, err) != 0)
		return -1;
	sqlite3_bind_int64(stmt, 1, r->run);
	int rc = run_once(r, stmt, err);
	sqlite3_finalize(stmt);
	return rc;
}

static int metric_at(const struct rollup *r, const char *name)
{
	for (int i = 0; i < r->count; i++)
		if (strcmp(r->metrics[i].name, name) == 0)
			return i;
	return -1;
}

static void add_metric(struct rollup *r, const char *name, int column)
{
	struct metric *m = &r->metrics[r->count++];
	*m = (struct metric){.name = name, .column = column, .series = -1, .session = -1};
	for (size_t i = 0; i < sizeof spread / sizeof *spread; i++)
		m->spread |= strcmp(name, spread[i]) == 0;
	for (int i = 0; i < SESSION_COLUMNS; i++)
		if (strcmp(name, session_columns[i].name) == 0)
			m->session = i;
}

/* Quantities are the numbers of a step but for its keys. The series has a column of the same name for most. */
static int choose_metrics(struct rollup *r, struct ikv_err *err)
{
	static const char *const keys[] = {"run_id", "session", "step", "batch_step", "turn"};
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	sqlite3_stmt *stmt;
	for (int i = 0; i < t->count && r->count < METRICS_MAX - DERIVED; i++) {
		bool key = false;
		for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
			key |= strcmp(t->columns[i].name, keys[k]) == 0;
		if (strcmp(t->columns[i].name, "mass_by") == 0)
			r->mass_by = i;
		if (!key && (t->columns[i].type == STORE_INT || t->columns[i].type == STORE_REAL))
			add_metric(r, t->columns[i].name, i);
	}
	r->total = metric_at(r, "sim_total_ns");
	r->attention = metric_at(r, "sim_attention_ns");
	r->wall = metric_at(r, "wall_attention_ns");
	r->dense = metric_at(r, "wall_dense_ns");
	r->executed = metric_at(r, "sim_executed_ns");
	r->outside = metric_at(r, "sim_outside");
	r->mass = metric_at(r, "mass_recall");
	add_metric(r, "sim_per_wall", -1);
	add_metric(r, "wall_speedup", -1);
	add_metric(r, "sim_attention_measured_ns", -1);
	add_metric(r, "prediction_error", -1);
	add_metric(r, "sim_outside_measured", -1);
	if (prepare(r, "SELECT * FROM run_series LIMIT 0", &stmt, err) != 0)
		return -1;
	for (int i = 3; i < sqlite3_column_count(stmt); i++) {
		int m = metric_at(r, sqlite3_column_name(stmt, i));
		if (m >= 0)
			r->metrics[m].series = r->series_count++;
	}
	sqlite3_finalize(stmt);
	r->series =
	    ikv_alloc((size_t)BUCKETS * (size_t)(r->series_count ? r->series_count : 1), sizeof *r->series, err);
	return r->series ? 0 : -1;
}

static int keep(struct metric *m, double x, struct ikv_err *err)
{
	m->min = m->count == 0 || x < m->min ? x : m->min;
	m->max = m->count == 0 || x > m->max ? x : m->max;
	m->total += x;
	m->count++;
	if (!m->spread)
		return 0;
	if (m->count > m->cap) {
		size_t cap = m->cap ? 2 * m->cap : 1024;
		if (ikv_grow(&m->values, m->cap, cap, sizeof *m->values, err) != 0)
			return -1;
		m->cap = cap;
	}
	m->values[m->count - 1] = (float)x;
	return 0;
}

/* Pairs of buckets become one when a step lies beyond the last. */
static void widen(struct rollup *r)
{
	size_t n = (size_t)r->series_count;
	for (size_t b = 0; b < BUCKETS; b++) {
		bool pair = b < BUCKETS / 2;
		r->series_steps[b] = pair ? r->series_steps[2 * b] + r->series_steps[2 * b + 1] : 0;
		for (size_t i = 0; i < n; i++) {
			struct cell *to = &r->series[b * n + i], zero = {0, 0};
			const struct cell *x = pair ? &r->series[2 * b * n + i] : &zero, *y = pair ? x + n : &zero;
			*to = (struct cell){x->sum + y->sum, x->count + y->count};
		}
	}
	r->width *= 2;
}

static int end_session(struct rollup *r, sqlite3_stmt *insert, struct ikv_err *err)
{
	if (r->session_steps == 0)
		return 0;
	sqlite3_bind_int64(insert, 1, r->run);
	sqlite3_bind_int64(insert, 2, r->session_at);
	sqlite3_bind_int64(insert, 3, r->session_steps);
	for (int i = 0; i < SESSION_COLUMNS; i++) {
		const struct cell *c = &r->session[i];
		if (c->count)
			sqlite3_bind_double(insert, 4 + i,
					    session_columns[i].mean ? c->sum / (double)c->count : c->sum);
		else
			sqlite3_bind_null(insert, 4 + i);
	}
	memset(r->session, 0, sizeof r->session);
	r->session_steps = 0;
	return run_once(r, insert, err);
}

/* The longest so far, longest first; of equal ones that which came first. */
static void note_slow(struct rollup *r, double ns, int64_t session, int64_t step)
{
	if (r->slow_count == SLOW && ns <= r->slow[SLOW - 1].ns)
		return;
	int i = r->slow_count < SLOW ? r->slow_count++ : SLOW - 1;
	for (; i > 0 && r->slow[i - 1].ns < ns; i--)
		r->slow[i] = r->slow[i - 1];
	r->slow[i] = (struct slow){ns, session, step};
}

static int add_derived(struct rollup *r, const double *x, struct ikv_err *err)
{
	double wall = x[r->wall], sim = x[r->attention], dense = x[r->dense], executed = x[r->executed];
	struct metric *m = &r->metrics[r->count - DERIVED];
	if (!(wall > 0))
		return 0;
	if (!isnan(sim) && (keep(&m[0], sim / wall, err) != 0 || keep(&m[2], sim, err) != 0))
		return -1;
	if (!isnan(dense) && keep(&m[1], dense / wall, err) != 0)
		return -1;
	if (!(executed > 0))
		return 0;
	if (keep(&m[3], fabs(executed / wall - 1), err) != 0)
		return -1;
	return isnan(x[r->outside]) ? 0 : keep(&m[4], x[r->outside], err);
}

static int add_step(struct rollup *r, sqlite3_stmt *row, struct ikv_err *err)
{
	int64_t session = sqlite3_column_int64(row, 1), step = sqlite3_column_int64(row, 2);
	double x[METRICS_MAX];
	while (step / r->width >= BUCKETS)
		widen(r);
	struct cell *bucket = &r->series[(size_t)(step / r->width) * (size_t)r->series_count];
	const char *by = (const char *)sqlite3_column_text(row, r->mass_by);
	bool modelled = by && strcmp(by, "model") == 0;
	r->series_steps[step / r->width]++;
	r->session_at = session;
	r->session_steps++;
	for (int i = 0; i < r->count - DERIVED; i++) {
		struct metric *m = &r->metrics[i];
		x[i] = NAN;
		if (sqlite3_column_type(row, m->column) == SQLITE_NULL)
			continue;
		x[i] = sqlite3_column_double(row, m->column);
		if (i == r->mass && modelled) { /* apart from what was measured */
			r->model_mass.sum += x[i];
			r->model_mass.count++;
		} else if (keep(m, x[i], err) != 0) {
			return -1;
		}
		if (m->series >= 0) {
			bucket[m->series].sum += x[i];
			bucket[m->series].count++;
		}
		if (m->session >= 0) {
			r->session[m->session].sum += x[i];
			r->session[m->session].count++;
		}
	}
	if (!isnan(x[r->total]))
		note_slow(r, x[r->total], session, step);
	return add_derived(r, x, err);
}

static int read_steps(struct rollup *r, struct ikv_err *err)
{
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	sqlite3_stmt *row = NULL, *insert = NULL;
	sqlite3_str *sql = sqlite3_str_new(r->db);
	sqlite3_str_appendall(sql, "SELECT ");
	for (int i = 0; i < t->count; i++) { /* files of older versions lack some */
		bool there = sqlite3_table_column_metadata(r->db, "main", "step", t->columns[i].name, NULL, NULL,
							   NULL, NULL, NULL) == SQLITE_OK;
		sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", there ? t->columns[i].name : "NULL");
	}
	sqlite3_str_appendall(sql, " FROM step WHERE run_id = ? ORDER BY session, step");
	char *text = sqlite3_str_finish(sql);
	int rc = text ? prepare(r, text, &row, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_free(text);
	if (rc == 0)
		rc = prepare(r, "INSERT INTO run_session VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", &insert, err);
	if (rc == 0)
		sqlite3_bind_int64(row, 1, r->run);
	while (rc == 0) {
		int step = sqlite3_step(row);
		if (step != SQLITE_ROW) {
			rc = step == SQLITE_DONE ? end_session(r, insert, err)
						 : store_fail(r->db, r->path, "cannot roll a run up", err);
			break;
		}
		if (r->session_steps && sqlite3_column_int64(row, 1) != r->session_at)
			rc = end_session(r, insert, err);
		if (rc == 0)
			rc = add_step(r, row, err);
	}
	sqlite3_finalize(row);
	sqlite3_finalize(insert);
	return rc;
}

static float middle(float a, float b, float c)
{
	return a < b ? (b < c ? b : a < c ? c : a) : a < c ? a : b < c ? c : b;
}

/* The k-th smallest of n values (Hoare's selection, three-way: many values are equal); those after it are none
 * smaller. Those before `low` are none greater than the rest. */
static float select_rank(float *v, size_t n, size_t low, size_t k)
{
	size_t high = n - 1;
	uint64_t at_random = 1; /* steps of sessions one after the other make saws, on which fixed places do badly */
	while (low < high) {
		size_t place[3];
		for (int i = 0; i < 3; i++) {
			at_random = ikv_mix64(at_random);
			place[i] = low + at_random % (high - low + 1);
		}
		float pivot = middle(v[place[0]], v[place[1]], v[place[2]]);
		size_t less = low, at = low, more = high + 1; /* [low, less) <, [less, at) =, [more, high] > */
		while (at < more) {
			float x = v[at];
			if (x < pivot) {
				v[at++] = v[less];
				v[less++] = x;
			} else if (x > pivot) {
				v[at] = v[--more];
				v[more] = x;
			} else {
				at++;
			}
		}
		if (k < less)
			high = less - 1;
		else if (k < more)
			break;
		else
			low = more;
	}
	return v[k];
}

/* Linear between ranks, as the aggregate percentile(x, p) does it. Called with p rising; *from keeps what is sorted
 * out. */
static double percentile(struct metric *m, double p, size_t *from)
{
	double at = p / 100 * (double)(m->count - 1);
	size_t low = (size_t)at;
	double x = select_rank(m->values, m->count, *from, low);
	*from = low;
	if (low + 1 == m->count)
		return x;
	float next = m->values[low + 1];
	for (size_t i = low + 2; i < m->count; i++)
		next = m->values[i] < next ? m->values[i] : next;
	return x + (at - (double)low) * ((double)next - x);
}

static int write_stats(struct rollup *r, struct ikv_err *err)
{
	static const double at[] = {50, 95, 99};
	sqlite3_stmt *stmt;
	struct metric *mass = &r->metrics[r->mass];
	if (mass->count == 0 && r->model_mass.count) { /* only where nothing was measured */
		mass->count = r->model_mass.count;
		mass->total = r->model_mass.sum;
		mass->spread = false;
		mass->min = mass->max = NAN;
	}
	if (prepare(r, "INSERT INTO run_stat VALUES (?,?,?,?,?,?,?,?,?,?)", &stmt, err) != 0)
		return -1;
	int rc = 0;
	for (int i = 0; i < r->count && rc == 0; i++) {
		struct metric *m = &r->metrics[i];
		if (m->count == 0 && i != 0) /* the first stays, so that a run without steps has its roll-up too */
			continue;
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_text(stmt, 2, m->name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, (int64_t)m->count);
		sqlite3_bind_double(stmt, 4, m->total);
		sqlite3_bind_double(stmt, 5, m->count ? m->total / (double)m->count : NAN);
		sqlite3_bind_double(stmt, 6, m->count ? m->min : NAN);
		size_t from = 0;
		for (int p = 0; p < 3; p++)
			sqlite3_bind_double(stmt, 7 + p, m->spread && m->count ? percentile(m, at[p], &from) : NAN);
		sqlite3_bind_double(stmt, 10, m->count ? m->max : NAN);
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

static int write_series(struct rollup *r, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	sqlite3_str *sql = sqlite3_str_new(r->db), *marks = sqlite3_str_new(r->db);
	const char *names[METRICS_MAX];
	for (int i = 0; i < r->count; i++)
		if (r->metrics[i].series >= 0)
			names[r->metrics[i].series] = r->metrics[i].name;
	sqlite3_str_appendall(sql, "INSERT INTO run_series (run_id, step, steps");
	for (int i = 0; i < r->series_count; i++) {
		sqlite3_str_appendf(sql, ", %s", names[i]);
		sqlite3_str_appendall(marks, ",?");
	}
	char *values = sqlite3_str_finish(marks);
	sqlite3_str_appendf(sql, ") VALUES (?,?,?%s)", values ? values : "");
	sqlite3_free(values);
	char *text = sqlite3_str_finish(sql);
	int rc = text ? prepare(r, text, &stmt, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_free(text);
	if (rc != 0)
		return -1;
	for (int64_t b = 0; b < BUCKETS && rc == 0; b++) {
		if (r->series_steps[b] == 0)
			continue;
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_int64(stmt, 2, b * r->width);
		sqlite3_bind_int64(stmt, 3, (int64_t)r->series_steps[b]);
		for (int i = 0; i < r->series_count; i++) {
			const struct cell *c = &r->series[(size_t)b * (size_t)r->series_count + (size_t)i];
			sqlite3_bind_double(stmt, 4 + i, c->count ? c->sum / (double)c->count : NAN);
		}
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

static int write_slow(struct rollup *r, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (prepare(r, "INSERT INTO run_slow VALUES (?,?,?,?)", &stmt, err) != 0)
		return -1;
	int rc = 0;
	for (int i = 0; i < r->slow_count && rc == 0; i++) {
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_int64(stmt, 2, i + 1);
		sqlite3_bind_int64(stmt, 3, r->slow[i].session);
		sqlite3_bind_int64(stmt, 4, r->slow[i].step);
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

int store_rollup(sqlite3 *db, const char *path, int64_t run_id, struct ikv_err *err)
{
	static const char *const clear[] = {"run_stat", "run_series", "run_session", "run_slow",
					    "run_role", "run_layer",  "run_decision"};
	static const char *const grouped[] = {
	    "INSERT INTO run_role SELECT run_id, kind, count(*), sum(tokens), sum(selected_tokens), sum(read_bytes),"
	    " sum(hit_pages), sum(miss_pages), sum(mass), sum(mass_selected) FROM step_role WHERE run_id = ?"
	    " GROUP BY kind",
	    "INSERT INTO run_layer SELECT run_id, layer, count(*), avg(selected_fraction), avg(mass_recall), "
	    "avg(rel_l2),"
	    " max(max_abs), avg(cosine), avg(kl) FROM step_layer WHERE run_id = ? GROUP BY layer",
	    "INSERT INTO run_decision SELECT run_id, kind, policy, decision, format, reason, count(*),"
	    " sum(selected_tokens), avg(score) FROM block_event WHERE run_id = ?"
	    " GROUP BY kind, policy, decision, format, reason",
	};
	char sql[80];
	struct rollup *r = ikv_alloc(1, sizeof *r, err);
	if (!r)
		return -1;
	r->db = db;
	r->path = path;
	r->run = run_id;
	r->width = 1;
	int rc = choose_metrics(r, err);
	for (size_t i = 0; i < sizeof clear / sizeof *clear && rc == 0; i++) {
		sqlite3_snprintf(sizeof sql, sql, "DELETE FROM %s WHERE run_id = ?", clear[i]);
		rc = execute(r, sql, err);
	}
	if (rc == 0)
		rc = read_steps(r, err);
	if (rc == 0 && (write_stats(r, err) != 0 || write_series(r, err) != 0 || write_slow(r, err) != 0))
		rc = -1;
	for (size_t i = 0; i < sizeof grouped / sizeof *grouped && rc == 0; i++)
		rc = execute(r, grouped[i], err);
	for (int i = 0; i < r->count; i++)
		ikv_free(r->metrics[i].values);
	ikv_free(r->series);
	ikv_free(r);
	return rc;
}

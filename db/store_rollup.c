/* Roll-ups of a run: what queries and figures over many steps read instead of them. They are written from sums over
 * the run's steps, which are kept while it is recorded or made in one pass over the table; which metrics the series
 * has is what columns its table has. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "store_internal.h"
#include "store_sums.h"

struct rollup {
	sqlite3 *db;
	const char *path;
	int64_t run;
	struct store_sums *sums;
};

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

/* The run's steps with their numbers, the metrics in order and mass_by. */
static int select_steps(struct rollup *r, sqlite3_stmt **row, struct ikv_err *err)
{
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	sqlite3_str *sql = sqlite3_str_new(r->db);
	sqlite3_str_appendall(sql, "SELECT session, step, mass_by");
	for (int i = 0; i < r->sums->first_derived; i++) { /* files of older versions lack some */
		const char *name = t->columns[r->sums->metrics[i].column].name;
		bool there = sqlite3_table_column_metadata(r->db, "main", "step", name, NULL, NULL, NULL, NULL,
							   NULL) == SQLITE_OK;
		sqlite3_str_appendf(sql, ", %s", there ? name : "NULL");
	}
	sqlite3_str_appendall(sql, " FROM step WHERE run_id = ? ORDER BY session, step");
	char *text = sqlite3_str_finish(sql);
	int rc = text ? prepare(r, text, row, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_free(text);
	return rc;
}

static int read_steps(struct rollup *r, struct ikv_err *err)
{
	sqlite3_stmt *row = NULL;
	double x[SUMS_METRICS];
	int rc = select_steps(r, &row, err), step = SQLITE_ROW;
	if (rc == 0)
		sqlite3_bind_int64(row, 1, r->run);
	while (rc == 0 && (step = sqlite3_step(row)) == SQLITE_ROW) {
		const char *by = (const char *)sqlite3_column_text(row, 2);
		bool modelled = by && strcmp(by, "model") == 0;
		for (int i = 0; i < r->sums->first_derived; i++)
			x[i] = sqlite3_column_type(row, 3 + i) == SQLITE_NULL ? NAN : sqlite3_column_double(row, 3 + i);
		rc = store_sums_add(r->sums, sqlite3_column_int64(row, 0), sqlite3_column_int64(row, 1), x, modelled,
				    err);
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = store_fail(r->db, r->path, "cannot roll a run up", err);
	sqlite3_finalize(row);
	return rc;
}

static int read_roles(struct rollup *r, struct ikv_err *err)
{
	sqlite3_stmt *row = NULL;
	int64_t whole[5];
	double mass[2];
	int rc = prepare(r,
			 "SELECT kind, tokens, selected_tokens, read_bytes, hit_pages, miss_pages, mass, mass_selected"
			 " FROM step_role WHERE run_id = ?",
			 &row, err),
	    step = SQLITE_ROW;
	if (rc == 0)
		sqlite3_bind_int64(row, 1, r->run);
	while (rc == 0 && (step = sqlite3_step(row)) == SQLITE_ROW) {
		for (int i = 0; i < 5; i++)
			whole[i] =
			    sqlite3_column_type(row, 1 + i) == SQLITE_NULL ? -1 : sqlite3_column_int64(row, 1 + i);
		for (int i = 0; i < 2; i++)
			mass[i] = sqlite3_column_type(row, 6 + i) == SQLITE_NULL ? NAN
										 : sqlite3_column_double(row, 6 + i);
		rc = store_sums_add_role(r->sums, (const char *)sqlite3_column_text(row, 0), whole, mass, err);
	}
	if (rc == 0 && step != SQLITE_DONE)
		rc = store_fail(r->db, r->path, "cannot roll a run up", err);
	sqlite3_finalize(row);
	return rc;
}

static float middle(float a, float b, float c)
{
	return a < b ? (b < c ? b : a < c ? c : a) : a < c ? a : b < c ? c : b;
}

/* Bring those of v[low..end) that are less than `pivot` (or equal to it) to the front, without a branch, which would be
 * foreseen half the time; returns how far they go. */
static size_t bring_less(float *v, size_t low, size_t end, float pivot)
{
	for (size_t at = low; at < end; at++) {
		float x = v[at];
		v[at] = v[low];
		v[low] = x;
		low += x < pivot;
	}
	return low;
}

static size_t bring_up_to(float *v, size_t low, size_t end, float pivot)
{
	for (size_t at = low; at < end; at++) {
		float x = v[at];
		v[at] = v[low];
		v[low] = x;
		low += x <= pivot;
	}
	return low;
}

/* The k-th smallest of n values (Hoare's selection; equal values, of which there are many, are taken out together); those
 * after it are none smaller. Those before `low` are none greater than the rest. */
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
		size_t less = bring_less(v, low, high + 1, pivot);
		if (k < less) {
			high = less - 1;
			continue;
		}
		low = bring_up_to(v, less, high + 1, pivot);
		if (k < low)
			break;
	}
	return v[k];
}

/* Linear between ranks, as the aggregate percentile(x, p) does it. Called with p rising; *from keeps what is sorted
 * out. */
static double percentile(struct sum_metric *m, double p, size_t *from)
{
	double at = p / 100 * (double)(m->used - 1);
	size_t low = (size_t)at;
	double x = select_rank(m->values, m->used, *from, low);
	*from = low;
	if (low + 1 == m->used)
		return x;
	float next = m->values[low + 1];
	for (size_t i = low + 2; i < m->used; i++)
		next = m->values[i] < next ? m->values[i] : next;
	return x + (at - (double)low) * ((double)next - x);
}

static int write_stats(struct rollup *r, struct ikv_err *err)
{
	static const double at[] = {50, 95, 99};
	struct store_sums *s = r->sums;
	sqlite3_stmt *stmt;
	if (prepare(r, "INSERT INTO run_stat VALUES (?,?,?,?,?,?,?,?,?,?)", &stmt, err) != 0)
		return -1;
	int rc = 0;
	for (int i = 0; i < s->count && rc == 0; i++) {
		struct sum_metric *m = &s->metrics[i];
		double count = s->all.count[i], total = store_sums_value(s->all.sum[i], s->all.rest[i]);
		bool none = !(count > 0);
		if (none && i == s->mass && s->modelled.count > 0) { /* only where nothing was measured */
			count = s->modelled.count;
			total = store_sums_value(s->modelled.sum, s->modelled.rest);
		}
		if (!(count > 0) && i != 0) /* the first stays, so that a run without steps has its roll-up too */
			continue;
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_text(stmt, 2, m->name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, (int64_t)count);
		sqlite3_bind_double(stmt, 4, total);
		sqlite3_bind_double(stmt, 5, count > 0 ? total / count : NAN);
		sqlite3_bind_double(stmt, 6, none ? NAN : s->min[i]);
		size_t from = 0;
		for (int p = 0; p < 3; p++)
			sqlite3_bind_double(stmt, 7 + p, m->used ? percentile(m, at[p], &from) : NAN);
		sqlite3_bind_double(stmt, 10, none ? NAN : s->max[i]);
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

/* The metrics that the series has, in the order of its columns after run_id, step and steps. */
static int series_columns(struct rollup *r, int metrics[SUMS_METRICS], int *count, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	*count = 0;
	if (prepare(r, "SELECT * FROM run_series LIMIT 0", &stmt, err) != 0)
		return -1;
	for (int i = 3; i < sqlite3_column_count(stmt); i++) {
		int m = store_sums_metric(r->sums, sqlite3_column_name(stmt, i));
		if (m >= 0)
			metrics[(*count)++] = m;
	}
	sqlite3_finalize(stmt);
	return 0;
}

static int write_series(struct rollup *r, struct ikv_err *err)
{
	const struct store_sums *s = r->sums;
	sqlite3_stmt *stmt;
	int metrics[SUMS_METRICS], count;
	if (series_columns(r, metrics, &count, err) != 0)
		return -1;
	sqlite3_str *sql = sqlite3_str_new(r->db);
	sqlite3_str_appendall(sql, "INSERT INTO run_series (run_id, step, steps");
	for (int i = 0; i < count; i++)
		sqlite3_str_appendf(sql, ", %s", s->metrics[metrics[i]].name);
	sqlite3_str_appendall(sql, ") VALUES (?,?,?");
	for (int i = 0; i < count; i++)
		sqlite3_str_appendall(sql, ",?");
	sqlite3_str_appendall(sql, ")");
	char *text = sqlite3_str_finish(sql);
	int rc = text ? prepare(r, text, &stmt, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_free(text);
	if (rc != 0)
		return -1;
	for (int64_t b = 0; b < SUMS_BUCKETS && rc == 0; b++) {
		const struct sum_row *row = &s->buckets[b];
		if (s->bucket_steps[b] == 0)
			continue;
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_int64(stmt, 2, b * s->width);
		sqlite3_bind_int64(stmt, 3, (int64_t)s->bucket_steps[b]);
		for (int i = 0; i < count; i++) {
			int m = metrics[i];
			sqlite3_bind_double(
			    stmt, 4 + i,
			    row->count[m] > 0 ? store_sums_value(row->sum[m], row->rest[m]) / row->count[m] : NAN);
		}
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

static int write_sessions(struct rollup *r, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (prepare(r, "INSERT INTO run_session VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", &stmt, err) != 0)
		return -1;
	int rc = 0;
	for (size_t i = 0; i < r->sums->session_count && rc == 0; i++) {
		const struct sum_session *s = &r->sums->sessions[i];
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_int64(stmt, 2, s->session);
		sqlite3_bind_int64(stmt, 3, s->steps);
		for (int c = 0; c < SUMS_SESSION; c++) {
			double sum = store_sums_value(s->sum[c], s->rest[c]);
			sqlite3_bind_double(stmt, 4 + c,
					    !(s->count[c] > 0)            ? NAN
					    : sum_session_columns[c].mean ? sum / s->count[c]
									  : sum);
		}
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

static int write_roles(struct rollup *r, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (prepare(r, "INSERT INTO run_role VALUES (?,?,?,?,?,?,?,?,?,?)", &stmt, err) != 0)
		return -1;
	int rc = 0;
	for (int i = 0; i < r->sums->role_count && rc == 0; i++) {
		const struct sum_role *role = &r->sums->roles[i];
		sqlite3_clear_bindings(stmt); /* what no step has is NULL */
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_text(stmt, 2, role->kind, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 3, role->steps);
		for (int k = 0; k < 5; k++)
			if (role->whole_count[k])
				sqlite3_bind_int64(stmt, 4 + k, role->whole[k]);
		for (int k = 0; k < 2; k++)
			if (role->mass_count[k])
				sqlite3_bind_double(stmt, 9 + k, store_sums_value(role->mass[k], role->rest[k]));
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
	for (int i = 0; i < r->sums->slow_count && rc == 0; i++) {
		sqlite3_bind_int64(stmt, 1, r->run);
		sqlite3_bind_int64(stmt, 2, i + 1);
		sqlite3_bind_int64(stmt, 3, r->sums->slow[i].session);
		sqlite3_bind_int64(stmt, 4, r->sums->slow[i].step);
		rc = run_once(r, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

int store_rollup_write(sqlite3 *db, const char *path, int64_t run_id, struct store_sums *sums, struct ikv_err *err)
{
	static const char *const clear[] = {"run_stat", "run_series", "run_session", "run_slow",
					    "run_role", "run_layer",  "run_decision"};
	static const char *const grouped[] = {
	    "INSERT INTO run_layer SELECT run_id, layer, count(*), avg(selected_fraction), avg(mass_recall), "
	    "avg(rel_l2),"
	    " max(max_abs), avg(cosine), avg(kl) FROM step_layer WHERE run_id = ? GROUP BY layer",
	    "INSERT INTO run_decision SELECT run_id, kind, policy, decision, format, reason, count(*),"
	    " sum(selected_tokens), avg(score) FROM block_event WHERE run_id = ?"
	    " GROUP BY kind, policy, decision, format, reason",
	};
	struct rollup r = {db, path, run_id, sums};
	char sql[80];
	int rc = 0;
	store_sums_total(sums);
	for (size_t i = 0; i < sizeof clear / sizeof *clear && rc == 0; i++) {
		sqlite3_snprintf(sizeof sql, sql, "DELETE FROM %s WHERE run_id = ?", clear[i]);
		rc = execute(&r, sql, err);
	}
	if (rc == 0 && (write_sessions(&r, err) != 0 || write_stats(&r, err) != 0 || write_series(&r, err) != 0 ||
			write_slow(&r, err) != 0 || write_roles(&r, err) != 0))
		rc = -1;
	for (size_t i = 0; i < sizeof grouped / sizeof *grouped && rc == 0; i++)
		rc = execute(&r, grouped[i], err);
	return rc;
}

int store_rollup(sqlite3 *db, const char *path, int64_t run_id, struct ikv_err *err)
{
	struct rollup r = {.db = db, .path = path, .run = run_id};
	if (store_sums_open(&r.sums, err) != 0)
		return -1;
	int rc = read_steps(&r, err) != 0 || read_roles(&r, err) != 0 ? -1 : 0;
	if (rc == 0)
		rc = store_rollup_write(db, path, run_id, r.sums, err);
	store_sums_free(r.sums);
	return rc;
}

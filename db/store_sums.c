/* Sums over the steps of a run, while they are recorded or as they are read again. Both give the same roll-ups: sums are
 * kept in twice the precision of a number (Knuth's two-sum), percentiles do not depend on an order. */
#include <math.h>
#include <string.h>
#include "store_internal.h"
#include "store_sums.h"

/* Metrics of which percentiles are kept: each costs 4 bytes a step until the run is closed. */
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

const struct sum_session_column sum_session_columns[SUMS_SESSION] = {
    {"context_tokens", false}, {"selected_tokens", false}, {"dense_bytes", false},  {"read_bytes", false},
    {"hit_pages", false},      {"miss_pages", false},      {"sim_total_ns", false}, {"sim_dense_ns", false},
    {"mass_recall", true},     {"rel_l2", true}};

int store_sums_metric(const struct store_sums *r, const char *name)
{
	for (int i = 0; i < r->count; i++)
		if (strcmp(r->metrics[i].name, name) == 0)
			return i;
	return -1;
}

static void add_metric(struct store_sums *r, const char *name, int column)
{
	struct sum_metric *m = &r->metrics[r->count++];
	*m = (struct sum_metric){.name = name, .column = column};
	for (size_t i = 0; i < sizeof spread / sizeof *spread; i++)
		if (strcmp(name, spread[i]) == 0)
			r->spread[r->spread_count++] = r->count - 1;
	for (int i = 0; i < SUMS_SESSION; i++)
		if (strcmp(name, sum_session_columns[i].name) == 0)
			r->of_session[i] = r->count - 1;
}

/* Quantities are the numbers of a step but for its keys. */
static void choose_metrics(struct store_sums *r)
{
	static const char *const keys[] = {"run_id", "session", "step", "batch_step", "turn"};
	const struct store_table *t = &store_tables[STORE_ROW_STEP];
	for (int i = 0; i < t->count && r->count < SUMS_METRICS - SUMS_DERIVED; i++) {
		bool key = false;
		for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
			key |= strcmp(t->columns[i].name, keys[k]) == 0;
		if (!key && (t->columns[i].type == STORE_INT || t->columns[i].type == STORE_REAL))
			add_metric(r, t->columns[i].name, i);
	}
	r->total = store_sums_metric(r, "sim_total_ns");
	r->attention = store_sums_metric(r, "sim_attention_ns");
	r->wall = store_sums_metric(r, "wall_attention_ns");
	r->dense = store_sums_metric(r, "wall_dense_ns");
	r->executed = store_sums_metric(r, "sim_executed_ns");
	r->outside = store_sums_metric(r, "sim_outside");
	r->mass = store_sums_metric(r, "mass_recall");
	r->first_derived = r->count;
	add_metric(r, "sim_per_wall", -1);
	add_metric(r, "wall_speedup", -1);
	add_metric(r, "sim_attention_measured_ns", -1);
	add_metric(r, "prediction_error", -1);
	add_metric(r, "sim_outside_measured", -1);
}

int store_sums_open(struct store_sums **out, struct ikv_err *err)
{
	struct store_sums *r = *out = ikv_alloc(1, sizeof *r, err);
	if (!r)
		return -1;
	r->width = 1;
	for (int i = 0; i < SUMS_METRICS; i++) {
		r->min[i] = INFINITY;
		r->max[i] = -INFINITY;
	}
	choose_metrics(r);
	return 0;
}

void store_sums_free(struct store_sums *r)
{
	if (!r)
		return;
	for (int i = 0; i < r->count; i++)
		ikv_free(r->metrics[i].values);
	ikv_free(r->sessions);
	ikv_free(r);
}

double store_sums_value(double sum, double rest)
{
	return isfinite(sum) ? sum + rest : sum;
}

/* sum + rest += x without an error but that of the small `rest`. */
static inline void add_exactly(double *sum, double *rest, double x)
{
	double t = *sum + x, part = t - *sum;
	*rest += (*sum - (t - part)) + (x - part);
	*sum = t;
}

/* Two metrics at a time, which the least x86-64 has instructions for; GCC takes wider ones apart badly. */
typedef double lanes __attribute__((vector_size(16), aligned(8)));
typedef int64_t lane_bits __attribute__((vector_size(16), aligned(8)));
enum { LANES = 2 };
_Static_assert(SUMS_METRICS % LANES == 0, "no rest");

static void add_row(struct sum_row *to, const double x[SUMS_METRICS])
{
	const lanes one = {1, 1};
	for (int i = 0; i < SUMS_METRICS; i += LANES) {
		lanes v = *(const lanes *)&x[i], sum = *(lanes *)&to->sum[i];
		lane_bits there = v == v; /* false for NaN */
		v = (lanes)((lane_bits)v & there);
		lanes t = sum + v, part = t - sum; /* as add_exactly */
		*(lanes *)&to->rest[i] += (sum - (t - part)) + (v - part);
		*(lanes *)&to->sum[i] = t;
		*(lanes *)&to->count[i] += (lanes)((lane_bits)one & there);
	}
}

static void add_extremes(struct store_sums *r, const double x[SUMS_METRICS])
{
	for (int i = 0; i < SUMS_METRICS; i += LANES) {
		lanes v = *(const lanes *)&x[i], min = *(lanes *)&r->min[i], max = *(lanes *)&r->max[i];
		lane_bits less = v < min, more = v > max; /* false for NaN */
		*(lanes *)&r->min[i] = (lanes)(((lane_bits)v & less) | ((lane_bits)min & ~less));
		*(lanes *)&r->max[i] = (lanes)(((lane_bits)v & more) | ((lane_bits)max & ~more));
	}
}

static void merge(struct sum_row *to, const struct sum_row *from)
{
	for (int i = 0; i < SUMS_METRICS; i++) {
		add_exactly(&to->sum[i], &to->rest[i], from->sum[i]);
		to->rest[i] += from->rest[i];
		to->count[i] += from->count[i];
	}
}

/* Pairs of buckets become one when a step lies beyond the last. */
static void widen(struct store_sums *r)
{
	for (size_t b = 0; b < SUMS_BUCKETS; b++) {
		bool pair = b < SUMS_BUCKETS / 2;
		r->bucket_steps[b] = pair ? r->bucket_steps[2 * b] + r->bucket_steps[2 * b + 1] : 0;
		if (!pair) {
			memset(&r->buckets[b], 0, sizeof r->buckets[b]);
			continue;
		}
		if (b)
			r->buckets[b] = r->buckets[2 * b];
		merge(&r->buckets[b], &r->buckets[2 * b + 1]);
	}
	r->width *= 2;
}

/* Sessions come one after the other or a few in turn. */
static struct sum_session *find_session(struct store_sums *r, int64_t session, struct ikv_err *err)
{
	size_t low = 0, high = r->session_count;
	if (r->session_at < high && r->sessions[r->session_at].session == session)
		return &r->sessions[r->session_at];
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (r->sessions[middle].session < session)
			low = middle + 1;
		else
			high = middle;
	}
	r->session_at = low;
	if (low < r->session_count && r->sessions[low].session == session)
		return &r->sessions[low];
	if (r->session_count == r->session_cap) {
		size_t cap = r->session_cap ? 2 * r->session_cap : 16;
		if (ikv_grow(&r->sessions, r->session_cap, cap, sizeof *r->sessions, err) != 0)
			return NULL;
		r->session_cap = cap;
	}
	memmove(&r->sessions[low + 1], &r->sessions[low], (r->session_count++ - low) * sizeof *r->sessions);
	r->sessions[low] = (struct sum_session){.session = session};
	return &r->sessions[low];
}

static bool longer(const struct sum_slow *a, const struct sum_slow *b)
{
	if (a->ns != b->ns)
		return a->ns > b->ns;
	return a->session != b->session ? a->session < b->session : a->step < b->step;
}

static void note_slow(struct store_sums *r, double ns, int64_t session, int64_t step)
{
	struct sum_slow s = {ns, session, step};
	if (r->slow_count == SUMS_SLOW && !longer(&s, &r->slow[SUMS_SLOW - 1]))
		return;
	int i = r->slow_count < SUMS_SLOW ? r->slow_count++ : SUMS_SLOW - 1;
	for (; i > 0 && longer(&s, &r->slow[i - 1]); i--)
		r->slow[i] = r->slow[i - 1];
	r->slow[i] = s;
}

static void derive(const struct store_sums *r, double x[SUMS_METRICS])
{
	double wall = x[r->wall], executed = x[r->executed], *to = x + r->first_derived;
	for (int i = 0; i < SUMS_DERIVED; i++)
		to[i] = NAN;
	if (!(wall > 0))
		return;
	to[0] = x[r->attention] / wall;
	to[1] = x[r->dense] / wall;
	to[2] = x[r->attention];
	if (!(executed > 0))
		return;
	to[3] = fabs(executed / wall - 1);
	to[4] = x[r->outside];
}

static int keep_values(struct store_sums *r, const double x[SUMS_METRICS], struct ikv_err *err)
{
	for (int k = 0; k < r->spread_count; k++) {
		int i = r->spread[k];
		struct sum_metric *m = &r->metrics[i];
		if (isnan(x[i]))
			continue;
		if (m->used == m->cap) {
			size_t cap = m->cap ? 2 * m->cap : 1024;
			if (ikv_grow(&m->values, m->cap, cap, sizeof *m->values, err) != 0)
				return -1;
			m->cap = cap;
		}
		m->values[m->used++] = (float)x[i];
	}
	return 0;
}

int store_sums_add(struct store_sums *r, int64_t session, int64_t step, double x[SUMS_METRICS], bool modelled,
		   struct ikv_err *err)
{
	struct sum_session *mine = find_session(r, session, err);
	if (!mine)
		return -1;
	while (step / r->width >= SUMS_BUCKETS)
		widen(r);
	derive(r, x);
	for (int i = r->count; i < SUMS_METRICS; i++)
		x[i] = NAN;
	r->steps++;
	r->bucket_steps[step / r->width]++;
	add_row(&r->buckets[step / r->width], x);
	mine->steps++;
	for (int to = 0; to < SUMS_SESSION; to++) {
		double v = x[r->of_session[to]];
		if (isnan(v))
			continue;
		add_exactly(&mine->sum[to], &mine->rest[to], v);
		mine->count[to] += 1;
	}
	if (!isnan(x[r->total]))
		note_slow(r, x[r->total], session, step);
	if (!isnan(x[r->mass])) { /* apart from what was measured */
		struct sum_one *mass = modelled ? &r->modelled : &r->measured;
		add_exactly(&mass->sum, &mass->rest, x[r->mass]);
		mass->count += 1;
		if (modelled)
			x[r->mass] = NAN;
	}
	add_extremes(r, x);
	return keep_values(r, x, err);
}

void store_sums_total(struct store_sums *r)
{
	memset(&r->all, 0, sizeof r->all);
	for (int b = 0; b < SUMS_BUCKETS; b++)
		merge(&r->all, &r->buckets[b]);
	r->all.sum[r->mass] = r->measured.sum;
	r->all.rest[r->mass] = r->measured.rest;
	r->all.count[r->mass] = r->measured.count;
}

int store_sums_add_role(struct store_sums *r, const char *kind, const int64_t whole[5], const double mass[2],
			struct ikv_err *err)
{
	int i = 0;
	while (i < r->role_count && strcmp(r->roles[i].kind, kind) != 0)
		i++;
	struct sum_role *role = &r->roles[i];
	if (i == SUMS_ROLES || strlen(kind) >= sizeof role->kind)
		return ikv_err_set(err, IKV_BAD_INPUT, "step_role has more than %d roles, or one with a long name",
				   SUMS_ROLES);
	if (i == r->role_count) {
		memcpy(role->kind, kind, strlen(kind) + 1);
		r->role_count++;
	}
	role->steps++;
	for (int k = 0; k < 5; k++) {
		role->whole[k] += whole[k] == -1 ? 0 : whole[k];
		role->whole_count[k] += whole[k] != -1;
	}
	for (int k = 0; k < 2; k++) {
		if (isnan(mass[k]))
			continue;
		add_exactly(&role->mass[k], &role->rest[k], mass[k]);
		role->mass_count[k]++;
	}
	return 0;
}

int store_sums_add_row(struct store_sums *r, const struct store_step *row, struct ikv_err *err)
{
	const struct store_column *columns = store_tables[STORE_ROW_STEP].columns;
	double x[SUMS_METRICS];
	for (int i = 0; i < r->first_derived; i++) {
		const struct store_column *c = &columns[r->metrics[i].column];
		const char *field = (const char *)row + c->offset;
		int64_t whole;
		if (c->type == STORE_REAL) {
			memcpy(&x[i], field, sizeof x[i]);
			continue;
		}
		memcpy(&whole, field, sizeof whole);
		x[i] = whole == -1 ? NAN : (double)whole;
	}
	bool modelled = row->mass_by && strcmp(row->mass_by, "model") == 0;
	return store_sums_add(r, row->session, row->step, x, modelled, err);
}

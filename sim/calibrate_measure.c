/* Timing a backend's decode as runs call it: random pages, cold caches, page mass asked for. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "sim/bench_attention.h"
#include "sim/calibrate.h"

#define POOL  (1u << 20)
#define RUNS  200
/* A machine that others share is slower for seconds or minutes at a time: everything is measured so often, and a cell's
 * time is the median. */
#define ROUNDS 3
#define MIXED IKV_FMT_COUNT /* in place of a format: each page one of four */

/* What is read of a context: all, or a share of its pages, at random or the newest; by all KV heads or by each its
 * own. An odd number, so that every second cell is another one in each context. */
static const struct pattern {
	const char *name;
	double share;
	bool newest, per_head;
} patterns[] = {{"dense", 1, false, false},
		{"dense/head", 1, false, true},
		{"0.25", 0.25, false, false},
		{"0.25/head", 0.25, false, true},
		{"newest 0.25/head", 0.25, true, true},
		{"0.0625", 0.0625, false, false},
		{"0.0625/head", 0.0625, false, true},
		{"newest 0.0625", 0.0625, true, false},
		{"newest 0.0625/head", 0.0625, true, true}};
enum { PATTERNS = sizeof patterns / sizeof *patterns, PLANS_MAX = 256 };

struct scene { /* one shape and format */
	const struct calibrate_setup *setup;
	struct calibrate_set *set;
	struct ikv_machine *machine;
	struct ikv_geometry g;
	int format;
	bool held;                             /* the whole shape is */
	enum ikv_format stored[IKV_FMT_COUNT]; /* what the backend can store */
	uint32_t stored_count;
	struct ikv_backend *b;
	uint16_t *pool;
	float *q, *out, *mass;
	struct ikv_plan plans[PLANS_MAX];
	struct ikv_attn_unit units[PLANS_MAX];
	uint32_t plan_count;
	struct ikv_rng rng;
	struct bench_reader *cool;
	double recode_s, recode_bytes;
	uint32_t round, cell; /* cell: of the round, counted */
	double (*times)[ROUNDS]; /* of each cell */
	uint32_t times_cap;
};

static enum ikv_format page_format(struct scene *s)
{
	static const enum ikv_format four[] = {IKV_FMT_FP16, IKV_FMT_FP8, IKV_FMT_INT8, IKV_FMT_INT4};
	return s->format == MIXED ? four[ikv_rng_below(&s->rng, 4)] : (enum ikv_format)s->format;
}

static uint64_t page_bytes(const struct scene *s, enum ikv_format f)
{
	return ikv_format_bytes(f, IKV_SIDE_K, s->g.page_tokens, s->g.d_qk) +
	       ikv_format_bytes(f, IKV_SIDE_V, s->g.page_tokens, s->g.d_v);
}

/* Pages of random rows, each re-encoded as soon as it is whole. */
static int fill(struct scene *s, struct ikv_err *err)
{
	const struct ikv_backend_ops *ops = s->b->ops;
	const size_t row = (size_t)s->g.kv_heads * s->g.d_qk, page = row * s->g.page_tokens;
	for (uint32_t p = 0; p < s->setup->tokens / s->g.page_tokens; p++) {
		const uint16_t *k = s->pool + ikv_rng_below(&s->rng, POOL - page);
		const uint16_t *v = s->pool + ikv_rng_below(&s->rng, POOL - page);
		enum ikv_format f = page_format(s);
		if (ops->append(s->b, 0, 0, s->g.page_tokens, k, v, err))
			return -1;
		double t = bench_now();
		if (f != IKV_FMT_FP16 && ops->recode(s->b, 0, 0, 0, s->g.kv_heads, p, f, err))
			return -1;
		if (f != IKV_FMT_FP16 && s->format != MIXED) { /* a demotion's bytes are those written */
			s->recode_s += bench_now() - t;
			s->recode_bytes += (double)(s->g.kv_heads * page_bytes(s, f));
		}
	}
	return 0;
}

/* `want` of the pages [first, pages), each as likely as any other, in ascending order (Knuth's algorithm S). */
static void pick(struct scene *s, struct ikv_plan *plan, uint32_t first, uint32_t pages, uint32_t want)
{
	const uint32_t n = s->g.page_tokens;
	ikv_plan_reset(plan, s->setup->tokens);
	for (uint32_t p = first; p < pages && want; p++)
		if (ikv_rng_below(&s->rng, pages - p) < want) {
			ikv_plan_add(plan, p * n, (p + 1) * n, IKV_FMT_FP16, 0);
			plan->pages[plan->count - 1].stored = (uint8_t)s->b->ops->format(s->b, 0, 0, 0, p);
			want--;
		}
}

/* What the cost model counts for the units at hand. */
static void count_work(const struct scene *s, struct ikv_cost_work *w)
{
	const struct ikv_geometry *g = &s->g;
	w->layers = w->sequences = 1;
	for (uint32_t i = 0; i < s->plan_count; i++) {
		const struct ikv_attn_unit *u = &s->units[i];
		uint32_t group = g->q_heads / g->kv_heads, heads = u->q_count / group, first = u->q_first / group;
		for (uint32_t p = 0; p < u->plan->count; p++) {
			enum ikv_format f = s->b->ops->format(s->b, 0, 0, first, u->plan->pages[p].page);
			uint64_t bytes = heads * page_bytes(s, f);
			double flops = 2.0 * u->q_count * g->page_tokens * (g->d_qk + g->d_v);
			w->kv_bytes += bytes;
			w->format_bytes[f] += bytes;
			w->flops += flops;
			w->format_flops[f] += flops;
			w->pages += heads;
		}
		w->jumps += ikv_plan_runs(u->plan);
		w->lone_pages += s->plan_count == 1 ? 0 : u->plan->count;
	}
}

static int time_units(struct scene *s, double *median_ns, struct ikv_err *err)
{
	double ns[RUNS];
	uint32_t n = 0;
	for (double end = bench_now() + s->setup->seconds / ROUNDS; n < RUNS && (n < 3 || bench_now() < end); n++) {
		bench_reader_all(s->cool);
		double t = bench_now();
		if (s->b->ops->decode(s->b, s->units, s->plan_count, err))
			return -1;
		ns[n] = (bench_now() - t) * 1e9;
	}
	*median_ns = bench_median(ns, n);
	return 0;
}

/* The same cells come in every round, in the same order. */
static struct calibrate_cell *next_cell(struct scene *s, uint32_t tokens, const char *pattern, struct ikv_err *err)
{
	uint32_t at = s->cell++;
	if (s->round)
		return &s->set->cells[at];
	if (at == s->times_cap) {
		if (ikv_grow(&s->times, at, 2 * at + 64, sizeof *s->times, err))
			return NULL;
		s->times_cap = 2 * at + 64;
	}
	struct calibrate_cell *c = calibrate_add(s->set, err);
	if (!c)
		return NULL;
	snprintf(c->shape, sizeof c->shape, "%u/%u/%u", s->g.q_heads, s->g.kv_heads, s->g.d_qk);
	snprintf(c->format, sizeof c->format, "%s",
		 s->format == MIXED ? "mixed" : ikv_format_info((enum ikv_format)s->format)->name);
	snprintf(c->selected, sizeof c->selected, "%s", pattern);
	c->tokens = tokens;
	c->held = s->held || s->format == MIXED || s->set->count % 2 == 0;
	count_work(s, &c->work);
	return c;
}

static int add_time(struct scene *s, uint32_t tokens, const char *pattern, struct ikv_err *err)
{
	struct calibrate_cell *c = next_cell(s, tokens, pattern, err);
	if (!c)
		return -1;
	double *times = s->times[s->cell - 1], sorted[ROUNDS];
	if (time_units(s, &times[s->round], err))
		return -1;
	memcpy(sorted, times, sizeof sorted);
	c->measured_ns = bench_median(sorted, s->round + 1);
	return 0;
}

static int measure_cell(struct scene *s, uint32_t tokens, const struct pattern *x, struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->g;
	uint32_t pages = tokens / g->page_tokens, want = (uint32_t)(x->share * pages + 0.5);
	want = want ? want : 1;
	s->plan_count = x->per_head ? g->kv_heads : 1;
	float *mass = s->mass;
	for (uint32_t i = 0; i < s->plan_count; i++) {
		uint32_t heads = g->q_heads / s->plan_count;
		pick(s, &s->plans[i], x->newest ? pages - want : 0, pages, want);
		s->units[i] = (struct ikv_attn_unit){.q_first = i * heads,
						     .q_count = heads,
						     .plan = &s->plans[i],
						     .q = s->q + (size_t)i * heads * g->d_qk,
						     .out = s->out + (size_t)i * heads * g->d_v,
						     .mass = mass};
		mass += (size_t)heads * s->plans[i].count;
	}
	return add_time(s, tokens, x->name, err);
}

/* Contexts of a sixteenth, a quarter and all of the tokens. */
static int measure_cells(struct scene *s, struct ikv_err *err)
{
	for (uint32_t tokens = s->setup->tokens / 16; tokens <= s->setup->tokens; tokens *= 4)
		for (uint32_t i = 0; i < PATTERNS; i++)
			if ((s->g.kv_heads > 1 || !patterns[i].per_head) &&
			    measure_cell(s, tokens, &patterns[i], err))
				return -1;
	return 0;
}

static int open_scene(struct scene *s, struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->g;
	struct ikv_backend_config config = {.threads = s->setup->threads, .isa = s->setup->isa, .sequences = 1};
	uint32_t pages = s->setup->tokens / g->page_tokens, plans = g->kv_heads;
	s->q = ikv_alloc((size_t)g->q_heads * g->d_qk, sizeof *s->q, err);
	s->out = ikv_alloc((size_t)g->q_heads * g->d_v, sizeof *s->out, err);
	s->mass = ikv_alloc((size_t)g->q_heads * pages, sizeof *s->mass, err);
	if (!s->q || !s->out || !s->mass || s->setup->backend->open(&s->b, g, &config, err))
		return -1;
	for (size_t i = 0; i < (size_t)g->q_heads * g->d_qk; i++)
		s->q[i] = (float)ikv_rng_normal(&s->rng);
	for (uint32_t i = 0; i < plans; i++)
		if (ikv_plan_init(&s->plans[i], g->page_tokens, pages, err))
			return -1;
	return 0;
}

static void close_scene(struct scene *s)
{
	if (s->b)
		s->b->ops->close(s->b);
	for (uint32_t i = 0; i < PLANS_MAX; i++)
		ikv_plan_free(&s->plans[i]);
	memset(s->plans, 0, sizeof s->plans);
	ikv_free(s->q);
	ikv_free(s->out);
	ikv_free(s->mass);
	s->b = NULL;
	s->q = s->out = s->mass = NULL;
}

/* One page tells which formats the backend stores. */
static int find_stored(struct scene *s, struct ikv_err *err)
{
	struct ikv_err refused;
	int rc = open_scene(s, err);
	for (int f = IKV_FMT_SKIP + 1; f < IKV_FMT_COUNT && !rc; f++) {
		rc = s->b->ops->append(s->b, 0, 0, s->g.page_tokens, s->pool, s->pool, err);
		if (!rc && (f == IKV_FMT_FP16 ||
			    !s->b->ops->recode(s->b, 0, 0, 0, s->g.kv_heads, 0, (enum ikv_format)f, &refused)))
			s->stored[s->stored_count++] = (enum ikv_format)f;
		s->b->ops->release(s->b, 0);
	}
	close_scene(s);
	return rc;
}

static int measure_format(struct scene *s, int format, struct ikv_err *err)
{
	s->format = format;
	int rc = open_scene(s, err);
	if (!rc)
		rc = fill(s, err);
	if (!rc)
		rc = measure_cells(s, err);
	close_scene(s);
	return rc;
}

static int measure_shape(struct scene *s, uint32_t *done, uint32_t of, struct ikv_err *err)
{
	for (uint32_t i = 0; i <= s->stored_count; i++) {
		if (measure_format(s, i < s->stored_count ? (int)s->stored[i] : MIXED, err))
			return -1;
		if (s->setup->progress)
			s->setup->progress(++*done, of);
	}
	return 0;
}

/* Plain reads and arithmetic of the host, for the terms that attention does not show. */
static int measure_host(struct scene *s, struct ikv_err *err)
{
	struct bench_rates rates = {.threads = s->setup->threads};
	if (bench_machine(&rates, 1, err))
		return -1;
	s->machine->read_bytes_per_s = rates.read_gbps[s->setup->threads > 1] * 1e9;
	s->machine->weight_bytes_per_s = s->machine->read_bytes_per_s;
	s->machine->prefill_flops_per_s = rates.fma_gflops * 1e9 * s->setup->threads;
	return 0;
}

static int measure_round(struct scene *s, uint32_t *done, struct ikv_err *err)
{
	const struct calibrate_setup *setup = s->setup;
	/* A group of 1 beside the model's own tells arithmetic from bytes; a larger one and another width are held
	 * out. */
	const struct {
		uint32_t q_heads, head_dim;
		bool held;
	} shapes[] = {{setup->q_heads, setup->head_dim, false},
		      {setup->kv_heads, setup->head_dim, false},
		      {setup->kv_heads * 8, setup->head_dim, true},
		      {setup->q_heads, setup->head_dim == 64 ? 128 : 64, true}};
	enum { SHAPES = sizeof shapes / sizeof *shapes };
	s->cell = 0;
	ikv_rng_stream(&s->rng, 1, IKV_STREAM_TEST, 1, 0); /* the same contexts and pages */
	for (uint32_t i = 0; i < SHAPES; i++) {
		if (i && shapes[i].q_heads == setup->q_heads && shapes[i].head_dim == setup->head_dim)
			continue;
		s->held = shapes[i].held;
		s->g = (struct ikv_geometry){1,
					     shapes[i].q_heads,
					     setup->kv_heads,
					     shapes[i].head_dim,
					     shapes[i].head_dim,
					     false,
					     setup->page_tokens,
					     1 / sqrtf((float)shapes[i].head_dim)};
		if (!s->stored_count && find_stored(s, err))
			return -1;
		if (measure_shape(s, done, ROUNDS * SHAPES * (s->stored_count + 1), err))
			return -1;
	}
	return 0;
}

int calibrate_measure(const struct calibrate_setup *setup, struct calibrate_set *set, struct ikv_machine *m,
		      struct ikv_err *err)
{
	struct scene s = {.setup = setup, .set = set, .machine = m};
	uint32_t done = 0;
	int rc = bench_reader_create(&s.cool, (size_t)setup->cool_bytes, 1, err);
	s.pool = rc ? NULL : ikv_alloc(POOL, sizeof *s.pool, err);
	ikv_rng_stream(&s.rng, 1, IKV_STREAM_TEST, 0, 0);
	for (size_t i = 0; s.pool && i < POOL; i++)
		s.pool[i] = ikv_fp16_from_float((float)ikv_rng_normal(&s.rng));
	rc = s.pool ? measure_host(&s, err) : -1;
	for (; s.round < ROUNDS && !rc; s.round++)
		rc = measure_round(&s, &done, err);
	m->recode_bytes_per_s = s.recode_s > 0 ? s.recode_bytes / s.recode_s : 0;
	bench_reader_destroy(s.cool);
	ikv_free(s.pool);
	ikv_free(s.times);
	return rc;
}

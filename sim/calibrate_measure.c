/* Timing a backend's decode as runs call it: random pages, cold caches, tokens that stand out, page mass asked for. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "sim/bench_attention.h"
#include "sim/calibrate.h"

#define POOL  (1u << 20)
#define RUNS  200
/* A machine that others share is slower for seconds or minutes at a time: the model's own shape is measured so often, and
 * a cell's time is the median. */
#define ROUNDS 3
#define RUN    8
#define BATCH  4 /* sequences of a sixteenth of the tokens that are read in one call */
/* Standard deviation of the scores. Sessions have tokens that stand out, which kernels that round spend more on:
 * docs/cost-model.md counts how many. */
#define PEAKED 3.0

/* In place of a format: runs of pages each of one of these, RUN on average. */
static const struct mixture {
	const char *name;
	uint32_t count;
	enum ikv_format formats[4];
} mixtures[] = {{"mixed", 4, {IKV_FMT_FP16, IKV_FMT_FP8, IKV_FMT_INT8, IKV_FMT_INT4}},
		{"FP16+INT8", 2, {IKV_FMT_FP16, IKV_FMT_INT8}}}; /* what pressure leaves */
enum { MIXTURES = sizeof mixtures / sizeof *mixtures };

/* What is read of a context: all, or a share of its pages, at random or the newest; by all KV heads or by each its
 * own. Shares of it end within a block of tiles, as most plans do. */
static const struct pattern {
	const char *name;
	double share;
	bool newest, per_head, batch; /* batch: by several sequences in one call, too */
} patterns[] = {{"dense", 1, false, false, true},
		{"0.23", 0.23, false, false, true},
		{"0.07", 0.07, false, false, false},
		{"newest 0.07", 0.07, true, false, false},
		{"dense/head", 1, false, true, true},
		{"0.23/head", 0.23, false, true, true},
		{"newest 0.23/head", 0.23, true, true, false},
		{"0.07/head", 0.07, false, true, true},
		{"newest 0.07/head", 0.07, true, true, false}};
/* Contexts of all tokens, a quarter and a sixteenth of them; the last ones together. */
static const struct context {
	uint32_t first, count; /* sequences */
	uint32_t part;         /* of the tokens, 1 in so many */
} contexts[] = {{0, 1, 1}, {1, 1, 4}, {2, 1, 16}, {2, BATCH, 16}};
enum {
	PATTERNS = sizeof patterns / sizeof *patterns,
	CONTEXTS = sizeof contexts / sizeof *contexts,
	SEQUENCES = 2 + BATCH,
	CALLS_MAX = PATTERNS * CONTEXTS
};

struct call { /* one kind, ready to be made again and again */
	uint32_t cell, units;
	struct ikv_plan *plans; /* [units] */
	struct ikv_attn_unit *unit;
	double ns[RUNS];
};

struct timed { /* a cell in each round */
	double ns[ROUNDS];
	uint32_t rounds;
};

struct scene { /* one shape and format */
	const struct calibrate_setup *setup;
	struct calibrate_set *set;
	struct ikv_machine *machine;
	struct ikv_geometry g;
	int format; /* IKV_FMT_COUNT + a mixture */
	bool held;                             /* the whole shape is */
	enum ikv_format stored[IKV_FMT_COUNT]; /* what the backend can store */
	uint32_t stored_count;
	struct ikv_backend *b;
	uint16_t *pool;
	float *q, *out, *mass;
	struct call calls[CALLS_MAX];
	uint32_t call_count;
	struct ikv_rng rng;
	struct bench_reader *cool;
	double recode_s, recode_bytes;
	uint32_t round, cell; /* cell: of the round, counted */
	struct timed *times;  /* of each cell */
	uint32_t times_cap;
};

static uint64_t page_bytes(const struct scene *s, enum ikv_format f)
{
	return ikv_format_bytes(f, IKV_SIDE_K, s->g.page_tokens, s->g.d_qk) +
	       ikv_format_bytes(f, IKV_SIDE_V, s->g.page_tokens, s->g.d_v);
}

static const struct mixture *mixture_of(const struct scene *s)
{
	return s->format < IKV_FMT_COUNT ? NULL : &mixtures[s->format - IKV_FMT_COUNT];
}

/* What is stored of a sequence: its pages' formats, as they are picked. */
struct filling {
	enum ikv_format *formats[SEQUENCES];
	uint32_t first[SEQUENCES + 1]; /* of its pages, counted over all sequences */
};

/* Re-encode the pages of all sequences, or those heads of them that `order` names, one after another. */
static int recode_pages(struct scene *s, const struct filling *x, const uint32_t *order, uint32_t count, uint32_t step,
			struct ikv_err *err)
{
	const uint32_t parts = s->g.kv_heads / step;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t p = order[i] / parts, h = order[i] % parts * step, seq = 0;
		while (p >= x->first[seq + 1])
			seq++;
		p -= x->first[seq];
		const enum ikv_format f = x->formats[seq][p];
		double t = bench_now();
		if (f == IKV_FMT_FP16)
			continue;
		if (s->b->ops->recode(s->b, seq, 0, h, step, p, f, err))
			return -1;
		if (!mixture_of(s)) { /* a demotion's bytes are those written */
			s->recode_s += bench_now() - t;
			s->recode_bytes += (double)(step * page_bytes(s, f));
		}
	}
	return 0;
}

/* A sequence's pages of random rows, all FP16 yet. */
static int append_sequence(struct scene *s, uint32_t seq, uint32_t pages, enum ikv_format *formats, struct ikv_err *err)
{
	const struct mixture *mix = mixture_of(s);
	const size_t rows = (size_t)s->g.kv_heads * s->g.d_qk * s->g.page_tokens;
	enum ikv_format f = mix ? mix->formats[ikv_rng_below(&s->rng, mix->count)] : (enum ikv_format)s->format;
	for (uint32_t p = 0; p < pages; p++) {
		if (mix && ikv_rng_below(&s->rng, RUN) == 0)
			f = mix->formats[ikv_rng_below(&s->rng, mix->count)];
		formats[p] = f;
		if (s->b->ops->append(s->b, seq, 0, s->g.page_tokens, s->pool + ikv_rng_below(&s->rng, POOL - rows),
				      s->pool + ikv_rng_below(&s->rng, POOL - rows), err))
			return -1;
	}
	return 0;
}

/* All sequences. Their pages are re-encoded in any order among each other: all KV heads of a page together, or each by
 * itself, as where each has its own selection; so those of a short one lie all over the memory, too, as pages do that
 * several sessions demote one by one. */
static int fill(struct scene *s, bool per_head, struct ikv_err *err)
{
	const uint32_t step = per_head ? 1 : s->g.kv_heads, parts = s->g.kv_heads / step;
	struct filling x = {.first = {0}};
	for (uint32_t i = 0; i < CONTEXTS; i++)
		for (uint32_t seq = contexts[i].first; seq < contexts[i].first + contexts[i].count; seq++)
			x.first[seq + 1] = s->setup->tokens / contexts[i].part / s->g.page_tokens;
	for (uint32_t seq = 0; seq < SEQUENCES; seq++)
		x.first[seq + 1] += x.first[seq];
	const uint32_t pages = x.first[SEQUENCES], count = pages * parts;
	uint32_t *order = ikv_alloc(count, sizeof *order, err);
	enum ikv_format *formats = ikv_alloc(pages, sizeof *formats, err);
	int rc = order && formats ? 0 : -1;
	for (uint32_t seq = 0; seq < SEQUENCES && !rc; seq++) {
		s->b->ops->release(s->b, seq);
		x.formats[seq] = formats + x.first[seq];
		rc = append_sequence(s, seq, x.first[seq + 1] - x.first[seq], x.formats[seq], err);
	}
	for (uint32_t i = 0; i < count && !rc; i++) { /* shuffled as it grows */
		uint32_t k = (uint32_t)ikv_rng_below(&s->rng, i + 1);
		order[i] = order[k];
		order[k] = i;
	}
	if (!rc)
		rc = recode_pages(s, &x, order, count, step, err);
	ikv_free(order);
	ikv_free(formats);
	return rc;
}

/* `want` of the pages [first, pages), each as likely as any other, in ascending order (Knuth's algorithm S). */
static void pick(struct scene *s, struct ikv_plan *plan, uint32_t seq, uint32_t kv, uint32_t first, uint32_t pages,
		 uint32_t want)
{
	const uint32_t n = s->g.page_tokens;
	ikv_plan_reset(plan, pages * n);
	for (uint32_t p = first; p < pages && want; p++)
		if (ikv_rng_below(&s->rng, pages - p) < want) {
			ikv_plan_add(plan, p * n, (p + 1) * n, IKV_FMT_FP16, 0);
			plan->pages[plan->count - 1].stored = (uint8_t)s->b->ops->format(s->b, seq, 0, kv, p);
			want--;
		}
}

/* What the cost model counts for a call. */
static void count_work(const struct scene *s, const struct call *c, uint32_t sequences, struct ikv_cost_work *w)
{
	const struct ikv_geometry *g = &s->g;
	w->layers = 1;
	w->sequences = sequences;
	w->plans = c->units;
	w->group = g->q_heads / g->kv_heads;
	w->kv_heads = g->kv_heads;
	w->page_tokens = g->page_tokens;
	for (uint32_t i = 0; i < c->units; i++) {
		const struct ikv_attn_unit *u = &c->unit[i];
		uint32_t heads = u->q_count / w->group;
		bool whole = heads == g->kv_heads;
		struct ikv_plan_shape shape;
		ikv_plan_shape(u->plan, &shape);
		for (int f = 0; f < IKV_FMT_COUNT; f++) {
			uint64_t bytes = shape.pages[f] ? shape.pages[f] * heads * page_bytes(s, (enum ikv_format)f) : 0;
			double tokens = (double)shape.pages[f] * g->page_tokens;
			w->kv_bytes += bytes;
			*(f == IKV_FMT_FP16 ? &w->lone_fp16_bytes : &w->lone_bytes) += whole ? 0 : bytes;
			w->format_bytes[f] += bytes;
			w->flops += 2 * u->q_count * tokens * (g->d_qk + g->d_v);
			w->format_flops[f] += 2 * u->q_count * tokens * (g->d_qk + g->d_v);
			w->format_fine[f] += shape.fine * tokens * heads;
			w->jumps += whole || f == IKV_FMT_FP16 ? shape.runs[f] : 0;
		}
		w->pages += heads * u->plan->count;
		w->changes += heads * shape.mixes;
		w->lone_pages += whole ? 0 : heads * (u->plan->count - shape.pages[IKV_FMT_FP16]);
	}
}

/* The same cells come in every round, in the same order. */
static struct calibrate_cell *next_cell(struct scene *s, struct ikv_err *err)
{
	if (s->cell == s->times_cap) {
		if (ikv_grow(&s->times, s->cell, 2 * s->cell + 64, sizeof *s->times, err))
			return NULL;
		s->times_cap = 2 * s->cell + 64;
	}
	return s->cell++ < s->set->count ? &s->set->cells[s->cell - 1] : calibrate_add(s->set, err);
}

/* Every second cell is held out: of each format and context other patterns. */
static int name_cell(struct scene *s, struct call *call, uint32_t context, uint32_t pattern, struct ikv_err *err)
{
	const struct context *x = &contexts[context];
	struct calibrate_cell *c = next_cell(s, err);
	if (!c)
		return -1;
	memset(c, 0, sizeof *c);
	call->cell = s->cell - 1;
	snprintf(c->shape, sizeof c->shape, "%u/%u/%u", s->g.q_heads, s->g.kv_heads, s->g.d_qk);
	snprintf(c->format, sizeof c->format, "%s",
		 mixture_of(s) ? mixture_of(s)->name : ikv_format_info((enum ikv_format)s->format)->name);
	snprintf(c->selected, sizeof c->selected, x->count > 1 ? "%s of %u" : "%s", patterns[pattern].name, x->count);
	c->tokens = s->setup->tokens / x->part;
	c->held = s->held || (context + pattern + (uint32_t)s->format) % 2;
	count_work(s, call, x->count, &c->work);
	return 0;
}

static int add_call(struct scene *s, uint32_t context, uint32_t pattern, struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->g;
	const struct pattern *x = &patterns[pattern];
	const struct context *of = &contexts[context];
	uint32_t pages = s->setup->tokens / of->part / g->page_tokens, want = (uint32_t)(x->share * pages + 0.5);
	uint32_t plans = x->per_head ? g->kv_heads : 1, heads = g->q_heads / plans;
	struct call *c = &s->calls[s->call_count++];
	float *mass = s->mass;
	want = want ? want : 1;
	c->units = plans * of->count;
	c->plans = ikv_alloc(c->units, sizeof *c->plans, err);
	c->unit = ikv_alloc(c->units, sizeof *c->unit, err);
	if (!c->plans || !c->unit)
		return -1;
	for (uint32_t i = 0; i < c->units; i++) {
		uint32_t seq = of->first + i / plans, first = i % plans * heads;
		size_t row = (size_t)(i / plans) * g->q_heads + first;
		if (ikv_plan_init(&c->plans[i], g->page_tokens, pages, err))
			return -1;
		pick(s, &c->plans[i], seq, i % plans * (g->kv_heads / plans), x->newest ? pages - want : 0, pages, want);
		c->unit[i] = (struct ikv_attn_unit){.seq = seq,
						    .q_first = first,
						    .q_count = heads,
						    .plan = &c->plans[i],
						    .q = s->q + row * g->d_qk,
						    .out = s->out + row * g->d_v,
						    .mass = mass};
		mass += (size_t)heads * want;
	}
	return name_cell(s, c, context, pattern, err);
}

static void free_calls(struct scene *s)
{
	for (; s->call_count; s->call_count--) {
		struct call *c = &s->calls[s->call_count - 1];
		for (uint32_t i = 0; c->plans && i < c->units; i++)
			ikv_plan_free(&c->plans[i]);
		ikv_free(c->plans);
		ikv_free(c->unit);
		memset(c, 0, sizeof *c);
	}
}

/* A cold call as a run times it. */
static int time_call(struct scene *s, const struct call *c, double *ns, struct ikv_err *err)
{
	*ns = INFINITY;
	for (uint32_t k = 0; k < BENCH_COLD_CALLS; k++) {
		bench_reader_cool(s->cool);
		double t = bench_now();
		if (s->b->ops->decode(s->b, c->unit, c->units, err))
			return -1;
		*ns = fmin(*ns, (bench_now() - t) * 1e9);
	}
	return 0;
}

/* All calls in turn, again and again: as in a run, none finds the processor trained by calls long before. */
static int time_calls(struct scene *s, struct ikv_err *err)
{
	double end = bench_now() + s->call_count * s->setup->seconds / ROUNDS;
	uint32_t n = 0;
	for (; n < RUNS && (n < 1 || bench_now() < end); n++)
		for (uint32_t i = 0; i < s->call_count; i++)
			if (time_call(s, &s->calls[i], &s->calls[i].ns[n], err))
				return -1;
	for (uint32_t i = 0; i < s->call_count; i++) {
		struct timed *t = &s->times[s->calls[i].cell];
		t->ns[t->rounds++] = bench_median(s->calls[i].ns, n);
	}
	return 0;
}

/* The calls in which all KV heads read the same pages, or those in which each has its own. */
static int measure_calls(struct scene *s, bool per_head, struct ikv_err *err)
{
	if (per_head && s->g.kv_heads == 1)
		return 0;
	int rc = fill(s, per_head, err);
	for (uint32_t i = 0; i < CONTEXTS; i++)
		for (uint32_t k = 0; k < PATTERNS && !rc; k++)
			if (patterns[k].per_head == per_head && (contexts[i].count == 1 || patterns[k].batch))
				rc = add_call(s, i, k, err);
	if (!rc)
		rc = time_calls(s, err);
	free_calls(s);
	return rc;
}

static int open_scene(struct scene *s, struct ikv_err *err)
{
	const struct ikv_geometry *g = &s->g;
	struct ikv_backend_config config = {
	    .threads = s->setup->threads, .isa = s->setup->isa, .sequences = SEQUENCES};
	s->q = ikv_alloc((size_t)BATCH * g->q_heads * g->d_qk, sizeof *s->q, err);
	s->out = ikv_alloc((size_t)BATCH * g->q_heads * g->d_v, sizeof *s->out, err);
	s->mass = ikv_alloc((size_t)g->q_heads * (s->setup->tokens / g->page_tokens), sizeof *s->mass, err);
	if (!s->q || !s->out || !s->mass || s->setup->backend->open(&s->b, g, &config, err))
		return -1;
	for (size_t i = 0; i < (size_t)BATCH * g->q_heads * g->d_qk; i++)
		s->q[i] = (float)(PEAKED * ikv_rng_normal(&s->rng));
	return 0;
}

static void close_scene(struct scene *s)
{
	if (s->b)
		s->b->ops->close(s->b);
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
	for (int per_head = 0; per_head < 2 && !rc; per_head++)
		rc = measure_calls(s, per_head, err);
	close_scene(s);
	return rc;
}

static int measure_shape(struct scene *s, uint32_t *done, uint32_t of, struct ikv_err *err)
{
	for (uint32_t i = 0; i < s->stored_count + MIXTURES; i++) {
		uint32_t mixture = i - s->stored_count;
		if (measure_format(s, (int)(i < s->stored_count ? s->stored[i] : IKV_FMT_COUNT + mixture), err))
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

enum { SHAPES = 3 }; /* the model's own first; a larger group and another width are held out, and measured once */

static int measure_round(struct scene *s, uint32_t *done, struct ikv_err *err)
{
	const struct calibrate_setup *setup = s->setup;
	const struct {
		uint32_t q_heads, head_dim;
	} shapes[SHAPES] = {{setup->q_heads, setup->head_dim},
			    {setup->q_heads == setup->kv_heads * 8 ? setup->kv_heads * 4 : setup->kv_heads * 8,
			     setup->head_dim},
			    {setup->q_heads, setup->head_dim == 64 ? 128 : 64}};
	s->cell = 0;
	ikv_rng_stream(&s->rng, 1, IKV_STREAM_TEST, 1, 0); /* the same contexts and pages */
	for (uint32_t i = 0; i < (s->round ? 1 : SHAPES); i++) {
		s->held = i > 0;
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
		if (measure_shape(s, done, (ROUNDS + SHAPES - 1) * (s->stored_count + MIXTURES), err))
			return -1;
	}
	return 0;
}

int calibrate_measure(const struct calibrate_setup *setup, struct calibrate_set *set, struct ikv_machine *m,
		      struct ikv_err *err)
{
	struct scene *s = ikv_alloc(1, sizeof *s, err);
	uint32_t done = 0;
	if (!s)
		return -1;
	s->setup = setup;
	s->set = set;
	s->machine = m;
	int rc = bench_reader_create(&s->cool, (size_t)setup->cool_bytes, setup->threads, err);
	s->pool = rc ? NULL : ikv_alloc(POOL, sizeof *s->pool, err);
	ikv_rng_stream(&s->rng, 1, IKV_STREAM_TEST, 0, 0);
	for (size_t i = 0; s->pool && i < POOL; i++)
		s->pool[i] = ikv_fp16_from_float((float)ikv_rng_normal(&s->rng));
	rc = s->pool ? measure_host(s, err) : -1;
	for (; s->round < ROUNDS && !rc; s->round++)
		rc = measure_round(s, &done, err);
	for (uint32_t i = 0; i < set->count && !rc; i++)
		set->cells[i].measured_ns = bench_median(s->times[i].ns, s->times[i].rounds);
	m->recode_bytes_per_s = s->recode_s > 0 ? s->recode_bytes / s->recode_s : 0;
	bench_reader_destroy(s->cool);
	ikv_free(s->pool);
	ikv_free(s->times);
	ikv_free(s);
	return rc;
}

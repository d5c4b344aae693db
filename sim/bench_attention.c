/* intentkv bench attention: attention of the CPU backend over random data, cold, beside pure reads and FMA. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/bench_attention.h"

#define CHECK_TOKENS 2048       /* of the smaller context on which the error is measured */
#define CHECK_ROWS   32         /* and most query rows a head there */
#define POOL         (1u << 20) /* random values that rows are cut from */
#define RUNS         500
#define ALONE_BYTES  ((uint64_t)8 << 20) /* less may be read sooner by one thread than others wake up */
#define SLICE        3e-3 /* s: where other work has a share of the core, it has one of what takes longer */

struct bench { /* one shape and format */
	struct bench_shape shape;
	enum ikv_format format;
	const char *isa;
	uint16_t *pool;
	struct ikv_rng r;
	struct ikv_geometry g;
	struct ikv_backend *b;
	float *q, *out;
	uint32_t q_len, *positions; /* [q_len] */
	struct ikv_plan *plans;     /* one, or one a KV head */
	struct ikv_attn_unit *units;
	uint32_t unit_count;
};

/* Rows of the pool from random places: 4096 tokens at a time, encoded as soon as they are there. */
static int fill(struct bench *x, struct ikv_backend *b, uint32_t tokens, struct ikv_err *err)
{
	const uint32_t step = 4096 / x->shape.page_tokens * x->shape.page_tokens;
	const size_t row = (size_t)x->g.kv_heads * x->g.d_qk;
	for (uint32_t done = 0; done < tokens;) {
		uint32_t n = tokens - done < step ? tokens - done : step;
		for (uint32_t t = 0; t < n; t++) {
			const uint16_t *k = x->pool + ikv_rng_below(&x->r, POOL - row);
			const uint16_t *v = x->pool + ikv_rng_below(&x->r, POOL - row);
			if (b->ops->append(b, 0, 0, 1, k, v, err))
				return -1;
		}
		for (uint32_t p = done / x->shape.page_tokens; p < (done + n) / x->shape.page_tokens; p++)
			if (b->ops->recode(b, 0, 0, 0, x->g.kv_heads, p, x->format, err))
				return -1;
		done += n;
	}
	return 0;
}

static int compare_pages(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* A share of the pages, each as likely as any other, in ascending order. */
static int pick_pages(struct bench *x, uint32_t tokens, double share, struct ikv_plan *plan, struct ikv_err *err)
{
	uint32_t pages = ikv_pages(tokens, x->shape.page_tokens);
	uint32_t want = (uint32_t)(share * pages + 0.5);
	uint32_t *order = ikv_alloc(pages, sizeof *order, err);
	if (!order || ikv_plan_init(plan, x->shape.page_tokens, pages, err)) {
		ikv_free(order);
		return -1;
	}
	for (uint32_t i = 0; i < pages; i++)
		order[i] = i;
	for (uint32_t i = 0; i < want; i++) {
		uint32_t j = i + (uint32_t)ikv_rng_below(&x->r, pages - i), other = order[j];
		order[j] = order[i];
		order[i] = other;
	}
	qsort(order, want, sizeof *order, compare_pages);
	for (uint32_t i = 0; i < want; i++) {
		uint32_t left = tokens - order[i] * x->shape.page_tokens;
		uint32_t n = left < x->shape.page_tokens ? left : x->shape.page_tokens;
		plan->pages[i] = (struct ikv_page_ref){.page = order[i], .hi = (uint16_t)n, .mask = IKV_NO_MASK};
	}
	plan->count = want;
	plan->total_tokens = tokens;
	ikv_free(order);
	return 0;
}

static void drop_plans(struct bench *x)
{
	for (uint32_t i = 0; x->plans && i < x->unit_count; i++)
		ikv_plan_free(&x->plans[i]);
	ikv_free(x->plans);
	ikv_free(x->units);
	x->plans = NULL;
	x->units = NULL;
}

/* One unit a plan: all query rows of its heads, the last ones of the context. */
static int make_plans(struct bench *x, uint32_t tokens, uint32_t q_len, const struct bench_selection *s,
		      struct ikv_err *err)
{
	uint32_t n = s->per_head ? x->g.kv_heads : 1, heads = x->g.q_heads / n;
	x->unit_count = n;
	x->plans = ikv_alloc(n, sizeof *x->plans, err);
	x->units = ikv_alloc(n, sizeof *x->units, err);
	if (!x->plans || !x->units)
		return -1;
	memset(x->plans, 0, n * sizeof *x->plans);
	for (uint32_t i = 0; i < n; i++) {
		if (pick_pages(x, tokens, s->share, &x->plans[i], err))
			return -1;
		x->units[i] = (struct ikv_attn_unit){.q_first = i * heads,
						     .q_count = heads,
						     .plan = &x->plans[i],
						     .q = x->q + (size_t)i * heads * q_len * x->g.d_qk,
						     .out = x->out + (size_t)i * heads * q_len * x->g.d_v,
						     .q_len = q_len,
						     .positions = q_len > 1 ? x->positions : NULL};
	}
	for (uint32_t i = 0; i < q_len; i++)
		x->positions[i] = tokens - q_len + i;
	return 0;
}

/* Relative L2 error of the same format and selection on a smaller context, against the backend `ref`. */
static int measure_error(struct bench *x, const struct bench_selection *s, double *rel_l2, struct ikv_err *err)
{
	const struct ikv_backend_ops *ops[2] = {&ikv_backend_cpu, &ikv_backend_ref};
	uint32_t tokens = x->shape.kv_tokens < CHECK_TOKENS ? x->shape.kv_tokens : CHECK_TOKENS;
	uint32_t q_len = x->q_len < CHECK_ROWS ? x->q_len : CHECK_ROWS;
	size_t n = (size_t)q_len * x->g.q_heads * x->g.d_v;
	float *first = ikv_alloc(n, sizeof *first, err);
	double error = 0, norm = 0;
	struct ikv_rng saved = x->r;
	int rc = first ? make_plans(x, tokens, q_len, s, err) : -1;
	for (int i = 0; i < 2 && rc == 0; i++) {
		struct ikv_backend_config config = {.threads = 1, .isa = x->isa, .sequences = 1};
		struct ikv_backend *b = NULL;
		x->r = saved;
		rc = ops[i]->open(&b, &x->g, &config, err);
		if (rc == 0)
			rc = fill(x, b, tokens, err);
		if (rc == 0)
			rc = ops[i]->decode(b, x->units, x->unit_count, err);
		if (b)
			ops[i]->close(b);
		if (i == 0)
			memcpy(first, x->out, n * sizeof *first);
	}
	for (size_t i = 0; i < n && rc == 0; i++) {
		error += (first[i] - (double)x->out[i]) * (first[i] - (double)x->out[i]);
		norm += (double)x->out[i] * x->out[i];
	}
	*rel_l2 = norm > 0 ? sqrt(error / norm) : 0;
	drop_plans(x);
	ikv_free(first);
	return rc;
}

/* Where the pieces that the units read lie in a buffer laid out as the backend's pages are: the heads of a page
 * together, 64 bytes before them. */
static uint64_t *pieces(const struct bench *x, const struct bench_selection *s, size_t head_bytes, uint64_t *count,
			struct ikv_err *err)
{
	uint64_t page_bytes = 64 + x->g.kv_heads * head_bytes, n = 0;
	for (uint32_t i = 0; i < x->unit_count; i++)
		n += x->plans[i].count;
	uint64_t *offsets = ikv_alloc(n, sizeof *offsets, err);
	*count = 0;
	for (uint32_t i = 0; offsets && i < x->unit_count; i++)
		for (uint32_t p = 0; p < x->plans[i].count; p++)
			offsets[(*count)++] =
			    x->plans[i].pages[p].page * page_bytes + (s->per_head ? i * head_bytes : 0);
	return offsets;
}

/* Scores and weighted sums of the tokens that each row sees: 2 operations a channel of K and of V. */
static double operations(const struct bench *x)
{
	double pairs = 0;
	for (uint32_t k = 0; k < x->unit_count; k++) {
		const struct ikv_attn_unit *u = &x->units[k];
		for (uint32_t i = 0; i < x->q_len; i++) {
			uint32_t seen = 0, last = u->positions ? u->positions[i] : UINT32_MAX;
			for (uint32_t p = 0; p < u->plan->count; p++) {
				const struct ikv_page_ref *r = &u->plan->pages[p];
				uint32_t first = r->page * x->g.page_tokens;
				if (first <= last)
					seen += last - first < r->hi ? last - first + 1 : r->hi;
			}
			pairs += (double)seen * u->q_count;
		}
	}
	return 2 * pairs * (x->g.d_qk + x->g.d_v);
}

struct times {                                      /* of RUNS at most */
	double kernel[RUNS], read[RUNS], fma[RUNS]; /* seconds, seconds, 10^9 operations a second or 0 */
	double alone[RUNS]; /* seconds that one of several threads reads, where that is measured */
	uint32_t n;
	uint64_t read_bytes;
};

static void sum_up(const struct bench *x, struct times *t, struct bench_attention_row *row)
{
	row->ms_median = 1e3 * bench_median(t->kernel, t->n);
	row->ms_min = 1e3 * t->kernel[0];
	row->ms_max = 1e3 * t->kernel[t->n - 1];
	row->gbps = (double)row->kv_bytes / row->ms_median * 1e-6;
	row->flops = operations(x) / (1e-3 * row->ms_median);
	double read = bench_median(t->read, t->n);
	if (row->threads > 1 && t->read_bytes < ALONE_BYTES)
		read = fmin(read, bench_median(t->alone, t->n));
	row->ceiling_gbps = (double)t->read_bytes / read * 1e-9;
	double peak = bench_median(t->fma, t->n) * row->threads;
	if (peak > 0) {
		double bound = peak * 1e9 / row->flops * row->gbps;
		row->ceiling_gbps = bound < row->ceiling_gbps ? bound : row->ceiling_gbps;
	}
}

/* Kernel, pure read and FMA by turns, kernel and read after other memory has gone through the caches and FMA has run
 * for a while, as it does in a model's step around attention. */
static int measure(struct bench *x, const struct bench_selection *s, struct bench_reader *cool,
		   const struct bench_attention_setup *setup, struct bench_attention_row *row, struct ikv_err *err)
{
	uint64_t head_bytes = ikv_format_bytes(x->format, IKV_SIDE_K, x->shape.page_tokens, x->g.d_qk);
	if (!x->g.v_aliases_k)
		head_bytes += ikv_format_bytes(x->format, IKV_SIDE_V, x->shape.page_tokens, x->g.d_v);
	head_bytes = (head_bytes + 63) / 64 * 64;
	uint32_t pages = ikv_pages(x->shape.kv_tokens, x->shape.page_tokens);
	static struct times t;
	struct ikv_backend_stats before, after;
	struct bench_reader *reader = NULL;
	uint64_t count, *offsets = pieces(x, s, head_bytes, &count, err);
	int rc =
	    offsets ? bench_reader_create(&reader, pages * (64 + x->g.kv_heads * head_bytes), row->threads, err) : -1;
	const double warm = 1e-3 * setup->warm_ms;
	size_t piece = s->per_head ? head_bytes : x->g.kv_heads * head_bytes;
	t.read_bytes = count * piece;
	t.n = 0;
	for (double end = bench_now() + setup->seconds; rc == 0 && t.n < RUNS && (t.n < 5 || bench_now() < end); t.n++) {
		bench_reader_all(cool);
		bench_reader_warm(reader, warm);
		x->b->ops->stats(x->b, &before);
		double start = bench_now();
		rc = x->b->ops->decode(x->b, x->units, x->unit_count, err);
		t.kernel[t.n] = bench_now() - start;
		x->b->ops->stats(x->b, &after);
		t.fma[t.n] = strcmp(row->kernel, "decode") ? bench_fma(t.kernel[t.n] < SLICE ? 0 : t.kernel[t.n]) : 0;
		bench_reader_all(cool);
		bench_reader_warm(reader, warm);
		t.read[t.n] = bench_reader_run(reader, offsets, count, piece);
		if (row->threads > 1 && t.read_bytes < ALONE_BYTES) {
			bench_reader_all(cool);
			bench_reader_warm(reader, warm);
			t.alone[t.n] = bench_reader_alone(reader, offsets, count, piece);
		}
	}
	if (rc == 0) {
		row->kv_bytes = after.kv_bytes_read - before.kv_bytes_read;
		sum_up(x, &t, row);
	}
	bench_reader_destroy(reader);
	ikv_free(offsets);
	return rc;
}

static int run_row(struct bench *x, const struct bench_attention_setup *setup, const struct bench_selection *s,
		   uint32_t threads, struct bench_reader *cool, struct bench_attention_row *row, struct ikv_err *err)
{
	struct ikv_backend_stats stats;
	x->b->ops->stats(x->b, &stats);
	*row = (struct bench_attention_row){.kernel = x->q_len > 1       ? "prefill"
						      : x->g.v_aliases_k ? "mla"
									 : "decode",
					    .isa = stats.isa,
					    .format = ikv_format_info(x->format)->name,
					    .threads = threads,
					    .q_len = x->q_len,
					    .shape = x->shape,
					    .selection = *s};
	int rc = measure_error(x, s, &row->rel_l2, err);
	if (rc == 0)
		rc = make_plans(x, x->shape.kv_tokens, x->q_len, s, err);
	if (rc == 0)
		rc = measure(x, s, cool, setup, row, err);
	drop_plans(x);
	return rc;
}

/* One format of a shape. */
static int run_shape(struct bench *x, const struct bench_attention_setup *setup, struct bench_reader *cool,
		     void (*hand_over)(void *context, const struct bench_attention_row *row), void *context,
		     struct ikv_err *err)
{
	for (uint32_t t = 0; t < setup->thread_count; t++) {
		struct ikv_backend_config config = {.threads = setup->threads[t], .isa = setup->isa, .sequences = 1};
		int rc = ikv_backend_cpu.open(&x->b, &x->g, &config, err);
		if (rc == 0)
			rc = fill(x, x->b, x->shape.kv_tokens, err);
		for (uint32_t i = 0; i < setup->q_len_count * setup->selection_count && rc == 0; i++) {
			struct bench_attention_row row;
			x->q_len = setup->q_lens[i / setup->selection_count];
			rc = run_row(x, setup, &setup->selections[i % setup->selection_count], setup->threads[t],
				     cool, &row, err);
			if (rc == 0)
				hand_over(context, &row);
		}
		ikv_backend_cpu.close(x->b);
		x->b = NULL;
		if (rc)
			return -1;
	}
	return 0;
}

static struct ikv_geometry geometry_of(const struct bench_shape *s)
{
	return (struct ikv_geometry){.layers = 1,
				     .q_heads = s->q_heads,
				     .kv_heads = s->kv_heads,
				     .d_qk = s->head_dim,
				     .d_v = s->latent ? s->latent : s->head_dim,
				     .v_aliases_k = s->latent > 0,
				     .page_tokens = s->page_tokens,
				     .scale = 1 / sqrtf((float)s->head_dim)};
}

int bench_attention_check(const struct bench_attention_setup *setup, struct ikv_err *err)
{
	struct ikv_backend_config config = {.threads = 1, .isa = setup->isa, .sequences = 1};
	for (uint32_t i = 0; i < setup->shape_count; i++) {
		struct ikv_geometry g = geometry_of(&setup->shapes[i]);
		struct ikv_backend *b;
		if (ikv_backend_cpu.open(&b, &g, &config, err))
			return -1;
		ikv_backend_cpu.close(b);
	}
	return 0;
}

static int set_shape(struct bench *x, const struct bench_attention_setup *setup, struct ikv_err *err)
{
	const struct bench_shape *s = &x->shape;
	uint32_t most = 1;
	for (uint32_t i = 0; i < setup->q_len_count; i++)
		most = setup->q_lens[i] > most ? setup->q_lens[i] : most;
	x->g = geometry_of(s);
	const size_t rows = (size_t)most * s->q_heads, n = rows * s->head_dim;
	x->q = ikv_alloc(n, sizeof *x->q, err);
	x->out = ikv_alloc(rows * x->g.d_v, sizeof *x->out, err);
	x->positions = ikv_alloc(most, sizeof *x->positions, err);
	if (!x->q || !x->out || !x->positions)
		return -1;
	for (size_t k = 0; k < n; k++)
		x->q[k] = (float)ikv_rng_normal(&x->r);
	return 0;
}

int bench_attention(const struct bench_attention_setup *setup,
		    void (*hand_over)(void *context, const struct bench_attention_row *row), void *context,
		    struct ikv_err *err)
{
	struct bench_reader *cool = NULL;
	struct bench x = {.isa = setup->isa};
	int rc = bench_reader_create(&cool, BENCH_COOL_BYTES, 1, err);
	x.pool = rc ? NULL : ikv_alloc(POOL, sizeof *x.pool, err);
	rc = x.pool ? 0 : -1;
	ikv_rng_stream(&x.r, 1, IKV_STREAM_TEST, 0, 0);
	for (size_t i = 0; rc == 0 && i < POOL; i++)
		x.pool[i] = ikv_fp16_from_float((float)ikv_rng_normal(&x.r));
	for (uint32_t i = 0; i < setup->shape_count && rc == 0; i++) {
		x.shape = setup->shapes[i];
		rc = set_shape(&x, setup, err);
		for (uint32_t f = 0; f < setup->format_count && rc == 0; f++) {
			x.format = setup->formats[f];
			rc = run_shape(&x, setup, cool, hand_over, context, err);
		}
		ikv_free(x.q);
		ikv_free(x.out);
		ikv_free(x.positions);
	}
	ikv_free(x.pool);
	bench_reader_destroy(cool);
	return rc;
}

/* Random sequences in the exact store and in the backend, random queries: page scores must be those of the scorer, the
 * chosen pages those of the CPU's selection, and attention over them the same whether the plan was found on the
 * device or sent. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/gpu.h"
#include "gpu/select_check.h"
#include "router/pick.h"

#define UNITS_MAX 12
#define CALLS     6 /* of one world */
#define POOL      (1u << 17)

struct world {
	struct ikv_geometry g;
	struct ikv_backend *b;
	struct ikv_exact *exact;
	const struct ikv_scorer_ops *scores;
	void *scorer;
	struct ikv_rng r;
	uint32_t tokens[2]; /* of each sequence */
	bool ties;          /* keys and queries of few values */
	bool many;          /* pages: more than a block holds */
	float *pool;        /* [POOL] normal numbers */
};

struct tally {
	uint64_t calls, units, pages, tied, kept, bytes;
};

static struct ikv_err err;

static void die(const char *what)
{
	fprintf(stderr, "gpu_check: select: %s: %s\n", what, err.text);
	exit(1);
}

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&w->r, n);
}

static float draw(struct world *w, float size)
{
	return w->ties ? (float)((int)below(w, 3) - 1) : w->pool[below(w, POOL)] * size;
}

static void append(struct world *w, uint32_t seq, uint32_t layer, uint32_t tokens)
{
	const struct ikv_geometry *g = &w->g;
	float size = below(w, 4) ? 1 : below(w, 2) ? 1e-6f : 1000;
	while (tokens) {
		uint32_t n = 1 + below(w, tokens < 700 ? tokens : 700);
		size_t keys = (size_t)n * g->kv_heads * g->d_qk, values = (size_t)n * g->kv_heads * g->d_v;
		uint16_t *k = malloc(2 * keys), *v = calloc(values, 2);
		for (size_t i = 0; i < keys; i++)
			k[i] = ikv_fp16_from_float(draw(w, size));
		for (size_t i = 0; i < values; i++)
			v[i] = ikv_fp16_from_float(w->pool[i % POOL]);
		if (ikv_exact_append(w->exact, seq, layer, n, k, v, &err) ||
		    w->b->ops->append(w->b, seq, layer, n, k, v, &err))
			die("append");
		free(k);
		free(v);
		tokens -= n;
	}
}

/* Pages to other formats, and back from exact rows: neither changes scores. */
static void recode(struct world *w, uint32_t seq, uint32_t layer)
{
	for (uint32_t page = 0; page < w->tokens[seq] / w->g.page_tokens; page++) {
		if (below(w, 3) == 0 && w->b->ops->recode(w->b, seq, layer, 0, w->g.kv_heads, page, IKV_FMT_INT4, &err))
			die("recode");
		if (below(w, 4) == 0 &&
		    w->b->ops->restore(w->b, seq, layer, 0, w->g.kv_heads, page, below(w, 2) ? IKV_FMT_FP16 : IKV_FMT_INT8,
				       ikv_exact_k(w->exact, seq, layer, page, 0),
				       ikv_exact_v(w->exact, seq, layer, page, 0), &err))
			die("restore");
	}
}

/* The page to be cut open becomes exact first, as callers make it. */
static void cut(struct world *w, uint32_t seq, uint32_t keep)
{
	uint32_t page = keep / w->g.page_tokens;
	for (uint32_t layer = 0; layer < w->g.layers && keep % w->g.page_tokens; layer++)
		if (w->b->ops->restore(w->b, seq, layer, 0, w->g.kv_heads, page, IKV_FMT_FP16,
				       ikv_exact_k(w->exact, seq, layer, page, 0),
				       ikv_exact_v(w->exact, seq, layer, page, 0), &err))
			die("restore");
	if (ikv_exact_truncate(w->exact, seq, keep, &err) || w->b->ops->truncate(w->b, seq, keep, &err))
		die("truncate");
	w->tokens[seq] = keep;
}

static void draw_geometry(struct world *w)
{
	static const uint32_t dims[] = {64, 80, 96, 128, 128, 256}, pages[] = {1, 8, 16, 16, 24, 32, 64, 128};
	uint32_t group = 1 + below(w, 10), kv = 1 + below(w, 4), latent = below(w, 6) == 0;
	w->g = (struct ikv_geometry){.layers = 1 + below(w, 2),
				     .q_heads = group * kv,
				     .kv_heads = kv,
				     .d_qk = below(w, 5) ? dims[below(w, 6)] : 1 + below(w, 256),
				     .page_tokens = below(w, 5) ? pages[below(w, 8)] : 1 + below(w, 100)};
	w->g.d_v = below(w, 8) ? w->g.d_qk : 1 + below(w, 256);
	if (latent) {
		w->g.kv_heads = 1;
		w->g.q_heads = below(w, 2) ? 128 : 1 + below(w, 60);
		w->g.d_qk = 576;
		w->g.d_v = 512;
		w->g.v_aliases_k = true;
	}
	w->g.scale = 1 / sqrtf((float)w->g.d_qk);
	w->ties = below(w, 4) == 0;
	w->many = below(w, 10) == 0;
	if (w->many)
		w->g = (struct ikv_geometry){.layers = 1,
					     .q_heads = 3,
					     .kv_heads = 1,
					     .d_qk = 1 + below(w, 80),
					     .d_v = 1,
					     .page_tokens = 1 + below(w, 2),
					     .scale = 1};
}

static void open_world(struct world *w, bool small)
{
	struct ikv_backend_config config = {.threads = 1, .isa = "auto", .sequences = 2};
	draw_geometry(w);
	w->scores = ikv_scorer_find(below(w, 3) ? "quest" : "cosine");
	config.selects = w->scores->page_scores;
	if (gpu_backend()->open(&w->b, &w->g, &config, &err) || ikv_exact_create(&w->exact, &w->g, 2, &err) ||
	    w->scores->create(&w->scorer, NULL, &w->g, 2, &err))
		die("open");
	for (uint32_t seq = 0; seq < 2; seq++) {
		uint32_t most = small ? 100 : below(w, 4) ? 800 : 3000;
		w->tokens[seq] = 1 + below(w, w->g.v_aliases_k ? most / 4 : most);
		if (w->many && !small)
			w->tokens[seq] = 6000 + below(w, 20000);
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			append(w, seq, layer, w->tokens[seq]);
	}
}

static void close_world(struct world *w)
{
	w->scores->destroy(w->scorer);
	ikv_exact_destroy(w->exact);
	w->b->ops->close(w->b);
}

/* Between calls a sequence grows, is re-encoded or loses its tail. */
static void change(struct world *w)
{
	uint32_t seq = below(w, 2), what = below(w, 4), more = 1 + below(w, 60);
	if (what == 0) {
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			recode(w, seq, layer);
	} else if (what == 1) {
		cut(w, seq, 1 + below(w, w->tokens[seq]));
	} else {
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			append(w, seq, layer, more);
		w->tokens[seq] += more;
	}
}

static void expect_scores(struct world *w, const struct ikv_select_unit *u, float *scores)
{
	struct ikv_block block = {.name = "all", .end = w->tokens[u->seq], .kind = IKV_KIND_USER, .policy = IKV_ATTEND};
	struct ikv_layout layout = {.blocks = &block,
				    .count = 1,
				    .total_tokens = w->tokens[u->seq],
				    .page_tokens = w->g.page_tokens};
	struct ikv_score_unit s = {.seq = u->seq,
				   .layer = u->layer,
				   .q_first = u->q_first,
				   .q_count = u->q_count,
				   .q = u->q,
				   .kv = w->exact,
				   .layout = &layout,
				   .page_scores = scores};
	if (w->scores->score(w->scorer, &s, 1, &err))
		die("score");
}

/* Stored bytes of a page in the unit's KV heads, in units of 16, each head's rounded up. */
static uint64_t page_cost(const struct world *w, const struct ikv_select_unit *u, uint32_t page)
{
	uint32_t group = w->g.q_heads / w->g.kv_heads, n = w->g.page_tokens;
	uint64_t sum = 0;
	for (uint32_t h = u->q_first / group; h <= (u->q_first + u->q_count - 1) / group; h++) {
		enum ikv_format f = w->b->ops->format(w->b, u->seq, u->layer, h, page);
		uint64_t bytes = ikv_format_bytes(f, IKV_SIDE_K, n, w->g.d_qk);
		if (!w->g.v_aliases_k)
			bytes += ikv_format_bytes(f, IKV_SIDE_V, n, w->g.d_v);
		sum += (bytes + 15) / 16;
	}
	return sum;
}

static int descending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	uint32_t p = (uint32_t)x, q = (uint32_t)y;
	return x >> 32 != y >> 32 ? (x >> 32 < y >> 32 ? 1 : -1) : p > q ? 1 : p < q ? -1 : 0;
}

static void expect_choice(const struct world *w, const struct ikv_select_unit *u, const float *scores, uint32_t pages,
			  uint64_t *chosen)
{
	uint64_t *items = malloc(pages * sizeof *items), left = u->budget / 16;
	for (uint32_t p = 0; p < pages; p++)
		items[p] = p < u->first || pages - p <= u->recent ? (uint64_t)UINT32_MAX << 32 | p : pick_item(scores[p], p);
	memset(chosen, 0, (pages / 64 + 1) * sizeof *chosen);
	if (!u->bytes) {
		pick_top(items, pages, u->budget < pages ? (uint32_t)u->budget : pages, chosen);
	} else {
		qsort(items, pages, sizeof *items, descending);
		left = left ? left : 1;
		for (uint32_t i = 0; i < pages && page_cost(w, u, (uint32_t)items[i]) <= left; i++) {
			uint32_t p = (uint32_t)items[i];
			left -= page_cost(w, u, p);
			chosen[p / 64] |= (uint64_t)1 << p % 64;
		}
	}
	free(items);
}

static void draw_unit(struct world *w, struct ikv_select_unit *u, bool bytes)
{
	uint32_t group = w->g.q_heads / w->g.kv_heads, seq = below(w, 2), pages = ikv_pages(w->tokens[seq], w->g.page_tokens);
	*u = (struct ikv_select_unit){.seq = seq, .layer = below(w, w->g.layers), .bytes = bytes};
	switch (below(w, 3)) {
	case 0: /* a KV head's group */
		u->q_first = below(w, w->g.kv_heads) * group;
		u->q_count = group;
		break;
	case 1: /* any heads */
		u->q_first = below(w, w->g.q_heads);
		u->q_count = 1 + below(w, w->g.q_heads - u->q_first);
		break;
	default:
		u->q_count = w->g.q_heads;
	}
	float *q = malloc((size_t)u->q_count * w->g.d_qk * sizeof *q), size = below(w, 4) ? 1 : below(w, 2) ? 1e-20f : 1e30f;
	for (size_t i = 0; i < (size_t)u->q_count * w->g.d_qk; i++)
		q[i] = draw(w, size);
	u->q = q;
	u->budget = below(w, 8) ? 1 + below(w, pages) : below(w, 2) ? 1 : pages + below(w, 2);
	if (below(w, 8) == 0)
		u->budget = 0;
	if (bytes && u->budget)
		u->budget *= 16 * (page_cost(w, u, 0) + below(w, 20)) / (1 + below(w, 3));
	if (below(w, 3) == 0) {
		u->first = below(w, 4);
		u->recent = below(w, 6);
	}
	u->scores = malloc(pages * sizeof *u->scores);
	u->chosen = calloc(pages / 64 + 1, sizeof *u->chosen);
}

static bool compare(struct world *w, const struct ikv_select_unit *u, struct tally *t)
{
	uint32_t pages = ikv_pages(w->tokens[u->seq], w->g.page_tokens), differ = 0, first = UINT32_MAX;
	float *scores = malloc(pages * sizeof *scores);
	uint64_t *chosen = malloc((pages / 64 + 1) * sizeof *chosen);
	expect_scores(w, u, scores);
	for (uint32_t p = 0; p < pages; p++) {
		if (memcmp(&scores[p], &u->scores[p], sizeof *scores) && (scores[p] == scores[p] || u->scores[p] == u->scores[p])) {
			first = first == UINT32_MAX ? p : first;
			differ++;
		}
		t->tied += p && scores[p] == scores[p - 1];
	}
	if (differ)
		fprintf(stderr,
			"gpu_check: select: %s: %u of %u scores differ, page %u: %a, expected %a; heads %u+%u of %u/%u, d %u\n",
			w->scores->name, differ, pages, first, (double)u->scores[first], (double)scores[first], u->q_first, u->q_count,
			w->g.q_heads, w->g.kv_heads, w->g.d_qk);
	if (u->budget) {
		expect_choice(w, u, scores, pages, chosen);
		uint32_t off = 0;
		for (uint32_t p = 0; p < pages; p++)
			off += ((chosen[p / 64] ^ u->chosen[p / 64]) >> p % 64 & 1) != 0;
		if (off)
			fprintf(stderr,
				"gpu_check: select: %u of %u pages chosen otherwise; budget %llu %s, first %u, recent %u%s\n", off,
				pages, (unsigned long long)u->budget, u->bytes ? "bytes" : "pages", u->first, u->recent,
				w->ties ? ", ties" : "");
		differ += off;
	}
	t->pages += pages;
	free(scores);
	free(chosen);
	return !differ;
}

static void decode(struct world *w, const struct ikv_attn_unit *units, uint32_t n)
{
	if (w->b->ops->decode(w->b, units, n, &err))
		die("decode");
}

/* Attention over what was chosen, from the references left on the device and from those sent: the same bits. */
static bool attend(struct world *w, const struct ikv_select_unit *units, uint32_t n, struct tally *t)
{
	struct ikv_attn_unit a[UNITS_MAX];
	struct ikv_plan plans[UNITS_MAX];
	struct ikv_backend_stats before, after;
	float *out[2][UNITS_MAX];
	uint32_t kept = 0, m = 0;
	bool good = true;
	for (uint32_t i = 0; i < n; i++) {
		const struct ikv_select_unit *u = &units[i];
		uint32_t pages = ikv_pages(w->tokens[u->seq], w->g.page_tokens), from, to;
		if (!u->budget)
			continue;
		if (ikv_plan_init(&plans[m], w->g.page_tokens, pages, &err))
			die("plan");
		ikv_plan_reset(&plans[m], w->tokens[u->seq]);
		for (uint32_t at = 0; pick_run(u->chosen, at, pages, &from, &to); at = to)
			ikv_plan_add(&plans[m], from * w->g.page_tokens,
				     to == pages ? w->tokens[u->seq] : to * w->g.page_tokens, IKV_FMT_FP16, 0);
		for (int k = 0; k < 2; k++)
			out[k][m] = calloc((size_t)u->q_count * w->g.d_v, sizeof(float));
		float *q = malloc((size_t)u->q_count * w->g.d_qk * sizeof *q); /* of a size that attention can sum */
		for (size_t k = 0; k < (size_t)u->q_count * w->g.d_qk; k++)
			q[k] = (float)ikv_rng_normal(&w->r) * 1e-3f;
		a[m] = (struct ikv_attn_unit){.seq = u->seq,
					      .layer = u->layer,
					      .q_first = u->q_first,
					      .q_count = u->q_count,
					      .plan = &plans[m],
					      .q = q,
					      .out = out[0][m]};
		kept += plans[m++].count != 0;
	}
	w->b->ops->stats(w->b, &before);
	decode(w, a, m);
	w->b->ops->stats(w->b, &after);
	if (after.plans_kept - before.plans_kept != kept) {
		fprintf(stderr, "gpu_check: select: %u of %u plans found on the device\n",
			(unsigned)(after.plans_kept - before.plans_kept), kept);
		good = false;
	}
	t->kept += after.plans_kept - before.plans_kept;
	struct ikv_select_unit none = units[0];
	none.budget = 0;
	if (w->b->ops->select(w->b, &none, 1, &err))
		die("select");
	for (uint32_t i = 0; i < m; i++)
		a[i].out = out[1][i];
	decode(w, a, m);
	for (uint32_t i = 0; i < m; i++) {
		if (memcmp(out[0][i], out[1][i], (size_t)a[i].q_count * w->g.d_v * sizeof(float))) {
			fprintf(stderr, "gpu_check: select: outputs differ with where the plan was\n");
			good = false;
		}
		ikv_plan_free(&plans[i]);
		free(out[0][i]);
		free(out[1][i]);
		free((float *)a[i].q);
	}
	return good;
}

/* A query that is not finite: refused, as attention does. */
static bool refuses(struct world *w, const struct ikv_select_unit *u)
{
	struct ikv_select_unit bad = *u;
	float *q = malloc((size_t)u->q_count * w->g.d_qk * sizeof *q);
	memcpy(q, u->q, (size_t)u->q_count * w->g.d_qk * sizeof *q);
	q[below(w, u->q_count * w->g.d_qk)] = below(w, 2) ? INFINITY : NAN;
	bad.q = q;
	struct ikv_err e;
	bool good = w->b->ops->select(w->b, &bad, 1, &e) != 0 && e.status == IKV_BAD_INPUT && strstr(e.text, "is not finite");
	if (!good)
		fprintf(stderr, "gpu_check: select: a query that is not finite was taken\n");
	free(q);
	return good;
}

static bool run_case(struct world *w, struct tally *t)
{
	struct ikv_select_unit units[UNITS_MAX];
	uint32_t n = 1 + below(w, UNITS_MAX);
	bool bytes = below(w, 4) == 0, good = true;
	for (uint32_t i = 0; i < n; i++) { /* heads are chosen for once in a call */
		bool again = true;
		draw_unit(w, &units[i], bytes);
		while (again) {
			again = false;
			for (uint32_t k = 0; k < i; k++)
				again = again || (units[k].seq == units[i].seq && units[k].layer == units[i].layer &&
						  units[k].q_first == units[i].q_first && units[k].q_count == units[i].q_count);
			if (again) {
				n = i;
				free((float *)units[i].q);
				free(units[i].scores);
				free(units[i].chosen);
				break;
			}
		}
	}
	if (w->b->ops->select(w->b, units, n, &err))
		die("select");
	for (uint32_t i = 0; i < n; i++)
		good = compare(w, &units[i], t) && good;
	if (!w->g.v_aliases_k) /* latent attention takes plans as they are sent */
		good = attend(w, units, n, t) && good;
	good = refuses(w, &units[0]) && good;
	for (uint32_t i = 0; i < n; i++) {
		free((float *)units[i].q);
		free(units[i].scores);
		free(units[i].chosen);
	}
	t->calls++;
	t->units += n;
	t->bytes += bytes;
	return good;
}

bool select_check(uint64_t cases, uint64_t seed, bool small)
{
	struct tally t = {0};
	struct world w = {0};
	uint64_t failed = 0;
	ikv_rng_stream(&w.r, seed, 0x73656cu, 0, 0);
	w.pool = malloc(POOL * sizeof *w.pool);
	for (uint32_t i = 0; i < POOL; i++)
		w.pool[i] = (float)ikv_rng_normal(&w.r);
	while (t.calls < cases) {
		open_world(&w, small);
		for (int i = 0; i < CALLS && t.calls < cases; i++) {
			failed += !run_case(&w, &t);
			change(&w);
		}
		close_world(&w);
	}
	printf("select: %llu calls (%llu by bytes), %llu units, %llu page scores, %llu ties of neighbours, %llu plans left on "
	       "the device: %llu calls differ from the CPU\n",
	       (unsigned long long)t.calls, (unsigned long long)t.bytes, (unsigned long long)t.units,
	       (unsigned long long)t.pages, (unsigned long long)t.tied, (unsigned long long)t.kept,
	       (unsigned long long)failed);
	fflush(stdout);
	free(w.pool);
	return !failed;
}

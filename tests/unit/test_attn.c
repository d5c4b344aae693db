/* Backends against a softmax in double written here, over the rows as stored; threads, memory, errors. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

static const enum ikv_format stored_formats[] = {IKV_FMT_FP16,          IKV_FMT_FP8,   IKV_FMT_INT8,  IKV_FMT_INT4,
						 IKV_FMT_INT4_RESIDUAL, IKV_FMT_BF16,  IKV_FMT_KIVI8, IKV_FMT_KIVI4,
						 IKV_FMT_KIVI2,         IKV_FMT_SPARSE};
enum { FORMATS = sizeof stored_formats / sizeof *stored_formats };

struct world { /* one sequence in a backend, and the same rows kept aside as the backend should decode them */
	struct ikv_geometry g;
	struct ikv_backend *b;
	struct ikv_rng r;
	uint32_t tokens, pages;
	float *k, *v; /* [tokens][kv_heads][d] */
	uint16_t *k_half, *v_half;
	float *q;
	struct ikv_plan plan;
	double rounded; /* tolerance of pages whose queries AVX-512, of 4 and 2 bits AVX2, too, rounds to eight or nine
			 * bits; 0: there are none */
	bool half;      /* pages of FP8 or SPARSE, whose queries and weights avx512bf16 and avx512vbmi round */
};

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&w->r, n);
}

static uint16_t *random_rows(struct world *w, size_t n)
{
	uint16_t *rows = calloc(n, 2);
	for (size_t i = 0; i < n; i++)
		rows[i] = ikv_fp16_from_float((float)ikv_rng_normal(&w->r));
	return rows;
}

static void open_world(struct world *w, const struct ikv_backend_ops *ops, const char *isa, uint32_t threads,
		       struct ikv_geometry g, uint32_t tokens)
{
	struct ikv_err err;
	struct ikv_backend_config config = {.threads = threads, .isa = isa, .sequences = 2};
	w->g = g;
	w->half = false;
	w->rounded = 0;
	w->tokens = tokens;
	w->pages = ikv_pages(tokens, g.page_tokens);
	ck_assert_msg(ops->open(&w->b, &g, &config, &err) == 0, "%s", err.text);
	size_t nk = (size_t)tokens * g.kv_heads * g.d_qk, nv = (size_t)tokens * g.kv_heads * g.d_v;
	w->k_half = random_rows(w, nk);
	w->v_half = random_rows(w, nv);
	w->k = calloc(nk, 4);
	w->v = calloc(nv, 4);
	w->q = calloc((size_t)g.q_heads * g.d_qk, 4);
	for (size_t i = 0; i < (size_t)g.q_heads * g.d_qk; i++)
		w->q[i] = (float)ikv_rng_normal(&w->r);
	for (size_t i = 0; i < nk; i++)
		w->k[i] = ikv_fp16_to_float(w->k_half[i]);
	for (size_t i = 0; i < nv; i++)
		w->v[i] = ikv_fp16_to_float(w->v_half[i]);
	for (uint32_t layer = 0; layer < g.layers; layer++)
		ck_assert_int_eq(ops->append(w->b, 1, layer, tokens, w->k_half, w->v_half, &err), 0);
	w->plan = (struct ikv_plan){.pages = calloc(w->pages, sizeof *w->plan.pages),
				    .mask_words = (g.page_tokens + 63) / 64,
				    .page_tokens = g.page_tokens,
				    .total_tokens = tokens};
	w->plan.masks = calloc((size_t)w->pages * w->plan.mask_words, 8);
}

static void close_world(struct world *w)
{
	w->b->ops->close(w->b);
	free(w->k);
	free(w->v);
	free(w->k_half);
	free(w->v_half);
	free(w->q);
	free(w->plan.pages);
	free(w->plan.masks);
}

/* Pass one page of one head through a format, as the backend does. */
static void through(enum ikv_format f, enum ikv_side side, float *rows, uint32_t page_tokens, size_t stride,
		    uint32_t dim)
{
	uint16_t *half = calloc((size_t)page_tokens * dim, 2);
	float *back = calloc((size_t)page_tokens * dim, 4);
	uint8_t *stored = calloc(ikv_format_bytes(f, side, page_tokens, dim) + 1, 1);
	for (uint32_t t = 0; t < page_tokens; t++)
		for (uint32_t d = 0; d < dim; d++)
			half[t * dim + d] = ikv_fp16_from_float(rows[t * stride + d]);
	ck_assert_int_eq(ikv_format_encode(f, side, half, page_tokens, dim, stored, NULL), 0);
	ck_assert_int_eq(ikv_format_decode(f, side, stored, page_tokens, dim, back, NULL), 0);
	for (uint32_t t = 0; t < page_tokens; t++)
		memcpy(rows + t * stride, back + t * dim, 4 * (size_t)dim);
	free(half);
	free(back);
	free(stored);
}

static void recode(struct world *w, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		   enum ikv_format to)
{
	struct ikv_err err;
	ck_assert_msg(w->b->ops->recode(w->b, 1, layer, kv_first, kv_count, page, to, &err) == 0, "%s", err.text);
	for (uint32_t h = kv_first; h < kv_first + kv_count; h++) {
		size_t row = (size_t)page * w->g.page_tokens * w->g.kv_heads + h;
		ck_assert_uint_eq(w->b->ops->format(w->b, 1, layer, h, page), to);
		through(to, IKV_SIDE_K, w->k + row * w->g.d_qk, w->g.page_tokens, (size_t)w->g.kv_heads * w->g.d_qk,
			w->g.d_qk);
		through(to, IKV_SIDE_V, w->v + row * w->g.d_v, w->g.page_tokens, (size_t)w->g.kv_heads * w->g.d_v,
			w->g.d_v);
	}
}

/* Random formats for closed pages: the same for all heads or head by head. */
static void mix_formats(struct world *w, int only)
{
	enum ikv_format f = stored_formats[only < 0 ? 0 : only];
	w->half = only < 0 || f == IKV_FMT_FP8 || f == IKV_FMT_SPARSE;
	w->rounded = only < 0 || f == IKV_FMT_KIVI4 || f == IKV_FMT_KIVI2 ? 1e-2
		     : f == IKV_FMT_INT4					      ? 5e-3
		     : f == IKV_FMT_INT8					      ? 4e-3
										      : 0;
	for (uint32_t p = 0; p < w->tokens / w->g.page_tokens; p++) {
		if (below(w, 2)) {
			recode(w, 0, 0, w->g.kv_heads, p,
			       stored_formats[only < 0 ? below(w, FORMATS) : (uint32_t)only]);
			continue;
		}
		for (uint32_t h = 0; h < w->g.kv_heads; h++)
			recode(w, 0, h, 1, p, stored_formats[only < 0 ? below(w, FORMATS) : (uint32_t)only]);
	}
}

/* Each page: left out, whole, with bounds, or with a mask (which may select nothing of it). */
static void make_plan(struct world *w)
{
	struct ikv_plan *p = &w->plan;
	uint32_t leave_out = below(w, 4);
	p->count = p->mask_used = 0;
	for (uint32_t i = 0; i < w->pages; i++) {
		uint32_t left = w->tokens - i * w->g.page_tokens;
		uint32_t n = left < w->g.page_tokens ? left : w->g.page_tokens, how = below(w, 3);
		if (leave_out == 3 || (leave_out && below(w, 2)))
			continue;
		struct ikv_page_ref ref = {.page = i, .hi = (uint16_t)n, .mask = IKV_NO_MASK};
		if (how) {
			ref.lo = (uint16_t)below(w, n);
			ref.hi = (uint16_t)(ref.lo + 1 + below(w, n - ref.lo));
		}
		if (how == 2) {
			ref.mask = p->mask_used;
			for (uint32_t k = 0; k < p->mask_words; k++)
				p->masks[p->mask_used++] = ikv_rng_u64(&w->r);
		}
		p->pages[p->count++] = ref;
	}
}

static bool taken(const struct ikv_plan *p, const struct ikv_page_ref *ref, uint32_t t)
{
	if (t < ref->lo || t >= ref->hi)
		return false;
	return ref->mask == IKV_NO_MASK || (p->masks[ref->mask + t / 64] >> (t % 64) & 1);
}

/* Independent softmax of one head in double; returns the log-sum-exp. */
static double reference(const struct world *w, uint32_t head, double *out, double *mass)
{
	const struct ikv_geometry *g = &w->g;
	double top = -INFINITY, sum = 0, *s = calloc(w->tokens, sizeof *s);
	uint32_t h = head / (g->q_heads / g->kv_heads);
	for (uint32_t pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < w->plan.count; i++) {
			const struct ikv_page_ref *ref = &w->plan.pages[i];
			mass[i] = 0;
			for (uint32_t t = 0; t < g->page_tokens; t++) {
				uint32_t at = ref->page * g->page_tokens + t;
				if (!taken(&w->plan, ref, t))
					continue;
				if (pass) {
					s[at] = exp(s[at] - top);
					sum += s[at];
					mass[i] += s[at];
					continue;
				}
				for (uint32_t d = 0; d < g->d_qk; d++)
					s[at] += (double)w->q[(size_t)head * g->d_qk + d] *
						 w->k[((size_t)at * g->kv_heads + h) * g->d_qk + d];
				s[at] *= g->scale;
				top = fmax(top, s[at]);
			}
		}
	}
	memset(out, 0, g->d_v * sizeof *out);
	for (uint32_t i = 0; i < w->plan.count; i++) {
		mass[i] = sum > 0 ? mass[i] / sum : 0;
		for (uint32_t t = 0; t < g->page_tokens; t++) {
			uint32_t at = w->plan.pages[i].page * g->page_tokens + t;
			for (uint32_t d = 0; taken(&w->plan, &w->plan.pages[i], t) && d < g->d_v; d++)
				out[d] += s[at] / sum * w->v[((size_t)at * g->kv_heads + h) * g->d_v + d];
		}
	}
	free(s);
	return sum > 0 ? top + log(sum) : -INFINITY;
}

struct answer {
	float *out, *lse, *mass;
};

static struct answer decode(struct world *w, uint32_t first, uint32_t count)
{
	struct ikv_err err;
	struct answer a = {calloc((size_t)count * w->g.d_v, 4), calloc(count, 4),
			   calloc((size_t)count * (w->plan.count + 1), 4)};
	struct ikv_attn_unit u = {.seq = 1,
				  .q_first = first,
				  .q_count = count,
				  .plan = &w->plan,
				  .q = w->q + (size_t)first * w->g.d_qk,
				  .out = a.out,
				  .lse = a.lse,
				  .mass = a.mass};
	memset(a.out, 0x7f, (size_t)count * w->g.d_v * 4);
	ck_assert_msg(w->b->ops->decode(w->b, &u, 1, &err) == 0, "%s", err.text);
	return a;
}

static void free_answer(struct answer a)
{
	free(a.out);
	free(a.lse);
	free(a.mass);
}

/* docs/formats.md: absolute tolerances on outputs, log-sum-exp and mass for rows of unit variance. */
static void compare(const struct world *w, struct answer a, uint32_t first, uint32_t count, double tolerance)
{
	struct ikv_backend_stats stats;
	w->b->ops->stats(w->b, &stats);
	const bool halves = stats.isa && (!strcmp(stats.isa, "avx512bf16") || !strcmp(stats.isa, "avx512vbmi"));
	if (w->half && !w->g.v_aliases_k && halves)
		tolerance = 4e-3;
	if (w->rounded > 0 && !w->g.v_aliases_k && stats.isa &&
	    (!strncmp(stats.isa, "avx512", 6) || (w->rounded > 4e-3 && !strcmp(stats.isa, "avx2"))))
		tolerance = w->rounded;
	double *out = calloc(w->g.d_v, sizeof *out), *mass = calloc(w->plan.count + 1, sizeof *mass);
	for (uint32_t h = 0; h < count; h++) {
		double lse = reference(w, first + h, out, mass);
		if (isinf(lse))
			ck_assert(a.lse[h] == -INFINITY);
		else
			ck_assert_double_le(fabs(a.lse[h] - lse), tolerance);
		for (uint32_t d = 0; d < w->g.d_v; d++)
			ck_assert_msg(fabs(a.out[h * w->g.d_v + d] - out[d]) <= tolerance,
				      "head %u channel %u: %g, expected %g", first + h, d, a.out[h * w->g.d_v + d],
				      out[d]);
		for (uint32_t i = 0; i < w->plan.count; i++)
			ck_assert_double_le(fabs(a.mass[(size_t)h * w->plan.count + i] - mass[i]), tolerance);
	}
	free(out);
	free(mass);
}

static struct ikv_geometry random_geometry(struct world *w)
{
	struct ikv_geometry g = {.layers = 1, .kv_heads = 1 + below(w, 3), .page_tokens = 1 + below(w, 128)};
	g.q_heads = g.kv_heads * (1 + below(w, below(w, 4) ? 8 : 16));
	g.d_qk = 1 + below(w, below(w, 8) ? 150 : 400);
	g.d_v = below(w, 2) ? g.d_qk : 1 + below(w, 150);
	g.scale = 1 / sqrtf((float)g.d_qk);
	return g;
}

static void random_shapes(const struct ikv_backend_ops *ops, const char *isa, double tolerance)
{
	for (uint64_t n = 0; n < 1000; n++) {
		struct world w;
		ikv_rng_stream(&w.r, n, IKV_STREAM_TEST, 5, 0);
		struct ikv_geometry g = random_geometry(&w);
		open_world(&w, ops, isa, 1, g, n % 10 ? 1 + below(&w, 200) : 1);
		mix_formats(&w, n % 3 ? (int)(n / 3 % FORMATS) : -1);
		make_plan(&w);
		uint32_t first = below(&w, g.q_heads), count = 1 + below(&w, g.q_heads - first);
		if (n % 2) {
			first = 0;
			count = g.q_heads;
		}
		struct answer a = decode(&w, first, count);
		compare(&w, a, first, count, tolerance);
		free_answer(a);
		close_world(&w);
	}
}

START_TEST(ref_agrees)
{
	random_shapes(&ikv_backend_ref, "auto", 2e-6);
}
END_TEST

START_TEST(cpu_agrees)
{
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	ck_assert_str_eq(isas[count - 1].name, "scalar");
	if ((uint32_t)_i < count && isas[_i].usable)
		random_shapes(&ikv_backend_cpu, isas[_i].name, 5e-5);
}
END_TEST

/* Contexts long enough that kernels may round queries and weights, a few tokens far ahead of the rest. */
START_TEST(long_contexts_agree)
{
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	for (int n = 0; n < 4 * 2 * (FORMATS + 1); n++) {
		struct world w;
		uint32_t i = (uint32_t)n % count;
		if (!isas[i].usable)
			continue;
		ikv_rng_stream(&w.r, 76, IKV_STREAM_TEST, (uint64_t)n, 0);
		struct ikv_geometry g = {
		    1, 4, 1, 128, 128, false, n % 3 == 0 ? 50 : n % 3 == 1 ? 16 : 32, 1 / sqrtf(128)};
		open_world(&w, &ikv_backend_cpu, isas[i].name, 1, g, 1000 + below(&w, 2000));
		for (uint32_t d = 0; d < 128 && n % 2; d++) /* the second head points to a late token */
			w.q[128 + d] = w.k[(w.tokens - 20) * 128 + d] * 0.9f;
		mix_formats(&w, n / 4 % (FORMATS + 1) - 1);
		for (uint32_t p = 0; p < w.pages; p++) {
			uint32_t left = w.tokens - p * g.page_tokens;
			w.plan.pages[w.plan.count++] =
			    (struct ikv_page_ref){.page = p,
						  .hi = (uint16_t)(left < g.page_tokens ? left : g.page_tokens),
						  .mask = IKV_NO_MASK};
		}
		struct answer a = decode(&w, 0, 4);
		compare(&w, a, 0, 4, 5e-5);
		free_answer(a);
		close_world(&w);
	}
}
END_TEST

START_TEST(v_may_alias_k)
{
	for (int f = 0; f < FORMATS; f++) {
		struct world w;
		ikv_rng_stream(&w.r, 77, IKV_STREAM_TEST, (uint64_t)f, 0);
		struct ikv_geometry g = {1, 16, 1, 576, 512, true, 16, 1 / sqrtf(192)};
		struct ikv_backend_stats stats;
		open_world(&w, &ikv_backend_cpu, "auto", 2, g, 70);
		mix_formats(&w, f);
		w.b->ops->stats(w.b, &stats);
		ck_assert_uint_eq(stats.bytes_stored, 4 * ikv_format_bytes(stored_formats[f], IKV_SIDE_K, 16, 576) +
							  ikv_format_bytes(IKV_FMT_FP16, IKV_SIDE_K, 16, 576));
		for (uint32_t t = 0; t < w.tokens; t++)
			memcpy(w.v + t * g.d_v, w.k + t * g.d_qk, 4 * g.d_v);
		make_plan(&w);
		struct answer a = decode(&w, 0, 16);
		compare(&w, a, 0, 16, 2e-4);
		free_answer(a);
		close_world(&w);
	}
}
END_TEST

/* One key far ahead of the rest, scores of about ±1e30: its value is the answer. Pages of one format or (-1) of any. */
static void huge_scores_of(const struct ikv_backend_ops *ops, const char *isa, int only)
{
	struct world w;
	ikv_rng_stream(&w.r, 78, IKV_STREAM_TEST, (uint64_t)(only + 1), 0);
	struct ikv_geometry g = {1, 3, 1, 40, 40, false, 16, 1};
	open_world(&w, ops, isa, 1, g, 90);
	mix_formats(&w, only);
	for (uint32_t p = 0; p < w.pages; p++)
		w.plan.pages[w.plan.count++] =
		    (struct ikv_page_ref){.page = p, .hi = p < 5 ? 16 : 10, .mask = IKV_NO_MASK};
	for (uint32_t j = 0; j < 3 * 40; j++)
		w.q[j] *= 1e30f;
	struct answer a = decode(&w, 0, 3);
	for (uint32_t h = 0; h < 3; h++) {
		double out[40], mass[6], lse = reference(&w, h, out, mass);
		ck_assert_double_le(fabs(a.lse[h] / lse - 1), 1e-5);
		for (uint32_t d = 0; d < 40; d++)
			ck_assert_double_le(fabs(a.out[h * 40 + d] - out[d]), 1e-5);
		for (uint32_t p = 0; p < 6; p++)
			ck_assert_double_le(fabs(a.mass[h * 6 + p] - mass[p]), 1e-5);
	}
	free_answer(a);
	w.q[3] = INFINITY;
	struct ikv_err err;
	float out[3 * 40];
	struct ikv_attn_unit u = {.seq = 1, .q_count = 3, .plan = &w.plan, .q = w.q, .out = out};
	ck_assert_int_eq(w.b->ops->decode(w.b, &u, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "query of head 0, channel 3 is not finite"));
	close_world(&w);
}

START_TEST(huge_scores)
{
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	for (int only = -1; only < FORMATS; only++) {
		huge_scores_of(&ikv_backend_ref, "auto", only);
		for (uint32_t i = 0; i < count; i++)
			if (isas[i].usable)
				huge_scores_of(&ikv_backend_cpu, isas[i].name, only);
	}
}
END_TEST

START_TEST(threads_do_not_change_bits)
{
	static const uint32_t threads[] = {1, 2, 3, 8};
	struct answer first = {0};
	struct ikv_geometry g = {1, 8, 2, 36, 36, false, 16, 1 / 6.0f};
	for (int i = 0; i < 4; i++) {
		struct world w;
		ikv_rng_stream(&w.r, 79, IKV_STREAM_TEST, 0, 0);
		open_world(&w, &ikv_backend_cpu, "auto", threads[i], g, 9000);
		mix_formats(&w, -1);
		do
			make_plan(&w);
		while (w.plan.count < 200); /* several pieces of 2048 tokens */
		struct answer a = decode(&w, 0, 8);
		if (i == 0) {
			compare(&w, a, 0, 8, 5e-5);
			first = a;
		} else {
			ck_assert_mem_eq(a.out, first.out, 8 * 36 * 4);
			ck_assert_mem_eq(a.lse, first.lse, 8 * 4);
			ck_assert_mem_eq(a.mass, first.mass, 8 * w.plan.count * 4);
			free_answer(a);
		}
		close_world(&w);
	}
	free_answer(first);
}
END_TEST

START_TEST(steady_state_does_not_allocate)
{
	const struct ikv_backend_ops *both[] = {&ikv_backend_ref, &ikv_backend_cpu};
	for (int i = 0; i < 2; i++) {
		struct world w;
		struct ikv_backend_stats before, after;
		uint64_t calls = 0;
		ikv_rng_stream(&w.r, 80, IKV_STREAM_TEST, 0, 0);
		open_world(&w, both[i], "auto", 2, (struct ikv_geometry){1, 4, 2, 64, 64, false, 16, 0.125f}, 1000);
		for (uint32_t p = 0; p < w.pages; p++)
			w.plan.pages[w.plan.count++] =
			    (struct ikv_page_ref){.page = p, .hi = p < 62 ? 16 : 8, .mask = IKV_NO_MASK};
		w.b->ops->stats(w.b, &before);
		for (int round = 0; round < 4; round++) {
			for (int f = 4; f >= 0; f--) {
				for (uint32_t p = 0; p < w.pages - 1; p++)
					recode(&w, 0, 0, 2, p, stored_formats[f]);
				free_answer(decode(&w, 0, 4));
			}
			if (round == 0)
				calls = ikv_alloc_count();
		}
		ck_assert_uint_eq(ikv_alloc_count(), calls);
		w.b->ops->stats(w.b, &after);
		ck_assert_uint_eq(after.bytes_stored, before.bytes_stored);
		ck_assert_uint_eq(after.pages_stored, 63 * 2);
		ck_assert_uint_eq(after.recodes, before.recodes + 62 * 2 * (4 * 5 - 1) + 62 * 2);
		w.b->ops->release(w.b, 1);
		w.b->ops->stats(w.b, &after);
		ck_assert_uint_eq(after.bytes_stored, 0);
		ck_assert_uint_eq(after.pages_stored, 0);
		close_world(&w);
	}
}
END_TEST

START_TEST(pages_open_close_and_come_back)
{
	struct world w;
	struct ikv_err err;
	struct ikv_backend_stats stats;
	ikv_rng_stream(&w.r, 81, IKV_STREAM_TEST, 0, 0);
	open_world(&w, &ikv_backend_cpu, "auto", 1, (struct ikv_geometry){1, 4, 2, 32, 32, false, 16, 0.2f}, 40);
	const struct ikv_backend_ops *ops = w.b->ops;
	ck_assert_int_eq(ops->recode(w.b, 1, 0, 0, 2, 2, IKV_FMT_INT8, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "page 2 is still open"));
	ck_assert_int_eq(ops->recode(w.b, 1, 0, 0, 2, 3, IKV_FMT_INT8, &err), -1);
	ck_assert_int_eq(ops->recode(w.b, 1, 0, 1, 2, 0, IKV_FMT_INT8, &err), -1);
	ck_assert_int_eq(ops->recode(w.b, 1, 0, 0, 2, 0, IKV_FMT_SKIP, &err), -1);
	/* INT4 in two steps is the INT4 of one. */
	recode(&w, 0, 0, 2, 0, IKV_FMT_INT4);
	ck_assert_int_eq(ops->recode(w.b, 1, 0, 0, 2, 1, IKV_FMT_INT4_RESIDUAL, &err), 0);
	recode(&w, 0, 0, 2, 1, IKV_FMT_INT4);
	make_plan(&w);
	struct answer a = decode(&w, 0, 4);
	compare(&w, a, 0, 4, 5e-5);
	free_answer(a);
	/* A cut through a compressed page needs its exact rows first. */
	ck_assert_int_eq(ops->truncate(w.b, 1, 20, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "only an FP16 page can be cut open"));
	uint16_t k[2 * 16 * 32], v[2 * 16 * 32];
	for (uint32_t h = 0; h < 2; h++)
		for (uint32_t t = 0; t < 16; t++) {
			size_t from = ((16 + t) * 2 + h) * 32, to = (h * 16 + t) * 32;
			memcpy(k + to, w.k_half + from, 64);
			memcpy(v + to, w.v_half + from, 64);
			for (uint32_t d = 0; d < 32; d++) {
				w.k[from + d] = ikv_fp16_to_float(k[to + d]);
				w.v[from + d] = ikv_fp16_to_float(v[to + d]);
			}
		}
	ck_assert_int_eq(ops->restore(w.b, 1, 0, 0, 2, 1, IKV_FMT_FP16, k, v, &err), 0);
	ck_assert_int_eq(ops->truncate(w.b, 1, 20, &err), 0);
	ops->stats(w.b, &stats);
	ck_assert_uint_eq(stats.pages_stored, 4);
	ck_assert_int_eq(ops->append(w.b, 1, 0, 20, w.k_half + 20 * 64, w.v_half + 20 * 64, &err), 0);
	make_plan(&w);
	a = decode(&w, 0, 4);
	compare(&w, a, 0, 4, 5e-5);
	free_answer(a);
	/* What is read is counted as stored, scales included: page 0 once, 5 tokens of page 1. */
	ops->stats(w.b, &stats);
	uint64_t before = stats.kv_bytes_read;
	w.plan.pages[0] = (struct ikv_page_ref){.page = 0, .hi = 16, .mask = IKV_NO_MASK};
	w.plan.pages[1] = (struct ikv_page_ref){.page = 1, .lo = 3, .hi = 8, .mask = IKV_NO_MASK};
	w.plan.count = 2;
	free_answer(decode(&w, 0, 4));
	ops->stats(w.b, &stats);
	ck_assert_uint_eq(stats.kv_bytes_read - before, 4 * (16 * 20 + 5 * 64));
	w.plan.pages[1] = (struct ikv_page_ref){.page = 2, .hi = 9, .mask = IKV_NO_MASK};
	float out[4 * 32];
	struct ikv_attn_unit u = {.seq = 1, .q_count = 4, .plan = &w.plan, .q = w.q, .out = out};
	ck_assert_int_eq(ops->decode(w.b, &u, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "page 2, tokens [0, 9): sequence 1, layer 0 has 40 tokens"));
	close_world(&w);
}
END_TEST

START_TEST(unknown_isa_is_an_error)
{
	struct ikv_backend *b;
	struct ikv_err err;
	struct ikv_geometry g = {1, 1, 1, 8, 8, false, 16, 1};
	struct ikv_backend_config config = {.threads = 1, .isa = "mmx", .sequences = 1};
	ck_assert_int_eq(ikv_backend_cpu.open(&b, &g, &config, &err), -1);
	ck_assert_int_eq(err.status, IKV_UNAVAILABLE);
	ck_assert_ptr_nonnull(strstr(err.text, "mmx: no ISA of that name"));
	ck_assert_ptr_nonnull(strstr(err.text, "scalar"));
	ck_assert_int_eq(ikv_isa_select("mmx", &err), -1);
	ck_assert_int_eq(err.status, IKV_UNAVAILABLE);
	config.isa = "scalar";
	struct ikv_backend_stats stats;
	ck_assert_int_eq(ikv_backend_cpu.open(&b, &g, &config, &err), 0);
	b->ops->stats(b, &stats);
	ck_assert_str_eq(stats.isa, "scalar");
	b->ops->close(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("attn");
	TCase *t = tcase_create("attn");
	tcase_set_timeout(t, 300);
	tcase_add_test(t, ref_agrees);
	tcase_add_loop_test(t, cpu_agrees, 0, 4); /* one an ISA */
	tcase_add_test(t, long_contexts_agree);
	tcase_add_test(t, v_may_alias_k);
	tcase_add_test(t, huge_scores);
	tcase_add_test(t, threads_do_not_change_bits);
	tcase_add_test(t, steady_state_does_not_allocate);
	tcase_add_test(t, pages_open_close_and_come_back);
	tcase_add_test(t, unknown_isa_is_an_error);
	suite_add_tcase(s, t);
	return tap_run(s);
}

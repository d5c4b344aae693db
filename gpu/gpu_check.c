/* The backend `cuda` against `ref`, in double precision, on random cases: shapes, formats, plans, batches, tiers; pages
 * as it stores them against the engine's store, and chosen pages against the CPU's choice, bit for bit.
 * gpu_check [-n CASES] [-w WORLDS] [-s SEED] [-q] [-g heads|mla|select] [-i ISA] [FORMAT...]: CASES a format (2000);
 * WORLDS of pages for the comparison with the store (100); -q: at most 48 tokens and 8 query heads a KV
 * head, for compute-sanitizer; -g: K and V of heads, latent rows (MLA), or the choice of pages alone, instead of all;
 * -i: as INTENTKV_ISA.
 * Exit code 0, 1 for a case outside the tolerance or that the device does not end, 77 without a device. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "gpu/gpu.h"
#include "gpu/gpu_tile.h"
#include "gpu/mla_tile.h"
#include "gpu/select_check.h"
#include "gpu/store_check.h"

#define MIXED GPU_FORMATS
#define PLANS 8    /* cases of one world */
#define MASS  5e-5 /* tolerance of mass */
#define LSE   2e-4 /* of log-sum-exp, times 1 + |lse|/16 */
#define LIMIT 300u /* seconds for a call on the device: milliseconds, and with compute-sanitizer a thousand times that */

struct world {
	struct ikv_geometry g;
	struct ikv_backend *b[2]; /* ref, cuda */
	struct ikv_rng r;
	uint32_t tokens[2]; /* of each sequence */
	double largest[2];  /* value in V */
	float k_size[2];
	bool latent; /* V aliases K */
	bool small, huge; /* huge: the largest FP16 number occurs in V */
	const char *isa;
	int format;
	uint32_t formats; /* of a mixture, a bit each */
};

struct tally {
	double out, lse, mass; /* worst, in units of the tolerance */
	uint64_t cases, failed, units, pages, empty, single, masked, rows;
};

static struct ikv_err err;

static void die(const char *what)
{
	fprintf(stderr, "gpu_check: %s: %s\n", what, err.text);
	exit(1);
}

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&w->r, n);
}

static uint32_t one_of(struct world *w, const uint32_t *list, uint32_t n)
{
	return list[below(w, n)];
}

/* `huge`: the largest FP16 number occurs, which in BF16 is none. */
static uint16_t *random_rows(struct world *w, size_t n, float amplitude, bool huge, double *largest)
{
	uint16_t *rows = malloc(2 * n + 2);
	for (size_t i = 0; i < n; i++) {
		rows[i] = ikv_fp16_from_float((float)ikv_rng_normal(&w->r) * amplitude);
		if (huge && below(w, 1000) == 0)
			rows[i] = 0x7bff;
		if (largest)
			*largest = fmax(*largest, fabs(ikv_fp16_to_float(rows[i])));
	}
	return rows;
}

static void draw_latent_geometry(struct world *w, bool small)
{
	static const uint32_t heads[] = {1, 8, 16, 16, 64, 128, 128}, pages[] = {8, 16, 16, 24, 64, 64, 128};
	uint32_t kv = below(w, 8) ? 1 : 2, group = below(w, 8) ? one_of(w, heads, small ? 4 : 7) : 1 + below(w, small ? 80 : 160);
	w->g = (struct ikv_geometry){.layers = 1,
				     .q_heads = group * kv,
				     .kv_heads = kv,
				     .d_qk = 576,
				     .d_v = 512,
				     .v_aliases_k = true,
				     .page_tokens = one_of(w, pages, 7),
				     .scale = 0.0721688f}; /* 1/sqrt(192) */
	if (below(w, 16) == 0) { /* other widths */
		w->g.d_qk = 1 + below(w, 576);
		w->g.d_v = 1 + below(w, w->g.d_qk < 512 ? w->g.d_qk : 512);
		w->g.scale = below(w, 2) ? -0.1f : 1 / sqrtf((float)w->g.d_qk);
	}
}

/* Formats that a mixture is drawn from: all, the first five, or any. */
static void draw_formats(struct world *w)
{
	uint32_t all = (1u << (w->latent ? MLA_FORMATS : GPU_FORMATS)) - 2, first = (1u << MLA_FORMATS) - 2, kind = below(w, 3);
	w->formats = kind == 0 ? all : kind == 1 ? first : all & ((uint32_t)ikv_rng_below(&w->r, 1u << GPU_FORMATS));
	w->formats = w->formats ? w->formats : all;
}

static void draw_geometry(struct world *w, bool small)
{
	if (w->latent) {
		draw_latent_geometry(w, small);
		return;
	}
	static const uint32_t dims[] = {64, 80, 96, 128, 128, 256}, pages[] = {8, 16, 16, 24, 32, 64, 128};
	uint32_t group = 1 + below(w, small ? 8 : 16), kv = 1 + below(w, small ? 2 : 4);
	w->g = (struct ikv_geometry){.layers = 1 + below(w, 2),
				     .q_heads = group * kv,
				     .kv_heads = kv,
				     .d_qk = one_of(w, dims, 6),
				     .page_tokens = one_of(w, pages, 7)};
	w->g.d_v = below(w, 8) ? w->g.d_qk : one_of(w, dims, 6);
	if (below(w, 16) == 0) { /* odd widths */
		w->g.d_qk = 1 + below(w, 256);
		w->g.d_v = 1 + below(w, 256);
	}
	w->g.scale = 1 / sqrtf((float)w->g.d_qk);
}

static enum ikv_format draw_format(struct world *w)
{
	uint32_t f = (uint32_t)w->format;
	while (w->format == MIXED && (f == MIXED || !(w->formats >> f & 1)))
		f = 1 + below(w, GPU_FORMATS - 1);
	return (enum ikv_format)f;
}

static void append(struct world *w, uint32_t seq, uint32_t layer, uint32_t tokens, float k_size, float v_size)
{
	double *of_v = w->latent ? NULL : &w->largest[seq], *of_k = w->latent ? &w->largest[seq] : NULL;
	while (tokens) {
		uint32_t n = 1 + below(w, tokens);
		uint16_t *k = random_rows(w, (size_t)n * w->g.kv_heads * w->g.d_qk, k_size, false, of_k);
		uint16_t *v = random_rows(w, (size_t)n * w->g.kv_heads * w->g.d_v, v_size, w->huge, of_v);
		for (int i = 0; i < 2; i++)
			if (w->b[i]->ops->append(w->b[i], seq, layer, n, k, v, &err))
				die("append");
		free(k);
		free(v);
		tokens -= n;
	}
}

/* Closed pages to their formats: re-encoded from what is stored, or from fresh rows. */
static void store_pages(struct world *w, uint32_t seq, uint32_t layer, float k_size, float v_size)
{
	const struct ikv_geometry *g = &w->g;
	for (uint32_t page = 0; page < w->tokens[seq] / g->page_tokens; page++) {
		uint32_t first = below(w, g->kv_heads), n = 1 + below(w, g->kv_heads - first), step = below(w, 3);
		if (below(w, 2)) {
			first = 0;
			n = g->kv_heads;
		}
		enum ikv_format f = draw_format(w);
		if (step == 0) {
			double *of_v = w->latent ? NULL : &w->largest[seq], *of_k = w->latent ? &w->largest[seq] : NULL;
			uint16_t *k = random_rows(w, (size_t)n * g->page_tokens * g->d_qk, k_size, false, of_k);
			uint16_t *v = random_rows(w, (size_t)n * g->page_tokens * g->d_v, v_size, w->huge, of_v);
			for (int i = 0; i < 2; i++)
				if (w->b[i]->ops->restore(w->b[i], seq, layer, first, n, page, f, k, v, &err))
					die("restore");
			free(k);
			free(v);
			continue;
		}
		for (int i = 0; i < 2; i++)
			if ((step == 2 && w->b[i]->ops->recode(w->b[i], seq, layer, first, n, page,
							       IKV_FMT_INT4_RESIDUAL, &err)) ||
			    w->b[i]->ops->recode(w->b[i], seq, layer, first, n, page, f, &err))
				die("recode");
	}
}

/* `length`: tokens of the first sequence, 0: random shapes. */
static void open_world(struct world *w, bool small, uint32_t length)
{
	static const float k_sizes[] = {1, 1, 0.1f, 3}, v_sizes[] = {1, 1, 1e-3f, 300};
	const struct ikv_backend_ops *ops[2] = {&ikv_backend_ref, gpu_backend()};
	struct ikv_backend_config config = {.threads = 1, .isa = w->isa, .sequences = 2};
	draw_geometry(w, small);
	draw_formats(w);
	w->small = small;
	w->huge = !w->latent && !length && below(w, 16) == 0;
	if (length)
		w->g = (struct ikv_geometry){.layers = 1,
					     .q_heads = 4,
					     .kv_heads = 1,
					     .d_qk = 64,
					     .d_v = 64,
					     .page_tokens = 64,
					     .scale = 0.125f};
	w->largest[0] = w->largest[1] = 0;
	for (int i = 0; i < 2; i++)
		if (ops[i]->open(&w->b[i], &w->g, &config, &err))
			die("open");
	for (uint32_t seq = 0; seq < 2; seq++) {
		float k_size = k_sizes[below(w, 4)], v_size = v_sizes[below(w, 4)];
		uint32_t cut = 0, most = small ? 48 : below(w, 12) ? 500 : 3000;
		w->k_size[seq] = k_size;
		/* The reference reads a latent row for every head. */
		w->tokens[seq] = 1 + below(w, w->latent && w->g.q_heads > 16 ? most / 3 : most);
		if (length && seq == 0)
			w->tokens[seq] = length;
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			append(w, seq, layer, w->tokens[seq], k_size, v_size);
		if (below(w, 2)) { /* roll back, then go on */
			cut = 1 + below(w, w->tokens[seq]);
			for (int i = 0; i < 2; i++)
				if (w->b[i]->ops->truncate(w->b[i], seq, w->tokens[seq] - cut, &err))
					die("truncate");
			for (uint32_t layer = 0; layer < w->g.layers; layer++)
				append(w, seq, layer, cut, k_size, v_size);
		}
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			store_pages(w, seq, layer, k_size, v_size);
	}
}

static void close_world(struct world *w)
{
	struct ikv_backend_stats a, b;
	for (uint32_t seq = 0; seq < 2; seq++)
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			for (uint32_t page = 0; page < ikv_pages(w->tokens[seq], w->g.page_tokens); page++)
				for (uint32_t h = 0; h < w->g.kv_heads; h++)
					if (w->b[0]->ops->format(w->b[0], seq, layer, h, page) !=
					    w->b[1]->ops->format(w->b[1], seq, layer, h, page)) {
						fprintf(stderr, "gpu_check: formats differ\n");
						exit(1);
					}
	w->b[0]->ops->stats(w->b[0], &a);
	w->b[1]->ops->stats(w->b[1], &b);
	if (a.kv_bytes_read != b.kv_bytes_read || a.bytes_stored != b.bytes_stored ||
	    a.pages_stored != b.pages_stored || a.recodes != b.recodes || a.recoded_bytes != b.recoded_bytes) {
		fprintf(stderr, "gpu_check: statistics differ\n");
		exit(1);
	}
	for (int i = 0; i < 2; i++)
		w->b[i]->ops->close(w->b[i]);
}

static void draw_plan(struct world *w, struct ikv_plan *plan, uint32_t tokens, struct tally *t)
{
	uint32_t kind = below(w, 10), at = 0;
	if (ikv_plan_init(plan, w->g.page_tokens, ikv_pages(tokens, w->g.page_tokens), &err))
		die("plan");
	ikv_plan_reset(plan, tokens);
	if (kind == 0) {
		t->empty++;
		return;
	}
	if (kind == 1) {
		at = below(w, tokens);
		ikv_plan_add(plan, at, at + 1, IKV_FMT_FP16, 0);
		t->single++;
		return;
	}
	if (kind == 2) {
		ikv_plan_add(plan, 0, tokens, IKV_FMT_FP16, 0);
		return;
	}
	uint32_t gap = 1 + below(w, kind < 6 ? 4 : 100), run = 1 + below(w, kind < 6 ? 20 : 200);
	for (at = below(w, gap); at < tokens;) {
		uint32_t end = at + 1 + below(w, run);
		end = end < tokens ? end : tokens;
		ikv_plan_add(plan, at, end, IKV_FMT_FP16, 0);
		at = end + 1 + below(w, gap);
	}
	t->masked += plan->mask_used != 0;
	t->pages += plan->count;
}

static double worst(const float *a, const float *b, size_t n, double size)
{
	double most = 0;
	for (size_t i = 0; i < n; i++) {
		double d =
		    a[i] == b[i] ? 0 : fabs((double)a[i] - b[i]) / size; /* equal infinities differ by nothing */
		most = d <= most ? most : d == d ? d : INFINITY;
	}
	return most;
}

/* Of outputs, in units of V's largest value. Weights of FP16, BF16 and SPARSE pages are not rounded; those of others are, to FP16,
 * and where 4-bit codes have a remainder, twice. Latent attention rounds every weight and every code's value. */
static double output_tolerance(int format, bool latent)
{
	if (latent)
		return 1e-3;
	bool exact = format == IKV_FMT_FP16 || format == IKV_FMT_BF16 || format == IKV_FMT_SPARSE;
	return exact ? 5e-5 : format == IKV_FMT_INT4_RESIDUAL || format == MIXED ? 2e-3 : 1e-3;
}

/* Latent attention rounds queries to FP16, and the values of codes: four standard deviations and more of what that
 * does to scores, which themselves have one of q · k · scale · sqrt(d). A product by itself may be ten of its own. */
static double score_rounding(const struct world *w, uint32_t seq, float q_size, bool exact)
{
	if (!w->latent || (exact && w->format == IKV_FMT_FP16))
		return 0;
	return 2e-3 * q_size * w->k_size[seq] * fabsf(w->g.scale) * (sqrtf((float)w->g.d_qk) + 6);
}

/* Where the worst value of two rows of outputs is. */
static void locate(const struct world *w, const struct ikv_attn_unit *a, const struct ikv_attn_unit *b, uint32_t unit)
{
	size_t at = 0, n = (size_t)a->q_count * w->g.d_v, bad = 0;
	double most = -1;
	for (size_t i = 0; i < n; i++) {
		double d = fabs((double)a->out[i] - b->out[i]);
		bad += !(d <= 1e-3 * w->largest[a->seq]);
		if (!(d <= most)) {
			most = d;
			at = i;
		}
	}
	fprintf(stderr,
		"  unit %u: %zu of %zu outputs off; head %zu, channel %zu: %g, expected %g; lse %g, expected %g; %u pages, "
		"%u tokens, heads %u+%u, %s\n",
		unit, bad, n, at / w->g.d_v, at % w->g.d_v, b->out[at], a->out[at], b->lse[at / w->g.d_v],
		a->lse[at / w->g.d_v], a->plan->count, (unsigned)a->plan->selected_tokens, a->q_first, a->q_count,
		a->mass ? "mass" : "no mass");
}

/* Pages of the case come to lie in the host tier, are on their way from there, or are read through. */
static void place_pages(struct world *w)
{
	const struct ikv_geometry *g = &w->g;
	uint32_t seq = below(w, 2), layer = below(w, g->layers), pages = ikv_pages(w->tokens[seq], g->page_tokens);
	for (uint32_t i = below(w, 2) ? below(w, 40) : 0; i > 0 && pages; i--) {
		uint32_t first = below(w, g->kv_heads), n = 1 + below(w, g->kv_heads - first);
		if (w->b[1]->ops->place(w->b[1], seq, layer, first, n, below(w, pages), (enum ikv_place)below(w, 3), &err))
			die("place");
	}
}

/* A kernel that waits for what never comes would otherwise say nothing, not even which case it was. */
static char waited_for[200];

static void give_up(int signal)
{
	(void)signal;
	(void)!write(STDERR_FILENO, waited_for, strlen(waited_for));
	_exit(1);
}

static int decode_in_time(struct world *w, const struct ikv_attn_unit *units, uint32_t n)
{
	const struct ikv_geometry *g = &w->g;
	snprintf(waited_for, sizeof waited_for,
		 "gpu_check: %s%s: no answer in %u s: %u/%u heads, d %u/%u, pages of %u, tokens %u and %u, %u units%s\n",
		 w->latent ? "MLA " : "", w->format == MIXED ? "mixed" : ikv_format_names()[w->format], LIMIT, g->q_heads,
		 g->kv_heads, g->d_qk, g->d_v, g->page_tokens, w->tokens[0], w->tokens[1], n, units->mass ? ", mass" : "");
	signal(SIGALRM, give_up);
	struct ikv_backend_stats before, after;
	w->b[1]->ops->stats(w->b[1], &before);
	alarm(LIMIT);
	int rc = w->b[1]->ops->decode(w->b[1], units, n, &err);
	alarm(0);
	w->b[1]->ops->stats(w->b[1], &after);
	if (rc == 0 && !(after.device_ns > before.device_ns && after.device_ns < before.device_ns + LIMIT * 1e9))
		return ikv_err_set(&err, IKV_FAILED, "attention took %g ns by the device's clock",
				   after.device_ns - before.device_ns);
	return rc;
}

/* One decode call of a few units on both backends. */
static void run_case(struct world *w, struct tally *t)
{
	const struct ikv_geometry *g = &w->g;
	struct ikv_plan plans[6];
	struct ikv_attn_unit units[2][6];
	bool is_long = w->tokens[0] > 1u << 16; /* double precision takes its time */
	uint32_t n = is_long ? 1 : 1 + below(w, w->small ? 3 : 6), group = g->q_heads / g->kv_heads;
	bool wants_mass = below(w, 2), by_head = below(w, 2), exact = w->latent && below(w, 2);
	double out = 0, lse = 0, mass = 0, rounding[6];
	for (uint32_t i = 0; i < n; i++) {
		uint32_t seq = is_long ? 0 : below(w, 2), layer = below(w, g->layers), first = 0, count = g->q_heads;
		if (by_head) { /* a plan of its own for each KV head */
			first = below(w, g->kv_heads) * group;
			count = group;
		} else if (below(w, 4) == 0) { /* any heads */
			first = below(w, g->q_heads);
			count = 1 + below(w, g->q_heads - first);
		}
		draw_plan(w, &plans[i], w->tokens[seq], t);
		bool shared = i && units[0][i - 1].seq == seq && below(w, 2);
		const struct ikv_plan *plan = shared ? units[0][i - 1].plan : &plans[i];
		/* several rows, as in the verification of drafts, each seeing no further than its position */
		uint32_t rows = is_long || w->latent || below(w, 4) ? 1 : 1 + below(w, w->small ? 4 : 16);
		size_t heads = (size_t)rows * count;
		uint32_t *positions = rows > 1 && below(w, 4) ? malloc(rows * sizeof *positions) : NULL;
		for (uint32_t k = 0; positions && k < rows; k++)
			positions[k] = below(w, 3)
					   ? w->tokens[seq] - 1 - below(w, w->tokens[seq] < 16 ? w->tokens[seq] : 16)
					   : below(w, w->tokens[seq]);
		t->rows += rows > 1;
		float *q = malloc(heads * g->d_qk * sizeof *q);
		float q_size = below(w, 4) ? 1 : below(w, 2) ? 0x1p-13f : 8;
		for (size_t k = 0; k < heads * g->d_qk; k++)
			q[k] = (exact ? ikv_fp16_to_float(ikv_fp16_from_float((float)ikv_rng_normal(&w->r)))
				      : (float)ikv_rng_normal(&w->r)) *
			       q_size;
		rounding[i] = score_rounding(w, seq, q_size, exact);
		for (int k = 0; k < 2; k++) {
			units[k][i] = (struct ikv_attn_unit){.seq = seq,
							     .layer = layer,
							     .q_first = first,
							     .q_count = count,
							     .q_len = rows,
							     .positions = positions,
							     .plan = plan,
							     .q = q,
							     .out = malloc(heads * g->d_v * sizeof(float)),
							     .lse = malloc(heads * sizeof(float))};
			memset(units[k][i].out, 0xff, heads * g->d_v * sizeof(float));
			if (wants_mass)
				units[k][i].mass = malloc(heads * plan->count * sizeof(float) + 4);
		}
	}
	place_pages(w);
	if (w->b[0]->ops->decode(w->b[0], units[0], n, &err) || decode_in_time(w, units[1], n))
		die("decode");
	for (uint32_t i = 0; i < n; i++) {
		struct ikv_attn_unit *a = &units[0][i], *b = &units[1][i];
		double size = w->largest[a->seq] * (output_tolerance(w->format, w->latent) + rounding[i]);
		size_t heads = (size_t)a->q_len * a->q_count;
		out = fmax(out, worst(a->out, b->out, heads * g->d_v, size));
		for (size_t h = 0; h < heads; h++)
			lse = fmax(lse, worst(&a->lse[h], &b->lse[h], 1,
					      rounding[i] + LSE * (1 + fabsf(isinf(a->lse[h]) ? 0 : a->lse[h]) / 16)));
		if (wants_mass)
			mass = fmax(mass, worst(a->mass, b->mass, heads * a->plan->count, MASS + rounding[i]));
	}
	if (!(out <= 1 && lse <= 1 && mass <= 1) && t->failed++ < 4) {
		fprintf(stderr,
			"gpu_check: %s%s: out %.3g lse %.3g mass %.3g times the tolerance: %u/%u heads, d %u/%u, pages "
			"of %u, tokens %u and %u\n",
			w->latent ? "MLA " : "", w->format == MIXED ? "mixed" : ikv_format_names()[w->format], out, lse,
			mass, g->q_heads, g->kv_heads, g->d_qk, g->d_v, g->page_tokens, w->tokens[0], w->tokens[1]);
		for (uint32_t i = 0; i < n; i++)
			if (units[0][i].q_count)
				locate(w, &units[0][i], &units[1][i], i);
	}
	t->out = fmax(t->out, out);
	t->lse = fmax(t->lse, lse);
	t->mass = fmax(t->mass, mass);
	t->cases++;
	t->units += n;
	for (uint32_t i = 0; i < n; i++) {
		ikv_plan_free(&plans[i]);
		free((float *)units[0][i].q);
		free((uint32_t *)units[0][i].positions);
		for (int k = 0; k < 2; k++) {
			free(units[k][i].out);
			free(units[k][i].lse);
			free(units[k][i].mass);
		}
	}
}

struct choice {
	uint64_t cases, seed, worlds;
	bool small, chosen[MIXED + 1], any;
	const char *geometry, *isa;
};

static bool check_all(const struct choice *c, bool latent)
{
	bool good = true;
	for (int f = 1; f <= MIXED; f++) {
		struct tally t = {0};
		struct world w = {.format = f, .latent = latent, .isa = c->isa};
		char name[40];
		if ((c->any && !c->chosen[f]) || (latent && f >= (int)MLA_FORMATS && f != MIXED))
			continue;
		ikv_rng_stream(&w.r, c->seed, 0x6770u, (uint64_t)f, latent);
		while (t.cases < c->cases) {
			/* the first of them over 2^20 tokens */
			open_world(&w, c->small, t.cases || c->small || latent ? 0 : 1u << 20);
			for (int i = 0; i < (w.tokens[0] > 1u << 16 ? 2 : PLANS) && t.cases < c->cases; i++)
				run_case(&w, &t);
			close_world(&w);
		}
		snprintf(name, sizeof name, "%s%s", latent ? "MLA " : "", f == MIXED ? "mixed" : ikv_format_names()[f]);
		printf("%-17s %6llu %6llu %7llu %6llu %6llu %6llu %6llu %*s %8.3f %8.3f %8.3f\n", name,
		       (unsigned long long)t.cases, (unsigned long long)t.units, (unsigned long long)t.pages,
		       (unsigned long long)t.empty, (unsigned long long)t.single, (unsigned long long)t.masked, (unsigned long long)t.rows, 29, "",
		       t.out, t.lse, t.mass);
		good = good && t.out <= 1 && t.lse <= 1 && t.mass <= 1;
		fflush(stdout);
	}
	return good;
}

int main(int argc, char **argv)
{
	struct choice c = {.cases = 2000, .seed = 1, .worlds = 100, .geometry = "", .isa = "auto"};
	for (int i = 1; i < argc; i++) {
		enum ikv_format f;
		if (!strcmp(argv[i], "-n") && i + 1 < argc)
			c.cases = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "-w") && i + 1 < argc)
			c.worlds = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "-s") && i + 1 < argc)
			c.seed = strtoull(argv[++i], NULL, 10);
		else if (!strcmp(argv[i], "-g") && i + 1 < argc)
			c.geometry = argv[++i];
		else if (!strcmp(argv[i], "-i") && i + 1 < argc)
			c.isa = argv[++i];
		else if (!strcmp(argv[i], "-q"))
			c.small = true;
		else if (!strcmp(argv[i], "mixed"))
			c.any = c.chosen[MIXED] = true;
		else if (ikv_format_by_name(argv[i], &f) == 0 && f != IKV_FMT_SKIP && f < GPU_FORMATS)
			c.any = c.chosen[f] = true;
		else {
			fprintf(stderr,
				"usage: gpu_check [-n CASES] [-w WORLDS] [-s SEED] [-q] [-g heads|mla|select] [-i ISA] "
				"[FORMAT|mixed]...\n");
			return 64;
		}
	}
	char why[500];
	if (!gpu_backend()->usable(why, sizeof why)) {
		printf("gpu_check: skipped: %s\n", why);
		return 77;
	}
	bool same = (!strcmp(c.geometry, "mla") || gpu_store_check(c.worlds, c.seed, false)) &&
		    (!strcmp(c.geometry, "heads") || gpu_store_check(c.worlds, c.seed, true));
	printf("%-17s %6s %6s %7s %6s %6s %6s %6s   worst error over tolerance: %8s %8s %8s\n", "format", "cases", "units",
	       "pages", "empty", "single", "masked", "q_len", "out", "lse", "mass");
	bool all = !*c.geometry, good = same;
	if (all || !strcmp(c.geometry, "heads"))
		good = check_all(&c, false) && good;
	if (all || !strcmp(c.geometry, "mla"))
		good = check_all(&c, true) && good;
	if ((all && !c.any) || !strcmp(c.geometry, "select"))
		good = select_check(c.cases, c.seed, c.small) && good;
	return good ? 0 : 1;
}

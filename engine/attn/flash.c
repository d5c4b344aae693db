#include <math.h>
#include "attn/crew.h"
#include "attn/flash.h"
#include "intentkv/alloc.h"

#define SPLITS_MAX   16   /* pieces a plan is cut into */
#define SPLIT_TOKENS 2048 /* a piece holds at least so many tokens */
#define INLINE_PAGES 32   /* below so many pages in all, waking threads costs more than they save */

/* The query heads of one unit that share a KV head. */
struct job {
	const struct ikv_attn_unit *unit;
	uint32_t kv_head, head, heads; /* head: the first one's index in the unit */
	uint32_t splits, split_pages;
	const float *q; /* [heads][q_stride], scaled, padded with zeros */
	float *acc;     /* [splits][heads][acc_stride] */
	double *sums;   /* [splits][heads][2]: largest score, sum of exponentials */
	float *shifts;  /* [heads][plan->count]: score that a page's mass is relative to; NULL without mass */
};

struct flash {
	struct ikv_geometry g;
	struct crew *crew;
	size_t q_stride, acc_stride, scratch_stride;
	struct job *jobs;
	float *q, *acc, *shifts, *scratch;
	double *sums;
	size_t jobs_cap, q_cap, acc_cap, shifts_cap, sums_cap;
	/* of the call now running */
	const struct micro_kernels *micro;
	flash_locate *locate;
	const void *source;
	uint32_t job_count;
	uint64_t pages; /* in all jobs */
	uint32_t members;
};

struct segment { /* consecutive tokens of one page in a block */
	struct flash_page page;
	uint32_t index, t0, n, at;
};

struct block {
	struct segment segments[MICRO_BLOCK];
	uint32_t count, tokens;
};

static size_t padded(uint32_t dim)
{
	return ((size_t)dim + MICRO_PAD - 1) / MICRO_PAD * MICRO_PAD;
}

int flash_create(struct flash **out, const struct ikv_geometry *g, uint32_t threads, struct ikv_err *err)
{
	struct flash *f = ikv_alloc(1, sizeof *f, err);
	if (!f)
		return -1;
	uint32_t group = g->q_heads / g->kv_heads, dim = g->d_qk > g->d_v ? g->d_qk : g->d_v;
	f->g = *g;
	f->q_stride = padded(g->d_qk);
	f->acc_stride = padded(g->d_v);
	f->scratch_stride = (size_t)group * MICRO_BLOCK + micro_scratch(dim, group) + 16;
	if (crew_create(&f->crew, threads, err) ||
	    !(f->scratch = ikv_alloc(crew_size(f->crew), f->scratch_stride * sizeof *f->scratch, err))) {
		flash_destroy(f);
		return -1;
	}
	*out = f;
	return 0;
}

void flash_destroy(struct flash *f)
{
	if (!f)
		return;
	crew_destroy(f->crew);
	ikv_free(f->jobs);
	ikv_free(f->q);
	ikv_free(f->acc);
	ikv_free(f->shifts);
	ikv_free(f->sums);
	ikv_free(f->scratch);
	ikv_free(f);
}

uint32_t flash_threads(const struct flash *f)
{
	return crew_size(f->crew);
}

static void apply_masks(const struct block *b, uint32_t heads, float *s)
{
	for (uint32_t k = 0; k < b->count; k++) {
		const struct segment *g = &b->segments[k];
		for (uint32_t i = 0; g->page.mask && i < g->n; i++) {
			uint32_t t = g->t0 + i;
			for (uint32_t h = 0; !(g->page.mask[t / 64] >> t % 64 & 1) && h < heads; h++)
				s[h * MICRO_BLOCK + g->at + i] = -INFINITY;
		}
	}
}

/* Scores of one head to weights; false if all tokens of the block are masked out. */
static bool weigh(const struct flash *f, const struct job *j, const struct block *b, uint32_t h, float *s,
		  double *sums, float *acc)
{
	float top = f->micro->peak(s, b->tokens), shift = (float)sums[0];
	if (top == -INFINITY) {
		memset(s, 0, b->tokens * sizeof *s);
		return false;
	}
	if (top > shift) {
		float factor = expf(shift - top);
		for (size_t d = 0; d < f->acc_stride; d++)
			acc[d] *= factor;
		sums[1] *= factor;
		sums[0] = shift = top;
	}
	for (uint32_t k = 0; k < b->count; k++) {
		const struct segment *g = &b->segments[k];
		float sum = f->micro->exp_sum(s + g->at, g->n, shift);
		sums[1] += sum;
		if (!j->shifts)
			continue;
		size_t pages = j->unit->plan->count;
		float *mass = j->unit->mass + (j->head + h) * pages + g->index;
		float *from = j->shifts + h * pages + g->index;
		*mass = *from == shift ? *mass + sum : *mass * expf(*from - shift) + sum;
		*from = shift;
	}
	return true;
}

static void attend_block(const struct flash *f, const struct job *j, struct block *b, float *s, float *scratch,
			 double *sums, float *acc)
{
	bool any = false;
	for (uint32_t k = 0; k < b->count; k++) {
		const struct segment *g = &b->segments[k];
		f->micro->format[g->page.format].qk(&g->page.k, g->t0, g->n, j->q, f->q_stride, j->heads, s + g->at,
						    scratch);
	}
	apply_masks(b, j->heads, s);
	for (uint32_t h = 0; h < j->heads; h++)
		any |= weigh(f, j, b, h, s + h * MICRO_BLOCK, sums + 2 * h, acc + h * f->acc_stride);
	for (uint32_t k = 0; any && k < b->count; k++) {
		const struct segment *g = &b->segments[k];
		f->micro->format[g->page.format].pv(&g->page.v, g->t0, g->n, s + g->at, j->heads, acc, f->acc_stride,
						    scratch);
	}
	b->count = b->tokens = 0;
}

static void attend_split(const struct flash *f, const struct job *j, uint32_t split, float *scratch)
{
	float *acc = j->acc + (size_t)split * j->heads * f->acc_stride;
	double *sums = j->sums + (size_t)split * j->heads * 2;
	float *s = scratch + micro_scratch(f->g.d_qk > f->g.d_v ? f->g.d_qk : f->g.d_v, f->g.q_heads / f->g.kv_heads);
	uint32_t all = j->unit->plan->count, first = split * j->split_pages;
	uint32_t last = all - first < j->split_pages ? all : first + j->split_pages;
	struct block b;
	b.count = b.tokens = 0;
	for (uint32_t h = 0; h < j->heads; h++) {
		sums[2 * h] = -INFINITY;
		sums[2 * h + 1] = 0;
		for (uint32_t i = first; j->shifts && i < last; i++) {
			j->unit->mass[(size_t)(j->head + h) * all + i] = 0;
			j->shifts[(size_t)h * all + i] = -INFINITY;
		}
	}
	memset(acc, 0, j->heads * f->acc_stride * sizeof *acc);
	for (uint32_t i = first; i < last; i++) {
		struct flash_page page;
		f->locate(f->source, j->unit, j->kv_head, i, &page);
		for (uint32_t t = page.lo; t < page.hi;) {
			uint32_t room = MICRO_BLOCK - b.tokens, n = page.hi - t < room ? page.hi - t : room;
			b.segments[b.count++] = (struct segment){page, i, t, n, b.tokens};
			b.tokens += n;
			t += n;
			if (b.tokens == MICRO_BLOCK)
				attend_block(f, j, &b, s, scratch, sums, acc);
		}
	}
	if (b.count)
		attend_block(f, j, &b, s, scratch, sums, acc);
}

/* Join the pieces of one head, in their order. */
static void join_head(const struct flash *f, const struct job *j, uint32_t h)
{
	const struct ikv_attn_unit *u = j->unit;
	float *out = u->out + (size_t)(j->head + h) * f->g.d_v;
	double top = -INFINITY, sum = 0;
	for (uint32_t k = 0; k < j->splits; k++)
		top = fmax(top, j->sums[2 * ((size_t)k * j->heads + h)]);
	memset(out, 0, f->g.d_v * sizeof *out);
	for (uint32_t k = 0; k < j->splits; k++) {
		const double *piece = j->sums + 2 * ((size_t)k * j->heads + h);
		if (piece[1] > 0)
			sum += piece[1] * exp(piece[0] - top);
	}
	for (uint32_t k = 0; k < j->splits && sum > 0; k++) {
		const double *piece = j->sums + 2 * ((size_t)k * j->heads + h);
		const float *acc = j->acc + ((size_t)k * j->heads + h) * f->acc_stride;
		float weight = (float)(exp(piece[0] - top) / sum);
		for (uint32_t d = 0; piece[1] > 0 && d < f->g.d_v; d++)
			out[d] += weight * acc[d];
	}
	if (u->lse)
		u->lse[j->head + h] = sum > 0 ? (float)(top + log(sum)) : -INFINITY;
	if (!j->shifts)
		return;
	double shift = top, factor = sum > 0 ? 1 / sum : 0;
	for (uint32_t i = 0; i < u->plan->count; i++) {
		float *mass = u->mass + (size_t)(j->head + h) * u->plan->count + i;
		double from = j->shifts[(size_t)h * u->plan->count + i];
		if (from != shift) { /* changes seldom: the running maximum settles */
			shift = from;
			factor = sum > 0 ? exp(shift - top) / sum : 0;
		}
		*mass = (float)(*mass * factor);
	}
}

/* Member m takes the pieces whose middle lies in its share of the pages. */
static void attend_share(void *context, uint32_t m)
{
	struct flash *f = context;
	float *scratch = f->scratch + m * f->scratch_stride;
	uint64_t before = 0;
	for (uint32_t i = 0; i < f->job_count; i++) {
		const struct job *j = &f->jobs[i];
		for (uint32_t k = 0; k < j->splits; k++) {
			uint32_t left = j->unit->plan->count - k * j->split_pages;
			uint32_t n = left < j->split_pages ? left : j->split_pages;
			if ((2 * before + n) * f->members / (2 * f->pages + 1) == m)
				attend_split(f, j, k, scratch);
			before += n;
		}
	}
}

static void join_share(void *context, uint32_t m)
{
	struct flash *f = context;
	for (uint32_t i = 0; i < f->job_count; i++)
		if ((uint64_t)i * f->members / f->job_count == m)
			for (uint32_t h = 0; h < f->jobs[i].heads; h++)
				join_head(f, &f->jobs[i], h);
}

static int room(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	size_t want = need < 2 * *cap ? 2 * *cap : need;
	if (ikv_grow(array, 0, want, size, err))
		return -1;
	*cap = want;
	return 0;
}

static int reserve(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	size_t jobs = 0, heads = 0, mass = 0;
	uint32_t group = f->g.q_heads / f->g.kv_heads;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		if (!u->q_count)
			continue;
		jobs += (u->q_first + u->q_count - 1) / group - u->q_first / group + 1;
		heads += u->q_count;
		if (u->mass)
			mass += (size_t)u->q_count * u->plan->count;
	}
	if (room(&f->jobs, &f->jobs_cap, jobs, sizeof *f->jobs, err) ||
	    room(&f->q, &f->q_cap, heads * f->q_stride, sizeof *f->q, err) ||
	    room(&f->acc, &f->acc_cap, heads * SPLITS_MAX * f->acc_stride, sizeof *f->acc, err) ||
	    room(&f->sums, &f->sums_cap, heads * SPLITS_MAX * 2, sizeof *f->sums, err))
		return -1;
	return room(&f->shifts, &f->shifts_cap, mass, sizeof *f->shifts, err);
}

static int scale_queries(const struct flash *f, const struct ikv_attn_unit *u, float *q, struct ikv_err *err)
{
	for (uint32_t h = 0; h < u->q_count; h++, q += f->q_stride) {
		for (uint32_t d = 0; d < f->g.d_qk; d++) {
			q[d] = u->q[(size_t)h * f->g.d_qk + d] * f->g.scale;
			if (!isfinite(q[d]))
				return ikv_err_set(err, IKV_BAD_INPUT, "query of head %u, channel %u is not finite",
						   u->q_first + h, d);
		}
		memset(q + f->g.d_qk, 0, (f->q_stride - f->g.d_qk) * sizeof *q);
	}
	return 0;
}

static int lay_out(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	uint32_t group = f->g.q_heads / f->g.kv_heads;
	float *q = f->q, *acc = f->acc, *shifts = f->shifts;
	double *sums = f->sums;
	f->job_count = 0;
	f->pages = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t pages = u->plan->count;
		uint32_t least = (SPLIT_TOKENS + f->g.page_tokens - 1) / f->g.page_tokens;
		uint32_t share = pages / SPLITS_MAX + (pages % SPLITS_MAX != 0);
		uint32_t per = share > least ? share : least;
		if (scale_queries(f, u, q, err))
			return -1;
		for (uint32_t h = 0, n; h < u->q_count; h += n) {
			struct job *j = &f->jobs[f->job_count++];
			n = group - (u->q_first + h) % group;
			n = n < u->q_count - h ? n : u->q_count - h;
			*j = (struct job){
			    u,    (u->q_first + h) / group, h, n, pages ? (pages - 1) / per + 1 : 1, per, q, acc,
			    sums, u->mass ? shifts : NULL};
			q += n * f->q_stride;
			acc += (size_t)n * SPLITS_MAX * f->acc_stride;
			sums += (size_t)n * SPLITS_MAX * 2;
			shifts += u->mass ? (size_t)n * pages : 0;
			f->pages += pages;
		}
	}
	return 0;
}

int flash_attend(struct flash *f, const struct micro_kernels *micro, const struct ikv_attn_unit *units,
		 uint32_t count, flash_locate *locate, const void *source, struct ikv_err *err)
{
	if (reserve(f, units, count, err) || lay_out(f, units, count, err))
		return -1;
	f->micro = micro;
	f->locate = locate;
	f->source = source;
	f->members = f->pages < INLINE_PAGES ? 1 : crew_size(f->crew);
	if (f->members == 1) {
		attend_share(f, 0);
		join_share(f, 0);
	} else {
		crew_run(f->crew, attend_share, f);
		crew_run(f->crew, join_share, f);
	}
	return 0;
}

#include <math.h>
#include "attn/crew.h"
#include "attn/flash.h"
#include "attn/join.h"
#include "attn/wide.h"
#include "intentkv/alloc.h"

#define SPLITS_MAX   16   /* pieces a plan is cut into */
#define SPLIT_TOKENS 4096 /* a piece holds at least so many tokens */
#define INLINE_PAGES 32   /* below so many pages and heads in all, waking threads costs more than they save */

/* Kernels that round queries and weights must do so more finely where a token of the block has more than 2^-FINE of
 * all weight so far. */
#define FINE 3

struct job { /* a unit */
	const struct ikv_attn_unit *unit;
	uint32_t kv_first, kv_count; /* KV heads */
	uint32_t splits, split_pages;
	const float *q; /* [q_count][q_stride], scaled, padded with zeros */
	uint8_t *forms; /* [q_count][forms_stride] */
	float *acc;     /* [splits][q_count][acc_stride] */
	double *sums;   /* [splits][q_count][2]: largest score, sum of exponentials */
	float *shifts;  /* [q_count][plan->count]: score that a page's mass is relative to; NULL without mass */
};

struct flash {
	struct ikv_geometry g;
	uint32_t group; /* query heads of a KV head */
	struct crew *crew;
	struct wide *wide; /* for units of many rows a KV head */
	const struct micro_kernels *micro;
	size_t q_stride, acc_stride, scratch_stride, forms_stride;
	struct job *jobs;
	float *q, *acc, *shifts, *scratch;
	uint8_t *forms;
	double *sums;
	size_t jobs_cap, q_cap, forms_cap, acc_cap, shifts_cap, sums_cap;
	/* of the call now running */
	flash_locate *locate;
	const void *source;
	uint32_t job_count;
	uint64_t pages; /* in all jobs, times KV heads */
	uint32_t members;
	uint32_t parts; /* into which the KV heads of a piece are divided among threads */
};

struct block { /* tiles that go into one update of the softmax; the same for all heads */
	uint32_t count;
	struct {
		uint32_t index, i; /* page of the plan, tile of the page */
		uint32_t rows;     /* of the tile that are there */
		uint32_t mask;     /* of the rows that take part */
	} tiles[MICRO_TILES];
};

struct cursor { /* next tile of a piece */
	const struct ikv_plan *plan;
	uint32_t index, last, i;
};

struct step { /* a block for one KV head */
	struct block block;
	uint32_t kv;    /* counted within the job */
	bool any, fine; /* some token has a weight; weights must not be rounded */
	float *s;       /* scores, then weights: [heads][MICRO_BLOCK] */
	const struct tile_shape *shape[MICRO_TILES];
	struct tile tile[MICRO_TILES];
};

static size_t padded(uint32_t dim)
{
	return ((size_t)dim + MICRO_PAD - 1) / MICRO_PAD * MICRO_PAD;
}

int flash_create(struct flash **out, const struct ikv_geometry *g, const struct micro_kernels *micro,
		 uint32_t threads, struct ikv_err *err)
{
	struct flash *f = ikv_alloc(1, sizeof *f, err);
	if (!f)
		return -1;
	uint32_t group = g->q_heads / g->kv_heads, dim = g->d_qk > g->d_v ? g->d_qk : g->d_v;
	f->g = *g;
	f->group = group;
	f->micro = micro;
	f->q_stride = padded(g->d_qk);
	f->acc_stride = padded(g->d_v);
	f->forms_stride = micro->forms_bytes ? micro->forms_bytes(g->d_qk) : 0;
	f->scratch_stride = ((size_t)group * MICRO_BLOCK + micro_scratch(dim, group) + group + 47) / 16 * 16;
	if (crew_create(&f->crew, threads, err) || wide_create(&f->wide, g, micro, crew_size(f->crew), err) ||
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
	wide_destroy(f->wide);
	ikv_free(f->jobs);
	ikv_free(f->q);
	ikv_free(f->forms);
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

/* The next tiles with a selected token; false at the end. */
static bool next_block(struct cursor *c, struct block *b)
{
	b->count = 0;
	while (c->index < c->last && b->count < MICRO_TILES) {
		const struct ikv_page_ref *r = &c->plan->pages[c->index];
		uint32_t first = c->i * TILE_TOKENS, mask = flash_taken(c->plan, r, c->i);
		if (mask) {
			b->tiles[b->count].index = c->index;
			b->tiles[b->count].i = c->i;
			b->tiles[b->count].rows = r->hi - first < TILE_TOKENS ? r->hi - first : TILE_TOKENS;
			b->tiles[b->count++].mask = mask;
		}
		c->i++;
		if (c->i * TILE_TOKENS >= r->hi) {
			c->index++;
			c->i = c->index < c->last ? c->plan->pages[c->index].lo / TILE_TOKENS : 0;
		}
	}
	return b->count > 0;
}

static void find_tiles(const struct flash *f, const struct job *j, struct step *s)
{
	for (uint32_t k = 0; k < s->block.count; k++) {
		struct flash_tile t;
		/* Read as it was written: two pointers read as one would wait until both writes are in the cache. */
		const volatile struct flash_tile *found = &t;
		f->locate(f->source, j->unit, j->kv_first + s->kv, s->block.tiles[k].index, s->block.tiles[k].i, &t);
		s->shape[k] = found->shape;
		s->tile[k].k = found->tile.k;
		s->tile[k].v = found->tile.v;
		s->tile[k].group = found->tile.group;
		s->tile[k].rows = s->block.tiles[k].rows;
		s->tile[k].ahead = 0;
	}
}

static void apply_masks(const struct block *b, uint32_t heads, float *s)
{
	for (uint32_t k = 0; k < b->count; k++)
		for (uint32_t m = ~b->tiles[k].mask & 0xffff; m; m &= m - 1)
			for (uint32_t h = 0; h < heads; h++)
				s[h * MICRO_BLOCK + k * TILE_TOKENS + (uint32_t)__builtin_ctz(m)] = -INFINITY;
}

/* Scores of `heads` heads from h of the unit on, `tops` the largest of each, to weights; false if all tokens of the
 * block are masked out. Room for 2 · heads floats in `room`. */
static bool weigh(const struct flash *f, const struct job *j, const struct block *b, uint32_t h, uint32_t heads,
		  const float *tops, float *s, double *sums, float *acc, float *room)
{
	uint32_t n = b->count * TILE_TOKENS;
	float *shifts = room, *sum = room + heads;
	bool any = false;
	for (uint32_t i = 0; i < heads; i++) {
		float shift = (float)sums[2 * i];
		if (tops[i] > shift) {
			float factor = expf(shift - tops[i]);
			f->micro->scale(acc + i * f->acc_stride, (uint32_t)f->acc_stride, factor);
			sums[2 * i + 1] *= factor;
			sums[2 * i] = shift = tops[i];
		}
		any |= tops[i] > -INFINITY;
		shifts[i] = shift > -INFINITY ? shift : 0;
	}
	if (!j->shifts) {
		f->micro->exp_sum(s, heads, n, shifts, sum);
		for (uint32_t i = 0; i < heads; i++)
			sums[2 * i + 1] += sum[i];
		return any;
	}
	for (uint32_t k = 0; k < b->count; k++) {
		f->micro->exp_sum(s + k * TILE_TOKENS, heads, TILE_TOKENS, shifts, sum);
		for (uint32_t i = 0; i < heads; i++) {
			size_t at = (h + i) * (size_t)j->unit->plan->count + b->tiles[k].index;
			float *mass = j->unit->mass + at, *from = j->shifts + at;
			if (tops[i] == -INFINITY)
				continue;
			sums[2 * i + 1] += sum[i];
			*mass = *from == shifts[i] ? *mass + sum[i] : *mass * expf(*from - shifts[i]) + sum[i];
			*from = shifts[i];
		}
	}
	return any;
}

/* Heads [*first, *first + n) of a job that use its KV head kv. */
static uint32_t heads_of(const struct flash *f, const struct job *j, uint32_t kv, uint32_t *first)
{
	uint32_t begin = (j->kv_first + kv) * f->group, end = begin + f->group;
	uint32_t q_end = j->unit->q_first + j->unit->q_count;
	begin = begin > j->unit->q_first ? begin : j->unit->q_first;
	*first = begin - j->unit->q_first;
	return (end < q_end ? end : q_end) - begin;
}

/* Tiles from k on that are of one format. */
static uint32_t run_of(const struct step *t, uint32_t k)
{
	uint32_t n = 1;
	while (k + n < t->block.count && t->shape[k + n] == t->shape[k])
		n++;
	return n;
}

static void score(const struct flash *f, const struct step *t, const struct micro_query *q, uint32_t heads, float *s,
		  float *tops, float *rest)
{
	for (uint32_t k = 0, n; k < t->block.count; k += n) {
		n = run_of(t, k);
		f->micro->format[t->shape[k]->format].qk(t->shape[k], t->tile + k, n, q, heads, s + k * TILE_TOKENS,
							 rest);
	}
	apply_masks(&t->block, heads, s);
	f->micro->peak(s, heads, t->block.count * TILE_TOKENS, tops);
}

/* log2(x) less at most .09; x > 0. */
static float rough_log2(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (float)bits * 0x1p-23f - 127;
}

/* Has a token of a block with these best scores a good part of all that was summed so far? */
static bool stands_out(const double *sums, const float *tops, uint32_t heads)
{
	const float log2_e = 1.442695f;
	for (uint32_t i = 0; i < heads; i++)
		if ((tops[i] - (float)sums[2 * i]) * log2_e + FINE > rough_log2((float)sums[2 * i + 1]))
			return true;
	return false;
}

/* Does a kernel of the step round queries and weights? */
static bool rounds(const struct flash *f, const struct step *t)
{
	for (uint32_t k = 0; k < t->block.count; k++)
		if (f->micro->format[t->shape[k]->format].rounds)
			return true;
	return false;
}

/* Scores of a step, and what weights they become. */
static void score_step(const struct flash *f, const struct job *j, uint32_t split, struct step *t, float *scratch)
{
	uint32_t h, heads = heads_of(f, j, t->kv, &h), at = split * j->unit->q_count + h;
	float *tops = scratch, *rest = tops + (heads + 15) / 16 * 16;
	double *sums = j->sums + 2 * (size_t)at;
	struct micro_query q = {j->q + h * f->q_stride, f->q_stride, NULL, f->forms_stride, false};
	bool rounded = rounds(f, t);
	if (j->forms)
		q.forms = j->forms + h * f->forms_stride;
	for (uint32_t i = 0; rounded && i < heads; i++)
		q.fine |= sums[2 * i + 1] == 0; /* the first block */
	score(f, t, &q, heads, t->s, tops, rest);
	if (rounded && !q.fine && stands_out(sums, tops, heads)) {
		q.fine = true;
		score(f, t, &q, heads, t->s, tops, rest);
	}
	t->any = weigh(f, j, &t->block, h, heads, tops, t->s, sums, j->acc + at * f->acc_stride, rest);
	t->fine = q.fine && stands_out(sums, tops, heads); /* less often: the block itself counts now */
}

static void add_step(const struct flash *f, const struct job *j, uint32_t split, const struct step *t, float *scratch)
{
	uint32_t h, heads = heads_of(f, j, t->kv, &h), at = split * j->unit->q_count + h;
	for (uint32_t k = 0, n; t->any && k < t->block.count; k += n) {
		n = run_of(t, k);
		f->micro->format[t->shape[k]->format].pv(t->shape[k], t->tile + k, n, t->s + k * TILE_TOKENS, t->fine,
							 heads, j->acc + at * f->acc_stride, f->acc_stride, scratch);
	}
}

static void clear_heads(const struct flash *f, const struct job *j, uint32_t split, uint32_t kv, uint32_t first,
			uint32_t last)
{
	uint32_t h, heads = heads_of(f, j, kv, &h), all = j->unit->plan->count;
	for (uint32_t i = h; i < h + heads; i++) {
		size_t at = (size_t)split * j->unit->q_count + i;
		memset(j->acc + at * f->acc_stride, 0, f->acc_stride * sizeof *j->acc);
		j->sums[2 * at] = -INFINITY;
		j->sums[2 * at + 1] = 0;
		for (uint32_t p = first; j->shifts && p < last; p++) {
			j->unit->mass[(size_t)i * all + p] = 0;
			j->shifts[(size_t)i * all + p] = -INFINITY;
		}
	}
}

/* One piece of a plan for KV heads [kv, kv_end) of the job. While a step is worked on, its kernels fetch the next */
static void attend_split(const struct flash *f, const struct job *j, uint32_t split, uint32_t kv, uint32_t kv_end,
			 float *scratch)
{
	const struct ikv_plan *plan = j->unit->plan;
	uint32_t first = split * j->split_pages;
	uint32_t last = plan->count - first < j->split_pages ? plan->count : first + j->split_pages;
	struct cursor c = {plan, first, last, first < last ? plan->pages[first].lo / TILE_TOKENS : 0};
	struct step steps[2], *now = &steps[0], *next = &steps[1];
	steps[0].s = steps[1].s = scratch;
	scratch += (size_t)f->group * MICRO_BLOCK;
	for (uint32_t k = kv; k < kv_end; k++)
		clear_heads(f, j, split, k, first, last);
	now->kv = kv;
	if (kv == kv_end || !next_block(&c, &now->block))
		return;
	find_tiles(f, j, now);
	for (bool more = true; more;) {
		next->kv = now->kv + 1;
		next->block = now->block;
		if (next->kv == kv_end) {
			next->kv = kv;
			more = next_block(&c, &next->block);
		}
		if (more) {
			find_tiles(f, j, next);
			for (uint32_t k = 0; k < now->block.count && k < next->block.count; k++)
				now->tile[k].ahead = next->tile[k].k - now->tile[k].k;
		}
		score_step(f, j, split, now, scratch);
		add_step(f, j, split, now, scratch);
		struct step *swap = now;
		now = next;
		next = swap;
	}
}

static void join_head(const struct flash *f, const struct job *j, uint32_t h)
{
	const struct ikv_attn_unit *u = j->unit;
	size_t first = (size_t)h * u->plan->count;
	struct join x = {.pieces = j->splits,
			 .acc = j->acc + h * f->acc_stride,
			 .acc_step = u->q_count * f->acc_stride,
			 .sums = j->sums + 2 * (size_t)h,
			 .sums_step = 2 * (size_t)u->q_count,
			 .mass = j->shifts ? u->mass + first : NULL,
			 .shifts = j->shifts ? j->shifts + first : NULL,
			 .pages = u->plan->count};
	join_row(&x, f->g.d_v, u->out + (size_t)h * f->g.d_v, u->lse ? u->lse + h : NULL);
}

/* Member m takes the parts of pieces whose middle lies in its share of the pages. */
static void attend_share(void *context, uint32_t m)
{
	struct flash *f = context;
	float *scratch = f->scratch + m * f->scratch_stride;
	uint64_t before = 0;
	for (uint32_t i = 0; i < f->job_count; i++) {
		const struct job *j = &f->jobs[i];
		uint32_t parts = f->parts < j->kv_count ? f->parts : j->kv_count;
		for (uint32_t k = 0; k < j->splits; k++) {
			uint32_t left = j->unit->plan->count - k * j->split_pages;
			uint32_t pages = left < j->split_pages ? left : j->split_pages;
			for (uint32_t p = 0; p < parts; p++) {
				uint32_t kv = p * j->kv_count / parts, end = (p + 1) * j->kv_count / parts;
				uint64_t n = (uint64_t)pages * (end - kv);
				if ((2 * before + n) * f->members / (2 * f->pages + 1) == m)
					attend_split(f, j, k, kv, end, scratch);
				before += n;
			}
		}
	}
}

static void join_share(void *context, uint32_t m)
{
	struct flash *f = context;
	uint64_t heads = 0, at = 0;
	for (uint32_t i = 0; i < f->job_count; i++)
		heads += f->jobs[i].unit->q_count;
	for (uint32_t i = 0; i < f->job_count; i++)
		for (uint32_t h = 0; h < f->jobs[i].unit->q_count; h++, at++)
			if (at * f->members / heads == m)
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
	size_t heads = 0, mass = 0;
	for (uint32_t i = 0; i < count; i++) {
		if (wide_takes(f->wide, &units[i]))
			continue;
		heads += units[i].q_count;
		if (units[i].mass)
			mass += (size_t)units[i].q_count * units[i].plan->count;
	}
	if (room(&f->jobs, &f->jobs_cap, count, sizeof *f->jobs, err) ||
	    room(&f->q, &f->q_cap, heads * f->q_stride, sizeof *f->q, err) ||
	    room(&f->forms, &f->forms_cap, heads * f->forms_stride, 1, err) ||
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
	uint64_t pieces = 0;
	size_t head = 0;
	float *shifts = f->shifts;
	f->job_count = 0;
	f->pages = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t pages = u->plan->count;
		uint32_t least = (SPLIT_TOKENS + f->g.page_tokens - 1) / f->g.page_tokens;
		uint32_t share = pages / SPLITS_MAX + (pages % SPLITS_MAX != 0);
		uint32_t per = share > least ? share : least;
		float *q = f->q + head * f->q_stride;
		uint8_t *forms = f->forms_stride ? f->forms + head * f->forms_stride : NULL;
		if (!u->q_count || wide_takes(f->wide, u))
			continue;
		if (scale_queries(f, u, q, err))
			return -1;
		for (uint32_t h = 0; forms && h < u->q_count; h++)
			f->micro->prepare(q + h * f->q_stride, f->g.d_qk, forms + h * f->forms_stride);
		struct job *j = &f->jobs[f->job_count++];
		*j = (struct job){
		    .unit = u,
		    .kv_first = u->q_first / group,
		    .kv_count = (u->q_first + u->q_count - 1) / group - u->q_first / group + 1,
		    .splits = pages ? (pages - 1) / per + 1 : 1,
		    .split_pages = per,
		    .q = q,
		    .forms = forms,
		    .acc = f->acc + head * SPLITS_MAX * f->acc_stride,
		    .sums = f->sums + head * SPLITS_MAX * 2,
		    .shifts = u->mass ? shifts : NULL,
		};
		head += u->q_count;
		shifts += u->mass ? (size_t)u->q_count * pages : 0;
		f->pages += (uint64_t)pages * j->kv_count;
		pieces += j->splits;
	}
	/* At least eight parts a thread, so that shares come out even. */
	f->members = f->pages < INLINE_PAGES ? 1 : crew_size(f->crew);
	f->parts = f->members == 1 || !pieces ? 1 : (uint32_t)((8 * (uint64_t)f->members + pieces - 1) / pieces);
	return 0;
}

int flash_attend(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, flash_locate *locate,
		 const void *source, struct ikv_err *err)
{
	f->locate = locate;
	f->source = source;
	wide_begin(f->wide, locate, source);
	if (reserve(f, units, count, err) || lay_out(f, units, count, err) ||
	    wide_lay_out(f->wide, units, count, err))
		return -1;
	if (f->members == 1) {
		attend_share(f, 0);
		join_share(f, 0);
	} else {
		crew_run(f->crew, attend_share, f);
		crew_run(f->crew, join_share, f);
	}
	wide_run(f->wide, f->crew);
	return 0;
}

#include <math.h>
#include "attn/flash_walk.h"
#include "attn/join.h"
#include "attn/wide.h"
#include "intentkv/alloc.h"

#define SPLITS_MAX   16      /* pieces a plan is cut into */
#define SPLIT_TOKENS 4096    /* a piece holds at least so many tokens */
#define INLINE_PAGES 32      /* below so many pages and heads in all, waking threads costs more than they save */
#define JOIN_ALONE   1000000 /* the same of so many values to join, some 100 us */

#define FETCHED_HEADS 8 /* query rows of so many heads at most are fetched before they are needed */

/* Kernels that round queries and weights must do so more finely where a token of the block has more than 2^-FINE of
 * all weight so far. */
#define FINE 3
/* A piece's first block is judged by its own weights in pieces of so many tokens; a shorter one's is not rounded: it
 * is a good part of the whole. */
#define JUDGED 1024

/* How the kernels that round are to treat a head in a block. */
enum { COARSE, FINE_BY_WEIGHT, FINE_BY_LENGTH };

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
	f->scratch_stride = ((size_t)group * (MICRO_BLOCK + 2) + micro_scratch(dim, group) + 63) / 16 * 16;
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

struct crew *flash_crew(const struct flash *f)
{
	return f->crew;
}

static void apply_masks(const struct stretch *t, uint32_t heads, float *s)
{
	for (uint32_t k = 0; k < t->count; k++)
		for (uint32_t m = ~t->mask[k] & 0xffff; m; m &= m - 1)
			for (uint32_t h = 0; h < heads; h++)
				s[h * MICRO_BLOCK + k * TILE_TOKENS + (uint32_t)__builtin_ctz(m)] = -INFINITY;
}

/* Scores of `heads` heads from h of the unit on, `tops` the largest of each, to weights; false if all tokens of the
 * block are masked out. Room for 2 · heads floats in `room`. */
static bool weigh(const struct flash *f, const struct stretch *t, uint32_t h, uint32_t heads, const float *tops,
		  float *s, double *sums, float *acc, float *room)
{
	const struct job *j = t->job;
	uint32_t n = t->count * TILE_TOKENS;
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
	for (uint32_t k = 0; k < t->count; k++) {
		f->micro->exp_sum(s + k * TILE_TOKENS, heads, TILE_TOKENS, shifts, sum);
		for (uint32_t i = 0; i < heads; i++) {
			size_t at = (h + i) * (size_t)j->unit->plan->count + t->index[k];
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

/* `again`: a fine query has coarse scores before it, which stand where the kernel does not round. */
static void score(const struct flash *f, const struct stretch *t, const struct micro_query *q, bool again,
		  uint32_t heads, float *s, float *tops, float *rest)
{
	for (uint32_t k = 0; k < t->count; k += t->run[k]) {
		const struct tile_shape *shape = t->at[k].shape;
		if (again && !f->micro->format[shape->format].rounds)
			continue;
		f->micro->format[shape->format].qk(shape, t->tile + k, t->run[k], q, heads, s + k * TILE_TOKENS,
						   rest);
	}
	apply_masks(t, heads, s);
	f->micro->peak(s, heads, t->count * TILE_TOKENS, tops);
}

/* log2(x) less at most .09; x > 0. */
static float rough_log2(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (float)bits * 0x1p-23f - 127;
}

/* Is a head's best score a good part of all that it summed so far? */
static bool stands_out(const double *sums, float top)
{
	return (top - (float)sums[0]) * 1.442695f + FINE > rough_log2((float)sums[1]); /* log2(e) */
}

static bool is_long(const struct flash *f, const struct job *j)
{
	uint32_t pages = j->unit->plan->count;
	return (uint64_t)(pages < j->split_pages ? pages : j->split_pages) * f->g.page_tokens >= JUDGED;
}

/* Which heads are fine: those of which a token has a good part of all weight so far, in a piece's first block of the
 * block's own, and all in the first block of a short piece? False: none. Room for the scores and two floats a head in
 * `room`. */
static bool find_fine(const struct flash *f, const struct stretch *t, const double *sums, const float *tops,
		      uint32_t heads, const float *s, float *room, uint8_t *fine)
{
	float *own = room, *shifts = own + heads, *copy = shifts + heads;
	bool first = false, any = false, judged = is_long(f, t->job);
	for (uint32_t i = 0; i < heads; i++)
		first |= sums[2 * i + 1] == 0;
	if (first && judged) {
		for (uint32_t i = 0; i < heads; i++)
			shifts[i] = tops[i] > -INFINITY ? tops[i] : 0;
		memcpy(copy, s, heads * MICRO_BLOCK * sizeof *s);
		f->micro->exp_sum(copy, heads, t->count * TILE_TOKENS, shifts, own);
	}
	for (uint32_t i = 0; i < heads; i++) {
		if (sums[2 * i + 1] == 0)
			fine[i] = !judged ? FINE_BY_LENGTH : own[i] < 1 << FINE ? FINE_BY_WEIGHT : COARSE;
		else
			fine[i] = stands_out(sums + 2 * i, tops[i]) ? FINE_BY_WEIGHT : COARSE;
		any |= fine[i] != COARSE;
	}
	return any;
}

/* Does a kernel of the stretch round queries and weights? */
static bool rounds(const struct flash *f, const struct stretch *t)
{
	for (uint32_t k = 0; k < t->count; k += t->run[k])
		if (f->micro->format[t->at[k].shape->format].rounds)
			return true;
	return false;
}

/* Nothing is rounded in the first block of a short piece (find_fine), so that it need not be scored coarsely before. */
static bool begins_short(const struct flash *f, const struct stretch *t, const double *sums, uint32_t heads)
{
	for (uint32_t i = 0; i < heads; i++)
		if (sums[2 * i + 1] != 0)
			return false;
	return !is_long(f, t->job);
}

/* Heads from i on that are treated as head i is. */
static uint32_t alike(const uint8_t *fine, uint32_t i, uint32_t heads)
{
	uint32_t n = 1;
	while (i + n < heads && fine[i + n] == fine[i])
		n++;
	return n;
}

/* One KV head of a stretch, whose tiles are those of that head. */
static void attend_head(const struct flash *f, const struct stretch *t, uint32_t kv, float *scratch)
{
	const struct job *j = t->job;
	uint32_t h, heads = job_heads(f, j, kv, &h), at = t->split * j->unit->q_count + h;
	float *s = scratch, *tops = s + (size_t)f->group * MICRO_BLOCK, *flags = tops + (heads + 15) / 16 * 16;
	float *rest = flags + (heads + 15) / 16 * 16, *acc = j->acc + at * f->acc_stride;
	uint8_t *fine = (uint8_t *)flags;
	double *sums = j->sums + 2 * (size_t)at;
	struct micro_query q = {j->q + h * f->q_stride, f->q_stride, NULL, f->forms_stride, false};
	if (j->forms)
		q.forms = j->forms + h * f->forms_stride;
	q.fine = begins_short(f, t, sums, heads);
	memset(fine, q.fine ? FINE_BY_LENGTH : COARSE, heads);
	score(f, t, &q, false, heads, s, tops, rest);
	if (!q.fine && rounds(f, t) && find_fine(f, t, sums, tops, heads, s, rest, fine))
		for (uint32_t i = 0, n; i < heads; i += n) {
			n = alike(fine, i, heads);
			struct micro_query some = {q.f + i * f->q_stride, f->q_stride, q.forms + i * f->forms_stride,
						   f->forms_stride, true};
			if (fine[i] != COARSE)
				score(f, t, &some, true, n, s + i * MICRO_BLOCK, tops + i, rest);
		}
	if (!weigh(f, t, h, heads, tops, s, sums, acc, rest))
		return;
	for (uint32_t i = 0; i < heads; i++)
		if (fine[i] == FINE_BY_WEIGHT && !stands_out(sums + 2 * i, tops[i]))
			fine[i] = COARSE; /* now that the block's own weight counts, too */
	for (uint32_t i = 0, n; i < heads; i += n) {
		n = alike(fine, i, heads);
		for (uint32_t k = 0; k < t->count; k += t->run[k]) {
			const struct tile_shape *shape = t->at[k].shape;
			f->micro->format[shape->format].pv(shape, t->tile + k, t->run[k],
							   s + i * MICRO_BLOCK + k * TILE_TOKENS,
							   fine[i] != COARSE, n,
							   acc + i * f->acc_stride, f->acc_stride, rest);
		}
	}
}

/* Queries and sums of a head that comes next: by then a small second-level cache has lost them to the tiles. */
static void fetch_head(const struct flash *f, const struct stretch *t, uint32_t kv)
{
	const struct job *j = t->job;
	uint32_t h, heads = job_heads(f, j, kv, &h), at = t->split * j->unit->q_count + h;
	const float *q = j->q + h * f->q_stride, *acc = j->acc + at * f->acc_stride;
	if (heads > FETCHED_HEADS)
		return;
	for (size_t i = 0; i < heads * f->q_stride; i += 16)
		__builtin_prefetch(q + i);
	for (size_t i = 0; i < heads * f->acc_stride; i += 16)
		__builtin_prefetch(acc + i);
}

/* While a head is worked on, the kernels fetch the one after it, of the last head the first of the next stretch: the
 * tile at the same place in its block, or, where that block is shorter, in the one after it, which would find nobody to
 * fetch it. */
static void attend_stretch(const struct flash *f, struct stretch *t, const struct stretch *next,
			   const struct stretch *after, float *scratch)
{
	const uint32_t count = next ? next->count : 0, later = after ? after->count : 0;
	for (uint32_t i = 0; i < t->heads; i++) {
		for (uint32_t k = 0; i + 1 == t->heads && k < t->count; k++) {
			const struct stretch *of = k < count ? next : k < later ? after : NULL;
			t->tile[k].ahead = of ? of->tile[k].k - t->tile[k].k : 0;
		}
		fetch_head(f, t, t->kv + (i + 1 < t->heads ? i + 1 : 0));
		attend_head(f, t, t->kv + i, scratch);
		for (uint32_t k = 0; k < t->count; k++) {
			t->tile[k].k += t->at[k].k_step;
			t->tile[k].group += t->at[k].k_step;
			t->tile[k].v += t->at[k].v_step;
		}
	}
}

/* Are all its tiles of formats that are worked through tile by tile? */
static bool goes_singly(const struct flash *f, const struct stretch *t)
{
	for (uint32_t k = 0; k < t->count; k += t->run[k])
		if (!f->micro->format[t->at[k].shape->format].single)
			return false;
	return true;
}

/* One tile of one head, `block`, whose tile and place in the plan are those at `p`. */
static void attend_tile(const struct flash *f, struct stretch *block, const struct spot *p, float *scratch)
{
	const struct stretch *t = p->t;
	const struct job *j = t->job;
	const struct tile_shape *shape = t->at[p->k].shape;
	const struct micro_format *format = &f->micro->format[shape->format];
	uint32_t h, heads = job_heads(f, j, t->kv + p->head, &h), at = t->split * j->unit->q_count + h;
	float *s = scratch, *tops = s + (size_t)f->group * MICRO_BLOCK, *rest = tops + (heads + 15) / 16 * 16;
	float *acc = j->acc + at * f->acc_stride;
	const struct micro_query q = {j->q + h * f->q_stride, f->q_stride, NULL, f->forms_stride, false};
	block->index[0] = t->index[p->k];
	block->mask[0] = t->mask[p->k];
	format->qk(shape, block->tile, 1, &q, heads, s, rest);
	if (block->mask[0] != 0xffff)
		apply_masks(block, heads, s);
	f->micro->peak(s, heads, TILE_TOKENS, tops);
	if (weigh(f, block, h, heads, tops, s, j->sums + 2 * (size_t)at, acc, rest))
		format->pv(shape, block->tile, 1, s, false, heads, acc, f->acc_stride, rest);
}

/* Each tile is a block of its own, so that memory is read in the order in which it lies; while a tile is worked on, the
 * kernels fetch the one behind it. */
static void attend_singly(const struct flash *f, const struct stretch *t, const struct stretch *next, float *scratch)
{
	struct stretch block = {.job = t->job, .split = t->split, .count = 1, .run = {1}};
	struct spot now = spot_first(t, 0, next), behind = now;
	struct tile tile = spot_tile(&now), then = tile;
	for (bool more = true; more && now.t == t; now = behind, tile = then) {
		more = spot_next(&behind);
		if (more)
			then = spot_tile(&behind);
		block.tile[0] = tile;
		block.tile[0].ahead = then.k - tile.k;
		attend_tile(f, &block, &now, scratch);
	}
}

/* What nobody else fetches: the first head's tiles of the first block, two of them where tiles go singly. Rows of a
 * caller's own may lie apart. */
static void fetch_first(const struct flash *f, const struct stretch *t)
{
	const uint32_t count = goes_singly(f, t) && t->count > 2 ? 2 : t->count;
	for (uint32_t k = 0; k < count; k++) {
		const struct tile_shape *shape = t->at[k].shape;
		if (shape->format == TILE_HALF || shape->format == TILE_FLOAT)
			continue;
		for (size_t i = 0; i < shape->bytes; i += 64)
			__builtin_prefetch(t->tile[k].k + i, 0, 2);
	}
}

static void attend_share(void *context, uint32_t member)
{
	struct flash *f = context;
	struct walk w = {.f = f, .member = member};
	struct stretch stretches[3], *now = &stretches[0], *next = &stretches[1], *after = &stretches[2];
	float *scratch = f->scratch + member * f->scratch_stride;
	bool more = walk_next(&w, NULL, now);
	if (more)
		fetch_first(f, now);
	bool others = more && walk_next(&w, now, next);
	while (more) {
		const bool last = !others || !walk_next(&w, next, after);
		if (goes_singly(f, now))
			attend_singly(f, now, others ? next : NULL, scratch);
		else
			attend_stretch(f, now, others ? next : NULL, last ? NULL : after, scratch);
		struct stretch *done = now;
		now = next;
		next = after;
		after = done;
		more = others;
		others = !last;
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
	if (ikv_reserve(&f->jobs, &f->jobs_cap, count, sizeof *f->jobs, err) ||
	    ikv_reserve(&f->q, &f->q_cap, heads * f->q_stride, sizeof *f->q, err) ||
	    ikv_reserve(&f->forms, &f->forms_cap, heads * f->forms_stride, 1, err) ||
	    ikv_reserve(&f->acc, &f->acc_cap, heads * SPLITS_MAX * f->acc_stride, sizeof *f->acc, err) ||
	    ikv_reserve(&f->sums, &f->sums_cap, heads * SPLITS_MAX * 2, sizeof *f->sums, err))
		return -1;
	return ikv_reserve(&f->shifts, &f->shifts_cap, mass, sizeof *f->shifts, err);
}

static void scale_queries(const struct flash *f, const struct ikv_attn_unit *u, float *q)
{
	const size_t d = f->g.d_qk;
	for (uint32_t h = 0; h < u->q_count; h++, q += f->q_stride) {
		memcpy(q, u->q + h * d, d * sizeof *q);
		memset(q + d, 0, (f->q_stride - d) * sizeof *q);
		f->micro->scale(q, (uint32_t)f->q_stride, f->g.scale);
	}
}

static int lay_out(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	uint32_t group = f->g.q_heads / f->g.kv_heads;
	uint64_t pieces = 0;
	size_t head = 0;
	float *shifts = f->shifts;
	f->job_count = 0;
	f->pages = 0;
	f->joined = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t pages = u->plan->count;
		uint32_t least = (SPLIT_TOKENS + f->g.page_tokens - 1) / f->g.page_tokens;
		uint32_t share = pages / SPLITS_MAX + (pages % SPLITS_MAX != 0);
		uint32_t per = share > least ? share : least;
		float *q = f->q + head * f->q_stride;
		uint8_t *forms = f->rounded ? f->forms + head * f->forms_stride : NULL;
		if (!u->q_count || wide_takes(f->wide, u))
			continue;
		if (wide_check_queries(f->wide, u, err))
			return -1;
		scale_queries(f, u, q);
		for (uint32_t h = 0; forms && h < u->q_count; h++)
			f->micro->prepare(q + h * f->q_stride, f->g.d_qk, f->rounded, forms + h * f->forms_stride);
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
		f->joined += u->q_count * ((uint64_t)j->splits * f->g.d_v + (u->mass ? pages : 0));
	}
	/* At least eight parts a thread, so that shares come out even. */
	f->members = f->pages < INLINE_PAGES ? 1 : crew_size(f->crew);
	f->parts = f->members == 1 || !pieces ? 1 : (uint32_t)((8 * (uint64_t)f->members + pieces - 1) / pieces);
	return 0;
}

int flash_attend(struct flash *f, const struct ikv_attn_unit *units, uint32_t count, flash_locate *locate,
		 const void *source, uint32_t rounded, struct ikv_err *err)
{
	f->locate = locate;
	f->source = source;
	f->rounded = f->forms_stride ? rounded : 0;
	wide_begin(f->wide, locate, source);
	if (reserve(f, units, count, err) || lay_out(f, units, count, err) ||
	    wide_lay_out(f->wide, units, count, err))
		return -1;
	if (f->members == 1)
		attend_share(f, 0);
	else
		crew_run(f->crew, attend_share, f);
	for (uint32_t m = 0; f->joined < JOIN_ALONE && m < f->members; m++)
		join_share(f, m);
	if (f->joined >= JOIN_ALONE)
		crew_run(f->crew, join_share, f);
	wide_run(f->wide, f->crew);
	return 0;
}

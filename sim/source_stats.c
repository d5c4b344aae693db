#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "keys.h"
#include "source_stats.h"

const double source_stats_fraction[SOURCE_STATS_FRACTIONS] = {.02, .05, .1, .25, .5};
const uint32_t source_stats_window[SOURCE_STATS_WINDOWS] = {16, 64, 256, 1024};
const uint32_t source_stats_lag[SOURCE_STATS_WINDOWS] = {1, 4, 16, 64};
#define TOP_FRACTION 2 /* of source_stats_fraction: the 10 % whose overlap is followed */
#define RING         65u

struct play {
	struct source *source;
	const struct source_setup *setup;
	struct source_stats *out;
	struct ikv_layout layout;
	struct ikv_block *blocks; /* [events + 1] */
	char (*names)[16];
	struct keys keys;
	uint32_t layer, max_pages, max_tokens;
	uint64_t step, first_step; /* decode steps so far; the first that is measured */
	bool model;
	uint16_t *k, *v; /* one chunk of rows */
	float *q;
	double *weights; /* [q_heads][max_tokens] */
	double *mass;    /* [max_pages], of one set */
	double *all;     /* [q_heads][max_pages] */
	uint8_t *ring;   /* [RING][kv_heads][max_pages]: in the best 10 % */
	uint32_t ring_count[RING];
	uint64_t *order, *order2;
	float *modelled;
	double *scores, *density;
	uint64_t lags[SOURCE_STATS_WINDOWS];
	struct ikv_err *err;
};
#define CHUNK 256u

/* Order of values >= 0, largest first, ties by index: the bits of such a float order as the float does. */
static int descending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void sort_order(const double *values, uint32_t count, uint64_t *order)
{
	for (uint32_t i = 0; i < count; i++) {
		float f = (float)values[i];
		uint32_t bits;
		memcpy(&bits, &f, sizeof bits);
		order[i] = (uint64_t)~bits << 32 | i;
	}
	qsort(order, count, sizeof *order, descending);
}

static uint32_t best_pages(uint32_t pages, double fraction)
{
	return (uint32_t)ceil(fraction * pages - 1e-9);
}

static double sum_of(const double *values, const uint64_t *order, uint32_t count)
{
	double s = 0;
	for (uint32_t i = 0; i < count; i++)
		s += values[(uint32_t)order[i]];
	return s;
}

static double spearman(const double *x, const double *y, uint32_t n, uint64_t *order, uint64_t *order2, double *rank)
{
	double d2 = 0;
	if (n < 3)
		return 1;
	sort_order(x, n, order);
	sort_order(y, n, order2);
	for (uint32_t i = 0; i < n; i++)
		rank[(uint32_t)order[i]] = i;
	for (uint32_t i = 0; i < n; i++) {
		double d = rank[(uint32_t)order2[i]] - i;
		d2 += d * d;
	}
	return 1 - 6 * d2 / ((double)n * ((double)n * n - 1));
}

static void measure_recall(struct play *p, enum source_stats_share share, uint32_t pages, double weight)
{
	sort_order(p->mass, pages, p->order);
	for (int f = 0; f < SOURCE_STATS_FRACTIONS; f++)
		p->out->recall[share][f] +=
		    weight * sum_of(p->mass, p->order, best_pages(pages, source_stats_fraction[f]));
}

/* Mean page mass of heads [first, first + count) into p->mass. */
static void mean_mass(struct play *p, uint32_t first, uint32_t count, uint32_t pages)
{
	memset(p->mass, 0, pages * sizeof *p->mass);
	for (uint32_t h = first; h < first + count; h++)
		for (uint32_t i = 0; i < pages; i++)
			p->mass[i] += p->all[(size_t)h * p->max_pages + i] / count;
}

static void measure_kv_head(struct play *p, uint32_t kv, uint32_t pages, uint64_t at)
{
	const struct ikv_geometry *g = &p->setup->geometry;
	double entropy = 0;
	mean_mass(p, kv * (g->q_heads / g->kv_heads), g->q_heads / g->kv_heads, pages);
	measure_recall(p, SOURCE_STATS_KV_HEAD, pages, 1.0 / g->kv_heads);
	for (uint32_t i = 0; i < pages; i++)
		if (p->mass[i] > 0)
			entropy -= p->mass[i] * ikv_det_log(p->mass[i]);
	p->out->effective_pages += ikv_det_exp(entropy) / g->kv_heads;
	uint32_t n = best_pages(pages, source_stats_fraction[TOP_FRACTION]);
	uint8_t *now = p->ring + ((at % RING) * g->kv_heads + kv) * p->max_pages;
	memset(now, 0, p->max_pages);
	for (uint32_t i = 0; i < n; i++)
		now[(uint32_t)p->order[i]] = 1;
	p->ring_count[at % RING] = n;
	for (int l = 0; l < SOURCE_STATS_WINDOWS; l++) {
		if (at < source_stats_lag[l])
			continue;
		uint64_t slot = (at - source_stats_lag[l]) % RING;
		const uint8_t *then = p->ring + (slot * g->kv_heads + kv) * p->max_pages;
		uint32_t both = 0;
		for (uint32_t i = 0; i < pages; i++)
			both += then[i] & now[i];
		p->out->overlap[l] += (double)both / p->ring_count[slot];
		p->lags[l]++;
	}
}

static void measure_tokens(struct play *p, const double *w, double weight)
{
	uint32_t n = p->layout.total_tokens;
	struct source_stats *o = p->out;
	for (int i = 0; i < SOURCE_STATS_WINDOWS; i++) {
		uint32_t t = n > source_stats_window[i] ? n - source_stats_window[i] : 0;
		for (; t < n; t++)
			o->recency[i] += weight * w[t];
	}
	for (uint32_t t = 0; t < 4 && t < n; t++)
		o->sink += weight * w[t];
	for (uint32_t b = 0; b < p->layout.count; b++) {
		double m = 0;
		for (uint32_t t = p->blocks[b].start; t < p->blocks[b].end; t++)
			m += w[t];
		o->kind_mass[p->blocks[b].kind] += weight * m;
		o->kind_tokens[p->blocks[b].kind] += weight * (p->blocks[b].end - p->blocks[b].start) / n;
		p->density[b] += weight * m / (p->blocks[b].end - p->blocks[b].start);
	}
}

static int measure_model(struct play *p, uint32_t pages)
{
	const struct source_ops *ops = p->source->ops;
	uint32_t n = best_pages(pages, source_stats_fraction[TOP_FRACTION]), heads = p->setup->geometry.q_heads;
	if (ops->model_mass(p->source, 0, p->layer, 0, heads, p->layout.page_tokens, p->modelled, p->err) ||
	    ops->model_scores(p->source, 0, &p->layout, p->scores, p->err))
		return -1;
	mean_mass(p, 0, heads, pages);
	double *model = p->weights, *rank = p->weights + p->max_pages; /* no longer needed in this step */
	for (uint32_t i = 0; i < pages; i++)
		model[i] = (double)p->modelled[i];
	p->out->model_correlation += spearman(p->mass, model, pages, p->order, p->order2, rank);
	sort_order(p->mass, pages, p->order);
	sort_order(model, pages, p->order2);
	p->out->model_recall += sum_of(p->mass, p->order2, n) / sum_of(p->mass, p->order, n);
	p->out->score_correlation += spearman(p->density, p->scores, p->layout.count, p->order, p->order2, rank);
	return 0;
}

static int measure(struct play *p)
{
	const struct ikv_geometry *g = &p->setup->geometry;
	uint32_t n = p->layout.total_tokens, pt = p->layout.page_tokens, pages = ikv_pages(n, pt);
	uint64_t at = p->step - p->first_step;
	if (p->source->ops->query(p->source, 0, p->layer, p->q, p->err))
		return -1;
	memset(p->all, 0, (size_t)g->q_heads * p->max_pages * sizeof *p->all);
	memset(p->density, 0, (p->layout.count + 1) * sizeof *p->density);
	for (uint32_t h = 0; h < g->q_heads; h++) {
		double *w = p->weights;
		keys_weights(&p->keys, h / (g->q_heads / g->kv_heads), p->q + (size_t)h * g->d_qk, g->scale, n, w);
		measure_tokens(p, w, 1.0 / g->q_heads);
		for (uint32_t t = 0; t < n; t++)
			p->all[(size_t)h * p->max_pages + t / pt] += w[t];
		mean_mass(p, h, 1, pages);
		measure_recall(p, SOURCE_STATS_HEAD, pages, 1.0 / g->q_heads);
	}
	for (uint32_t kv = 0; kv < g->kv_heads; kv++)
		measure_kv_head(p, kv, pages, at);
	mean_mass(p, 0, g->q_heads, pages);
	measure_recall(p, SOURCE_STATS_SHARED, pages, 1);
	p->out->pages = pages;
	p->out->steps++;
	return p->model ? measure_model(p, pages) : 0;
}

/* Tokens up to p->layout.total_tokens entered: tell the source and take the layer's keys. */
static int enter(struct play *p, uint32_t first)
{
	const struct source_ops *ops = p->source->ops;
	if (ops->extend(p->source, 0, &p->layout, first, p->err))
		return -1;
	while (first < p->layout.total_tokens) {
		uint32_t n = p->layout.total_tokens - first < CHUNK ? p->layout.total_tokens - first : CHUNK;
		if (ops->kv(p->source, 0, p->layer, first, n, p->k, p->v, p->err) ||
		    keys_append(&p->keys, p->k, n, p->err))
			return -1;
		first += n;
	}
	return 0;
}

static void open_block(struct play *p, const struct session_event *e)
{
	uint32_t i = p->layout.count++;
	static const char digits[] = "0123456789";
	char text[12], *name = p->names[i];
	int n = 0;
	for (uint32_t v = i; n == 0 || v; v /= 10)
		text[n++] = digits[v % 10];
	*name++ = 'b';
	while (n)
		*name++ = text[--n];
	*name = 0;
	p->blocks[i] = (struct ikv_block){
	    .name = p->names[i],
	    .start = p->layout.total_tokens,
	    .end = p->layout.total_tokens,
	    .kind = e->kind,
	    .policy = IKV_ATTEND,
	    .uid = i + 1,
	    .birth = p->step,
	};
}

static int play_event(struct play *p, const struct session_event *e)
{
	const struct source_ops *ops = p->source->ops;
	struct ikv_layout *l = &p->layout;
	if (e->op == SESSION_WAIT)
		return 0;
	if (e->op == SESSION_COMPACT) {
		l->total_tokens = p->keys.tokens = e->tokens;
		while (l->count && p->blocks[l->count - 1].start >= e->tokens)
			l->count--;
		if (l->count && p->blocks[l->count - 1].end > e->tokens)
			p->blocks[l->count - 1].end = e->tokens;
		return ops->truncate(p->source, 0, e->tokens, p->err);
	}
	if (!e->unowned)
		open_block(p, e);
	uint32_t per = e->op == SESSION_DECODE ? 1 : e->tokens;
	for (uint32_t done = 0; done < e->tokens; done += per) {
		uint32_t first = l->total_tokens;
		l->total_tokens += per;
		if (!e->unowned)
			p->blocks[l->count - 1].end = l->total_tokens;
		if (enter(p, first))
			return -1;
		if (e->op != SESSION_DECODE)
			continue;
		if (ops->advance(p->source, 0, p->step, p->err) || (p->step >= p->first_step && measure(p)))
			return -1;
		p->step++;
	}
	return 0;
}

static void averages(struct play *p)
{
	struct source_stats *o = p->out;
	double n = o->steps ? o->steps : 1;
	for (int f = 0; f < SOURCE_STATS_FRACTIONS; f++)
		for (int s = 0; s < SOURCE_STATS_SHARES; s++)
			o->recall[s][f] /= n;
	for (int i = 0; i < SOURCE_STATS_WINDOWS; i++) {
		o->recency[i] /= n;
		o->overlap[i] = p->lags[i] ? o->overlap[i] / (double)p->lags[i] : 1;
	}
	for (int k = 0; k < IKV_KIND_COUNT; k++) {
		o->kind_mass[k] /= n;
		o->kind_tokens[k] /= n;
	}
	o->effective_pages /= n;
	o->sink /= n;
	o->model_recall /= n;
	o->model_correlation /= n;
	o->score_correlation /= n;
}

static int room(struct play *p, const struct session *session)
{
	const struct ikv_geometry *g = &p->setup->geometry;
	size_t heads = g->q_heads, events = session->event_count + 1;
	uint32_t longest = 0, now = 0;
	for (uint32_t i = 0; i < session->event_count; i++) {
		const struct session_event *e = &session->events[i];
		if (e->op == SESSION_COMPACT)
			now = e->tokens;
		else if (e->op != SESSION_WAIT && __builtin_add_overflow(now, e->tokens, &now))
			return ikv_err_set(p->err, IKV_BAD_INPUT, "session %s: too many tokens", session->id);
		longest = now > longest ? now : longest;
	}
	p->max_tokens = longest;
	p->max_pages = ikv_pages(longest, g->page_tokens) + 1;
	size_t n = p->max_pages > events ? p->max_pages : events;
	p->blocks = ikv_alloc(events, sizeof *p->blocks, p->err);
	p->names = ikv_alloc(events, sizeof *p->names, p->err);
	p->k = ikv_alloc((size_t)CHUNK * g->kv_heads, g->d_qk * sizeof *p->k, p->err);
	p->v = ikv_alloc((size_t)CHUNK * g->kv_heads, g->d_v * sizeof *p->v, p->err);
	p->q = ikv_alloc(heads, g->d_qk * sizeof *p->q, p->err);
	p->weights = ikv_alloc(longest + 2 * n, sizeof *p->weights, p->err);
	p->mass = ikv_alloc(p->max_pages, sizeof *p->mass, p->err);
	p->all = ikv_alloc(p->max_pages, heads * sizeof *p->all, p->err);
	p->ring = ikv_alloc((size_t)RING * g->kv_heads, p->max_pages, p->err);
	p->order = ikv_alloc(n, sizeof *p->order, p->err);
	p->order2 = ikv_alloc(n, sizeof *p->order2, p->err);
	p->modelled = ikv_alloc(p->max_pages, sizeof *p->modelled, p->err);
	p->scores = ikv_alloc(events, sizeof *p->scores, p->err);
	p->density = ikv_alloc(events, sizeof *p->density, p->err);
	return p->blocks && p->names && p->k && p->v && p->q && p->weights && p->mass && p->all && p->ring &&
		       p->order && p->order2 && p->modelled && p->scores && p->density
		   ? 0
		   : -1;
}

static void release(struct play *p)
{
	void *rooms[] = {p->blocks, p->names, p->k,     p->v,      p->q,        p->weights, p->mass,
			 p->all,    p->ring,  p->order, p->order2, p->modelled, p->scores,  p->density};
	for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++)
		ikv_free(rooms[i]);
	keys_free(&p->keys);
}

int source_stats_measure(struct source *source, const struct source_setup *setup, const struct session *session,
			 uint32_t layer, uint32_t steps, bool model, struct source_stats *out, struct ikv_err *err)
{
	const struct ikv_geometry *g = &setup->geometry;
	struct play p = {.source = source, .setup = setup, .out = out, .layer = layer, .model = model, .err = err};
	uint64_t decoded = 0;
	memset(out, 0, sizeof *out);
	for (uint32_t i = 0; i < session->event_count; i++)
		if (session->events[i].op == SESSION_DECODE)
			decoded += session->events[i].tokens;
	p.first_step = steps && decoded > steps ? decoded - steps : 0;
	p.keys.kv_heads = g->kv_heads;
	p.keys.d = g->d_qk;
	int rc = room(&p, session);
	p.layout.blocks = p.blocks;
	p.layout.page_tokens = g->page_tokens;
	bool begun = !rc && !(rc = source->ops->begin(source, 0, session, 0, err));
	for (uint32_t i = 0; !rc && i < session->event_count; i++)
		rc = play_event(&p, &session->events[i]);
	if (begun)
		source->ops->end(source, 0);
	averages(&p);
	release(&p);
	return rc;
}

/* Sizes of a turn's blocks as multiples of their mean: agents read both short answers and long files. */
static const double turn_size[] = {.4, 1.7, .9, .2, 2.6, .6, 1.1, .5, 1.4, .3, 1.8, .5};
static const struct {
	enum ikv_kind kind;
	double share;
} turn_kinds[] = {
    {IKV_KIND_USER, .19}, {IKV_KIND_ASSISTANT, .09}, {IKV_KIND_TOOL_CALL, .06}, {IKV_KIND_TOOL_OUTPUT, .45}};
#define TURNS 12

/* `tokens` of a block: those beyond `appended` are decoded. */
static int put_block(struct session *s, enum ikv_kind kind, uint32_t tokens, uint32_t *at, uint32_t appended,
		     struct ikv_err *err)
{
	uint32_t n = *at >= appended ? 0 : appended - *at < tokens ? appended - *at : tokens;
	for (int i = 0; i < 2; i++) {
		if (i ? n == tokens : n == 0)
			continue;
		struct session_event *e = session_push(s, i ? SESSION_DECODE : SESSION_APPEND, err);
		if (!e)
			return -1;
		e->kind = kind;
		e->tokens = i ? tokens - n : n;
		e->confidence = 1;
	}
	*at += tokens;
	return 0;
}

int source_stats_session(struct session_list *out, uint32_t tokens, uint32_t steps, struct ikv_err *err)
{
	uint32_t at = 0;
	if (tokens < 1000 || steps == 0 || steps >= tokens)
		return ikv_err_set(err, IKV_FAILED, "a session of %u tokens with %u steps", tokens, steps);
	struct session *s = session_add(out, "mean-shape", err);
	if (!s || put_block(s, IKV_KIND_SYSTEM, (uint32_t)(.21 * tokens), &at, tokens - steps, err))
		return -1;
	for (int turn = 0; at < tokens; turn++) {
		for (int k = 0; k < 4 && at < tokens; k++) {
			double mean = turn_kinds[k].share * tokens / TURNS;
			uint32_t n = (uint32_t)(mean * turn_size[(turn + 5 * k) % TURNS]) + 1;
			n = tokens - at < n ? tokens - at : n;
			if (put_block(s, turn_kinds[k].kind, n, &at, tokens - steps, err))
				return -1;
		}
	}
	return 0;
}

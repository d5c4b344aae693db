/* Reference backend: stored rows decoded one by one, two-pass softmax in double precision, one thread. */
#include <float.h>
#include <math.h>
#include "attn/store.h"
#include "intentkv/alloc.h"

#define ROWS 32 /* query rows of one KV head for which a page is decoded once */

struct ref {
	struct ikv_backend base;
	struct store store;
	double *scores; /* [tokens of a plan][ROWS] */
	double *mass;   /* [pages of a plan][ROWS] */
	double *out;    /* [ROWS][d_v] */
	float *row;     /* [largest of d_qk and d_v] */
	uint8_t *page;  /* K or V of a page and head in the canonical form */
	size_t scores_cap, mass_cap;
};

struct rows { /* up to ROWS query rows of a unit that use one KV head */
	uint32_t kv_head, count;
	uint32_t len[ROWS], head[ROWS]; /* row of the head, head of the unit */
	double top[ROWS], sum[ROWS];
};

static bool ref_usable(char *why, size_t size)
{
	(void)why;
	(void)size;
	return true;
}

static void ref_close(struct ikv_backend *b)
{
	struct ref *r = (struct ref *)b;
	if (!r)
		return;
	store_free(&r->store);
	ikv_free(r->scores);
	ikv_free(r->mass);
	ikv_free(r->out);
	ikv_free(r->row);
	ikv_free(r->page);
	ikv_free(r);
}

static int ref_open(struct ikv_backend **out, const struct ikv_geometry *g, const struct ikv_backend_config *config,
		    struct ikv_err *err)
{
	struct ref *r = ikv_alloc(1, sizeof *r, err);
	if (!r)
		return -1;
	r->base.ops = &ikv_backend_ref;
	if (store_init(&r->store, g, config->sequences, err)) {
		ikv_free(r);
		return -1;
	}
	r->out = ikv_alloc((size_t)ROWS * g->d_v, sizeof *r->out, err);
	r->row = ikv_alloc(g->d_qk > g->d_v ? g->d_qk : g->d_v, sizeof *r->row, err);
	r->page = ikv_alloc(store_form_bytes(g), 1, err);
	if (!r->out || !r->row || !r->page) {
		ref_close(&r->base);
		return -1;
	}
	*out = &r->base;
	return 0;
}

static int ref_append(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		      const uint16_t *v, struct ikv_err *err)
{
	return store_append(&((struct ref *)b)->store, seq, layer, tokens, k, v, err);
}

static int ref_truncate(struct ikv_backend *b, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	return store_truncate(&((struct ref *)b)->store, seq, tokens, err);
}

static void ref_release(struct ikv_backend *b, uint32_t seq)
{
	store_release(&((struct ref *)b)->store, seq);
}

static int ref_recode(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_format to, struct ikv_err *err)
{
	return store_recode(&((struct ref *)b)->store, seq, layer, kv_first, kv_count, page, to, err);
}

static int ref_restore(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		       uint32_t page, enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err)
{
	return store_restore(&((struct ref *)b)->store, seq, layer, kv_first, kv_count, page, to, k, v, err);
}

static enum ikv_format ref_format(const struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_head,
				  uint32_t page)
{
	return store_format(&((const struct ref *)b)->store, seq, layer, kv_head, page);
}

static bool selected(const struct ikv_plan *p, const struct ikv_page_ref *ref, uint32_t t)
{
	return ref->mask == IKV_NO_MASK || (p->masks[ref->mask + t / 64] >> t % 64 & 1);
}

/* What is added to the score of the token at position p in query row i; -inf: the row does not see it. */
static double bias_of(const struct ikv_attn_unit *u, uint32_t i, uint64_t p)
{
	if (u->positions && p > u->positions[i])
		return -INFINITY;
	if (u->bias && p >= u->bias_first && p - u->bias_first < u->bias_tokens)
		return u->bias[(size_t)i * u->bias_tokens + (p - u->bias_first)];
	return 0;
}

/* Scores of the selected tokens, in order, and each row's largest. */
static void score_plan(struct ref *r, const struct ikv_attn_unit *u, struct rows *x)
{
	const struct ikv_geometry *g = &r->store.g;
	double *s = r->scores;
	for (uint32_t i = 0; i < x->count; i++)
		x->top[i] = -INFINITY;
	for (uint32_t p = 0; p < u->plan->count; p++) {
		const struct ikv_page_ref *ref = &u->plan->pages[p];
		const struct store_slot *slot = store_slot(&r->store, u->seq, u->layer, x->kv_head, ref->page);
		struct codec_rows rows = {r->page, g->page_tokens, g->d_qk, false};
		store_read(&r->store, slot, false, r->page);
		for (uint32_t t = ref->lo; t < ref->hi; t++) {
			if (!selected(u->plan, ref, t))
				continue;
			codec_read((enum ikv_format)slot->format, &rows, t, 0, g->d_qk, r->row);
			for (uint32_t i = 0; i < x->count; i++, s++) {
				const float *q = u->q + ((size_t)x->len[i] * u->q_count + x->head[i]) * g->d_qk;
				double dot = 0;
				for (uint32_t d = 0; d < g->d_qk; d++)
					dot += (double)q[d] * r->row[d];
				*s = dot * g->scale + bias_of(u, x->len[i], (uint64_t)ref->page * g->page_tokens + t);
				if (*s < -FLT_MAX) /* not a number that a backend in float could hold */
					*s = -INFINITY;
				x->top[i] = fmax(x->top[i], *s);
			}
		}
	}
}

/* Unnormalised outputs in r->out, sums of each page's weights in r->mass and of all in x->sum. */
static void weigh_plan(struct ref *r, const struct ikv_attn_unit *u, struct rows *x)
{
	const struct ikv_geometry *g = &r->store.g;
	const double *s = r->scores;
	memset(r->out, 0, (size_t)x->count * g->d_v * sizeof *r->out);
	memset(x->sum, 0, sizeof x->sum);
	for (uint32_t p = 0; p < u->plan->count; p++) {
		const struct ikv_page_ref *ref = &u->plan->pages[p];
		const struct store_slot *slot = store_slot(&r->store, u->seq, u->layer, x->kv_head, ref->page);
		struct codec_rows rows = {r->page, g->page_tokens, g->v_aliases_k ? g->d_qk : g->d_v,
					 !g->v_aliases_k};
		double *mass = r->mass + (size_t)p * ROWS;
		memset(mass, 0, ROWS * sizeof *mass);
		store_read(&r->store, slot, !g->v_aliases_k, r->page);
		for (uint32_t t = ref->lo; t < ref->hi; t++) {
			if (!selected(u->plan, ref, t))
				continue;
			codec_read((enum ikv_format)slot->format, &rows, t, 0, g->d_v, r->row);
			for (uint32_t i = 0; i < x->count; i++, s++) {
				double w = *s == -INFINITY ? 0 : exp(*s - x->top[i]);
				for (uint32_t d = 0; w > 0 && d < g->d_v; d++)
					r->out[(size_t)i * g->d_v + d] += w * r->row[d];
				mass[i] += w;
			}
		}
		for (uint32_t i = 0; i < x->count; i++)
			x->sum[i] += mass[i];
	}
}

static void attend_rows(struct ref *r, const struct ikv_attn_unit *u, struct rows *x)
{
	uint32_t d_v = r->store.g.d_v;
	score_plan(r, u, x);
	weigh_plan(r, u, x);
	for (uint32_t i = 0; i < x->count; i++) {
		size_t at = (size_t)x->len[i] * u->q_count + x->head[i];
		double sum = x->sum[i];
		for (uint32_t d = 0; d < d_v; d++)
			u->out[at * d_v + d] = sum > 0 ? (float)(r->out[(size_t)i * d_v + d] / sum) : 0;
		if (u->lse)
			u->lse[at] = sum > 0 ? (float)(x->top[i] + log(sum)) : -INFINITY;
		for (uint32_t p = 0; u->mass && p < u->plan->count; p++)
			u->mass[at * u->plan->count + p] = sum > 0 ? (float)(r->mass[(size_t)p * ROWS + i] / sum) : 0;
	}
}

static int attend(struct ref *r, const struct ikv_attn_unit *u, struct ikv_err *err)
{
	const struct ikv_geometry *g = &r->store.g;
	uint32_t group = g->q_heads / g->kv_heads, len = ikv_attn_rows(u);
	struct rows x;
	for (size_t i = 0; i < (size_t)len * u->q_count * g->d_qk; i++)
		if (!isfinite(u->q[i]))
			return ikv_err_set(err, IKV_BAD_INPUT, "query of head %zu, channel %zu is not finite",
					   u->q_first + i / g->d_qk % u->q_count, i % g->d_qk);
	for (uint32_t h = 0; h < u->q_count;) {
		uint32_t end = h + group - (u->q_first + h) % group;
		end = end < u->q_count ? end : u->q_count;
		x.kv_head = (u->q_first + h) / group;
		x.count = 0;
		for (uint32_t i = 0; i < len; i++) {
			for (uint32_t k = h; k < end; k++) {
				x.len[x.count] = i;
				x.head[x.count++] = k;
				if (x.count == ROWS || (i == len - 1 && k == end - 1)) {
					attend_rows(r, u, &x);
					x.count = 0;
				}
			}
		}
		h = end;
	}
	return 0;
}

static int ref_decode(struct ikv_backend *b, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	struct ref *r = (struct ref *)b;
	if (store_check_units(&r->store, units, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		size_t pages = units[i].plan->count;
		const size_t scores = pages * r->store.g.page_tokens * ROWS;
		if (ikv_reserve(&r->scores, &r->scores_cap, scores, sizeof *r->scores, err) ||
		    ikv_reserve(&r->mass, &r->mass_cap, pages * ROWS, sizeof *r->mass, err) ||
		    attend(r, &units[i], err))
			return -1;
	}
	r->store.stats.kv_bytes_read += store_read_bytes(&r->store, units, count);
	return 0;
}

static void ref_stats(const struct ikv_backend *b, struct ikv_backend_stats *stats)
{
	*stats = ((const struct ref *)b)->store.stats;
	stats->isa = "double";
}

const struct ikv_backend_ops ikv_backend_ref = {
    .name = "ref",
    .summary = "double precision, one thread: the yardstick",
    .usable = ref_usable,
    .open = ref_open,
    .close = ref_close,
    .append = ref_append,
    .truncate = ref_truncate,
    .release = ref_release,
    .recode = ref_recode,
    .restore = ref_restore,
    .format = ref_format,
    .decode = ref_decode,
    .stats = ref_stats,
};

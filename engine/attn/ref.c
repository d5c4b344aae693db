/* Reference backend: stored rows decoded one by one, two-pass softmax in double precision, one thread. */
#include <math.h>
#include "attn/store.h"
#include "intentkv/alloc.h"

struct ref {
	struct ikv_backend base;
	struct store store;
	double *scores; /* [tokens of a plan] */
	double *mass;   /* [pages of a plan] */
	double *out;    /* [d_v] */
	float *row;     /* [largest of d_qk and d_v] */
	uint8_t *page;  /* K or V of a page and head in the canonical form */
	size_t scores_cap, mass_cap;
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
	r->out = ikv_alloc(g->d_v, sizeof *r->out, err);
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

/* Scores of one head's selected tokens, in order; returns the largest. */
static double score_plan(struct ref *r, const struct ikv_attn_unit *u, uint32_t h)
{
	const struct ikv_geometry *g = &r->store.g;
	const float *q = u->q + (size_t)h * g->d_qk;
	uint32_t kv_head = (u->q_first + h) / (g->q_heads / g->kv_heads);
	double top = -INFINITY, *s = r->scores;
	for (uint32_t i = 0; i < u->plan->count; i++) {
		const struct ikv_page_ref *ref = &u->plan->pages[i];
		const struct store_slot *slot = store_slot(&r->store, u->seq, u->layer, kv_head, ref->page);
		struct codec_rows rows = {r->page, g->page_tokens, g->d_qk, false};
		store_read(&r->store, slot, false, r->page);
		for (uint32_t t = ref->lo; t < ref->hi; t++) {
			if (!selected(u->plan, ref, t))
				continue;
			double dot = 0;
			codec_read((enum ikv_format)slot->format, &rows, t, 0, g->d_qk, r->row);
			for (uint32_t d = 0; d < g->d_qk; d++)
				dot += (double)q[d] * r->row[d];
			*s = dot * g->scale;
			top = fmax(top, *s++);
		}
	}
	return top;
}

/* Unnormalised output in r->out, sum of each page's weights in r->mass; returns the sum of all. */
static double weigh_plan(struct ref *r, const struct ikv_attn_unit *u, uint32_t h, double top)
{
	const struct ikv_geometry *g = &r->store.g;
	uint32_t kv_head = (u->q_first + h) / (g->q_heads / g->kv_heads);
	const double *s = r->scores;
	double sum = 0;
	memset(r->out, 0, g->d_v * sizeof *r->out);
	for (uint32_t i = 0; i < u->plan->count; i++) {
		const struct ikv_page_ref *ref = &u->plan->pages[i];
		const struct store_slot *slot = store_slot(&r->store, u->seq, u->layer, kv_head, ref->page);
		struct codec_rows rows = {r->page, g->page_tokens, g->v_aliases_k ? g->d_qk : g->d_v,
					 !g->v_aliases_k};
		r->mass[i] = 0;
		store_read(&r->store, slot, !g->v_aliases_k, r->page);
		for (uint32_t t = ref->lo; t < ref->hi; t++) {
			if (!selected(u->plan, ref, t))
				continue;
			double w = exp(*s++ - top);
			codec_read((enum ikv_format)slot->format, &rows, t, 0, g->d_v, r->row);
			for (uint32_t d = 0; d < g->d_v; d++)
				r->out[d] += w * r->row[d];
			r->mass[i] += w;
		}
		sum += r->mass[i];
	}
	return sum;
}

static int attend(struct ref *r, const struct ikv_attn_unit *u, struct ikv_err *err)
{
	const struct ikv_geometry *g = &r->store.g;
	for (uint32_t h = 0; h < u->q_count; h++) {
		for (uint32_t d = 0; d < g->d_qk; d++)
			if (!isfinite(u->q[(size_t)h * g->d_qk + d]))
				return ikv_err_set(err, IKV_BAD_INPUT, "query of head %u, channel %u is not finite",
						   u->q_first + h, d);
		double top = score_plan(r, u, h), sum = weigh_plan(r, u, h, top);
		for (uint32_t d = 0; d < g->d_v; d++)
			u->out[(size_t)h * g->d_v + d] = sum > 0 ? (float)(r->out[d] / sum) : 0;
		if (u->lse)
			u->lse[h] = sum > 0 ? (float)(top + log(sum)) : -INFINITY;
		for (uint32_t i = 0; u->mass && i < u->plan->count; i++)
			u->mass[(size_t)h * u->plan->count + i] = sum > 0 ? (float)(r->mass[i] / sum) : 0;
	}
	return 0;
}

static int room(double **array, size_t *cap, size_t need, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	size_t want = need < 2 * *cap ? 2 * *cap : need;
	if (ikv_grow(array, 0, want, sizeof **array, err))
		return -1;
	*cap = want;
	return 0;
}

static int ref_decode(struct ikv_backend *b, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	struct ref *r = (struct ref *)b;
	if (store_check(&r->store, units, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		size_t pages = units[i].plan->count;
		if (room(&r->scores, &r->scores_cap, pages * r->store.g.page_tokens, err) ||
		    room(&r->mass, &r->mass_cap, pages, err) || attend(r, &units[i], err))
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

#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>
#include "gpu/selection.h"
#include "intentkv/alloc.h"
#include "intentkv/layout.h"

#define COST_UNIT 16u /* bytes that a budget of bytes is counted in */

struct sizes { /* of one call: offsets in the buffers */
	size_t q_at, in_bytes, scores_at, count_at, out_bytes, refs;
	bool chooses; /* there is a budget */
	uint32_t pages_most, heads_most;
};

void selection_close(struct selection *s)
{
	for (size_t i = 0; s->summaries.lists && i < (size_t)s->summaries.sequences * s->summaries.g.layers; i++)
		cudaFree(s->summaries.lists[i].device);
	summaries_close(&s->summaries);
	device_release(&s->in);
	device_release(&s->out);
	device_release(&s->refs);
	ikv_free(s->choices);
	s->choices = NULL;
	s->count = 0;
}

static int check(const struct selection *s, const struct pages *p, const struct ikv_select_unit *u, uint32_t i,
		 struct ikv_err *err)
{
	const struct ikv_geometry *g = &p->g;
	if (u->seq >= p->sequences || u->layer >= g->layers)
		return ikv_err_set(err, IKV_FAILED,
				   "unit %u: sequence %u, layer %u: the backend has %u sequences, %u layers", i,
				   u->seq, u->layer, p->sequences, g->layers);
	if (!u->q_count || u->q_first > g->q_heads || u->q_count > g->q_heads - u->q_first)
		return ikv_err_set(err, IKV_FAILED, "unit %u: query heads %u+%u: there are %u", i, u->q_first,
				   u->q_count, g->q_heads);
	for (size_t k = 0; k < (size_t)u->q_count * g->d_qk; k++)
		if (!isfinite(u->q[k] * g->scale))
			return ikv_err_set(err, IKV_BAD_INPUT, "query of head %u, channel %u is not finite",
					   u->q_first + (uint32_t)(k / g->d_qk), (uint32_t)(k % g->d_qk));
	if (!s->summaries.lists)
		return ikv_err_set(err, IKV_FAILED, "backend cuda: opened without page summaries");
	return 0;
}

/* A larger array on the device takes over the old one's pages. */
static int grow_list(const struct summaries *s, struct summary_list *l, struct device *d, struct ikv_err *err)
{
	size_t each = summaries_page_bytes(s);
	void *more;
	if (l->pages <= l->device_cap)
		return 0;
	if (device_failed(cudaMalloc(&more, l->cap * each), "allocate device memory for page summaries", err))
		return -1;
	if (l->device_cap &&
	    (device_flush(d, err) || device_failed(cudaMemcpyAsync(more, l->device, l->device_cap * each,
								    cudaMemcpyDeviceToDevice, d->stream),
						   "copy page summaries", err))) {
		cudaFree(more);
		return -1;
	}
	cudaFree(l->device); /* waits for work that uses it */
	l->device = more;
	l->device_cap = l->cap;
	return 0;
}

static int upload(struct selection *s, struct pages *p, uint32_t seq, uint32_t layer, struct ikv_err *err)
{
	struct summary_list *l = summaries_list(&s->summaries, seq, layer);
	size_t each = summaries_page_bytes(&s->summaries);
	if (grow_list(&s->summaries, l, &p->device, err))
		return -1;
	for (uint32_t n; l->dirty_from < l->dirty_to; l->dirty_from += n) {
		size_t most = ((size_t)1 << 20) / each; /* pages of a put */
		n = l->dirty_to - l->dirty_from;
		n = n < most ? n : most ? (uint32_t)most : 1;
		void *to = device_put(&p->device, (uint64_t)(uintptr_t)l->device + l->dirty_from * each, n * each, err);
		if (!to)
			return -1;
		summaries_pack(&s->summaries, l, l->dirty_from, l->dirty_from + n, to);
	}
	l->dirty_from = l->dirty_to = 0;
	return 0;
}

static size_t words_of(uint32_t pages) /* of a bitmap, 64 bits each */
{
	return ((size_t)pages + 63) / 64;
}

static uint32_t budget_of(const struct ikv_select_unit *u)
{
	uint64_t n = u->bytes ? u->budget / COST_UNIT : u->budget;
	n = u->budget && !n ? 1 : n;
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

/* Least cost of a page of one KV head. */
static uint32_t cost_of(const struct pages *p, unsigned f)
{
	return (uint32_t)((p->own[f] + COST_UNIT - 1) / COST_UNIT);
}

/* References that a unit may come to. */
static uint32_t room_of(const struct pages *p, const struct ikv_select_unit *u, uint32_t pages)
{
	uint32_t n = budget_of(u), least = UINT32_MAX;
	for (unsigned f = 1; u->bytes && f < IKV_FMT_COUNT; f++)
		least = p->own[f] && cost_of(p, f) < least ? cost_of(p, f) : least;
	n = u->bytes ? n / least : n;
	return n < pages ? n : pages;
}

static void lay_out(const struct selection *s, const struct pages *p, const struct ikv_select_unit *units,
		    uint32_t count, struct sizes *z)
{
	size_t rows = 0, pages = 0, words = 0;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = summaries_list(&s->summaries, units[i].seq, units[i].layer)->pages;
		rows += units[i].q_count;
		pages += n;
		words += units[i].budget ? words_of(n) : 0;
		z->chooses = z->chooses || units[i].budget;
		z->refs += units[i].budget ? room_of(p, &units[i], n) : 0;
		z->pages_most = n > z->pages_most ? n : z->pages_most;
		z->heads_most = units[i].q_count > z->heads_most ? units[i].q_count : z->heads_most;
	}
	z->q_at = (count * sizeof(struct select_unit) + 127) & ~(size_t)127;
	z->in_bytes = z->q_at + 4 * rows * p->g.d_qk;
	z->scores_at = 8 * words;
	z->count_at = z->scores_at + 4 * pages;
	z->out_bytes = z->count_at + (z->chooses ? 4 * (size_t)count : 0);
}

static void put_units(struct selection *s, const struct pages *p, const struct ikv_select_unit *units, uint32_t count,
		      const struct sizes *z)
{
	uint8_t *in = s->in.host, *in_device = s->in.device, *out = s->out.device;
	struct select_unit *to = (struct select_unit *)in;
	float *q = (float *)(in + z->q_at);
	uint32_t group = p->g.q_heads / p->g.kv_heads;
	size_t rows = 0, pages = 0, words = 0, refs = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_select_unit *u = &units[i];
		const struct summary_list *l = summaries_list(&s->summaries, u->seq, u->layer);
		uint32_t room = u->budget ? room_of(p, u, l->pages) : 0, kv = u->q_first / group;
		to[i] = (struct select_unit){
		    .summaries = l->device,
		    .q = (const float *)(in_device + z->q_at) + rows * p->g.d_qk,
		    .scores = (float *)(out + z->scores_at) + pages,
		    .q_first = u->q_first,
		    .q_count = u->q_count,
		    .pages = l->pages,
		    .last = l->tokens - (l->pages ? l->pages - 1 : 0) * p->g.page_tokens,
		    .budget = budget_of(u),
		    .first = u->first,
		    .recent = u->recent,
		    .room = room,
		    .table = u->bytes ? pages_list(p, u->seq, u->layer)->device_table : NULL,
		    .kv_first = kv,
		    .kv_count = (u->q_first + u->q_count - 1) / group + 1 - kv,
		    .refs = (struct ikv_page_ref *)s->refs.device + refs,
		    .chosen = (uint32_t *)(out + 8 * words),
		    .count = (uint32_t *)(out + z->count_at) + i,
		};
		memcpy(q + rows * p->g.d_qk, u->q, 4 * (size_t)u->q_count * p->g.d_qk);
		rows += u->q_count;
		pages += l->pages;
		words += u->budget ? words_of(l->pages) : 0;
		refs += room;
	}
}

static int launch(struct selection *s, struct pages *p, const struct ikv_select_unit *units, uint32_t count,
		  const struct sizes *z, struct ikv_err *err)
{
	const char *doing = "choose pages";
	cudaStream_t stream = p->device.stream;
	struct select_args args = {.units = s->in.device,
				   .count = count,
				   .pages_most = z->pages_most,
				   .heads_most = z->heads_most,
				   .multiprocessors = p->device.multiprocessors,
				   .group = p->g.q_heads / p->g.kv_heads,
				   .kv_heads = p->g.kv_heads,
				   .d_qk = p->g.d_qk,
				   .page_tokens = p->g.page_tokens,
				   .bytes = units[0].bytes};
	for (unsigned f = 1; f < IKV_FMT_COUNT; f++)
		args.cost[f] = cost_of(p, f);
	args.cost[TILE_BF16_WIDE] = cost_of(p, IKV_FMT_BF16);
	if (device_failed(cudaMemcpyAsync(s->in.device, s->in.host, z->in_bytes, cudaMemcpyHostToDevice, stream), doing,
			  err) ||
	    device_failed(s->summaries.kind == IKV_PAGE_COSINE ? select_cosines(&args, stream) : select_scores(&args, stream),
			  doing, err))
		return -1;
	args.overlap = p->device.bulk;
	if ((z->chooses && device_failed(select_pages(&args, stream), doing, err)) ||
	    device_failed(cudaMemcpyAsync(s->out.host, s->out.device, z->out_bytes, cudaMemcpyDeviceToHost, stream), doing,
			  err))
		return -1;
	return device_failed(cudaStreamSynchronize(stream), doing, err);
}

static void take_answers(struct selection *s, const struct pages *p, const struct ikv_select_unit *units,
			 uint32_t count, const struct sizes *z)
{
	const uint8_t *out = s->out.host;
	const float *scores = (const float *)(out + z->scores_at);
	const uint64_t *chosen = (const uint64_t *)out;
	const struct ikv_page_ref *refs = s->refs.device;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_select_unit *u = &units[i];
		const struct summary_list *l = summaries_list(&s->summaries, u->seq, u->layer);
		if (u->scores && l->pages)
			memcpy(u->scores, scores, l->pages * sizeof *scores);
		scores += l->pages;
		if (!u->budget)
			continue;
		if (u->chosen && l->pages)
			memcpy(u->chosen, chosen, words_of(l->pages) * sizeof *chosen);
		s->choices[s->count++] = (struct selection_choice){
		    .seq = u->seq,
		    .layer = u->layer,
		    .q_first = u->q_first,
		    .q_count = u->q_count,
		    .pages = l->pages,
		    .last = l->tokens - (l->pages ? l->pages - 1 : 0) * p->g.page_tokens,
		    .count = l->pages ? ((const uint32_t *)(out + z->count_at))[i] : 0,
		    .chosen = chosen,
		    .refs = refs,
		};
		chosen += words_of(l->pages);
		refs += room_of(p, u, l->pages);
	}
}

int selection_run(struct selection *s, struct pages *p, const struct ikv_select_unit *units, uint32_t count,
		  struct ikv_err *err)
{
	struct sizes z = {0};
	s->count = 0; /* what is there is about to be overwritten */
	/* All are checked first: what a refused call left to be uploaded could be written twice by the next flush. */
	for (uint32_t i = 0; i < count; i++)
		if (check(s, p, &units[i], i, err))
			return -1;
	for (uint32_t i = 0; i < count; i++)
		if (upload(s, p, units[i].seq, units[i].layer, err))
			return -1;
	if (!count || pages_upload(p, err))
		return count ? -1 : 0;
	for (uint32_t i = 1; i < count; i++)
		if (units[i].bytes != units[0].bytes)
			return ikv_err_set(err, IKV_FAILED, "unit %u: budgets of one call are pages or bytes", i);
	lay_out(s, p, units, count, &z);
	if (count > s->choices_cap) {
		if (ikv_grow(&s->choices, s->choices_cap, count, sizeof *s->choices, err))
			return -1;
		s->choices_cap = count;
	}
	if (device_reserve(&s->in, z.in_bytes, true, err) || device_reserve(&s->out, z.out_bytes, true, err) ||
	    device_reserve(&s->refs, z.refs * sizeof(struct ikv_page_ref) + 16, false, err))
		return -1;
	put_units(s, p, units, count, &z);
	if (launch(s, p, units, count, &z, err))
		return -1;
	take_answers(s, p, units, count, &z);
	return 0;
}

/* Whole pages, just those chosen, and the sequence as it was? */
static bool same(const struct selection_choice *c, const struct ikv_plan *plan)
{
	if (plan->count != c->count ||
	    plan->total_tokens != (c->pages - 1) * plan->page_tokens + c->last)
		return false;
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct ikv_page_ref *r = &plan->pages[i];
		if (r->page >= c->pages || !(c->chosen[r->page / 64] >> r->page % 64 & 1) || r->lo ||
		    r->hi != (r->page + 1 < c->pages ? plan->page_tokens : c->last) || r->mask != IKV_NO_MASK)
			return false;
	}
	return true;
}

const struct ikv_page_ref *selection_find(const struct selection *s, const struct ikv_attn_unit *u, uint32_t *from)
{
	for (uint32_t k = 0, i = *from; k < s->count; k++, i++) {
		i = i < s->count ? i : 0;
		const struct selection_choice *c = &s->choices[i];
		if (c->seq != u->seq || c->layer != u->layer || c->q_first != u->q_first || c->q_count != u->q_count)
			continue;
		*from = i + 1;
		return c->count && same(c, u->plan) ? c->refs : NULL;
	}
	return NULL;
}

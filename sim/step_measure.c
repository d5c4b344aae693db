/* How far the output under the plan is from the dense one, and where the attention mass lies. */
#include <math.h>
#include <string.h>
#include "sim/run.h"

#define NO_BLOCK UINT32_MAX /* tokens between blocks */

struct tally {
	const struct run *run;
	struct slot *s;
	const struct unit *u;
	uint32_t layer;
	const float *mass; /* [heads][pages]: dense mass of the unit's heads, or modelled for all together */
	uint32_t heads, pages;
	double weight; /* of this unit in the means over heads and layers */
	double recall;
	uint32_t block;         /* the one that is being counted: */
	double total, selected; /* its mass so far */
	uint32_t at;            /* first entry of the plan that is not counted yet */
};

/* What has been counted goes to the block and its role. */
static void settle(struct tally *t)
{
	t->recall += t->selected;
	if (t->block != NO_BLOCK) {
		const enum ikv_kind kind = t->s->layout.blocks[t->block].kind;
		t->s->block_mass[t->block] += t->total * t->weight;
		t->s->kind_mass[kind] += t->total * t->weight;
		t->s->kind_selected[kind] += t->selected * t->weight;
	}
	t->total = t->selected = 0;
}

static void count(struct tally *t, uint32_t block, double mass, double selected)
{
	if (block != t->block) {
		settle(t);
		t->block = block;
	}
	t->total += mass;
	t->selected += selected;
}

/* Mean over the heads of the mass on pages first to end - 1. Four sums of every fourth page do not wait for each
 * other. */
static double run_mass(const struct tally *t, uint32_t first, uint32_t end)
{
	double sum[4] = {0};
	for (uint32_t h = 0; h < t->heads; h++) {
		const float *row = t->mass + (size_t)h * t->pages;
		uint32_t p = first;
		for (; p + 4 <= end; p += 4) {
			sum[0] += (double)row[p];
			sum[1] += (double)row[p + 1];
			sum[2] += (double)row[p + 2];
			sum[3] += (double)row[p + 3];
		}
		for (; p < end; p++)
			sum[0] += (double)row[p];
	}
	return (sum[0] + sum[1] + sum[2] + sum[3]) / t->heads;
}

static double page_mass(const struct tally *t, uint32_t page)
{
	double sum = 0;
	for (uint32_t h = 0; h < t->heads; h++)
		sum += (double)t->mass[(size_t)h * t->pages + page];
	return sum / t->heads;
}

static uint32_t page_size(const struct tally *t, uint32_t page)
{
	const uint32_t size = t->run->geometry.page_tokens, left = t->s->tokens - page * size;
	return left < size ? left : size;
}

static bool reads_whole(const struct tally *t, const struct ikv_page_ref *ref)
{
	return ref->mask == IKV_NO_MASK && ref->lo == 0 && ref->hi >= page_size(t, ref->page);
}

/* Mean over the unit's heads of the dense mass on each token of a page. Only pages that a block boundary or a plan
 * cuts need it. A model knows no more than the page's. */
static int token_mass(const struct tally *t, uint32_t page, float *mass, struct ikv_err *err)
{
	const struct ikv_geometry *g = &t->run->geometry;
	const struct slot *s = t->s;
	const struct unit *u = t->u;
	const float *q = s->q + ((size_t)t->layer * g->q_heads + u->q_first) * g->d_qk;
	if (s->executed)
		return ikv_exact_token_mass(t->run->exact, (uint32_t)(s - t->run->slots), t->layer, page, u->q_first,
					    u->q_count, q, s->lse_dense + u->q_first, mass, err);
	const uint32_t tokens = page_size(t, page);
	for (uint32_t i = 0; i < tokens; i++)
		mass[i] = u->page_mass[page] / (float)tokens;
	return 0;
}

static int selected_tokens(const struct tally *t, const struct ikv_page_ref *ref, double *selected,
			   struct ikv_err *err)
{
	float mass[IKV_PAGE_TOKENS_MAX];
	if (token_mass(t, ref->page, mass, err))
		return -1;
	for (uint32_t i = 0; i < page_size(t, ref->page); i++)
		*selected += ikv_plan_has(&t->u->route.plan, ref, i) ? (double)mass[i] : 0;
	return 0;
}

/* Pages first to end - 1, all in one block or in none. */
static int tally_run(struct tally *t, uint32_t first, uint32_t end, uint32_t block, struct ikv_err *err)
{
	const struct ikv_plan *plan = &t->u->route.plan;
	const double total = run_mass(t, first, end);
	const uint32_t from = t->at;
	double selected = 0;
	bool whole = true;
	for (; t->at < plan->count && plan->pages[t->at].page < end; t->at++)
		whole &= reads_whole(t, &plan->pages[t->at]);
	if (whole && t->at - from == end - first) { /* everything */
		count(t, block, total, total);
		return 0;
	}
	for (uint32_t i = from; i < t->at; i++) {
		const struct ikv_page_ref *ref = &plan->pages[i];
		if (reads_whole(t, ref))
			selected += page_mass(t, ref->page);
		else if (selected_tokens(t, ref, &selected, err))
			return -1;
	}
	count(t, block, total, selected);
	return 0;
}

/* A page in which a block begins or ends; `next` is the first block that ends in it or later. */
static int tally_tokens(struct tally *t, uint32_t page, uint32_t next, struct ikv_err *err)
{
	float mass[IKV_PAGE_TOKENS_MAX];
	const struct ikv_layout *l = &t->s->layout;
	const struct ikv_plan *plan = &t->u->route.plan;
	const struct ikv_page_ref *ref =
	    t->at < plan->count && plan->pages[t->at].page == page ? &plan->pages[t->at++] : NULL;
	const uint32_t first = page * t->run->geometry.page_tokens;
	if (token_mass(t, page, mass, err))
		return -1;
	for (uint32_t i = 0; i < page_size(t, page); i++) {
		while (next < l->count && l->blocks[next].end <= first + i)
			next++;
		const bool in = next < l->count && l->blocks[next].start <= first + i;
		const double m = (double)mass[i];
		count(t, in ? next : NO_BLOCK, m, ref && ikv_plan_has(plan, ref, i) ? m : 0);
	}
	return 0;
}

/* Mass on the selection (*recall) and on each role, for one unit at one layer. */
static int tally_unit(const struct run *run, struct slot *s, const struct unit *u, uint32_t layer, double *recall,
		      struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	const struct ikv_layout *l = &s->layout;
	const uint32_t pages = ikv_pages(s->tokens, g->page_tokens);
	struct tally t = {.run = run,
			  .s = s,
			  .u = u,
			  .layer = layer,
			  .mass = s->executed ? s->mass_dense + (size_t)u->q_first * pages : u->page_mass,
			  .heads = s->executed ? u->q_count : 1,
			  .pages = pages,
			  .weight = (double)u->q_count / ((double)g->q_heads * g->layers),
			  .block = NO_BLOCK};
	for (uint32_t page = 0, end, next = 0; page < pages; page = end) {
		const uint32_t first = page * g->page_tokens;
		while (next < l->count && l->blocks[next].end <= first)
			next++;
		const struct ikv_block *b = next < l->count ? &l->blocks[next] : NULL;
		const bool in = b && b->start <= first;
		const uint32_t until = !b ? s->tokens : in ? b->end : b->start; /* the same block, or the same gap */
		end = until >= s->tokens ? pages : until / g->page_tokens;
		if (end > page ? tally_run(&t, page, end, in ? next : NO_BLOCK, err) != 0
			       : tally_tokens(&t, page, next, err) != 0)
			return -1;
		end = end > page ? end : page + 1;
	}
	settle(&t);
	*recall = t.recall;
	return 0;
}

/* Kullback-Leibler divergence of the attention over pages, KL(selected ‖ dense), mean over the unit's heads.
 * It bounds the divergence over tokens from below. `mass`: [q_count][plan pages]. */
static double page_kl(const struct run *run, struct slot *s, const struct unit *u, const float *mass)
{
	const uint32_t pages = ikv_pages(s->tokens, run->geometry.page_tokens), n = u->route.plan.count;
	double kl = 0;
	for (uint32_t h = 0; h < u->q_count; h++) {
		const float *dense = s->mass_dense + (size_t)(u->q_first + h) * pages;
		for (uint32_t i = 0; i < n && n < pages; i++)
			s->mass_row[i] = dense[u->route.plan.pages[i].page];
		kl += (double)ikv_mass_divergence(mass + (size_t)h * n, n < pages ? s->mass_row : dense, n) / u->q_count;
	}
	return kl;
}

void step_output_errors(const float *out, const float *dense, size_t n, struct layer_result *r)
{
	double diff = 0, norm = 0, own = 0, dot = 0, max = 0;
	for (size_t i = 0; i < n; i++) {
		double d = (double)out[i] - dense[i];
		diff += d * d;
		norm += (double)dense[i] * dense[i];
		own += (double)out[i] * out[i];
		dot += (double)out[i] * dense[i];
		max = fabs(d) > max ? fabs(d) : max;
	}
	r->rel_l2 = norm > 0 ? sqrt(diff / norm) : diff > 0 ? INFINITY : 0;
	r->cosine = norm > 0 && own > 0 ? dot / sqrt(norm * own) : 0;
	r->max_abs = max;
}

int step_measure(struct run *run, struct slot *s, uint32_t layer, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	struct layer_result *r = &s->layers[layer];
	uint32_t pages = ikv_pages(s->tokens, g->page_tokens);
	const float *mass = s->mass_out;
	*r = (struct layer_result){0};
	for (uint32_t i = 0; i < run->units; i++) {
		struct unit *u = &s->units[i];
		if (run->share != IKV_SHARE_STEP && u->layer != layer)
			continue;
		double share = (double)u->q_count / g->q_heads, recall;
		if (tally_unit(run, s, u, layer, &recall, err))
			return -1;
		r->mass_recall += share * recall;
		r->selected_fraction += share * u->route.plan.count / pages;
		r->kl += share * page_kl(run, s, u, mass);
		mass += (size_t)u->q_count * u->route.plan.count;
	}
	size_t n = (size_t)g->q_heads * g->d_v;
	step_output_errors(s->out + layer * n, s->dense + layer * n, n, r);
	return 0;
}

/* One unit at one layer of a step where no attention ran. */
static int model_unit(struct run *run, struct slot *s, struct unit *u, uint32_t layer, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	double share = (double)u->q_count / ((double)g->q_heads * g->layers), recall;
	if (run->source->ops->model_mass(run->source, (uint32_t)(s - run->slots), layer, u->q_first, u->q_count,
					 g->page_tokens, u->page_mass, err) ||
	    tally_unit(run, s, u, layer, &recall, err))
		return -1;
	s->total.mass_recall += share * recall;
	s->total.selected_fraction += share * u->route.plan.count / ikv_pages(s->tokens, g->page_tokens);
	return 0;
}

int step_measure_model(struct run *run, struct slot *s, struct ikv_err *err)
{
	/* A capture has its layers at level off, too. */
	uint32_t layers = run->share == IKV_SHARE_STEP ? run->geometry.layers : 1;
	memset(s->block_mass, 0, s->layout.count * sizeof *s->block_mass);
	s->total.mass_recall = s->total.selected_fraction = 0;
	for (uint32_t i = 0; i < run->units; i++) {
		struct unit *u = &s->units[i];
		if (!u->page_mass && !(u->page_mass = ikv_alloc(s->page_cap, sizeof *u->page_mass, err)))
			return -1;
		for (uint32_t l = 0; l < layers; l++)
			if (model_unit(run, s, u, u->layer + l, err))
				return -1;
	}
	s->mass_by = "model";
	return 0;
}

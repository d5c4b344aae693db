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
	double weight;         /* of this unit in the means over heads and layers */
	double recall;
	uint32_t block;        /* the one that is being counted: */
	double mass, selected; /* so far */
};

/* What has been counted goes to the block and its role. */
static void settle(struct tally *t)
{
	t->recall += t->selected;
	if (t->block != NO_BLOCK) {
		const enum ikv_kind kind = t->s->layout.blocks[t->block].kind;
		t->s->block_mass[t->block] += t->mass * t->weight;
		t->s->kind_mass[kind] += t->mass * t->weight;
		t->s->kind_selected[kind] += t->selected * t->weight;
	}
	t->mass = t->selected = 0;
}

static inline void count(struct tally *t, uint32_t block, double mass, bool selected)
{
	if (block != t->block) {
		settle(t);
		t->block = block;
	}
	t->mass += mass;
	t->selected += selected ? mass : 0;
}

/* Mean over the unit's heads of the dense mass on each token of a page. Only pages that a block boundary or a plan cuts
 * need it; whole pages use the page's own mass. A model has no more than that. */
static int token_mass(const struct tally *t, uint32_t page, uint32_t tokens, float *mass, struct ikv_err *err)
{
	const struct ikv_geometry *g = &t->run->geometry;
	const struct slot *s = t->s;
	const struct unit *u = t->u;
	const float *q = s->q + ((size_t)t->layer * g->q_heads + u->q_first) * g->d_qk;
	if (s->executed)
		return ikv_exact_token_mass(t->run->exact, (uint32_t)(s - t->run->slots), t->layer, page, u->q_first,
					    u->q_count, q, s->lse_dense + u->q_first, mass, err);
	for (uint32_t i = 0; i < tokens; i++)
		mass[i] = u->page_mass[page] / (float)tokens;
	return 0;
}

static int tally_tokens(struct tally *t, uint32_t page, uint32_t first, uint32_t tokens, uint32_t next,
			const struct ikv_page_ref *ref, struct ikv_err *err)
{
	float mass[IKV_PAGE_TOKENS_MAX];
	const struct ikv_layout *l = &t->s->layout;
	if (token_mass(t, page, tokens, mass, err))
		return -1;
	for (uint32_t i = 0; i < tokens; i++) {
		while (next < l->count && l->blocks[next].end <= first + i)
			next++;
		const bool in = next < l->count && l->blocks[next].start <= first + i;
		count(t, in ? next : NO_BLOCK, (double)mass[i], ref && ikv_plan_has(&t->u->route.plan, ref, i));
	}
	return 0;
}

/* Means over the unit's heads of the pages' dense mass: measured, or modelled where no attention ran. */
static const float *page_masses(struct slot *s, const struct unit *u, uint32_t pages)
{
	if (!s->executed)
		return u->page_mass;
	const float *row = s->mass_dense + (size_t)u->q_first * pages;
	float *mean = s->mass_row;
	memcpy(mean, row, pages * sizeof *mean);
	for (uint32_t h = 1; h < u->q_count; h++)
		for (uint32_t p = 0; p < pages; p++)
			mean[p] += row[(size_t)h * pages + p];
	for (uint32_t p = 0; p < pages; p++)
		mean[p] /= (float)u->q_count;
	return mean;
}

/* Mass on the selection (*recall) and on each role, for one unit at one layer. */
static int tally_unit(const struct run *run, struct slot *s, const struct unit *u, uint32_t layer, double *recall,
		      struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	const struct ikv_plan *plan = &u->route.plan;
	uint32_t pages = ikv_pages(s->tokens, g->page_tokens), at = 0, next = 0;
	const float *mass = page_masses(s, u, pages);
	struct tally t = {.run = run,
			  .s = s,
			  .u = u,
			  .layer = layer,
			  .weight = (double)u->q_count / ((double)g->q_heads * g->layers),
			  .block = NO_BLOCK};
	for (uint32_t page = 0; page < pages; page++) {
		uint32_t first = page * g->page_tokens, tokens = s->tokens - first;
		if (tokens > g->page_tokens)
			tokens = g->page_tokens;
		const struct ikv_page_ref *ref =
		    at < plan->count && plan->pages[at].page == page ? &plan->pages[at++] : NULL;
		while (next < s->layout.count && s->layout.blocks[next].end <= first)
			next++;
		const struct ikv_block *b = next < s->layout.count ? &s->layout.blocks[next] : NULL;
		bool one = b && b->start <= first && b->end >= first + tokens;
		bool none = !b || b->start >= first + tokens;
		bool whole = !ref || (ref->mask == IKV_NO_MASK && ref->lo == 0 && ref->hi >= tokens);
		if ((one || none) && whole) {
			count(&t, one ? next : NO_BLOCK, (double)mass[page], ref != NULL);
		} else if (tally_tokens(&t, page, first, tokens, next, ref, err)) {
			return -1;
		}
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
		for (uint32_t i = 0; i < n; i++)
			s->mass_row[i] = dense[u->route.plan.pages[i].page];
		kl += (double)ikv_mass_divergence(mass + (size_t)h * n, s->mass_row, n) / u->q_count;
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

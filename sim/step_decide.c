/* Scores and routing of one slot's step, and the memory step of all slots that decode together. */
#include <string.h>
#include "sim/run.h"

/* Each unit scores its own copy of the blocks. */
static void copy_layouts(struct run *run, struct slot *s)
{
	for (uint32_t i = 0; i < run->units; i++) {
		struct ikv_layout *l = &s->units[i].layout;
		struct ikv_block *blocks = l->blocks;
		memcpy(blocks, s->layout.blocks, s->layout.count * sizeof *blocks);
		*l = s->layout;
		l->blocks = blocks;
	}
}

/* All slots in one call, which all threads share. */
static int score_really(struct run *run, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	uint32_t n = 0;
	for (uint32_t i = 0; i < run->active_count; i++) {
		struct slot *s = run->active[i];
		for (uint32_t k = 0; k < run->units; k++) {
			struct unit *u = &s->units[k];
			run->score_units[n++] = (struct ikv_score_unit){
			    .seq = (uint32_t)(s - run->slots),
			    .layer = u->layer,
			    .q_first = u->q_first,
			    .q_count = u->q_count,
			    .q = s->q + ((size_t)u->layer * g->q_heads + u->q_first) * g->d_qk,
			    .kv = run->exact,
			    .layout = &u->layout,
			    .page_scores = u->page_scores,
			    .given = run->selects ? u->page_scores : NULL,
			};
		}
	}
	return run->sc->scorer_ops->score(run->scorer, run->score_units, n, err);
}

/* Level `off`: relevance as the source models it; page scorers see its modelled mass. */
static int score_by_model(struct run *run, struct slot *s, struct ikv_err *err)
{
	uint32_t slot = (uint32_t)(s - run->slots), P = run->geometry.page_tokens;
	if (s->layout.count > run->score_cap) {
		if (ikv_grow(&run->scores, 0, s->block_cap, sizeof *run->scores, err))
			return -1;
		run->score_cap = s->block_cap;
	}
	if (run->source->ops->model_scores(run->source, slot, &s->layout, run->scores, err))
		return -1;
	for (uint32_t i = 0; i < run->units; i++) {
		struct unit *u = &s->units[i];
		for (uint32_t b = 0; b < u->layout.count; b++) {
			struct ikv_block *block = &u->layout.blocks[b];
			block->has_score = block->policy == IKV_ATTEND || block->policy == IKV_SKIP_BLOCK;
			block->score = run->scores[b];
		}
		if (u->page_scores && run->source->ops->model_mass(run->source, slot, u->layer, u->q_first,
								   u->q_count, P, u->page_scores, err))
			return -1;
	}
	return 0;
}

/* Mean over the unit's heads of the mass that the coming step will really give the pages of one layer. */
static int layer_mass(struct run *run, struct slot *s, const struct unit *u, uint32_t layer, float *mass,
		      struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	uint32_t slot = (uint32_t)(s - run->slots), pages = ikv_pages(s->tokens, g->page_tokens);
	if (!s->executed)
		return run->source->ops->model_mass(run->source, slot, layer, u->q_first, u->q_count, g->page_tokens,
						    mass, err);
	const float *q = s->q + ((size_t)layer * g->q_heads + u->q_first) * g->d_qk;
	if (ikv_exact_mass(run->exact, slot, layer, u->q_first, u->q_count, q, s->mass_out, err))
		return -1;
	for (uint32_t p = 0; p < pages; p++) { /* `mass` may be the first row of mass_out */
		double sum = 0;
		for (uint32_t h = 0; h < u->q_count; h++)
			sum += s->mass_out[(size_t)h * pages + p];
		mass[p] = (float)(sum / u->q_count);
	}
	return 0;
}

/* For routers that may know it. A decision for all layers is told their mean. */
static int coming_mass(struct run *run, struct slot *s, struct unit *u, struct ikv_err *err)
{
	uint32_t layers = run->share == IKV_SHARE_STEP ? run->geometry.layers : 1;
	uint32_t pages = ikv_pages(s->tokens, run->geometry.page_tokens);
	if (layers == 1)
		return layer_mass(run, s, u, u->layer, u->page_mass, err);
	memset(u->page_mass, 0, pages * sizeof *u->page_mass);
	for (uint32_t layer = 0; layer < layers; layer++) {
		if (layer_mass(run, s, u, layer, s->mass_out, err))
			return -1;
		for (uint32_t p = 0; p < pages; p++)
			u->page_mass[p] += s->mass_out[p] / (float)layers;
	}
	return 0;
}

/* Blocks that SpecAttn dropped at the last verification are not attended, whatever they score. */
static void drop_unkept(struct run *run, struct slot *s)
{
	uint32_t slot = (uint32_t)(s - run->slots);
	for (uint32_t i = 0; i < run->units; i++) {
		for (uint32_t b = 0; b < s->layout.count; b++) {
			struct ikv_block *block = &s->units[i].layout.blocks[b];
			if (ikv_specattn_keeps(run->spec, slot, block))
				continue;
			block->policy = IKV_SKIP_BLOCK;
			block->has_score = false;
		}
	}
}

static int score_blocks(struct run *run, struct ikv_err *err)
{
	for (uint32_t i = 0; i < run->active_count; i++)
		copy_layouts(run, run->active[i]);
	if (!(run->needs & (IKV_NEEDS_BLOCK_SCORES | IKV_NEEDS_PAGE_SCORES)))
		return 0;
	if (run->kv)
		return score_really(run, err);
	for (uint32_t i = 0; i < run->active_count; i++)
		if (score_by_model(run, run->active[i], err))
			return -1;
	return 0;
}

int step_score(struct run *run, struct ikv_err *err)
{
	uint64_t start = wall_now_ns();
	if (score_blocks(run, err))
		return -1;
	if (run->spec)
		for (uint32_t i = 0; i < run->active_count; i++)
			drop_unkept(run, run->active[i]);
	uint64_t scored = wall_now_ns();
	for (uint32_t i = 0; i < run->active_count; i++) {
		struct slot *s = run->active[i];
		s->wall_score += (scored - start) / run->active_count;
		uint64_t begun = wall_now_ns();
		for (uint32_t k = 0; k < run->units && (run->needs & IKV_NEEDS_COMING_MASS); k++)
			if (coming_mass(run, s, &s->units[k], err))
				return -1;
		s->wall_mass += wall_now_ns() - begun;
	}
	return 0;
}

static struct ikv_route_unit route_unit(const struct run *run, const struct slot *s, struct unit *u)
{
	/* A plan for all layers is none of the first ones, which some routers leave dense. */
	uint32_t layer = run->share == IKV_SHARE_STEP ? run->geometry.layers - 1 : u->layer;
	return (struct ikv_route_unit){
	    .seq = (uint32_t)(s - run->slots),
	    .layer = run->model_layers[layer],
	    .q_first = u->q_first,
	    .q_count = u->q_count,
	    .step = s->steps,
	    .seed = (uint64_t)run->sc->seed,
	    .layout = &u->layout,
	    .pressure = s->pressure,
	    .page_scores = u->page_scores,
	    .page_mass = u->page_mass,
	    .top_pages = run->selects && u->top ? u->chosen : NULL,
	    .route = &u->route,
	};
}

/* Page scores of the whole batch from the backend, and the pages that the router would take by them. */
int step_select(struct run *run, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	const struct ikv_router_ops *router = run->sc->router_ops;
	uint64_t start = wall_now_ns();
	uint32_t n = 0;
	for (uint32_t i = 0; i < run->active_count; i++) {
		struct slot *s = run->active[i];
		for (uint32_t k = 0; k < run->units; k++) {
			struct unit *u = &s->units[k];
			u->layout.page_tokens = s->layout.page_tokens;
			u->layout.total_tokens = s->layout.total_tokens;
			struct ikv_route_unit r = route_unit(run, s, u);
			u->top = router->top_pages ? router->top_pages(run->router, &r) : 0;
			run->select_units[n++] = (struct ikv_select_unit){
			    .seq = (uint32_t)(s - run->slots),
			    .layer = u->layer,
			    .q_first = u->q_first,
			    .q_count = u->q_count,
			    .q = s->q + ((size_t)u->layer * g->q_heads + u->q_first) * g->d_qk,
			    .budget = u->top,
			    .scores = u->page_scores,
			    .chosen = u->chosen,
			};
		}
	}
	if (run->backend_ops->select(run->backend, run->select_units, n, err))
		return -1;
	uint64_t wall = wall_now_ns() - start;
	for (uint32_t i = 0; i < run->active_count; i++)
		run->active[i]->wall_score += wall / run->active_count;
	return 0;
}

int step_route(struct run *run, struct slot *s, struct ikv_err *err)
{
	uint64_t start = wall_now_ns();
	for (uint32_t i = 0; i < run->units; i++)
		run->route_units[i] = route_unit(run, s, &s->units[i]);
	int rc = run->sc->router_ops->act(run->router, run->route_units, run->units, err);
	s->wall_route += wall_now_ns() - start;
	return rc;
}

/* Union of the plans of a group's units: the pages that any of its heads reads, in the best format asked. */
static void unite(struct run *run, struct slot *s, uint32_t gi)
{
	struct group *g = &s->groups[gi];
	struct ikv_plan *plans[RUN_GROUP_HEADS_MAX];
	uint32_t at[RUN_GROUP_HEADS_MAX] = {0}, n = 0;
	for (uint32_t i = 0; i < run->units; i++)
		if (s->units[i].group == gi)
			plans[n++] = &s->units[i].route.plan;
	ikv_plan_reset(&g->plan, s->tokens);
	for (;;) {
		uint32_t page = UINT32_MAX;
		for (uint32_t i = 0; i < n; i++)
			if (at[i] < plans[i]->count && plans[i]->pages[at[i]].page < page)
				page = plans[i]->pages[at[i]].page;
		if (page == UINT32_MAX)
			return;
		struct ikv_page_ref *ref = &g->plan.pages[g->plan.count++];
		ref->page = UINT32_MAX;
		for (uint32_t i = 0; i < n; i++) {
			if (at[i] == plans[i]->count || plans[i]->pages[at[i]].page != page)
				continue;
			const struct ikv_page_ref *from = &plans[i]->pages[at[i]++];
			if (ref->page == UINT32_MAX) {
				*ref = *from;
				ref->mask = IKV_NO_MASK; /* the manager moves whole pages */
				continue;
			}
			if (from->lo < ref->lo)
				ref->lo = from->lo;
			if (from->hi > ref->hi)
				ref->hi = from->hi;
			if (ikv_format_info(from->request)->precision > ikv_format_info(ref->request)->precision)
				ref->request = from->request;
		}
	}
}

/* What the manager stored goes back into the plans of the single heads. */
static void tell_stored(struct run *run, struct slot *s)
{
	for (uint32_t i = 0; i < run->units; i++) {
		struct ikv_plan *plan = &s->units[i].route.plan;
		const struct ikv_plan *all = &s->groups[s->units[i].group].plan;
		for (uint32_t p = 0, a = 0; p < plan->count; p++) {
			while (all->pages[a].page != plan->pages[p].page)
				a++;
			plan->pages[p].stored = all->pages[a].stored;
		}
	}
}

static int predict(struct run *run, struct slot *s, uint32_t gi, const struct ikv_plan *plan,
		   const struct ikv_route *route, struct ikv_err *err)
{
	struct group *g = &s->groups[gi];
	uint32_t stream = (uint32_t)(s - run->slots) * run->groups + gi;
	for (uint32_t i = 0; i < plan->count; i++)
		g->selected[i] = plan->pages[i].page;
	g->selected_count = plan->count;
	return run->sc->prefetch_ops->step(run->prefetcher, stream, g->selected, g->selected_count,
					   route ? route->prefetch : NULL, route ? route->prefetch_count : 0,
					   g->predicted, s->page_cap, &g->predicted_count, err);
}

/* What the manager is to be told of one slot: a use for each group. */
static int prepare_uses(struct run *run, struct slot *s, struct ikv_memory_use *uses, struct ikv_err *err)
{
	bool united = run->share == IKV_SHARE_HEAD;
	for (uint32_t gi = 0; gi < run->groups; gi++) {
		struct unit *u = &s->units[gi]; /* one unit a group unless united */
		if (united)
			unite(run, s, gi);
		struct ikv_plan *plan = united ? &s->groups[gi].plan : &u->route.plan;
		if (predict(run, s, gi, plan, united ? NULL : &u->route, err))
			return -1;
		uses[gi] = (struct ikv_memory_use){
		    .seq = (uint32_t)(s - run->slots),
		    .group = gi,
		    .plan = plan,
		    .layout = &s->layout,
		    .prefetch = s->groups[gi].predicted,
		    .prefetch_count = s->groups[gi].predicted_count,
		    .pressure = s->pressure,
		    .missed = s->groups[gi].missed,
		};
	}
	return 0;
}

/* One call for the batch: no slot's fetches push out what another is about to read. */
int step_memory(struct run *run, struct ikv_err *err)
{
	uint64_t start = wall_now_ns();
	for (uint32_t i = 0; i < run->active_count; i++)
		if (prepare_uses(run, run->active[i], run->uses + (size_t)i * run->groups, err))
			return -1;
	if (ikv_memory_act(run->memory, run->batch_step, run->uses, run->active_count * run->groups, &run->moved,
			   err))
		return -1;
	for (uint32_t i = 0; i < run->active_count; i++) {
		struct slot *s = run->active[i];
		memset(&s->moved, 0, sizeof s->moved);
		for (uint32_t gi = 0; gi < run->groups; gi++)
			ikv_memory_tally_add(&s->moved, &run->uses[(size_t)i * run->groups + gi].tally);
		if (i == 0) /* what nobody in the batch caused is told once, so that rows add up to what moved */
			ikv_memory_tally_add(&s->moved, &run->moved.rest);
		if (run->share == IKV_SHARE_HEAD)
			tell_stored(run, s);
	}
	uint64_t decided = wall_now_ns();
	if (run->kv && apply_actions(run, err))
		return -1;
	uint64_t applied = wall_now_ns();
	for (uint32_t i = 0; i < run->active_count; i++) {
		run->active[i]->wall_memory += (decided - start) / run->active_count;
		run->active[i]->wall_recode += (applied - decided) / run->active_count;
	}
	return 0;
}

/* Replaying up to a step and looking at its decisions. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "sim/explain.h"

struct look { /* of one unit */
	struct explain *e;
	const struct slot *s;
	const struct unit *u;
	float *mass; /* [pages] mean over the unit's heads and layers; owned */
	struct ikv_route oracle;
	uint32_t pages;
};

static int add_layer_mass(struct look *l, uint32_t layer, float *rows, double weight, struct ikv_err *err)
{
	struct run *run = l->e->run;
	const struct ikv_geometry *g = &run->geometry;
	const struct unit *u = l->u;
	uint32_t slot = (uint32_t)(l->s - run->slots);
	if (!run->kv) {
		if (run->source->ops->model_mass(run->source, slot, layer, u->q_first, u->q_count, g->page_tokens,
						 rows, err))
			return -1;
		for (uint32_t p = 0; p < l->pages; p++)
			l->mass[p] += (float)(weight * rows[p]);
		return 0;
	}
	const float *q = l->s->q + ((size_t)layer * g->q_heads + u->q_first) * g->d_qk;
	if (ikv_exact_mass(run->exact, slot, layer, u->q_first, u->q_count, q, rows, err))
		return -1;
	for (uint32_t p = 0; p < l->pages; p++) {
		double sum = 0;
		for (uint32_t h = 0; h < u->q_count; h++)
			sum += rows[(size_t)h * l->pages + p];
		l->mass[p] += (float)(weight * sum / u->q_count);
	}
	return 0;
}

/* The mass that dense attention gives each page in this very step. */
static int unit_mass(struct look *l, struct ikv_err *err)
{
	struct run *run = l->e->run;
	uint32_t first = run->share == IKV_SHARE_STEP ? 0 : l->u->layer;
	uint32_t count = run->share == IKV_SHARE_STEP ? run->geometry.layers : 1;
	float *rows = ikv_alloc((size_t)l->u->q_count * l->pages, sizeof *rows, err);
	int rc = rows ? 0 : -1;
	for (uint32_t k = 0; k < count && rc == 0; k++)
		rc = add_layer_mass(l, first + k, rows, 1.0 / count, err);
	ikv_free(rows);
	return rc;
}

/* The oracle over the same layout, with the pages that the plan has. */
static int ask_oracle(struct look *l, struct ikv_err *err)
{
	const struct ikv_router_ops *ops = ikv_router_find("oracle");
	uint32_t page_tokens = l->e->run->geometry.page_tokens;
	char budget[32];
	void *state = NULL, *config = ikv_alloc(1, ops->config_bytes, err);
	if (!config)
		return -1;
	ikv_option_defaults(ops->options, config);
	snprintf(budget, sizeof budget, "%llu", (unsigned long long)l->u->route.plan.count * page_tokens);
	struct ikv_route_unit unit = {.layer = l->u->layer,
				      .q_first = l->u->q_first,
				      .q_count = l->u->q_count,
				      .step = l->s->steps,
				      .layout = &l->u->layout,
				      .pressure = l->s->pressure,
				      .page_mass = l->mass,
				      .route = &l->oracle};
	int rc = ikv_option_set(ops->options, config, "budget", budget, err) ||
			 ops->create(&state, config, NULL, err) || ops->act(state, &unit, 1, err)
		     ? -1
		     : 0;
	if (state)
		ops->destroy(state);
	ikv_free(config);
	return rc;
}

/* Tokens of [start, end) that a plan selects; *pages: pages of it that hold any. */
static uint32_t selected(const struct ikv_plan *plan, uint32_t start, uint32_t end, uint32_t *pages,
			 const uint8_t *missed, uint32_t *missed_pages)
{
	uint32_t n = 0, page_tokens = plan->page_tokens;
	*pages = 0;
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct ikv_page_ref *ref = &plan->pages[i];
		uint32_t first = ref->page * page_tokens, before = n;
		if (first >= end || first + page_tokens <= start)
			continue;
		for (uint32_t t = 0; t < page_tokens; t++)
			n += first + t >= start && first + t < end && ikv_plan_has(plan, ref, t);
		if (n > before) {
			++*pages;
			if (missed)
				*missed_pages += missed[i];
		}
	}
	return n;
}

static uint32_t page_length(const struct look *l, uint32_t page)
{
	uint32_t page_tokens = l->e->run->geometry.page_tokens, left = l->s->tokens - page * page_tokens;
	return left < page_tokens ? left : page_tokens;
}

static double range_mass(const struct look *l, uint32_t start, uint32_t end)
{
	uint32_t page_tokens = l->e->run->geometry.page_tokens;
	double mass = 0;
	for (uint32_t t = start; t < end;) {
		uint32_t page = t / page_tokens, next = (page + 1) * page_tokens;
		next = next < end ? next : end;
		mass += (double)l->mass[page] * (next - t) / page_length(l, page);
		t = next;
	}
	return mass;
}

static double plan_mass(const struct look *l, const struct ikv_plan *plan)
{
	double mass = 0;
	for (uint32_t i = 0; i < plan->count; i++)
		mass += (double)l->mass[plan->pages[i].page] * ikv_plan_page_tokens(plan, &plan->pages[i]) /
			page_length(l, plan->pages[i].page);
	return mass;
}

static int add_row(struct look *l, const struct ikv_decision *d, struct ikv_err *err)
{
	struct explain *e = l->e;
	const struct ikv_block *b = &l->u->layout.blocks[d->block];
	if (e->count == e->cap) {
		uint32_t cap = e->cap ? 2 * e->cap : 256;
		if (ikv_grow(&e->rows, e->cap, cap, sizeof *e->rows, err))
			return -1;
		e->cap = cap;
	}
	struct explain_row *row = &e->rows[e->count++];
	uint32_t ignored;
	memset(row, 0, sizeof *row);
	/* A plan of the union of heads has other pages than the unit's: what was missed is then not known by unit. */
	const uint8_t *missed = e->run->share == IKV_SHARE_HEAD ? NULL : l->s->groups[l->u->group].missed;
	row->layer = e->run->model_layers[l->u->layer];
	row->head = l->u->q_first;
	row->block = d->block;
	row->start = d->start;
	row->end = d->end;
	snprintf(row->name, sizeof row->name, "%s", b->name);
	row->kind = b->kind;
	row->policy = b->policy;
	row->decision = *d;
	row->read = selected(&l->u->route.plan, d->start, d->end, &row->pages, missed, &row->missed);
	row->oracle = selected(&l->oracle.plan, d->start, d->end, &ignored, NULL, NULL);
	row->mass = range_mass(l, d->start, d->end);
	return 0;
}

static int look_at_unit(struct explain *e, const struct slot *s, const struct unit *u, struct ikv_err *err)
{
	struct look l = {.e = e, .s = s, .u = u, .pages = ikv_pages(s->tokens, e->run->geometry.page_tokens)};
	int rc = 0;
	if (ikv_route_init(&l.oracle, e->run->geometry.page_tokens, l.pages, s->layout.count + 1, err))
		return -1;
	l.mass = ikv_alloc(l.pages, sizeof *l.mass, err);
	if (!l.mass || unit_mass(&l, err) || ask_oracle(&l, err))
		rc = -1;
	for (uint32_t d = 0; d < u->route.decision_count && rc == 0; d++)
		rc = add_row(&l, &u->route.decisions[d], err);
	if (rc == 0) {
		e->recall += plan_mass(&l, &u->route.plan);
		e->oracle_recall += plan_mass(&l, &l.oracle.plan);
		e->units++;
	}
	ikv_route_free(&l.oracle);
	ikv_free(l.mass);
	return rc;
}

/* Called by the step loop for each session that decoded, when its step is decided and measured. */
static int watch(void *ctx, struct slot *s, struct ikv_err *err)
{
	struct explain *e = ctx;
	if (s->index != e->session || s->steps != e->step)
		return 0;
	for (uint32_t i = 0; i < e->run->units; i++)
		if (look_at_unit(e, s, &s->units[i], err))
			return -1;
	e->recall /= e->units;
	e->oracle_recall /= e->units;
	e->decision_hash = s->account.decision_hash;
	e->tokens = s->tokens;
	e->pages = ikv_pages(s->tokens, e->run->geometry.page_tokens);
	e->pressure = s->pressure;
	e->modelled = !e->run->kv;
	e->found = true;
	e->stop = 1;
	return 0;
}

int explain_play(struct explain *e, struct run *run, struct ikv_err *err)
{
	e->run = run;
	run->stop = &e->stop;
	run->watch = watch;
	run->watch_ctx = e;
	if (run_play(run, err))
		return -1;
	return e->found ? 0
			: ikv_err_set(err, IKV_BAD_INPUT, "session %llu has no step %llu",
				      (unsigned long long)e->session, (unsigned long long)e->step);
}

void explain_free(struct explain *e)
{
	ikv_free(e->rows);
	memset(e, 0, sizeof *e);
}

/* One decode step of all active sessions. */
#include <math.h>
#include <string.h>
#include "sim/run.h"

static bool executes(const struct run *run, const struct slot *s)
{
	return run->kv &&
	       (run->sc->attention.execute == EXECUTE_FULL || s->steps % (uint64_t)run->sc->attention.every == 0);
}

double run_pressure(const struct run *run)
{
	const struct router_config *c = &run->sc->pressure;
	return c->pressure_auto ? ikv_memory_occupancy(run->memory) : c->memory_pressure;
}

/* A fresh step of one slot: its intent moves on and its queries are made. */
static int begin(struct run *run, struct slot *s, struct ikv_err *err)
{
	uint32_t slot = (uint32_t)(s - run->slots);
	const struct ikv_geometry *g = &run->geometry;
	uint64_t start = wall_now_ns();
	s->executed = executes(run, s);
	s->verified = run->spec && s->steps % (uint64_t)run->sc->specattn.gamma == 0;
	s->mass_by = NULL;
	s->spec_accept = NAN;
	memset(s->kind_mass, 0, sizeof s->kind_mass);
	memset(s->kind_selected, 0, sizeof s->kind_selected);
	s->total = (struct layer_result){NAN, NAN, NAN, NAN, NAN, NAN};
	s->pressure = run_pressure(run);
	if (run->source->ops->advance(run->source, slot, s->steps, err))
		return -1;
	for (uint32_t l = 0; run->kv && l < g->layers; l++)
		if (run->source->ops->query(run->source, slot, l, s->q + (size_t)l * g->q_heads * g->d_qk, err))
			return -1;
	s->wall_source += wall_now_ns() - start;
	return 0;
}

static void finish(struct run *run, struct slot *s)
{
	s->steps++;
	run->steps_done++;
	s->wall_score = s->wall_route = s->wall_memory = s->wall_recode = s->wall_source = 0;
	s->wall_attention = s->wall_dense = s->wall_mass = s->wall_measure = 0;
}

/* Where attention did not run the source's model may tell where the mass lies: at level `off` in every n-th step,
 * in all steps where the scenario asks for it. */
static int measure_by_model(struct run *run, struct slot *s, struct ikv_err *err)
{
	bool due = run->sc->record.modelled_mass || (!run->kv && s->steps % (uint64_t)run->sc->attention.every == 0);
	if (s->executed || !due)
		return 0;
	uint64_t start = wall_now_ns();
	int rc = step_measure_model(run, s, err);
	s->wall_measure += wall_now_ns() - start;
	return rc;
}

int run_step(struct run *run, struct ikv_err *err)
{
	for (uint32_t i = 0; i < run->active_count; i++)
		if (begin(run, run->active[i], err))
			return -1;
	if (run->selects && step_select(run, err))
		return -1;
	if (step_score(run, err))
		return -1;
	for (uint32_t i = 0; i < run->active_count; i++)
		if (step_route(run, run->active[i], err))
			return -1;
	if (step_memory(run, err))
		return -1;
	if (run->kv && step_attend(run, err))
		return -1;
	for (uint32_t i = 0; i < run->active_count; i++)
		if (measure_by_model(run, run->active[i], err) || step_verify(run, run->active[i], err))
			return -1;
	if (step_record(run, err))
		return -1;
	for (uint32_t i = 0; i < run->active_count; i++)
		finish(run, run->active[i]);
	run->batch_step++;
	return 0;
}

/* Prompts: their modelled time, and their attention where the scenario asks that it be run.
 *
 * It is run before the manager touches the new pages: chunk by chunk, causal by position, over all earlier pages as
 * they are stored and the prompt's own in FP16. Nothing that is decided later depends on it. */
#include <math.h>
#include "sim/run.h"

enum { PREFILL_ROWS = 512 }; /* query rows a head and call */

double prefill_model_ns(const struct run *run, uint64_t before, uint64_t tokens)
{
	const struct ikv_machine *m = &run->sc->machine;
	if (m->prefill_flops_per_s <= 0)
		return 0;
	double parameters = (double)run->sc->model.weight_bytes / 2;
	double keys = (double)tokens * ((double)before + (double)tokens / 2), channels = 2.0 * run->geometry.d_qk;
	if (run->geometry.v_aliases_k) /* a prefill makes each head's keys and values from the latents */
		channels = 2.0 * run->sc->preset.head_dim + run->sc->preset.rope_dim;
	double flops =
	    2 * parameters * (double)tokens + 2.0 * run->sc->preset.layers * run->geometry.q_heads * keys * channels;
	return m->step_overhead_ns + flops / m->prefill_flops_per_s * 1e9;
}

int prefill_open(struct run *run, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	struct prefill *p = run->prefill = ikv_alloc(1, sizeof *p, err);
	if (!p)
		return -1;
	p->q = ikv_alloc((size_t)PREFILL_ROWS * g->q_heads, g->d_qk * sizeof *p->q, err);
	p->out = ikv_alloc((size_t)PREFILL_ROWS * g->q_heads, g->d_v * sizeof *p->out, err);
	p->dense = ikv_alloc(g->q_heads, g->d_v * sizeof *p->dense, err);
	p->positions = ikv_alloc(PREFILL_ROWS, sizeof *p->positions, err);
	return p->q && p->out && p->dense && p->positions ? ikv_plan_init(&p->plan, g->page_tokens, 1, err) : -1;
}

void prefill_close(struct run *run)
{
	struct prefill *p = run->prefill;
	if (!p)
		return;
	ikv_free(p->q);
	ikv_free(p->out);
	ikv_free(p->dense);
	ikv_free(p->positions);
	ikv_plan_free(&p->plan);
	ikv_free(p);
}

/* Query rows of tokens [first, first + count) over all tokens before them and themselves. */
static int attend_chunk(struct run *run, struct slot *s, uint32_t layer, uint64_t *wall, struct ikv_err *err)
{
	struct prefill *p = run->prefill;
	const struct ikv_geometry *g = &run->geometry;
	uint32_t seq = (uint32_t)(s - run->slots);
	struct ikv_attn_unit unit = {.seq = seq,
				     .layer = layer,
				     .q_count = g->q_heads,
				     .plan = &p->plan,
				     .q = p->q,
				     .out = p->out,
				     .q_len = p->count,
				     .positions = p->positions};
	uint64_t start = wall_now_ns();
	if (run->source->ops->prompt(run->source, seq, layer, p->first, p->count, p->q, err))
		return -1;
	uint64_t begun = wall_now_ns();
	s->wall_source += begun - start;
	if (run->backend_ops->decode(run->backend, &unit, 1, err))
		return -1;
	*wall += wall_now_ns() - begun;
	return 0;
}

/* Error of the last row of the chunk, which sees the whole context, against exact K and V. */
static int last_error(struct run *run, struct slot *s, uint32_t layer, double *rel_l2, struct ikv_err *err)
{
	struct prefill *p = run->prefill;
	const struct ikv_geometry *g = &run->geometry;
	size_t row = (size_t)(p->count - 1) * g->q_heads;
	struct layer_result r;
	if (ikv_exact_dense(run->exact, (uint32_t)(s - run->slots), layer, 0, g->q_heads, p->q + row * g->d_qk,
			    p->dense, NULL, NULL, err))
		return -1;
	step_output_errors(p->out + row * g->d_v, p->dense, (size_t)g->q_heads * g->d_v, &r);
	*rel_l2 += r.rel_l2 / g->layers;
	return 0;
}

static int begin_chunk(struct run *run, uint32_t first, uint32_t end, struct ikv_err *err)
{
	struct prefill *p = run->prefill;
	p->first = first;
	p->count = end - first < PREFILL_ROWS ? end - first : PREFILL_ROWS;
	for (uint32_t i = 0; i < p->count; i++)
		p->positions[i] = first + i;
	if (ikv_plan_reserve(&p->plan, ikv_pages(first + p->count, run->geometry.page_tokens), err))
		return -1;
	ikv_plan_reset(&p->plan, first + p->count);
	ikv_plan_add(&p->plan, 0, first + p->count, IKV_FMT_FP16, 0);
	return 0;
}

int prefill_execute(struct run *run, struct slot *s, uint32_t first, double sim_ns, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	const double rate = run->sc->machine.prefill_flops_per_s;
	double rel_l2 = 0, rows = s->tokens - first, keys = rows * (first + (rows + 1) / 2);
	double flops = 2.0 * g->layers * g->q_heads * keys * ((double)g->d_qk + g->d_v);
	uint64_t wall = 0;
	for (uint32_t t = first; t < s->tokens; t += run->prefill->count) {
		if (begin_chunk(run, t, s->tokens, err))
			return -1;
		for (uint32_t layer = 0; layer < g->layers; layer++)
			if (attend_chunk(run, s, layer, &wall, err) ||
			    (t + run->prefill->count == s->tokens && last_error(run, s, layer, &rel_l2, err)))
				return -1;
	}
	struct store_prefill row = {
	    .run_id = run->run_id,
	    .session = s->index,
	    .prompt = s->prompts++,
	    .turn = s->turn,
	    .tokens = s->tokens - first,
	    .context_tokens = s->tokens,
	    .sim_ns = rate > 0 ? sim_ns : NAN,
	    .sim_executed_ns = rate > 0 ? flops / rate * 1e9 : NAN,
	    .flops = flops,
	    .wall_ns = (double)wall,
	    .rel_l2 = rel_l2,
	};
	return run->store ? store_prefill(run->store, &row, err) : 0;
}

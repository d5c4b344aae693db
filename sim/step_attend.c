/* Real attention of the slots that execute in this step, beside its dense reference. */
#include <math.h>
#include <string.h>
#include "sim/run.h"

/* Attention work of one slot at one layer; the plans may be shared by all layers. */
static uint32_t gather(struct run *run, struct slot *s, uint32_t layer, struct ikv_attn_unit *out)
{
	const struct ikv_geometry *g = &run->geometry;
	uint32_t n = 0;
	size_t mass = 0;
	for (uint32_t i = 0; i < run->units; i++) {
		struct unit *u = &s->units[i];
		if (run->share != IKV_SHARE_STEP && u->layer != layer)
			continue;
		size_t row = (size_t)layer * g->q_heads + u->q_first;
		out[n++] = (struct ikv_attn_unit){
		    .seq = (uint32_t)(s - run->slots),
		    .layer = layer,
		    .q_first = u->q_first,
		    .q_count = u->q_count,
		    .plan = &u->route.plan,
		    .q = s->q + row * g->d_qk,
		    .out = s->out + row * g->d_v,
		    .mass = s->mass_out + mass,
		};
		mass += (size_t)u->q_count * u->route.plan.count;
	}
	return n;
}

uint64_t step_selected_tokens(const struct run *run, const struct slot *s)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < run->units; i++)
		n += s->units[i].route.plan.selected_tokens;
	return n;
}

static int attend_layer(struct run *run, uint32_t layer, struct ikv_err *err)
{
	uint32_t n = 0;
	uint64_t tokens = 0;
	for (uint32_t i = 0; i < run->active_count; i++) {
		if (!run->active[i]->executed)
			continue;
		n += gather(run, run->active[i], layer, run->attn_units + n);
		tokens += step_selected_tokens(run, run->active[i]);
	}
	bool moves = run->backend_ops->place != NULL; /* pages that were moved in this step are on their way */
	uint64_t wall = UINT64_MAX;
	for (uint32_t k = 0; k < (n && run->cool && !moves ? BENCH_COLD_CALLS : 1); k++) {
		if (n && run->cool)
			bench_reader_cool(run->cool);
		uint64_t start = wall_now_ns(), t;
		if ((n || moves) && run->backend_ops->decode(run->backend, run->attn_units, n, err))
			return -1;
		t = wall_now_ns() - start;
		wall = t < wall ? t : wall;
	}
	for (uint32_t i = 0; i < run->active_count; i++) /* a batch's time, by what each read */
		if (run->active[i]->executed)
			run->active[i]->wall_attention +=
			    tokens ? (uint64_t)((double)wall * (double)step_selected_tokens(run, run->active[i]) /
						(double)tokens)
				   : 0;
	return 0;
}

static int dense_layer(struct run *run, struct slot *s, uint32_t layer, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	if (run->cool) /* so that dense and selected meet the same caches */
		bench_reader_cool(run->cool);
	uint64_t start = wall_now_ns();
	size_t row = (size_t)layer * g->q_heads;
	int rc = ikv_exact_dense(run->exact, (uint32_t)(s - run->slots), layer, 0, g->q_heads, s->q + row * g->d_qk,
				 s->dense + row * g->d_v, s->lse_dense, s->mass_dense, err);
	s->wall_dense += wall_now_ns() - start;
	return rc;
}

static int measure_layer(struct run *run, struct slot *s, uint32_t layer, struct ikv_err *err)
{
	uint64_t start = wall_now_ns();
	int rc = step_measure(run, s, layer, err);
	s->wall_measure += wall_now_ns() - start;
	return rc;
}

/* What came of it: the mean over the executed layers. */
static void total(const struct run *run, struct slot *s)
{
	uint32_t n = run->geometry.layers;
	s->total = (struct layer_result){0};
	for (uint32_t l = 0; l < n; l++) {
		s->total.selected_fraction += s->layers[l].selected_fraction / n;
		s->total.mass_recall += s->layers[l].mass_recall / n;
		s->total.rel_l2 += s->layers[l].rel_l2 / n;
		s->total.cosine += s->layers[l].cosine / n;
		s->total.kl += s->layers[l].kl / n;
		if (s->layers[l].max_abs > s->total.max_abs)
			s->total.max_abs = s->layers[l].max_abs;
	}
}

int step_attend(struct run *run, struct ikv_err *err)
{
	struct ikv_backend_stats before, after;
	run->backend_ops->stats(run->backend, &before);
	for (uint32_t i = 0; i < run->active_count; i++)
		if (run->active[i]->executed)
			memset(run->active[i]->block_mass, 0, run->active[i]->layout.count * sizeof(double));
	for (uint32_t layer = 0; layer < run->geometry.layers; layer++) {
		if (attend_layer(run, layer, err))
			return -1;
		for (uint32_t i = 0; i < run->active_count; i++) {
			struct slot *s = run->active[i];
			if (!s->executed)
				continue;
			if (dense_layer(run, s, layer, err) || measure_layer(run, s, layer, err))
				return -1;
		}
	}
	run->backend_ops->stats(run->backend, &after);
	run->device_ns = after.device_ns - before.device_ns;
	run->transfer_ns = after.transfer_ns - before.transfer_ns;
	run->exposed_ns = after.exposed_ns - before.exposed_ns;
	run->evict_ns = after.evict_ns - before.evict_ns;
	for (uint32_t i = 0; i < run->active_count; i++) {
		if (run->active[i]->executed) {
			total(run, run->active[i]);
			run->active[i]->mass_by = "measured";
		}
	}
	return 0;
}

/* Softmax of 64 projected logits: the stand-in for a vocabulary. */
static void proxy_distribution(const struct run *run, const float *x, double *p)
{
	uint32_t n = run->geometry.q_heads * run->geometry.d_v;
	double norm = 0, sum = 0, max = -INFINITY;
	for (uint32_t i = 0; i < n; i++)
		norm += (double)x[i] * x[i];
	norm = norm > 0 ? sqrt(norm / n) : 1;
	for (uint32_t r = 0; r < 64; r++) {
		double dot = 0;
		for (uint32_t i = 0; i < n; i++)
			dot += (double)run->projection[(size_t)r * n + i] * x[i];
		p[r] = dot / norm;
		max = p[r] > max ? p[r] : max;
	}
	for (uint32_t r = 0; r < 64; r++)
		sum += p[r] = ikv_det_exp(p[r] - max);
	for (uint32_t r = 0; r < 64; r++)
		p[r] /= sum;
}

static uint32_t likeliest(const double *p)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < 64; i++)
		if (p[i] > p[best])
			best = i;
	return best;
}

/* Mass of every block for a verification where no attention ran: the source's model, spread over pages. */
static int model_block_mass(struct run *run, struct slot *s, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	struct unit *u = &s->units[0];
	if (!u->page_mass && !(u->page_mass = ikv_alloc(s->page_cap, sizeof *u->page_mass, err)))
		return -1;
	memset(s->block_mass, 0, s->layout.count * sizeof *s->block_mass);
	if (run->source->ops->model_mass(run->source, (uint32_t)(s - run->slots), 0, 0, g->q_heads, g->page_tokens,
					 u->page_mass, err))
		return -1;
	for (uint32_t b = 0; b < s->layout.count; b++) {
		const struct ikv_block *block = &s->layout.blocks[b];
		for (uint32_t t = block->start; t < block->end;) {
			uint32_t page = t / g->page_tokens, end = (page + 1) * g->page_tokens;
			uint32_t in_page = s->tokens - page * g->page_tokens;
			if (in_page > g->page_tokens)
				in_page = g->page_tokens;
			if (end > block->end)
				end = block->end;
			s->block_mass[b] += (double)u->page_mass[page] * (end - t) / in_page;
			t = end;
		}
	}
	return 0;
}

int step_verify(struct run *run, struct slot *s, struct ikv_err *err)
{
	uint32_t slot = (uint32_t)(s - run->slots);
	if (!run->spec)
		return 0;
	if (s->executed) {
		size_t last = (size_t)(run->geometry.layers - 1) * run->geometry.q_heads * run->geometry.d_v;
		double p[64], q[64];
		proxy_distribution(run, s->dense + last, p);
		proxy_distribution(run, s->out + last, q);
		s->spec_accept =
		    run->sc->specattn.greedy ? likeliest(p) == likeliest(q) : ikv_speculative_alpha(p, q, 64);
	}
	if (!s->verified)
		return 0;
	if (!s->executed && model_block_mass(run, s, err))
		return -1;
	return ikv_specattn_verify(run->spec, slot, &s->layout, s->block_mass, err);
}

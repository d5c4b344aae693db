/* One row a session and step: what was decided, what it moved, what it cost, how far off it was. */
#include <math.h>
#include <string.h>
#include "gpu/gpu.h"
#include "sim/run.h"

/* What a group reads: the union of its units' plans where there are several. */
static const struct ikv_plan *group_plan(const struct run *run, const struct slot *s, uint32_t group)
{
	return run->share == IKV_SHARE_HEAD ? &s->groups[group].plan : &s->units[group].route.plan;
}

/* Stored bytes read of a page: all of it, but of the last, unfilled one the tokens that there are. */
static uint64_t page_read(const struct run *run, const struct slot *s, const struct ikv_page_ref *ref)
{
	uint32_t tokens = s->tokens - ref->page * run->geometry.page_tokens;
	uint64_t bytes = run->page_bytes[ref->stored];
	return tokens < run->geometry.page_tokens ? bytes * tokens / run->geometry.page_tokens : bytes;
}

/* Values of a token in one KV head's pages. */
static uint32_t stored_values(const struct ikv_geometry *g)
{
	return g->v_aliases_k ? g->d_qk : g->d_qk + g->d_v;
}

/* What a group's plan reads, how it lies and how it is worked on. All pages but the last are full; `layers`: that the plan
 * stands for. */
static void add_group(const struct run *run, const struct slot *s, uint32_t group, double layers, struct account *a)
{
	const struct ikv_plan *plan = group_plan(run, s, group);
	const double heads = s->groups[group].kv_count * layers;
	const bool whole = s->groups[group].kv_count == run->geometry.kv_heads; /* a page's heads lie together */
	struct ikv_plan_shape shape;
	uint32_t runs = 0;
	if (!plan->count)
		return;
	ikv_plan_shape(plan, &shape);
	for (int f = 0; f < IKV_FMT_COUNT; f++) {
		a->format_bytes[f] += shape.pages[f] * run->page_bytes[f];
		a->format_fine[f] += shape.pages[f] * shape.fine * plan->page_tokens * heads;
		runs += shape.runs[f];
	}
	const struct ikv_page_ref *last = &plan->pages[plan->count - 1];
	a->format_bytes[last->stored] -= run->page_bytes[last->stored] - page_read(run, s, last);
	a->page_reads += (uint64_t)(plan->count * heads);
	a->jumps += (uint64_t)((whole ? runs : shape.runs[IKV_FMT_FP16]) * layers);
	a->changes += (uint64_t)(shape.mixes * heads);
	a->lone_pages += whole ? 0 : (uint64_t)((plan->count - shape.pages[IKV_FMT_FP16]) * heads);
}

/* Share of its group's stored page that each unit's plan reads; HEAD units share the group's read. */
static void account_plans(const struct run *run, const struct slot *s, struct account *a)
{
	const struct ikv_geometry *g = &run->geometry;
	double request = 0, tokens = 0, pages = 0;
	double layers = (double)run->sc->preset.layers / (run->share == IKV_SHARE_STEP ? 1 : g->layers);
	for (uint32_t i = 0; i < run->units; i++) {
		const struct unit *u = &s->units[i];
		double heads =
		    (double)u->q_count / g->q_heads * g->kv_heads; /* KV heads' worth; a fraction for HEAD */
		uint64_t asked[IKV_FMT_COUNT] = {0}, stored[IKV_FMT_COUNT] = {0}; /* tokens */
		for (uint32_t p = 0; p < u->route.plan.count; p++) {
			const struct ikv_page_ref *ref = &u->route.plan.pages[p];
			const uint32_t n = ikv_plan_page_tokens(&u->route.plan, ref);
			asked[ref->request] += n;
			stored[ref->stored] += n;
		}
		for (int f = 0; f < IKV_FMT_COUNT; f++) {
			request += (double)asked[f] * heads * stored_values(g) *
				   ikv_format_info((enum ikv_format)f)->accounting_bytes * layers;
			a->format_flops[f] += 2 * (double)stored[f] * u->q_count * (g->d_qk + g->d_v) * layers;
		}
		double weight = (double)u->q_count / g->q_heads / (run->share == IKV_SHARE_STEP ? 1 : g->layers);
		tokens += weight * (double)u->route.plan.selected_tokens;
		pages += weight * u->route.plan.count;
	}
	for (uint32_t i = 0; i < run->groups; i++)
		add_group(run, s, i, layers, a);
	a->plans = (uint64_t)(run->units * layers);
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		a->read_bytes += a->format_bytes[f];
	if (s->groups[0].kv_count != g->kv_heads) { /* groups are alike */
		a->lone_fp16_bytes = a->format_bytes[IKV_FMT_FP16];
		a->lone_bytes = a->read_bytes - a->lone_fp16_bytes;
	}
	a->request_bytes = (uint64_t)request;
	a->tokens = (uint64_t)(tokens + 0.5);
	a->pages = (uint64_t)(pages + 0.5);
	a->flops = 2.0 * run->sc->preset.layers * g->q_heads * tokens * (g->d_qk + g->d_v);
	a->dense_flops = 2.0 * run->sc->preset.layers * g->q_heads * (double)s->tokens * (g->d_qk + g->d_v);
	a->dense_bytes = (uint64_t)run->sc->preset.layers * g->kv_heads * s->tokens * stored_values(g) * 2;
	a->dense_jumps = run->sc->preset.layers;
	a->dense_page_reads = (uint64_t)run->sc->preset.layers * g->kv_heads * ikv_pages(s->tokens, g->page_tokens);
}

static void account_decisions(const struct run *run, const struct slot *s, struct account *a)
{
	uint64_t blocks = 0;
	a->decision_hash = 0;
	for (uint32_t i = 0; i < run->units; i++) {
		const struct ikv_route *r = &s->units[i].route;
		a->decision_hash = ikv_mix64_2(a->decision_hash, ikv_plan_digest(&r->plan));
		for (uint32_t d = 0; d < r->decision_count; d++) {
			const struct ikv_decision *dec = &r->decisions[d];
			uint64_t score = 0;
			if (dec->score == dec->score)
				memcpy(&score, &dec->score, sizeof score);
			a->decision_hash = ikv_mix64_2(
			    a->decision_hash, score ^ ((uint64_t)dec->code << 8 | (uint64_t)dec->format << 16 |
						       (uint64_t)dec->reason << 24 | (uint64_t)dec->block << 32));
			/* A block cut by the recent window has two decisions: it counts once. */
			bool again =
			    d && r->decisions[d - 1].block == dec->block && r->decisions[d - 1].selected_tokens;
			blocks += dec->selected_tokens > 0 && !again;
		}
	}
	a->blocks = (blocks + run->units / 2) / run->units;
}

static void account(const struct run *run, const struct slot *s, struct account *a)
{
	memset(a, 0, sizeof *a);
	account_plans(run, s, a);
	account_decisions(run, s, a);
	const struct ikv_memory_tally *m = &s->moved;
	a->fetch_bytes = m->moved_bytes[IKV_MOVE_FETCH] + m->moved_bytes[IKV_MOVE_REFETCH] + m->streamed_bytes;
	a->prefetch_bytes = m->moved_bytes[IKV_MOVE_PREFETCH];
	a->recode_bytes =
	    m->moved_bytes[IKV_MOVE_DEMOTE] + m->moved_bytes[IKV_MOVE_PROMOTE] + m->moved_bytes[IKV_MOVE_ENCODE];
	if (s->verified) { /* a verification reads everything once more */
		a->read_bytes += a->dense_bytes;
		a->flops += a->dense_flops;
		a->format_bytes[IKV_FMT_FP16] += a->dense_bytes;
		a->format_flops[IKV_FMT_FP16] += a->dense_flops;
		a->page_reads += a->dense_page_reads;
		a->jumps += a->dense_jumps;
		a->plans += a->dense_jumps;
	}
}

static void add_account(struct account *all, const struct account *a)
{
	all->read_bytes += a->read_bytes;
	all->dense_bytes += a->dense_bytes;
	all->fetch_bytes += a->fetch_bytes;
	all->prefetch_bytes += a->prefetch_bytes;
	all->recode_bytes += a->recode_bytes;
	all->flops += a->flops;
	all->dense_flops += a->dense_flops;
	all->page_reads += a->page_reads;
	all->plans += a->plans;
	all->jumps += a->jumps;
	all->changes += a->changes;
	all->lone_pages += a->lone_pages;
	all->lone_bytes += a->lone_bytes;
	all->lone_fp16_bytes += a->lone_fp16_bytes;
	all->dense_jumps += a->dense_jumps;
	all->dense_page_reads += a->dense_page_reads;
	for (int f = 0; f < IKV_FMT_COUNT; f++) {
		all->format_bytes[f] += a->format_bytes[f];
		all->format_flops[f] += a->format_flops[f];
		all->format_fine[f] += a->format_fine[f];
	}
}

static struct ikv_cost_work work_of(const struct run *run, const struct account *a)
{
	struct ikv_cost_work w = {
	    .layers = run->sc->preset.layers,
	    .sequences = run->active_count,
	    .group = run->geometry.q_heads / run->geometry.kv_heads,
	    .kv_heads = run->geometry.kv_heads,
	    .page_tokens = run->geometry.page_tokens,
	    .kv_bytes = a->read_bytes,
	    .flops = a->flops,
	    .pages = a->page_reads,
	    .plans = a->plans,
	    .jumps = a->jumps,
	    .changes = a->changes,
	    .lone_pages = a->lone_pages,
	    .lone_bytes = a->lone_bytes,
	    .lone_fp16_bytes = a->lone_fp16_bytes,
	    .fetch_bytes = a->fetch_bytes,
	    .prefetch_bytes = a->prefetch_bytes,
	    .recode_bytes = a->recode_bytes,
	    .weight_bytes = (uint64_t)run->sc->model.weight_bytes,
	};
	memcpy(w.format_bytes, a->format_bytes, sizeof w.format_bytes);
	memcpy(w.format_flops, a->format_flops, sizeof w.format_flops);
	memcpy(w.format_fine, a->format_fine, sizeof w.format_fine);
	return w;
}

static struct ikv_cost_work dense_work(const struct run *run, const struct account *a)
{
	struct ikv_cost_work w = {.layers = run->sc->preset.layers,
				  .sequences = run->active_count,
				  .kv_bytes = a->dense_bytes,
				  .flops = a->dense_flops,
				  .pages = a->dense_page_reads,
				  .plans = a->dense_jumps,
				  .jumps = a->dense_jumps,
				  .weight_bytes = (uint64_t)run->sc->model.weight_bytes};
	w.format_bytes[IKV_FMT_FP16] = a->dense_bytes;
	w.format_flops[IKV_FMT_FP16] = a->dense_flops;
	return w;
}

/* What the model says for the attention that this machine was timed at: the executed layers of the executed slots,
 * a call a layer, verifications left out. */
static double executed_time(const struct run *run)
{
	struct account all = {0};
	struct ikv_cost_time t;
	uint32_t n = 0;
	for (uint32_t i = 0; i < run->active_count; i++) {
		const struct slot *s = run->active[i];
		struct account a = s->account;
		if (!s->executed)
			continue;
		if (s->verified) {
			a.read_bytes -= a.dense_bytes;
			a.flops -= a.dense_flops;
			a.format_bytes[IKV_FMT_FP16] -= a.dense_bytes;
			a.format_flops[IKV_FMT_FP16] -= a.dense_flops;
			a.page_reads -= a.dense_page_reads;
			a.jumps -= a.dense_jumps;
			a.plans -= a.dense_jumps;
		}
		add_account(&all, &a);
		n++;
	}
	struct ikv_cost_work w = work_of(run, &all);
	w.sequences = n;
	w.weight_bytes = w.fetch_bytes = w.prefetch_bytes = w.recode_bytes = 0;
	ikv_cost_step(&run->sc->machine, &w, &t);
	return (t.attention + t.overhead - run->sc->machine.step_overhead_ns) * run->geometry.layers / w.layers;
}

static double part(double whole, uint64_t mine, uint64_t all, uint32_t slots)
{
	return all ? whole * (double)mine / (double)all : whole / slots;
}

/* The batch's time, split: what is shared evenly, what was read or moved by its bytes. */
static void split_time(const struct account *mine, const struct account *all, const struct ikv_cost_time *batch,
		       uint32_t slots, struct store_step *row)
{
	uint64_t moved = mine->fetch_bytes + mine->prefetch_bytes, all_moved = all->fetch_bytes + all->prefetch_bytes;
	row->sim_overhead_ns = batch->overhead / slots;
	row->sim_weights_ns = batch->weights / slots;
	row->sim_attention_ns = part(batch->attention, mine->read_bytes, all->read_bytes, slots);
	row->sim_recode_ns = part(batch->recode, mine->recode_bytes, all->recode_bytes, slots);
	row->sim_transfer_ns = part(batch->transfer, moved, all_moved, slots);
	row->sim_hidden_ns = part(batch->hidden, mine->prefetch_bytes, all->prefetch_bytes, slots);
	row->sim_exposed_ns = part(batch->exposed, moved, all_moved, slots);
	row->sim_total_ns = row->sim_overhead_ns + row->sim_weights_ns + row->sim_attention_ns + row->sim_recode_ns +
			    row->sim_exposed_ns;
}

static void fill_moves(const struct run *run, const struct slot *s, struct store_step *row)
{
	const struct ikv_memory_tally *m = &s->moved;
	const struct ikv_memory_step *all = &run->moved;
	row->hit_pages = (int64_t)m->hits;
	row->miss_pages = (int64_t)m->misses;
	row->fetch_bytes = (int64_t)m->moved_bytes[IKV_MOVE_FETCH];
	row->prefetch_bytes = (int64_t)m->moved_bytes[IKV_MOVE_PREFETCH];
	row->evict_bytes = (int64_t)m->moved_bytes[IKV_MOVE_EVICT];
	row->refetch_bytes = (int64_t)m->moved_bytes[IKV_MOVE_REFETCH];
	row->recode_bytes = (int64_t)s->account.recode_bytes;
	row->streamed_bytes = (int64_t)m->streamed_bytes;
	row->demotions = m->moves[IKV_MOVE_DEMOTE];
	row->promotions = m->moves[IKV_MOVE_PROMOTE] + m->moves[IKV_MOVE_REFETCH];
	row->evictions = m->moves[IKV_MOVE_EVICT];
	row->prefetch_useful = (int64_t)m->prefetch_useful;
	row->prefetch_late = (int64_t)m->prefetch_late;
	row->prefetch_wasted = (int64_t)m->prefetch_wasted;
	row->prefetch_missed = (int64_t)m->prefetch_missed;
	row->fast_bytes = (int64_t)all->tier_bytes[0];
	row->slow_bytes = 0;
	for (uint32_t t = 1; t < run->sc->tier_count; t++)
		row->slow_bytes += (int64_t)all->tier_bytes[t];
	row->pages_fp16 = (int64_t)all->format_pages[IKV_FMT_FP16];
	row->pages_fp8 = (int64_t)all->format_pages[IKV_FMT_FP8];
	row->pages_int8 = (int64_t)all->format_pages[IKV_FMT_INT8];
	row->pages_int4 = (int64_t)all->format_pages[IKV_FMT_INT4];
	row->pages_int4_residual = (int64_t)all->format_pages[IKV_FMT_INT4_RESIDUAL];
	row->pages_bf16 = (int64_t)all->format_pages[IKV_FMT_BF16];
	row->pages_kivi8 = (int64_t)all->format_pages[IKV_FMT_KIVI8];
	row->pages_kivi4 = (int64_t)all->format_pages[IKV_FMT_KIVI4];
	row->pages_kivi2 = (int64_t)all->format_pages[IKV_FMT_KIVI2];
	row->pages_sparse = (int64_t)all->format_pages[IKV_FMT_SPARSE];
	row->demote_after = all->demote_after;
	row->promote_after = all->promote_after;
	row->occupancy = all->occupancy;
}

static void fill_measured(const struct run *run, const struct slot *s, struct store_step *row)
{
	bool device = run->backend && run->backend_ops == gpu_backend(); /* the reference is the CPU's */
	row->mass_by = s->mass_by;
	row->mass_recall = s->total.mass_recall;
	row->rel_l2 = s->total.rel_l2;
	row->max_abs = s->total.max_abs;
	row->cosine = s->total.cosine;
	row->kl = s->total.kl;
	row->spec_accept = s->spec_accept;
	row->sim_executed_ns = s->sim_executed;
	row->wall_attention_ns = s->executed ? (double)s->wall_attention : NAN;
	row->wall_dense_ns = s->executed && !device ? (double)s->wall_dense : NAN;
	row->wall_score_ns = (double)s->wall_score;
	row->wall_route_ns = (double)s->wall_route;
	row->wall_memory_ns = (double)s->wall_memory;
	row->wall_recode_ns = (double)s->wall_recode;
	row->wall_source_ns = (double)s->wall_source;
	row->wall_mass_ns = run->needs & IKV_NEEDS_COMING_MASS ? (double)s->wall_mass : NAN;
	row->wall_measure_ns = s->mass_by ? (double)s->wall_measure : NAN;
}

/* What the device's clock says of the batch, shared out like modelled time: attention by what was read, transfers by
 * what was moved. Only where every session of the batch attended: copies of others have nothing to hide behind. Transfers
 * only where pages have another tier to go to. */
static void fill_device(const struct run *run, const struct account *mine, const struct account *all,
			struct store_step *row)
{
	uint64_t moved = mine->fetch_bytes + mine->prefetch_bytes, all_moved = all->fetch_bytes + all->prefetch_bytes;
	uint64_t evicted = (uint64_t)row->evict_bytes;
	bool attended = run->device_ns > 0;
	for (uint32_t i = 0; i < run->active_count; i++)
		attended = attended && run->active[i]->executed;
	row->wall_device_ns = row->wall_transfer_ns = row->wall_hidden_ns = row->wall_exposed_ns =
	    row->wall_evict_ns = NAN;
	if (!attended)
		return;
	row->wall_device_ns = part(run->device_ns, mine->read_bytes, all->read_bytes, run->active_count);
	if (run->sc->tier_count < 2 || !run->backend_ops->place)
		return;
	row->wall_transfer_ns = part(run->transfer_ns, moved, all_moved, run->active_count);
	row->wall_exposed_ns = part(run->exposed_ns, moved, all_moved, run->active_count);
	row->wall_hidden_ns = row->wall_transfer_ns - row->wall_exposed_ns;
	row->wall_evict_ns =
	    part(run->evict_ns, evicted, run->moved.total.moved_bytes[IKV_MOVE_EVICT], run->active_count);
}

/* Tokens that the units' decisions selected, by role; the mean over units. */
static void roles_selected(const struct run *run, const struct slot *s, struct store_role *rows)
{
	double selected[IKV_KIND_COUNT] = {0};
	for (uint32_t i = 0; i < run->units; i++) {
		const struct unit *u = &s->units[i];
		double weight = (double)u->q_count / run->geometry.q_heads /
				(run->share == IKV_SHARE_STEP ? 1 : run->geometry.layers);
		for (uint32_t d = 0; d < u->route.decision_count; d++) {
			const struct ikv_decision *dec = &u->route.decisions[d];
			selected[s->layout.blocks[dec->block].kind] += weight * dec->selected_tokens;
		}
	}
	for (int kind = 0; kind < IKV_KIND_COUNT; kind++)
		rows[kind].selected_tokens = (int64_t)(selected[kind] + 0.5);
}

/* Pages read for each role and where they were found. A page of two roles counts for its stronger block. */
static void roles_read(const struct run *run, const struct slot *s, struct store_role *rows)
{
	for (uint32_t i = 0; i < run->groups; i++) {
		const struct ikv_plan *plan = group_plan(run, s, i);
		for (uint32_t p = 0; p < plan->count; p++) {
			const struct ikv_page_ref *ref = &plan->pages[p];
			if (ref->block >= s->layout.count)
				continue;
			struct store_role *r = &rows[s->layout.blocks[ref->block].kind];
			r->read_bytes += (int64_t)page_read(run, s, ref);
			r->hit_pages += !s->groups[i].missed[p];
			r->miss_pages += s->groups[i].missed[p];
		}
	}
}

static int record_roles(struct run *run, struct slot *s, struct ikv_err *err)
{
	struct store_role rows[IKV_KIND_COUNT];
	memset(rows, 0, sizeof rows);
	for (uint32_t b = 0; b < s->layout.count; b++)
		rows[s->layout.blocks[b].kind].tokens += s->layout.blocks[b].end - s->layout.blocks[b].start;
	roles_selected(run, s, rows);
	roles_read(run, s, rows);
	for (int kind = 0; kind < IKV_KIND_COUNT; kind++) {
		struct store_role *r = &rows[kind];
		if (!r->tokens)
			continue;
		r->run_id = run->run_id;
		r->session = s->index;
		r->step = (int64_t)s->steps;
		r->kind = (enum ikv_kind)kind;
		r->mass = s->kind_mass[kind];
		r->mass_selected = s->kind_selected[kind];
		if (store_role(run->store, r, err))
			return -1;
	}
	return 0;
}

static int record_layers(struct run *run, struct slot *s, struct ikv_err *err)
{
	for (uint32_t l = 0; l < run->geometry.layers; l++) {
		const struct layer_result *r = &s->layers[l];
		struct store_layer row = {
		    .run_id = run->run_id,
		    .session = s->index,
		    .step = (int64_t)s->steps,
		    .layer = run->model_layers[l],
		    .selected_fraction = r->selected_fraction,
		    .mass_recall = r->mass_recall,
		    .rel_l2 = r->rel_l2,
		    .max_abs = r->max_abs,
		    .cosine = r->cosine,
		    .kl = r->kl,
		};
		if (store_layer(run->store, &row, err))
			return -1;
	}
	return 0;
}

static int record_blocks(struct run *run, struct slot *s, struct ikv_err *err)
{
	for (uint32_t i = 0; i < run->units && run->sc->record.block_events; i++) {
		const struct unit *u = &s->units[i];
		for (uint32_t d = 0; d < u->route.decision_count; d++) {
			const struct ikv_decision *dec = &u->route.decisions[d];
			const struct ikv_block *b = &u->layout.blocks[dec->block];
			struct store_block_event row = {
			    .run_id = run->run_id,
			    .session = s->index,
			    .step = (int64_t)s->steps,
			    .layer = run->model_layers[u->layer],
			    .head = u->q_first,
			    .block = b->name,
			    .kind = b->kind,
			    .policy = b->policy,
			    .decision = dec,
			};
			if (store_block_event(run->store, &row, err))
				return -1;
		}
	}
	return 0;
}

/* Pages of a session that waits can be evicted: they appear under the step that it will take next. */
static int record_moves(struct run *run, struct ikv_err *err)
{
	for (uint32_t i = 0; i < run->moved.action_count && run->sc->record.page_events; i++) {
		const struct ikv_action *a = &run->moved.actions[i];
		const struct slot *s = &run->slots[a->seq];
		if (store_page_event(run->store, run->run_id, s->index, (int64_t)s->steps, a, err))
			return -1;
	}
	return 0;
}

static int record_slot(struct run *run, struct slot *s, const struct account *all, const struct ikv_cost_time *batch,
		       const struct ikv_cost_time *dense, struct ikv_err *err)
{
	const struct account *mine = &s->account;
	struct store_step *row = store_step_room(run->store, err); /* every field is set */
	if (!row)
		return -1;
	row->run_id = run->run_id;
	row->session = s->index;
	row->step = (int64_t)s->steps;
	row->batch_step = (int64_t)run->batch_step;
	row->turn = s->turn;
	row->context_tokens = s->tokens;
	row->blocks = s->layout.count;
	row->pages = ikv_pages(s->tokens, run->geometry.page_tokens);
	row->selected_blocks = (int64_t)mine->blocks;
	row->selected_tokens = (int64_t)mine->tokens;
	row->selected_pages = (int64_t)mine->pages;
	row->decision_hash = mine->decision_hash;
	row->pressure = s->pressure;
	row->dense_bytes = (int64_t)mine->dense_bytes;
	row->request_bytes = (int64_t)mine->request_bytes;
	row->read_bytes = (int64_t)mine->read_bytes;
	row->spec_verified = run->spec ? s->verified : -1;
	row->sim_dense_ns = part(dense->total, mine->dense_bytes, all->dense_bytes, run->active_count);
	fill_moves(run, s, row);
	row->sim_outside = batch->outside;
	split_time(mine, all, batch, run->active_count, row);
	fill_measured(run, s, row);
	fill_device(run, mine, all, row);
	if (store_step(run->store, row, err))
		return -1;
	bool told = s->executed || (s->mass_by && !run->kv); /* roles of modelled and measured steps are not mixed */
	if (told && run->sc->record.roles && record_roles(run, s, err))
		return -1;
	if (s->executed && record_layers(run, s, err))
		return -1;
	return record_blocks(run, s, err);
}

int step_record(struct run *run, struct ikv_err *err)
{
	struct account all = {0};
	uint64_t executed_tokens = 0;
	for (uint32_t i = 0; i < run->active_count; i++) {
		struct slot *s = run->active[i];
		account(run, s, &s->account);
		add_account(&all, &s->account);
		executed_tokens += s->executed ? step_selected_tokens(run, s) : 0;
	}
	struct ikv_cost_work work = work_of(run, &all), whole = dense_work(run, &all);
	struct ikv_cost_time time, dense;
	ikv_cost_step(&run->sc->machine, &work, &time);
	ikv_cost_step(&run->sc->machine, &whole, &dense);
	double executed = executed_tokens ? executed_time(run) : 0;
	for (uint32_t i = 0; i < run->active_count; i++) { /* shared out as its measured time is */
		struct slot *s = run->active[i];
		s->sim_executed = s->executed && executed_tokens
				      ? executed * (double)step_selected_tokens(run, s) / (double)executed_tokens
				      : NAN;
	}
	run->outside += time.outside;
	run->clock_ns += time.total;
	for (uint32_t i = 0; i < run->active_count && run->store; i++)
		if (record_slot(run, run->active[i], &all, &time, &dense, err))
			return -1;
	for (uint32_t i = 0; i < run->active_count && run->watch; i++)
		if (run->watch(run->watch_ctx, run->active[i], err))
			return -1;
	return run->store ? record_moves(run, err) : 0;
}

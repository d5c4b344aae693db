/* A slot's context: session events become blocks, tokens, K and V. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/run.h"

enum { APPEND_CHUNK = 2048 }; /* tokens whose K and V are staged at once */

static int out_of_memory(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_FAILED, "out of memory while a session grows");
}

/* Arrays that depend on the number of blocks. */
static int reserve_blocks(struct run *run, struct slot *s, uint32_t blocks, struct ikv_err *err)
{
	if (blocks <= s->block_cap)
		return 0;
	uint32_t cap = s->block_cap ? 2 * s->block_cap : 64;
	while (cap < blocks)
		cap *= 2;
	if (ikv_grow(&s->layout.blocks, s->block_cap, cap, sizeof *s->layout.blocks, err) ||
	    ikv_grow(&s->names, s->block_cap, cap, sizeof *s->names, err) ||
	    ikv_grow(&s->block_mass, s->block_cap, cap, sizeof *s->block_mass, err))
		return -1;
	for (uint32_t u = 0; u < run->units; u++)
		if (ikv_grow(&s->units[u].layout.blocks, s->block_cap, cap, sizeof *s->layout.blocks, err))
			return -1;
	s->block_cap = cap;
	return 0;
}

static int reserve_unit(struct run *run, struct slot *s, struct unit *u, uint32_t pages, struct ikv_err *err)
{
	if (ikv_route_reserve(&u->route, pages, s->block_cap, err))
		return -1;
	if (run_scores_pages(run) &&
	    ikv_grow(&u->page_scores, s->page_cap, pages, sizeof *u->page_scores, err))
		return -1;
	if (run->selects &&
	    ikv_grow(&u->chosen, (s->page_cap + 63) / 64, (pages + 63) / 64, sizeof *u->chosen, err))
		return -1;
	/* Modelled or coming mass: made when it is first needed, kept at the context's size from then on. */
	return (run->needs & IKV_NEEDS_COMING_MASS) || u->page_mass
		   ? ikv_grow(&u->page_mass, s->page_cap, pages, sizeof *u->page_mass, err)
		   : 0;
}

static int reserve_group(struct slot *s, struct group *g, uint32_t pages, struct ikv_err *err)
{
	return ikv_plan_reserve(&g->plan, pages, err) ||
		       ikv_grow(&g->selected, s->page_cap, pages, sizeof *g->selected, err) ||
		       ikv_grow(&g->predicted, s->page_cap, pages, sizeof *g->predicted, err) ||
		       ikv_grow(&g->missed, s->page_cap, pages, sizeof *g->missed, err)
		   ? -1
		   : 0;
}

/* Arrays that depend on the number of pages, doubled so that a steady step does not allocate. */
static int reserve_pages(struct run *run, struct slot *s, uint32_t tokens, struct ikv_err *err)
{
	uint32_t pages = ikv_pages(tokens, run->geometry.page_tokens) + 1, heads = run->geometry.q_heads;
	if (pages > s->page_cap) {
		uint32_t cap = s->page_cap ? s->page_cap : 64;
		while (cap < pages)
			cap *= 2;
		for (uint32_t g = 0; g < run->groups; g++)
			if (reserve_group(s, &s->groups[g], cap, err))
				return -1;
		for (uint32_t u = 0; u < run->units; u++)
			if (reserve_unit(run, s, &s->units[u], cap, err))
				return -1;
		bool coming = run->needs & IKV_NEEDS_COMING_MASS; /* whose scratch mass_out is, at level off too */
		if ((run->kv && ikv_grow(&s->mass_dense, 0, (size_t)cap * heads, sizeof *s->mass_dense, err)) ||
		    (run->kv && ikv_grow(&s->mass_row, 0, cap, sizeof *s->mass_row, err)) ||
		    ((run->kv || coming) && ikv_grow(&s->mass_out, 0, (size_t)cap * heads, sizeof *s->mass_out, err)))
			return -1;
		s->page_cap = cap;
	}
	for (uint32_t u = 0; u < run->units; u++)
		if (ikv_route_reserve(&s->units[u].route, s->page_cap, s->block_cap, err))
			return -1;
	return 0;
}

int slot_begin(struct run *run, struct slot *s, uint32_t index, struct ikv_err *err)
{
	const struct session *session = &run->sessions->items[index];
	uint32_t slot = (uint32_t)(s - run->slots);
	s->session = session;
	s->index = index;
	s->event = s->decode_left = s->tokens = s->turn = 0;
	s->decode_begun = false;
	s->steps = s->compactions = s->prompts = 0;
	s->next_uid = 1;
	s->layout.count = s->layout.total_tokens = 0;
	s->layout.page_tokens = run->geometry.page_tokens;
	if (reserve_blocks(run, s, 1, err) || reserve_pages(run, s, 1, err))
		return -1;
	double arrival = run->sc->sessions.waits ? session->arrival_ms * 1e6 : 0;
	s->ready_ns = arrival > run->clock_ns ? arrival : run->clock_ns;
	if (run->source->ops->begin(run->source, slot, session, index, err))
		return -1;
	if (!run->store)
		return 0;
	uint64_t appended, decoded;
	uint32_t longest;
	session_totals(session, &appended, &decoded, &longest);
	int64_t turns = session->event_count ? (int64_t)session->events[session->event_count - 1].turn + 1 : 0,
		cuts = 0;
	for (uint32_t i = 0; i < session->event_count; i++)
		cuts += session->events[i].op == SESSION_COMPACT;
	struct store_session row = {
	    .run_id = run->run_id,
	    .session = index,
	    .id = session->id,
	    .task = session->task,
	    .tokens_by = run->sessions->facts.tokens_by,
	    .arrival_ms = session->arrival_ms,
	    .reward = session->reward,
	    .turns = turns,
	    .appended_tokens = (int64_t)appended,
	    .decoded_tokens = (int64_t)decoded,
	    .longest_context = longest,
	    .compactions = cuts,
	};
	return store_session(run->store, &row, err);
}

/* Identity of a block's content: the same ids of a trace mean the same content in all its sessions. */
static uint64_t block_uid(struct slot *s, const struct session_event *e)
{
	const struct session *session = s->session;
	if (e->hash_count && session->hashes_global)
		return ikv_mix64_2(session->hashes[e->hash_first],
				   session->hashes[e->hash_first + e->hash_count - 1]) |
		       1;
	return ikv_mix64_2(ikv_mix64_2(0x736573736e, s->index), s->next_uid) | 1;
}

static int add_block(struct run *run, struct slot *s, const struct session_event *e, struct ikv_err *err)
{
	char name[96];
	if (reserve_blocks(run, s, s->layout.count + 1, err))
		return -1;
	if (e->name)
		snprintf(name, sizeof name, "%s#%llu", e->name, (unsigned long long)s->next_uid);
	else
		snprintf(name, sizeof name, "%s#%llu", ikv_kind_name(e->kind), (unsigned long long)s->next_uid);
	uint32_t i = s->layout.count;
	s->names[i] = strdup(name);
	if (!s->names[i])
		return out_of_memory(err);
	s->layout.blocks[i] = (struct ikv_block){
	    .name = s->names[i],
	    .start = s->tokens,
	    .end = s->tokens,
	    .kind = e->kind,
	    .policy = e->has_policy ? e->policy : (enum ikv_policy)run->sc->intent.policy[e->kind],
	    .uid = block_uid(s, e),
	    .birth = s->steps,
	    .line = e->line,
	};
	s->next_uid++;
	s->layout.count++;
	return 0;
}

/* K and V of tokens [first, s->tokens) from the source into the exact store and the backend. */
static int append_kv(struct run *run, struct slot *s, uint32_t first, struct ikv_err *err)
{
	uint32_t slot = (uint32_t)(s - run->slots);
	for (uint32_t layer = 0; layer < run->geometry.layers; layer++) {
		for (uint32_t t = first; t < s->tokens; t += APPEND_CHUNK) {
			uint32_t n = s->tokens - t < APPEND_CHUNK ? s->tokens - t : APPEND_CHUNK;
			if (run->source->ops->kv(run->source, slot, layer, t, n, run->k, run->v, err) ||
			    ikv_exact_append(run->exact, slot, layer, n, run->k, run->v, err) ||
			    run->backend_ops->append(run->backend, slot, layer, n, run->k, run->v, err))
				return -1;
		}
	}
	return 0;
}

/* `count` tokens enter the context, in the newest block unless `unowned`. */
static int grow(struct run *run, struct slot *s, uint32_t count, bool unowned, struct ikv_err *err)
{
	uint32_t slot = (uint32_t)(s - run->slots), first = s->tokens;
	uint64_t start = wall_now_ns();
	if (count > UINT32_MAX / 2 - s->tokens)
		return ikv_err_set(err, IKV_BAD_INPUT, "session \"%s\": the context exceeds 2^31 tokens",
				   s->session->id);
	if (reserve_pages(run, s, s->tokens + count, err))
		return -1;
	s->tokens += count;
	s->layout.total_tokens = s->tokens;
	if (!unowned)
		s->layout.blocks[s->layout.count - 1].end = s->tokens;
	if (run->source->ops->extend(run->source, slot, &s->layout, first, err))
		return -1;
	if (run->kv && append_kv(run, s, first, err))
		return -1;
	s->wall_source += wall_now_ns() - start;
	s->pressure = run_pressure(run); /* before the first step, too, pages take their formats under it */
	return ikv_memory_grow(run->memory, slot, &s->layout, run->ladder, s->pressure, err);
}

static int compact(struct run *run, struct slot *s, uint32_t keep, struct ikv_err *err)
{
	uint32_t slot = (uint32_t)(s - run->slots);
	if (keep >= s->tokens)
		return 0;
	if (run->kv && apply_reopen(run, s, keep, err))
		return -1;
	while (s->layout.count && s->layout.blocks[s->layout.count - 1].start >= keep) {
		s->layout.count--;
		free(s->names[s->layout.count]);
		s->names[s->layout.count] = NULL;
	}
	if (s->layout.count && s->layout.blocks[s->layout.count - 1].end > keep)
		s->layout.blocks[s->layout.count - 1].end = keep;
	s->tokens = s->layout.total_tokens = keep;
	s->compactions++;
	for (uint32_t g = 0; g < run->groups; g++) {
		s->groups[g].predicted_count = 0;
		run->sc->prefetch_ops->reset(run->prefetcher, slot * run->groups + g);
	}
	if (run->scorer)
		run->sc->scorer_ops->forget(run->scorer, slot, keep);
	if (run->source->ops->truncate(run->source, slot, keep, err) ||
	    ikv_memory_truncate(run->memory, slot, keep, err))
		return -1;
	if (!run->kv)
		return 0;
	return ikv_exact_truncate(run->exact, slot, keep, err) ||
		       run->backend_ops->truncate(run->backend, slot, keep, err)
		   ? -1
		   : 0;
}

static int append(struct run *run, struct slot *s, const struct session_event *e, struct ikv_err *err)
{
	uint32_t first = s->tokens;
	if ((!e->unowned && add_block(run, s, e, err)) || grow(run, s, e->tokens, e->unowned, err))
		return -1;
	double ns = prefill_model_ns(run, first, e->tokens);
	s->ready_ns += ns;
	return run->prefill ? prefill_execute(run, s, first, ns, err) : 0;
}

int slot_advance(struct run *run, struct slot *s, bool *decode, struct ikv_err *err)
{
	*decode = false;
	while (s->event < s->session->event_count && s->ready_ns <= run->clock_ns) {
		const struct session_event *e = &s->session->events[s->event];
		s->turn = e->turn;
		switch (e->op) {
		case SESSION_APPEND:
			if (append(run, s, e, err))
				return -1;
			break;
		case SESSION_COMPACT:
			if (compact(run, s, e->tokens, err))
				return -1;
			break;
		case SESSION_WAIT:
			if (run->sc->sessions.waits)
				s->ready_ns += e->wait_ms * 1e6;
			break;
		case SESSION_DECODE:
			if (!s->decode_begun) {
				if (add_block(run, s, e, err))
					return -1;
				s->decode_begun = true;
				s->decode_left = e->tokens;
			}
			if (s->decode_left) {
				*decode = true;
				return 0;
			}
			s->decode_begun = false;
			break;
		}
		s->event++;
	}
	return 0;
}

int slot_decode_token(struct run *run, struct slot *s, struct ikv_err *err)
{
	s->decode_left--;
	return grow(run, s, 1, false, err);
}

void slot_end(struct run *run, struct slot *s)
{
	uint32_t slot = (uint32_t)(s - run->slots);
	if (!s->session)
		return;
	run->source->ops->end(run->source, slot);
	ikv_memory_release(run->memory, slot);
	if (run->kv) {
		ikv_exact_release(run->exact, slot);
		run->backend_ops->release(run->backend, slot);
	}
	if (run->scorer)
		run->sc->scorer_ops->forget(run->scorer, slot, 0);
	if (run->spec)
		ikv_specattn_forget(run->spec, slot);
	for (uint32_t g = 0; g < run->groups; g++) {
		s->groups[g].predicted_count = 0;
		run->sc->prefetch_ops->reset(run->prefetcher, slot * run->groups + g);
	}
	for (uint32_t i = 0; i < s->layout.count; i++) {
		free(s->names[i]);
		s->names[i] = NULL;
	}
	s->layout.count = 0;
	s->session = NULL;
}

void slot_free(struct run *run, struct slot *s)
{
	for (uint32_t i = 0; s->names && i < s->layout.count; i++)
		free(s->names[i]);
	for (uint32_t u = 0; s->units && u < run->units; u++) {
		ikv_free(s->units[u].layout.blocks);
		ikv_free(s->units[u].page_scores);
		ikv_free(s->units[u].chosen);
		ikv_free(s->units[u].page_mass);
		ikv_route_free(&s->units[u].route);
	}
	for (uint32_t g = 0; s->groups && g < run->groups; g++) {
		ikv_plan_free(&s->groups[g].plan);
		ikv_free(s->groups[g].selected);
		ikv_free(s->groups[g].predicted);
		ikv_free(s->groups[g].missed);
	}
	ikv_free(s->units);
	ikv_free(s->groups);
	ikv_free(s->layout.blocks);
	ikv_free(s->names);
	ikv_free(s->block_mass);
	ikv_free(s->q);
	ikv_free(s->out);
	ikv_free(s->dense);
	ikv_free(s->lse_dense);
	ikv_free(s->mass_dense);
	ikv_free(s->mass_out);
	ikv_free(s->mass_row);
	ikv_free(s->layers);
}

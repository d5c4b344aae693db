#include <string.h>
#include "sim/loss_play.h"

struct player {
	struct source *source;
	const struct ikv_geometry *g;
	struct loss_play *out;
	struct ikv_layout layout;
	uint64_t step, steps;
	uint32_t taken;
};

void loss_play_free(struct loss_play *p)
{
	ikv_free(p->kinds);
	ikv_free(p->positions);
	ikv_free(p->q);
	*p = (struct loss_play){0};
}

static int room(struct player *p, const struct session *session, uint32_t queries, struct ikv_err *err)
{
	struct loss_play *o = p->out;
	for (uint32_t i = 0; i < session->event_count; i++) {
		const struct session_event *e = &session->events[i];
		if (e->op != SESSION_APPEND && e->op != SESSION_DECODE)
			return ikv_err_set(err, IKV_BAD_INPUT, "session %s: a context that waits or is cut back",
					   session->id);
		if (__builtin_add_overflow(o->tokens, e->tokens, &o->tokens))
			return ikv_err_set(err, IKV_BAD_INPUT, "session %s: too many tokens", session->id);
		p->steps += e->op == SESSION_DECODE ? e->tokens : 0;
	}
	if (!p->steps)
		return ikv_err_set(err, IKV_BAD_INPUT, "session %s: nothing is decoded", session->id);
	o->queries = p->steps < queries ? (uint32_t)p->steps : queries;
	o->kinds = ikv_alloc(o->tokens, sizeof *o->kinds, err);
	o->positions = ikv_alloc(o->queries, sizeof *o->positions, err);
	o->q = ikv_alloc((size_t)p->g->layers * o->queries, (size_t)p->g->q_heads * p->g->d_qk * sizeof *o->q, err);
	p->layout.blocks = ikv_alloc(session->event_count, sizeof *p->layout.blocks, err);
	return o->kinds && o->positions && o->q && p->layout.blocks ? 0 : -1;
}

static int take_query(struct player *p, struct ikv_err *err)
{
	struct loss_play *o = p->out;
	size_t row = (size_t)p->g->q_heads * p->g->d_qk;
	for (uint32_t l = 0; l < p->g->layers; l++)
		if (p->source->ops->query(p->source, 0, l, o->q + ((size_t)l * o->queries + p->taken) * row, err))
			return -1;
	o->positions[p->taken++] = p->layout.total_tokens - 1;
	return 0;
}

/* Of every so many steps one, the last among them. */
static bool chosen(const struct player *p)
{
	uint64_t n = p->out->queries;
	return (p->step + 1) * n / p->steps > p->step * n / p->steps;
}

static int play_event(struct player *p, const struct session_event *e, struct ikv_err *err)
{
	const struct source_ops *ops = p->source->ops;
	struct ikv_layout *l = &p->layout;
	uint32_t per = e->op == SESSION_DECODE ? 1 : e->tokens;
	if (!e->unowned)
		l->blocks[l->count++] = (struct ikv_block){
		    .name = e->name ? e->name : "block",
		    .start = l->total_tokens,
		    .kind = e->kind,
		    .policy = IKV_ATTEND,
		    .uid = l->count + 1,
		    .birth = p->step,
		};
	for (uint32_t done = 0; done < e->tokens; done += per) {
		uint32_t first = l->total_tokens;
		memset(p->out->kinds + first, e->unowned ? LOSS_NO_BLOCK : (int)e->kind, per);
		l->total_tokens += per;
		if (!e->unowned)
			l->blocks[l->count - 1].end = l->total_tokens;
		if (ops->extend(p->source, 0, l, first, err))
			return -1;
		if (e->op != SESSION_DECODE)
			continue;
		if (ops->advance(p->source, 0, p->step, err) || (chosen(p) && take_query(p, err)))
			return -1;
		p->step++;
	}
	return 0;
}

int loss_play(struct source *source, const struct ikv_geometry *g, const struct session *session, uint32_t queries,
	      struct loss_play *out, struct ikv_err *err)
{
	struct player p = {.source = source, .g = g, .out = out};
	*out = (struct loss_play){0};
	p.layout.page_tokens = g->page_tokens;
	int rc = room(&p, session, queries, err) || source->ops->begin(source, 0, session, 0, err) ? -1 : 0;
	for (uint32_t i = 0; !rc && i < session->event_count; i++)
		rc = play_event(&p, &session->events[i], err);
	ikv_free(p.layout.blocks);
	if (rc)
		loss_play_free(out);
	return rc;
}

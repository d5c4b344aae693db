/* Where a run's sessions come from, and how long they may be. */
#include <string.h>
#include "sim/run.h"
#include "sim/trace/trace.h"

/* Cut a session before its context exceeds `context` tokens or its decode steps `decode` (0: no limit). */
static bool cut(struct session *s, int64_t context, int64_t decode)
{
	int64_t tokens = 0, steps = 0;
	for (uint32_t i = 0; i < s->event_count; i++) {
		struct session_event *e = &s->events[i];
		if (e->op == SESSION_COMPACT)
			tokens = e->tokens;
		if (e->op != SESSION_APPEND && e->op != SESSION_DECODE)
			continue;
		int64_t room = e->tokens;
		if (context && tokens + room > context)
			room = context - tokens;
		if (decode && e->op == SESSION_DECODE && steps + room > decode)
			room = decode - steps;
		tokens += room;
		steps += e->op == SESSION_DECODE ? room : 0;
		if (room == e->tokens)
			continue;
		e->tokens = (uint32_t)room;
		for (uint32_t k = i + (room > 0); k < s->event_count; k++)
			ikv_free(s->events[k].name);
		s->event_count = i + (room > 0);
		return true;
	}
	return false;
}

/* Of each DECODE keep the last `steps` tokens; those before them become an APPEND of the same kind. */
static int thin(struct session *s, uint32_t steps, struct ikv_err *err)
{
	uint32_t extra = 0, n = 0;
	for (uint32_t i = 0; i < s->event_count; i++)
		extra += s->events[i].op == SESSION_DECODE && s->events[i].tokens > steps;
	if (!extra)
		return 0;
	struct session_event *events = ikv_alloc(s->event_count + extra, sizeof *events, err);
	if (!events)
		return -1;
	for (uint32_t i = 0; i < s->event_count; i++) {
		struct session_event e = s->events[i];
		if (e.op == SESSION_DECODE && e.tokens > steps) {
			struct session_event head = e;
			head.op = SESSION_APPEND;
			head.tokens = e.tokens - steps;
			head.name = NULL; /* the block that is played keeps the name */
			events[n++] = head;
			e.tokens = steps;
		}
		events[n++] = e;
	}
	ikv_free(s->events);
	s->events = events;
	s->event_count = s->event_cap = n;
	return 0;
}

static int captured(const struct scenario *sc, struct session_list *out, struct ikv_err *err)
{
	struct source *source;
	struct source_setup setup = {
	    .geometry = {.layers = 1, .page_tokens = (uint32_t)sc->memory.page_tokens},
	    .sequences = 1,
	    .seed = (uint64_t)sc->seed,
	};
	model_geometry(&sc->preset, &setup.geometry);
	if (sc->source->open(&source, sc->kv.config, &setup, err))
		return -1;
	int rc = source->ops->sessions
		     ? source->ops->sessions(source, out, err)
		     : ikv_err_set(err, IKV_BAD_INPUT, "kv.source \"%s\" brings no sessions", sc->kv.name);
	source->ops->close(source);
	return rc;
}

static int generated(const struct scenario *sc, struct session_list *out, struct ikv_err *err)
{
	struct generate_profile *profile;
	if (generate_profile_find(sc->sessions.generate.profile, &profile, err))
		return -1;
	int rc = session_generate(profile, &sc->sessions.generate, (uint64_t)sc->seed, out, err);
	generate_profile_free(profile);
	/* The first ones: a profile may draw all of a batch together. */
	if (!rc && sc->sessions.limit)
		session_list_shorten(out, (uint32_t)sc->sessions.limit);
	return rc;
}

int run_sessions(const struct scenario *sc, struct session_list *out, struct ikv_err *err)
{
	const struct sessions_config *c = &sc->sessions;
	struct session_options options = {.skip_bad = c->skip_bad, .limit = (uint32_t)c->limit};
	memset(out, 0, sizeof *out);
	if (c->source == SESSIONS_TRACE && session_options_tokenizer(&options, c->tokenizer, err))
		return -1;
	int rc = c->source == SESSIONS_CAPTURE ? captured(sc, out, err)
		 : c->source == SESSIONS_TRACE ? session_import(c->path, c->format, &options, out, err)
					       : generated(sc, out, err);
	session_options_free(&options);
	if (rc)
		return -1;
	for (uint32_t i = 0; c->steps_per_turn && i < out->count; i++) {
		if (thin(&out->items[i], (uint32_t)c->steps_per_turn, err)) {
			session_list_free(out);
			return -1;
		}
	}
	uint32_t shortened = 0;
	for (uint32_t i = 0; i < out->count; i++)
		shortened += cut(&out->items[i], c->max_context_tokens, c->max_decode_tokens);
	out->facts.shortened += shortened;
	if (out->count == 0) {
		session_list_free(out);
		return ikv_err_set(err, IKV_BAD_INPUT, "no sessions in %s", *c->path ? c->path : sc->name);
	}
	return 0;
}

/* Sessions are the same for all points that do not change what they come from. */
static bool same_source(const struct policy_choice *a, const struct policy_choice *b)
{
	char x[IKV_OPT_STRING_BYTES], y[IKV_OPT_STRING_BYTES];
	if (strcmp(a->name, b->name) != 0)
		return false;
	for (const struct ikv_option *o = a->options; o && o->name; o++) {
		ikv_option_get(o, a->config, x, sizeof x);
		ikv_option_get(o, b->config, y, sizeof y);
		if (strcmp(x, y) != 0)
			return false;
	}
	return true;
}

bool run_sessions_same(const struct scenario *a, const struct scenario *b)
{
	return a->seed == b->seed && !memcmp(&a->sessions, &b->sessions, sizeof a->sessions) &&
	       same_source(&a->kv, &b->kv) && a->memory.page_tokens == b->memory.page_tokens;
}

/* The model "pieces": every turn is put together from pieces, each with a distribution of its own. Every session has
 * its own random stream; the same seed gives the same bits everywhere. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "sim/trace/generate.h"

/* In the order of draw_keys. */
enum generate_draw {
	GEN_TURNS,
	GEN_ARRIVAL_MS,
	GEN_THINK_MS,
	GEN_TOOL_MS,
	GEN_SYSTEM,
	GEN_TOOLS,
	GEN_USER,
	GEN_REASONING,
	GEN_ASSISTANT,
	GEN_TOOL_CALL,
	GEN_TOOL_OUTPUT,
	GEN_RETRIEVED,
	GEN_MEMORY,
	GEN_DRAWS
};
enum generate_chance { P_REASONING, P_TOOL_CALL, P_ASSISTANT_TEXT, P_RETRIEVED, P_COMPACTION, GEN_CHANCES };

struct pieces {
	struct draw draws[GEN_DRAWS];
	double chances[GEN_CHANCES];
};

static const char *const draw_keys[GEN_DRAWS] = {
    "turns",
    "arrival_gap_ms",
    "think_ms",
    "tool_ms",
    "system_tokens",
    "tools_tokens",
    "user_tokens",
    "reasoning_tokens",
    "assistant_tokens",
    "tool_call_tokens",
    "tool_output_tokens",
    "retrieved_tokens",
    "memory_tokens",
};
static const char *const chance_keys[GEN_CHANCES] = {"p_reasoning", "p_tool_call", "p_assistant_text", "p_retrieved",
						     "p_compaction"};

enum { TURNS_MAX = 100000, SCALE_ROUNDS = 40 };
#define PIECE_TOKENS_MAX 4e6

struct writer {
	const struct pieces *p;
	struct ikv_rng rng;
	struct session *s;
	uint32_t turn;
	struct ikv_err *err;
};

static int put_tokens(struct writer *w, enum session_op op, enum ikv_kind kind, enum generate_draw what)
{
	double n = draw_value(&w->p->draws[what], &w->rng);
	if (n > PIECE_TOKENS_MAX)
		n = PIECE_TOKENS_MAX;
	if (n < 0.5)
		return 0;
	struct session_event *e = session_push(w->s, op, w->err);
	if (!e)
		return -1;
	e->kind = kind;
	e->tokens = (uint32_t)(n + 0.5);
	e->turn = w->turn;
	return 0;
}

static int put_wait(struct writer *w, enum generate_draw what)
{
	double ms = draw_value(&w->p->draws[what], &w->rng);
	if (!(ms > 0))
		return 0;
	struct session_event *e = session_push(w->s, SESSION_WAIT, w->err);
	if (!e)
		return -1;
	e->wait_ms = ms;
	e->turn = w->turn;
	return 0;
}

static bool happens(struct writer *w, enum generate_chance what)
{
	return ikv_rng_uniform(&w->rng) < w->p->chances[what];
}

/* The context goes back to system prompt and tools; a summary takes the place of the rest. How much is kept is
 * filled in once the lengths are final. */
static int compact(struct writer *w)
{
	if (!session_push(w->s, SESSION_COMPACT, w->err))
		return -1;
	w->s->events[w->s->event_count - 1].turn = w->turn;
	return put_tokens(w, SESSION_APPEND, IKV_KIND_MEMORY, GEN_MEMORY);
}

static int one_turn(struct writer *w, bool *after_call)
{
	if (w->turn && put_wait(w, *after_call ? GEN_TOOL_MS : GEN_THINK_MS))
		return -1;
	if (w->turn && happens(w, P_COMPACTION) && compact(w))
		return -1;
	if (*after_call ? put_tokens(w, SESSION_APPEND, IKV_KIND_TOOL_OUTPUT, GEN_TOOL_OUTPUT)
			: put_tokens(w, SESSION_APPEND, IKV_KIND_USER, GEN_USER))
		return -1;
	if (happens(w, P_RETRIEVED) && put_tokens(w, SESSION_APPEND, IKV_KIND_RETRIEVED, GEN_RETRIEVED))
		return -1;
	if (happens(w, P_REASONING) && put_tokens(w, SESSION_DECODE, IKV_KIND_REASONING, GEN_REASONING))
		return -1;
	*after_call = happens(w, P_TOOL_CALL);
	if ((!*after_call || happens(w, P_ASSISTANT_TEXT)) &&
	    put_tokens(w, SESSION_DECODE, IKV_KIND_ASSISTANT, GEN_ASSISTANT))
		return -1;
	return *after_call ? put_tokens(w, SESSION_DECODE, IKV_KIND_TOOL_CALL, GEN_TOOL_CALL) : 0;
}

static uint32_t scaled(const struct session_event *e, double append, double decode)
{
	double n = e->tokens * (e->op == SESSION_APPEND ? append : decode);
	return n < 1 ? 1 : n > PIECE_TOKENS_MAX * 4 ? (uint32_t)(PIECE_TOKENS_MAX * 4) : (uint32_t)n;
}

/* Longest context with these factors. `head` events (tools, system prompt) outlive compaction. */
static uint64_t longest(const struct session *s, uint32_t head, double append, double decode)
{
	uint64_t context = 0, kept = 0, most = 0;
	for (uint32_t i = 0; i < s->event_count; i++) {
		const struct session_event *e = &s->events[i];
		if (e->op == SESSION_COMPACT)
			context = kept;
		else if (e->op != SESSION_WAIT)
			context += scaled(e, append, decode);
		if (i < head)
			kept = context;
		most = context > most ? context : most;
	}
	return most;
}

static double decode_factor(double append, double share)
{
	return append < share ? append : share;
}

/* Make lengths final: appends scale with the context, outputs shrink with it but do not grow, and stay within
 * max_decode_tokens. The factor is bisected, because compaction makes the longest context a broken line. */
static void settle(struct session *s, uint32_t head, const struct generate_config *c)
{
	uint64_t decoded, context = 0, kept = 0, spent = 0;
	session_totals(s, NULL, &decoded, NULL);
	double share = 1, append = 1;
	if (c->max_decode_tokens > 0 && decoded > (uint64_t)c->max_decode_tokens)
		share = (double)c->max_decode_tokens / (double)decoded;
	if (c->context_tokens > 0) {
		double low = 0, high = 1;
		while (high < 1e6 && longest(s, head, high, decode_factor(high, share)) < (uint64_t)c->context_tokens)
			high *= 2;
		for (int i = 0; i < SCALE_ROUNDS; i++) {
			append = (low + high) / 2;
			if (longest(s, head, append, decode_factor(append, share)) < (uint64_t)c->context_tokens)
				low = append;
			else
				high = append;
		}
	}
	for (uint32_t i = 0; i < s->event_count; i++) {
		struct session_event *e = &s->events[i];
		if (e->op == SESSION_COMPACT) {
			e->tokens = (uint32_t)kept;
			context = kept;
		} else if (e->op != SESSION_WAIT) {
			e->tokens = scaled(e, append, decode_factor(append, share));
			context += e->tokens;
			spent += e->op == SESSION_DECODE ? e->tokens : 0;
		}
		if (i < head)
			kept = context;
		if (c->max_decode_tokens > 0 && spent > (uint64_t)c->max_decode_tokens) {
			s->event_count = i;
			break;
		}
	}
}

static int one_session(const struct pieces *p, const struct generate_config *c, uint64_t seed, uint32_t i,
		       double *clock_ms, struct session_list *out, struct ikv_err *err)
{
	char id[32];
	snprintf(id, sizeof id, "generated-%u", i);
	struct writer w = {.p = p, .s = session_add(out, id, err), .err = err};
	if (!w.s)
		return -1;
	ikv_rng_stream(&w.rng, seed, IKV_STREAM_SESSION, i, 0);
	double gap = draw_value(&p->draws[GEN_ARRIVAL_MS], &w.rng), drawn = draw_value(&p->draws[GEN_TURNS], &w.rng);
	w.s->arrival_ms = *clock_ms;
	*clock_ms += gap > 0 ? gap : 0;
	uint32_t turns = c->turns > 0        ? (uint32_t)c->turns
			 : drawn < 1         ? 1
			 : drawn > TURNS_MAX ? TURNS_MAX
					     : (uint32_t)(drawn + 0.5);
	if (put_tokens(&w, SESSION_APPEND, IKV_KIND_TOOLS, GEN_TOOLS) ||
	    put_tokens(&w, SESSION_APPEND, IKV_KIND_SYSTEM, GEN_SYSTEM))
		return -1;
	uint32_t head = w.s->event_count;
	bool after_call = false;
	for (; w.turn < turns; w.turn++)
		if (one_turn(&w, &after_call))
			return -1;
	settle(w.s, head, c);
	return session_check(w.s, err);
}

static int generate(const void *profile, const struct generate_config *config, uint64_t seed,
		    struct session_list *out, struct ikv_err *err)
{
	double clock_ms = 0;
	for (int64_t i = 0; i < config->count; i++)
		if (one_session(profile, config, seed, (uint32_t)i, &clock_ms, out, err))
			return -1;
	return 0;
}

static int read_profile(const struct yaml_node *root, const char *path, void *profile, struct ikv_err *err)
{
	struct pieces *p = profile;
	enum { COMMON = 3 };
	const char *valid[COMMON + GEN_DRAWS + GEN_CHANCES] = {GENERATE_KEYS};
	memcpy(valid + COMMON, draw_keys, sizeof draw_keys);
	memcpy(valid + COMMON + GEN_DRAWS, chance_keys, sizeof chance_keys);
	if (yaml_check_keys(root, path, NULL, valid, sizeof valid / sizeof *valid, err))
		return -1;
	for (size_t i = 0; i < GEN_DRAWS; i++) {
		const struct yaml_node *n = generate_need(root, path, draw_keys[i], err);
		if (!n || draw_read(n, path, draw_keys[i], &p->draws[i], err))
			return -1;
	}
	for (size_t i = 0; i < GEN_CHANCES; i++) {
		const struct yaml_node *n = generate_need(root, path, chance_keys[i], err);
		if (!n || yaml_real(n, path, chance_keys[i], 0, 1, &p->chances[i], err))
			return -1;
	}
	return 0;
}

static void release(void *profile)
{
	struct pieces *p = profile;
	for (size_t i = 0; i < GEN_DRAWS; i++)
		draw_free(&p->draws[i]);
}

const struct generate_model generate_pieces = {
    .name = "pieces",
    .summary = "turns put together from pieces of each kind",
    .size = sizeof(struct pieces),
    .read = read_profile,
    .release = release,
    .generate = generate,
};

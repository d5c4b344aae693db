#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/session.h"
#include "sim/trace/importer.h"

struct session_index {
	struct id_table table;
};

static uint64_t hash_text(const char *text)
{
	uint64_t h = 0x9e3779b97f4a7c15u;
	for (; *text; text++)
		h = ikv_mix64_2(h, (unsigned char)*text);
	return h;
}

/* Two ids with the same 64-bit hash are told apart by comparing them; the second lies under the next key. */
static uint64_t find_key(const struct session_list *list, const char *id, uint64_t *place, bool *found)
{
	uint64_t key = hash_text(id);
	for (;; key = ikv_mix64(key + 1)) {
		*found = list->ids && id_table_get(&list->ids->table, key, place);
		if (!*found || !strcmp(list->items[*place].id, id))
			return key;
	}
}

const struct session *session_find(const struct session_list *list, const char *id)
{
	uint64_t place = 0;
	bool found;
	find_key(list, id, &place, &found);
	return found ? &list->items[place] : NULL;
}

static char *copy_text(const char *text, struct ikv_err *err)
{
	size_t n = strlen(text) + 1;
	char *p = ikv_alloc(n, 1, err);
	return p ? memcpy(p, text, n) : NULL;
}

/* Room for one more item in an array of *cap with `count` used. */
static int make_room(void *array, uint32_t count, uint32_t *cap, uint32_t more, size_t size, struct ikv_err *err)
{
	if (more <= *cap - count)
		return 0;
	uint64_t want = (uint64_t)count + more, next = *cap ? (uint64_t)*cap * 2 : 8;
	if (next < want)
		next = want;
	if (next > UINT32_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "more than %u items in one session list", UINT32_MAX);
	if (ikv_grow(array, count, (size_t)next, size, err))
		return -1;
	*cap = (uint32_t)next;
	return 0;
}

int session_list_take(struct session_list *list, struct session *s, struct ikv_err *err)
{
	uint64_t place = 0;
	bool found;
	uint64_t key = find_key(list, s->id, &place, &found);
	if (found)
		return ikv_err_set(err, IKV_BAD_INPUT, "two sessions with the id \"%.100s\"; ids must differ", s->id);
	if (!list->ids && !(list->ids = ikv_alloc(1, sizeof *list->ids, err)))
		return -1;
	if (make_room(&list->items, list->count, &list->cap, 1, sizeof *list->items, err) ||
	    id_table_put(&list->ids->table, key, list->count, err))
		return -1;
	list->items[list->count++] = *s;
	*s = (struct session){.reward = NAN};
	return 0;
}

int session_begin(struct session *s, const char *id, struct ikv_err *err)
{
	*s = (struct session){.reward = NAN};
	if (!*id)
		return ikv_err_set(err, IKV_BAD_INPUT, "a session with an empty id");
	return (s->id = copy_text(id, err)) ? 0 : -1;
}

struct session *session_add(struct session_list *list, const char *id, struct ikv_err *err)
{
	struct session s;
	if (session_begin(&s, id, err))
		return NULL;
	if (session_list_take(list, &s, err)) {
		ikv_free(s.id);
		return NULL;
	}
	return &list->items[list->count - 1];
}

struct session_event *session_push(struct session *s, enum session_op op, struct ikv_err *err)
{
	if (make_room(&s->events, s->event_count, &s->event_cap, 1, sizeof *s->events, err))
		return NULL;
	struct session_event *e = &s->events[s->event_count++];
	*e = (struct session_event){.op = op, .kind = IKV_KIND_OTHER, .confidence = 1.0F};
	return e;
}

int session_push_hashes(struct session *s, struct session_event *e, const uint64_t *ids, uint32_t n,
			struct ikv_err *err)
{
	if (n == 0)
		return 0;
	if (make_room(&s->hashes, s->hash_count, &s->hash_cap, n, sizeof *s->hashes, err))
		return -1;
	if (e->hash_count == 0)
		e->hash_first = s->hash_count;
	memcpy(s->hashes + s->hash_count, ids, n * sizeof *ids);
	s->hash_count += n;
	e->hash_count += n;
	return 0;
}

void session_clear(struct session *s)
{
	for (uint32_t i = 0; i < s->event_count; i++)
		ikv_free(s->events[i].name);
	ikv_free(s->events);
	ikv_free(s->hashes);
	ikv_free(s->id);
	ikv_free(s->task);
	*s = (struct session){.reward = NAN};
}

void session_list_shorten(struct session_list *list, uint32_t count)
{
	while (list->count > count) {
		uint64_t place;
		bool found;
		uint64_t key = find_key(list, list->items[list->count - 1].id, &place, &found);
		if (found)
			id_table_remove(&list->ids->table, key);
		session_clear(&list->items[--list->count]);
	}
}

void session_list_free(struct session_list *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		session_clear(&list->items[i]);
	ikv_free(list->items);
	if (list->ids)
		id_table_free(&list->ids->table);
	ikv_free(list->ids);
	*list = (struct session_list){0};
}

static int check_event(const struct session *s, const struct session_event *e, uint64_t *context, struct ikv_err *err)
{
	uint32_t number = (uint32_t)(e - s->events);
	switch (e->op) {
	case SESSION_APPEND:
	case SESSION_DECODE:
		if (e->tokens == 0)
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "session \"%.100s\", event %u: 0 tokens, expected at least 1", s->id,
					   number);
		*context += e->tokens;
		if (*context > SESSION_CONTEXT_MAX)
			return ikv_err_set(
			    err, IKV_BAD_INPUT,
			    "session \"%.100s\", event %u: a context of %llu tokens, expected at most %u", s->id,
			    number, (unsigned long long)*context, SESSION_CONTEXT_MAX);
		break;
	case SESSION_COMPACT:
		if (e->tokens >= *context)
			return ikv_err_set(
			    err, IKV_BAD_INPUT,
			    "session \"%.100s\", event %u: compaction keeps %u tokens of a context of %llu; "
			    "expected fewer",
			    s->id, number, e->tokens, (unsigned long long)*context);
		*context = e->tokens;
		break;
	case SESSION_WAIT:
		if (!(e->wait_ms >= 0) || !isfinite(e->wait_ms))
			return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\", event %u: a wait of %g ms", s->id,
					   number, e->wait_ms);
		break;
	default:
		return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\", event %u: unknown operation %d", s->id,
				   number, (int)e->op);
	}
	if ((unsigned)e->kind >= IKV_KIND_COUNT || (e->has_policy && (unsigned)e->policy >= IKV_POLICY_COUNT))
		return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\", event %u: unknown kind or policy", s->id,
				   number);
	if (!(e->confidence >= 0 && e->confidence <= 1))
		return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\", event %u: confidence %g, expected 0 to 1",
				   s->id, number, (double)e->confidence);
	if (e->hash_count && (e->op != SESSION_APPEND || s->hash_block_tokens == 0 ||
			      (uint64_t)e->hash_first + e->hash_count > s->hash_count))
		return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\", event %u: content ids out of place",
				   s->id, number);
	return 0;
}

int session_check(const struct session *s, struct ikv_err *err)
{
	uint64_t context = 0;
	if (!s->id || !*s->id)
		return ikv_err_set(err, IKV_BAD_INPUT, "a session with an empty id");
	if (!isfinite(s->arrival_ms) || s->arrival_ms < 0)
		return ikv_err_set(err, IKV_BAD_INPUT, "session \"%.100s\": arrives at %g ms, expected 0 or later",
				   s->id, s->arrival_ms);
	for (uint32_t i = 0; i < s->event_count; i++)
		if (check_event(s, &s->events[i], &context, err))
			return -1;
	return 0;
}

void session_totals(const struct session *s, uint64_t *appended, uint64_t *decoded, uint32_t *longest)
{
	uint64_t in = 0, out = 0, context = 0, most = 0;
	for (uint32_t i = 0; i < s->event_count; i++) {
		const struct session_event *e = &s->events[i];
		if (e->op == SESSION_APPEND)
			in += e->tokens;
		if (e->op == SESSION_DECODE)
			out += e->tokens;
		if (e->op == SESSION_APPEND || e->op == SESSION_DECODE)
			context += e->tokens;
		if (e->op == SESSION_COMPACT)
			context = e->tokens;
		if (context > most)
			most = context;
	}
	if (appended)
		*appended = in;
	if (decoded)
		*decoded = out;
	if (longest)
		*longest = (uint32_t)most;
}

bool session_shorten(struct session *s, uint64_t max_context)
{
	uint64_t context = 0;
	for (uint32_t i = 0; i < s->event_count; i++) {
		struct session_event *e = &s->events[i];
		if (e->op == SESSION_COMPACT)
			context = e->tokens;
		if (e->op != SESSION_APPEND && e->op != SESSION_DECODE)
			continue;
		if (context + e->tokens <= max_context) {
			context += e->tokens;
			continue;
		}
		uint64_t room = max_context - context;
		uint32_t keep = room ? i + 1 : i;
		e->tokens = (uint32_t)room;
		if (room && e->hash_count) {
			uint64_t blocks = room / s->hash_block_tokens + 1;
			e->hash_count = e->hash_count < blocks ? e->hash_count : (uint32_t)blocks;
		}
		for (uint32_t j = keep; j < s->event_count; j++)
			ikv_free(s->events[j].name);
		s->event_count = keep;
		return true;
	}
	return false;
}

int session_chain_step(struct session_chain *c, const struct session *s, const struct session_event *e,
		       struct ikv_err *err)
{
	uint32_t block = s->hash_block_tokens;
	if (e->op == SESSION_COMPACT) {
		c->context = e->tokens;
		if (c->known > e->tokens)
			c->known = e->tokens;
		uint32_t kept = block ? ikv_pages(c->known, block) : 0;
		if (c->count > kept)
			c->count = kept;
		return 0;
	}
	if (e->op != SESSION_APPEND && e->op != SESSION_DECODE)
		return 0;
	c->context += e->tokens;
	if (e->op == SESSION_DECODE)
		return 0;
	if (block && c->count > c->known / block)
		c->count = c->known / block;
	c->known = c->context;
	if (make_room(&c->ids, c->count, &c->cap, e->hash_count, sizeof *c->ids, err))
		return -1;
	if (e->hash_count)
		memcpy(c->ids + c->count, s->hashes + e->hash_first, e->hash_count * sizeof *c->ids);
	c->count += e->hash_count;
	return 0;
}

void session_chain_free(struct session_chain *c)
{
	ikv_free(c->ids);
	*c = (struct session_chain){0};
}

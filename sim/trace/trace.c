/* The reading under way: sessions become whole, requests are counted, complaints find their way. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#include "sim/tokenizer.h"
#include "sim/trace/importer.h"

enum { CHARS_PER_TOKEN = 4 };

/* Names are told apart by 64 bits of hash: the list of a large trace's ids is never in memory. Among ten million, the
 * chance that one looks taken is 3e-6. */
static uint64_t name_hash(const char *id)
{
	return XXH3_64bits(id, strlen(id));
}

bool trace_has_session(const struct trace *t, const char *id)
{
	return id_set_has(&t->names, name_hash(id));
}

void trace_drop(struct trace *t)
{
	if (t->building)
		session_clear(&t->session);
	t->building = false;
	t->pending_count = t->id_count = 0;
}

struct session *trace_session(struct trace *t, const char *id, struct ikv_err *err)
{
	trace_drop(t);
	if (!*id) {
		ikv_err_set(err, IKV_BAD_INPUT, "%s: a session with an empty id", t->path);
		return NULL;
	}
	if (trace_has_session(t, id)) {
		ikv_err_set(err, IKV_BAD_INPUT, "%s: two sessions with the id \"%.100s\"; ids must differ", t->path,
			    id);
		return NULL;
	}
	if (session_begin(&t->session, id, err))
		return NULL;
	t->building = true;
	return &t->session;
}

static void tell(struct trace *t, const struct trace_finding *f)
{
	if (t->opts->finding)
		t->opts->finding(t->opts->finding_ctx, f);
}

void trace_warn(struct trace *t, enum trace_check check, int line, const char *key, const char *fmt, ...)
{
	char text[600];
	struct ikv_err place;
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	t->facts->warnings++;
	ikv_err_at(&place, IKV_BAD_INPUT, t->path, line, 0, key, "%s", text);
	tell(t, &(struct trace_finding){t->path, line, check, true, place.text});
}

/* The ids of all known traces are chained: an id stands for everything up to its block. So it stands once in a
 * request, and in every request of its scope at the same place. One finding a request. */
static int check_places(struct trace *t, const struct trace_request *r, struct ikv_err *err)
{
	for (uint32_t i = 0; i < r->count; i++) {
		uint64_t key = r->scope ? ikv_mix64_2(r->scope, r->ids[i]) : r->ids[i], before;
		if (!id_table_get(&t->places, key, &before)) {
			if (id_table_put(&t->places, key, i, err))
				return -1;
		} else if (before != i) {
			bool twice = before < i && r->ids[before] == r->ids[i];
			trace_warn(t, twice ? CHECK_DUPLICATE : CHECK_SCOPE, r->line, NULL,
				   twice
				       ? "the id %llu stands at places %llu and %u of one request; an id stands for "
					 "all blocks up to it, and cannot come twice"
				       : "the id %llu stood at place %llu in another request and stands at %u here; "
					 "ids of one scope name the same blocks everywhere",
				   (unsigned long long)r->ids[i], (unsigned long long)before, i);
			return 0;
		}
	}
	return 0;
}

static int check_request(struct trace *t, const struct trace_request *r, struct ikv_err *err)
{
	const struct trace_request *b = &t->newest;
	if (r->block_tokens && check_places(t, r, err))
		return -1;
	uint64_t last = r->count ? r->ids[r->count - 1] : 0;
	/* Without ids, two may be alike by chance where the trace has no times. */
	bool tells = r->block_tokens ? r->count > 0 : !t->importer->by_session && !r->bytes && b->line;
	if (tells && r->count == b->count && last == t->newest_id && r->at_ms == b->at_ms && r->input == b->input &&
	    r->output == b->output && (r->scope == b->scope || !r->count))
		trace_warn(t, CHECK_DUPLICATE, r->line, NULL, "the same request as in line %d: time, lengths and ids",
			   b->line);
	t->newest = *r;
	t->newest_id = last;
	return 0;
}

/* Its ids in blocks of the wanted size. */
static int convert(struct trace *t, struct trace_request *r, struct ikv_err *err)
{
	uint32_t to = t->opts->block_tokens;
	if (to == 0 || r->block_tokens == 0 || r->block_tokens == to)
		return 0;
	if (reblock_ids(r->ids, r->count, r->block_tokens, r->input, to, &t->reblocked, err))
		return -1;
	r->ids = t->reblocked.ids;
	r->count = t->reblocked.count;
	r->block_tokens = to;
	return 0;
}

/* Into the census, but for what the request before began with as well: of a session that grows, that is nearly all.
 */
static int count_ids(struct trace *t, const struct trace_request *r, struct ikv_err *err)
{
	struct reblocked *p = &t->prior;
	uint32_t common = 0, most = r->scope == t->prior_scope ? (r->count < p->count ? r->count : p->count) : 0;
	while (common < most && r->ids[common] == p->ids[common])
		common++;
	if (r->count > p->cap) {
		if (ikv_grow(&p->ids, p->count, (size_t)r->count * 2, sizeof *p->ids, err))
			return -1;
		p->cap = (size_t)r->count * 2;
	}
	for (uint32_t i = common; i < r->count; i++) {
		p->ids[i] = r->ids[i];
		if (census_add(&t->seen, r->scope ? ikv_mix64_2(r->scope, r->ids[i]) : r->ids[i], err))
			return -1;
	}
	p->count = r->count;
	t->prior_scope = r->scope;
	return 0;
}

/* Hand a request on, counted. */
static int deliver(struct trace *t, const struct trace_request *told, struct ikv_err *err)
{
	struct trace_facts *f = t->facts;
	struct trace_request request = *told, *r = &request;
	if (t->opts->finding && check_request(t, r, err))
		return -1;
	if (convert(t, r, err))
		return -1;
	f->requests++;
	f->input_tokens += r->input;
	f->output_tokens += r->output;
	f->block_refs += r->count;
	if (count_ids(t, r, err))
		return -1;
	if (!t->sink->request)
		return 0;
	int rc = t->sink->request(t->sink->ctx, r, err);
	t->failed = t->failed || rc;
	return rc;
}

static int hold(struct trace *t, const struct trace_request *r, struct ikv_err *err)
{
	if (t->pending_count == t->pending_cap) {
		size_t cap = t->pending_cap * 2 + 16;
		if (ikv_grow(&t->pending, t->pending_count, cap, sizeof *t->pending, err))
			return -1;
		t->pending_cap = cap;
	}
	if (t->id_cap - t->id_count < r->count) {
		size_t cap = t->id_cap * 2 + r->count;
		if (ikv_grow(&t->pending_ids, t->id_count, cap, sizeof *t->pending_ids, err))
			return -1;
		t->id_cap = cap;
	}
	if (r->count)
		memcpy(t->pending_ids + t->id_count, r->ids, r->count * sizeof *r->ids);
	t->pending[t->pending_count++] = (struct trace_pending){*r, t->id_count};
	t->id_count += r->count;
	return 0;
}

int trace_request(struct trace *t, const struct trace_request *r, struct ikv_err *err)
{
	if (t->building)
		return hold(t, r, err);
	/* Of a log whose first sessions are wanted alone, their requests are worked out when they are played. */
	return t->opts->limit && trace_wants_sessions(t) ? 0 : deliver(t, r, err);
}

/* Sessions named "<id>/..." after the session <id> are agents of it and share its ids. */
static void find_scope(struct trace *t, const struct session *s)
{
	size_t n = strlen(t->root);
	if (n && !strncmp(s->id, t->root, n) && s->id[n] == '/')
		return;
	snprintf(t->root, sizeof t->root, "%s", s->id);
	t->scope++;
}

static int event_request(void *ctx, const struct trace_request *r, struct ikv_err *err)
{
	struct trace *t = ctx;
	struct trace_request scoped = *r;
	scoped.scope = t->session.hashes_global ? 0 : t->scope;
	return deliver(t, &scoped, err);
}

static int deliver_all(struct trace *t, struct ikv_err *err)
{
	if (t->pending_count == 0)
		return session_requests(&t->session, event_request, t, err);
	for (size_t i = 0; i < t->pending_count; i++) {
		struct trace_request r = t->pending[i].request;
		r.ids = r.count ? t->pending_ids + t->pending[i].first : NULL;
		r.scope = t->session.hashes_global ? 0 : t->scope;
		if (deliver(t, &r, err))
			return -1;
	}
	return 0;
}

int trace_hand_over(struct trace *t, struct ikv_err *err)
{
	struct session *s = &t->session;
	struct ikv_err why;
	if (t->opts->max_context_tokens > 0 && session_shorten(s, (uint64_t)t->opts->max_context_tokens))
		t->facts->shortened++;
	if (session_check(s, &why))
		return ikv_err_set(err, why.status, "%s: %s", t->path, why.text);
	if (id_set_add(&t->names, name_hash(s->id), err) < 0 ||
	    (t->opts->block_tokens && reblock_session(s, t->opts->block_tokens, err)))
		return -1;
	t->sessions++;
	int rc = t->sink->session ? t->sink->session(t->sink->ctx, s, err) : 0;
	t->failed = t->failed || rc;
	trace_drop(t);
	return rc;
}

int trace_emit(struct trace *t, struct ikv_err *err)
{
	struct ikv_err why;
	/* Before its requests are told of: they cannot be taken back. */
	if (session_check(&t->session, &why))
		return ikv_err_set(err, why.status, "%s: %s", t->path, why.text);
	find_scope(t, &t->session);
	return deliver_all(t, err) ? -1 : trace_hand_over(t, err);
}

bool trace_wants_sessions(const struct trace *t)
{
	return t->sink->session != NULL;
}

bool trace_full(const struct trace *t)
{
	return t->opts->limit && t->sessions >= t->opts->limit;
}

const char *trace_tokens_by(const struct trace *t)
{
	return t->opts->tokenizer ? t->opts->tokenizer_name : "chars/4";
}

int trace_tokens(struct trace *t, const char *text, size_t bytes, uint64_t *tokens, struct ikv_err *err)
{
	uint64_t n = 0;
	if (t->opts->tokenizer)
		return tokenizer_count(t->opts->tokenizer, text, bytes, tokens, err);
	for (size_t i = 0; i < bytes; i++)
		n += ((unsigned char)text[i] & 0xc0) != 0x80;
	*tokens = (n + CHARS_PER_TOKEN - 1) / CHARS_PER_TOKEN;
	return 0;
}

bool trace_note(struct trace *t, const struct trace_input *in, const struct ikv_err *err)
{
	if (!t->opts->finding || t->failed || in->unreadable || err->status != IKV_BAD_INPUT)
		return false;
	tell(t, &(struct trace_finding){in->path, in->wrong_line, in->check, false, err->text});
	return true;
}

int trace_bad(struct trace *t, const struct trace_input *in, struct ikv_err *err)
{
	trace_drop(t);
	if (t->failed || err->status != IKV_BAD_INPUT)
		return -1;
	if (!t->opts->finding && (!t->opts->skip_bad || in->unreadable))
		return -1;
	t->facts->skipped++;
	tell(t, &(struct trace_finding){in->path, in->wrong_line, in->check, false, err->text});
	return 0;
}

/* The project's own session form, version 1: a header line, then a session a line. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include "sim/trace/json_input.h"

enum { VERSION = 1 };

static int detect(const char *path, const char *head, size_t size)
{
	static const char *const keys[] = {"\"intentkv_sessions\"", NULL};
	(void)path;
	return json_line_has(head, size, keys) ? 100 : 0;
}

struct reader {
	struct json_input *in;
	bool headed;              /* the header has been read */
	struct trace_facts facts; /* what it says */
	uint32_t block;
	bool global;
	uint64_t *ids;
	size_t cap;
};

/* Our own form: an unknown key is a slip, not an extension. */
static int check_keys(struct reader *r, const json_t *o, const char *const *valid, size_t count, struct ikv_err *err)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)o, key, v)
	{
		size_t i = 0;
		while (i < count && strcmp(key, valid[i]) != 0)
			i++;
		if (i < count)
			continue;
		const char *near = ikv_nearest(key, valid, count);
		return json_wrong(r->in, NULL, err, "unknown key \"%.60s\"%s%s%s", key,
				  near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	return 0;
}

static int read_count(struct reader *r, const char *key, uint64_t *out, struct ikv_err *err)
{
	int64_t n = 0;
	bool has;
	if (json_member_int(r->in, r->in->value, key, 0, INT64_MAX, &n, &has, err))
		return -1;
	*out = (uint64_t)n;
	return 0;
}

static int read_scope(struct reader *r, const json_t *o, uint32_t *block, bool *global, struct ikv_err *err)
{
	char text[80];
	int64_t n = *block;
	bool has;
	const json_t *g = json_object_get(o, "hashes_global");
	if (json_member_int(r->in, o, "hash_block_tokens", 0, 1 << 20, &n, &has, err))
		return -1;
	if (g && !json_is_boolean(g))
		return json_wrong(r->in, "hashes_global", err, "found %s, expected true or false",
				  json_describe(g, text));
	*block = (uint32_t)n;
	if (g)
		*global = json_is_true(g);
	return 0;
}

static int read_header(struct reader *r, struct ikv_err *err)
{
	struct trace_facts *out = &r->facts;
	static const char *const valid[] = {"intentkv_sessions", "format",        "tokens_by",  "hash_block_tokens",
					    "hashes_global",     "records",       "skipped",    "requests",
					    "input_tokens",      "output_tokens", "block_refs", "unique_blocks",
					    "prefix_hits",       "shortened"};
	int64_t version;
	const char *text;
	const json_t *o = r->in->value;
	if (json_member_int(r->in, o, "intentkv_sessions", VERSION, VERSION, &version, NULL, err) ||
	    check_keys(r, o, valid, sizeof valid / sizeof *valid, err) ||
	    read_scope(r, o, &r->block, &r->global, err))
		return -1;
	if (json_member_text(r->in, o, "format", true, &text, err))
		return -1;
	snprintf(out->format, sizeof out->format, "%s", text ? text : "intentkv");
	if (json_member_text(r->in, o, "tokens_by", true, &text, err))
		return -1;
	snprintf(out->tokens_by, sizeof out->tokens_by, "%s", text ? text : "trace");
	return read_count(r, "records", &out->records, err) || read_count(r, "skipped", &out->skipped, err) ||
	       read_count(r, "requests", &out->requests, err) ||
	       read_count(r, "input_tokens", &out->input_tokens, err) ||
	       read_count(r, "output_tokens", &out->output_tokens, err) ||
	       read_count(r, "block_refs", &out->block_refs, err) ||
	       read_count(r, "unique_blocks", &out->unique_blocks, err) ||
	       read_count(r, "prefix_hits", &out->prefix_hits, err) ||
	       read_count(r, "shortened", &out->shortened, err);
}

static int name_in(const struct reader *r, const char *key, const char *text, const char *const *names,
		   struct ikv_err *err)
{
	size_t n = 0;
	while (names[n]) {
		if (!strcmp(names[n], text))
			return (int)n;
		n++;
	}
	const char *near = ikv_nearest(text, names, n);
	return json_wrong(r->in, key, err, "unknown name \"%.40s\"%s%s%s", text, near ? "; did you mean \"" : "",
			  near ? near : "", near ? "\"?" : "");
}

static int read_block(struct reader *r, const json_t *o, const char *op, struct session *s, struct session_event *e,
		      struct ikv_err *err)
{
	const char *kind, *policy, *name;
	int64_t tokens;
	double confidence = 1;
	bool has;
	if (json_member_text(r->in, o, op, false, &kind, err) ||
	    json_member_int(r->in, o, "tokens", 1, SESSION_CONTEXT_MAX, &tokens, NULL, err) ||
	    json_member_real(r->in, o, "confidence", 0, 1, &confidence, &has, err) ||
	    json_member_text(r->in, o, "policy", true, &policy, err) ||
	    json_member_text(r->in, o, "name", true, &name, err))
		return -1;
	e->tokens = (uint32_t)tokens;
	e->confidence = (float)confidence;
	e->unowned = e->op == SESSION_APPEND && !strcmp(kind, "none");
	int k = e->unowned ? (int)IKV_KIND_OTHER : name_in(r, op, kind, ikv_kind_names(), err);
	int p = policy ? name_in(r, "policy", policy, ikv_policy_names(), err) : 0;
	if (k < 0 || p < 0)
		return -1;
	e->kind = (enum ikv_kind)k;
	e->has_policy = policy != NULL;
	e->policy = (enum ikv_policy)p;
	if (name && !(e->name = strdup(name)))
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	uint32_t n = 0;
	if (!json_object_get(o, "hashes"))
		return 0;
	if (e->op != SESSION_APPEND || s->hash_block_tokens == 0)
		return json_wrong(r->in, "hashes", err, "ids %s",
				  e->op != SESSION_APPEND ? "belong to an append" : "without hash_block_tokens");
	return json_member_ids(r->in, o, "hashes", &r->ids, &r->cap, &n, err) ||
	       session_push_hashes(s, e, r->ids, n, err);
}

static int read_event(struct reader *r, const json_t *o, struct session *s, int64_t *turn, struct ikv_err *err)
{
	static const char *const ops[] = {"append", "decode", "compact", "wait"};
	static const char *const valid[] = {"append", "decode", "compact",    "wait",   "tokens",
					    "name",   "policy", "confidence", "hashes", "turn"};
	int op = -1, found = 0;
	bool has;
	if (!json_is_object(o))
		return json_wrong(r->in, "events", err, "event %u is not an object", s->event_count);
	for (int i = 0; i < 4; i++)
		if (json_object_get(o, ops[i])) {
			op = i;
			found++;
		}
	if (check_keys(r, o, valid, sizeof valid / sizeof *valid, err))
		return -1;
	if (found != 1)
		return json_wrong(r->in, "events", err,
				  "event %u has %d of append, decode, compact and wait, expected one", s->event_count,
				  found);
	if (json_member_int(r->in, o, "turn", 0, UINT32_MAX, turn, &has, err))
		return -1;
	struct session_event *e = session_push(s, (enum session_op)op, err);
	if (!e)
		return -1;
	e->turn = (uint32_t)*turn;
	e->line = r->in->line;
	if (op == SESSION_WAIT)
		return json_member_real(r->in, o, "wait", 0, 1e15, &e->wait_ms, NULL, err);
	int64_t keep = 0;
	if (op == SESSION_COMPACT && json_member_int(r->in, o, "compact", 0, SESSION_CONTEXT_MAX, &keep, NULL, err))
		return -1;
	e->tokens = (uint32_t)keep;
	return op == SESSION_COMPACT ? 0 : read_block(r, o, ops[op], s, e, err);
}

static int read_session(struct reader *r, struct trace *t, struct ikv_err *err)
{
	static const char *const valid[] = {
	    "id", "arrival_ms", "reward", "task", "hash_block_tokens", "hashes_global", "events"};
	const json_t *o = r->in->value, *v, *events = json_object_get(o, "events");
	char text[80];
	const char *id, *task;
	double arrival = 0;
	bool has;
	size_t i;
	int64_t turn = 0;
	if (check_keys(r, o, valid, sizeof valid / sizeof *valid, err) ||
	    json_member_text(r->in, o, "id", false, &id, err) ||
	    json_member_text(r->in, o, "task", true, &task, err) ||
	    json_member_real(r->in, o, "arrival_ms", 0, 1e15, &arrival, &has, err))
		return -1;
	if (!json_is_array(events))
		return json_wrong(r->in, "events", err, "found %s, expected a list of events",
				  json_describe(events, text));
	struct session *s = json_session(t, r->in, "id", id, err);
	if (!s)
		return -1;
	s->arrival_ms = arrival;
	s->hash_block_tokens = r->block;
	s->hashes_global = r->global;
	if (json_member_real(r->in, o, "reward", -1e12, 1e12, &s->reward, &has, err) ||
	    read_scope(r, o, &s->hash_block_tokens, &s->hashes_global, err))
		return -1;
	if (task && !(s->task = strdup(task)))
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	json_array_foreach(events, i, v) if (read_event(r, v, s, &turn, err)) return -1;
	struct ikv_err why;
	return session_check(s, &why) ? json_fault(r->in, CHECK_CONSISTENCY, NULL, err, "%s", why.text)
				      : trace_emit(t, err);
}

static int read_line(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct reader *r = ctx;
	r->in = in;
	if (r->headed)
		return read_session(r, t, err);
	if (read_header(r, err)) {
		in->file.unreadable = true;
		return -1;
	}
	r->headed = true;
	t->facts->records--; /* the header is none, and will be counted */
	return 0;
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct reader r = {0};
	struct trace_facts before = *t->facts;
	int rc = json_read(t, path, JSON_LONG_LINES, read_line, &r, err);
	if (!rc && !r.headed && !t->opts->finding)
		rc = ikv_err_at(err, IKV_BAD_INPUT, path, 1, 0, NULL, "empty, expected a header line");
	if (!rc && r.headed) {
		snprintf(t->facts->format, sizeof t->facts->format, "%s", r.facts.format);
		snprintf(t->facts->tokens_by, sizeof t->facts->tokens_by, "%s", r.facts.tokens_by);
		/* The other counts are those of the sessions that are there. */
		t->facts->records = before.records + r.facts.records;
		t->facts->skipped += r.facts.skipped;
		t->facts->shortened += r.facts.shortened;
	}
	ikv_free(r.ids);
	return rc;
}

const struct importer importer_intentkv = {
    .name = "intentkv",
    .summary = "the project's own session form, JSONL version 1",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

/* Coding-agent sessions as recorded for Weka's kv-cache-tester: one session a file, full blocks of the input as
 * ids, think and API times. A subagent's requests make a session of their own, "<id>/<agent>". */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/request.h"

enum { AGENT_DEPTH_MAX = 8, ROOTS_MAX = 64 };

struct weka {
	struct json_input *in;
	struct trace *t;
	uint32_t block;
	bool global;
	int64_t sums[2][2]; /* tokens of the session's own requests and of its agents': in, out */
	bool broken;        /* a request of the stream is, and lint looks for more */
	int depth;          /* of the stream being read; 0: the session itself */
};

struct stream {
	struct request_stream r;
	uint32_t tools, prompt; /* positions where the tool definitions and the system prompt end */
	uint64_t *ids[2];       /* of this request and the one before */
	size_t cap[2];
	double start_ms, at_s, api_s; /* of the stream in the trace; the newest request in the stream */
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	return memmem(head, size, "\"block_size\"", 12) && memmem(head, size, "\"hash_id_scope\"", 15) ? 95 : 0;
}

static bool has_type(const json_t *types, const char *name)
{
	size_t i;
	const json_t *v;
	json_array_foreach(types, i, v) if (json_is_string(v) && !strcmp(json_string_value(v), name)) return true;
	return false;
}

static int check_types(const struct weka *w, const json_t *request, const char *key, struct ikv_err *err)
{
	char text[80];
	const json_t *list = json_object_get(request, key), *v;
	size_t i;
	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return json_wrong(w->in, key, err, "found %s, expected a list of strings", json_describe(list, text));
	json_array_foreach(list, i, v) if (!json_is_string(v)) return json_wrong(
	    w->in, key, err, "found %s, expected a string", json_describe(v, text));
	return 0;
}

/* What entered with this request. The types list what the new messages hold, not how long each is: a mixture
 * is one block of its likely largest kind. A context that shrank was summarised: what follows the kept part is
 * the summary. */
static enum ikv_kind input_kind(const json_t *types, bool first, bool shrank, float *confidence)
{
	*confidence = 0.5F;
	if (first)
		return IKV_KIND_USER;
	if (shrank)
		return IKV_KIND_MEMORY;
	bool result = has_type(types, "tool_result"), text = has_type(types, "text");
	if (result != text)
		*confidence = 0.9F;
	return result ? IKV_KIND_TOOL_OUTPUT : IKV_KIND_USER;
}

/* The trace has one output length and the types in it. Thinking takes half if there is something else, text and
 * tool call share the rest; the first to come gets the odd token. */
static int decode(struct weka *w, struct stream *t, struct session *s, const json_t *types, uint32_t tokens,
		  struct ikv_err *err)
{
	(void)w;
	bool thinking = has_type(types, "thinking"), text = has_type(types, "text"),
	     call = has_type(types, "tool_use");
	int parts = thinking + text + call;
	float sure = parts == 1 ? 1.0F : 0.5F;
	if (parts == 0)
		text = true;
	uint32_t reasoning = !thinking ? 0 : parts == 1 ? tokens : tokens - tokens / 2;
	uint32_t rest = tokens - reasoning;
	uint32_t said = !text ? 0 : call ? rest - rest / 2 : rest;
	return request_decode(&t->r, s, reasoning, IKV_KIND_REASONING, sure, err) ||
	       request_decode(&t->r, s, said, IKV_KIND_ASSISTANT, sure, err) ||
	       request_decode(&t->r, s, rest - said, IKV_KIND_TOOL_CALL, sure, err);
}

static int wait_for(struct stream *t, struct session *s, double at_s, double think_s, struct ikv_err *err)
{
	if (t->r.turn == 0) {
		s->arrival_ms += at_s * 1e3;
		return 0;
	}
	double ms = (isnan(think_s) ? at_s - t->at_s - t->api_s : think_s) * 1e3;
	return request_wait(&t->r, s, ms, err);
}

/* Lint: the first sessions of global ids that begin with different blocks. */
struct roots {
	struct root {
		uint64_t *ids; /* of its first request; owned */
		uint32_t count, tools, prompt;
		char id[64];
	} items[ROOTS_MAX];
	uint32_t count;
};

static void forget_roots(void *memory)
{
	struct roots *roots = memory;
	for (uint32_t i = 0; roots && i < roots->count; i++)
		ikv_free(roots->items[i].ids);
	ikv_free(roots);
}

/* Two sessions that share the blocks of their prompts have the same prompt; if its parts are of different length, the
 * ids only look the same. */
static void check_root(struct weka *w, const struct stream *t, const struct root *r, uint32_t count)
{
	uint32_t common = 0, longest = t->prompt > r->prompt ? t->prompt : r->prompt;
	while (common < count && common < r->count && t->ids[0][common] == r->ids[common])
		common++;
	if ((uint64_t)common * w->block > longest && (t->tools != r->tools || t->prompt != r->prompt))
		trace_warn(w->t, CHECK_SCOPE, w->in->line, "hash_id_scope",
			   "global, and the first %u blocks are those of the session \"%s\", but its tools and "
			   "system prompt "
			   "take %u + %u tokens and here they take %u + %u: the ids look local",
			   common, r->id, r->tools, r->prompt - r->tools, t->tools, t->prompt - t->tools);
}

static int check_scope(struct weka *w, const struct stream *t, uint32_t count, struct ikv_err *err)
{
	struct trace *trace = w->t;
	if (!trace->opts->finding || !w->global || count == 0 || t->r.turn)
		return 0;
	if (!trace->memory && !(trace->memory = ikv_alloc(1, sizeof(struct roots), err)))
		return -1;
	trace->forget = forget_roots;
	struct roots *roots = trace->memory;
	for (uint32_t i = 0; i < roots->count; i++)
		if (roots->items[i].ids[0] == t->ids[0][0]) {
			check_root(w, t, &roots->items[i], count);
			return 0;
		}
	if (roots->count == ROOTS_MAX)
		return 0;
	struct root *r = &roots->items[roots->count];
	*r = (struct root){.count = count, .tools = t->tools, .prompt = t->prompt};
	if (!(r->ids = ikv_alloc(count, sizeof *r->ids, err)))
		return -1;
	memcpy(r->ids, t->ids[0], count * sizeof *r->ids);
	snprintf(r->id, sizeof r->id, "%s", trace->session.id);
	roots->count++;
	return 0;
}

static int read_request(struct weka *w, struct stream *t, const json_t *o, struct ikv_err *err)
{
	int64_t input, output;
	double at_s, api_s = 0, think_s = NAN;
	uint32_t count;
	bool has;
	if (json_member_real(w->in, o, "t", 0, 1e12, &at_s, NULL, err) ||
	    json_member_int(w->in, o, "in", 0, REQUEST_TOKENS_MAX, &input, NULL, err) ||
	    json_member_int(w->in, o, "out", 0, REQUEST_TOKENS_MAX, &output, NULL, err) ||
	    json_member_real(w->in, o, "api_time", 0, 1e12, &api_s, &has, err) ||
	    json_member_real(w->in, o, "think_time", 0, 1e12, &think_s, &has, err) ||
	    json_member_ids(w->in, o, "hash_ids", &t->ids[0], &t->cap[0], &count, err) ||
	    check_types(w, o, "input_types", err) || check_types(w, o, "output_types", err))
		return -1;
	if (count != (uint32_t)input / w->block)
		return json_fault(w->in, CHECK_ID_COUNT, "hash_ids", err,
				  "%u ids for an input of %lld tokens, expected %u: one for each full block of %u",
				  count, (long long)input, (uint32_t)input / w->block, w->block);
	if (t->r.turn && at_s < t->at_s)
		return json_fault(w->in, CHECK_TIME, "t", err, "time runs backwards: %.17g after %.17g", at_s,
				  t->at_s);
	struct session *s = &w->t->session;
	bool first = t->r.turn == 0, shrank = (uint32_t)input < t->r.input;
	float sure;
	enum ikv_kind kind = input_kind(json_object_get(o, "input_types"), first, shrank, &sure);
	if (check_scope(w, t, count, err) || wait_for(t, s, at_s, think_s, err) ||
	    request_begin(&t->r, s, t->ids[0], count, (uint32_t)input, w->in->line, err) ||
	    request_append(&t->r, s, t->tools, IKV_KIND_TOOLS, 1, err) ||
	    request_append(&t->r, s, t->prompt, IKV_KIND_SYSTEM, 1, err) ||
	    request_append(&t->r, s, (uint32_t)input, kind, sure, err) ||
	    decode(w, t, s, json_object_get(o, "output_types"), (uint32_t)output, err) ||
	    trace_request(w->t,
			  &(struct trace_request){.ids = t->ids[0],
						  .count = count,
						  .block_tokens = w->block,
						  .input = (uint32_t)input,
						  .output = (uint32_t)output,
						  .at_ms = t->start_ms + at_s * 1e3,
						  .line = w->in->line},
			  err))
		return -1;
	w->sums[w->depth > 0][0] += input;
	w->sums[w->depth > 0][1] += output;
	uint64_t *ids = t->ids[0];
	size_t cap = t->cap[0];
	t->ids[0] = t->ids[1];
	t->cap[0] = t->cap[1];
	t->ids[1] = ids;
	t->cap[1] = cap;
	t->at_s = at_s;
	t->api_s = api_s;
	return 0;
}

static int open_stream(struct weka *w, struct stream *t, const json_t *o, const char *id, double start_s,
		       struct ikv_err *err)
{
	int64_t tools = 0, prompt = 0;
	bool has;
	if (json_member_int(w->in, o, "tool_tokens", 0, REQUEST_TOKENS_MAX, &tools, &has, err) ||
	    json_member_int(w->in, o, "system_tokens", 0, REQUEST_TOKENS_MAX, &prompt, &has, err))
		return -1;
	struct session *s = json_session(w->t, w->in, "id", id, err);
	if (!s)
		return -1;
	s->hash_block_tokens = w->block;
	s->hashes_global = w->global;
	s->arrival_ms = start_s * 1e3;
	*t = (struct stream){
	    .start_ms = start_s * 1e3, .tools = (uint32_t)tools, .prompt = (uint32_t)(tools + prompt)};
	return 0;
}

static int read_requests(struct weka *w, const json_t *o, const char *id, double start_s, struct ikv_err *err);

static int read_subagent(struct weka *w, const json_t *o, const char *parent, struct ikv_err *err)
{
	const char *agent;
	double at_s;
	char id[SESSION_ID_MAX + 1];
	if (w->depth >= AGENT_DEPTH_MAX)
		return json_wrong(w->in, "requests", err, "subagents nested more than %d deep", AGENT_DEPTH_MAX);
	if (json_member_text(w->in, o, "agent_id", false, &agent, err) ||
	    json_member_real(w->in, o, "t", 0, 1e12, &at_s, NULL, err))
		return -1;
	/* kv-cache-tester counts an agent's times from its start, the AgentX traces from the session's. A first
	 * request before the agent's own start can only be the former. */
	const json_t *first = json_array_get(json_object_get(o, "requests"), 0);
	if (json_number_value(json_object_get(first, "t")) >= at_s)
		at_s = 0;
	if ((size_t)snprintf(id, sizeof id, "%s/%s", parent, agent) >= sizeof id)
		return json_wrong(w->in, "agent_id", err, "an id longer than %zu bytes", sizeof id);
	w->depth++;
	int rc = read_requests(w, o, id, at_s, err);
	w->depth--;
	return rc;
}

/* The stream's own requests, or its agents. Agents come after the stream they belong to, so that a session and its
 * agents stand together; a broken one is left out alone. */
static int read_part(struct weka *w, struct stream *t, const json_t *list, const char *id, bool agents,
		     struct ikv_err *err)
{
	char text[80];
	const json_t *v;
	size_t i;
	json_array_foreach(list, i, v)
	{
		const char *type;
		snprintf(w->in->part, sizeof w->in->part, "request %zu", i);
		if (!json_is_object(v))
			return json_wrong(w->in, "requests", err, "request %zu is %s, expected an object", i,
					  json_describe(v, text));
		if (json_member_text(w->in, v, "type", false, &type, err))
			return -1;
		if ((!strcmp(type, "subagent")) != agents)
			continue;
		if (agents && trace_full(w->t))
			break;
		if (agents && read_subagent(w, v, id, err) && trace_bad(w->t, &w->in->file, err))
			return -1;
		if (!agents && read_request(w, t, v, err)) {
			if (!trace_note(w->t, &w->in->file, err))
				return -1;
			w->broken = true;
		}
	}
	return 0;
}

static int read_requests(struct weka *w, const json_t *o, const char *id, double start_s, struct ikv_err *err)
{
	char text[80];
	struct stream t = {0};
	const json_t *list = json_object_get(o, "requests");
	if (!json_is_array(list) || json_array_size(list) == 0)
		return json_wrong(w->in, "requests", err, "found %s, expected a list of at least one request",
				  json_is_array(list) ? "an empty list" : json_describe(list, text));
	int rc = open_stream(w, &t, o, id, start_s, err);
	if (!rc)
		rc = read_part(w, &t, list, id, false, err);
	if (!rc && w->broken) {
		trace_drop(w->t);
		w->t->facts->skipped++;
	} else if (!rc && w->t->session.event_count) {
		rc = trace_emit(w->t, err);
	} else if (!rc && t.r.turn) {
		trace_warn(w->t, CHECK_VALUE, w->in->line, "in", "no request of \"%s\" has a token; it is left out", id);
		w->t->facts->skipped++;
	}
	w->broken = false;
	ikv_free(t.ids[0]);
	ikv_free(t.ids[1]);
	return rc ? rc : read_part(w, &t, list, id, true, err);
}

/* The file's own sums, where it has them. */
static void check_totals(struct weka *w, const json_t *o)
{
	static const char *const names[] = {"parent_tokens", "subagent_tokens"}, *const ends[] = {"input", "output"};
	const json_t *totals = json_object_get(o, "totals");
	for (int i = 0; i < 4; i++) {
		const json_t *v = json_object_get(json_object_get(totals, names[i / 2]), ends[i % 2]);
		int64_t sum = w->sums[i / 2][i % 2];
		if (json_is_integer(v) && json_integer_value(v) != sum)
			trace_warn(w->t, CHECK_CONSISTENCY, w->in->line, "totals",
				   "%s.%s is %lld, but the requests add up to %lld", names[i / 2], ends[i % 2],
				   (long long)json_integer_value(v), (long long)sum);
	}
}

static int read_session(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	const char *id, *scope;
	int64_t block;
	const json_t *o = in->value;
	(void)ctx;
	if (json_member_text(in, o, "id", false, &id, err) ||
	    json_member_int(in, o, "block_size", 1, 65536, &block, NULL, err) ||
	    json_member_text(in, o, "hash_id_scope", false, &scope, err))
		return -1;
	if (strlen(id) == 0 || strlen(id) > 200)
		return json_wrong(in, "id", err, "an id of %zu bytes, expected 1 to 200", strlen(id));
	if (strcmp(scope, "local") != 0 && strcmp(scope, "global") != 0)
		return json_fault(in, CHECK_SCOPE, "hash_id_scope", err, "found \"%.40s\", expected local or global",
				  scope);
	struct weka w = {.in = in, .t = t, .block = (uint32_t)block, .global = !strcmp(scope, "global")};
	if (read_requests(&w, o, id, 0, err))
		return -1;
	*in->part = 0;
	check_totals(&w, o);
	return 0;
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	return json_read(t, path, JSON_VALUES, read_session, NULL, err);
}

const struct importer importer_weka = {
    .name = "weka",
    .summary = "Weka kv-cache-tester JSON: one coding-agent session a file, ids of full blocks",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

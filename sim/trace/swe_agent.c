/* SWE-agent's trajectories: a file is one run. `history` holds the messages that the model saw, `trajectory` only
 * what it answered and what came of it. Their form has changed over the years: tool output once came with the role of
 * the user, and nothing but its place tells it from a user's word. */
#include <string.h>
#include "sim/trace/messages.h"

enum { AGENTS_MAX = 64 };

struct run {
	struct trace *t;
	struct json_input *in;
	struct message message;
	const json_t *steps; /* of the trajectory, or NULL */
	char id[SESSION_ID_MAX + 1];
	char key[48];
};

static bool has(const char *head, size_t size, const char *word)
{
	return memmem(head, size, word, strlen(word)) != NULL;
}

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	if (has(head, size, "\"trajectory\"") && has(head, size, "\"observation\"") && has(head, size, "\"action\""))
		return 95;
	return has(head, size, "\"history\"") && has(head, size, "\"role\"") && has(head, size, "\"agent\"") ? 90 : 0;
}

static bool is(const json_t *v, const char *text)
{
	return json_is_string(v) && !strcmp(json_string_value(v), text);
}

/* ---- What the model answered: a thought, and the action that follows from it. ---- */

/* Where the action begins in a text without fields: at the last fenced block, or at its <command>. */
static const char *find_action(const char *text)
{
	const char *command = strstr(text, "<command>"), *open = NULL;
	bool inside = false;
	if (command)
		return command;
	for (const char *c = strstr(text, "```"); c; c = strstr(c + 3, "```")) {
		inside = !inside;
		if (inside)
			open = c;
	}
	return open;
}

static int put_split(struct message *m, const char *text, size_t thought, float confidence, struct ikv_err *err)
{
	size_t size = strlen(text);
	return message_text(m, text, thought, IKV_KIND_REASONING, true, confidence, err) ||
	       message_text(m, text + thought, size - thought, IKV_KIND_TOOL_CALL, true, confidence, err);
}

static int put_whole(struct message *m, const char *text, enum ikv_kind kind, float confidence, struct ikv_err *err)
{
	return message_text(m, text, strlen(text), kind, true, confidence, err);
}

/* The fields say what is a thought; the text also has what stands around the action. */
static int put_answer(struct message *m, const char *text, const char *thought, const char *action,
		      struct ikv_err *err)
{
	const char *found = *thought ? strstr(text, thought) : NULL, *rest = found ? found + strlen(thought) : NULL;
	if (rest && *action && rest[strspn(rest, " \t\r\n")])
		return put_split(m, text, (size_t)(rest - text), 1, err);
	/* A call by function, whose text is the thought alone: the field renders it. */
	if (found || !*text)
		return put_whole(m, *text ? text : thought, IKV_KIND_REASONING, 1, err) ||
		       put_whole(m, strstr(text, action) ? "" : action, IKV_KIND_TOOL_CALL, 0.9F, err);
	found = *action ? strstr(text, action) : NULL;
	if (found)
		return put_split(m, text, (size_t)(found - text), 0.9F, err);
	found = find_action(text);
	if (found)
		return put_split(m, text, (size_t)(found - text), 0.7F, err);
	return put_whole(m, text, IKV_KIND_ASSISTANT, 0.7F, err);
}

static int read_answer(struct run *r, const json_t *o, const char *content_key, struct ikv_err *err)
{
	struct message *m = &r->message;
	const char *text = json_string_value(json_object_get(o, content_key));
	const char *thought = json_string_value(json_object_get(o, "thought"));
	const char *action = json_string_value(json_object_get(o, "action"));
	const json_t *calls = json_object_get(o, "tool_calls"), *thinking = json_object_get(o, "thinking_blocks");
	bool called = json_is_array(calls) && json_array_size(calls);
	size_t before;
	message_begin(m, "assistant");
	if (json_is_array(thinking) && message_content(m, thinking, IKV_KIND_REASONING, true, err))
		return -1;
	if (!called)
		return put_answer(m, text ? text : "", thought ? thought : "", action ? action : "", err);
	/* The message is the thought, the calls are in its tool_calls, and `action` only renders them. */
	before = m->count;
	if (message_content(m, json_object_get(o, content_key), IKV_KIND_REASONING, true, err) ||
	    message_calls(m, calls, err))
		return -1;
	for (size_t i = before; i < m->count; i++)
		if (m->blocks[i].kind == IKV_KIND_REASONING && !thought)
			m->blocks[i].confidence = 0.9F;
	return 0;
}

/* ---- The history ---- */

static bool demonstrates(const json_t *o)
{
	const char *text = json_string_value(json_object_get(o, "content"));
	return json_is_true(json_object_get(o, "is_demo")) ||
	       is(json_object_get(o, "message_type"), "demonstration") ||
	       (is(json_object_get(o, "role"), "user") && text && strstr(text, "--- DEMONSTRATION ---"));
}

/* What a message is that the model did not write in this run. `acted`: it has answered before. */
static enum ikv_kind input_kind(const json_t *o, bool acted, float *confidence)
{
	const json_t *role = json_object_get(o, "role"), *type = json_object_get(o, "message_type");
	*confidence = 1;
	if (demonstrates(o)) {
		*confidence = json_is_true(json_object_get(o, "is_demo")) || is(type, "demonstration") ? 1 : 0.9F;
		return IKV_KIND_MEMORY;
	}
	if (is(role, "system"))
		return IKV_KIND_SYSTEM;
	if (is(role, "tool"))
		return IKV_KIND_TOOL_OUTPUT;
	if (is(type, "user"))
		return IKV_KIND_USER;
	if (is(type, "system_prompt")) {
		*confidence = 0.9F;
		return IKV_KIND_SYSTEM;
	}
	/* Before the first action there is nothing to observe: it is the task, whatever its type says. */
	bool observation = is(type, "observation");
	*confidence = !acted ? 0.9F : observation ? 0.9F : 0.7F;
	return acted ? IKV_KIND_TOOL_OUTPUT : IKV_KIND_USER;
}

static int read_input(struct run *r, const json_t *o, bool acted, struct ikv_err *err)
{
	static const char *const roles[] = {"system", "developer", "user", "tool", "function", "assistant"};
	struct message *m = &r->message;
	const json_t *role = json_object_get(o, "role");
	char text[80];
	float confidence;
	size_t i = 0;
	while (i < 6 && !is(role, roles[i]))
		i++;
	if (i == 6)
		return json_wrong(r->in, r->key, err, "role is %s, expected one of: system, user, assistant, tool",
				  json_describe(role, text));
	enum ikv_kind kind = input_kind(o, acted, &confidence);
	message_begin(m, "input");
	if (message_content(m, json_object_get(o, "content"), kind, false, err))
		return -1;
	for (i = 0; i < m->count; i++) {
		m->blocks[i].generated = false;
		if (m->blocks[i].kind == kind || kind == IKV_KIND_MEMORY) {
			m->blocks[i].kind = kind;
			m->blocks[i].confidence = confidence;
		}
	}
	return 0;
}

/* Milliseconds that the action of step `number` took; 0 where the trajectory does not say. */
static int step_wait(struct run *r, size_t number, double *ms, struct ikv_err *err)
{
	const json_t *step = json_array_get(r->steps, number);
	double s = 0;
	bool said;
	*ms = 0;
	snprintf(r->in->part, sizeof r->in->part, "step %zu", number);
	if (step && json_member_real(r->in, step, "execution_time", 0, 1e9, &s, &said, err))
		return -1;
	*r->in->part = '\0';
	*ms = s * 1e3;
	return 0;
}

static int read_history(struct run *r, const json_t *history, const char *agent, bool timed, struct session *s,
			struct ikv_err *err)
{
	struct transcript c = {.s = s, .in = r->in};
	size_t i, answers = 0;
	double wait_ms = 0;
	const json_t *o;
	json_array_foreach(history, i, o)
	{
		const char *by = json_string_value(json_object_get(o, "agent"));
		if (strcmp(by ? by : "", agent))
			continue;
		snprintf(r->key, sizeof r->key, "message %zu", i);
		bool answer = is(json_object_get(o, "role"), "assistant") && !demonstrates(o);
		if (answer ? read_answer(r, o, "content", err) : read_input(r, o, answers > 0, err))
			return -1;
		if (transcript_wait(&c, wait_ms, err) || transcript_add(&c, &r->message, err))
			return -1;
		wait_ms = 0;
		if (answer && timed && step_wait(r, answers, &wait_ms, err))
			return -1;
		answers += answer;
	}
	return 0;
}

/* Agents by name, in order of their first messages. */
static int list_agents(struct run *r, const json_t *history, const char *agents[AGENTS_MAX], size_t *count,
		       size_t *answers, struct ikv_err *err)
{
	char text[80];
	size_t i, k;
	const json_t *o;
	*count = *answers = 0;
	json_array_foreach(history, i, o)
	{
		const char *by = json_string_value(json_object_get(o, "agent"));
		snprintf(r->key, sizeof r->key, "message %zu", i);
		if (!json_is_object(o))
			return json_wrong(r->in, r->key, err, "found %s, expected a message {...}",
					  json_describe(o, text));
		by = by ? by : "";
		*answers += is(json_object_get(o, "role"), "assistant") && !demonstrates(o);
		for (k = 0; k < *count && strcmp(agents[k], by);)
			k++;
		if (k < *count)
			continue;
		if (*count == AGENTS_MAX)
			return json_fault(r->in, CHECK_LIMIT, r->key, err, "more than %d agents", AGENTS_MAX);
		agents[(*count)++] = by;
	}
	return 0;
}

static int read_agents(struct run *r, const json_t *history, struct ikv_err *err)
{
	const char *agents[AGENTS_MAX];
	char id[SESSION_ID_MAX * 2 + 2];
	size_t count, answers;
	if (list_agents(r, history, agents, &count, &answers, err))
		return -1;
	/* An answer belongs to each step; the last ones may be missing where the run was broken off. */
	bool timed = json_array_size(r->steps) >= answers && count == 1;
	if (r->steps && json_array_size(r->steps) && json_array_size(r->steps) != answers)
		trace_warn(r->t, CHECK_CONSISTENCY, r->in->line, "history",
			   "%zu answers of the model, but %zu steps in the trajectory", answers,
			   json_array_size(r->steps));
	/* All agents or none: a first pass shows whether they can be read. */
	r->message.quiet = false;
	for (size_t pass = count == 1; pass < 2; pass++, r->message.quiet = true)
		for (size_t k = 0; k < count; k++) {
			snprintf(id, sizeof id, k ? "%s/%.400s" : "%s", r->id, agents[k]);
			struct session *s = json_session(r->t, r->in, NULL, id, err);
			if (!s || read_history(r, history, agents[k], timed, s, err) ||
			    (pass == 1 && trace_emit(r->t, err)))
				return -1;
		}
	return 0;
}

/* ---- Without a history ---- */

/* Newer steps hold what the model was asked; of the first, that is the prompt. */
static int read_prompt(struct run *r, struct transcript *c, struct ikv_err *err)
{
	const json_t *first = json_array_get(r->steps, 0), *o, *query = json_object_get(first, "query");
	size_t i;
	if (!json_is_array(query))
		query = json_object_get(first, "messages");
	if (!json_is_array(query)) {
		trace_warn(r->t, CHECK_CONSISTENCY, r->in->line, "history",
			   "neither a history nor a query in the first step: the prompt is not known");
		return 0;
	}
	json_array_foreach(query, i, o)
	{
		snprintf(r->key, sizeof r->key, "query, message %zu", i);
		if (read_input(r, o, false, err) || transcript_add(c, &r->message, err))
			return -1;
	}
	return 0;
}

static int read_steps(struct run *r, struct session *s, struct ikv_err *err)
{
	struct transcript c = {.s = s, .in = r->in};
	char text[80];
	double wait_ms;
	size_t i;
	const json_t *o;
	if (read_prompt(r, &c, err))
		return -1;
	json_array_foreach(r->steps, i, o)
	{
		snprintf(r->key, sizeof r->key, "step %zu", i);
		if (!json_is_object(o))
			return json_wrong(r->in, r->key, err, "found %s, expected a step {...}",
					  json_describe(o, text));
		if (read_answer(r, o, "response", err) || transcript_add(&c, &r->message, err) ||
		    step_wait(r, i, &wait_ms, err) || transcript_wait(&c, wait_ms, err))
			return -1;
		message_begin(&r->message, "tool");
		if (message_content(&r->message, json_object_get(o, "observation"), IKV_KIND_TOOL_OUTPUT, false,
				    err) ||
		    transcript_add(&c, &r->message, err))
			return -1;
	}
	return trace_emit(r->t, err);
}

/* The file's name, less what it is packed in and ".traj". */
static void name_run(struct run *r, const char *path)
{
	static const char *const ends[] = {".gz", ".zst", ".traj", ".json"};
	const char *slash = strrchr(path, '/');
	snprintf(r->id, sizeof r->id, "%s", slash ? slash + 1 : path);
	for (size_t i = 0; i < 4; i++) {
		size_t n = strlen(r->id), end = strlen(ends[i]);
		if (n > end && !strcmp(r->id + n - end, ends[i]))
			r->id[n - end] = '\0';
	}
}

static int read_run(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	struct run *r = ctx;
	char text[80];
	const json_t *history = json_object_get(in->value, "history");
	r->t = r->message.t = t;
	r->in = r->message.in = in;
	r->message.key = r->key;
	r->steps = json_object_get(in->value, "trajectory");
	name_run(r, in->file.path);
	if (r->steps && !json_is_null(r->steps) && !json_is_array(r->steps))
		return json_wrong(in, "trajectory", err, "found %s, expected a list of steps",
				  json_describe(r->steps, text));
	if (history && !json_is_null(history) && !json_is_array(history))
		return json_wrong(in, "history", err, "found %s, expected a list of messages",
				  json_describe(history, text));
	if (json_array_size(history))
		return read_agents(r, history, err);
	if (json_array_size(r->steps) == 0)
		return json_wrong(in, NULL, err, "neither \"history\" nor \"trajectory\" has anything in it");
	struct session *s = json_session(t, in, NULL, r->id, err);
	return s ? read_steps(r, s, err) : -1;
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct run r = {.t = t};
	message_counts(t);
	int rc = json_read(t, path, JSON_VALUES, read_run, &r, err);
	message_free(&r.message);
	return rc;
}

const struct importer importer_swe_agent = {
    .name = "swe-agent",
    .summary = "SWE-agent .traj files: one run each, with thoughts, actions and observations",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

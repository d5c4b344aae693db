/* Chat transcripts: messages with roles, as OpenAI's API and tau-bench write them. Lengths are estimated, one
 * token for four code points. */
#include <string.h>
#include "sim/trace/json_input.h"

/* One 1024 x 1024 picture at high detail, by OpenAI's published price table. */
enum { CHARS_PER_TOKEN = 4, IMAGE_TOKENS = 765 };

struct chat {
	struct json_input *in;
	struct trace *t;
	struct session *s;
	uint64_t context;
	bool answered; /* the newest event is a decode: what follows belongs to the next request */
	uint32_t turn;
	size_t index; /* of the message */
	char key[48]; /* where we are, for messages */
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	if (!memmem(head, size, "\"role\"", 6))
		return 0;
	if (memmem(head, size, "\"traj\"", 6) && memmem(head, size, "\"task_id\"", 9))
		return 95;
	return memmem(head, size, "\"messages\"", 10) ? 80 : 0;
}

static uint64_t code_points(const char *text)
{
	uint64_t n = 0;
	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

static int add(struct chat *c, enum session_op op, enum ikv_kind kind, uint64_t chars, uint64_t tokens,
	       struct ikv_err *err)
{
	tokens += (chars + CHARS_PER_TOKEN - 1) / CHARS_PER_TOKEN;
	if (tokens == 0)
		return 0;
	c->context += tokens;
	if (c->context > SESSION_CONTEXT_MAX)
		return json_wrong(c->in, c->key, err, "a context of more than %u tokens", SESSION_CONTEXT_MAX);
	struct session_event *e = session_push(c->s, op, err);
	if (!e)
		return -1;
	if (op == SESSION_APPEND && c->answered)
		c->turn++;
	c->answered = op == SESSION_DECODE;
	e->kind = kind;
	e->tokens = (uint32_t)tokens;
	e->turn = c->turn;
	e->line = c->in->line;
	return 0;
}

static int part_size(struct chat *c, const json_t *part, uint64_t *chars, uint64_t *tokens, struct ikv_err *err)
{
	static const char *const texts[] = {"text", "input_text", "output_text"};
	static const char *const images[] = {"image_url", "image", "input_image"};
	char text[80];
	const char *type = json_string_value(json_object_get(part, "type"));
	for (size_t i = 0; type && i < 3; i++) {
		const char *value = json_string_value(json_object_get(part, "text"));
		if (!strcmp(type, texts[i]) && value) {
			*chars += code_points(value);
			return 0;
		}
		if (!strcmp(type, images[i])) {
			*tokens += IMAGE_TOKENS;
			return 0;
		}
	}
	return json_wrong(c->in, c->key, err, "found a part that is %s, expected a text or image part",
			  json_describe(type ? json_object_get(part, "type") : part, text));
}

static int content_size(struct chat *c, const json_t *v, uint64_t *chars, uint64_t *tokens, struct ikv_err *err)
{
	char text[80];
	size_t i;
	const json_t *part;
	*chars = *tokens = 0;
	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v)) {
		*chars = code_points(json_string_value(v));
		return 0;
	}
	if (!json_is_array(v))
		return json_wrong(c->in, c->key, err, "content is %s, expected a string or a list of parts",
				  json_describe(v, text));
	json_array_foreach(v, i, part) if (part_size(c, part, chars, tokens, err)) return -1;
	return 0;
}

/* Code points of a value: of the string itself, or of its compact JSON. */
static int value_size(const json_t *v, uint64_t *chars, struct ikv_err *err)
{
	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v)) {
		*chars += code_points(json_string_value(v));
		return 0;
	}
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!text)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	*chars += code_points(text);
	free(text);
	return 0;
}

static int read_assistant(struct chat *c, const json_t *m, struct ikv_err *err)
{
	char text[80];
	uint64_t chars = 0, tokens = 0;
	size_t i;
	const json_t *call, *calls = json_object_get(m, "tool_calls"), *old = json_object_get(m, "function_call");
	if (value_size(json_object_get(m, "reasoning_content"), &chars, err) ||
	    add(c, SESSION_DECODE, IKV_KIND_REASONING, chars, 0, err) ||
	    content_size(c, json_object_get(m, "content"), &chars, &tokens, err) ||
	    add(c, SESSION_DECODE, IKV_KIND_ASSISTANT, chars, tokens, err))
		return -1;
	if (calls && !json_is_null(calls) && !json_is_array(calls))
		return json_wrong(c->in, c->key, err, "tool_calls is %s, expected a list",
				  json_describe(calls, text));
	json_array_foreach(calls, i, call)
	{
		const json_t *function = json_object_get(call, "function");
		if (!json_is_object(function))
			return json_wrong(c->in, c->key, err, "tool call %zu has no function", i);
		chars = 0;
		if (value_size(json_object_get(function, "name"), &chars, err) ||
		    value_size(json_object_get(function, "arguments"), &chars, err) ||
		    add(c, SESSION_DECODE, IKV_KIND_TOOL_CALL, chars, 0, err))
			return -1;
	}
	chars = 0;
	if (json_is_object(old) && (value_size(json_object_get(old, "name"), &chars, err) ||
				    value_size(json_object_get(old, "arguments"), &chars, err)))
		return -1;
	return add(c, SESSION_DECODE, IKV_KIND_TOOL_CALL, chars, 0, err);
}

static int read_message(struct chat *c, const json_t *m, struct ikv_err *err)
{
	static const struct {
		const char *role;
		enum ikv_kind kind;
	} roles[] = {{"system", IKV_KIND_SYSTEM},
		     {"developer", IKV_KIND_SYSTEM},
		     {"user", IKV_KIND_USER},
		     {"tool", IKV_KIND_TOOL_OUTPUT},
		     {"function", IKV_KIND_TOOL_OUTPUT}};
	char text[80];
	uint64_t chars, tokens;
	const char *role = json_string_value(json_object_get(m, "role"));
	if (role && !strcmp(role, "assistant"))
		return read_assistant(c, m, err);
	for (size_t i = 0; role && i < sizeof roles / sizeof *roles; i++)
		if (!strcmp(role, roles[i].role))
			return content_size(c, json_object_get(m, "content"), &chars, &tokens, err) ||
			       add(c, SESSION_APPEND, roles[i].kind, chars, tokens, err);
	return json_wrong(c->in, c->key, err,
			  "role is %s, expected one of: system, developer, user, assistant, tool, function",
			  json_describe(json_object_get(m, "role"), text));
}

/* tau-bench: one task has several trials. Else an id of the record, else its number in the file. */
static int name_session(struct chat *c, char *id, size_t size, char *task, size_t task_size, uint64_t number,
			struct ikv_err *err)
{
	static const char *const keys[] = {"id", "session_id", "conversation_id"};
	const json_t *o = c->in->value;
	const char *slash = strrchr(c->in->file.path, '/');
	int64_t n, trial;
	bool has, has_trial;
	*task = '\0';
	if (json_member_int(c->in, o, "task_id", 0, INT64_MAX, &n, &has, err) ||
	    json_member_int(c->in, o, "trial", 0, INT64_MAX, &trial, &has_trial, err))
		return -1;
	if (has)
		snprintf(task, task_size, "%lld", (long long)n);
	if (has && has_trial) {
		snprintf(id, size, "task-%lld/trial-%lld", (long long)n, (long long)trial);
		return 0;
	}
	for (size_t i = 0; i < 3; i++) {
		const char *text = json_string_value(json_object_get(o, keys[i]));
		if (!text || !*text)
			continue;
		if ((size_t)snprintf(id, size, "%s", text) >= size)
			return json_wrong(c->in, keys[i], err, "an id longer than %zu bytes", size - 1);
		return 0;
	}
	snprintf(id, size, "%.150s#%llu", slash ? slash + 1 : c->in->file.path, (unsigned long long)number);
	return 0;
}

static int read_session(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	char id[256], task[32], text[80];
	struct chat c = {.in = in, .t = t, .key = "messages"};
	const json_t *o = in->value, *m, *list = json_object_get(o, "messages");
	(void)ctx;
	if (!list)
		list = json_object_get(o, "traj");
	if (!json_is_array(list))
		return json_wrong(in, NULL, err, "\"messages\" or \"traj\" is %s, expected a list of messages",
				  json_describe(list, text));
	double reward = 0;
	bool rewarded;
	if (json_member_real(in, o, "reward", -1e12, 1e12, &reward, &rewarded, err) ||
	    name_session(&c, id, sizeof id, task, sizeof task, t->facts->records + t->facts->skipped + 1, err))
		return -1;
	if (!(c.s = json_session(t, in, NULL, id, err)))
		return -1;
	if (rewarded)
		c.s->reward = reward;
	if (*task && !(c.s->task = strdup(task)))
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	uint64_t chars = 0;
	if (value_size(json_object_get(o, "tools"), &chars, err) ||
	    add(&c, SESSION_APPEND, IKV_KIND_TOOLS, chars, 0, err))
		return -1;
	json_array_foreach(list, c.index, m)
	{
		snprintf(c.key, sizeof c.key, "message %zu", c.index);
		if (read_message(&c, m, err))
			return -1;
	}
	return trace_emit(t, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	snprintf(t->facts->tokens_by, sizeof t->facts->tokens_by, "chars/%d", CHARS_PER_TOKEN);
	return json_read(t, path, JSON_EITHER, read_session, NULL, err);
}

const struct importer importer_openai_chat = {
    .name = "openai-chat",
    .summary = "chat messages, JSON or JSONL, and tau-bench results; tokens estimated from characters",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

#include <string.h>
#include <xxhash.h>
#include "sim/trace/messages.h"

/* A 1024 x 1024 picture at high detail, by OpenAI's published price table: what a picture shows is not in the trace,
 * or not worth decoding. */
enum { IMAGE_TOKENS = 765 };
/* Sound: one token for 100 ms, as OpenAI counts what it hears, of 24 kHz, 16 bit, one channel; packed (mp3, opus and
 * the like) of 128 kbit/s. */
enum { PCM_BYTES_PER_TOKEN = 4800, PACKED_BYTES_PER_TOKEN = 1600 };
/* Other files, as if they were text. */
enum { FILE_BYTES_PER_TOKEN = 4 };

void message_counts(struct trace *t)
{
	trace_text(t->facts->tokens_by, sizeof t->facts->tokens_by, trace_tokens_by(t));
}

void message_free(struct message *m)
{
	ikv_free(m->blocks);
	ikv_free(m->text);
	m->blocks = NULL;
	m->text = NULL;
	m->count = m->cap = m->size = m->text_cap = 0;
}

void message_begin(struct message *m, const char *role)
{
	m->count = m->size = 0;
	m->extra = 0;
	m->assistant = !strcmp(role, "assistant");
	m->hash = XXH3_64bits(role, strlen(role));
}

static int put_text(struct message *m, const char *text, size_t bytes, struct ikv_err *err)
{
	if (m->text_cap - m->size < bytes) {
		size_t cap = m->text_cap * 2 + bytes + 256;
		if (ikv_grow(&m->text, m->size, cap, 1, err))
			return -1;
		m->text_cap = cap;
	}
	if (bytes)
		memcpy(m->text + m->size, text, bytes);
	m->size += bytes;
	return 0;
}

/* The string itself, or the compact JSON of any other value. */
static int put_value(struct message *m, const json_t *v, struct ikv_err *err)
{
	if (!v || json_is_null(v))
		return 0;
	if (json_is_string(v))
		return put_text(m, json_string_value(v), json_string_length(v), err);
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	if (!text)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = put_text(m, text, strlen(text), err);
	free(text);
	return rc;
}

/* What has a part in the message's hash, but is no text of it. */
static int hash_value(struct message *m, const json_t *v, struct ikv_err *err)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	if (!text)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	m->hash = ikv_mix64_2(m->hash, XXH3_64bits(text, strlen(text)));
	free(text);
	return 0;
}

/* The block under way is whole. */
static int flush(struct message *m, enum ikv_kind kind, bool generated, float confidence, struct ikv_err *err)
{
	uint64_t tokens = 0;
	if (m->size && trace_tokens(m->t, m->text, m->size, &tokens, err))
		return -1;
	tokens += m->extra;
	m->hash = ikv_mix64_2(m->hash, XXH3_64bits(m->text ? m->text : "", m->size) + tokens + (uint64_t)kind);
	m->size = 0;
	m->extra = 0;
	if (tokens == 0)
		return 0;
	if (tokens > SESSION_CONTEXT_MAX)
		return json_fault(m->in, CHECK_LIMIT, m->key, err, "a context of more than %u tokens",
				  SESSION_CONTEXT_MAX);
	if (m->count == m->cap) {
		size_t cap = m->cap * 2 + 8;
		if (ikv_grow(&m->blocks, m->count, cap, sizeof *m->blocks, err))
			return -1;
		m->cap = cap;
	}
	m->blocks[m->count++] = (struct message_block){kind, generated, (uint32_t)tokens, confidence};
	return 0;
}

int message_text(struct message *m, const char *text, size_t bytes, enum ikv_kind kind, bool generated,
		 float confidence, struct ikv_err *err)
{
	return put_text(m, text, bytes, err) || flush(m, kind, generated, confidence, err);
}

int message_value(struct message *m, const json_t *value, enum ikv_kind kind, bool generated, struct ikv_err *err)
{
	return put_value(m, value, err) || flush(m, kind, generated, 1, err);
}

/* The first of the members that is there. */
static const json_t *any_member(const json_t *object, const char *const *keys)
{
	for (; *keys; keys++) {
		const json_t *v = json_object_get(object, *keys);
		if (v && !json_is_null(v))
			return v;
	}
	return NULL;
}

static size_t base64_bytes(const json_t *text)
{
	const char *data = json_string_value(text), *comma = strchr(data, ',');
	size_t n = json_string_length(text);
	if (!strncmp(data, "data:", 5) && comma)
		n -= (size_t)(comma + 1 - data);
	return n / 4 * 3;
}

/* Sound and files: by the size of their data; 0 where it lies elsewhere. */
static void count_data(struct message *m, const json_t *part, const char *type, bool sound)
{
	static const char *const holders[] = {"input_audio", "audio", "file", "input_file", "source", NULL};
	static const char *const datas[] = {"data", "file_data", "content", NULL};
	const json_t *o = any_member(part, holders);
	const json_t *data = any_member(json_is_object(o) ? o : part, datas);
	const char *form = json_string_value(json_object_get(json_is_object(o) ? o : part, "format"));
	if (!json_is_string(data)) {
		if (!m->quiet)
			trace_warn(m->t, CHECK_VALUE, m->in->line, m->key,
				   "a part of type \"%.40s\" without its data counts as no tokens", type);
		return;
	}
	bool pcm = !form || !strcmp(form, "wav") || !strcmp(form, "pcm16");
	size_t each = !sound ? FILE_BYTES_PER_TOKEN : pcm ? PCM_BYTES_PER_TOKEN : PACKED_BYTES_PER_TOKEN;
	m->extra += (base64_bytes(data) + each - 1) / each;
}

enum part_form { PART_TEXT, PART_IMAGE, PART_SOUND, PART_FILE, PART_REASONING, PART_CALL, PART_RESULT };

static const struct {
	const char *type;
	enum part_form form;
} part_types[] = {
    {"text", PART_TEXT},
    {"input_text", PART_TEXT},
    {"output_text", PART_TEXT},
    {"refusal", PART_TEXT},
    {"image_url", PART_IMAGE},
    {"image", PART_IMAGE},
    {"input_image", PART_IMAGE},
    {"input_audio", PART_SOUND},
    {"audio", PART_SOUND},
    {"file", PART_FILE},
    {"input_file", PART_FILE},
    {"document", PART_FILE},
    {"blob", PART_FILE},
    {"uri", PART_FILE},
    {"thinking", PART_REASONING},
    {"redacted_thinking", PART_REASONING},
    {"reasoning", PART_REASONING},
    {"tool_use", PART_CALL},
    {"tool_call", PART_CALL},
    {"tool_result", PART_RESULT},
    {"tool_call_response", PART_RESULT},
};

/* OpenTelemetry gives blobs, files and links what they are of. */
static enum part_form by_modality(const json_t *part, enum part_form form)
{
	const char *modality = json_string_value(json_object_get(part, "modality"));
	if (form != PART_FILE || !modality)
		return form;
	return !strcmp(modality, "image") ? PART_IMAGE : !strcmp(modality, "audio") ? PART_SOUND : form;
}

/* What a part of a message says. False: it has no kind of block to itself. */
static bool own_kind(enum part_form form, enum ikv_kind *kind)
{
	*kind = form == PART_REASONING ? IKV_KIND_REASONING
		: form == PART_CALL    ? IKV_KIND_TOOL_CALL
				       : IKV_KIND_TOOL_OUTPUT;
	return form >= PART_REASONING;
}

static int put_part(struct message *m, const json_t *part, enum part_form form, const char *type,
		    struct ikv_err *err);

/* Texts of a value that is a string, a list of parts, or anything else. */
static int put_contents(struct message *m, const json_t *v, struct ikv_err *err)
{
	size_t i;
	const json_t *part;
	if (!json_is_array(v))
		return put_value(m, v, err);
	json_array_foreach(v, i, part)
	{
		const char *type = json_string_value(json_object_get(part, "type"));
		bool known = false;
		for (size_t k = 0; type && k < sizeof part_types / sizeof *part_types && !known; k++)
			if (!strcmp(type, part_types[k].type) && part_types[k].form <= PART_FILE) {
				known = true;
				if (put_part(m, part, by_modality(part, part_types[k].form), type, err))
					return -1;
			}
		if (!known && put_value(m, part, err))
			return -1;
	}
	return 0;
}

static int put_part(struct message *m, const json_t *part, enum part_form form, const char *type, struct ikv_err *err)
{
	static const char *const texts[] = {"text", "content", "refusal", NULL};
	static const char *const thoughts[] = {"thinking", "reasoning", "text", "content", "summary", "data", NULL};
	static const char *const inputs[] = {"input", "arguments", NULL};
	static const char *const results[] = {"content", "response", "result", "output", NULL};
	char text[80];
	const json_t *v;
	switch (form) {
	case PART_TEXT:
		v = any_member(part, texts);
		if (v && !json_is_string(v))
			return json_wrong(m->in, m->key, err, "the text of a part is %s, expected a string",
					  json_describe(v, text));
		return put_value(m, v, err);
	case PART_IMAGE:
		m->extra += IMAGE_TOKENS;
		return hash_value(m, part, err);
	case PART_SOUND:
	case PART_FILE:
		count_data(m, part, type, form == PART_SOUND);
		return hash_value(m, part, err);
	case PART_REASONING:
		return put_contents(m, any_member(part, thoughts), err);
	case PART_CALL:
		return put_value(m, json_object_get(part, "name"), err) ||
		       put_value(m, any_member(part, inputs), err);
	case PART_RESULT:
		return put_contents(m, any_member(part, results), err);
	}
	return 0;
}

static int read_parts(struct message *m, const json_t *list, enum ikv_kind kind, bool generated, struct ikv_err *err)
{
	char text[80];
	size_t i;
	const json_t *part;
	json_array_foreach(list, i, part)
	{
		const json_t *named = json_object_get(part, "type");
		const char *type = json_string_value(named);
		enum ikv_kind own;
		size_t k = 0, types = sizeof part_types / sizeof *part_types;
		while (type && k < types && strcmp(type, part_types[k].type))
			k++;
		if (!type || k == types)
			return json_wrong(m->in, m->key, err,
					  "found a part that is %s, expected one of text, image, audio, file, "
					  "thinking, tool call or tool result",
					  json_describe(type ? named : part, text));
		enum part_form form = by_modality(part, part_types[k].form);
		bool apart = own_kind(form, &own);
		if ((apart && flush(m, kind, generated, 1, err)) || put_part(m, part, form, type, err))
			return -1;
		/* What a tool returned was not generated, whoever's message it stands in. */
		if (apart && flush(m, own, generated && own != IKV_KIND_TOOL_OUTPUT, 1, err))
			return -1;
	}
	return flush(m, kind, generated, 1, err);
}

int message_content(struct message *m, const json_t *v, enum ikv_kind kind, bool generated, struct ikv_err *err)
{
	char text[80];
	if (!v || json_is_null(v) || json_is_string(v))
		return message_value(m, v, kind, generated, err);
	if (json_is_array(v))
		return read_parts(m, v, kind, generated, err);
	return json_wrong(m->in, m->key, err, "content is %s, expected a string or a list of parts",
			  json_describe(v, text));
}

static int read_call(struct message *m, const json_t *function, struct ikv_err *err)
{
	static const char *const inputs[] = {"arguments", "args", "input", NULL};
	return put_value(m, json_object_get(function, "name"), err) ||
	       put_value(m, any_member(function, inputs), err) || flush(m, IKV_KIND_TOOL_CALL, true, 1, err);
}

int message_calls(struct message *m, const json_t *calls, struct ikv_err *err)
{
	static const char *const holders[] = {"function", "custom", NULL};
	char text[80];
	size_t i;
	const json_t *call;
	if (calls && !json_is_null(calls) && !json_is_array(calls))
		return json_wrong(m->in, m->key, err, "tool_calls is %s, expected a list",
				  json_describe(calls, text));
	json_array_foreach(calls, i, call)
	{
		const json_t *function = any_member(call, holders);
		if (!function && json_is_string(json_object_get(call, "name")))
			function = call;
		if (!json_is_object(function))
			return json_wrong(m->in, m->key, err, "tool call %zu has no function", i);
		if (read_call(m, function, err))
			return -1;
	}
	return 0;
}

int message_read(struct message *m, const json_t *o, struct ikv_err *err)
{
	static const struct {
		const char *role;
		enum ikv_kind kind;
	} roles[] = {{"assistant", IKV_KIND_ASSISTANT}, {"system", IKV_KIND_SYSTEM},
		     {"developer", IKV_KIND_SYSTEM},    {"user", IKV_KIND_USER},
		     {"tool", IKV_KIND_TOOL_OUTPUT},    {"function", IKV_KIND_TOOL_OUTPUT}};
	static const char *const contents[] = {"content", "parts", NULL};
	static const char *const thoughts[] = {"reasoning_content", "reasoning", NULL};
	char text[80];
	size_t i = 0, n = sizeof roles / sizeof *roles;
	const json_t *old = json_object_get(o, "function_call");
	const char *role = json_string_value(json_object_get(o, "role"));
	while (role && i < n && strcmp(role, roles[i].role))
		i++;
	if (!role || i == n)
		return json_wrong(m->in, m->key, err,
				  "role is %s, expected one of: system, developer, user, assistant, tool, function",
				  json_describe(json_object_get(o, "role"), text));
	message_begin(m, role);
	if (!m->assistant)
		return message_content(m, any_member(o, contents), roles[i].kind, false, err);
	return message_value(m, any_member(o, thoughts), IKV_KIND_REASONING, true, err) ||
	       message_content(m, any_member(o, contents), IKV_KIND_ASSISTANT, true, err) ||
	       message_value(m, json_object_get(o, "refusal"), IKV_KIND_ASSISTANT, true, err) ||
	       message_calls(m, json_object_get(o, "tool_calls"), err) ||
	       (json_is_object(old) && read_call(m, old, err));
}

int transcript_add(struct transcript *c, const struct message *m, struct ikv_err *err)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct message_block *b = &m->blocks[i];
		c->context += b->tokens;
		if (c->context > SESSION_CONTEXT_MAX)
			return json_fault(m->in, CHECK_LIMIT, m->key, err, "a context of more than %u tokens",
					  SESSION_CONTEXT_MAX);
		struct session_event *e = session_push(c->s, b->generated ? SESSION_DECODE : SESSION_APPEND, err);
		if (!e)
			return -1;
		if (!b->generated && c->answered)
			c->turn++;
		c->answered = b->generated;
		e->kind = b->kind;
		e->confidence = b->confidence;
		e->tokens = b->tokens;
		e->turn = c->turn;
		e->line = c->in->line;
	}
	return 0;
}

int transcript_wait(struct transcript *c, double ms, struct ikv_err *err)
{
	if (!(ms > 0))
		return 0;
	struct session_event *e = session_push(c->s, SESSION_WAIT, err);
	if (!e)
		return -1;
	e->wait_ms = ms;
	e->turn = c->turn + c->answered;
	e->line = c->in->line;
	return 0;
}

/* Chat transcripts: messages with roles, as OpenAI's API and tau-bench write them. */
#include <string.h>
#include "sim/trace/messages.h"

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	if (!memmem(head, size, "\"role\"", 6))
		return 0;
	if (memmem(head, size, "\"traj\"", 6) && memmem(head, size, "\"task_id\"", 9))
		return 95;
	return memmem(head, size, "\"messages\"", 10) ? 80 : 0;
}

/* tau-bench: one task has several trials. Else an id of the record, else its number in the file. */
static int name_session(struct json_input *in, char *id, size_t size, char *task, size_t task_size, uint64_t number,
			struct ikv_err *err)
{
	static const char *const keys[] = {"id", "session_id", "conversation_id"};
	const json_t *o = in->value;
	const char *slash = strrchr(in->file.path, '/');
	const char *name = json_string_value(json_object_get(o, "task_id"));
	int64_t n, trial;
	bool has = name && *name, has_trial;
	*task = '\0';
	if ((!name && json_member_int(in, o, "task_id", 0, INT64_MAX, &n, &has, err)) ||
	    json_member_int(in, o, "trial", 0, INT64_MAX, &trial, &has_trial, err))
		return -1;
	if (has && name)
		trace_text(task, task_size, name);
	else if (has)
		snprintf(task, task_size, "%lld", (long long)n);
	if (has && has_trial) {
		snprintf(id, size, "task-%s/trial-%lld", task, (long long)trial);
		return 0;
	}
	for (size_t i = 0; i < 3; i++) {
		const char *text = json_string_value(json_object_get(o, keys[i]));
		if (!text || !*text)
			continue;
		if ((size_t)snprintf(id, size, "%s", text) >= size)
			return json_wrong(in, keys[i], err, "an id longer than %zu bytes", size - 1);
		return 0;
	}
	char file[151];
	trace_text(file, sizeof file, slash ? slash + 1 : in->file.path);
	snprintf(id, size, "%s#%llu", file, (unsigned long long)number);
	return 0;
}

static int read_messages(struct json_input *in, const json_t *list, struct message *m, struct session *s,
			 struct ikv_err *err)
{
	struct transcript c = {.s = s, .in = in};
	char key[48] = "tools";
	size_t i;
	const json_t *v;
	m->key = key;
	message_begin(m, "tools");
	if (message_value(m, json_object_get(in->value, "tools"), IKV_KIND_TOOLS, false, err) ||
	    transcript_add(&c, m, err))
		return -1;
	json_array_foreach(list, i, v)
	{
		snprintf(key, sizeof key, "message %zu", i);
		if (message_read(m, v, err) || transcript_add(&c, m, err))
			return -1;
	}
	return 0;
}

static int read_session(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	char id[256], task[100], text[80];
	struct message *m = ctx;
	struct session *s;
	const json_t *o = in->value, *list = json_object_get(o, "messages");
	m->t = t;
	m->in = in;
	if (!list)
		list = json_object_get(o, "traj");
	if (!json_is_array(list))
		return json_wrong(in, NULL, err, "\"messages\" or \"traj\" is %s, expected a list of messages",
				  json_describe(list, text));
	double reward = 0;
	bool rewarded;
	if (json_member_real(in, o, "reward", -1e12, 1e12, &reward, &rewarded, err) ||
	    name_session(in, id, sizeof id, task, sizeof task, t->facts->records + t->facts->skipped + 1, err))
		return -1;
	if (!(s = json_session(t, in, NULL, id, err)))
		return -1;
	if (rewarded)
		s->reward = reward;
	if (*task && !(s->task = strdup(task)))
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	return read_messages(in, list, m, s, err) ? -1 : trace_emit(t, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct message m = {0};
	message_counts(t);
	int rc = json_read(t, path, JSON_EITHER, read_session, &m, err);
	message_free(&m);
	return rc;
}

const struct importer importer_openai_chat = {
    .name = "openai-chat",
    .summary = "chat messages, JSON or JSONL, and tau-bench results; tokens estimated from characters",
    .by_session = true,
    .detect = detect,
    .read = read_file,
};

/* Writes the session form that intentkv.c reads. Doubles keep 17 digits, so that reading gives the same bits. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/output.h"
#include "sim/trace/json_input.h"

enum { LINE_LIMIT_BYTES = 64 << 20, HEADER_BYTES = 700 };

struct session_writer {
	struct output out;
	bool begun; /* the first session has set what the header says of ids */
	uint32_t block;
	bool global;
};

static int put(json_t *o, const char *key, json_t *value)
{
	return json_object_set_new(o, key, value);
}

static json_t *id_value(uint64_t id)
{
	char text[24];
	if (id <= INT64_MAX)
		return json_integer((json_int_t)id);
	snprintf(text, sizeof text, "%llu", (unsigned long long)id);
	return json_string(text);
}

static json_t *event_value(const struct session *s, const struct session_event *e, uint32_t *turn)
{
	json_t *o = json_object();
	int rc = o ? 0 : -1;
	bool append = e->op == SESSION_APPEND;
	if (append || e->op == SESSION_DECODE) {
		const char *kind = e->unowned ? "none" : ikv_kind_name(e->kind);
		rc |= put(o, append ? "append" : "decode", json_string(kind));
		rc |= put(o, "tokens", json_integer(e->tokens));
		if (e->name)
			rc |= put(o, "name", json_string(e->name));
		if (e->has_policy)
			rc |= put(o, "policy", json_string(ikv_policy_name(e->policy)));
		if (e->confidence < 1)
			rc |= put(o, "confidence", json_real((double)e->confidence));
	} else if (e->op == SESSION_COMPACT) {
		rc |= put(o, "compact", json_integer(e->tokens));
	} else {
		rc |= put(o, "wait", json_real(e->wait_ms));
	}
	if (e->turn != *turn)
		rc |= put(o, "turn", json_integer(e->turn));
	*turn = e->turn;
	if (e->hash_count) {
		json_t *ids = json_array();
		rc |= put(o, "hashes", ids);
		for (uint32_t i = 0; !rc && i < e->hash_count; i++)
			rc |= json_array_append_new(ids, id_value(s->hashes[e->hash_first + i]));
	}
	if (!rc)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *session_value(const struct session *s, uint32_t block, bool global)
{
	json_t *o = json_object(), *events = json_array();
	uint32_t turn = 0;
	int rc = o && events ? 0 : -1;
	rc |= put(o, "id", json_string(s->id));
	rc |= put(o, "arrival_ms", json_real(s->arrival_ms));
	if (!isnan(s->reward))
		rc |= put(o, "reward", json_real(s->reward));
	if (s->task)
		rc |= put(o, "task", json_string(s->task));
	if (s->hash_block_tokens != block)
		rc |= put(o, "hash_block_tokens", json_integer(s->hash_block_tokens));
	if (s->hashes_global != global)
		rc |= put(o, "hashes_global", json_boolean(s->hashes_global));
	for (uint32_t i = 0; !rc && i < s->event_count; i++)
		rc |= json_array_append_new(events, event_value(s, &s->events[i], &turn));
	rc |= put(o, "events", events);
	if (!rc)
		return o;
	json_decref(o);
	return NULL;
}

static json_t *header_value(const struct trace_facts *list, uint32_t block, bool global)
{
	const struct {
		const char *key;
		uint64_t value;
	} facts[] = {{"records", list->records},
		     {"skipped", list->skipped},
		     {"requests", list->requests},
		     {"input_tokens", list->input_tokens},
		     {"output_tokens", list->output_tokens},
		     {"block_refs", list->block_refs},
		     {"unique_blocks", list->unique_blocks},
		     {"prefix_hits", list->prefix_hits},
		     {"shortened", list->shortened}};
	json_t *o = json_object();
	int rc = o ? 0 : -1;
	rc |= put(o, "intentkv_sessions", json_integer(1));
	rc |= put(o, "format", json_string(list->format));
	rc |= put(o, "tokens_by", json_string(list->tokens_by));
	rc |= put(o, "hash_block_tokens", json_integer(block));
	rc |= put(o, "hashes_global", json_boolean(global));
	for (size_t i = 0; i < sizeof facts / sizeof *facts; i++)
		rc |= put(o, facts[i].key, json_integer((json_int_t)facts[i].value));
	if (!rc)
		return o;
	json_decref(o);
	return NULL;
}

/* Takes `value`. A line of at least `width` bytes, filled with blanks. */
static int write_line(struct session_writer *w, json_t *value, size_t width, const char *what, struct ikv_err *err)
{
	char *text = value ? json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
	json_decref(value);
	if (!text)
		return ikv_err_set(err, IKV_FAILED,
				   "%s: cannot write %.100s: out of memory, or text that is not UTF-8", w->out.path,
				   what);
	int rc = 0;
	size_t size = strlen(text);
	if (size > LINE_LIMIT_BYTES || (width && size > width))
		rc = ikv_err_set(err, IKV_FAILED, "%s: %.100s takes %zu bytes, expected at most %d a line", w->out.path,
				 what, size, width ? (int)width : LINE_LIMIT_BYTES);
	else if (fprintf(w->out.f, "%-*s\n", (int)width, text) < 0)
		rc = ikv_err_set(err, IKV_IO, "%s: %s", w->out.path, strerror(errno));
	free(text);
	return rc;
}

static int give_up(struct session_writer *w, bool keep, struct ikv_err *err)
{
	int rc = output_close(&w->out, keep, err);
	ikv_free(w);
	return rc;
}

int session_writer_open(struct session_writer **out, const char *path, struct ikv_err *err)
{
	struct session_writer *w = ikv_alloc(1, sizeof *w, err);
	if (!w)
		return -1;
	if (output_open(&w->out, path, err)) {
		ikv_free(w);
		return -1;
	}
	/* The header's counts are known at the end: keep its place. */
	if (fprintf(w->out.f, "%*s\n", HEADER_BYTES, "") < 0) {
		ikv_err_set(err, IKV_IO, "%s: %s", path, strerror(errno));
		give_up(w, false, err);
		return -1;
	}
	*out = w;
	return 0;
}

int session_writer_put(struct session_writer *w, const struct session *s, struct ikv_err *err)
{
	if (!w->begun) {
		w->begun = true;
		w->block = s->hash_block_tokens;
		w->global = s->hashes_global;
	}
	return write_line(w, session_value(s, w->block, w->global), 0, s->id, err);
}

int session_writer_close(struct session_writer *w, const struct trace_facts *facts, struct ikv_err *err)
{
	int rc = facts ? 0 : -1;
	if (!rc && fseek(w->out.f, 0, SEEK_SET))
		rc = ikv_err_set(err, IKV_IO, "%s: %s", w->out.path, strerror(errno));
	if (!rc)
		rc = write_line(w, header_value(facts, w->block, w->global), HEADER_BYTES, "the header", err);
	return give_up(w, !rc, err) ? -1 : rc;
}

int session_write(const struct session_list *list, const char *path, struct ikv_err *err)
{
	struct session_writer *w;
	int rc = session_writer_open(&w, path, err);
	if (rc)
		return rc;
	for (uint32_t i = 0; !rc && i < list->count; i++)
		rc = session_writer_put(w, &list->items[i], err);
	int closed = session_writer_close(w, rc ? NULL : &list->facts, err);
	return rc ? rc : closed;
}

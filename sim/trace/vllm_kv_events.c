/* vLLM's KV cache events: which prefix blocks an engine stored and dropped, in batches, as MessagePack (what it
 * publishes) or JSON. A stored block names its parent, so the blocks are a tree of prefixes; a path through it that
 * grows is taken for a session. The lint checks that the events can be replayed: parents are there, nothing is stored
 * twice or dropped without being there. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/json_input.h"
#include "sim/trace/msgpack.h"
#include "sim/trace/request_log.h"

enum { NONE = UINT32_MAX };

struct node { /* a block that was ever stored */
	uint64_t id;
	uint32_t parent, depth;
	bool present;
};

struct chain {         /* a session's blocks */
	uint64_t *ids; /* owned */
	uint32_t count, cap;
};

struct engine {
	struct request_log log;
	struct node *nodes;
	size_t node_count, node_cap;
	struct id_table places; /* id -> node */
	struct id_table tails;  /* last node of a session -> session */
	struct chain *chains;   /* by session */
	size_t chain_cap;
	uint64_t *ids; /* of the event at hand */
	size_t id_cap;
	uint32_t block_tokens;
	bool begun;
	double first_s, newest_s;
	struct chain playing;
	double last_ms;
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	if (!memmem(head, size, "BlockStored", 11) && !memmem(head, size, "BlockRemoved", 12) &&
	    !memmem(head, size, "AllBlocksCleared", 16))
		return 0;
	unsigned char first = (unsigned char)head[0];
	return (first & 0xe0) == 0x80 || (first >= 0xdc && first <= 0xdf) ? 95
	       : memmem(head, size, "\"events\"", 8)                      ? 95
									  : 0;
}

static int chain_add(struct chain *c, const uint64_t *ids, uint32_t count, struct ikv_err *err)
{
	if (c->cap - c->count < count) {
		uint32_t cap = c->count + c->count / 2 + count;
		if (ikv_grow(&c->ids, c->count, cap, sizeof *c->ids, err))
			return -1;
		c->cap = cap;
	}
	if (count)
		memcpy(c->ids + c->count, ids, count * sizeof *ids);
	c->count += count;
	return 0;
}

static uint32_t find(const struct engine *e, uint64_t id)
{
	uint64_t place;
	return id_table_get(&e->places, id, &place) ? (uint32_t)place : NONE;
}

static int node_add(struct engine *e, uint64_t id, uint32_t parent, uint32_t *place, struct ikv_err *err)
{
	if (e->node_count == e->node_cap) {
		size_t cap = e->node_cap * 2 + 256;
		if (ikv_grow(&e->nodes, e->node_count, cap, sizeof *e->nodes, err))
			return -1;
		e->node_cap = cap;
	}
	*place = (uint32_t)e->node_count;
	e->nodes[e->node_count++] =
	    (struct node){.id = id, .parent = parent, .depth = parent == NONE ? 1 : e->nodes[parent].depth + 1};
	return id_table_put(&e->places, id, *place, err);
}

/* A new session whose blocks are the path from the root to node `last`. */
static int session_open(struct engine *e, uint32_t last, struct ikv_err *err)
{
	size_t n = e->log.session_count;
	if (n == e->chain_cap) {
		if (ikv_grow(&e->chains, n, n * 2 + 16, sizeof *e->chains, err))
			return -1;
		e->chain_cap = n * 2 + 16;
	}
	struct chain c = {0};
	uint32_t depth = last == NONE ? 0 : e->nodes[last].depth;
	if (depth && !(c.ids = ikv_alloc(depth, sizeof *c.ids, err)))
		return -1;
	c.count = c.cap = depth;
	for (uint32_t at = last; at != NONE; at = e->nodes[at].parent)
		c.ids[--depth] = e->nodes[at].id;
	e->chains[n] = c;
	return 0;
}

/* The blocks' places in the tree; the last one's in *last. */
static int store_nodes(struct trace *t, struct engine *e, int line, uint32_t parent, uint32_t count, uint32_t *last,
		       struct ikv_err *err)
{
	*last = parent;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t node = find(e, e->ids[i]);
		if (node == NONE && node_add(e, e->ids[i], *last, &node, err))
			return -1;
		if (e->nodes[node].present)
			trace_warn(t, CHECK_DUPLICATE, line, "block_hashes", "block %llu is stored already",
				   (unsigned long long)e->ids[i]);
		e->nodes[node].present = true;
		*last = node;
	}
	return 0;
}

static int log_store(struct trace *t, struct engine *e, int line, double at_ms, uint32_t parent, uint32_t count,
		     struct ikv_err *err)
{
	uint64_t session = e->log.session_count;
	uint32_t last;
	bool goes_on = parent != NONE && id_table_get(&e->tails, parent, &session);
	if (goes_on)
		id_table_remove(&e->tails, parent);
	else if (session_open(e, parent, err))
		return -1;
	struct chain *c = &e->chains[session];
	uint32_t before = goes_on ? c->count : 0;
	if (store_nodes(t, e, line, parent, count, &last, err) || chain_add(c, e->ids, count, err))
		return -1;
	/* One block behind a session is what a running answer fills; more are an input. */
	bool generated = goes_on && count == 1;
	struct logged r = {.at_ms = at_ms,
			   .input = generated ? 0 : c->count * e->block_tokens,
			   .output = generated ? e->block_tokens : 0,
			   .words = c->count - before,
			   .line = line};
	if (request_log_add(&e->log, (uint32_t)session, NULL, &r, c->ids + before, err) ||
	    id_table_put(&e->tails, last, session, err))
		return -1;
	if (generated) {
		t->facts->output_tokens += r.output;
		return 0;
	}
	return trace_request(t,
			     &(struct trace_request){.ids = c->ids,
						     .count = c->count,
						     .block_tokens = e->block_tokens,
						     .input = r.input,
						     .at_ms = at_ms,
						     .line = line},
			     err);
}

static int read_stored(struct trace *t, struct json_input *in, struct engine *e, const json_t *event, double at_ms,
		       struct ikv_err *err)
{
	char text[80];
	uint32_t count, parent = NONE;
	int64_t block;
	uint64_t id;
	const json_t *up = json_object_get(event, "parent_block_hash"), *tokens = json_object_get(event, "token_ids");
	if (json_member_ids(in, event, "block_hashes", &e->ids, &e->id_cap, &count, err) ||
	    json_member_int(in, event, "block_size", 1, 65536, &block, NULL, err))
		return -1;
	if (count == 0)
		return json_wrong(in, "block_hashes", err, "an empty list, expected at least one block");
	if (e->block_tokens && block != e->block_tokens)
		return json_fault(in, CHECK_CONSISTENCY, "block_size", err,
				  "found %lld, expected %u as in the events before", (long long)block,
				  e->block_tokens);
	if (json_is_array(tokens) && json_array_size(tokens) != (size_t)block * count)
		return json_fault(in, CHECK_ID_COUNT, "token_ids", err,
				  "%zu tokens for %u blocks of %lld, expected %lld", json_array_size(tokens), count,
				  (long long)block, (long long)block * count);
	if (up && !json_is_null(up)) {
		if (json_id(up, &id))
			return json_fault(in, CHECK_ID_RANGE, "parent_block_hash", err,
					  "found %s, expected a hash or null", json_describe(up, text));
		parent = find(e, id);
		if (parent == NONE || !e->nodes[parent].present)
			trace_warn(t, CHECK_CONSISTENCY, in->line, "parent_block_hash", "block %llu %s",
				   (unsigned long long)id,
				   parent == NONE ? "was never stored" : "is not there any more");
	}
	uint64_t depth = parent == NONE ? 0 : e->nodes[parent].depth, session;
	if (parent != NONE && id_table_get(&e->tails, parent, &session) && e->chains[session].count > depth)
		depth = e->chains[session].count; /* blocks that were stored before have places of their own */
	if ((depth + count) * (uint64_t)block > REQUEST_TOKENS_MAX)
		return json_wrong(in, "block_hashes", err, "a prefix of more than %d tokens", REQUEST_TOKENS_MAX);
	e->block_tokens = (uint32_t)block;
	return log_store(t, e, in->line, at_ms, parent, count, err);
}

static int read_removed(struct trace *t, struct json_input *in, struct engine *e, const json_t *event,
			struct ikv_err *err)
{
	uint32_t count;
	if (json_member_ids(in, event, "block_hashes", &e->ids, &e->id_cap, &count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t node = find(e, e->ids[i]);
		if (node == NONE || !e->nodes[node].present)
			trace_warn(t, CHECK_CONSISTENCY, in->line, "block_hashes",
				   "block %llu is dropped and was not there", (unsigned long long)e->ids[i]);
		else
			e->nodes[node].present = false;
	}
	return 0;
}

/* Events come as maps with a type, or as lists that begin with it. */
static json_t *named(const json_t *event)
{
	static const char *const stored[] = {"type",      "block_hashes", "parent_block_hash",
					     "token_ids", "block_size",   "lora_id",
					     "medium"},
				 *const removed[] = {"type", "block_hashes", "medium"};
	const char *type = json_string_value(json_array_get(event, 0));
	bool drops = type && !strcmp(type, "BlockRemoved");
	size_t count = json_array_size(event), most = drops ? 3 : 7;
	json_t *object = json_object();
	for (size_t i = 0; object && i < count && i < most; i++)
		if (json_object_set(object, (drops ? removed : stored)[i], json_array_get(event, i))) {
			json_decref(object);
			return NULL;
		}
	return object;
}

static int read_event(struct trace *t, struct json_input *in, struct engine *e, const json_t *event, double at_ms,
		      struct ikv_err *err)
{
	char text[80];
	const char *type, *medium;
	int64_t group = 0;
	bool has;
	if (!json_is_object(event))
		return json_wrong(in, "events", err, "found %s, expected an event", json_describe(event, text));
	if (json_member_text(in, event, "type", false, &type, err) ||
	    json_member_text(in, event, "medium", true, &medium, err) ||
	    json_member_int(in, event, "group_idx", 0, INT32_MAX, &group, &has, err))
		return -1;
	/* Copies in slower tiers, and the other groups of a hybrid model, tell nothing new of the sequence. */
	if ((medium && strcmp(medium, "GPU") != 0) || group > 0)
		return 0;
	if (!strcmp(type, "BlockStored"))
		return read_stored(t, in, e, event, at_ms, err);
	if (!strcmp(type, "BlockRemoved"))
		return read_removed(t, in, e, event, err);
	if (strcmp(type, "AllBlocksCleared") != 0)
		return json_wrong(in, "events", err,
				  "type is %s, expected BlockStored, BlockRemoved or AllBlocksCleared",
				  json_describe(json_object_get(event, "type"), text));
	for (size_t i = 0; i < e->node_count; i++)
		e->nodes[i].present = false;
	return 0;
}

static int read_events(struct trace *t, struct json_input *in, struct engine *e, double ts, const json_t *events,
		       struct ikv_err *err)
{
	char text[80];
	const json_t *v;
	size_t i;
	if (!json_is_array(events))
		return json_wrong(in, "events", err, "found %s, expected a list of events",
				  json_describe(events, text));
	if (e->begun && ts < e->newest_s)
		return json_fault(in, CHECK_TIME, "ts", err, "time runs backwards: %.17g after %.17g", ts,
				  e->newest_s);
	double first_s = e->begun ? e->first_s : ts;
	json_array_foreach(events, i, v)
	{
		snprintf(in->part, sizeof in->part, "event %zu", i);
		json_t *object = json_is_array(v) ? named(v) : json_incref((json_t *)v);
		if (!object)
			return ikv_err_set(err, IKV_FAILED, "out of memory");
		int rc = read_event(t, in, e, object, (ts - first_s) * 1e3, err);
		json_decref(object);
		if (rc)
			return -1;
	}
	e->first_s = first_s;
	e->newest_s = ts;
	e->begun = true;
	return 0;
}

static int read_batch(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err)
{
	double ts;
	if (json_member_real(in, in->value, "ts", 0, 1e12, &ts, NULL, err))
		return -1;
	return read_events(t, in, ctx, ts, json_object_get(in->value, "events"), err);
}

/* A batch is a map, or the list [ts, events, rank]. */
static int read_packed(struct trace *t, struct json_input *in, struct engine *e, struct ikv_err *err)
{
	char text[80];
	if (json_is_object(in->value))
		return read_batch(t, in, e, err);
	const json_t *ts = json_array_get(in->value, 0);
	double at = json_number_value(ts);
	if (!json_is_array(in->value))
		return json_wrong(in, NULL, err, "found %s, expected a batch of events",
				  json_describe(in->value, text));
	if (!json_is_number(ts) || !(at >= 0 && at <= 1e12))
		return json_wrong(in, "ts", err, "found %s, expected a number from 0 to 1e12",
				  json_describe(ts, text));
	return read_events(t, in, e, at, json_array_get(in->value, 1), err);
}

/* Places in messages are numbers of batches: there are no lines. */
static int msgpack_read(struct trace *t, const char *path, struct engine *e, struct ikv_err *err)
{
	struct json_input in;
	int got = 1, rc = json_input_open(&in, path, JSON_VALUES, err);
	while (!rc && got) {
		in.line++;
		*in.part = 0;
		in.file.check = CHECK_CONSISTENCY;
		in.file.wrong_line = in.line;
		got = msgpack_next(&in.file, in.line, &in.value, err);
		rc = got == 1 ? read_packed(t, &in, e, err) : got;
		if (got == 1)
			json_decref(in.value);
		in.value = NULL;
		if (rc) {
			rc = trace_bad(t, &in.file, err);
			if (in.file.unreadable)
				break;
		} else if (got) {
			t->facts->records++;
		}
	}
	json_input_close(&in);
	return rc;
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	struct engine *e = ctx;
	char id[32];
	(void)number;
	snprintf(id, sizeof id, "prefix-%u", t->sessions);
	struct session *s = trace_session(t, id, err);
	e->playing.count = 0;
	if (!s)
		return NULL;
	s->hash_block_tokens = e->block_tokens;
	s->hashes_global = true;
	s->arrival_ms = first->at_ms;
	return s;
}

static int play(void *ctx, struct session *s, struct request_stream *stream, const struct logged *r,
		const uint64_t *ids, struct ikv_err *err)
{
	struct engine *e = ctx;
	stream->line = r->line;
	if (!r->output && stream->turn && request_wait(stream, s, r->at_ms - e->last_ms, err))
		return -1;
	e->last_ms = r->at_ms;
	if (chain_add(&e->playing, ids, r->words, err))
		return -1;
	if (r->output)
		return request_decode(stream, s, r->output, IKV_KIND_ASSISTANT, 0.3F, err);
	stream->ids = e->playing.ids;
	stream->count = e->playing.count;
	return request_keep(stream, s, stream->context, r->input, r->line, err) ||
	       request_append(stream, s, r->input, IKV_KIND_USER, 0.3F, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct engine e = {0};
	struct request_player player = {&e, begin, play};
	struct trace_input in;
	int rc = trace_input_open(&in, path, err);
	long size = rc ? -1 : trace_input_head(&in, 1, err);
	bool packed = size > 0 && (*in.at & 0x80);
	trace_input_close(&in);
	if (size < 0)
		return trace_bad(t, &in, err);
	rc = packed ? msgpack_read(t, path, &e, err) : json_read(t, path, JSON_EITHER, read_batch, &e, err);
	for (size_t i = 0; i < e.log.session_count; i++)
		ikv_free(e.chains[i].ids);
	if (!rc)
		rc = request_log_play(&e.log, t, &player, err);
	request_log_free(&e.log);
	ikv_free(e.nodes);
	ikv_free(e.chains);
	ikv_free(e.ids);
	ikv_free(e.playing.ids);
	id_table_free(&e.places);
	id_table_free(&e.tails);
	return rc;
}

const struct importer importer_vllm_kv_events = {
    .name = "vllm-kv-events",
    .summary = "vLLM KV cache events, MessagePack or JSON: growing prefixes as sessions",
    .detect = detect,
    .read = read_file,
};

/* From a trace's requests to references of blocks or objects. */
#include <stdlib.h>
#include <string.h>
#include "sim/mrc.h"
#include "sim/trace/trace.h"

int ref_trace_add(struct ref_trace *t, uint64_t id, uint32_t units, struct ikv_err *err)
{
	uint64_t object = t->objects;
	if (t->count == UINT32_MAX - 1)
		return ikv_err_set(err, IKV_BAD_INPUT, "more than %u references", t->count);
	if (t->count && (t->bytes != NULL) != (units != 0))
		return ikv_err_set(err, IKV_BAD_INPUT, "blocks and objects in one trace");
	if (t->count == t->cap) {
		uint32_t cap = t->cap ? t->cap > UINT32_MAX / 2 ? UINT32_MAX - 1 : t->cap * 2 : 1024;
		if (ikv_grow(&t->slots, t->count, cap, sizeof *t->slots, err) ||
		    (units && ikv_grow(&t->bytes, t->count, cap, sizeof *t->bytes, err)))
			return -1;
		t->cap = cap;
	}
	if (!id_table_get(&t->ids, id, &object)) {
		if (id_table_put(&t->ids, id, object, err))
			return -1;
		t->objects++;
		t->unique_units += units ? units : 1;
	}
	if (units)
		t->bytes[t->count] = units;
	t->slots[t->count++] = (uint32_t)object;
	return 0;
}

void ref_trace_free(struct ref_trace *t)
{
	ikv_free(t->slots);
	ikv_free(t->bytes);
	id_table_free(&t->ids);
	*t = (struct ref_trace){0};
}

struct request { /* where a request's references lie */
	double at_ms;
	uint32_t first, count;
};
struct reading {
	struct ref_trace *trace;
	const struct ref_trace_options *options;
	const char *path;
	const struct trace_facts *facts;
	uint32_t block_tokens;
	struct request *requests; /* only if they may have to be sorted */
	size_t count, cap;
};

static bool by_time(const struct reading *r)
{
	return r->options->order == REF_TIME || (r->options->order == REF_AUTO && r->facts->by_session);
}

static int note_request(struct reading *r, const struct trace_request *q, struct ikv_err *err)
{
	if (r->count == r->cap) {
		size_t cap = r->cap * 2 + 256;
		if (ikv_grow(&r->requests, r->count, cap, sizeof *r->requests, err))
			return -1;
		r->cap = cap;
	}
	r->requests[r->count++] = (struct request){q->at_ms, r->trace->count, q->count};
	return 0;
}

static int add_request(void *ctx, const struct trace_request *q, struct ikv_err *err)
{
	struct reading *r = ctx;
	if (q->count == 0)
		return 0;
	if (q->bytes > UINT32_MAX || (!q->block_tokens && !q->bytes))
		return ikv_err_at(err, IKV_BAD_INPUT, r->path, q->line, 0, NULL,
				  "an object of %llu bytes, expected 1 to %u", (unsigned long long)q->bytes,
				  UINT32_MAX);
	if (r->block_tokens && q->block_tokens != r->block_tokens)
		return ikv_err_at(err, IKV_BAD_INPUT, r->path, q->line, 0, NULL,
				  "blocks of %u tokens after blocks of %u; all must have the same bytes",
				  q->block_tokens, r->block_tokens);
	r->block_tokens = q->block_tokens;
	if (by_time(r) && note_request(r, q, err))
		return -1;
	for (uint32_t i = 0; i < q->count; i++) {
		uint64_t id = q->scope ? ikv_mix64_2(q->scope, q->ids[i]) : q->ids[i];
		if (ref_trace_add(r->trace, id, q->block_tokens ? 0 : (uint32_t)q->bytes, err))
			return -1;
	}
	return 0;
}

static int earlier(const void *a, const void *b)
{
	const struct request *x = a, *y = b;
	if (x->at_ms != y->at_ms)
		return x->at_ms < y->at_ms ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

static int sort(struct reading *r, struct ikv_err *err)
{
	struct ref_trace *t = r->trace;
	uint32_t *slots = ikv_alloc(t->count, sizeof *slots, err), to = 0;
	uint32_t *bytes = slots && t->bytes ? ikv_alloc(t->count, sizeof *bytes, err) : NULL;
	if (!slots || (t->bytes && !bytes)) {
		ikv_free(slots);
		return -1;
	}
	qsort(r->requests, r->count, sizeof *r->requests, earlier);
	for (size_t i = 0; i < r->count; i++) {
		const struct request *q = &r->requests[i];
		memcpy(slots + to, t->slots + q->first, q->count * sizeof *slots);
		if (bytes)
			memcpy(bytes + to, t->bytes + q->first, q->count * sizeof *bytes);
		to += q->count;
	}
	ikv_free(t->slots);
	ikv_free(t->bytes);
	t->slots = slots;
	t->bytes = bytes;
	t->cap = t->count;
	return 0;
}

int ref_trace_read(struct ref_trace *t, const char *path, const struct ref_trace_options *o, struct ikv_err *err)
{
	struct trace_facts facts;
	struct reading r = {.trace = t, .options = o, .path = path, .facts = &facts};
	struct session_options options = {.skip_bad = o->skip_bad, .block_tokens = o->block_tokens};
	struct trace_sink sink = {&r, NULL, add_request};
	*t = (struct ref_trace){0};
	int rc = trace_read(path, o->format, &options, &sink, &facts, err);
	if (!rc && t->count == 0)
		rc = ikv_err_set(err, IKV_BAD_INPUT, "%s: %llu requests (%s), but none names blocks or objects", path,
				 (unsigned long long)facts.requests, facts.format);
	if (!rc && by_time(&r))
		rc = sort(&r, err);
	id_table_free(&t->ids);
	t->unit_bytes = r.block_tokens ? r.block_tokens * o->token_bytes : 1;
	ikv_free(r.requests);
	if (rc)
		ref_trace_free(t);
	return rc;
}

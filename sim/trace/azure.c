/* Azure's LLM inference traces (Patel et al. 2024, Splitwise; Stojkovic et al. 2025): when each request came and how
 * long it was, nothing of its content or session. */
#include <stdio.h>
#include "sim/trace/csv_input.h"
#include "sim/trace/request.h"

enum { TIMESTAMP, CONTEXT, GENERATED, COLUMNS };
static const struct csv_column columns[COLUMNS] = {
    {.name = "TIMESTAMP"}, {.name = "ContextTokens"}, {.name = "GeneratedTokens"}};

struct azure {
	bool begun;
	int64_t first_ns, newest_ns;
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	return csv_has_columns(head, size, columns, COLUMNS) ? 95 : 0;
}

static int read_row(struct trace *t, struct csv_input *in, void *ctx, struct ikv_err *err)
{
	struct azure *a = ctx;
	int64_t at_ns, input, output;
	if (csv_time(in, TIMESTAMP, &at_ns, err) || csv_int(in, CONTEXT, 1, REQUEST_TOKENS_MAX, &input, err) ||
	    csv_int(in, GENERATED, 0, REQUEST_TOKENS_MAX, &output, err))
		return -1;
	if (a->begun && at_ns < a->newest_ns)
		return csv_fault(in, CHECK_TIME, TIMESTAMP, err, "time runs backwards: %.3f s before the row above",
				 (double)(a->newest_ns - at_ns) * 1e-9);
	char id[32];
	snprintf(id, sizeof id, "azure-%u", t->sessions);
	struct session *s = trace_session(t, id, err);
	if (!s)
		return -1;
	if (!a->begun)
		a->first_ns = at_ns;
	a->begun = true;
	a->newest_ns = at_ns;
	s->arrival_ms = (double)(at_ns - a->first_ns) * 1e-6;
	struct request_stream r = {0};
	if (request_begin(&r, s, NULL, 0, (uint32_t)input, in->line, err) ||
	    request_append(&r, s, (uint32_t)input, IKV_KIND_USER, 0.5F, err) ||
	    request_decode(&r, s, (uint32_t)output, IKV_KIND_ASSISTANT, 0.7F, err) ||
	    trace_request(
		t,
		&(struct trace_request){
		    .input = (uint32_t)input, .output = (uint32_t)output, .at_ms = s->arrival_ms, .line = in->line},
		err))
		return -1;
	return trace_emit(t, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct azure a = {0};
	return csv_read(t, path, columns, COLUMNS, read_row, &a, err);
}

const struct importer importer_azure = {
    .name = "azure",
    .summary = "Azure LLM inference traces, CSV: arrival and lengths only, a session a request",
    .detect = detect,
    .read = read_file,
};

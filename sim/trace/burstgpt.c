/* BurstGPT (Wang et al. 2024): requests with lengths; those of a conversation share a session id, API calls have
 * none. A row without tokens is a call that failed. */
#include <stdio.h>
#include <string.h>
#include "sim/trace/csv_input.h"
#include "sim/trace/request_log.h"

enum { TIMESTAMP, SESSION, ELAPSED, REQUEST, RESPONSE, TOTAL, COLUMNS };
static const struct csv_column columns[COLUMNS] = {{.name = "Timestamp"},
						   {.name = "Session ID", .optional = true},
						   {.name = "Elapsed time", .optional = true},
						   {.name = "Request tokens"},
						   {.name = "Response tokens"},
						   {.name = "Total tokens", .optional = true}};

struct burstgpt {
	struct request_log log;
	bool begun;
	double first_s, newest_s;
	double last_ms, last_elapsed_ms; /* of the session being played */
};

static int detect(const char *path, const char *head, size_t size)
{
	(void)path;
	return csv_has_columns(head, size, columns, COLUMNS) ? 95 : 0;
}

static int read_values(struct csv_input *in, double *at_s, double *elapsed_s, int64_t *input, int64_t *output,
		       struct ikv_err *err)
{
	int64_t total;
	*elapsed_s = 0;
	if (csv_real(in, TIMESTAMP, 0, 1e12, at_s, err) ||
	    (*csv_text(in, ELAPSED) && csv_real(in, ELAPSED, 0, 1e9, elapsed_s, err)) ||
	    csv_int(in, REQUEST, 0, REQUEST_TOKENS_MAX, input, err) ||
	    csv_int(in, RESPONSE, 0, REQUEST_TOKENS_MAX, output, err))
		return -1;
	if (!*csv_text(in, TOTAL))
		return 0;
	if (csv_int(in, TOTAL, 0, 2 * (int64_t)REQUEST_TOKENS_MAX, &total, err))
		return -1;
	if (total != *input + *output)
		return csv_fault(in, CHECK_CONSISTENCY, TOTAL, err, "%lld tokens in all, but %lld + %lld",
				 (long long)total, (long long)*input, (long long)*output);
	return 0;
}

static int read_row(struct trace *t, struct csv_input *in, void *ctx, struct ikv_err *err)
{
	struct burstgpt *b = ctx;
	double at_s, elapsed_s;
	int64_t input, output;
	const char *name = csv_text(in, SESSION);
	uint32_t session = *name ? request_log_session(&b->log, name) : (uint32_t)b->log.session_count;
	if (read_values(in, &at_s, &elapsed_s, &input, &output, err))
		return -1;
	if (b->begun && at_s < b->newest_s)
		return csv_fault(in, CHECK_TIME, TIMESTAMP, err, "time runs backwards: %.17g after %.17g", at_s,
				 b->newest_s);
	if (input == 0) {
		trace_warn(t, CHECK_VALUE, in->line, columns[REQUEST].name, "a failed call without tokens; left out");
		return 0;
	}
	if (!b->begun)
		b->first_s = at_s;
	b->begun = true;
	b->newest_s = at_s;
	struct logged r = {.at_ms = (at_s - b->first_s) * 1e3,
			   .input = (uint32_t)input,
			   .output = (uint32_t)output,
			   .words = 1,
			   .line = in->line};
	uint64_t elapsed;
	memcpy(&elapsed, &elapsed_s, sizeof elapsed);
	if (request_log_add(&b->log, session, *name ? name : NULL, &r, &elapsed, err))
		return -1;
	return trace_request(
	    t, &(struct trace_request){.input = r.input, .output = r.output, .at_ms = r.at_ms, .line = r.line}, err);
}

static struct session *begin(void *ctx, struct trace *t, uint32_t number, const struct logged *first,
			     struct ikv_err *err)
{
	char id[32];
	(void)ctx;
	(void)number;
	snprintf(id, sizeof id, "burstgpt-%u", t->sessions);
	struct session *s = trace_session(t, id, err);
	if (s)
		s->arrival_ms = first->at_ms;
	return s;
}

static int play(void *ctx, struct session *s, struct request_stream *stream, const struct logged *r,
		const uint64_t *payload, struct ikv_err *err)
{
	struct burstgpt *b = ctx;
	double elapsed_s;
	memcpy(&elapsed_s, payload, sizeof elapsed_s);
	stream->line = r->line;
	if (stream->turn && request_wait(stream, s, r->at_ms - b->last_ms - b->last_elapsed_ms, err))
		return -1;
	b->last_ms = r->at_ms;
	b->last_elapsed_ms = elapsed_s * 1e3;
	if (request_begin(stream, s, NULL, 0, r->input, r->line, err) ||
	    request_append(stream, s, r->input, IKV_KIND_USER, 0.5F, err))
		return -1;
	return request_decode(stream, s, r->output, IKV_KIND_ASSISTANT, 0.7F, err);
}

static int read_file(struct trace *t, const char *path, struct ikv_err *err)
{
	struct burstgpt b = {0};
	struct request_player player = {&b, begin, play};
	int rc = csv_read(t, path, columns, COLUMNS, read_row, &b, err);
	if (!rc)
		rc = request_log_play(&b.log, t, &player, err);
	request_log_free(&b.log);
	return rc;
}

const struct importer importer_burstgpt = {
    .name = "burstgpt",
    .summary = "BurstGPT CSV: arrival and lengths, conversations by session id",
    .detect = detect,
    .read = read_file,
};

/* intentkv import: any trace in, the canonical session form out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/output.h"
#include "sim/trace/trace.h"

enum { TOKENIZER = COMMAND_FROM_VALUE + 1, BLOCK_TOKENS, LIMIT, SKIP_BAD };
static const struct command_option options[] = {
    {"output", 'o', "FILE", "*.jsonl", NULL, "write its sessions in the canonical form (docs/traces.md)"},
    COMMAND_FROM,
    {"tokenizer", TOKENIZER, "FILE", "*.json", NULL,
     "a tokenizer.json that counts the tokens of text (default: four code points a token)"},
    {"block-tokens", BLOCK_TOKENS, "N", NULL, NULL, "content ids in blocks of N tokens instead of the trace's"},
    {"limit", LIMIT, "N", NULL, NULL, "at most N sessions"},
    {"skip-bad", SKIP_BAD, NULL, NULL, NULL, "count broken records and go on"},
    {.name = NULL},
};

const struct command command_import = {
    .name = "import",
    .summary = "read a trace, say what is in it, write it as sessions",
    .arguments = "TRACE",
    .words = {"*"},
    .examples = "intentkv import trace.json\twhat was found\n"
		"intentkv import weka/ -o sessions.jsonl\ta folder of files\n"
		"intentkv import trace.jsonl --from mooncake\n",
    .options = options,
    .run = cmd_import,
};

/* What is printed at the end, gathered while the trace goes by. */
struct summary {
	struct session_writer *writer; /* or NULL */
	uint32_t sessions, longest;
	uint64_t appended, decoded, role[IKV_KIND_COUNT];
	struct overlap_tally overlap;
	uint32_t *inputs; /* of all requests */
	size_t count, cap;
};

static int add_request(void *ctx, const struct trace_request *r, struct ikv_err *err)
{
	struct summary *s = ctx;
	if (s->count == s->cap) {
		size_t cap = s->cap * 2 + 1024;
		if (ikv_grow(&s->inputs, s->count, cap, sizeof *s->inputs, err))
			return -1;
		s->cap = cap;
	}
	s->inputs[s->count++] = r->input;
	return 0;
}

static int add_session(void *ctx, struct session *session, struct ikv_err *err)
{
	struct summary *s = ctx;
	uint64_t appended, decoded;
	uint32_t longest;
	session_totals(session, &appended, &decoded, &longest);
	s->sessions++;
	s->appended += appended;
	s->decoded += decoded;
	s->longest = longest > s->longest ? longest : s->longest;
	for (uint32_t i = 0; i < session->event_count; i++) {
		const struct session_event *e = &session->events[i];
		if ((e->op == SESSION_APPEND && !e->unowned) || e->op == SESSION_DECODE)
			s->role[e->kind] += e->tokens;
	}
	if (overlap_add(&s->overlap, session, err))
		return -1;
	return s->writer ? session_writer_put(s->writer, session, err) : 0;
}

static int ascending(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* Percentile by nearest rank. */
static uint32_t at(const uint32_t *sorted, uint64_t n, uint32_t percent)
{
	uint64_t rank = (n * percent + 99) / 100;
	return sorted[rank ? rank - 1 : 0];
}

static void print_facts(const struct trace_facts *f, const struct summary *s)
{
	printf("format            ");
	command_print(stdout, f->format);
	if (strcmp(f->form, f->format) != 0)
		printf(", in the form of %s", f->form);
	printf("%s\ntokens by         ", f->detected ? " (detected)" : "");
	command_print(stdout, f->tokens_by);
	printf("\nrecords           %llu\nskipped           %llu\n", (unsigned long long)f->records,
	       (unsigned long long)f->skipped);
	if (f->warnings)
		printf("warnings          %llu (intentkv lint shows them)\n", (unsigned long long)f->warnings);
	printf("sessions          %u\nrequests          %llu\ninput tokens      %llu\noutput tokens     %llu\n",
	       s->sessions, (unsigned long long)f->requests, (unsigned long long)f->input_tokens,
	       (unsigned long long)f->output_tokens);
	if (f->requests)
		printf("mean in / out     %.0f / %.0f\n", (double)f->input_tokens / (double)f->requests,
		       (double)f->output_tokens / (double)f->requests);
	printf("longest context   %u\nappended tokens   %llu\ndecoded tokens    %llu\n", s->longest,
	       (unsigned long long)s->appended, (unsigned long long)s->decoded);
	if (f->block_refs)
		printf("block references  %llu\nunique blocks     %llu\nprefix hits       %llu (%.2f %%)\n",
		       (unsigned long long)f->block_refs, (unsigned long long)f->unique_blocks,
		       (unsigned long long)f->prefix_hits, 100.0 * (double)f->prefix_hits / (double)f->block_refs);
}

static int print_summary(const struct trace_facts *f, struct summary *s, struct ikv_err *err)
{
	struct overlap_summary o;
	if (overlap_finish(&s->overlap, &o, err))
		return -1;
	print_facts(f, s);
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		if (s->role[k])
			printf("share %-12s %.1f %%\n", ikv_kind_name((enum ikv_kind)k),
			       100.0 * (double)s->role[k] / (double)(s->appended + s->decoded));
	if (s->count) {
		qsort(s->inputs, s->count, sizeof *s->inputs, ascending);
		printf("input p50 / p99   %u / %u\n", at(s->inputs, s->count, 50), at(s->inputs, s->count, 99));
	}
	if (o.sessions)
		printf("overlap with the request before, %% of blocks over %u sessions: min %.2f, P25 %.2f, median "
		       "%.2f, P75 %.2f, mean %.2f\n",
		       o.sessions, o.min, o.p25, o.median, o.p75, o.mean);
	return 0;
}

static int import(const char *path, const char *format, const struct session_options *how, const char *output,
		  struct ikv_err *err)
{
	struct summary s = {0};
	struct trace_facts facts;
	struct trace_sink sink = {&s, add_session, add_request};
	int rc = output ? output_apart(output, path, err) : 0;
	if (!rc && output)
		rc = session_writer_open(&s.writer, output, err);
	if (!rc) {
		rc = trace_read(path, format, how, &sink, &facts, err);
		if (s.writer && session_writer_close(s.writer, rc ? NULL : &facts, err))
			rc = -1;
	}
	if (!rc)
		rc = print_summary(&facts, &s, err);
	ikv_free(s.overlap.percent);
	free(s.overlap.root);
	ikv_free(s.inputs);
	return rc;
}

int cmd_import(int argc, char **argv)
{
	struct command_line line;
	struct session_options how = {.limit = 0};
	const char *output = NULL, *format = "auto", *tokenizer_path = NULL;
	int c;
	command_begin(&line, &command_import, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c == 'o')
			output = optarg;
		else if (c == COMMAND_FROM_VALUE)
			format = optarg;
		else if (c == TOKENIZER)
			tokenizer_path = optarg;
		else if (c == SKIP_BAD)
			how.skip_bad = true;
		else if (c == LIMIT) {
			if (command_count("import", "--limit", optarg, 1, UINT32_MAX, &how.limit))
				return IKV_USAGE;
		} else if (c == BLOCK_TOKENS) {
			if (command_count("import", "--block-tokens", optarg, 1, 65536, &how.block_tokens))
				return IKV_USAGE;
		} else
			return IKV_USAGE;
	}
	if (optind + 1 != argc)
		return command_usage("import", "expected one file or folder");
	struct ikv_err err;
	int rc =
	    session_options_tokenizer(&how, tokenizer_path, &err) || import(argv[optind], format, &how, output, &err);
	session_options_free(&how);
	return rc ? command_fail(&err) : IKV_OK;
}

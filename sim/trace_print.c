/* Statistics of a trace on stdout, as `trace-stats` and `generate` print them. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/trace_print.h"

static double ratio(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

static json_t *summary_value(const struct stat_summary *s)
{
	return json_pack("{sI sf sf sf sf sf sf}", "count", (json_int_t)s->count, "mean", s->mean, "min", s->min,
			 "p50", s->p50, "p90", s->p90, "p99", s->p99, "max", s->max);
}

static json_t *roles_value(const struct trace_stats *s)
{
	json_t *o = json_object();
	for (int k = 0; k < IKV_KIND_COUNT; k++) {
		const struct stat_role *r = &s->roles[k];
		if (r->tokens)
			json_object_set_new(o, ikv_kind_name((enum ikv_kind)k),
					    json_pack("{sI sf sf sI}", "tokens", (json_int_t)r->tokens, "share",
						      ratio(r->tokens, s->role_tokens), "confidence", r->confidence,
						      "given_tokens", (json_int_t)r->given));
	}
	return o;
}

static int print_json(const struct trace_stats *s)
{
	json_t *o = json_pack("{ss ss sI sI}", "format", s->format, "tokens_by", s->tokens_by, "sessions",
			      (json_int_t)s->sessions, "requests", (json_int_t)s->request_count);
	for (int i = 0; i < STAT_SERIES; i++) {
		struct stat_summary sum = stat_summarise(&s->values[i]);
		json_object_set_new(o, stat_names[i], summary_value(&sum));
	}
	json_object_set_new(o, "overlap_percent",
			    json_pack("{sI sf sf sf sf sf}", "sessions", (json_int_t)s->overlap.sessions, "min",
				      s->overlap.min, "p25", s->overlap.p25, "median", s->overlap.median, "p75",
				      s->overlap.p75, "mean", s->overlap.mean));
	json_object_set_new(o, "compaction",
			    json_pack("{sI sI sf sI sf}", "later_requests", (json_int_t)s->later, "cut",
				      (json_int_t)s->cut, "cut_rate", ratio(s->cut, s->later), "shrunk",
				      (json_int_t)s->shrunk, "shrunk_rate", ratio(s->shrunk, s->later)));
	json_object_set_new(o, "blocks",
			    json_pack("{sI sI sI sI sf}", "block_tokens", (json_int_t)s->block_tokens, "references",
				      (json_int_t)s->block_refs, "unique", (json_int_t)s->unique_blocks, "hits",
				      (json_int_t)s->block_hits, "hit_percent",
				      100 * ratio(s->block_hits, s->block_refs)));
	json_object_set_new(o, "roles", roles_value(s));
	int rc = o ? json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(10)) : -1;
	json_decref(o);
	putchar('\n');
	return rc ? IKV_FAILED : 0;
}

static void print_table(const struct trace_stats *s)
{
	printf("format                ");
	command_print(stdout, s->format);
	printf("\ntokens by             ");
	command_print(stdout, s->tokens_by);
	printf("\nsessions              %u\nrequests              %u\n\n", s->sessions, s->request_count);
	printf("%-20s %9s %12s %10s %10s %10s %10s %10s\n", "", "count", "mean", "min", "p50", "p90", "p99", "max");
	for (int i = 0; i < STAT_SERIES; i++) {
		struct stat_summary v = stat_summarise(&s->values[i]);
		if (v.count)
			printf("%-20s %9llu %12.6g %10.6g %10.6g %10.6g %10.6g %10.6g\n", stat_names[i],
			       (unsigned long long)v.count, v.mean, v.min, v.p50, v.p90, v.p99, v.max);
	}
	if (s->later)
		printf("\ncontext cut           %.2f %% of the requests after a session's first\n"
		       "input shorter         %.2f %%\n",
		       100 * ratio(s->cut, s->later), 100 * ratio(s->shrunk, s->later));
	if (s->overlap.sessions)
		printf("overlap with the request before, %% of blocks over %u sessions: min %.2f, P25 %.2f, median "
		       "%.2f, P75 %.2f, mean %.2f\n",
		       s->overlap.sessions, s->overlap.min, s->overlap.p25, s->overlap.median, s->overlap.p75,
		       s->overlap.mean);
	if (s->block_refs)
		printf("block references      %llu of %u tokens\nunique blocks         %llu\nprefix hits           "
		       "%llu (%.2f %%)\n",
		       (unsigned long long)s->block_refs, s->block_tokens, (unsigned long long)s->unique_blocks,
		       (unsigned long long)s->block_hits, 100 * ratio(s->block_hits, s->block_refs));
	printf("\n%-20s %12s %10s %12s %10s\n", "role", "tokens", "share", "confidence", "given");
	for (int k = 0; k < IKV_KIND_COUNT; k++) {
		const struct stat_role *r = &s->roles[k];
		if (r->tokens)
			printf("%-20s %12llu %8.1f %% %12.2f %8.1f %%\n", ikv_kind_name((enum ikv_kind)k),
			       (unsigned long long)r->tokens, 100 * ratio(r->tokens, s->role_tokens), r->confidence,
			       100 * ratio(r->given, r->tokens));
	}
}

int trace_print(const struct trace_stats *s, bool json)
{
	if (json)
		return print_json(s);
	print_table(s);
	return 0;
}

int trace_print_format(const char *command, const char *text, bool *json)
{
	*json = !strcmp(text, "json");
	if (*json || !strcmp(text, "table"))
		return 0;
	return command_usage(command, "--format: got \"%.40s\", expected table or json", text);
}

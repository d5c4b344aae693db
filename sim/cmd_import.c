/* intentkv import: any trace in, the canonical session form out. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/session.h"

const char cmd_import_help[] =
    "intentkv import TRACE [-o sessions.jsonl]: read a trace, say what is in it, write it as sessions\n\n"
    "  intentkv import trace.json                        what was found\n"
    "  intentkv import weka/ -o sessions.jsonl           a folder of files\n"
    "  intentkv import trace.jsonl --from mooncake\n\n"
    "  -o, --output FILE   write the canonical form (docs/traces.md)\n"
    "      --from FORMAT   format instead of looking; `intentkv list importers`\n"
    "      --limit N       at most N sessions\n"
    "      --skip-bad      count broken records and go on\n";

/* Percentile of ascending values by nearest rank. */
static uint32_t at(const uint32_t *sorted, uint64_t n, uint32_t percent)
{
	uint64_t rank = (n * percent + 99) / 100;
	return sorted[rank ? rank - 1 : 0];
}

static int lengths(const struct session_list *l, struct ikv_err *err)
{
	uint32_t *inputs;
	uint64_t n;
	if (session_inputs(l, &inputs, &n, err))
		return -1;
	if (n)
		printf("input p50 / p99   %u / %u\n", at(inputs, n, 50), at(inputs, n, 99));
	ikv_free(inputs);
	struct overlap_summary o;
	if (overlap_summarise(l, &o, err))
		return -1;
	if (o.sessions)
		printf("overlap with the request before, %% of blocks over %u sessions: min %.2f, P25 %.2f, median "
		       "%.2f, "
		       "P75 %.2f, mean %.2f\n",
		       o.sessions, o.min, o.p25, o.median, o.p75, o.mean);
	return 0;
}

static void summary(const struct session_list *l)
{
	uint64_t appended = 0, decoded = 0, a, d, role[IKV_KIND_COUNT] = {0};
	uint32_t longest = 0, n;
	for (uint32_t i = 0; i < l->count; i++) {
		session_totals(&l->items[i], &a, &d, &n);
		appended += a;
		decoded += d;
		longest = n > longest ? n : longest;
		for (uint32_t e = 0; e < l->items[i].event_count; e++) {
			const struct session_event *ev = &l->items[i].events[e];
			if ((ev->op == SESSION_APPEND && !ev->unowned) || ev->op == SESSION_DECODE)
				role[ev->kind] += ev->tokens;
		}
	}
	printf("format            ");
	command_print(stdout, l->format);
	printf("\ntokens by         ");
	command_print(stdout, l->tokens_by);
	printf("\nrecords           %llu\nskipped           %llu\n", (unsigned long long)l->records,
	       (unsigned long long)l->skipped);
	printf("sessions          %u\nrequests          %llu\ninput tokens      %llu\noutput tokens     %llu\n",
	       l->count, (unsigned long long)l->requests, (unsigned long long)l->input_tokens,
	       (unsigned long long)l->output_tokens);
	if (l->requests)
		printf("mean in / out     %.0f / %.0f\n", (double)l->input_tokens / (double)l->requests,
		       (double)l->output_tokens / (double)l->requests);
	printf("longest context   %u\nappended tokens   %llu\ndecoded tokens    %llu\n", longest,
	       (unsigned long long)appended, (unsigned long long)decoded);
	if (l->block_refs)
		printf("block references  %llu\nunique blocks     %llu\nprefix hits       %llu (%.2f %%)\n",
		       (unsigned long long)l->block_refs, (unsigned long long)l->unique_blocks,
		       (unsigned long long)l->prefix_hits, 100.0 * (double)l->prefix_hits / (double)l->block_refs);
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		if (role[k])
			printf("share %-12s %.1f %%\n", ikv_kind_name((enum ikv_kind)k),
			       100.0 * (double)role[k] / (double)(appended + decoded));
}

int cmd_import(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"output", required_argument, NULL, 'o'},
	    {"from", required_argument, NULL, 'f'},
	    {"limit", required_argument, NULL, 'l'},
	    {"skip-bad", no_argument, NULL, 'b'},
	    {NULL, 0, NULL, 0},
	};
	struct session_options options = {.limit = 0};
	const char *output = NULL, *format = "auto";
	char *end;
	int c;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":o:", longs, NULL)) != -1) {
		if (c == 'o')
			output = optarg;
		else if (c == 'f')
			format = optarg;
		else if (c == 'b')
			options.skip_bad = true;
		else if (c == 'l') {
			long long limit = strtoll(optarg, &end, 10);
			if (*end || end == optarg || limit < 1 || limit > UINT32_MAX)
				return command_usage("import", "--limit: got \"%.40s\", expected a number from 1",
						     optarg);
			options.limit = (uint32_t)limit;
		} else
			return command_option("import", argv, longs, c);
	}
	if (optind + 1 != argc)
		return command_usage("import", "expected one file or folder");
	struct session_list list;
	struct ikv_err err;
	memset(&list, 0, sizeof list);
	if (session_import(argv[optind], format, &options, &list, &err))
		return command_fail(&err);
	int rc = output ? session_write(&list, output, &err) : 0;
	if (!rc) {
		summary(&list);
		rc = lengths(&list, &err);
	}
	session_list_free(&list);
	return rc ? command_fail(&err) : IKV_OK;
}

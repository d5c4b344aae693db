/* intentkv trace-stats: the distributions of a trace, their figures, and a profile that regenerates them. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/trace/stats.h"
#include "sim/trace/twin.h"
#include "sim/trace_figures.h"
#include "sim/trace_print.h"

const char cmd_trace_stats_help[] =
    "intentkv trace-stats TRACE [options]: lengths, turns, waits, reuse and roles of a trace "
    "(docs/trace-stats.md)\n\n"
    "  intentkv trace-stats trace.jsonl                       a table\n"
    "  intentkv trace-stats weka/ --format json -o figures    JSON, and figures in figures/\n\n"
    "      --from FORMAT    format instead of looking; `intentkv list importers`\n"
    "      --format FORMAT  table (default) or json\n"
    "      --fit FILE       write a profile that regenerates these statistics (`intentkv generate FILE`), and say\n"
    "                       how near it comes\n"
    "  -o, --output FOLDER  draw trace-lengths, -turns, -think, -roles and -reuse there\n"
    "      --tokenizer FILE a tokenizer.json that counts the tokens of text (default: four code points a token)\n"
    "      --block-tokens N content ids in blocks of N tokens instead of the trace's\n"
    "      --limit N        at most N sessions\n"
    "      --skip-bad       count broken records and go on\n";

struct arguments {
	const char *trace, *format, *folder, *fit, *tokenizer;
	bool json;
	struct session_options options;
};

static int read_arguments(int argc, char **argv, struct arguments *a)
{
	static const struct option longs[] = {
	    {"from", required_argument, NULL, 'F'},
	    {"format", required_argument, NULL, 'f'},
	    {"output", required_argument, NULL, 'o'},
	    {"limit", required_argument, NULL, 'l'},
	    {"skip-bad", no_argument, NULL, 'b'},
	    {"fit", required_argument, NULL, 'p'},
	    {"block-tokens", required_argument, NULL, 't'},
	    {"tokenizer", required_argument, NULL, 'T'},
	    {NULL, 0, NULL, 0},
	};
	int c;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":o:", longs, NULL)) != -1) {
		if (c == 'F')
			a->format = optarg;
		else if (c == 'o')
			a->folder = optarg;
		else if (c == 'T')
			a->tokenizer = optarg;
		else if (c == 'p')
			a->fit = optarg;
		else if (c == 'b')
			a->options.skip_bad = true;
		else if (c == 'f') {
			int rc = trace_print_format("trace-stats", optarg, &a->json);
			if (rc)
				return rc;
		} else if (c == 'l') {
			if (command_count("trace-stats", "--limit", optarg, 1, UINT32_MAX, &a->options.limit))
				return IKV_USAGE;
		} else if (c == 't') {
			if (command_count("trace-stats", "--block-tokens", optarg, 1, 65536,
					  &a->options.block_tokens))
				return IKV_USAGE;
		} else
			return command_option("trace-stats", argv, longs, c);
	}
	if (optind + 1 != argc)
		return command_usage("trace-stats", "expected one file or folder");
	a->trace = argv[optind];
	return 0;
}

static int write_profile(const struct arguments *a, const struct trace_stats *s, const struct twin *t,
			 struct ikv_err *err)
{
	char source[300];
	snprintf(source, sizeof source,
		 "fitted by intentkv trace-stats to a trace of the format %.40s: %u sessions, %u requests", s->format,
		 t->sessions, s->request_count);
	return twin_write(t, a->fit, "fitted", source, err);
}

/* What comes out of the profile, beside what went in. The table goes to stderr when stdout holds JSON. */
static int compare(const struct arguments *a, const struct trace_stats *s, const struct twin *t, struct ikv_err *err)
{
	struct generate_profile *profile;
	struct generate_config config = {.count = t->sessions};
	struct session_list list;
	struct trace_stats twin;
	FILE *f = a->json ? stderr : stdout;
	if (generate_profile_read(a->fit, &profile, err))
		return -1;
	int rc = session_generate(profile, &config, 1, &list, err);
	generate_profile_free(profile);
	if (rc)
		return -1;
	rc = trace_stats_collect(&list, &twin, err);
	session_list_free(&list);
	if (rc)
		return -1;
	fprintf(f, "\nprofile %s: the trace, what seed 1 regenerates, and the deviation\n", a->fit);
	static const enum stat_series series[] = {STAT_INPUT, STAT_OUTPUT, STAT_TURNS, STAT_PREFIX_HIT, STAT_THINK};
	for (size_t i = 0; i < sizeof series / sizeof *series; i++) {
		struct stat_summary x = stat_summarise(&s->values[series[i]]),
				    y = stat_summarise(&twin.values[series[i]]);
		const double pair[][2] = {{x.p50, y.p50}, {x.p90, y.p90}, {x.p99, y.p99}, {x.mean, y.mean}};
		static const char *const names[] = {"p50", "p90", "p99", "mean"};
		for (size_t k = 0; x.count && k < 4; k++) {
			double d = pair[k][0] != 0 ? 100 * (pair[k][1] / pair[k][0] - 1) : pair[k][1] != 0 ? 100 : 0;
			fprintf(f, "%-12s %-5s %12.6g %12.6g %+8.1f %%\n", k ? "" : stat_names[series[i]], names[k],
				pair[k][0], pair[k][1], d);
		}
	}
	trace_stats_free(&twin);
	return 0;
}

int cmd_trace_stats(int argc, char **argv)
{
	struct arguments a = {.format = "auto"};
	struct session_list list;
	struct trace_stats stats;
	struct ikv_err err;
	int rc = read_arguments(argc, argv, &a);
	if (rc)
		return rc;
	rc = session_options_tokenizer(&a.options, a.tokenizer, &err) ||
	     session_import(a.trace, a.format, &a.options, &list, &err);
	session_options_free(&a.options);
	if (rc)
		return command_fail(&err);
	rc = trace_stats_collect(&list, &stats, &err);
	if (rc) {
		session_list_free(&list);
		return command_fail(&err);
	}
	struct twin *twin = NULL;
	if (a.fit) {
		twin = ikv_alloc(1, sizeof *twin, &err);
		rc = twin ? twin_fit(&stats, &list, twin, &err) : -1;
	}
	session_list_free(&list);
	if (!rc && twin)
		rc = write_profile(&a, &stats, twin, &err);
	if (rc) {
		ikv_free(twin);
		trace_stats_free(&stats);
		return command_fail(&err);
	}
	rc = trace_print(&stats, a.json);
	if (!rc && a.folder)
		rc = trace_figures(&stats, a.folder);
	if (!rc && twin && compare(&a, &stats, twin, &err))
		rc = command_fail(&err);
	ikv_free(twin);
	trace_stats_free(&stats);
	return rc;
}

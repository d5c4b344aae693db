/* intentkv trace-stats: the distributions of a trace, their figures, and a profile that regenerates them. */
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/output.h"
#include "sim/trace/stats.h"
#include "sim/trace/twin.h"
#include "sim/trace_figures.h"
#include "sim/trace_print.h"

enum { FORMAT = COMMAND_FROM_VALUE + 1, FIT, TOKENIZER, BLOCK_TOKENS, LIMIT, SKIP_BAD };
static const struct command_option options[] = {
    {"output", 'o', "FOLDER", "/", NULL, "draw trace-lengths, -turns, -think, -roles and -reuse there"},
    {"fit", FIT, "FILE", "*.yaml", NULL,
     "write a profile that regenerates these statistics (`intentkv generate FILE`), and say how near it comes"},
    {"format", FORMAT, "FORMAT", "table json", "table", "form of the output"},
    COMMAND_FROM,
    {"tokenizer", TOKENIZER, "FILE", "*.json", NULL,
     "a tokenizer.json that counts the tokens of text (default: four code points a token)"},
    {"block-tokens", BLOCK_TOKENS, "N", NULL, NULL, "content ids in blocks of N tokens instead of the trace's"},
    {"limit", LIMIT, "N", NULL, NULL, "at most N sessions"},
    {"skip-bad", SKIP_BAD, NULL, NULL, NULL, "count broken records and go on"},
    {.name = NULL},
};

const struct command command_trace_stats = {
    .name = "trace-stats",
    .summary = "lengths, turns, waits, reuse and roles of a trace; fit a profile",
    .arguments = "TRACE",
    .words = {"*"},
    .examples = "intentkv trace-stats trace.jsonl\ta table\n"
		"intentkv trace-stats weka/ --format json -o figures\tJSON, and figures in figures/\n",
    .about = "docs/trace-stats.md explains the measures.\n",
    .options = options,
    .run = cmd_trace_stats,
};

struct arguments {
	const char *trace, *format, *folder, *fit, *tokenizer;
	bool json;
	struct session_options options;
};

static int read_arguments(int argc, char **argv, struct arguments *a)
{
	struct command_line line;
	int c;
	command_begin(&line, &command_trace_stats, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c == COMMAND_FROM_VALUE)
			a->format = optarg;
		else if (c == 'o')
			a->folder = optarg;
		else if (c == TOKENIZER)
			a->tokenizer = optarg;
		else if (c == FIT)
			a->fit = optarg;
		else if (c == SKIP_BAD)
			a->options.skip_bad = true;
		else if (c == FORMAT) {
			int rc = trace_print_format("trace-stats", optarg, &a->json);
			if (rc)
				return rc;
		} else if (c == LIMIT) {
			if (command_count("trace-stats", "--limit", optarg, 1, UINT32_MAX, &a->options.limit))
				return IKV_USAGE;
		} else if (c == BLOCK_TOKENS) {
			if (command_count("trace-stats", "--block-tokens", optarg, 1, 65536,
					  &a->options.block_tokens))
				return IKV_USAGE;
		} else
			return IKV_USAGE;
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
	return output_apart(a->fit, a->trace, err) ? -1 : twin_write(t, a->fit, "fitted", source, err);
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

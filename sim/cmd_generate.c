/* intentkv generate: sessions out of a profile, in the canonical form. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/trace/stats.h"
#include "sim/trace_print.h"

enum { COUNT = 256, SEED, CONTEXT, TURNS, DECODE, FORMAT };
static const struct command_option options[] = {
    {"output", 'o', "FILE", "*.jsonl", NULL, "write them in the canonical form (docs/traces.md)"},
    {"count", COUNT, "N", NULL, NULL, "sessions (default: as many as the profile was fitted on, else 8)"},
    {"seed", SEED, "S", NULL, "1", "of the random streams"},
    {"context-tokens", CONTEXT, "N", NULL, "0", "as of a scenario's sessions; 0: as the profile says"},
    {"turns", TURNS, "N", NULL, "0", "likewise"},
    {"max-decode-tokens", DECODE, "N", NULL, "0", "likewise"},
    {"format", FORMAT, "FORMAT", "table json", "table", "of the statistics"},
    {.name = NULL},
};

const struct command command_generate = {
    .name = "generate",
    .summary = "draw sessions from a profile and print their statistics",
    .arguments = "PROFILE",
    .words = {"<profiles>"},
    .examples = "intentkv generate coding-agent\twhat would come out\n"
		"intentkv generate twin.yaml -o sessions.jsonl\tfrom a profile that trace-stats fitted\n"
		"intentkv generate agentic-code --count 100 --seed 7 -o sessions.jsonl\n",
    .about = "PROFILE is a preset's name or a YAML file (docs/generator.md).\n",
    .options = options,
    .run = cmd_generate,
};

struct arguments {
	const char *profile, *output;
	bool json;
	int64_t count;
	uint64_t seed;
	struct generate_config config;
};

static int number(const char *option, const char *text, int64_t min, int64_t max, int64_t *out)
{
	char *end;
	long long n = strtoll(text, &end, 10);
	if (*end || end == text || n < min || n > max)
		return command_usage("generate", "--%s: got \"%.40s\", expected a number from %lld to %lld", option,
				     text, (long long)min, (long long)max);
	*out = n;
	return 0;
}

static int read_arguments(int argc, char **argv, struct arguments *a)
{
	struct command_line line;
	int64_t seed = 1;
	int c, rc = 0;
	command_begin(&line, &command_generate, argc, argv);
	while (!rc && (c = command_next(&line)) != -1) {
		if (c == 'o')
			a->output = optarg;
		else if (c == COUNT)
			rc = number("count", optarg, 1, 1000000, &a->count);
		else if (c == SEED)
			rc = number("seed", optarg, 0, INT64_MAX, &seed);
		else if (c == CONTEXT)
			rc = number("context-tokens", optarg, 0, 100000000, &a->config.context_tokens);
		else if (c == TURNS)
			rc = number("turns", optarg, 0, 1000000, &a->config.turns);
		else if (c == DECODE)
			rc = number("max-decode-tokens", optarg, 0, 1000000000, &a->config.max_decode_tokens);
		else if (c == FORMAT)
			rc = trace_print_format("generate", optarg, &a->json);
		else
			rc = IKV_USAGE;
	}
	if (!rc && optind + 1 != argc)
		rc = command_usage("generate", "expected one profile: a preset's name or a file");
	a->seed = (uint64_t)seed;
	a->profile = rc ? NULL : argv[optind];
	return rc;
}

static int generate(const struct arguments *a, struct session_list *list, struct ikv_err *err)
{
	struct generate_profile *profile;
	struct generate_config config = a->config;
	if (generate_profile_find(a->profile, &profile, err))
		return -1;
	uint32_t fitted = generate_profile_sessions(profile);
	config.count = a->count ? a->count : fitted ? fitted : 8;
	int rc = session_generate(profile, &config, a->seed, list, err);
	generate_profile_free(profile);
	return rc;
}

int cmd_generate(int argc, char **argv)
{
	struct arguments a = {.count = 0};
	struct session_list list;
	struct trace_stats stats;
	struct ikv_err err;
	int rc = read_arguments(argc, argv, &a);
	if (rc)
		return rc;
	if (generate(&a, &list, &err))
		return command_fail(&err);
	rc = trace_stats_collect(&list, &stats, &err);
	if (!rc) {
		stats_to_facts(&stats, &list.facts);
		rc = a.output ? session_write(&list, a.output, &err) : 0;
		if (!rc)
			trace_print(&stats, a.json);
		trace_stats_free(&stats);
	}
	session_list_free(&list);
	return rc ? command_fail(&err) : 0;
}

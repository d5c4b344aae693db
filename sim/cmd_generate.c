/* intentkv generate: sessions out of a profile, in the canonical form. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/trace/stats.h"
#include "sim/trace_print.h"

const char cmd_generate_help[] =
    "intentkv generate PROFILE [-o sessions.jsonl] [options]: draw sessions from a profile (docs/generator.md)\n\n"
    "  intentkv generate coding-agent                         what would come out\n"
    "  intentkv generate twin.yaml -o sessions.jsonl          from a profile that trace-stats fitted\n"
    "  intentkv generate agentic-code --count 100 --seed 7 -o sessions.jsonl\n\n"
    "  -o, --output FILE     write the canonical form (docs/traces.md)\n"
    "      --count N         sessions (default: as many as the profile was fitted on, else 8)\n"
    "      --seed S          of the random streams (default 1)\n"
    "      --context-tokens N, --turns N, --max-decode-tokens N\n"
    "                        as the keys of a scenario's sessions (default 0: as the profile says)\n"
    "      --format FORMAT   of what is printed: table (default) or json\n";

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
	static const struct option longs[] = {
	    {"output", required_argument, NULL, 'o'}, {"count", required_argument, NULL, 'n'},
	    {"seed", required_argument, NULL, 's'},   {"context-tokens", required_argument, NULL, 'c'},
	    {"turns", required_argument, NULL, 't'},  {"max-decode-tokens", required_argument, NULL, 'd'},
	    {"format", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0},
	};
	int64_t seed = 1;
	int c, rc = 0, at = 0;
	optind = opterr = 0;
	while (!rc && (c = getopt_long(argc, argv, ":o:", longs, &at)) != -1) {
		if (c == 'o')
			a->output = optarg;
		else if (c == 'n')
			rc = number("count", optarg, 1, 1000000, &a->count);
		else if (c == 's')
			rc = number("seed", optarg, 0, INT64_MAX, &seed);
		else if (c == 'c')
			rc = number("context-tokens", optarg, 0, 100000000, &a->config.context_tokens);
		else if (c == 't')
			rc = number("turns", optarg, 0, 1000000, &a->config.turns);
		else if (c == 'd')
			rc = number("max-decode-tokens", optarg, 0, 1000000000, &a->config.max_decode_tokens);
		else if (c == 'f')
			rc = trace_print_format("generate", optarg, &a->json);
		else
			rc = command_option("generate", argv, longs, c);
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

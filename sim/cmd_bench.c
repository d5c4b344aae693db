/* intentkv bench: measure what a run spends outside attention, and the residency policies, on this machine. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "sim/bench_mrc.h"
#include "sim/bench_policies.h"
#include "sim/command.h"

const char cmd_bench_help[] =
    "intentkv bench policies|mrc [--format table|json]: how fast policies are, no attention\n\n"
    "  intentkv bench policies\n"
    "  intentkv bench mrc\n\n"
    "policies: routers with scores given, at 128K tokens, 64 blocks and pages of 16, router and page plan only, one\n"
    "core; and the memory manager's step at 8K pages under byte pressure. Allocations during the timed steps are\n"
    "counted.\n"
    "mrc: residency policies over 10 million requests, Zipf(1.0) over a million ids, a cache of 100,000 objects, "
    "one\n"
    "core; ids are numbered and the trace is in memory before.\n\n"
    "      --format FORMAT  table (default) or json\n"
    "      --seconds S      measuring time of a row (default 0.5, mrc 2)\n";

static void table(const struct bench_policies_row *rows, uint32_t n, const struct bench_memory_row *memory)
{
	printf("%-12s %-22s %12s %8s %10s %12s\n", "router", "settings", "steps/s", "pages", "digest ns",
	       "allocations");
	for (uint32_t i = 0; i < n; i++)
		printf("%-12s %-22s %12.0f %8u %10.2f %12llu\n", rows[i].policy, rows[i].settings,
		       rows[i].steps_per_s, rows[i].pages, rows[i].digest_ns,
		       (unsigned long long)rows[i].allocations);
	printf("\n%-12s %8s %10s %12s %12s %12s\n", "manager", "pages", "selected", "us/step", "moves/step",
	       "allocations");
	printf("%-12s %8u %10u %12.1f %12.1f %12llu\n", "lru", memory->pages, memory->selected, memory->step_us,
	       memory->moves_per_step, (unsigned long long)memory->allocations);
}

static void json(const struct bench_policies_row *rows, uint32_t n, const struct bench_memory_row *memory)
{
	printf("[\n");
	for (uint32_t i = 0; i < n; i++)
		printf(" {\"router\":\"%s\",\"settings\":\"%s\",\"steps_per_s\":%.0f,\"pages\":%u,\"allocations\":%"
		       "llu},\n",
		       rows[i].policy, rows[i].settings, rows[i].steps_per_s, rows[i].pages,
		       (unsigned long long)rows[i].allocations);
	printf(" {\"manager\":\"lru\",\"pages\":%u,\"selected\":%u,\"step_us\":%.2f,\"moves_per_step\":%.2f,"
	       "\"allocations\":%llu}\n]\n",
	       memory->pages, memory->selected, memory->step_us, memory->moves_per_step,
	       (unsigned long long)memory->allocations);
}

static int bench_residency(const struct bench_mrc_setup *setup, bool as_json)
{
	struct bench_mrc_row rows[BENCH_MRC_ROWS];
	struct ikv_err err;
	uint32_t n;
	if (bench_mrc(setup, rows, &n, &err))
		return command_fail(&err);
	if (!as_json)
		printf("%-8s %12s %10s %10s\n", "policy", "M requests/s", "miss ratio", "objects");
	for (uint32_t i = 0; i < n; i++)
		printf(as_json ? "%s {\"policy\":\"%s\",\"requests_per_s\":%.0f,\"miss_ratio\":%.6f,\"objects\":%u}%s"
			       : "%s%-8s %12.2f %10.4f %10u%s",
		       !as_json ? ""
		       : i      ? ",\n"
				: "[\n",
		       rows[i].policy, as_json ? rows[i].rate : rows[i].rate / 1e6, rows[i].miss_ratio,
		       rows[i].objects, as_json ? "" : "\n");
	if (as_json)
		printf("\n]\n");
	return fflush(stdout) == 0 ? IKV_OK : IKV_IO;
}

int cmd_bench(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"format", required_argument, NULL, 'f'}, {"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0}};
	struct bench_policies_setup setup = bench_policies_defaults();
	struct bench_mrc_setup mrc = bench_mrc_defaults();
	bool as_json = false;
	char tail;
	int c;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c == 'f' && (!strcmp(optarg, "json") || !strcmp(optarg, "table")))
			as_json = !strcmp(optarg, "json");
		else if (c == 's' && sscanf(optarg, "%lf%c", &setup.seconds, &tail) == 1 && setup.seconds > 0)
			mrc.seconds = setup.seconds;
		else if (c == '?' || c == ':')
			return command_option("bench", argv, longs, c);
		else
			return command_usage("bench", "got \"%.40s\", expected %s", optarg,
					     c == 'f' ? "table or json" : "a number of seconds above 0");
	}
	if (optind + 1 == argc && !strcmp(argv[optind], "mrc"))
		return bench_residency(&mrc, as_json);
	if (optind + 1 != argc || strcmp(argv[optind], "policies") != 0)
		return command_usage("bench", "expected what to measure: policies or mrc");
	struct bench_policies_row rows[BENCH_POLICIES_ROWS];
	struct bench_memory_row memory;
	uint32_t n;
	struct ikv_err err;
	if (bench_policies_router(&setup, rows, &n, &err) || bench_policies_memory(&setup, &memory, &err))
		return command_fail(&err);
	if (as_json)
		json(rows, n, &memory);
	else
		table(rows, n, &memory);
	return IKV_OK;
}

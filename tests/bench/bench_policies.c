/* bench_policies [--format table|json] [--seconds S]: routers alone, one core. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/bench_policies.h"

static void print_json(const struct bench_policies_row *rows, uint32_t n)
{
	puts("[");
	for (uint32_t i = 0; i < n; i++)
		printf("  {\"policy\": \"%s\", \"settings\": \"%s\", \"steps_per_s\": %.0f, \"steps\": %llu, "
		       "\"allocations\": %llu, \"pages\": %u, \"digest_ns_per_page\": %.2f}%s\n",
		       rows[i].policy, rows[i].settings, rows[i].steps_per_s, (unsigned long long)rows[i].steps,
		       (unsigned long long)rows[i].allocations, rows[i].pages, rows[i].digest_ns,
		       i + 1 < n ? "," : "");
	puts("]");
}

static void print_table(const struct bench_policies_row *rows, uint32_t n)
{
	printf("%-12s %-10s %12s %10s %8s %12s\n", "policy", "settings", "steps/s", "allocs", "pages",
	       "digest ns/pg");
	for (uint32_t i = 0; i < n; i++)
		printf("%-12s %-10s %12.0f %10llu %8u %12.2f\n", rows[i].policy, rows[i].settings,
		       rows[i].steps_per_s, (unsigned long long)rows[i].allocations, rows[i].pages,
		       rows[i].digest_ns);
}

int main(int argc, char **argv)
{
	struct bench_policies_setup setup = bench_policies_defaults();
	struct bench_policies_row rows[BENCH_POLICIES_ROWS];
	struct ikv_err err;
	uint32_t n;
	int json = 0;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--format") && i + 1 < argc) {
			json = !strcmp(argv[++i], "json");
		} else if (!strcmp(argv[i], "--seconds") && i + 1 < argc) {
			setup.seconds = atof(argv[++i]);
		} else {
			fprintf(stderr, "usage: bench_policies [--format table|json] [--seconds S]\n");
			return IKV_USAGE;
		}
	}
	if (bench_policies_router(&setup, rows, &n, &err)) {
		fprintf(stderr, "bench_policies: %s\n", err.text);
		return IKV_FAILED;
	}
	if (json)
		print_json(rows, n);
	else
		print_table(rows, n);
	return 0;
}

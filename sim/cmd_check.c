/* intentkv check: read scenarios as a run would, and say what they mean. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/scenario.h"

const char cmd_check_help[] =
    "intentkv check SCENARIO.yaml… [-s KEY=VALUE]: check scenarios without running them\n\n"
    "  intentkv check scenarios/*.yaml\n"
    "  intentkv check my.yaml --params      with every effective setting and where it came from\n\n"
    "  -s, --set KEY=VALUE  override one key, as `run` does\n"
    "      --params         print the settings\n"
    "      --allow-path     the scenario may name files outside its own folder\n";

static void print_param(const struct param *p)
{
	command_print(stdout, p->key);
	printf("%*s ", strlen(p->key) < 36 ? (int)(36 - strlen(p->key)) : 0, "");
	command_print(stdout, p->value);
	printf("%*s %s\n", strlen(p->value) < 24 ? (int)(24 - strlen(p->value)) : 0, "", p->origin);
}

static int check_file(const char *path, char **overrides, int override_count, bool params, bool allow_path,
		      struct ikv_err *err)
{
	struct scenario_doc doc;
	struct sweep sweep = {.count = 0};
	int rc = scenario_read(path, &doc, err);
	if (rc)
		return -1;
	doc.allow_path = allow_path;
	for (int i = 0; !rc && i < override_count; i++)
		rc = scenario_override(&doc, overrides[i], err);
	if (!rc)
		rc = scenario_sweep(&doc, &sweep, err);
	for (uint32_t i = 0; !rc && i < sweep.count; i++) {
		struct scenario s;
		rc = scenario_resolve(&doc, sweep.points[i].root, &s, err);
		if (rc)
			break;
		rc = scenario_paths(&doc, sweep.points[i].root, &s, err);
		for (uint32_t p = 0; params && !rc && p < s.param_count; p++)
			print_param(&s.params[p]);
		scenario_free(&s);
	}
	if (!rc)
		printf("%s: good, %u run%s\n", path, sweep.count, sweep.count == 1 ? "" : "s");
	scenario_sweep_free(&sweep);
	scenario_doc_free(&doc);
	return rc;
}

int cmd_check(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"set", required_argument, NULL, 's'},
	    {"params", no_argument, NULL, 'p'},
	    {"allow-path", no_argument, NULL, 'a'},
	    {NULL, 0, NULL, 0},
	};
	char **overrides = calloc((size_t)argc, sizeof *overrides);
	int count = 0, c, worst = IKV_OK;
	bool params = false, allow_path = false;
	optind = opterr = 0;
	if (!overrides)
		return IKV_FAILED;
	while ((c = getopt_long(argc, argv, ":s:", longs, NULL)) != -1) {
		if (c == 's')
			overrides[count++] = optarg;
		else if (c == 'p')
			params = true;
		else if (c == 'a')
			allow_path = true;
		else {
			free(overrides);
			return command_option("check", argv, longs, c);
		}
	}
	if (optind == argc)
		worst = command_usage("check", "expected at least one scenario file");
	for (; optind < argc; optind++) {
		struct ikv_err err;
		if (check_file(argv[optind], overrides, count, params, allow_path, &err))
			worst = command_fail(&err);
	}
	free(overrides);
	return worst;
}

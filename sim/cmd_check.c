/* intentkv check: read scenarios as a run would, and say what they mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/scenario.h"

enum { PARAMS = 256, ALLOW_PATH };
static const struct command_option options[] = {
    {"set", 's', "KEY=VALUE", "<settings>", NULL, "override one key, as `run` does; may be repeated"},
    {"params", PARAMS, NULL, NULL, NULL, "print every effective setting and where it came from"},
    {"allow-path", ALLOW_PATH, NULL, NULL, NULL, "the scenario may name files outside its own folder"},
    {.name = NULL},
};

const struct command command_check = {
    .name = "check",
    .summary = "check scenarios without running them",
    .arguments = "SCENARIO.yaml...",
    .words = {"*.yaml"},
    .examples = "intentkv check scenarios/*.yaml\n"
		"intentkv check my.yaml --params\n",
    .options = options,
    .run = cmd_check,
};

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
	struct command_line line;
	char **overrides = calloc((size_t)argc, sizeof *overrides);
	int count = 0, c, worst = IKV_OK;
	bool params = false, allow_path = false;
	if (!overrides)
		return IKV_FAILED;
	command_begin(&line, &command_check, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c == 's')
			overrides[count++] = optarg;
		else if (c == PARAMS)
			params = true;
		else if (c == ALLOW_PATH)
			allow_path = true;
		else {
			free(overrides);
			return IKV_USAGE;
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

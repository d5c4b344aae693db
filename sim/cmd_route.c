/* intentkv route: one layout in, the kernel metadata out. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/route_case.h"

const char cmd_route_help[] =
    "intentkv route CASE.yaml [--format table|json]: route one layout and print the kernel metadata\n\n"
    "  intentkv route case.yaml\n"
    "  intentkv route case.json --format json\n\n"
    "A case has page_size, total_tokens, config (options of router semantic, memory_pressure, ladder) and blocks\n"
    "(name, start, end, policy, kind, score). JSON is accepted where YAML is. docs/route.md has an example.\n\n"
    "      --format FORMAT  table (default) or json\n";

static int print_json(const struct route_case *c, const struct ikv_route *route, struct ikv_err *err)
{
	json_t *root = route_case_json(c, route);
	if (!root)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = json_dumpf(root, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
	putchar('\n');
	json_decref(root);
	return rc ? ikv_err_set(err, IKV_IO, "writing the output failed") : 0;
}

static int route_file(const char *path, bool json, struct ikv_err *err)
{
	struct yaml_node *root;
	struct route_case c;
	struct ikv_route route;
	if (yaml_read(path, &root, err))
		return -1;
	int rc = route_case_read(root, path, &c, err);
	yaml_release(root);
	if (rc)
		return -1;
	rc = route_case_run(&c, &route, err);
	if (!rc) {
		if (json)
			rc = print_json(&c, &route, err);
		else
			route_case_table(&c, &route, stdout);
		ikv_route_free(&route);
	}
	route_case_free(&c);
	return rc;
}

int cmd_route(int argc, char **argv)
{
	static const struct option longs[] = {{"format", required_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
	bool json = false;
	int c;
	optind = opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (c != 'f')
			return command_option("route", argv, longs, c);
		if (strcmp(optarg, "json") != 0 && strcmp(optarg, "table") != 0)
			return command_usage("route", "--format %s: expected table or json", optarg);
		json = !strcmp(optarg, "json");
	}
	if (optind + 1 != argc)
		return command_usage("route", "expected one file");
	struct ikv_err err;
	return route_file(argv[optind], json, &err) ? command_fail(&err) : IKV_OK;
}

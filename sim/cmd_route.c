/* intentkv route: one layout in, the kernel metadata out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/route_case.h"

enum { FORMAT = 256 };
static const struct command_option options[] = {
    {"format", FORMAT, "FORMAT", "table json", "table", "form of the output"},
    {.name = NULL},
};

const struct command command_route = {
    .name = "route",
    .summary = "route one layout and print the kernel metadata",
    .arguments = "CASE.yaml",
    .words = {"*.yaml"},
    .examples = "intentkv route case.yaml\n"
		"intentkv route case.json --format json\n",
    .about = "A case has page_size, total_tokens, config (options of router semantic, memory_pressure, ladder) and "
	     "blocks (name, start, end, policy, kind, score). JSON is accepted where YAML is. docs/route.md has an "
	     "example.\n",
    .options = options,
    .run = cmd_route,
};

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

/* Names come from the case: nothing in them may act on the terminal. */
static int print_table(const struct route_case *c, const struct ikv_route *r, struct ikv_err *err)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	if (!to)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	route_case_table(c, r, to);
	if (fclose(to)) {
		free(text);
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		command_print(stdout, line);
		putchar('\n');
	}
	free(text);
	return 0;
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
		rc = json ? print_json(&c, &route, err) : print_table(&c, &route, err);
		ikv_route_free(&route);
	}
	route_case_free(&c);
	return rc;
}

int cmd_route(int argc, char **argv)
{
	struct command_line line;
	bool json = false;
	int c;
	command_begin(&line, &command_route, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c != FORMAT)
			return IKV_USAGE;
		if (strcmp(optarg, "json") != 0 && strcmp(optarg, "table") != 0)
			return command_usage("route", "--format %s: expected table or json", optarg);
		json = !strcmp(optarg, "json");
	}
	if (optind + 1 != argc)
		return command_usage("route", "expected one file");
	struct ikv_err err;
	return route_file(argv[optind], json, &err) ? command_fail(&err) : IKV_OK;
}

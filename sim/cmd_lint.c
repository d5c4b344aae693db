/* intentkv lint: everything that is wrong with a trace, each with its place, and a table of what was checked. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/trace/trace.h"

enum { FORMAT = COMMAND_FROM_VALUE + 1, MAX };
static const struct command_option options[] = {
    COMMAND_FROM,
    {"format", FORMAT, "FORMAT", "table json", "table", "form of the output"},
    {"max", MAX, "N", NULL, "200", "findings shown at most, 0: all; all are counted"},
    {.name = NULL},
};

const struct command command_lint = {
    .name = "lint",
    .summary = "say what is wrong with a trace",
    .arguments = "TRACE",
    .words = {"*"},
    .examples = "intentkv lint trace.jsonl\ta line for each finding, then a table of the checks\n"
		"intentkv lint weka/ --format json\n"
		"intentkv lint trace.csv.gz --from azure\n",
    .about = "An error keeps a record from being read; a warning does not.\n",
    .options = options,
    .exits = "65 there are errors; warnings do not count",
    .run = cmd_lint,
};

struct lint {
	bool as_json;
	uint64_t max, shown;
	uint64_t errors[CHECK_COUNT], warnings[CHECK_COUNT];
	json_t *findings; /* as_json */
	bool out_of_memory;
};

static json_t *as_text(const char *text)
{
	json_t *v = json_string(text);
	return v ? v : json_string("(not UTF-8)");
}

static void finding(void *ctx, const struct trace_finding *f)
{
	struct lint *l = ctx;
	const char *severity = f->warning ? "warning" : "error";
	(f->warning ? l->warnings : l->errors)[f->check]++;
	if (l->max && l->shown == l->max)
		return;
	l->shown++;
	if (!l->as_json) {
		command_print(stdout, f->text);
		printf(" [%s: %s]\n", severity, trace_check_names[f->check]);
		return;
	}
	json_t *o = json_object();
	int rc = json_object_set_new(o, "file", as_text(f->path));
	rc |= json_object_set_new(o, "line", json_integer(f->line));
	rc |= json_object_set_new(o, "check", json_string(trace_check_names[f->check]));
	rc |= json_object_set_new(o, "severity", json_string(severity));
	rc |= json_object_set_new(o, "text", as_text(f->text));
	rc |= json_array_append_new(l->findings, o);
	l->out_of_memory = l->out_of_memory || rc;
}

static uint64_t sum(const uint64_t counts[CHECK_COUNT])
{
	uint64_t n = 0;
	for (int i = 0; i < CHECK_COUNT; i++)
		n += counts[i];
	return n;
}

static void print_table(const struct lint *l, const struct trace_facts *f)
{
	uint64_t errors = sum(l->errors), warnings = sum(l->warnings);
	if (errors + warnings > l->shown)
		printf("... and %llu more\n", (unsigned long long)(errors + warnings - l->shown));
	printf("%s%-12s %8s %8s  %s\n", l->shown ? "\n" : "", "check", "errors", "warnings", "what it finds");
	for (int i = 0; i < CHECK_COUNT; i++)
		printf("%-12s %8llu %8llu  %s\n", trace_check_names[i], (unsigned long long)l->errors[i],
		       (unsigned long long)l->warnings[i], trace_check_texts[i]);
	printf("\nformat ");
	command_print(stdout, f->format);
	if (*f->form && strcmp(f->form, f->format) != 0)
		printf(", in the form of %s", f->form);
	printf("%s: %llu records read, %llu left out, %llu requests; %llu errors, %llu warnings\n",
	       f->detected ? " (detected)" : "", (unsigned long long)f->records, (unsigned long long)f->skipped,
	       (unsigned long long)f->requests, (unsigned long long)errors, (unsigned long long)warnings);
}

static int print_json(struct lint *l, const struct trace_facts *f, struct ikv_err *err)
{
	json_t *o = json_object(), *checks = json_object();
	int rc = o && checks ? 0 : -1;
	for (int i = 0; i < CHECK_COUNT; i++) {
		json_t *c = json_object();
		rc |= json_object_set_new(c, "errors", json_integer((json_int_t)l->errors[i]));
		rc |= json_object_set_new(c, "warnings", json_integer((json_int_t)l->warnings[i]));
		rc |= json_object_set_new(checks, trace_check_names[i], c);
	}
	rc |= json_object_set_new(o, "format", json_string(f->format));
	rc |= json_object_set_new(o, "detected", json_boolean(f->detected));
	rc |= json_object_set_new(o, "records", json_integer((json_int_t)f->records));
	rc |= json_object_set_new(o, "skipped", json_integer((json_int_t)f->skipped));
	rc |= json_object_set_new(o, "requests", json_integer((json_int_t)f->requests));
	rc |= json_object_set_new(o, "errors", json_integer((json_int_t)sum(l->errors)));
	rc |= json_object_set_new(o, "warnings", json_integer((json_int_t)sum(l->warnings)));
	rc |= json_object_set_new(o, "checks", checks);
	rc |= json_object_set(o, "findings", l->findings);
	if (rc || l->out_of_memory)
		rc = ikv_err_set(err, IKV_FAILED, "out of memory");
	else if (json_dumpf(o, stdout, JSON_INDENT(1)) || putchar('\n') == EOF)
		rc = ikv_err_set(err, IKV_IO, "writing the output failed");
	json_decref(o);
	return rc;
}

static int lint(const char *path, const char *format, struct lint *l, struct ikv_err *err)
{
	struct session_options how = {.finding = finding, .finding_ctx = l};
	struct trace_sink sink = {0};
	struct trace_facts facts;
	l->findings = json_array();
	if (!l->findings)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = trace_read(path, format, &how, &sink, &facts, err);
	if (!rc && l->as_json)
		rc = print_json(l, &facts, err);
	else if (!rc)
		print_table(l, &facts);
	json_decref(l->findings);
	return rc;
}

int cmd_lint(int argc, char **argv)
{
	struct command_line line;
	struct lint l = {.max = 200};
	struct ikv_err err;
	const char *format = "auto";
	char *end;
	int c;
	command_begin(&line, &command_lint, argc, argv);
	while ((c = command_next(&line)) != -1) {
		if (c == COMMAND_FROM_VALUE)
			format = optarg;
		else if (c == FORMAT && (!strcmp(optarg, "json") || !strcmp(optarg, "table")))
			l.as_json = !strcmp(optarg, "json");
		else if (c == FORMAT)
			return command_usage("lint", "--format: got \"%.40s\", expected table or json", optarg);
		else if (c == MAX) {
			long long max = strtoll(optarg, &end, 10);
			if (*end || end == optarg || max < 0)
				return command_usage("lint", "--max: got \"%.40s\", expected a number from 0",
						     optarg);
			l.max = (uint64_t)max;
		} else
			return IKV_USAGE;
	}
	if (optind + 1 != argc)
		return command_usage("lint", "expected one file or folder");
	if (lint(argv[optind], format, &l, &err))
		return command_fail(&err);
	return sum(l.errors) ? IKV_BAD_INPUT : IKV_OK;
}

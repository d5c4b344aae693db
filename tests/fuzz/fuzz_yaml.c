/* Scenarios come from strangers: parsed, swept and resolved, or refused with a message of one line's length. */
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { POINTS = 8 };

static void refused(const struct ikv_err *err)
{
	if (err->status == IKV_OK || err->text[0] == '\0')
		__builtin_trap();
}

static void resolve(const struct scenario_doc *doc)
{
	struct sweep sweep;
	struct ikv_err err = {0};
	if (scenario_sweep(doc, &sweep, &err)) {
		refused(&err);
		return;
	}
	for (uint32_t i = 0; i < sweep.count && i < POINTS; i++) {
		struct scenario *s = malloc(sizeof *s);
		if (s && scenario_resolve(doc, sweep.points[i].root, s, &err)) {
			refused(&err);
		} else if (s) {
			if (scenario_paths(doc, sweep.points[i].root, s, &err))
				refused(&err);
			scenario_free(s);
		}
		free(s);
	}
	scenario_sweep_free(&sweep);
}

/* The scenario, and after a NUL byte an assignment as -s takes it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scenario_doc doc = {.path = "fuzz.yaml"};
	struct ikv_err err = {0};
	char *text = calloc(size + 1, 1);
	if (!text || size > 1 << 14) {
		free(text);
		return 0;
	}
	memcpy(text, data, size);
	size_t length = strlen(text);
	if (yaml_parse(doc.path, text, length, &doc.root, &err)) {
		refused(&err);
	} else {
		doc.text = text;
		if (doc.root->type != YAML_MAP)
			;
		else if (length < size && scenario_override(&doc, text + length + 1, &err))
			refused(&err);
		else
			resolve(&doc);
		yaml_release(doc.root);
	}
	free(text);
	return 0;
}

/* `route`: one layout in, kernel metadata out. The logic without the command line.
 *
 * The document has page_size (or page_tokens), total_tokens, config and blocks, as the golden routing cases do;
 * a key `expect` is ignored. config takes the options of router `semantic` (preserve_system_prompt is another
 * name of preserve_system), memory_pressure, ladder (a preset) and its thresholds high and medium. Unlike in a
 * run, recent_window_tokens is 0 unless given: what the layout says is what is routed. */
#ifndef SIM_ROUTE_CASE_H
#define SIM_ROUTE_CASE_H

#include <jansson.h>
#include <stdio.h>
#include "sim/yaml.h"

struct route_case {
	struct ikv_layout layout; /* blocks and their names owned */
	char **names;             /* [layout.count] */
	double pressure;
	struct ikv_ladder ladder;
	void *config; /* of router `semantic` */
};

int route_case_read(const struct yaml_node *root, const char *file, struct route_case *out, struct ikv_err *err);
void route_case_free(struct route_case *c);

/* Route it; `route` is initialised here and freed by the caller. Nothing is left allocated on failure. */
int route_case_run(const struct route_case *c, struct ikv_route *route, struct ikv_err *err);

/* {"blocks": […], "pages": […], "prefetch_pages": […], "summary": {…}}; NULL when memory is out. */
json_t *route_case_json(const struct route_case *c, const struct ikv_route *route);
void route_case_table(const struct route_case *c, const struct ikv_route *route, FILE *to);

#endif

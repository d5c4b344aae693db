/* The row of a run: what it is, before its first step. */
#include <stdlib.h>
#include "sim/run.h"

int run_begin(struct run *run, const struct scenario_doc *doc, const char *label, const char *key,
	      struct ikv_err *err)
{
	const struct scenario *sc = run->sc;
	struct store_param *params = calloc(sc->param_count + 1, sizeof *params);
	if (!params)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	for (uint32_t i = 0; i < sc->param_count; i++)
		params[i] = (struct store_param){sc->params[i].key, sc->params[i].value, sc->params[i].origin};
	static const char *const execute[] = {"off", "sampled", "full"};
	struct ikv_backend_stats stats = {.isa = NULL};
	if (run->backend)
		run->backend_ops->stats(run->backend, &stats);
	struct store_run row = {
	    .name = sc->name,
	    .scenario_path = doc->path,
	    .scenario_text = doc->text,
	    .point = label,
	    .seed = (uint64_t)sc->seed,
	    .router = sc->router.name,
	    .scorer = sc->scorer.name,
	    .source = sc->kv.name,
	    .backend = run->backend ? run->backend_ops->name : "none",
	    .isa = stats.isa,
	    .execute = execute[sc->attention.execute],
	    .ladder =
		run->ladder == &run->uniform ? ikv_format_info(run->uniform_rule.format)->name : sc->ladder.name,
	    .model = sc->preset.name,
	    .machine = sc->machine.name,
	    .format = run->sessions->facts.format,
	    .threads = run->backend ? (int)run->threads : 0,
	    .params = params,
	    .param_count = sc->param_count,
	    .point_key = key,
	};
	int rc = store_run_begin(run->store, &row, &run->run_id, err);
	free(params);
	return rc;
}

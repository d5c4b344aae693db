/* Setting a run up: every part that the scenario names, opened against one geometry. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "gpu/gpu.h"
#include "sim/run.h"

enum { PROJECTION_ROWS = 64, APPEND_CHUNK = 2048 };

uint64_t wall_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void set_geometry(struct run *run)
{
	const struct scenario *sc = run->sc;
	run->kv = sc->attention.execute != EXECUTE_OFF;
	run->geometry = (struct ikv_geometry){
	    .layers = run->kv ? (uint32_t)sc->model.executed_layers : 1,
	    .page_tokens = (uint32_t)sc->memory.page_tokens,
	};
	model_geometry(&sc->preset, &run->geometry);
	for (uint32_t i = 0; i < run->geometry.layers; i++) /* in the middle of the stretch that it stands for */
		run->model_layers[i] = (2 * i + 1) * sc->preset.layers / (2 * run->geometry.layers);
}

static int open_source(struct run *run, struct ikv_err *err)
{
	struct source_setup setup = {
	    .geometry = run->geometry,
	    .model_layers = run->model_layers,
	    .sequences = run->batch,
	    .seed = (uint64_t)run->sc->seed,
	};
	if (run->sc->source->open(&run->source, run->sc->kv.config, &setup, err))
		return -1;
	run->geometry = setup.geometry;
	if (setup.layer_count)
		memcpy(run->model_layers, setup.layer_numbers, setup.layer_count * sizeof *run->model_layers);
	return 0;
}

/* A router that asks for one format for all it reads has its pages stored in that format; the others follow the
 * scenario's ladder. */
static void choose_ladder(struct run *run)
{
	const struct scenario *sc = run->sc;
	const struct ikv_option *format = ikv_option_find(sc->router.options, "format");
	run->ladder = &sc->ladder;
	if (!format)
		return;
	char name[64];
	enum ikv_format f;
	ikv_option_get(format, sc->router.config, name, sizeof name);
	if (ikv_format_by_name(name, &f))
		return;
	run->uniform = sc->ladder;
	run->uniform_rule = (struct ikv_ladder_rule){IKV_ANY, IKV_ANY, IKV_ANY, IKV_ANY, -1, f};
	run->uniform.rules = &run->uniform_rule;
	run->uniform.count = 1;
	run->ladder = &run->uniform;
}

static void count_units(struct run *run)
{
	const struct ikv_geometry *g = &run->geometry;
	uint32_t per_layer = run->share == IKV_SHARE_KV_HEAD ? g->kv_heads
			     : run->share == IKV_SHARE_HEAD  ? g->q_heads
							     : 1;
	uint32_t groups = run->share >= IKV_SHARE_KV_HEAD ? g->kv_heads : 1;
	run->units = run->share == IKV_SHARE_STEP ? 1 : g->layers * per_layer;
	run->groups = run->share == IKV_SHARE_STEP ? 1 : g->layers * groups;
}

static void place_unit(const struct run *run, uint32_t i, struct unit *u)
{
	const struct ikv_geometry *g = &run->geometry;
	uint32_t per_layer = run->share == IKV_SHARE_STEP ? 1 : run->units / g->layers,
		 in_kv = g->q_heads / g->kv_heads;
	u->layer = run->share == IKV_SHARE_STEP ? 0 : i / per_layer;
	u->q_count = g->q_heads / per_layer;
	u->q_first = i % per_layer * u->q_count;
	u->group = run->share == IKV_SHARE_HEAD ? u->layer * g->kv_heads + u->q_first / in_kv : i;
}

static void place_group(const struct run *run, uint32_t i, struct group *gr)
{
	const struct ikv_geometry *g = &run->geometry;
	uint32_t per_layer = run->share >= IKV_SHARE_KV_HEAD ? g->kv_heads : 1;
	gr->layer_first = run->share == IKV_SHARE_STEP ? 0 : i / per_layer;
	gr->layer_count = run->share == IKV_SHARE_STEP ? g->layers : 1;
	gr->kv_count = g->kv_heads / per_layer;
	gr->kv_first = i % per_layer * gr->kv_count;
}

/* Stored bytes of a page of one group, counted for all the model's layers that it stands for. */
static void set_page_bytes(struct run *run)
{
	const struct ikv_geometry *g = &run->geometry;
	uint64_t heads = run->share >= IKV_SHARE_KV_HEAD ? 1 : g->kv_heads;
	uint64_t layers = run->sc->preset.layers, shares = run->share == IKV_SHARE_STEP ? 1 : g->layers;
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		run->page_bytes[f] = layers * heads * model_page_bytes(g, (enum ikv_format)f) / shares;
}

static int open_memory(struct run *run, struct ikv_err *err)
{
	const struct scenario *sc = run->sc;
	struct ikv_memory_setup setup = {
	    .config = &sc->memory.manager,
	    .residency = sc->residency_ops,
	    .residency_config = sc->residency.config,
	    .tiers = sc->tiers,
	    .tier_count = sc->tier_count,
	    .page_tokens = run->geometry.page_tokens,
	    .sequences = run->batch,
	    .groups = run->groups,
	};
	memcpy(setup.page_bytes, run->page_bytes, sizeof setup.page_bytes);
	return ikv_memory_create(&run->memory, &setup, err);
}

static int pick_backend(struct run *run, struct ikv_err *err)
{
	char why[300];
	const char *name = backend_names[run->sc->attention.backend];
	/* auto is the CPU, so that a scenario runs alike with and without a card, and whatever its geometry */
	run->backend_ops = !strcmp(name, "cuda")  ? gpu_backend()
			   : !strcmp(name, "ref") ? &ikv_backend_ref
						  : &ikv_backend_cpu;
	if (!run->backend_ops->usable(why, sizeof why))
		return ikv_err_set(err, IKV_UNAVAILABLE, "attention.backend: \"%s\" cannot be used: %s", name, why);
	return 0;
}

bool run_scores_pages(const struct run *run)
{
	static const unsigned wants[] = {[IKV_PAGE_UNSCORED] = 0,
					 [IKV_PAGE_BOUND] = IKV_NEEDS_PAGE_SCORES | IKV_WANTS_PAGE_BOUNDS,
					 [IKV_PAGE_COSINE] = IKV_NEEDS_PAGE_SCORES | IKV_WANTS_PAGE_COSINES};
	/* At level off modelled mass stands for either. */
	const unsigned modelled = IKV_NEEDS_PAGE_SCORES | IKV_WANTS_PAGE_SCORES;
	return run->needs & (run->kv ? wants[run->sc->scorer_ops->page_scores] : modelled);
}

static int open_execution(struct run *run, struct ikv_err *err)
{
	const char *isa = getenv("INTENTKV_ISA"), *from = "INTENTKV_ISA";
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (!isa || !*isa) {
		isa = run->sc->attention.isa;
		from = "attention.isa";
	}
	run->threads = run->sc->attention.threads ? (uint32_t)run->sc->attention.threads
		       : cores > 0                ? (uint32_t)cores
						  : 1;
	struct ikv_backend_config config = {.threads = run->threads, .isa = isa, .sequences = run->batch};
	struct ikv_err e;
	if (pick_backend(run, err))
		return -1;
	run->selects = run->backend_ops->select && run->sc->attention.device_scores && run_scores_pages(run);
	config.selects = run->selects ? run->sc->scorer_ops->page_scores : IKV_PAGE_UNSCORED;
	if (ikv_isa_select(isa, &e))
		return ikv_err_set(err, e.status, "%s: %s", from, e.text);
	if (ikv_exact_create(&run->exact, &run->geometry, run->batch, err) ||
	    run->backend_ops->open(&run->backend, &run->geometry, &config, err))
		return -1;
	ikv_exact_set_threads(run->exact, run->threads);
	if (run->sc->attention.cold && bench_reader_create(&run->cool, BENCH_COOL_BYTES, run->threads, err))
		return -1;
	size_t row = (size_t)run->geometry.kv_heads * APPEND_CHUNK;
	run->k = ikv_alloc(row * run->geometry.d_qk, sizeof *run->k, err);
	run->v = ikv_alloc(row * run->geometry.d_v, sizeof *run->v, err);
	run->attn_units = ikv_alloc((size_t)run->batch * run->units, sizeof *run->attn_units, err);
	if (run->selects)
		run->select_units = ikv_alloc((size_t)run->batch * run->units, sizeof *run->select_units, err);
	if (!run->k || !run->v || !run->attn_units || (run->selects && !run->select_units))
		return -1;
	const struct scenario *sc = run->sc;
	if (sc->attention.prefill && prefill_open(run, err))
		return -1;
	return sc->scorer_ops->create(&run->scorer, sc->scorer.config, &run->geometry, run->batch, err);
}

static int open_spec(struct run *run, struct ikv_err *err)
{
	if (!run->sc->specattn.enabled)
		return 0;
	if (ikv_specattn_create(&run->spec, &run->sc->specattn, run->batch, err))
		return -1;
	size_t n = (size_t)PROJECTION_ROWS * run->geometry.q_heads * run->geometry.d_v;
	run->projection = ikv_alloc(n, sizeof *run->projection, err);
	if (!run->projection)
		return -1;
	struct ikv_rng rng;
	ikv_rng_stream(&rng, (uint64_t)run->sc->seed, IKV_STREAM_SPECATTN, 0, 0);
	double scale = 4 / sqrt((double)n / PROJECTION_ROWS);
	for (size_t i = 0; i < n; i++)
		run->projection[i] = (float)(ikv_rng_normal(&rng) * scale);
	return 0;
}

static int open_slot(struct run *run, struct slot *s, struct ikv_err *err)
{
	const struct ikv_geometry *g = &run->geometry;
	size_t rows = (size_t)g->layers * g->q_heads;
	s->units = ikv_alloc(run->units, sizeof *s->units, err);
	s->groups = ikv_alloc(run->groups, sizeof *s->groups, err);
	s->layers = ikv_alloc(g->layers, sizeof *s->layers, err);
	if (!s->units || !s->groups || !s->layers)
		return -1;
	for (uint32_t i = 0; i < run->units; i++) {
		place_unit(run, i, &s->units[i]);
		if (ikv_route_init(&s->units[i].route, g->page_tokens, 1, 1, err))
			return -1;
	}
	for (uint32_t i = 0; i < run->groups; i++) {
		place_group(run, i, &s->groups[i]);
		if (ikv_plan_init(&s->groups[i].plan, g->page_tokens, 1, err))
			return -1;
	}
	if (!run->kv)
		return 0;
	s->q = ikv_alloc(rows * g->d_qk, sizeof *s->q, err);
	s->out = ikv_alloc(rows * g->d_v, sizeof *s->out, err);
	s->dense = ikv_alloc(rows * g->d_v, sizeof *s->dense, err);
	s->lse_dense = ikv_alloc(g->q_heads, sizeof *s->lse_dense, err);
	return s->q && s->out && s->dense && s->lse_dense ? 0 : -1;
}

static int open_parts(struct run *run, struct ikv_err *err)
{
	const struct scenario *sc = run->sc;
	set_geometry(run);
	if (open_source(run, err))
		return -1;
	run->share = sc->router_ops->share(sc->router.config);
	run->needs = sc->router_ops->needs(sc->router.config);
	count_units(run);
	set_page_bytes(run);
	choose_ladder(run);
	if (run->kv && open_execution(run, err))
		return -1;
	if (open_memory(run, err) || open_spec(run, err) ||
	    sc->router_ops->create(&run->router, sc->router.config, run->ladder, err) ||
	    sc->prefetch_ops->create(&run->prefetcher, sc->prefetch.config, run->batch * run->groups, err))
		return -1;
	run->slots = ikv_alloc(run->batch, sizeof *run->slots, err);
	run->active = ikv_alloc(run->batch, sizeof *run->active, err);
	run->score_units = ikv_alloc((size_t)run->batch * run->units, sizeof *run->score_units, err);
	run->route_units = ikv_alloc(run->units, sizeof *run->route_units, err);
	run->uses = ikv_alloc((size_t)run->batch * run->groups, sizeof *run->uses, err);
	if (!run->slots || !run->active || !run->score_units || !run->route_units || !run->uses)
		return -1;
	for (uint32_t i = 0; i < run->batch; i++)
		if (open_slot(run, &run->slots[i], err))
			return -1;
	return 0;
}

int run_open(struct run *run, const struct scenario *sc, struct session_list *sessions, struct ikv_err *err)
{
	memset(run, 0, sizeof *run);
	run->sc = sc;
	run->sessions = sessions;
	run->batch = sc->sessions.batch < sessions->count ? (uint32_t)sc->sessions.batch : sessions->count;
	if (run->batch == 0)
		run->batch = 1;
	for (uint32_t i = 0; i < sessions->count; i++) {
		uint64_t appended, decoded;
		uint32_t longest;
		session_totals(&sessions->items[i], &appended, &decoded, &longest);
		run->steps_total += decoded;
	}
	if (open_parts(run, err)) {
		run_close(run);
		return -1;
	}
	return 0;
}

void run_close(struct run *run)
{
	const struct scenario *sc = run->sc;
	for (uint32_t i = 0; run->slots && i < run->batch; i++)
		slot_free(run, &run->slots[i]);
	if (run->source)
		run->source->ops->close(run->source);
	if (run->backend)
		run->backend_ops->close(run->backend);
	if (run->scorer)
		sc->scorer_ops->destroy(run->scorer);
	if (run->router)
		sc->router_ops->destroy(run->router);
	if (run->prefetcher)
		sc->prefetch_ops->destroy(run->prefetcher);
	ikv_exact_destroy(run->exact);
	bench_reader_destroy(run->cool);
	ikv_memory_destroy(run->memory);
	prefill_close(run);
	ikv_specattn_destroy(run->spec);
	ikv_free(run->projection);
	ikv_free(run->slots);
	ikv_free(run->active);
	ikv_free(run->score_units);
	ikv_free(run->select_units);
	ikv_free(run->route_units);
	ikv_free(run->uses);
	ikv_free(run->attn_units);
	ikv_free(run->scores);
	ikv_free(run->k);
	ikv_free(run->v);
	memset(run, 0, sizeof *run);
}

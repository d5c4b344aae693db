/* The memory manager alone: one sequence, one group, a plan that moves, a fast tier half the cache's size. */
#include <string.h>
#include <time.h>
#include "sim/bench_policies.h"

enum { RUNS = 8, RUN_PAGES = 128, RECENT_PAGES = 128, PINNED_PAGES = 64, DRIFT_STEPS = 16, WARM_STEPS = 200 };

struct rig {
	struct ikv_memory *memory;
	struct ikv_layout layout;
	struct ikv_block blocks[2];
	struct ikv_plan plan;
	struct ikv_rng rng;
	uint32_t pages, runs[RUNS];
};

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Pinned start, eight runs of pages of which one moves now and then, and the newest pages. */
static void make_plan(struct rig *r, uint64_t step)
{
	uint32_t body = r->pages - RECENT_PAGES - PINNED_PAGES, P = r->layout.page_tokens;
	if (step % DRIFT_STEPS == 0) { /* slot i keeps to the i-th eighth, so that runs never overlap */
		uint32_t i = (uint32_t)ikv_rng_below(&r->rng, RUNS), width = body / RUNS;
		r->runs[i] = PINNED_PAGES + i * width + (uint32_t)ikv_rng_below(&r->rng, width - RUN_PAGES);
	}
	ikv_plan_reset(&r->plan, r->layout.total_tokens);
	ikv_plan_add(&r->plan, 0, PINNED_PAGES * P, IKV_FMT_FP16, 0);
	for (int i = 0; i < RUNS; i++)
		ikv_plan_add(&r->plan, r->runs[i] * P, (r->runs[i] + RUN_PAGES) * P, IKV_FMT_INT8, 1);
	ikv_plan_add(&r->plan, (r->pages - RECENT_PAGES) * P, r->layout.total_tokens, IKV_FMT_FP8, 1);
}

static int set_up(struct rig *r, const struct bench_policies_setup *s, struct ikv_err *err)
{
	const struct ikv_residency_ops *lru = ikv_residency_find("lru");
	struct ikv_memory_config config;
	char residency[256] = {0};
	memset(r, 0, sizeof *r);
	memset(&config, 0, sizeof config);
	r->pages = ikv_pages(s->total_tokens, s->page_tokens);
	if (r->pages < 16 * RUN_PAGES || lru->config_bytes > sizeof residency)
		return ikv_err_set(err, IKV_BAD_INPUT, "total_tokens: too few for this measurement");
	ikv_option_defaults(ikv_memory_options, &config);
	ikv_option_defaults(lru->options, residency);
	struct ikv_memory_setup setup = {.config = &config,
					 .residency = lru,
					 .residency_config = residency,
					 .tier_count = 2,
					 .page_tokens = s->page_tokens,
					 .sequences = 1,
					 .groups = 1};
	for (int f = 0; f < IKV_FMT_COUNT; f++) /* 32 layers of 8 heads of 128 */
		setup.page_bytes[f] = 32u * 8 * (ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, s->page_tokens, 128) +
						 ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, s->page_tokens, 128));
	struct ikv_tier tiers[2] = {{"hbm", (int64_t)(setup.page_bytes[IKV_FMT_FP16] * r->pages / 2)}, {"host", 0}};
	setup.tiers = tiers;
	ikv_rng_stream(&r->rng, s->seed, IKV_STREAM_TEST, 0, 0);
	r->blocks[0] =
	    (struct ikv_block){.name = "system", .end = PINNED_PAGES * s->page_tokens, .policy = IKV_ALWAYS};
	r->blocks[1] = (struct ikv_block){.name = "rest",
					  .start = r->blocks[0].end,
					  .end = s->total_tokens,
					  .kind = IKV_KIND_TOOL_OUTPUT,
					  .policy = IKV_ATTEND,
					  .has_score = true,
					  .score = 0.8};
	r->layout = (struct ikv_layout){r->blocks, 2, s->total_tokens, s->page_tokens};
	uint32_t width = (r->pages - RECENT_PAGES - PINNED_PAGES) / RUNS;
	for (uint32_t i = 0; i < RUNS; i++)
		r->runs[i] = PINNED_PAGES + i * width;
	return ikv_plan_init(&r->plan, s->page_tokens, r->pages, err) || ikv_memory_create(&r->memory, &setup, err) ||
		       ikv_memory_grow(r->memory, 0, &r->layout, ikv_ladder_find("fp16"), s->pressure, err)
		   ? -1
		   : 0;
}

static int measure(struct rig *r, const struct bench_policies_setup *s, struct bench_memory_row *row,
		   struct ikv_err *err)
{
	struct ikv_memory_step out;
	double spent = 0;
	uint64_t steps = 0, moves = 0, before = 0, step = 0;
	for (; step < WARM_STEPS || spent < s->seconds; step++) {
		make_plan(r, step);
		struct ikv_memory_use use = {.plan = &r->plan, .layout = &r->layout, .pressure = s->pressure};
		if (step == WARM_STEPS)
			before = ikv_alloc_count();
		double t = now_s();
		if (ikv_memory_act(r->memory, step, &use, 1, &out, err))
			return -1;
		t = now_s() - t;
		if (step < WARM_STEPS)
			continue;
		spent += t;
		steps++;
		moves += out.action_count;
	}
	*row = (struct bench_memory_row){.pages = r->pages,
					 .selected = r->plan.count,
					 .step_us = 1e6 * spent / (double)steps,
					 .moves_per_step = (double)moves / (double)steps,
					 .allocations = ikv_alloc_count() - before};
	return 0;
}

int bench_policies_memory(const struct bench_policies_setup *setup, struct bench_memory_row *row, struct ikv_err *err)
{
	struct rig rig;
	int rc = set_up(&rig, setup, err);
	if (!rc)
		rc = measure(&rig, setup, row, err);
	ikv_plan_free(&rig.plan);
	ikv_memory_destroy(rig.memory);
	return rc;
}

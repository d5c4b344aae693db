#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sim/bench_policies.h"

/* A context in which every step is a little different: scores change, so do ranks. */
struct context {
	struct ikv_layout layout;
	char (*names)[12];
	float *page_scores, *page_mass;
	double *scores; /* [VARIANTS][blocks] */
};
#define VARIANTS 64

struct bench_policies_setup bench_policies_defaults(void)
{
	return (struct bench_policies_setup){131072, 16, 64, 0.5, 0.3, 1};
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void context_free(struct context *c)
{
	ikv_free(c->layout.blocks);
	ikv_free(c->names);
	ikv_free(c->page_scores);
	ikv_free(c->page_mass);
	ikv_free(c->scores);
}

static int context_alloc(struct context *c, const struct bench_policies_setup *s, struct ikv_err *err)
{
	const uint32_t pages = ikv_pages(s->total_tokens, s->page_tokens);
	memset(c, 0, sizeof *c);
	c->layout.blocks = ikv_alloc(s->blocks, sizeof *c->layout.blocks, err);
	c->names = ikv_alloc(s->blocks, sizeof *c->names, err);
	c->page_scores = ikv_alloc(pages, sizeof *c->page_scores, err);
	c->page_mass = ikv_alloc(pages, sizeof *c->page_mass, err);
	c->scores = ikv_alloc((size_t)VARIANTS * s->blocks, sizeof *c->scores, err);
	if (c->layout.blocks && c->names && c->page_scores && c->page_mass && c->scores)
		return 0;
	context_free(c);
	return -1;
}

/* Blocks of uneven length: a system prompt, tools, then ATTEND blocks with a SKIP block in every eight. */
static int context_make(struct context *c, const struct bench_policies_setup *s, struct ikv_err *err)
{
	struct ikv_rng r;
	if (!s->blocks || s->blocks > s->total_tokens)
		return ikv_err_set(err, IKV_BAD_INPUT, "blocks: got %u, expected from 1 to the %u tokens", s->blocks,
				   s->total_tokens);
	if (context_alloc(c, s, err))
		return -1;
	ikv_rng_stream(&r, s->seed, IKV_STREAM_TEST, 0, 0);
	c->layout.total_tokens = s->total_tokens;
	c->layout.page_tokens = s->page_tokens;
	c->layout.count = s->blocks;
	uint32_t at = 0;
	for (uint32_t i = 0; i < s->blocks; i++) {
		uint32_t left = s->total_tokens - at, more = s->blocks - i - 1, even = left / (more + 1);
		uint32_t n = more ? 1 + even / 2 + (uint32_t)ikv_rng_below(&r, even) : left;
		n = n > left - more ? left - more : n;
		snprintf(c->names[i], sizeof c->names[i], "b%u", i);
		c->layout.blocks[i] = (struct ikv_block){.name = c->names[i],
							 .start = at,
							 .end = at + n,
							 .kind = i ? IKV_KIND_TOOL_OUTPUT : IKV_KIND_SYSTEM,
							 .policy = i == 0       ? IKV_ALWAYS
								   : i == 1     ? IKV_GLOBAL
								   : i % 8 == 7 ? IKV_SKIP_BLOCK
										: IKV_ATTEND,
							 .has_score = true,
							 .uid = i + 1};
		at += n;
	}
	for (uint32_t i = 0; i < VARIANTS * s->blocks; i++)
		c->scores[i] = ikv_rng_uniform(&r);
	for (uint32_t p = 0; p < ikv_pages(s->total_tokens, s->page_tokens); p++) {
		c->page_scores[p] = (float)ikv_rng_normal(&r);
		c->page_mass[p] = (float)ikv_rng_uniform(&r);
	}
	return ikv_layout_validate(&c->layout, NULL, true, err);
}

static int step(const struct ikv_router_ops *ops, void *state, struct context *c, struct ikv_route_unit *u,
		struct ikv_err *err)
{
	const double *scores = c->scores + u->step % VARIANTS * c->layout.count;
	for (uint32_t i = 0; i < c->layout.count; i++)
		c->layout.blocks[i].score = scores[i];
	u->step++;
	return ops->act(state, u, 1, err);
}

static void time_digest(const struct ikv_plan *plan, struct bench_policies_row *row)
{
	const int rounds = 200;
	uint64_t sum = 0;
	double t = now_s();
	for (int i = 0; i < rounds; i++)
		sum = 3 * sum + ikv_plan_digest(plan);
	t = now_s() - t;
	row->digest_ns = plan->count ? 1e9 * t / rounds / plan->count : 0;
	row->plan_checksum = ikv_plan_digest(plan);
	if (sum == 0 && plan->count) /* keeps the loop alive */
		row->digest_ns = 0;
}

static int time_router(const struct ikv_router_ops *ops, const void *config, const struct bench_policies_setup *s,
		       struct context *c, struct bench_policies_row *row, struct ikv_err *err)
{
	const unsigned needs = ops->needs(config);
	struct ikv_route route;
	struct ikv_route_unit u = {
	    .layer = 16,
	    .q_count = 1,
	    .seed = s->seed,
	    .layout = &c->layout,
	    .pressure = s->pressure,
	    .route = &route,
	    .page_scores = needs & (IKV_NEEDS_PAGE_SCORES | IKV_WANTS_PAGE_SCORES) ? c->page_scores : NULL,
	    .page_mass = needs & IKV_NEEDS_COMING_MASS ? c->page_mass : NULL};
	void *state = NULL;
	int rc = ikv_route_init(&route, s->page_tokens, ikv_pages(s->total_tokens, s->page_tokens), s->blocks, err);
	if (!rc)
		rc = ops->create(&state, config, NULL, err);
	for (int warm = 0; !rc && warm < VARIANTS; warm++)
		rc = step(ops, state, c, &u, err);
	const uint64_t allocations = ikv_alloc_count();
	double t = now_s(), spent = 0;
	while (!rc && spent < s->seconds) {
		for (int i = 0; i < VARIANTS && !rc; i++)
			rc = step(ops, state, c, &u, err);
		row->steps += VARIANTS;
		spent = now_s() - t;
	}
	if (!rc) {
		row->allocations = ikv_alloc_count() - allocations;
		row->steps_per_s = (double)row->steps / spent;
		row->pages = route.plan.count;
		time_digest(&route.plan, row);
	}
	if (state)
		ops->destroy(state);
	ikv_route_free(&route);
	return rc;
}

static int add_row(const struct ikv_router_ops *ops, const char *budget, const struct bench_policies_setup *s,
		   struct context *c, struct bench_policies_row *rows, uint32_t *count, struct ikv_err *err)
{
	struct bench_policies_row *row = &rows[*count];
	void *config = ikv_alloc(1, ops->config_bytes, err);
	if (!config || *count >= BENCH_POLICIES_ROWS) {
		ikv_free(config);
		return config ? ikv_err_set(err, IKV_FAILED, "more routers than rows of the benchmark") : -1;
	}
	ikv_option_defaults(ops->options, config);
	memset(row, 0, sizeof *row);
	row->policy = ops->name;
	row->settings = "default";
	int rc = 0;
	if (budget) {
		row->settings = budget;
		rc = ikv_option_set(ops->options, config, "budget", budget, err);
	}
	if (!rc)
		rc = time_router(ops, config, s, c, row, err);
	ikv_free(config);
	*count += rc == 0;
	return rc;
}

int bench_policies_router(const struct bench_policies_setup *setup, struct bench_policies_row *rows, uint32_t *count,
			  struct ikv_err *err)
{
	struct context c;
	*count = 0;
	if (context_make(&c, setup, err))
		return -1;
	int rc = 0;
	for (const struct ikv_router_ops *const *r = ikv_routers(); *r && !rc; r++)
		rc = add_row(*r, NULL, setup, &c, rows, count, err);
	if (!rc)
		rc = add_row(ikv_router_find("semantic"), "10%", setup, &c, rows, count, err);
	context_free(&c);
	return rc;
}

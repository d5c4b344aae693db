/* Every router of the table against shared invariants, and the semantic router's own rules. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

#define PAGE  16
#define MOST  40000u
#define PAGES (MOST / PAGE + 1)

static struct ikv_block blocks[200];
static char names[200][8];
static float scores[PAGES], mass[PAGES];
static struct ikv_layout layout = {.blocks = blocks, .page_tokens = PAGE};
static struct ikv_err err;

/* A random layout with gaps, and page scores with many ties. */
static void make(uint64_t seed, uint32_t total)
{
	struct ikv_rng r;
	ikv_rng_stream(&r, seed, IKV_STREAM_TEST, 1, 0);
	layout.total_tokens = total;
	layout.count = 0;
	for (uint32_t at = (uint32_t)ikv_rng_below(&r, 30); at < total && layout.count < 200;) {
		struct ikv_block *b = &blocks[layout.count];
		uint32_t n = 1 + (uint32_t)ikv_rng_below(&r, 900);
		snprintf(names[layout.count], sizeof names[0], "b%u", layout.count);
		*b = (struct ikv_block){.name = names[layout.count],
					.start = at,
					.end = at + n < total ? at + n : total,
					.kind = (enum ikv_kind)ikv_rng_below(&r, IKV_KIND_COUNT),
					.policy = layout.count ? (enum ikv_policy)ikv_rng_below(&r, IKV_POLICY_COUNT)
							       : IKV_ALWAYS};
		b->has_score = b->policy == IKV_ATTEND || ikv_rng_below(&r, 2);
		b->score = b->has_score ? (double)ikv_rng_below(&r, 20) / 20 : 0;
		at = b->end + (ikv_rng_below(&r, 3) ? 0 : (uint32_t)ikv_rng_below(&r, 40));
		layout.count++;
	}
	for (uint32_t p = 0; p < PAGES; p++) {
		scores[p] = (float)ikv_rng_below(&r, 50) - 25;
		mass[p] = (float)ikv_rng_uniform(&r) / 1000;
	}
	ck_assert_msg(!ikv_layout_validate(&layout, NULL, true, &err), "%s", err.text);
}

struct bench {
	const struct ikv_router_ops *ops;
	void *config, *state;
	struct ikv_route route;
	struct ikv_route_unit unit;
};

static bool has_option(const struct ikv_router_ops *ops, const char *name)
{
	return ikv_option_find(ops->options, name) != NULL;
}

static void open_router(struct bench *b, const struct ikv_router_ops *ops, const char *const *settings)
{
	memset(b, 0, sizeof *b);
	b->ops = ops;
	b->config = calloc(1, ops->config_bytes);
	ikv_option_defaults(ops->options, b->config);
	for (; settings && *settings; settings += 2)
		ck_assert_msg(!ikv_option_set(ops->options, b->config, settings[0], settings[1], &err), "%s",
			      err.text);
	ck_assert_msg(!ops->create(&b->state, b->config, NULL, &err), "%s", err.text);
	ck_assert_int_eq(ikv_route_init(&b->route, PAGE, PAGES, 200, &err), 0);
	unsigned needs = ops->needs(b->config);
	b->unit = (struct ikv_route_unit){.seq = 1,
					  .layer = 5,
					  .q_count = 4,
					  .step = 9,
					  .seed = 42,
					  .layout = &layout,
					  .pressure = 0.5,
					  .route = &b->route,
					  .page_scores =
					      needs & (IKV_NEEDS_PAGE_SCORES | IKV_WANTS_PAGE_SCORES) ? scores : NULL,
					  .page_mass = needs & IKV_NEEDS_COMING_MASS ? mass : NULL};
}

static void close_router(struct bench *b)
{
	b->ops->destroy(b->state);
	ikv_route_free(&b->route);
	free(b->config);
}

static void act(struct bench *b)
{
	ck_assert_msg(!b->ops->act(b->state, &b->unit, 1, &err), "%s: %s", b->ops->name, err.text);
}

/* Pages ascending, inside the context; decisions cover the blocks and their tokens are the plan's. */
static void check_route(const struct bench *b)
{
	const struct ikv_plan *p = &b->route.plan;
	uint64_t tokens = 0, in_blocks = 0;
	for (uint32_t i = 0; i < p->count; i++) {
		const struct ikv_page_ref *r = &p->pages[i];
		ck_assert(!i || r->page > r[-1].page);
		ck_assert_uint_lt(r->lo, r->hi);
		ck_assert_uint_le(r->page * PAGE + r->hi, layout.total_tokens);
		ck_assert_uint_ne(r->request, IKV_FMT_SKIP);
		tokens += ikv_plan_page_tokens(p, r);
	}
	ck_assert_uint_eq(tokens, p->selected_tokens);
	uint32_t next = 0;
	for (uint32_t i = 0; i < b->route.decision_count; i++) {
		const struct ikv_decision *d = &b->route.decisions[i];
		const struct ikv_block *own = &blocks[d->block];
		char text[200];
		ck_assert_uint_eq(d->start, i && d->block == d[-1].block ? d[-1].end : own->start);
		ck_assert(d->block == next || (next && d->block == next - 1));
		next = d->block + 1;
		uint32_t found = 0;
		for (uint32_t k = 0; k < p->count; k++)
			for (uint32_t t = 0; t < PAGE; t++) {
				uint32_t at = p->pages[k].page * PAGE + t;
				found += at >= d->start && at < d->end && ikv_plan_has(p, &p->pages[k], t);
			}
		ck_assert_uint_eq(found, d->selected_tokens);
		ck_assert_int_eq(d->code == IKV_SKIP, d->selected_tokens == 0);
		ck_assert_int_eq(d->format == IKV_FMT_SKIP, d->selected_tokens == 0);
		in_blocks += d->selected_tokens;
		ikv_decision_explain(d, text, sizeof text);
		ck_assert_uint_gt(strlen(text), 10);
	}
	ck_assert_uint_eq(next, layout.count);
	ck_assert_uint_le(in_blocks, tokens);
	for (uint32_t i = 0; i < b->route.prefetch_count; i++) {
		ck_assert_uint_lt(b->route.prefetch[i], ikv_pages(layout.total_tokens, PAGE));
		for (uint32_t k = 0; k < p->count; k++)
			ck_assert_uint_ne(p->pages[k].page, b->route.prefetch[i]);
		for (uint32_t k = 0; k < i; k++)
			ck_assert_uint_ne(b->route.prefetch[k], b->route.prefetch[i]);
	}
}

START_TEST(conformance)
{
	const struct ikv_router_ops *ops = ikv_routers()[_i];
	static const uint32_t totals[] = {1, 15, 16, 17, 700, 5000};
	struct bench a, b;
	ck_assert_ptr_eq(ikv_router_find(ops->name), ops);
	open_router(&a, ops, NULL);
	open_router(&b, ops, NULL);
	ck_assert_int_le(ops->share(a.config), IKV_SHARE_HEAD);
	for (uint64_t k = 0; k < 24; k++) {
		make(k, totals[k % 6]);
		a.unit.step = b.unit.step = k;
		uint64_t allocs = ikv_alloc_count();
		act(&a);
		ck_assert_uint_eq(ikv_alloc_count(), allocs);
		check_route(&a);
		uint64_t digest = ikv_plan_digest(&a.route.plan);
		act(&b);
		ck_assert_uint_eq(digest, ikv_plan_digest(&b.route.plan));
		/* A router that does not declare it never looks at the coming mass. */
		if (!(ops->needs(a.config) & IKV_NEEDS_COMING_MASS)) {
			a.unit.page_mass = mass;
			act(&a);
			ck_assert_uint_eq(digest, ikv_plan_digest(&a.route.plan));
			a.unit.page_mass = NULL;
		}
	}
	size_t size = ops->save(a.state, NULL, 0);
	void *saved = calloc(1, size + 1);
	ck_assert_uint_eq(ops->save(a.state, saved, size), size);
	ck_assert_int_eq(ops->load(b.state, saved, size, &err), 0);
	free(saved);
	close_router(&a);
	close_router(&b);
}
END_TEST

START_TEST(budgets_are_kept)
{
	const struct ikv_router_ops *ops = ikv_routers()[_i];
	static const char *const budgets[] = {"1", "100", "5%", "25%", "100%"};
	if (!has_option(ops, "budget"))
		return;
	for (int k = 0; k < 5; k++) {
		const char *const settings[] = {"budget", budgets[k], NULL};
		struct ikv_option o = *ikv_option_find(ops->options, "budget");
		struct ikv_budget limit;
		struct bench b;
		open_router(&b, ops, settings);
		memcpy(&limit, (char *)b.config + o.offset, sizeof limit);
		for (uint64_t seed = 0; seed < 12; seed++) {
			make(seed, 300 + (uint32_t)seed * 800);
			uint32_t most = ikv_budget_pages(&limit, layout.total_tokens, PAGE);
			most = !strcmp(ops->name, "quest") && most < 3 ? 3 : most; /* as its paper has it */
			uint64_t allocs = ikv_alloc_count();
			act(&b);
			ck_assert_uint_eq(ikv_alloc_count(), allocs);
			ck_assert_uint_le(b.route.plan.count, most);
			ck_assert_uint_gt(b.route.plan.count, 0);
			if (strcmp(ops->name, "semantic") != 0)
				ck_assert_uint_ge(b.route.plan.count + 1, most);
			check_route(&b);
		}
		close_router(&b);
	}
}
END_TEST

START_TEST(a_mass_is_for_oracles)
{
	const struct ikv_router_ops *ops = ikv_routers()[_i];
	struct ikv_budget b = {IKV_BUDGET_MASS, 0.9};
	const struct ikv_option *o = ikv_option_find(ops->options, "budget");
	void *config = calloc(1, ops->config_bytes), *state;
	ikv_option_defaults(ops->options, config);
	if (o) {
		memcpy((char *)config + o->offset, &b, sizeof b);
		bool oracle = ops->needs(config) & IKV_NEEDS_COMING_MASS;
		ck_assert_int_eq(ops->create(&state, config, NULL, &err), oracle ? 0 : -1);
		if (oracle)
			ops->destroy(state);
	}
	free(config);
}
END_TEST

/* Best pages against a full sort: score, ties by lower page. */
static void expect_best(const struct bench *b, const float *by, uint32_t n)
{
	uint32_t pages = ikv_pages(layout.total_tokens, PAGE), k = b->route.plan.count;
	ck_assert_uint_eq(k, n < pages ? n : pages);
	for (uint32_t i = 0; i < k; i++) {
		uint32_t page = b->route.plan.pages[i].page, before = 0;
		for (uint32_t p = 0; p < pages; p++)
			before += by[p] > by[page] || (by[p] == by[page] && p < page);
		ck_assert_uint_lt(before, k);
	}
}

START_TEST(quest_and_oracle_take_the_best_pages)
{
	static const char *const tokens[] = {"budget", "1600", NULL}, *const share[] = {"budget", "mass:0.9", NULL};
	struct bench b;
	make(7, 9000);
	open_router(&b, ikv_router_find("quest"), tokens);
	act(&b);
	expect_best(&b, scores, 100);
	b.unit.layer = 1; /* of the two dense ones */
	act(&b);
	ck_assert_uint_eq(b.route.plan.selected_tokens, 9000);
	close_router(&b);
	open_router(&b, ikv_router_find("oracle"), tokens);
	act(&b);
	expect_best(&b, mass, 100);
	close_router(&b);
	open_router(&b, ikv_router_find("oracle"), share);
	act(&b);
	double all = 0, got = 0, least = 1;
	for (uint32_t p = 0; p < ikv_pages(9000, PAGE); p++)
		all += (double)mass[p];
	for (uint32_t i = 0; i < b.route.plan.count; i++) {
		double m = (double)mass[b.route.plan.pages[i].page];
		got += m;
		least = m < least ? m : least;
	}
	ck_assert(got >= 0.9 * all && got - least < 0.9 * all);
	expect_best(&b, mass, b.route.plan.count);
	close_router(&b);
}
END_TEST

/* Scores of all magnitudes and signs, often equal ones, zeros and infinities; any budget. */
START_TEST(best_pages_of_any_scores)
{
	static const float rare[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1e-42f, 3e38f};
	struct ikv_rng r;
	ikv_rng_stream(&r, 12, IKV_STREAM_TEST, 0, 0);
	for (uint64_t n = 0; n < 300; n++) {
		const uint32_t total = 100 + (uint32_t)ikv_rng_below(&r, 12000), pages = ikv_pages(total, PAGE);
		const uint32_t want = 3 + (uint32_t)ikv_rng_below(&r, pages), kinds = 1 + (uint32_t)ikv_rng_below(&r, 2000);
		char tokens[16];
		const char *const settings[] = {"budget", tokens, NULL};
		const double spread = n % 3 == 0 ? 80 : n % 3 == 1 ? 1 : 1e-6;
		struct bench b;
		snprintf(tokens, sizeof tokens, "%u", want * PAGE);
		make(n, total);
		for (uint32_t p = 0; p < pages; p++) {
			double x = floor((double)kinds * ikv_rng_uniform(&r)) / kinds;
			scores[p] = (float)((ikv_rng_below(&r, 4) ? 1 : -1) * exp(spread * (2 * x - 1)));
			if (!ikv_rng_below(&r, 50))
				scores[p] = rare[ikv_rng_below(&r, 6)];
		}
		open_router(&b, ikv_router_find("quest"), settings);
		act(&b);
		expect_best(&b, scores, want);
		close_router(&b);
	}
}
END_TEST

/* A choice made elsewhere, by the number that the router asks for, gives the same plan and decisions. */
START_TEST(quest_takes_a_choice_made_elsewhere)
{
	static const char *const tokens[] = {"budget", "1600", NULL}, *const all[] = {"budget", "9000", NULL};
	const struct ikv_router_ops *quest = ikv_router_find("quest");
	uint64_t chosen[(9000 / PAGE + 1) / 64 + 1] = {0}, digest;
	struct bench b;
	make(8, 9000);
	open_router(&b, quest, tokens);
	act(&b);
	digest = ikv_plan_digest(&b.route.plan);
	ck_assert_uint_eq(quest->top_pages(b.state, &b.unit), b.route.plan.count);
	for (uint32_t i = 0; i < b.route.plan.count; i++)
		chosen[b.route.plan.pages[i].page / 64] |= (uint64_t)1 << b.route.plan.pages[i].page % 64;
	b.unit.top_pages = chosen;
	b.unit.page_scores = NULL;
	act(&b);
	ck_assert_uint_eq(ikv_plan_digest(&b.route.plan), digest);
	b.unit.layer = 0; /* a dense one: nothing is asked for */
	ck_assert_uint_eq(quest->top_pages(b.state, &b.unit), 0);
	close_router(&b);
	open_router(&b, quest, all);
	ck_assert_uint_eq(quest->top_pages(b.state, &b.unit), 0);
	close_router(&b);
}
END_TEST

START_TEST(streaming_and_recency)
{
	static const char *const budget[] = {"budget", "160", NULL};
	struct bench b;
	make(1, 5000);
	open_router(&b, ikv_router_find("streaming"), NULL);
	act(&b);
	ck_assert_uint_eq(b.route.plan.selected_tokens, 2004);
	ck_assert_uint_eq(b.route.plan.pages[0].hi, 4);
	close_router(&b);
	open_router(&b, ikv_router_find("streaming"), budget);
	act(&b);
	ck_assert_uint_eq(b.route.plan.count, 10);
	ck_assert_uint_eq(b.route.plan.pages[0].hi, 4);
	ck_assert_uint_eq(b.route.plan.pages[1].page, ikv_pages(5000, PAGE) - 9);
	close_router(&b);
	open_router(&b, ikv_router_find("recency"), NULL);
	act(&b);
	ck_assert_uint_eq(b.route.plan.selected_tokens, 4096);
	close_router(&b);
}
END_TEST

START_TEST(random_depends_on_its_seed_only)
{
	struct bench b;
	make(1, 30000);
	open_router(&b, ikv_router_find("random"), NULL);
	act(&b);
	uint64_t first = ikv_plan_digest(&b.route.plan);
	ck_assert_uint_eq(b.route.plan.count, 64);
	b.unit.step++;
	act(&b);
	ck_assert_uint_ne(first, ikv_plan_digest(&b.route.plan));
	b.unit.step--;
	b.unit.q_first = 4;
	act(&b);
	ck_assert_uint_ne(first, ikv_plan_digest(&b.route.plan));
	b.unit.q_first = 0;
	act(&b);
	ck_assert_uint_eq(first, ikv_plan_digest(&b.route.plan));
	close_router(&b);
}
END_TEST

static void set_blocks(uint32_t n, const struct ikv_block *from, uint32_t total)
{
	memcpy(blocks, from, n * sizeof *from);
	layout.count = n;
	layout.total_tokens = total;
}

START_TEST(semantic_splits_at_the_recent_window)
{
	static const char *const settings[] = {"recent_window_tokens", "100", NULL};
	const struct ikv_block two[] = {
	    {.name = "s", .start = 0, .end = 50, .policy = IKV_GLOBAL},
	    {.name = "u", .start = 50, .end = 950, .policy = IKV_ATTEND, .has_score = true, .score = 0.1},
	    {.name = "k", .start = 950, .end = 1000, .policy = IKV_SKIP_BLOCK},
	};
	struct bench b;
	set_blocks(3, two, 1000);
	open_router(&b, ikv_router_find("semantic"), settings);
	act(&b);
	const struct ikv_decision *d = b.route.decisions;
	ck_assert_uint_eq(b.route.decision_count, 4);
	ck_assert_int_eq(d[0].code, IKV_PIN_HIGH_PRECISION);
	ck_assert(d[1].end == 900 && d[1].reason == IKV_WHY_LADDER_SKIP && d[1].rank == 0 && !d[1].recent);
	ck_assert(d[2].start == 900 && d[2].recent && d[2].format == IKV_FMT_FP8 && d[2].score == 0.1);
	ck_assert(d[3].recent && d[3].reason == IKV_WHY_RECENT && d[3].code == IKV_SELECT);
	ck_assert_uint_eq(b.route.plan.selected_tokens, 150);
	/* No skipped block reaches the threshold: the neighbours of [0, 50) and [900, 1000). */
	ck_assert_uint_eq(b.route.prefetch_count, 2);
	ck_assert(b.route.prefetch[0] == 4 && b.route.prefetch[1] == 55);
	blocks[1].has_score = false;
	ck_assert_int_eq(b.ops->act(b.state, &b.unit, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "block \"u\" [50, 900) is ATTEND and has no score"));
	close_router(&b);
}
END_TEST

START_TEST(semantic_budget_prefers_pins_and_scores)
{
	static const char *const quest[] = {"recent_window_tokens", "160", "budget", "20%", NULL};
	static const char *const cosine[] = {"recent_window_tokens", "160", "budget", "20%", "refine", "cosine", NULL};
	static const char *const none[] = {"recent_window_tokens", "0", "budget", "10%", "refine", "none", NULL};
	static const char *const pins[] = {"recent_window_tokens", "0", "budget", "10%", "refine", "none",
					   "pinned_share",         "1", NULL};
	const struct ikv_block four[] = {
	    {.name = "s", .start = 0, .end = 160, .policy = IKV_GLOBAL},
	    {.name = "a", .start = 160, .end = 8000, .policy = IKV_ATTEND, .has_score = true, .score = 0.9},
	    {.name = "b", .start = 8000, .end = 15840, .policy = IKV_ATTEND, .has_score = true, .score = 0.1},
	    {.name = "c", .start = 15840, .end = 16000, .policy = IKV_SKIP_BLOCK},
	};
	struct bench b;
	make(3, 16000);
	set_blocks(4, four, 16000);
	open_router(&b, ikv_router_find("semantic"), quest);
	ck_assert_uint_eq(b.ops->needs(b.config), IKV_NEEDS_BLOCK_SCORES | IKV_WANTS_PAGE_BOUNDS);
	for (uint32_t p = 0; p < 10; p++)
		scores[p] = scores[990 + p] = -100; /* pins and recent pages do not win by score here */
	act(&b);
	const struct ikv_decision *d = b.route.decisions;
	ck_assert_uint_eq(b.route.plan.count, 200);
	ck_assert_uint_eq(d[0].selected_tokens, 160);
	ck_assert_uint_eq(d[1].selected_tokens, 2880);
	ck_assert_uint_eq(d[2].selected_tokens, 0);
	ck_assert_uint_eq(d[3].selected_tokens, 160);
	const uint64_t by_bounds = ikv_plan_digest(&b.route.plan);
	close_router(&b);

	open_router(&b, ikv_router_find("semantic"), cosine); /* goes by what it is given, and asks for the other kind */
	ck_assert_uint_eq(b.ops->needs(b.config), IKV_NEEDS_BLOCK_SCORES | IKV_WANTS_PAGE_COSINES);
	act(&b);
	ck_assert_uint_eq(ikv_plan_digest(&b.route.plan), by_bounds);
	close_router(&b);

	open_router(&b, ikv_router_find("semantic"), quest);
	d = b.route.decisions;
	blocks[1].policy = IKV_SKIP_BLOCK; /* nothing else is selected: the rest of the budget goes to b */
	blocks[1].score = 0;
	act(&b);
	ck_assert_uint_eq(d[2].selected_tokens, 2880);
	ck_assert_int_eq(d[2].reason, IKV_WHY_PAGES);
	ck_assert_int_eq(d[2].format, IKV_FMT_INT4_RESIDUAL);
	close_router(&b);

	open_router(&b, ikv_router_find("semantic"), none);
	ck_assert_uint_eq(b.ops->needs(b.config), IKV_NEEDS_BLOCK_SCORES);
	blocks[1].policy = IKV_ATTEND;
	blocks[1].score = 0.9;
	blocks[0].end = 2000;
	blocks[1].start = 2000;
	act(&b);
	d = b.route.decisions;
	ck_assert_uint_eq(d[0].selected_tokens, 160); /* a tenth of the budget is sure, the best block has the rest */
	ck_assert_uint_eq(d[1].selected_tokens, 1440);
	blocks[1].policy = IKV_SKIP_BLOCK; /* nothing else is selected: pins have it all, cut in layout order */
	blocks[1].score = 0;
	act(&b);
	ck_assert_uint_eq(d[0].selected_tokens + d[2].selected_tokens, 1600);
	close_router(&b);
	open_router(&b, ikv_router_find("semantic"), pins);
	blocks[1].policy = IKV_ATTEND;
	blocks[1].score = 0.9;
	act(&b);
	d = b.route.decisions;
	ck_assert_uint_eq(d[0].selected_tokens, 1600); /* pins first, and they alone exceed the budget */
	ck_assert_int_eq(d[1].reason, IKV_WHY_BUDGET);
	ck_assert_int_eq(d[1].code, IKV_SKIP);
	close_router(&b);
}
END_TEST

/* Shares round up, so both the pinned and the recent one are all of a single page. */
START_TEST(a_budget_of_one_page_is_the_newest)
{
	static const char *const shares[][7] = {
	    {"recent_window_tokens", "160", "budget", "16", NULL},
	    {"recent_window_tokens", "160", "budget", "16", "refine", "none", NULL},
	};
	const struct ikv_block two[] = {
	    {.name = "s", .start = 0, .end = 160, .policy = IKV_GLOBAL},
	    {.name = "a", .start = 160, .end = 1600, .policy = IKV_ATTEND, .has_score = true, .score = 0.9},
	};
	for (int i = 0; i < 2; i++) {
		struct bench b;
		make(3, 1600);
		set_blocks(2, two, 1600);
		open_router(&b, ikv_router_find("semantic"), shares[i]);
		act(&b);
		ck_assert_uint_eq(b.route.plan.count, 1);
		ck_assert_uint_eq(b.route.plan.pages[0].page, 99);
		close_router(&b);
	}
}
END_TEST

START_TEST(a_route_grows)
{
	struct bench b;
	open_router(&b, ikv_router_find("dense"), NULL);
	ikv_route_free(&b.route);
	ck_assert_int_eq(ikv_route_init(&b.route, PAGE, 1, 1, &err), 0);
	make(2, MOST);
	act(&b);
	ck_assert_uint_eq(b.route.plan.selected_tokens, MOST);
	uint64_t before = ikv_alloc_count();
	act(&b);
	ck_assert_uint_eq(ikv_alloc_count(), before);
	layout.page_tokens = 32;
	ck_assert_int_eq(b.ops->act(b.state, &b.unit, 1, &err), -1);
	layout.page_tokens = PAGE;
	close_router(&b);
}
END_TEST

START_TEST(format_choices_follow_the_formats)
{
	const struct ikv_option *o = ikv_option_find(ikv_router_find("dense")->options, "format");
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++)
		ck_assert_str_eq(o->choices[f - 1], ikv_format_names()[f]);
	ck_assert_ptr_null(o->choices[IKV_FMT_COUNT - 1]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("router");
	TCase *t = tcase_create("router");
	int n = 0;
	while (ikv_routers()[n])
		n++;
	tcase_add_loop_test(t, conformance, 0, n);
	tcase_add_loop_test(t, budgets_are_kept, 0, n);
	tcase_add_loop_test(t, a_mass_is_for_oracles, 0, n);
	tcase_add_test(t, quest_and_oracle_take_the_best_pages);
	tcase_add_test(t, best_pages_of_any_scores);
	tcase_add_test(t, quest_takes_a_choice_made_elsewhere);
	tcase_add_test(t, streaming_and_recency);
	tcase_add_test(t, random_depends_on_its_seed_only);
	tcase_add_test(t, semantic_splits_at_the_recent_window);
	tcase_add_test(t, semantic_budget_prefers_pins_and_scores);
	tcase_add_test(t, a_budget_of_one_page_is_the_newest);
	tcase_add_test(t, a_route_grows);
	tcase_add_test(t, format_choices_follow_the_formats);
	suite_add_tcase(s, t);
	return tap_run(s);
}

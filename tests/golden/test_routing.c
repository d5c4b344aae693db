/* The 150 routing cases of the independent implementation (golden/routing.json of the shared material). */
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

#ifndef SRCDIR
#define SRCDIR "."
#endif
#define CASES 150
#define HOLES 179

static json_t *load(void)
{
	char path[4096];
	const char *shared = getenv("INTENTKV_SHARED");
	if (shared)
		snprintf(path, sizeof path, "%s/golden/routing.json", shared);
	else
		snprintf(path, sizeof path, "%s/../shared/golden/routing.json", SRCDIR);
	return json_load_file(path, 0, NULL);
}

static void configure(void *config, const struct ikv_option *table, const char *key, const json_t *value)
{
	char text[64];
	struct ikv_err err;
	if (json_is_boolean(value))
		snprintf(text, sizeof text, "%s", json_is_true(value) ? "true" : "false");
	else if (json_is_integer(value))
		snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
	else
		snprintf(text, sizeof text, "%.17g", json_real_value(value));
	ck_assert_msg(!ikv_option_set(table, config, key, text, &err), "%s", err.text);
}

/* The case's layout; names stay in the JSON document. */
static void read_layout(const json_t *c, struct ikv_layout *l)
{
	const json_t *blocks = json_object_get(c, "blocks");
	l->page_tokens = (uint32_t)json_integer_value(json_object_get(c, "page_size"));
	l->total_tokens = (uint32_t)json_integer_value(json_object_get(c, "total_tokens"));
	l->count = (uint32_t)json_array_size(blocks);
	l->blocks = calloc(l->count + 1, sizeof *l->blocks);
	for (uint32_t i = 0; i < l->count; i++) {
		const json_t *b = json_array_get(blocks, i), *score = json_object_get(b, "score");
		struct ikv_block *to = &l->blocks[i];
		to->name = json_string_value(json_object_get(b, "name"));
		to->start = (uint32_t)json_integer_value(json_object_get(b, "start"));
		to->end = (uint32_t)json_integer_value(json_object_get(b, "end"));
		to->kind = IKV_KIND_OTHER;
		while (strcmp(ikv_policy_name(to->policy), json_string_value(json_object_get(b, "policy"))))
			ck_assert_int_lt(++to->policy, IKV_POLICY_COUNT);
		to->has_score = json_is_number(score);
		to->score = to->has_score ? json_number_value(score) : 0;
	}
}

static bool text_is(const json_t *object, const char *key, const char *text)
{
	const char *found = json_string_value(json_object_get(object, key));
	return found && !strcmp(found, text);
}

static bool blocks_agree(const struct ikv_layout *l, const struct ikv_route *r, const json_t *expect)
{
	uint64_t tokens[IKV_FMT_COUNT] = {0};
	const json_t *decision = json_object_get(expect, "decision"),
		     *precision = json_object_get(expect, "precision");
	const json_t *per_format = json_object_get(expect, "precision_tokens");
	bool ok = r->decision_count == l->count && json_object_size(decision) == l->count;
	for (uint32_t i = 0; ok && i < r->decision_count; i++) {
		const struct ikv_decision *d = &r->decisions[i];
		const char *name = l->blocks[d->block].name;
		tokens[d->format] += d->format == IKV_FMT_SKIP ? 0 : d->selected_tokens;
		ok = text_is(decision, name, ikv_decision_name(d->code)) &&
		     text_is(precision, name, ikv_format_info(d->format)->name);
	}
	for (int f = IKV_FMT_FP16; ok && f < IKV_FMT_COUNT; f++) {
		const json_t *n = json_object_get(per_format, ikv_format_info((enum ikv_format)f)->name);
		ok = json_integer_value(n) == (json_int_t)tokens[f];
	}
	return ok;
}

static bool plan_agrees(const struct ikv_plan *p, const json_t *expect)
{
	const json_t *pages = json_object_get(expect, "selected_pages");
	uint64_t tokens = 0;
	bool ok = json_array_size(pages) == p->count;
	for (uint32_t i = 0; ok && i < p->count; i++) {
		ok = json_integer_value(json_array_get(pages, i)) == (json_int_t)p->pages[i].page;
		tokens += ikv_plan_page_tokens(p, &p->pages[i]);
	}
	/* K and V of one head of 64 values in FP16: 256 bytes a token. */
	return ok && tokens == p->selected_tokens &&
	       json_integer_value(json_object_get(expect, "selected_tokens")) == (json_int_t)tokens &&
	       json_integer_value(json_object_get(expect, "fp16_bytes_head64")) == (json_int_t)tokens * 256;
}

/* Every token is selected exactly when its block is. */
static bool tokens_agree(const struct ikv_layout *l, const struct ikv_route *r)
{
	uint8_t *want = calloc(l->total_tokens + 1, 1);
	for (uint32_t i = 0; i < r->decision_count; i++)
		if (r->decisions[i].code != IKV_SKIP)
			memset(want + r->decisions[i].start, 1, r->decisions[i].end - r->decisions[i].start);
	for (uint32_t i = 0; i < r->plan.count; i++) {
		const struct ikv_page_ref *ref = &r->plan.pages[i];
		for (uint32_t t = 0; t < l->page_tokens; t++)
			if (ikv_plan_has(&r->plan, ref, t))
				want[ref->page * l->page_tokens + t] ^= 1;
	}
	bool ok = true;
	for (uint32_t t = 0; t < l->total_tokens; t++)
		ok = ok && !want[t];
	free(want);
	return ok;
}

/* Runs of unselected tokens inside the bounds of masked pages. */
static int count_holes(const struct ikv_plan *p)
{
	int holes = 0;
	for (uint32_t i = 0; i < p->count; i++)
		for (uint32_t t = p->pages[i].lo; t + 1u < p->pages[i].hi; t++)
			holes += ikv_plan_has(p, &p->pages[i], t) && !ikv_plan_has(p, &p->pages[i], t + 1);
	return holes;
}

static bool run_case(const json_t *c, int *holes)
{
	const struct ikv_router_ops *ops = ikv_router_find("semantic");
	struct ikv_layout l = {0};
	struct ikv_route route;
	struct ikv_err err;
	void *config = calloc(1, ops->config_bytes), *state;
	const char *key;
	json_t *value;
	struct ikv_route_unit unit = {.layout = &l, .route = &route};
	ikv_option_defaults(ops->options, config);
	ck_assert(!ikv_option_set(ops->options, config, "recent_window_tokens", "0", &err));
	json_object_foreach(json_object_get(c, "config"), key, value)
	{
		if (!strcmp(key, "memory_pressure"))
			unit.pressure = json_number_value(value);
		else
			configure(config, ops->options,
				  strcmp(key, "preserve_system_prompt") ? key : "preserve_system", value);
	}
	read_layout(c, &l);
	ck_assert_msg(!ikv_layout_validate(&l, NULL, true, &err), "%s", err.text);
	ck_assert(!ikv_route_init(&route, l.page_tokens, ikv_pages(l.total_tokens, l.page_tokens), l.count, &err));
	ck_assert(!ops->create(&state, config, ikv_ladder_find("seed"), &err));
	ck_assert_msg(!ops->act(state, &unit, 1, &err), "%s", err.text);
	const json_t *expect = json_object_get(c, "expect");
	bool ok = blocks_agree(&l, &route, expect) && plan_agrees(&route.plan, expect) && tokens_agree(&l, &route);
	*holes += count_holes(&route.plan);
	ops->destroy(state);
	ikv_route_free(&route);
	free(l.blocks);
	free(config);
	return ok;
}

static json_t *golden;

START_TEST(routing_cases)
{
	const json_t *cases = json_object_get(golden, "routing");
	int agreed = 0, holes = 0;
	for (size_t i = 0; i < json_array_size(cases); i++) {
		bool ok = run_case(json_array_get(cases, i), &holes);
		if (!ok)
			printf("# case %zu differs\n", i);
		agreed += ok;
	}
	printf("# %d of %d routing cases agreed, %d holes\n", agreed, CASES, holes);
	fflush(stdout);
	ck_assert_int_eq(json_array_size(cases), CASES);
	ck_assert_int_eq(agreed, CASES);
	ck_assert_int_eq(holes, HOLES);
}
END_TEST

int main(void)
{
	golden = load();
	if (!golden) {
		puts("1..0 # SKIP shared/golden/routing.json is absent");
		return 0;
	}
	Suite *s = suite_create("golden_routing");
	TCase *t = tcase_create("golden_routing");
	tcase_add_test(t, routing_cases);
	suite_add_tcase(s, t);
	int rc = tap_run(s);
	json_decref(golden);
	return rc;
}

/* Points of a sweep: axes, ranges, draws, conditions. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"
#include "tap.h"

static struct scenario_doc doc;
static struct sweep sweep;
static struct ikv_err err;

static int expand(const char *text)
{
	static char file[] = "f.yaml";
	memset(&doc, 0, sizeof doc);
	doc.path = file;
	ck_assert_int_eq(yaml_parse(file, text, strlen(text), &doc.root, &err), 0);
	return scenario_sweep(&doc, &sweep, &err);
}

static void drop(void)
{
	scenario_sweep_free(&sweep);
	yaml_release(doc.root);
}

static const char *value(uint32_t point, const char *key)
{
	const struct yaml_node *n = sweep_value(sweep.points[point].root, key);
	return n ? n->text : "none";
}

/* The labels of all points, joined. */
static void labels_are(const char *text, const char *expected)
{
	char all[2000] = "";
	ck_assert_msg(expand(text) == 0, "%s", err.text);
	for (uint32_t i = 0; i < sweep.count; i++)
		snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? "; " : "", sweep.points[i].label);
	ck_assert_str_eq(all, expected);
	drop();
}

static void refused(const char *text, const char *message)
{
	ck_assert_int_eq(expand(text), -1);
	ck_assert_str_eq(err.text, message);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	yaml_release(doc.root);
}

START_TEST(axes)
{
	labels_are("a: 1", "");
	labels_are("sweep: {a.b: [1, 2], router.policy: [x, y]}", "b=1 x; b=1 y; b=2 x; b=2 y");
	labels_are("sweep: {zip: {a.b: [1, 2], c.d: [3, 4]}, e.f: [5]}", "b=1 d=3 f=5; b=2 d=4 f=5");
	labels_are("sweep: {zip: [{a.b: [1, 2], c.d: [3, 4]}, {e.f: [5, 6], g.h: [7, 8]}]}",
		   "b=1 d=3 f=5 h=7; b=1 d=3 f=6 h=8; b=2 d=4 f=5 h=7; b=2 d=4 f=6 h=8");
	labels_are("sweep: {list: [{a.b: 1}, {a.b: 2, c.d: 3}], e.f: [4, 5]}",
		   "b=1 f=4; b=1 f=5; b=2 d=3 f=4; b=2 d=3 f=5");
	labels_are("seed: 7\nsweep: {repeat: 3, a.b: [1]}", "b=1 seed=7; b=1 seed=8; b=1 seed=9");
	refused("sweep: {zip: {a.b: [1, 2], c.d: [3]}}",
		"f.yaml:1:33: sweep.zip: c.d has 1 values and a.b 2, expected as many");
	refused("sweep: {list: []}", "f.yaml:1:15: sweep.list: got an empty list, expected at least one point");
	refused("sweep: {repeat: 0}",
		"f.yaml:1:17: sweep.repeat: got \"0\", expected a whole number from 1 to 100000");
}
END_TEST

START_TEST(a_key_has_one_axis)
{
	refused("sweep: {seed: [1, 2], repeat: 2}",
		"f.yaml:1:31: seed: two parts of the sweep set it, and only the second would count; `repeat` sets "
		"seeds, too");
	refused("sweep: {a.b: [1], list: [{c.d: 1}, {a.b: 2}]}",
		"f.yaml:1:42: a.b: two parts of the sweep set it, and only the second would count");
	labels_are("sweep: {a.b: [1, 2], list: [{c.d: 1}, {c.d: 2, e.f: 3}]}",
		   "b=1 d=1; b=1 d=2 f=3; b=2 d=1; b=2 d=2 f=3");
}
END_TEST

START_TEST(ranges)
{
	labels_are("sweep: {router.budget: {from: 1%, to: 100%, count: 3, scale: log}}",
		   "budget=1%; budget=10%; budget=100%");
	labels_are("sweep: {x.y: {from: 0, to: 1, count: 5}}", "y=0; y=0.25; y=0.5; y=0.75; y=1");
	labels_are("sweep: {x.y: {from: 3, to: 9, count: 1}}", "y=3");
	/* whole numbers where the key takes no others, without doubles */
	labels_are("sweep: {router.top_k_blocks: {from: 1, to: 4, count: 6, scale: log}}",
		   "top_k_blocks=1; top_k_blocks=2; top_k_blocks=3; top_k_blocks=4");
	refused("sweep: {x.y: {from: 1%, to: 2, count: 2}}",
		"f.yaml:1:14: sweep.x.y: from is in \"%\" and to in \"\", expected the same unit");
	refused("sweep: {x.y: {from: 0, to: 2, count: 2, scale: log}}",
		"f.yaml:1:14: sweep.x.y: got 0 to 2, expected both above 0 for scale: log");
	refused("sweep: {x.y: {from: a, to: 2, count: 2}}",
		"f.yaml:1:21: sweep.x.y.from: got \"a\", expected a number, as 0.5, 5% or 64KiB");
	refused("sweep: {x.y: {from: 1, to: 2}}", "f.yaml:1:14: sweep.x.y: count is missing: how many values");
	refused("sweep: {x.y: {from: 1, to: 2, count: 2, scale: cubic}}",
		"f.yaml:1:48: sweep.x.y: scale: got \"cubic\", expected log or linear");
}
END_TEST

static void draw(const char *text, char out[8][64], const char *key)
{
	ck_assert_msg(expand(text) == 0, "%s", err.text);
	ck_assert_uint_eq(sweep.count, 8);
	memset(out, 0, 8 * sizeof *out);
	for (uint32_t i = 0; i < 8; i++)
		snprintf(out[i], 64, "%s", value(i, key));
	drop();
}

/* What refinement looks along: ranges and lists of numbers, but not seeds. */
START_TEST(numeric_axes)
{
	ck_assert_int_eq(expand("sweep: {router.budget: [2%, 60%], memory.page_tokens: [16, 32], router.policy: [quest],"
				" sessions.turns: {from: 1, to: 9, count: 3, scale: log}, kv.noise: [1, x], seed: [1, 5],"
				" cost.link_bytes_per_s: [1, 2%]}"),
			 0);
	ck_assert_uint_eq(sweep.axis_count, 3);
	ck_assert_str_eq(sweep.axes[0].key, "router.budget");
	ck_assert_str_eq(sweep.axes[0].unit, "%");
	ck_assert(!sweep.axes[0].whole && !sweep.axes[0].log);
	ck_assert_str_eq(sweep.axes[1].key, "memory.page_tokens");
	ck_assert(sweep.axes[1].whole);
	ck_assert_str_eq(sweep.axes[2].key, "sessions.turns");
	ck_assert(sweep.axes[2].log);
	drop();
}
END_TEST

START_TEST(random_draws)
{
	char a[8][64], b[8][64], c[8][64];
	draw("seed: 5\nsweep: {random: {count: 8, x.y: {from: 1, to: 1000, scale: log}}}", a, "x.y");
	draw("seed: 5\nsweep: {random: {count: 8, c.d: [u, v], x.y: {from: 1, to: 1000, scale: log}}}", b, "x.y");
	ck_assert_mem_eq(a, b, sizeof a); /* another key beside it changes nothing */
	draw("seed: 6\nsweep: {random: {count: 8, x.y: {from: 1, to: 1000, scale: log}}}", c, "x.y");
	ck_assert(memcmp(a, c, sizeof a) != 0);
	draw("seed: 6\nsweep: {random: {seed: 5, count: 8, x.y: {from: 1, to: 1000, scale: log}}}", c, "x.y");
	ck_assert_mem_eq(a, c, sizeof a);
	int below = 0;
	for (int i = 0; i < 8; i++) {
		double v = atof(a[i]);
		ck_assert(v >= 1 && v <= 1000);
		below += v < 100;
	}
	ck_assert_int_ge(below, 2); /* two thirds of the draws, in the logarithm */
	draw("sweep: {random: {count: 8, c.d: [u, v, w]}}", a, "c.d");
	for (int i = 0; i < 8; i++)
		ck_assert(strchr("uvw", a[i][0]) && !a[i][1]);
	refused("sweep: {random: {x.y: [1]}}",
		"f.yaml:1:17: sweep.random: count is missing: how many points to draw");
}
END_TEST

static bool met(const char *condition)
{
	struct yaml_node *root;
	const char *text = "router: {policy: quest, budget: 5%}\nmemory: {page_tokens: 16}\nprefetch: none\n";
	struct yaml_node at = {.type = YAML_SCALAR, .line = 3, .col = 5}, *n = sweep_scalar(condition, &at);
	bool yes = false;
	ck_assert_int_eq(yaml_parse("t", text, strlen(text), &root, &err), 0);
	ck_assert_msg(sweep_where("f.yaml", n, root, &yes, &err) == 0, "%s", err.text);
	yaml_release(root);
	yaml_release(n);
	return yes;
}

static const char *complaint(const char *condition)
{
	struct yaml_node at = {.type = YAML_SCALAR, .line = 3, .col = 5}, *n = sweep_scalar(condition, &at);
	struct yaml_node root = {.type = YAML_MAP};
	bool yes;
	ck_assert_int_eq(sweep_where("f.yaml", n, &root, &yes, &err), -1);
	yaml_release(n);
	return err.text;
}

START_TEST(conditions)
{
	ck_assert(met("router.policy == quest"));
	ck_assert(!met("router.policy != quest"));
	ck_assert(met("prefetch.policy == none"));
	ck_assert(met("router.policy == 'quest' and router.budget < 10%"));
	ck_assert(met("router.budget == 0.05"));
	ck_assert(met("memory.page_tokens * 2 + 1 == 33"));
	ck_assert(met("64KiB == 65536 and 2 - -1 == 3"));
	ck_assert(met("not (memory.page_tokens > 16) and memory.page_tokens >= 16"));
	ck_assert(met("router.policy in [dense, quest]"));
	ck_assert(!met("memory.page_tokens in [8, 32]"));
	ck_assert(met("memory.page_tokens == 3 or memory.page_tokens <= 16 and true"));
	ck_assert(met("attention.every == 16")); /* its default */
	ck_assert_str_eq(
	    complaint("router.polcy == quest"),
	    "f.yaml:3:5: sweep.where: \"router.polcy == quest\": router.polcy is no key of a scenario; text "
	    "with a dot needs quotes");
	ck_assert_str_eq(complaint("a == b c"),
			 "f.yaml:3:5: sweep.where: \"a == b c\": at \"c\": expected an operator or "
			 "the end");
	ck_assert_str_eq(complaint("a < b"),
			 "f.yaml:3:5: sweep.where: \"a < b\": \"a\" and \"b\" are not both numbers, "
			 "so < cannot compare them");
	ck_assert_ptr_nonnull(strstr(complaint("(1 == 1"), "expected \")\""));
	ck_assert_ptr_nonnull(strstr(complaint("1 + 1"), "expected a comparison"));
	ck_assert_ptr_nonnull(strstr(complaint("'a"), "closing quote"));
	labels_are("sweep: {a.b: [1, 2, 3], where: ['seed == 42']}", "b=1; b=2; b=3");
	labels_are("sweep: {memory.page_tokens: [8, 16, 32], where: memory.page_tokens > 8}",
		   "page_tokens=16; page_tokens=32");
	refused("sweep: {memory.page_tokens: [8, 16], where: memory.page_tokens > 80}",
		"f.yaml:1:45: sweep.where: none of 2 combinations meets the conditions");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("sweep");
	TCase *t = tcase_create("sweep");
	tcase_add_test(t, axes);
	tcase_add_test(t, a_key_has_one_axis);
	tcase_add_test(t, ranges);
	tcase_add_test(t, numeric_axes);
	tcase_add_test(t, random_draws);
	tcase_add_test(t, conditions);
	suite_add_tcase(s, t);
	return tap_run(s);
}

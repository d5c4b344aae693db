/* The defensive YAML reader, overrides and sweeps. */
#include <stdlib.h>
#include <string.h>
#include "sim/scenario.h"
#include "tap.h"

static struct yaml_node *parse(const char *text, struct ikv_err *err)
{
	struct yaml_node *root = NULL;
	err->text[0] = 0;
	yaml_parse("f.yaml", text, strlen(text), &root, err);
	return root;
}

static void refused(const char *text, const char *message)
{
	struct ikv_err err;
	struct yaml_node *root = parse(text, &err);
	ck_assert_ptr_null(root);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_msg(strstr(err.text, message) != NULL, "\"%s\" is not in \"%s\"", message, err.text);
}

START_TEST(tree_has_places)
{
	struct ikv_err err;
	struct yaml_node *root = parse("a: 1\nb:\n  c: [x, \"2\"]\n", &err);
	ck_assert_ptr_nonnull(root);
	const struct yaml_node *c = yaml_get(yaml_get(root, "b"), "c");
	ck_assert_int_eq(c->type, YAML_SEQ);
	ck_assert_int_eq(c->line, 3);
	ck_assert_int_eq(c->col, 6);
	ck_assert(!c->items[0]->quoted);
	ck_assert(c->items[1]->quoted);
	yaml_release(root);
}
END_TEST

START_TEST(json_is_accepted)
{
	struct ikv_err err;
	struct yaml_node *root = parse("{\"a\": {\"b\": [1, 2.5, null, \"x\\u00e9\"]}, \"c\": true}", &err);
	ck_assert_msg(root != NULL, "%s", err.text);
	const struct yaml_node *b = yaml_get(yaml_get(root, "a"), "b");
	ck_assert_uint_eq(b->count, 4);
	ck_assert(yaml_is_null(b->items[2]));
	ck_assert_str_eq(b->items[3]->text, "x\xc3\xa9");
	yaml_release(root);
}
END_TEST

START_TEST(hostile_documents_are_refused)
{
	char deep[400] = "";
	refused("a: &x 1\nb: *x\n", "f.yaml:1:4: anchors and tags are not allowed");
	refused("a: !!int 1\n", "anchors and tags");
	refused("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: a: given twice, first in line 1");
	refused("<<: {a: 1}\n", "merge keys");
	refused("a: [1, 2\n", "f.yaml:2:1");
	refused("", "empty");
	refused("a: 1\n---\nb: 2\n", "second document");
	refused("? [x]\n: 1\n", "a key must be a plain word");
	for (int i = 0; i < 70; i++)
		strcat(deep, "[");
	refused(deep, "nested deeper than 64 levels");
	size_t n = 1 << 20;
	char *big = malloc(n + 2);
	struct yaml_node *root;
	struct ikv_err err;
	memset(big, ' ', n + 1);
	ck_assert_int_eq(yaml_parse("big", big, n + 1, &root, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "1048577 bytes"));
	for (size_t i = 0; i + 1 < n; i += 2)
		memcpy(big + i, i ? "a," : "[ ", 2);
	ck_assert_int_eq(yaml_parse("big", big, n, &root, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "100000 items"));
	free(big);
}
END_TEST

START_TEST(numbers_are_checked)
{
	struct ikv_err err;
	struct yaml_node *root = parse("a: 1.5\nb: nan\nc: 7x\nd: '3'\ne: 12\n", &err);
	double r;
	int64_t i;
	ck_assert_int_eq(yaml_real(yaml_get(root, "a"), "f", "a", 0, 2, &r, &err), 0);
	ck_assert_double_eq(r, 1.5);
	ck_assert_int_eq(yaml_real(yaml_get(root, "a"), "f", "a", 0, 1, &r, &err), -1);
	ck_assert_str_eq(err.text, "f:1:4: a: got \"1.5\", expected a number from 0 to 1");
	ck_assert_int_eq(yaml_real(yaml_get(root, "b"), "f", "b", 0, 1, &r, &err), -1);
	ck_assert_int_eq(yaml_int(yaml_get(root, "c"), "f", "c", 0, 9, &i, &err), -1);
	ck_assert_int_eq(yaml_int(yaml_get(root, "d"), "f", "d", 0, 9, &i, &err), -1);
	ck_assert_int_eq(yaml_int(yaml_get(root, "e"), "f", "e", 0, 20, &i, &err), 0);
	ck_assert_int_eq(i, 12);
	yaml_release(root);
}
END_TEST

START_TEST(unknown_keys_suggest)
{
	static const char *const valid[] = {"router", "scorer"};
	struct ikv_err err;
	struct yaml_node *root = parse("routre: 1\n", &err);
	ck_assert_int_eq(yaml_check_keys(root, "f", "top", valid, 2, &err), -1);
	ck_assert_str_eq(err.text, "f:1:1: top.routre: unknown key; did you mean \"router\"?");
	yaml_release(root);
}
END_TEST

START_TEST(overrides_and_sweeps)
{
	struct ikv_err err;
	struct scenario_doc doc = {.path = (char *)"f.yaml"};
	struct sweep sweep;
	doc.root = parse("a: {b: 1}\nsweep: {a.b: [5, 6], c.d: [x, y, z]}\n", &err);
	ck_assert_int_eq(scenario_override(&doc, "e.f.g=hello: # world", &err), 0);
	ck_assert_str_eq(yaml_get(yaml_get(yaml_get(doc.root, "e"), "f"), "g")->text, "hello: # world");
	ck_assert_int_eq(scenario_override(&doc, "l=[1, {k: 2}]", &err), 0);
	ck_assert_str_eq(yaml_get(yaml_get(doc.root, "l")->items[1], "k")->text, "2");
	ck_assert_int_eq(scenario_override(&doc, "nothing", &err), -1);
	ck_assert_int_eq(err.status, IKV_USAGE);
	ck_assert_int_eq(scenario_override(&doc, "a..b=1", &err), -1);
	ck_assert_int_eq(scenario_sweep(&doc, &sweep, &err), 0);
	ck_assert_uint_eq(sweep.count, 6);
	ck_assert_str_eq(sweep.points[0].label, "b=5 d=x");
	ck_assert_str_eq(sweep.points[4].label, "b=6 d=y");
	ck_assert_str_eq(yaml_get(yaml_get(sweep.points[4].root, "c"), "d")->text, "y");
	ck_assert_int_eq(yaml_get(yaml_get(sweep.points[4].root, "a"), "b")->origin, YAML_SWEEP);
	ck_assert_str_eq(yaml_get(yaml_get(doc.root, "a"), "b")->text, "1");
	scenario_sweep_free(&sweep);
	yaml_release(doc.root);
}
END_TEST

/* `router: quest` stands for a map, and a key beside the name must not lose it. */
START_TEST(a_name_becomes_a_map)
{
	struct ikv_err err;
	struct scenario_doc doc = {.path = (char *)"f.yaml"};
	doc.root = parse("router: quest\nkv: capture\nmemory: {residency: arc}\nprefetch:\n", &err);
	static const char *const settings[] = {"router.budget=5%", "kv.path=x", "memory.residency.step=1MiB",
					       "prefetch.history_size=2", "scorer=cosine", "scorer.policy=quest"};
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		ck_assert_int_eq(scenario_override(&doc, settings[i], &err), 0);
	const struct yaml_node *router = yaml_get(doc.root, "router"), *policy = yaml_get(router, "policy");
	ck_assert_str_eq(policy->text, "quest");
	ck_assert_int_eq(policy->origin, YAML_FILE);
	ck_assert_str_eq(yaml_get(router, "budget")->text, "5%");
	ck_assert_str_eq(yaml_get(yaml_get(doc.root, "kv"), "source")->text, "capture");
	const struct yaml_node *residency = yaml_get(yaml_get(doc.root, "memory"), "residency");
	ck_assert_str_eq(yaml_get(residency, "policy")->text, "arc");
	ck_assert_str_eq(yaml_get(residency, "step")->text, "1MiB");
	ck_assert_uint_eq(yaml_get(doc.root, "prefetch")->count, 1);
	ck_assert_str_eq(yaml_get(yaml_get(doc.root, "scorer"), "policy")->text, "quest");
	yaml_release(doc.root);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("yaml");
	TCase *t = tcase_create("yaml");
	tcase_add_test(t, tree_has_places);
	tcase_add_test(t, json_is_accepted);
	tcase_add_test(t, hostile_documents_are_refused);
	tcase_add_test(t, numbers_are_checked);
	tcase_add_test(t, unknown_keys_suggest);
	tcase_add_test(t, overrides_and_sweeps);
	tcase_add_test(t, a_name_becomes_a_map);
	suite_add_tcase(s, t);
	return tap_run(s);
}

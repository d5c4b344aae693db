/* The route command's documents: reading, its messages, and what comes out. */
#include <string.h>
#include "sim/route_case.h"
#include "tap.h"

static struct yaml_node *root;
static struct route_case one;
static struct ikv_err err;

static int read_text(const char *text)
{
	ck_assert_msg(!yaml_parse("f.yaml", text, strlen(text), &root, &err), "%s", err.text);
	int rc = route_case_read(root, "f.yaml", &one, &err);
	yaml_release(root);
	return rc;
}

static void refused(const char *text, const char *message)
{
	ck_assert_int_eq(read_text(text), -1);
	ck_assert_msg(strstr(err.text, message) != NULL, "\"%s\" does not contain \"%s\"", err.text, message);
}

START_TEST(mistakes_are_named)
{
	refused("page_size: 16\ntotal_token: 9\nblocks: []\n", "f.yaml:2:1: total_token: unknown key; did you mean "
							       "\"total_tokens\"");
	refused("page_size: 16\nblocks: []\n", "total_tokens: is missing");
	refused("page_size: 0\ntotal_tokens: 9\nblocks: []\n", "f.yaml:1:12: page_size: got");
	refused("page_size: 16\ntotal_tokens: 9\nconfig: {top_k_block: 1}\nblocks: []\n",
		"f.yaml:3:10: config.top_k_block: unknown key; did you mean \"top_k_blocks\"");
	refused("page_size: 16\ntotal_tokens: 9\nconfig: {top_k_blocks: -1}\nblocks: []\n",
		"f.yaml:3:24: config.top_k_blocks: got \"-1\", expected");
	refused("page_size: 16\ntotal_tokens: 9\nconfig: {share: head}\nblocks: []\n", "config.share: unknown key");
	refused("page_size: 16\ntotal_tokens: 9\nconfig: {memory_pressure: 2}\nblocks: []\n",
		"config.memory_pressure");
	refused("page_size: 16\ntotal_tokens: 9\nconfig: {ladder: sead}\nblocks: []\n", "did you mean \"seed\"");
	refused("page_size: 16\ntotal_tokens: 9\nblocks:\n- {name: a, start: 0, end: 5, policy: ATEND}\n",
		"f.yaml:4:39: policy: got \"ATEND\"");
	refused("page_size: 16\ntotal_tokens: 9\nblocks:\n- {name: a, start: 0, end: 5, policy: ATTEND}\n",
		"f.yaml:4:3: score: block \"a\" [0, 5) is ATTEND and has no score");
	refused("page_size: 16\ntotal_tokens: 9\nblocks:\n- {name: a, start: 0, end: 50, policy: ALWAYS}\n",
		"beyond the context of 9 tokens");
}
END_TEST

START_TEST(metadata_comes_out)
{
	struct ikv_route route;
	ck_assert_msg(
	    !read_text("{\"page_size\": 16, \"total_tokens\": 64, \"config\": {\"memory_pressure\": 0.9, "
		       "\"preserve_system_prompt\": false},\n\"blocks\": [{\"name\": \"a\", \"start\": 0, "
		       "\"end\": 20, \"policy\": \"GLOBAL\", \"score\": null},\n{\"name\": \"b\", \"start\": "
		       "24, \"end\": 30, \"policy\": \"ATTEND\", \"score\": 0.8, \"kind\": \"user\"},\n"
		       "{\"name\": \"c\", \"start\": 30, \"end\": 64, \"policy\": \"SKIP\"}]}"),
	    "%s", err.text);
	ck_assert_msg(!route_case_run(&one, &route, &err), "%s", err.text);
	json_t *j = route_case_json(&one, &route);
	ck_assert_ptr_nonnull(j);
	json_t *block = json_array_get(json_object_get(j, "blocks"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(block, "decision")), "PIN_HIGH_PRECISION");
	ck_assert_str_eq(json_string_value(json_object_get(block, "precision")), "FP8");
	ck_assert(json_is_null(json_object_get(block, "score")));
	json_t *pages = json_object_get(j, "pages"), *page = json_array_get(pages, 1);
	ck_assert_uint_eq(json_array_size(pages), 2);
	ck_assert_ptr_null(json_object_get(json_array_get(pages, 0), "mask"));
	ck_assert_str_eq(json_string_value(json_object_get(page, "mask")), "1111000011111100");
	ck_assert_str_eq(json_string_value(json_object_get(page, "format")), "INT8");
	ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(j, "prefetch_pages"), 0)), 2);
	json_t *summary = json_object_get(j, "summary");
	ck_assert_int_eq(json_integer_value(json_object_get(summary, "selected_tokens")), 26);
	ck_assert_int_eq(json_integer_value(json_object_get(summary, "masked_pages")), 1);
	json_decref(j);
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	route_case_table(&one, &route, to);
	fclose(to);
	ck_assert_ptr_nonnull(strstr(text, "masked"));
	ck_assert_ptr_nonnull(strstr(text, "selected: 26 of 64 tokens, 2 of 4 pages"));
	free(text);
	ikv_route_free(&route);
	route_case_free(&one);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("route_case");
	TCase *t = tcase_create("route_case");
	tcase_add_test(t, mistakes_are_named);
	tcase_add_test(t, metadata_comes_out);
	suite_add_tcase(s, t);
	return tap_run(s);
}

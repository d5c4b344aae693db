/* Tokenizers: ids as Hugging Face's tokenizers library gives them, and what is refused.
 *
 * tests/unit/tokenizer holds three small files, in the styles of Llama 3, Llama 2 and Qwen 2, and cases.json, what
 * version 0.23.3 of that library makes of some texts with them. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "intentkv/alloc.h"
#include "sim/tokenizer.h"
#include "sim/tokenizer_parts.h"
#include "tap.h"

static struct ikv_err err;

static void check_ids(struct tokenizer *t, const json_t *test)
{
	uint32_t *ids = NULL;
	size_t cap = 0, n = 0;
	uint64_t count;
	const char *text = json_string_value(json_object_get(test, "text"));
	size_t size = json_string_length(json_object_get(test, "text"));
	const json_t *expected = json_object_get(test, "ids");
	ck_assert_msg(!tokenizer_encode(t, text, size, &ids, &cap, &n, &err), "%s", err.text);
	ck_assert_msg(n == json_array_size(expected), "\"%s\": %zu tokens, expected %zu", text, n,
		      json_array_size(expected));
	for (size_t i = 0; i < n; i++)
		ck_assert_msg(ids[i] == (uint32_t)json_integer_value(json_array_get(expected, i)),
			      "\"%s\": token %zu is %u", text, i, ids[i]);
	ck_assert(!tokenizer_count(t, text, size, &count, &err) && count == n);
	ikv_free(ids);
}

/* All cases of one small file; how many there are. */
static size_t check_file(const char *name)
{
	char path[1000];
	struct tokenizer *t;
	size_t done = 0;
	json_t *cases = json_load_file(SRCDIR "/tests/unit/tokenizer/cases.json", JSON_ALLOW_NUL, NULL);
	ck_assert(json_is_array(cases));
	snprintf(path, sizeof path, "%s/tests/unit/tokenizer/%s.json", SRCDIR, name);
	ck_assert_msg(!tokenizer_read(path, &t, &err), "%s", err.text);
	for (size_t i = 0; i < json_array_size(cases); i++) {
		const json_t *test = json_array_get(cases, i);
		if (strcmp(json_string_value(json_object_get(test, "file")), name) != 0)
			continue;
		check_ids(t, test);
		done++;
	}
	tokenizer_free(t);
	json_decref(cases);
	return done;
}

START_TEST(byte_level)
{
	ck_assert_uint_eq(check_file("bytes"), 45);
}
END_TEST

START_TEST(composed)
{
	ck_assert_uint_eq(check_file("composed"), 40);
}
END_TEST

START_TEST(byte_fallback)
{
	ck_assert_uint_eq(check_file("blocks"), 45);
}
END_TEST

static void reference_path(char path[1000], const char *name)
{
	const char *shared = getenv("INTENTKV_SHARED");
	snprintf(path, 1000, "%s/models/agent-23m/%s", shared ? shared : "/nonexistent", name);
}

START_TEST(reference_model)
{
	char path[1000];
	struct tokenizer *t;
	reference_path(path, "reference.json");
	json_t *reference = json_load_file(path, 0, NULL);
	const json_t *tests = json_object_get(reference, "tokenizer_tests");
	ck_assert(json_array_size(tests) > 0);
	reference_path(path, "tokenizer.json");
	ck_assert_msg(!tokenizer_read(path, &t, &err), "%s", err.text);
	for (size_t i = 0; i < json_array_size(tests); i++)
		check_ids(t, json_array_get(tests, i));
	tokenizer_free(t);
	json_decref(reference);
}
END_TEST

static struct tokenizer *read_text(const char *json)
{
	struct tokenizer *t;
	ck_assert_msg(!tokenizer_read_bytes(json, strlen(json), "file", &t, &err), "%s", err.text);
	return t;
}

static uint64_t count(struct tokenizer *t, const char *text)
{
	uint64_t n;
	ck_assert_msg(!tokenizer_count(t, text, strlen(text), &n, &err), "%s", err.text);
	return n;
}

#define MODEL "\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"u\":3},\"merges\":[\"a b\"],\"unk_token\":\"u\"}"
#define SPLIT(regex, behavior)                                                                                       \
	"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"},\"behavior\":\"" behavior      \
	"\"}," MODEL "}"

/* By how the merge of a and b is kept apart. */
START_TEST(behaviors)
{
	static const struct {
		const char *file;
		uint64_t tokens;
	} cases[] = {
	    {"{" MODEL "}", 3},                       /* ab ab ab */
	    {SPLIT("b", "Isolated"), 6},              /* a b a b a b */
	    {SPLIT("b", "Removed"), 3},               /* a a a */
	    {SPLIT("b", "MergedWithPrevious"), 3},    /* ab ab ab */
	    {SPLIT("b", "MergedWithNext"), 6},        /* a ba ba b */
	    {SPLIT("[a-b]", "Contiguous"), 3},        /* ababab */
	    {SPLIT("ab", "Contiguous"), 3},           /* ababab */
	    {SPLIT("(?<=a)b|\\\\Aa", "Isolated"), 6}, /* a b a b a b */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tokenizer *t = read_text(cases[i].file);
		ck_assert_uint_eq(count(t, "ababab"), cases[i].tokens);
		tokenizer_free(t);
	}
}
END_TEST

START_TEST(long_words)
{
	enum { PAIRS = 5000 };
	static char text[2 * PAIRS + 1];
	struct tokenizer *t = read_text("{" MODEL "}");
	for (int i = 0; i < PAIRS; i++)
		memcpy(text + 2 * i, "ab", 2);
	ck_assert_uint_eq(count(t, text), PAIRS);
	memset(text, 'b', sizeof text - 1);
	ck_assert_uint_eq(count(t, text), 2 * PAIRS);
	tokenizer_free(t);
	/* x and a share an id, so the merge of a and b is one of x and b too. */
	t = read_text("{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"x\":0},\"merges\":[\"a b\"]}}");
	ck_assert_uint_eq(count(t, "xbxbxbxbxbxbxbxbxbxbxbxbxbxbxbxbxbxbxbxb"), 20);
	tokenizer_free(t);
}
END_TEST

START_TEST(decomposed)
{
	struct tokenizer *t = read_text("{\"normalizer\":{\"type\":\"NFD\"}," MODEL "}");
	ck_assert_uint_eq(count(t, "\u1ebf"), 3);
	ck_assert_uint_eq(count(t, "\ud55c"), 3);
	tokenizer_free(t);
}
END_TEST

static void refused(const char *json, const char *expected)
{
	struct tokenizer *t;
	ck_assert_msg(tokenizer_read_bytes(json, strlen(json), "file", &t, &err) == -1, "accepted: %s", json);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_msg(strstr(err.text, expected) != NULL, "\"%s\" does not say \"%s\"", err.text, expected);
}

START_TEST(refusals)
{
	refused("{\"model\":{\"type\":\"Unigram\"}}", "file: model.type: found \"Unigram\", expected \"BPE\"");
	refused("[]", "file: found a list, expected an object");
	refused("{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}",
		"the id of the string \"a\": found the number -1");
	refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
		"model.merges[0]: its second string is not in model.vocab");
	refused("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", "model.merges[0]: found the string \"aa\"");
	refused("{\"model\":{\"dropout\":0.1}}", "model.dropout: found the number 0.1");
	refused("{\"model\":{\"end_of_word_suffix\":\"</w>\"}}", "model.end_of_word_suffix: found");
	refused("{\"normalizer\":{\"type\":\"Lowercase\"}," MODEL "}",
		"normalizer.type: found the string \"Lowercase\", expected NFC");
	refused("{\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Bert\"}]}," MODEL "}",
		"pre_tokenizer.pretokenizers[0].type: found the string \"Bert\"");
	refused("{\"added_tokens\":[{\"id\":1}]," MODEL "}", "added_tokens[0].content: found nothing");
	refused("{\"model\":{}", "file:1:");
	refused(SPLIT("a", "Merged"), "pre_tokenizer.behavior: found the string \"Merged\"");
	refused(SPLIT("^a", "Isolated"), "pre_tokenizer.pattern: at byte 0 of the pattern: found ^");
	refused(SPLIT("[a&&b]", "Isolated"), "found && in a class");
	refused(SPLIT("\\\\h", "Isolated"), "found \\h");
	refused(SPLIT("a{2}+", "Isolated"), "found an interval followed by + or ?");
	refused(SPLIT("(a", "Isolated"), "not a pattern: missing closing parenthesis");
}
END_TEST

START_TEST(hostile_texts)
{
	uint64_t n;
	static char text[20001];
	struct tokenizer *t = read_text(SPLIT("(a+)+[bc]", "Removed"));
	memset(text, 'a', sizeof text - 1);
	ck_assert_int_eq(tokenizer_count(t, text, sizeof text - 1, &n, &err), -1);
	ck_assert_msg(strstr(err.text, "pre_tokenizer.pattern: the pattern needs too much work") != NULL, "%s",
		      err.text);
	static const char *const wrong[] = {"a\xff", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "ab\xe4\xbd"};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		ck_assert_int_eq(tokenizer_count(t, wrong[i], strlen(wrong[i]), &n, &err), -1);
	ck_assert(strstr(err.text, "not UTF-8 at byte 2") != NULL);
	tokenizer_free(t);
}
END_TEST

START_TEST(files)
{
	struct tokenizer *t;
	ck_assert_int_eq(tokenizer_read("/nonexistent/tokenizer.json", &t, &err), -1);
	ck_assert_int_eq(err.status, IKV_IO);
	char *deep = calloc(1, 400);
	ck_assert_ptr_nonnull(deep);
	memset(deep, '[', 399);
	refused(deep, "more than 64 levels of nesting");
	free(deep);
}
END_TEST

int main(void)
{
	char path[1000];
	Suite *suite = suite_create("tokenizer");
	TCase *c = tcase_create("tokenizer");
	tcase_add_test(c, byte_level);
	tcase_add_test(c, composed);
	tcase_add_test(c, byte_fallback);
	reference_path(path, "reference.json");
	if (!access(path, R_OK))
		tcase_add_test(c, reference_model);
	else
		printf("# skip: the reference of a model is not at %s (INTENTKV_SHARED)\n", path);
	tcase_add_test(c, behaviors);
	tcase_add_test(c, long_words);
	tcase_add_test(c, decomposed);
	tcase_add_test(c, refusals);
	tcase_add_test(c, hostile_texts);
	tcase_add_test(c, files);
	suite_add_tcase(suite, c);
	return tap_run(suite);
}

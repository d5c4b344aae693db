/* Normalization forms C and D: the standard's own examples, and what must hold of every code point. */
#include <stdlib.h>
#include <string.h>
#include <intentkv.h>
#include "sim/unicode_normalize.h"
#include "tap.h"

enum { CODES = 0x110000, SURROGATES = 0xd800, AFTER_SURROGATES = 0xe000 };

static char *form_of(enum unicode_form form, const char *text, size_t bytes, size_t *size)
{
	char *out = NULL;
	size_t cap = 0;
	struct ikv_err err;
	*size = 0;
	must_msg(!unicode_normalize(form, text, bytes, &out, size, &cap, &err), "%s", err.text);
	must(*size <= cap);
	return out;
}

static void same(enum unicode_form form, const char *text, const char *want)
{
	size_t size;
	char *out = form_of(form, text, strlen(text), &size);
	ck_assert_msg(size == strlen(want) && (!size || !memcmp(out, want, size)),
		      "form %c of \"%s\": \"%.*s\", not \"%s\"", form == UNICODE_NFC ? 'C' : 'D', text, (int)size,
		      out ? out : "", want);
	ikv_free(out);
}

static size_t encode(uint32_t c, char *to)
{
	if (c < 0x80)
		return to[0] = (char)c, 1;
	size_t bytes = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = bytes - 1; i > 0; i--, c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(0xf00 >> bytes | c);
	return bytes;
}

static const struct {
	const char *text, *c, *d;
} cases[] = {
    {"", "", ""},
    {"plain", "plain", "plain"},
    {"a\u00e9b", "a\u00e9b", "ae\u0301b"},
    {"ae\u0301", "a\u00e9", "ae\u0301"},
    {"\u0301a", "\u0301a", "\u0301a"},
    /* Standard Annex 15, figures 3 to 6. */
    {"\u212b", "\u00c5", "A\u030a"},
    {"\u2126", "\u03a9", "\u03a9"},
    {"\u1e0b\u0323", "\u1e0d\u0307", "d\u0323\u0307"},
    {"q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307"},
    {"\ufb01", "\ufb01", "\ufb01"},
    {"\u1e9b\u0323", "\u1e9b\u0323", "\u017f\u0323\u0307"},
    /* Composed of what composed, and three marks. */
    {"u\u0308\u0304", "\u01d6", "u\u0308\u0304"},
    {"\u01d6\u0323", "\u1ee5\u0308\u0304", "u\u0323\u0308\u0304"},
    /* Same class: the second is blocked, and stays behind. */
    {"a\u0300\u0301", "\u00e0\u0301", "a\u0300\u0301"},
    /* Excluded from composition, by list and by decomposition into marks. */
    {"\u0958", "\u0915\u093c", "\u0915\u093c"},
    {"\u0344", "\u0308\u0301", "\u0308\u0301"},
    {"\u2adc", "\u2add\u0338", "\u2add\u0338"},
    /* Class 0, yet joining what stands before: Bengali, and blocked by a mark between. */
    {"\u09c7\u09be", "\u09cb", "\u09c7\u09be"},
    {"\u09c7\u0334\u09be", "\u09c7\u0334\u09be", "\u09c7\u0334\u09be"},
    {"\U00011131\U00011127", "\U0001112e", "\U00011131\U00011127"},
    /* Hangul: syllable, jamo, two-part syllable and trailing jamo, jamo that do not join. */
    {"\ud55c", "\ud55c", "\u1112\u1161\u11ab"},
    {"\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
    {"\ud558\u11ab", "\ud55c", "\u1112\u1161\u11ab"},
    {"\ud55c\u11ab", "\ud55c\u11ab", "\u1112\u1161\u11ab\u11ab"},
    {"\u1161\u11a7", "\u1161\u11a7", "\u1161\u11a7"},
    /* One for one, in and beyond the first plane. */
    {"\uf900x", "\u8c48x", "\u8c48x"},
    {"\U0002f800", "\u4e3d", "\u4e3d"},
    {"\U0001d15e", "\U0001d157\U0001d165", "\U0001d157\U0001d165"},
    {"\U0001f600\u0301", "\U0001f600\u0301", "\U0001f600\u0301"},
};

START_TEST(examples)
{
	same(UNICODE_NFC, cases[_i].text, cases[_i].c);
	same(UNICODE_NFD, cases[_i].text, cases[_i].d);
}
END_TEST

/* Between marks and alone: C of D is C of the text, both are at rest, and neither depends on what stands around. */
START_TEST(every_code_keeps_the_rules)
{
	static const char *const around[][2] = {{"", ""}, {"a\u0323", "\u0301"}, {"\u1100\u1161", "\u11a8"}};
	for (uint32_t code = 1; code < CODES; code++) {
		const char *const *with = around[code % 3];
		char text[32], twice[160];
		if (code >= SURROGATES && code < AFTER_SURROGATES)
			continue;
		size_t n = strlen(with[0]), c_size, d_size, size;
		memcpy(text, with[0], n);
		n += encode(code, text + n);
		memcpy(text + n, with[1], strlen(with[1]) + 1);
		n += strlen(with[1]);
		char *c = form_of(UNICODE_NFC, text, n, &c_size), *d = form_of(UNICODE_NFD, text, n, &d_size);
		char *c_of_d = form_of(UNICODE_NFC, d, d_size, &size);
		must_msg(size == c_size && !memcmp(c, c_of_d, size), "U+%04X: C of D", code);
		char *c_of_c = form_of(UNICODE_NFC, c, c_size, &size);
		must_msg(size == c_size && !memcmp(c, c_of_c, size), "U+%04X: C of C", code);
		char *d_of_c = form_of(UNICODE_NFD, c, c_size, &size);
		must_msg(size == d_size && !memcmp(d, d_of_c, size), "U+%04X: D of C", code);
		size_t n2 = (size_t)snprintf(twice, sizeof twice, "x%s x", text);
		char *in = form_of(UNICODE_NFD, twice, n2, &size);
		must_msg(size >= d_size && memmem(in, size, d, d_size), "U+%04X: D inside", code);
		ikv_free(c);
		ikv_free(d);
		ikv_free(c_of_d);
		ikv_free(c_of_c);
		ikv_free(d_of_c);
		ikv_free(in);
	}
}
END_TEST

/* Runs of marks longer than what is sorted by insertion keep equal classes in their order. */
START_TEST(long_runs_are_stable)
{
	enum { MARKS = 3000 };
	static const char *const marks[] = {"\u0327", "\u0323", "\u0316", "\u0301", "\u0345"}; /* by class */
	static const int rank[] = {0, 1, 1, 2, 3};
	char *text = malloc(1 + 2 * MARKS), *want = malloc(1 + 2 * MARKS);
	ck_assert(text && want);
	size_t n = 1, m = 1;
	text[0] = want[0] = 'q';
	for (int i = 0; i < MARKS; i++, n += 2)
		memcpy(text + n, marks[i * 7 % 5], 2);
	for (int r = 0; r < 4; r++)
		for (int i = 0; i < MARKS; i++)
			if (rank[i * 7 % 5] == r) {
				memcpy(want + m, marks[i * 7 % 5], 2);
				m += 2;
			}
	size_t size;
	char *out = form_of(UNICODE_NFC, text, n, &size);
	ck_assert_uint_eq(size, m);
	ck_assert_int_eq(memcmp(out, want, m), 0);
	ikv_free(out);
	free(text);
	free(want);
}
END_TEST

START_TEST(texts_are_appended)
{
	char *out = NULL;
	size_t size = 0, cap = 0;
	struct ikv_err err;
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(unicode_normalize(UNICODE_NFC, "e\u0301", 3, &out, &size, &cap, &err), 0);
	ck_assert_uint_eq(size, 200);
	ck_assert_int_eq(memcmp(out + 198, "\u00e9", 2), 0);
	ikv_free(out);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unicode_normalize");
	TCase *t = tcase_create("forms");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, examples, 0, sizeof cases / sizeof *cases);
	tcase_add_test(t, every_code_keeps_the_rules);
	tcase_add_test(t, long_runs_are_stable);
	tcase_add_test(t, texts_are_appended);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

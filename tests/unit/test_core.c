/* Vocabulary of the engine: allocation, errors, random streams, elementary functions, options. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

START_TEST(nearest_word)
{
	static const char *const words[] = {"router", "scorer", "memory"};
	ck_assert_str_eq(ikv_nearest("ruoter", words, 3), "router");
	ck_assert_ptr_null(ikv_nearest("xyzzy", words, 3));
	ck_assert_str_eq(ikv_nearest("ROUTER", words, 3), "router");
}
END_TEST

START_TEST(det_functions_match_libm)
{
	struct ikv_rng r;
	ikv_rng_stream(&r, 1, IKV_STREAM_TEST, 0, 0);
	for (int i = 0; i < 100000; i++) {
		double x = (ikv_rng_uniform(&r) - 0.5) * 1400, e = exp(x);
		if (e > 1e-300)
			ck_assert_double_le(fabs(ikv_det_exp(x) - e), 1e-13 * e);
		double y = exp((ikv_rng_uniform(&r) - 0.5) * 1000);
		ck_assert_double_le(fabs(ikv_det_log(y) - log(y)), 1e-13 * fabs(log(y)) + 1e-15);
		double z = (ikv_rng_uniform(&r) - 0.5) * 1e6;
		ck_assert_double_le(fabs(ikv_det_sin(z) - sin(z)), 1e-12);
		ck_assert_double_le(fabs(ikv_det_cos(z) - cos(z)), 1e-12);
	}
}
END_TEST

START_TEST(normal_has_unit_variance)
{
	struct ikv_rng r;
	double s = 0, s2 = 0;
	int n = 200000;
	ikv_rng_stream(&r, 7, IKV_STREAM_TEST, 1, 2);
	for (int i = 0; i < n; i++) {
		double x = ikv_rng_normal(&r);
		s += x;
		s2 += x * x;
	}
	ck_assert_double_le(fabs(s / n), 0.01);
	ck_assert_double_le(fabs(s2 / n - 1), 0.02);
}
END_TEST

struct config {
	int64_t k;
	double p;
	bool b;
	int e;
	int64_t size;
	struct ikv_budget budget;
};
static const char *const choices[] = {"alpha", "beta", NULL};
static const struct ikv_option table[] = {
    {"top_k", IKV_OPT_INT, offsetof(struct config, k), "8", 0, 100, NULL, ""},
    {"pressure", IKV_OPT_REAL, offsetof(struct config, p), "0.5", 0, 1, NULL, ""},
    {"flag", IKV_OPT_BOOL, offsetof(struct config, b), "true", 0, 0, NULL, ""},
    {"choice", IKV_OPT_ENUM, offsetof(struct config, e), "beta", 0, 0, choices, ""},
    {"capacity", IKV_OPT_BYTES, offsetof(struct config, size), "512MiB", 0, 0, NULL, ""},
    {"budget", IKV_OPT_BUDGET, offsetof(struct config, budget), "25%", 0, 0, NULL, ""},
    IKV_OPTION_END};

/* -1 means "unset" where it is the default and the least value; what lies between it and 0 means nothing. */
START_TEST(options_may_be_unset)
{
	static const struct ikv_option unset[] = {{"x", IKV_OPT_REAL, 0, "-1", -1, 2, NULL, ""}, IKV_OPTION_END},
				       signed_one[] = {{"x", IKV_OPT_REAL, 0, "0", -1, 2, NULL, ""}, IKV_OPTION_END};
	struct ikv_err err;
	double x = 7;
	ck_assert_int_eq(ikv_option_set(unset, &x, "x", "-0.5", &err), -1);
	ck_assert_str_eq(err.text, "x: got \"-0.5\", expected a number from 0 to 2, or -1");
	ck_assert_double_eq(x, 7);
	ck_assert_int_eq(ikv_option_set(unset, &x, "x", "-1", &err), 0);
	ck_assert_int_eq(ikv_option_set(unset, &x, "x", "0", &err), 0);
	ck_assert_int_eq(ikv_option_set(signed_one, &x, "x", "-0.5", &err), 0);
}
END_TEST

START_TEST(shares_are_not_rounded_up_twice)
{
	for (uint32_t percent = 1; percent <= 100; percent++) {
		const struct ikv_budget b = {IKV_BUDGET_FRACTION, percent / 100.0};
		for (uint32_t pages = 1; pages <= 2000; pages++)
			ck_assert_uint_eq(ikv_budget_pages(&b, pages * 16, 16), (pages * percent + 99) / 100);
	}
}
END_TEST

START_TEST(options_round_trip)
{
	struct config c, d;
	struct ikv_err err;
	char text[64];
	memset(&c, 0, sizeof c);
	memset(&d, 0, sizeof d);
	ikv_option_defaults(table, &c);
	ck_assert_int_eq(c.k, 8);
	ck_assert_int_eq(c.e, 1);
	ck_assert_int_eq(c.size, 512 << 20);
	ck_assert_double_eq(c.budget.value, 0.25);
	for (const struct ikv_option *o = table; o->name; o++) {
		ikv_option_get(o, &c, text, sizeof text);
		ck_assert_int_eq(ikv_option_set(table, &d, o->name, text, &err), 0);
	}
	for (const struct ikv_option *o = table; o->name; o++) {
		char again[64];
		ikv_option_get(o, &c, text, sizeof text);
		ikv_option_get(o, &d, again, sizeof again);
		ck_assert_str_eq(text, again);
	}
	ck_assert_int_eq(ikv_option_set(table, &c, "top_kk", "1", &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "did you mean \"top_k\""));
	ck_assert_int_eq(ikv_option_set(table, &c, "pressure", "1.5", &err), -1);
	ck_assert_str_eq(err.text, "pressure: got \"1.5\", expected a number from 0 to 1");
	ck_assert_int_eq(ikv_option_set(table, &c, "budget", "120%", &err), -1);
	ck_assert_int_eq(ikv_option_set(table, &c, "top_k", "nan", &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_int_eq(c.k, 8);
}
END_TEST

START_TEST(alloc_overflow_is_an_error)
{
	struct ikv_err err;
	ck_assert_ptr_null(ikv_alloc(SIZE_MAX / 2, 3, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "overflow"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("core");
	TCase *t = tcase_create("core");
	tcase_add_test(t, nearest_word);
	tcase_add_test(t, det_functions_match_libm);
	tcase_add_test(t, normal_has_unit_variance);
	tcase_add_test(t, options_round_trip);
	tcase_add_test(t, options_may_be_unset);
	tcase_add_test(t, shares_are_not_rounded_up_twice);
	tcase_add_test(t, alloc_overflow_is_an_error);
	suite_add_tcase(s, t);
	return tap_run(s);
}

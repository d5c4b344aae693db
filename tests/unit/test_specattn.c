/* SpecAttn's controller and speculative acceptance. */
#include <math.h>
#include <intentkv.h>
#include "tap.h"

START_TEST(skipped_blocks_return)
{
	struct ikv_specattn_config c;
	struct ikv_specattn *s, *copy;
	struct ikv_block b[4] = {{"a", 0, 4, 0, IKV_ATTEND, false, 0, 11, 0, 0, 0},
				 {"b", 4, 8, 0, IKV_ATTEND, false, 0, 12, 0, 0, 0},
				 {"c", 8, 9, 0, IKV_ALWAYS, false, 0, 13, 0, 0, 0},
				 {"d", 9, 10, 0, IKV_ATTEND, false, 0, 14, 0, 0, 0}};
	struct ikv_layout l = {b, 3, 10, 16};
	ikv_option_defaults(ikv_specattn_options, &c);
	c.enabled = true;
	c.top_k_blocks = 1;
	ck_assert_int_eq(ikv_specattn_create(&s, &c, 1, NULL), 0);
	ck_assert(ikv_specattn_keeps(s, 0, &b[1])); /* nothing verified yet */
	ck_assert(isnan(ikv_specattn_ema(s, 0, 11)));
	ck_assert_int_eq(ikv_specattn_verify(s, 0, &l, (double[]){0.6, 0.3, 0.1}, NULL), 0);
	ck_assert(ikv_specattn_keeps(s, 0, &b[0]) && !ikv_specattn_keeps(s, 0, &b[1]));
	ck_assert(ikv_specattn_keeps(s, 0, &b[2]) && ikv_specattn_keeps(s, 0, &b[3]));
	for (int i = 0; i < 10; i++)
		ck_assert_int_eq(ikv_specattn_verify(s, 0, &l, (double[]){0.1, 0.8, 0.1}, NULL), 0);
	ck_assert(!ikv_specattn_keeps(s, 0, &b[0]) && ikv_specattn_keeps(s, 0, &b[1]));
	ck_assert_double_eq_tol(ikv_specattn_ema(s, 0, 11), 0.1 + 0.5 * pow(0.9, 10), 1e-12);
	ck_assert_int_eq(ikv_specattn_verify(s, 0, &l, (double[]){NAN, 0, 0}, NULL), -1);
	char state[400];
	size_t size = ikv_specattn_save(s, state, sizeof state);
	ck_assert_uint_le(size, sizeof state);
	ck_assert_int_eq(ikv_specattn_create(&copy, &c, 1, NULL), 0);
	ck_assert_int_eq(ikv_specattn_load(copy, state, size - 1, NULL), -1);
	ck_assert_int_eq(ikv_specattn_load(copy, state, size, NULL), 0);
	ck_assert(!ikv_specattn_keeps(copy, 0, &b[0]) && ikv_specattn_ema(copy, 0, 12) == ikv_specattn_ema(s, 0, 12));
	ikv_specattn_forget(s, 0);
	ck_assert(ikv_specattn_keeps(s, 0, &b[0]));
	ikv_specattn_destroy(s);
	ikv_specattn_destroy(copy);
}
END_TEST

START_TEST(closed_forms)
{
	ck_assert_double_eq_tol(ikv_speculative_tokens(0.8, 5), 3.68928, 1e-9);
	ck_assert_double_eq_tol(ikv_speculative_tokens(0.9, 6), 5.21703, 1e-5);
	ck_assert_double_eq_tol(ikv_speculative_tokens(1, 4), 5, 1e-12);
	ck_assert_double_eq_tol(ikv_speculative_speedup(0.8, 5, 0.1, 1), 3.68928 / 1.5, 1e-9);
}
END_TEST

/* The first token of a round follows the target, whatever the draft. */
START_TEST(output_follows_the_target)
{
	static const double p[] = {0.5, 0.3, 0.15, 0.05, 0.1, 0.2, 0.3, 0.4}, q[] = {0.1, 0.2, 0.3, 0.4};
	struct ikv_rng r;
	int n = 200000, count[4] = {0}, taken = 0;
	ikv_rng_stream(&r, 4, IKV_STREAM_TEST, 0, 0);
	for (int i = 0; i < n; i++) {
		double u = ikv_rng_uniform(&r);
		uint32_t d = u < 0.1 ? 0 : u < 0.3 ? 1 : u < 0.6 ? 2 : 3, tokens[2], made, accepted;
		ck_assert_int_eq(ikv_speculative_accept(p, q, &d, 1, 4, false, &r, tokens, &made, &accepted, NULL),
				 0);
		ck_assert_uint_eq(made, accepted + 1);
		count[tokens[0]]++;
		taken += (int)accepted;
	}
	double chi = 0;
	for (int i = 0; i < 4; i++)
		chi += pow(count[i] - n * p[i], 2) / (n * p[i]);
	ck_assert_double_lt(chi, 16.27); /* 3 degrees of freedom, p = 0.001 */
	ck_assert_double_eq_tol((double)taken / n, ikv_speculative_alpha(p, q, 4), 0.005);
}
END_TEST

START_TEST(greedy)
{
	static const double p[] = {0.6, 0.4, 0.3, 0.7, 0.9, 0.1}, q[] = {0.5, 0.5, 0.5, 0.5};
	uint32_t tokens[3], made, accepted;
	ikv_speculative_accept(p, q, (uint32_t[]){0, 0}, 2, 2, true, NULL, tokens, &made, &accepted, NULL);
	ck_assert(made == 2 && accepted == 1 && tokens[0] == 0 && tokens[1] == 1);
	ikv_speculative_accept(p, q, (uint32_t[]){0, 1}, 2, 2, true, NULL, tokens, &made, &accepted, NULL);
	ck_assert(made == 3 && accepted == 2 && tokens[2] == 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("specattn");
	TCase *t = tcase_create("specattn");
	tcase_add_test(t, skipped_blocks_return);
	tcase_add_test(t, closed_forms);
	tcase_add_test(t, output_follows_the_target);
	tcase_add_test(t, greedy);
	suite_add_tcase(s, t);
	return tap_run(s);
}

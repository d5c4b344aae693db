/* Pairs of steps: what is paired, and the bootstrap's interval. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim/pairs.h"
#include "tap.h"
#include "unit/store_sample.h"

static struct pairs made(uint64_t sessions, uint64_t steps)
{
	struct pairs p = {.count = sessions * steps};
	p.session = ikv_alloc(p.count, sizeof *p.session, NULL);
	p.step = ikv_alloc(p.count, sizeof *p.step, NULL);
	for (int m = 0; m < PAIR_METRICS; m++) {
		p.a[m] = ikv_alloc(p.count, sizeof *p.a[m], NULL);
		p.b[m] = ikv_alloc(p.count, sizeof *p.b[m], NULL);
	}
	for (uint64_t i = 0; i < p.count; i++) {
		p.session[i] = (int64_t)(i / steps);
		p.step[i] = (int64_t)(i % steps);
	}
	return p;
}

START_TEST(a_constant_difference_is_certain)
{
	struct pair_result r;
	struct pairs p = made(3, 7);
	for (uint64_t i = 0; i < p.count; i++) {
		p.a[0][i] = 0.5 * (double)i;
		p.b[0][i] = p.a[0][i] - 2;
	}
	ck_assert_int_eq(pairs_compare(&p, 0, 500, 1, &r, NULL), 0);
	ck_assert_uint_eq(r.count, 21);
	ck_assert(fabs(r.difference + 2) < 1e-12 && fabs(r.low + 2) < 1e-12 && fabs(r.high + 2) < 1e-12);
	ck_assert_uint_eq(r.better, 21); /* metric 0: less is better */
	ck_assert_uint_eq(r.worse, 0);
	pairs_free(&p);
}
END_TEST

/* Differences drawn independently around `shift`: a 95 % interval holds it about 95 times in 100, and is about
 * 2 * 1.96 / sqrt(n) wide. */
START_TEST(the_interval_covers)
{
	int held = 0;
	double width = 0;
	for (int trial = 0; trial < 200; trial++) {
		struct pair_result r;
		struct pairs p = made(4, 100);
		struct ikv_rng rng;
		ikv_rng_stream(&rng, 9, IKV_STREAM_TEST, (uint64_t)trial, 0);
		for (uint64_t i = 0; i < p.count; i++) {
			p.a[1][i] = 0;
			p.b[1][i] = 0.3 + ikv_rng_normal(&rng);
		}
		ck_assert_int_eq(pairs_compare(&p, 1, 400, (uint64_t)trial, &r, NULL), 0);
		held += r.low <= 0.3 && r.high >= 0.3;
		width += (r.high - r.low) / 200;
		pairs_free(&p);
	}
	ck_assert_msg(held >= 176 && held <= 198, "%d of 200", held);
	ck_assert_msg(fabs(width / (2 * 1.96 / 20) - 1) < 0.12, "width %g", width);
}
END_TEST

/* Steps that resemble each other tell less: the interval must be wider than for as many independent ones. */
START_TEST(runs_of_equal_steps_widen_it)
{
	struct pair_result together, apart;
	struct pairs p = made(2, 500), q = made(2, 500);
	struct ikv_rng rng;
	ikv_rng_stream(&rng, 3, IKV_STREAM_TEST, 1, 0);
	double level = 0;
	for (uint64_t i = 0; i < p.count; i++) {
		level = 0.9 * level + sqrt(1 - 0.81) * ikv_rng_normal(&rng);
		p.a[0][i] = q.a[0][i] = 0;
		p.b[0][i] = level;
		q.b[0][i] = ikv_rng_normal(&rng);
	}
	ck_assert_int_eq(pairs_compare(&p, 0, 1000, 1, &together, NULL), 0);
	ck_assert_int_eq(pairs_compare(&q, 0, 1000, 1, &apart, NULL), 0);
	ck_assert_msg(together.high - together.low > 1.8 * (apart.high - apart.low), "%g against %g",
		      together.high - together.low, apart.high - apart.low);
	pairs_free(&p);
	pairs_free(&q);
}
END_TEST

START_TEST(missing_values_are_left_out)
{
	struct pair_result r;
	struct pairs p = made(2, 4);
	for (uint64_t i = 0; i < p.count; i++)
		p.a[0][i] = p.b[0][i] = i % 3 ? NAN : 1;
	p.b[0][1] = 5; /* its partner has none */
	ck_assert_int_eq(pairs_compare(&p, 0, 100, 1, &r, NULL), 0);
	ck_assert_uint_eq(r.count, 3);
	ck_assert(r.difference == 0 && r.low == 0 && r.high == 0 && r.effect == 0);
	for (uint64_t i = 0; i < p.count; i++)
		p.a[0][i] = NAN;
	ck_assert_int_eq(pairs_compare(&p, 0, 100, 1, &r, NULL), 0);
	ck_assert_uint_eq(r.count, 0);
	pairs_free(&p);
}
END_TEST

START_TEST(steps_are_paired_by_session_and_number)
{
	char path[] = "/tmp/ikv_pairs_XXXXXX";
	struct ikv_err err = {0};
	struct store *s;
	struct pairs p;
	int64_t run[2];
	close(mkstemp(path));
	unlink(path);
	ck_assert_int_eq(store_open(&s, path, &err), 0);
	const struct store_run r = {.name = "x", .scenario_text = "x"};
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(store_run_begin(s, &r, &run[i], &err), 0);
		for (int64_t session = 0; session < 2; session++)
			for (int64_t step = 0; step < 10 + 5 * i * session; step++) {
				struct store_step row = sample_step(run[i], session, step, 0);
				if (session == i && step == 3)
					continue; /* a hole: in the first session of one run, the second of the other
						   */
				row.batch_step = 2 * step + session;
				row.decision_hash += i && step >= 6;
				ck_assert_int_eq(store_step(s, &row, &err), 0);
			}
		ck_assert_int_eq(store_run_end(s, run[i], "done", 1, &err), 0);
	}
	ck_assert_int_eq(store_close(s, &err), 0);
	ck_assert_msg(pairs_read(path, run[0], path, run[1], &p, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(p.count, 18);
	ck_assert_uint_eq(p.only_a, 1);
	ck_assert_uint_eq(p.only_b, 6);
	ck_assert_uint_eq(p.differing, 8);
	ck_assert_int_eq(p.first_session, 0);
	ck_assert_int_eq(p.first_step, 6);
	pairs_free(&p);
	unlink(path);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("pairs");
	TCase *tc = tcase_create("pairs");
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_constant_difference_is_certain);
	tcase_add_test(tc, the_interval_covers);
	tcase_add_test(tc, runs_of_equal_steps_widen_it);
	tcase_add_test(tc, missing_values_are_left_out);
	tcase_add_test(tc, steps_are_paired_by_session_and_number);
	suite_add_tcase(suite, tc);
	return tap_run(suite);
}

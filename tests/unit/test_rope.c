/* RoPE: norm, relative positions, frequencies computed independently with numpy. */
#include <math.h>
#include <intentkv.h>
#include "tap.h"

static void rotate(const float *from, float *to, uint32_t position, const double *freq, double factor)
{
	for (int i = 0; i < 128; i++)
		to[i] = from[i];
	ikv_rope_apply(to, 1, 128, &position, freq, factor);
}

static double dot(const float *a, const float *b)
{
	double sum = 0;
	for (int i = 0; i < 128; i++)
		sum += (double)a[i] * b[i];
	return sum;
}

START_TEST(rotation)
{
	struct ikv_rope_config c;
	double freq[64], factor;
	float q[128], k[128], a[128], b[128];
	struct ikv_rng r;
	ikv_option_defaults(ikv_rope_options, &c);
	ikv_rng_stream(&r, 3, IKV_STREAM_TEST, 0, 0);
	ck_assert_int_eq(ikv_rope_frequencies(&c, 128, freq, &factor, NULL), 0);
	for (int i = 0; i < 128; i++) {
		q[i] = (float)ikv_rng_normal(&r);
		k[i] = (float)ikv_rng_normal(&r);
	}
	rotate(q, a, 107, freq, factor);
	rotate(k, b, 100, freq, factor);
	double near = dot(a, b);
	ck_assert_double_eq_tol(dot(a, a), dot(q, q), 1e-4);
	rotate(q, a, 100007, freq, factor);
	rotate(k, b, 100000, freq, factor);
	ck_assert_double_eq_tol(dot(a, b), near, 1e-4);
	ck_assert_int_eq(ikv_rope_frequencies(&c, 127, freq, &factor, NULL), -1);
}
END_TEST

START_TEST(known_frequencies)
{
	static const struct {
		struct ikv_rope_config c;
		double at[4], factor; /* pairs 1, 20, 36, 63 of 64 */
	} cases[] = {
	    {{500000, IKV_ROPE_PLAIN, 8, 1, 4, 8192, 32, 1},
	     {0.8146172338565447, 0.016560440080994446, 0.000622772421914596, 2.455140791131609e-06},
	     1},
	    {{500000, IKV_ROPE_LLAMA3, 8, 1, 4, 8192, 32, 1},
	     {0.8146172338565447, 0.016560440080994446, 7.78465527393245e-05, 3.068925988914511e-07},
	     1},
	    {{10000, IKV_ROPE_YARN, 16, 1, 4, 4096, 32, 1},
	     {0.8659643233600653, 0.056234132519034905, 0.002379136375805323, 7.217387404309114e-06},
	     1.2772588722239782},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		double freq[64], factor;
		static const int pair[] = {1, 20, 36, 63};
		ck_assert_int_eq(ikv_rope_frequencies(&cases[i].c, 128, freq, &factor, NULL), 0);
		ck_assert_double_eq_tol(factor, cases[i].factor, 1e-12);
		for (int k = 0; k < 4; k++)
			ck_assert_double_eq_tol(freq[pair[k]] / cases[i].at[k], 1, 1e-11);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rope");
	TCase *t = tcase_create("rope");
	tcase_add_test(t, rotation);
	tcase_add_test(t, known_frequencies);
	suite_add_tcase(s, t);
	return tap_run(s);
}

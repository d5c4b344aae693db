/* Cost model: each term by hand. */
#include <intentkv.h>
#include "tap.h"

START_TEST(terms_of_a_step)
{
	struct ikv_machine m = {.read_bytes_per_s = 1e9,
				.cache_bytes = 100,
				.cache_bytes_per_s = 2e9,
				.flops_per_s = 1e9,
				.kernel_overhead_ns = 10,
				.sequence_overhead_ns = 1,
				.step_overhead_ns = 5,
				.link_bytes_per_s = 1e8,
				.link_latency_ns = 7,
				.recode_bytes_per_s = 1e9,
				.weight_bytes_per_s = 1e9};
	struct ikv_cost_work w = {.layers = 2,
				  .sequences = 3,
				  .kv_bytes = 600,
				  .flops = 100,
				  .fetch_bytes = 1,
				  .prefetch_bytes = 100,
				  .recode_bytes = 20,
				  .weight_bytes = 30,
				  .extra_ns = 4};
	struct ikv_cost_time t;
	ikv_cost_step(&m, &w, &t);
	ck_assert_double_eq_tol(t.overhead, 5 + 4 + 2 * (10 + 3), 1e-9);
	ck_assert_double_eq_tol(t.attention, 2 * (50 + 200), 1e-9);
	ck_assert_double_eq_tol(t.transfer, 17 + 1007, 1e-9);
	double busy = 35 + 500 + 30 + 20;
	ck_assert_double_eq_tol(t.hidden, busy, 1e-9);
	ck_assert_double_eq_tol(t.total, busy + t.transfer - busy, 1e-9);
	w.flops = 5000;
	ikv_cost_step(&m, &w, &t);
	ck_assert_double_eq_tol(t.attention, 5000, 1e-9);
}
END_TEST

START_TEST(all_that_pages_cost_adds_up)
{
	struct ikv_machine m = {.read_bytes_per_s = 1e9,
				.jump_ns = 3,
				.lone_page_ns = 2,
				.lone_bytes_per_s = 5e9,
				.lone_fp16_bytes_per_s = 1e9,
				.format_change_ns = 11,
				.measured_group = 4};
	struct ikv_cost_work w = {.layers = 2,
				  .group = 4,
				  .kv_bytes = 1000,
				  .jumps = 10,
				  .lone_pages = 6,
				  .lone_bytes = 500,
				  .lone_fp16_bytes = 19,
				  .changes = 4};
	struct ikv_cost_time t;
	m.format_fine_ns[IKV_FMT_INT8] = 7;
	w.format_fine[IKV_FMT_INT8] = 1.5;
	w.format_fine[IKV_FMT_FP16] = 3; /* costs nothing */
	ikv_cost_step(&m, &w, &t);
	ck_assert_double_eq_tol(t.attention, 1000 + 10 * 3 + 6 * 2 + 500 / 5 + 19 + 4 * 11 + 1.5 * 7, 1e-9);
	ck_assert(!t.outside);
	ck_assert_double_eq_tol(t.overhead, 0, 1e-9);
	m.format_overhead_ns = 13; /* of two formats one */
	w.format_bytes[IKV_FMT_INT8] = 900;
	w.format_bytes[IKV_FMT_FP16] = 100;
	ikv_cost_step(&m, &w, &t);
	ck_assert_double_eq_tol(t.overhead, 2 * 13, 1e-9);
	m.plan_overhead_ns = 17;
	w.plans = 16; /* of both layers */
	ikv_cost_step(&m, &w, &t);
	ck_assert_double_eq_tol(t.overhead, 2 * 13 + 16 * 17, 1e-9);
	w.group = 0; /* not stated */
	ikv_cost_step(&m, &w, &t);
	ck_assert(!t.outside);
	w.group = 7;
	ikv_cost_step(&m, &w, &t);
	ck_assert(t.outside);
	m.measured_group = 0;
	ikv_cost_step(&m, &w, &t);
	ck_assert(!t.outside);
	m.measured_kv_heads = 8;
	m.measured_page_tokens = 16;
	w.kv_heads = 8; /* the page's size is not stated */
	ikv_cost_step(&m, &w, &t);
	ck_assert(!t.outside);
	w.page_tokens = 32;
	ikv_cost_step(&m, &w, &t);
	ck_assert(t.outside);
	w.page_tokens = 16;
	w.kv_heads = 4;
	ikv_cost_step(&m, &w, &t);
	ck_assert(t.outside);
}
END_TEST

START_TEST(report_needs_sane_arguments)
{
	struct ikv_cost_args a = {1, 32, 8, 1, 1000, 250, 128, 2};
	struct ikv_cost_report r;
	ck_assert_int_eq(ikv_cost_compare(&a, &r, NULL), 0);
	ck_assert_double_eq_tol(r.dense_flops, 4.0 * 32 * 1000 * 128, 1e-6);
	ck_assert_double_eq_tol(r.semantic_kv_bytes, 2.0 * 8 * 250 * 128 * 2, 1e-6);
	ck_assert_double_eq_tol(r.kv_bytes_saved_pct, 75, 1e-12);
	a.selected_kv_tokens = 1001;
	ck_assert_int_eq(ikv_cost_compare(&a, &r, NULL), -1);
}
END_TEST

/* Llama-2-7B at 4,196 tokens: 100 tokens of K and 128 of V are FP16, the rest 2 bits and a scale and zero for 32. */
START_TEST(kivi_sizes)
{
	struct ikv_kivi_config c = {.bits = 2, .group = 32, .residual = 128};
	uint64_t heads = 32 * 32, values = 128;
	uint64_t k = 4096 * values * 3 / 8 + 100 * values * 2, v = 4068 * values * 3 / 8 + 128 * values * 2;
	ck_assert_uint_eq(heads * ikv_kivi_bytes(&c, 4196, 128, 128), heads * (k + v));
	ck_assert_double_eq_tol((double)(heads * (k + v)) / (1 << 30), 0.4294, 5e-5);
	/* Below the residual nothing is quantized; a last group of channels may be short. */
	ck_assert_uint_eq(ikv_kivi_bytes(&c, 100, 128, 128), 2 * 2 * 100 * values);
	ck_assert_uint_eq(ikv_kivi_bytes(&c, 256, 40, 40),
			  256 * 40 / 4 + 256 / 32 * 40 * 4 + 128 * 40 / 4 + 128 * 2 * 4 + 128 * 40 * 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cost");
	TCase *t = tcase_create("cost");
	tcase_add_test(t, terms_of_a_step);
	tcase_add_test(t, all_that_pages_cost_adds_up);
	tcase_add_test(t, report_needs_sane_arguments);
	tcase_add_test(t, kivi_sizes);
	suite_add_tcase(s, t);
	return tap_run(s);
}

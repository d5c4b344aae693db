/* Page plans against a token-by-token model. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

#define TOKENS 3000

struct model {
	uint8_t format[TOKENS]; /* 0: not selected */
};

static struct ikv_plan plan;
static struct ikv_err err;

static void compare(const struct model *m, uint32_t page_tokens)
{
	uint32_t at = 0, tokens = 0;
	for (uint32_t page = 0; page < ikv_pages(TOKENS, page_tokens); page++) {
		uint32_t count = 0, lo = 0, hi = 0, best = 0;
		for (uint32_t t = 0; t < page_tokens && page * page_tokens + t < TOKENS; t++) {
			uint8_t f = m->format[page * page_tokens + t];
			if (!f)
				continue;
			lo = count ? lo : t;
			hi = t + 1;
			count++;
			if (ikv_format_info((enum ikv_format)f)->precision >
			    ikv_format_info((enum ikv_format)best)->precision)
				best = f;
		}
		if (!count)
			continue;
		ck_assert_uint_lt(at, plan.count);
		const struct ikv_page_ref *r = &plan.pages[at++];
		ck_assert_uint_eq(r->page, page);
		ck_assert_uint_eq(r->lo, lo);
		ck_assert_uint_eq(r->hi, hi);
		ck_assert_uint_eq(r->request, best);
		ck_assert_int_eq(r->mask == IKV_NO_MASK, hi - lo == count);
		ck_assert_uint_eq(ikv_plan_page_tokens(&plan, r), count);
		for (uint32_t t = 0; t < page_tokens && page * page_tokens + t < TOKENS; t++)
			ck_assert_int_eq(ikv_plan_has(&plan, r, t), m->format[page * page_tokens + t] != 0);
		tokens += count;
	}
	ck_assert_uint_eq(at, plan.count);
	ck_assert_uint_eq(tokens, plan.selected_tokens);
}

START_TEST(random_ranges)
{
	static const uint32_t sizes[] = {1, 7, 16, 64, 100, 128, 1024};
	struct ikv_rng rng;
	ikv_rng_stream(&rng, 3, IKV_STREAM_TEST, 0, 0);
	for (int round = 0; round < 400; round++) {
		struct model m = {{0}};
		uint32_t size = sizes[round % 7], step = 1 + (uint32_t)ikv_rng_below(&rng, round % 3 ? 40 : 500);
		ck_assert_int_eq(ikv_plan_init(&plan, size, ikv_pages(TOKENS, size), &err), 0);
		ikv_plan_reset(&plan, TOKENS);
		uint64_t before = ikv_alloc_count();
		for (uint32_t t = 0, block = 0; t < TOKENS; block++) {
			uint32_t end = t + 1 + (uint32_t)ikv_rng_below(&rng, step);
			int f = (int)ikv_rng_below(&rng, IKV_FMT_COUNT);
			end = end < TOKENS ? end : TOKENS;
			ikv_plan_add(&plan, t, end, (enum ikv_format)f, block);
			memset(m.format + t, f, end - t);
			t = end;
		}
		ck_assert_uint_eq(ikv_alloc_count(), before);
		compare(&m, size);
		ikv_plan_free(&plan);
	}
}
END_TEST

START_TEST(a_shared_page_keeps_the_higher_precision)
{
	ck_assert_int_eq(ikv_plan_init(&plan, 16, 4, &err), 0);
	ikv_plan_reset(&plan, 64);
	ikv_plan_add(&plan, 0, 20, IKV_FMT_INT4, 0);
	ikv_plan_add(&plan, 20, 40, IKV_FMT_FP16, 1);
	ikv_plan_add(&plan, 44, 64, IKV_FMT_INT8, 70000);
	ck_assert_uint_eq(plan.count, 4);
	ck_assert_uint_eq(plan.pages[0].request, IKV_FMT_INT4);
	ck_assert_uint_eq(plan.pages[1].request, IKV_FMT_FP16);
	ck_assert_uint_eq(plan.pages[1].block, 1);
	ck_assert_uint_eq(plan.pages[1].mask, IKV_NO_MASK);
	ck_assert_uint_eq(plan.pages[2].block, 1);
	ck_assert_uint_eq(plan.masks[plan.pages[2].mask], 0xf0ff);
	ck_assert_uint_eq(plan.pages[3].block, UINT16_MAX);
	ikv_plan_free(&plan);
}
END_TEST

static uint64_t digest(uint32_t a, uint32_t b, enum ikv_format f)
{
	ikv_plan_reset(&plan, 6400);
	ikv_plan_add(&plan, 0, a, IKV_FMT_INT8, 0);
	ikv_plan_add(&plan, b, 6000, f, 1);
	return ikv_plan_digest(&plan);
}

START_TEST(digest_tells_plans_apart)
{
	ck_assert_int_eq(ikv_plan_init(&plan, 16, 400, &err), 0);
	uint64_t d = digest(100, 200, IKV_FMT_INT8);
	ck_assert_uint_eq(d, digest(100, 200, IKV_FMT_INT8));
	ck_assert_uint_ne(d, digest(101, 200, IKV_FMT_INT8)); /* bounds */
	ck_assert_uint_ne(d, digest(100, 216, IKV_FMT_INT8)); /* pages */
	ck_assert_uint_ne(d, digest(100, 200, IKV_FMT_FP8));  /* format */
	uint64_t hole = digest(100, 104, IKV_FMT_INT8);       /* masks: same bounds, another hole */
	ck_assert_uint_ne(hole, digest(100, 105, IKV_FMT_INT8));
	ck_assert_uint_ne(hole, digest(100, 100, IKV_FMT_INT8));
	ikv_plan_reset(&plan, 6400);
	uint64_t none = ikv_plan_digest(&plan);
	ikv_plan_add(&plan, 0, 16, IKV_FMT_INT8, 0);
	ck_assert_uint_ne(none, ikv_plan_digest(&plan));
	d = ikv_plan_digest(&plan);
	plan.pages[0].stored = IKV_FMT_INT4; /* what the manager does later is not part of it */
	ck_assert_uint_eq(d, ikv_plan_digest(&plan));
	ikv_plan_free(&plan);
}
END_TEST

static struct ikv_plan_shape shape_of(const struct ikv_plan *p)
{
	struct ikv_plan_shape shape;
	ikv_plan_shape(p, &shape);
	return shape;
}

START_TEST(pages_runs_and_mixes_are_counted)
{
	ck_assert_int_eq(ikv_plan_init(&plan, 16, 20, &err), 0);
	ikv_plan_reset(&plan, 320);
	struct ikv_plan_shape x = shape_of(&plan);
	ck_assert_uint_eq(x.pages[IKV_FMT_FP16] + x.runs[IKV_FMT_FP16] + x.mixes, 0);
	ck_assert_double_eq(x.fine, 0);
	ikv_plan_add(&plan, 0, 64, IKV_FMT_FP16, 0);   /* pages 0 to 3 */
	ikv_plan_add(&plan, 96, 288, IKV_FMT_FP16, 1); /* pages 6 to 17: blocks of 8 pages each in the plan */
	x = shape_of(&plan);
	ck_assert_uint_eq(x.pages[IKV_FMT_FP16], 16);
	ck_assert_uint_eq(x.runs[IKV_FMT_FP16], 2);
	ck_assert_uint_eq(x.mixes, 0);
	plan.pages[2].stored = plan.pages[5].stored = IKV_FMT_INT8; /* amid runs, in the first block: sorted, they are one */
	x = shape_of(&plan);
	ck_assert_uint_eq(x.pages[IKV_FMT_FP16], 14);
	ck_assert_uint_eq(x.runs[IKV_FMT_FP16], 4);
	ck_assert_uint_eq(x.runs[IKV_FMT_INT8], 2);
	ck_assert_uint_eq(x.mixes, 1);
	plan.pages[8].stored = IKV_FMT_INT8; /* the second */
	plan.pages[9].stored = IKV_FMT_INT4;
	ck_assert_uint_eq(shape_of(&plan).mixes, 3);
	ikv_plan_free(&plan);
	ck_assert_int_eq(ikv_plan_init(&plan, 128, 20, &err), 0); /* a page is a block */
	ikv_plan_reset(&plan, 2560);
	ikv_plan_add(&plan, 0, 2560, IKV_FMT_FP16, 0);
	plan.pages[3].stored = IKV_FMT_INT8;
	ck_assert_uint_eq(shape_of(&plan).mixes, 0);
	ikv_plan_free(&plan);
}
END_TEST

/* One of the first three quarters of 128 tokens, and rarer the more are summed before: pieces of 4096 tokens begin anew. */
START_TEST(tokens_stand_out_less_often_in_long_plans)
{
	static const struct {
		uint32_t page_tokens, tokens, blocks;
	} of[] = {{16, 128, 1}, {16, 640, 5}, {32, 640, 5}, {5, 640, 16}, {16, 4096, 32}, {16, 32768, 32}, {16, 131072, 64}};
	for (size_t k = 0; k < sizeof of / sizeof *of; k++) {
		double harmonic = 0;
		ck_assert_int_eq(ikv_plan_init(&plan, of[k].page_tokens, of[k].tokens / of[k].page_tokens, &err), 0);
		ikv_plan_reset(&plan, of[k].tokens);
		ikv_plan_add(&plan, 0, of[k].tokens, IKV_FMT_INT8, 0);
		for (uint32_t i = 1; i <= of[k].blocks; i++)
			harmonic += 1.0 / i;
		ck_assert_double_eq_tol(shape_of(&plan).fine, fmin(1, 4 * harmonic / 3 / of[k].blocks), .01);
		ikv_plan_free(&plan);
	}
}
END_TEST

START_TEST(reserve_keeps_content)
{
	ck_assert_int_eq(ikv_plan_init(&plan, 16, 2, &err), 0);
	ikv_plan_reset(&plan, 320);
	ikv_plan_add(&plan, 0, 4, IKV_FMT_INT8, 0);
	ikv_plan_add(&plan, 8, 32, IKV_FMT_INT8, 1);
	uint64_t d = ikv_plan_digest(&plan);
	ck_assert_int_eq(ikv_plan_reserve(&plan, 20, &err), 0);
	ck_assert_uint_eq(d, ikv_plan_digest(&plan));
	ikv_plan_add(&plan, 32, 320, IKV_FMT_FP16, 2);
	ck_assert_uint_eq(plan.count, 20);
	ck_assert_int_eq(ikv_plan_reserve(&plan, UINT32_MAX, &err), -1);
	ikv_plan_free(&plan);
	ck_assert_int_eq(ikv_plan_init(&plan, 0, 2, &err), -1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("plan");
	TCase *t = tcase_create("plan");
	tcase_add_test(t, random_ranges);
	tcase_add_test(t, a_shared_page_keeps_the_higher_precision);
	tcase_add_test(t, digest_tells_plans_apart);
	tcase_add_test(t, pages_runs_and_mixes_are_counted);
	tcase_add_test(t, tokens_stand_out_less_often_in_long_plans);
	tcase_add_test(t, reserve_keeps_content);
	suite_add_tcase(s, t);
	return tap_run(s);
}

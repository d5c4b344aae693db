/* Layout validation, one message per violation, and the precision ladders. */
#include <string.h>
#include <intentkv.h>
#include "tap.h"

static struct ikv_block blocks[3];
static struct ikv_layout layout;

static void fresh(void)
{
	static const struct ikv_block good[3] = {
	    {.name = "a", .start = 0, .end = 10, .policy = IKV_ALWAYS, .line = 4},
	    {.name = "b", .start = 10, .end = 20, .policy = IKV_ATTEND, .has_score = true, .score = 0.5, .line = 5},
	    {.name = "c", .start = 25, .end = 40, .policy = IKV_SKIP_BLOCK, .line = 6},
	};
	memcpy(blocks, good, sizeof good);
	layout = (struct ikv_layout){blocks, 3, 40, 16};
}

static void refused(const char *part)
{
	struct ikv_err err = {0};
	ck_assert_int_eq(ikv_layout_validate(&layout, "f.yaml", true, &err), -1);
	ck_assert_msg(strstr(err.text, part) != NULL, "\"%s\" does not contain \"%s\"", err.text, part);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	fresh();
}

START_TEST(violations_are_told_apart)
{
	struct ikv_err err;
	fresh();
	ck_assert_int_eq(ikv_layout_validate(&layout, NULL, true, &err), 0);
	blocks[1].name = "";
	refused("f.yaml:5: name: block 1 [10, 20) has no name");
	blocks[2].name = "a";
	refused("f.yaml:6: name: block \"a\" [25, 40) has the name of block 0, [0, 10)");
	blocks[1].end = 10;
	refused("block \"b\" [10, 10) is empty");
	blocks[2].end = 41;
	refused("ends beyond the context of 40 tokens");
	blocks[2].start = 5;
	refused("is out of order");
	blocks[2].start = 19;
	refused("block \"c\" [19, 40) overlaps block \"b\" [10, 20)");
	blocks[1].score = 1.5;
	refused("has score 1.5, expected a number from 0 to 1");
	blocks[1].score = __builtin_nan("");
	refused("expected a number from 0 to 1");
	blocks[1].has_score = false;
	ck_assert_int_eq(ikv_layout_validate(&layout, NULL, false, &err), 0);
	refused("block \"b\" [10, 20) is ATTEND and has no score");
	layout.page_tokens = 0;
	refused("page_tokens: got 0, expected from 1 to 1024");
	layout.page_tokens = 1025;
	refused("page_tokens: got 1025");
}
END_TEST

START_TEST(names_round_trip)
{
	int n = 0;
	for (const char *const *k = ikv_kind_names(); *k; k++, n++)
		ck_assert_str_eq(*k, ikv_kind_name((enum ikv_kind)n));
	ck_assert_int_eq(n, IKV_KIND_COUNT);
	for (n = 0; ikv_policy_names()[n]; n++)
		ck_assert_str_eq(ikv_policy_names()[n], ikv_policy_name((enum ikv_policy)n));
	ck_assert_int_eq(n, IKV_POLICY_COUNT);
	ck_assert_str_eq(ikv_policy_name(IKV_SKIP_BLOCK), "SKIP");
}
END_TEST

static enum ikv_format seed_format(enum ikv_policy policy, double score, double pressure)
{
	struct ikv_block b = {.name = "x", .policy = policy, .has_score = score >= 0, .score = score};
	return ikv_ladder_format(ikv_ladder_find("seed"), &b, pressure);
}

START_TEST(seed_ladder)
{
	ck_assert_int_eq(seed_format(IKV_GLOBAL, -1, 0.8), IKV_FMT_FP16);
	ck_assert_int_eq(seed_format(IKV_GLOBAL, -1, 0.81), IKV_FMT_INT8);
	ck_assert_int_eq(seed_format(IKV_ALWAYS, -1, 0.71), IKV_FMT_FP8);
	ck_assert_int_eq(seed_format(IKV_ATTEND, -1, 0.5), IKV_FMT_FP16);
	ck_assert_int_eq(seed_format(IKV_ATTEND, -1, 0.6), IKV_FMT_INT8);
	ck_assert_int_eq(seed_format(IKV_ATTEND, 0.75, 0.5), IKV_FMT_INT8);
	ck_assert_int_eq(seed_format(IKV_ATTEND, 0.75, 0.6), IKV_FMT_FP8);
	ck_assert_int_eq(seed_format(IKV_ATTEND, 0.40, 0.6), IKV_FMT_INT4_RESIDUAL);
	ck_assert_int_eq(seed_format(IKV_ATTEND, 0.40, 0.7), IKV_FMT_INT4);
	ck_assert_int_eq(seed_format(IKV_ATTEND, 0.39, 0.3), IKV_FMT_INT4);
	ck_assert_int_eq(seed_format(IKV_ATTEND, 0.39, 0.4), IKV_FMT_SKIP);
	ck_assert_int_eq(seed_format(IKV_SKIP_BLOCK, 0.9, 0), IKV_FMT_SKIP);
	struct ikv_ladder l = *ikv_ladder_find("seed");
	struct ikv_block b = {.name = "x", .policy = IKV_RECENT};
	ck_assert_int_eq(ikv_ladder_format(&l, &b, 0.7), IKV_FMT_FP8);
	l.preserve_recent = false;
	ck_assert_int_eq(ikv_ladder_format(&l, &b, 0.7), IKV_FMT_INT4_RESIDUAL);
	b.policy = IKV_GLOBAL;
	l.preserve_system = false;
	ck_assert_int_eq(ikv_ladder_format(&l, &b, 0.75), IKV_FMT_FP8);
}
END_TEST

START_TEST(presets_decide_every_case)
{
	struct ikv_err err;
	int n = 0;
	for (const struct ikv_ladder *const *l = ikv_ladder_presets(); *l; l++, n++) {
		ck_assert_msg(!ikv_ladder_check(*l, &err), "%s", err.text);
		ck_assert_ptr_eq(ikv_ladder_find((*l)->name), *l);
	}
	ck_assert_int_eq(n, 15);
	ck_assert_ptr_null(ikv_ladder_find("nothing"));
	struct ikv_ladder cut = *ikv_ladder_find("seed");
	cut.count--;
	ck_assert_int_eq(ikv_ladder_check(&cut, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "no rule for SKIP blocks"));
	cut.medium = 0.9;
	ck_assert_int_eq(ikv_ladder_check(&cut, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "thresholds"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("layout");
	TCase *t = tcase_create("layout");
	tcase_add_test(t, violations_are_told_apart);
	tcase_add_test(t, names_round_trip);
	tcase_add_test(t, seed_ladder);
	tcase_add_test(t, presets_decide_every_case);
	suite_add_tcase(s, t);
	return tap_run(s);
}

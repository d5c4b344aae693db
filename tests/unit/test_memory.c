/* The KV memory manager: its rules, one by one. */
#include <time.h>
#include "memory_rig.h"

START_TEST(first_formats)
{
	struct ikv_memory *m = make(&rig, 0, 0, 1);
	grow(&rig, m, 5 * 24 + 5, 24);                     /* blocks of one and a half pages */
	ck_assert_int_eq(page(m, 0).format, IKV_FMT_FP16); /* ALWAYS */
	ck_assert(page(m, 0).pinned);
	ck_assert_int_eq(page(m, 1).format, IKV_FMT_FP16); /* half ALWAYS, half ATTEND: the stronger */
	ck_assert_int_eq(page(m, 2).format, IKV_FMT_INT8);
	ck_assert_int_eq(page(m, 3).format, IKV_FMT_INT4); /* SKIP still exists, in the lowest format */
	ck_assert(page(m, 7).open);
	ck_assert_int_eq(page(m, 7).format, IKV_FMT_FP16);
	struct ikv_memory_step s = act(&rig, m, 1, NULL, 0, 0);
	ck_assert_uint_eq(s.total.moves[IKV_MOVE_ENCODE],
			  2 * 5); /* both groups: all but two FP16 pages and the open one */
	ikv_memory_destroy(m);
}
END_TEST

START_TEST(cold_pages_step_down)
{
	rig.config.adapt_every = 0;
	struct ikv_memory *m = make(&rig, 0, 0, 1);
	grow(&rig, m, 64 * PT, 4 * PT);
	for (uint64_t step = 1; step <= 40; step++) {
		select_page(&rig, 4, IKV_FMT_INT8);
		act(&rig, m, step, NULL, 0, 0);
		static const enum ikv_format at[] = {IKV_FMT_INT8, IKV_FMT_FP8, IKV_FMT_INT4, IKV_FMT_INT4,
						     IKV_FMT_INT4};
		/* FP8 to INT4_RESIDUAL would take more bytes, so it is passed over. */
		ck_assert_int_eq(page(m, 5).format, at[step / 10]);
		ck_assert_int_eq(page(m, 4).format, IKV_FMT_INT8);
		ck_assert_int_eq(page(m, 0).format, IKV_FMT_FP16); /* pinned */
	}
	ck_assert(page(m, 5).demoted);
	ikv_memory_destroy(m);
}
END_TEST

START_TEST(requests)
{
	rig.config.adapt_every = 0;
	struct ikv_memory *m = make(&rig, 0, 0, 1);
	grow(&rig, m, 64 * PT, 4 * PT);
	uint64_t step = 1;
	for (int i = 0; i < 5; i++, step++) {
		select_page(&rig, 4, IKV_FMT_FP16);
		struct ikv_memory_step s = act(&rig, m, step, NULL, 0, 0);
		ck_assert_int_eq(page(m, 4).format, i < 3 ? IKV_FMT_INT8 : IKV_FMT_FP16);
		ck_assert_int_eq(rig.refs[0].stored, page(m, 4).format);
		ck_assert_uint_eq(s.total.moves[IKV_MOVE_REFETCH], i == 3);
	}
	for (int i = 0; i < 6; i++, step++) { /* no pressure: nothing; then three uses in a row */
		select_page(&rig, 4, IKV_FMT_INT4);
		act(&rig, m, step, NULL, 0, i < 3 ? 0.8 : 0.9);
		ck_assert_int_eq(page(m, 4).format, i < 5 ? IKV_FMT_FP16 : IKV_FMT_INT4);
	}
	ikv_memory_destroy(m);
}
END_TEST

START_TEST(prefetch_is_scored)
{
	rig.config.demote = false;
	struct ikv_memory *m = make(&rig, 40 * 33280, 0, 2);
	set_tokens(&rig, 64 * PT, 64 * PT);
	rig.blocks[0].policy = IKV_ATTEND;
	ck_assert_int_eq(ikv_memory_grow(m, 0, &rig.layout, &ladder, 0, NULL), 0);
	act(&rig, m, 1, NULL, 0, 0); /* 24 of 64 pages of both groups stay */
	uint32_t resident = UINT32_MAX, out[4], n = 0;
	for (uint32_t p = 0; p < 64 && n < 4; p++) {
		if (page(m, p).tier)
			out[n++] = p;
		else
			resident = p;
	}
	ck_assert_uint_eq(n, 4);
	struct ikv_memory_step s = act(&rig, m, 2, out, 2, 0);
	ck_assert_uint_eq(s.total.moves[IKV_MOVE_PREFETCH], 2);
	if (resident != UINT32_MAX)
		ck_assert_uint_eq(act(&rig, m, 2, &resident, 1, 0).total.moves[IKV_MOVE_PREFETCH], 0);
	select_page(&rig, out[0], IKV_FMT_INT8);
	select_page(&rig, out[2], IKV_FMT_INT8);
	select_page(&rig, out[3], IKV_FMT_INT8);
	s = act(&rig, m, 3, &out[3], 1, 0);
	ck_assert_uint_eq(s.total.prefetch_useful, 1);
	ck_assert_uint_eq(s.total.prefetch_missed, 1);
	ck_assert_uint_eq(s.total.prefetch_late, 1);
	ck_assert_uint_eq(act(&rig, m, 4, NULL, 0, 0).total.prefetch_wasted, 0);
	ck_assert_uint_eq(act(&rig, m, 90, NULL, 0, 0).total.prefetch_wasted, 0); /* the fifth step of its own */
	ck_assert_uint_eq(act(&rig, m, 91, NULL, 0, 0).total.prefetch_wasted, 1);
	ikv_memory_destroy(m);
}
END_TEST

START_TEST(full_last_tier_is_an_error)
{
	struct ikv_memory *m = make(&rig, 4 * 65536, 65536, 2);
	struct ikv_memory_step out;
	struct ikv_err err;
	grow(&rig, m, 64 * PT, 4 * PT);
	ck_assert_int_eq(ikv_memory_act(m, 1, NULL, 0, &out, &err), -1);
	ck_assert_int_eq(err.status, IKV_FAILED);
	ck_assert_ptr_nonnull(strstr(err.text, "host is full"));
	ikv_memory_destroy(m);
}
END_TEST

/* A sequence that waits grows no colder, however many steps the other takes. */
START_TEST(idle_sequences_keep_formats)
{
	rig.config.adapt_every = _i ? 5 : 0;
	struct ikv_memory *m = make(&rig, 0, 0, 1);
	struct ikv_plan *plan = &rig.plan;
	struct ikv_memory_use use = {.seq = 1, .plan = plan, .layout = &rig.layout};
	struct ikv_memory_step out;
	struct ikv_page_state was, is;
	grow_seq(&rig, m, 0, 64 * PT, 4 * PT);
	grow_seq(&rig, m, 1, 64 * PT, 4 * PT);
	select_page(&rig, 5, IKV_FMT_INT8);
	ck_assert_int_eq(ikv_memory_act(m, 1, &use, 1, &out, NULL), 0);
	plan->count = 0;
	ck_assert_int_eq(ikv_memory_page(m, 1, 0, 5, &was, NULL), 0);
	ck_assert(was.accesses == 1 && was.last_step == 1);
	uint64_t demoted = 0;
	for (uint64_t step = 2; step <= 300; step++) {
		select_page(&rig, 4, IKV_FMT_INT8);
		struct ikv_memory_step s = act(&rig, m, step, NULL, 0, 0);
		for (uint32_t i = 0; i < s.action_count; i++) {
			ck_assert_uint_eq(s.actions[i].seq, 0);
			demoted += s.actions[i].move == IKV_MOVE_DEMOTE;
		}
	}
	ck_assert_uint_gt(demoted, 50);
	ck_assert_int_eq(page(m, 5).format, IKV_FMT_INT4);
	ck_assert_int_eq(ikv_memory_page(m, 1, 0, 5, &is, NULL), 0);
	ck_assert(was.format == is.format && was.tier == is.tier && was.last_step == is.last_step);
	ck_assert(was.accesses == is.accesses && was.demoted == is.demoted); /* nor has its access count decayed */
	for (uint64_t own = 2; own <= 11 && !_i; own++) {
		ck_assert_int_eq(ikv_memory_act(m, 300 + own, &use, 1, &out, NULL), 0);
		ck_assert_int_eq(ikv_memory_page(m, 1, 0, 5, &is, NULL), 0);
		ck_assert_int_eq(is.format, own < 11 ? IKV_FMT_INT8 : IKV_FMT_FP8);
		ck_assert_int_eq(ikv_memory_page(m, 1, 1, 6, &is, NULL), 0); /* not read at step 1 */
		ck_assert_int_eq(is.format, own < 10 ? IKV_FMT_INT8 : IKV_FMT_FP8);
	}
	ikv_memory_destroy(m);
}
END_TEST

/* Two sequences whose selections fill the fast tier to the last page: the one must not push out the other's. */
START_TEST(a_batch_keeps_all_that_it_reads)
{
	struct ikv_page_ref refs[2][64];
	struct ikv_plan plans[2] = {{.pages = refs[0], .cap = 64, .page_tokens = PT},
				    {.pages = refs[1], .cap = 64, .page_tokens = PT}};
	uint64_t misses = 0, evictions[2] = {0};
	rig.config.demote = false;
	struct ikv_memory *m = make(&rig, 40 * 33280, 0, 2);
	for (uint32_t seq = 0; seq < 2; seq++) {
		set_tokens(&rig, 64 * PT, 64 * PT);
		rig.blocks[0].policy = IKV_ATTEND;
		ck_assert_int_eq(ikv_memory_grow(m, seq, &rig.layout, &ladder, 0, NULL), 0);
	}
	for (uint64_t step = 1; step <= 20; step++) {
		struct ikv_memory_use uses[2];
		struct ikv_memory_step out;
		for (uint32_t seq = 0; seq < 2; seq++) {
			plans[seq].count = 0;
			for (uint32_t p = 0; p < 20; p++)
				refs[seq][plans[seq].count++] = (struct ikv_page_ref){
				    p * 3 + (uint32_t)step % 3, 0, PT, IKV_NO_MASK, IKV_FMT_INT8, 0, UINT16_MAX};
			uses[seq] = (struct ikv_memory_use){.seq = seq, .plan = &plans[seq], .layout = &rig.layout};
		}
		ck_assert_int_eq(ikv_memory_act(m, step, uses, 2, &out, NULL), 0);
		for (uint32_t seq = 0; seq < 2; seq++) {
			for (uint32_t k = 0; k < 20; k++) {
				struct ikv_page_state st;
				ikv_memory_page(m, seq, 0, refs[seq][k].page, &st, NULL);
				ck_assert_uint_eq(st.tier, 0);
			}
			ck_assert_uint_eq(uses[seq].tally.hits + uses[seq].tally.misses, 20);
			evictions[seq] += step > 1 ? uses[seq].tally.moves[IKV_MOVE_EVICT] : 0;
			if (step > 1) /* a full tier: each fetch pays for one eviction, whosever page goes */
				ck_assert_uint_eq(uses[seq].tally.moves[IKV_MOVE_EVICT], uses[seq].tally.misses);
		}
		ck_assert_uint_eq(out.total.streamed_bytes, 0);
		misses += step > 1 ? out.total.misses : 0;
	}
	ck_assert_uint_eq(misses, 19 * 40);
	ck_assert_uint_eq(evictions[0] + evictions[1], misses);
	ikv_memory_destroy(m);
}
END_TEST

/* The tier is full of a waiting sequence's pages: whoever grows pays for their way out. */
START_TEST(growth_pays_for_its_evictions)
{
	struct ikv_memory *m = make(&rig, 60 * 33280, 0, 2);
	struct ikv_memory_use uses[2] = {{.seq = 1, .plan = &rig.plan}, {.seq = 1, .group = 1, .plan = &rig.plan}};
	struct ikv_memory_step out;
	rig.config.demote = false;
	grow_seq(&rig, m, 0, 20 * PT, 4 * PT);
	act(&rig, m, 1, NULL, 0, 0);
	grow_seq(&rig, m, 1, 12 * PT, 4 * PT);
	ck_assert_int_eq(ikv_memory_act(m, 2, uses, 2, &out, NULL), 0);
	ck_assert_uint_gt(out.total.moves[IKV_MOVE_EVICT], 5);
	for (uint32_t i = 0; i < out.action_count; i++)
		ck_assert_uint_eq(out.actions[i].seq, out.actions[i].move != IKV_MOVE_EVICT);
	ck_assert_uint_eq(uses[0].tally.moves[IKV_MOVE_EVICT] + uses[1].tally.moves[IKV_MOVE_EVICT],
			  out.total.moves[IKV_MOVE_EVICT]);
	ikv_memory_destroy(m);
}
END_TEST

START_TEST(the_future_is_not_to_be_had)
{
	struct ikv_tier tier = {"hbm", 0};
	struct ikv_memory_setup s = {.config = &rig.config,
				     .residency = ikv_residency_find("belady"),
				     .tiers = &tier,
				     .tier_count = 1,
				     .page_tokens = PT,
				     .sequences = 1,
				     .groups = 1};
	struct ikv_memory *m;
	struct ikv_err err;
	ck_assert_int_eq(ikv_memory_create(&m, &s, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "belady needs to know the future"));
}
END_TEST

/* 8K pages under byte pressure; the time is printed, the absence of allocation is asserted. */
START_TEST(steady_step)
{
	struct ikv_rng r;
	ikv_rng_stream(&r, 9, IKV_STREAM_TEST, 0, 0);
	struct ikv_memory *m = make(&rig, 3000 * 33280LL, 0, 2);
	grow(&rig, m, 8192 * PT, 2048);
	uint64_t allocations = 0;
	double total = 0;
	for (uint64_t step = 1; step <= 400; step++) {
		if (step == 100)
			allocations = ikv_alloc_count();
		uint32_t shift = (uint32_t)(step / 20 * 128);
		for (uint32_t p = 0; p < 8192; p++)
			if (_i ? true : p < 128 || (p - shift) % 8192 < 1200 || p >= 8064)
				select_page(&rig, p, IKV_FMT_INT8);
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		act(&rig, m, step, NULL, 0, 0.9);
		clock_gettime(CLOCK_MONOTONIC, &b);
		if (step >= 100)
			total += (double)(b.tv_sec - a.tv_sec) * 1e6 + (double)(b.tv_nsec - a.tv_nsec) / 1e3;
	}
	ck_assert_uint_eq(ikv_alloc_count(), allocations);
	printf("# memory step at 8192 pages, %s plan: %.1f us\n", _i ? "dense" : "18 %", total / 301);
	fflush(stdout);
	ikv_memory_destroy(m);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memory");
	TCase *t = tcase_create("memory");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_set_timeout(t, 120);
	tcase_add_test(t, first_formats);
	tcase_add_test(t, cold_pages_step_down);
	tcase_add_test(t, requests);
	tcase_add_test(t, prefetch_is_scored);
	tcase_add_test(t, full_last_tier_is_an_error);
	tcase_add_loop_test(t, idle_sequences_keep_formats, 0, 2);
	tcase_add_test(t, growth_pays_for_its_evictions);
	tcase_add_test(t, a_batch_keeps_all_that_it_reads);
	tcase_add_test(t, the_future_is_not_to_be_had);
	tcase_add_loop_test(t, steady_step, 0, 2);
	suite_add_tcase(s, t);
	return tap_run(s);
}

/* The KV memory manager against what must hold after every step of random sessions. */
#include <string.h>
#include <time.h>
#include <intentkv.h>
#include "tap.h"

#define PT 16
static const struct ikv_ladder_rule rules[] = {
    {IKV_ALWAYS, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_FP16},
    {IKV_SKIP_BLOCK, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_SKIP},
    {IKV_RECENT, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_FP8},
    {IKV_ANY, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_INT8},
};
static const struct ikv_ladder ladder = {
    .name = "test", .summary = "", .high = 0.75, .medium = 0.4, .rules = rules, .count = 4};
static const uint64_t bytes_of[IKV_FMT_COUNT] = {0, 65536, 33280, 33280, 20480, 36864};
static const int precision[IKV_FMT_COUNT] = {0, 5, 3, 4, 1, 2};

struct rig {
	struct ikv_memory *m;
	struct ikv_memory_config config;
	struct ikv_block blocks[64];
	struct ikv_layout layout;
	struct ikv_plan plan;
	struct ikv_page_ref refs[16384];
};
static struct rig rig;

/* A layout of blocks of `each` tokens, policies in turn. */
static void set_tokens(struct rig *r, uint32_t tokens, uint32_t each)
{
	static const enum ikv_policy turn[] = {IKV_ALWAYS, IKV_ATTEND, IKV_SKIP_BLOCK, IKV_RECENT, IKV_ATTEND};
	static char names[64][8];
	r->layout = (struct ikv_layout){r->blocks, 0, tokens, PT};
	for (uint32_t at = 0; at < tokens && r->layout.count < 64; at += each) {
		uint32_t i = r->layout.count++;
		snprintf(names[i], sizeof names[i], "b%u", i);
		uint32_t end = i == 63 || tokens - at < each ? tokens : at + each;
		r->blocks[i] =
		    (struct ikv_block){names[i], at, end, IKV_KIND_USER, turn[i % 5], true, 0.5, i + 1, 0, 0};
	}
}

static struct ikv_memory *make(struct rig *r, int64_t fast, int64_t slow, uint32_t tiers)
{
	struct ikv_tier t[2] = {{"hbm", fast}, {"host", slow}};
	struct ikv_memory_setup s = {.config = &r->config,
				     .residency = ikv_residency_find("lru"),
				     .tiers = t,
				     .tier_count = tiers,
				     .page_tokens = PT,
				     .sequences = 2,
				     .groups = 2};
	struct ikv_memory *m = NULL;
	memcpy(s.page_bytes, bytes_of, sizeof bytes_of);
	struct ikv_err err;
	if (ikv_memory_create(&m, &s, &err))
		ck_abort_msg("%s", err.text);
	return m;
}

static void setup(void)
{
	memset(&rig, 0, sizeof rig);
	ikv_option_defaults(ikv_memory_options, &rig.config);
	rig.plan = (struct ikv_plan){.pages = rig.refs, .cap = 16384, .page_tokens = PT};
}

static void select_page(struct rig *r, uint32_t page, enum ikv_format request)
{
	r->refs[r->plan.count++] = (struct ikv_page_ref){page, 0, PT, IKV_NO_MASK, (uint8_t)request, 0, UINT16_MAX};
}

static struct ikv_memory_step act(struct rig *r, struct ikv_memory *m, uint64_t step, const uint32_t *ahead,
				  uint32_t n, double pressure)
{
	struct ikv_memory_use use = {
	    .plan = &r->plan, .layout = &r->layout, .prefetch = ahead, .prefetch_count = n, .pressure = pressure};
	struct ikv_memory_step out;
	struct ikv_err err;
	if (ikv_memory_act(m, step, &use, 1, &out, &err))
		ck_abort_msg("%s", err.text);
	r->plan.count = 0;
	return out;
}

static struct ikv_page_state page(struct ikv_memory *m, uint32_t p)
{
	struct ikv_page_state s;
	ck_assert_int_eq(ikv_memory_page(m, 0, 0, p, &s, NULL), 0);
	return s;
}

static void grow_seq(struct rig *r, struct ikv_memory *m, uint32_t seq, uint32_t tokens, uint32_t each)
{
	struct ikv_err err;
	set_tokens(r, tokens, each);
	if (ikv_memory_grow(m, seq, &r->layout, &ladder, 0.5, &err))
		ck_abort_msg("%s", err.text);
}

static void grow(struct rig *r, struct ikv_memory *m, uint32_t tokens, uint32_t each)
{
	grow_seq(r, m, 0, tokens, each);
}

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

/* Everything that must hold after a step, by walking all pages. */
static void check_all(struct ikv_memory *m, const struct ikv_memory_step *s, const uint32_t pages[2],
		      int64_t capacity)
{
	uint64_t tier[2] = {0}, count[2] = {0}, formats[IKV_FMT_COUNT] = {0}, open = 0;
	for (uint32_t seq = 0; seq < 2; seq++) {
		for (uint32_t g = 0; g < 2; g++) {
			for (uint32_t p = 0; p < pages[seq]; p++) {
				struct ikv_page_state st;
				ck_assert_int_eq(ikv_memory_page(m, seq, g, p, &st, NULL), 0);
				tier[st.tier] += bytes_of[st.format];
				count[st.tier]++;
				formats[st.format]++;
				open += st.open ? bytes_of[st.format] : 0;
				ck_assert(!st.open || (st.tier == 0 && st.format == IKV_FMT_FP16));
			}
		}
	}
	for (int t = 0; t < 2; t++) {
		ck_assert_uint_eq(tier[t], s->tier_bytes[t]);
		ck_assert_uint_eq(count[t], s->tier_pages[t]);
	}
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		ck_assert_uint_eq(formats[f], s->format_pages[f]);
	ck_assert(tier[0] <= (uint64_t)capacity || tier[0] == open);
}

static bool selects(const struct ikv_memory_use *use, uint32_t page)
{
	for (uint32_t k = 0; k < use->plan->count; k++)
		if (use->plan->pages[k].page == page)
			return true;
	return false;
}

/* What the actions say must be what the tallies say, use by use and in total. */
static void check_tallies(const struct ikv_memory_step *s, const struct ikv_memory_use *uses, uint32_t count,
			  const uint32_t pages[2], bool all_fit)
{
	uint64_t moved[5][IKV_MOVE_COUNT] = {{0}}, moves[5][IKV_MOVE_COUNT] = {{0}}; /* last: nobody's */
	struct ikv_memory_tally sum = {0};
	for (uint32_t i = 0; i < s->action_count; i++) {
		const struct ikv_action *a = &s->actions[i];
		uint32_t by = 0;
		ck_assert(a->page < pages[a->seq] && a->group < 2);
		while (by < count && (uses[by].seq != a->seq || uses[by].group != a->group))
			by++;
		moved[by < count ? by : 4][a->move] += a->bytes;
		moves[by < count ? by : 4][a->move]++;
		if (a->move == IKV_MOVE_DEMOTE) {
			ck_assert_int_lt(precision[a->to_format], precision[a->from_format]);
			ck_assert_uint_le(bytes_of[a->to_format], bytes_of[a->from_format]);
		}
		if (a->move == IKV_MOVE_EVICT) {
			ck_assert(a->from_tier == 0 && a->to_tier == 1);
			ck_assert(!all_fit || by == count || !selects(&uses[by], a->page));
		}
		if (a->move == IKV_MOVE_FETCH || a->move == IKV_MOVE_PREFETCH)
			ck_assert(a->from_tier == 1 && a->to_tier == 0);
	}
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_memory_tally *t = &uses[i].tally;
		uint64_t read = 0;
		for (uint32_t k = 0; k < uses[i].plan->count; k++)
			read += bytes_of[uses[i].plan->pages[k].stored];
		ck_assert_uint_eq(t->hits + t->misses, uses[i].plan->count);
		ck_assert_uint_eq(t->read_bytes, read);
		for (int k = 0; k < IKV_MOVE_COUNT; k++)
			if (k != IKV_MOVE_EVICT && k != IKV_MOVE_REFETCH) /* another's pages; reopened pages */
				ck_assert(t->moved_bytes[k] == moved[i][k] && t->moves[k] == moves[i][k]);
		ck_assert_uint_ge(t->moved_bytes[IKV_MOVE_REFETCH], moved[i][IKV_MOVE_REFETCH]);
		ikv_memory_tally_add(&sum, t);
	}
	for (int k = 0; k < IKV_MOVE_COUNT; k++) {
		uint64_t all = 0;
		for (uint32_t i = 0; i < 5; i++)
			all += moved[i][k];
		ck_assert(k == IKV_MOVE_REFETCH || s->total.moved_bytes[k] == all);
		bool aging = k == IKV_MOVE_DEMOTE || k == IKV_MOVE_ENCODE || k == IKV_MOVE_EVICT;
		ck_assert(aging ? sum.moves[k] <= s->total.moves[k] : sum.moves[k] == s->total.moves[k]);
		if (k == IKV_MOVE_DEMOTE || k == IKV_MOVE_ENCODE) {
			sum.moves[k] += (uint32_t)moves[4][k];
			sum.moved_bytes[k] += moved[4][k];
		}
	}
	sum.moves[IKV_MOVE_EVICT] = s->total.moves[IKV_MOVE_EVICT];
	sum.moved_bytes[IKV_MOVE_EVICT] = s->total.moved_bytes[IKV_MOVE_EVICT];
	ck_assert_uint_le(sum.prefetch_wasted, s->total.prefetch_wasted);
	sum.prefetch_wasted = s->total.prefetch_wasted;
	ck_assert_mem_eq(&sum, &s->total, sizeof sum);
}

struct batch { /* of one random step */
	struct ikv_memory_use uses[4];
	struct ikv_plan plans[4];
	struct ikv_page_ref refs[4][128];
	uint32_t ahead[4][8], count;
	uint64_t fp16_bytes; /* of all that it selects, as if in the largest format */
};

/* Some groups of one sequence or of both. */
static void make_batch(struct ikv_rng *r, struct batch *b, const uint32_t pages[2])
{
	b->count = 0;
	b->fp16_bytes = 4 * bytes_of[IKV_FMT_FP16]; /* open pages */
	uint32_t seqs = 1 + (uint32_t)ikv_rng_below(r, 3), groups = 1 + (uint32_t)ikv_rng_below(r, 3);
	for (uint32_t k = 0; k < 4; k++) {
		uint32_t seq = k / 2, i = b->count, hot = (uint32_t)ikv_rng_below(r, 20), n = 0;
		if (!(seqs >> seq & 1) || !(groups >> k % 2 & 1))
			continue;
		bool dense = ikv_rng_below(r, 30) == 0;
		b->plans[i] = (struct ikv_plan){.pages = b->refs[i], .cap = 128, .page_tokens = PT};
		for (uint32_t p = 0; p < pages[seq]; p++)
			if (dense || p % 20 == hot || ikv_rng_below(r, 16) == 0)
				b->refs[i][b->plans[i].count++] = (struct ikv_page_ref){
				    p, 0, PT, IKV_NO_MASK, (uint8_t)(1 + ikv_rng_below(r, 5)), 0, UINT16_MAX};
		for (uint32_t p = 0; p < pages[seq] + 5 && n < 8; p += 1 + (uint32_t)ikv_rng_below(r, 20))
			b->ahead[i][n++] = p;
		b->uses[i] = (struct ikv_memory_use){.seq = seq,
						     .group = k % 2,
						     .plan = &b->plans[i],
						     .layout = &rig.layout,
						     .prefetch = b->ahead[i],
						     .prefetch_count = n,
						     .pressure = ikv_rng_uniform(r)};
		b->fp16_bytes += b->plans[i].count * bytes_of[IKV_FMT_FP16];
		b->count++;
	}
}

/* Grow, cut or release one sequence, in both managers alike. */
static void change(struct ikv_rng *r, struct ikv_memory *m, struct ikv_memory *copy, uint32_t tokens[2])
{
	uint32_t seq = (uint32_t)ikv_rng_below(r, 2), x = (uint32_t)ikv_rng_below(r, 300);
	uint32_t to = x < 2   ? 0
		      : x < 9 ? (uint32_t)ikv_rng_below(r, tokens[seq] + 1)
			      : tokens[seq] + (tokens[seq] < 1500 ? (uint32_t)ikv_rng_below(r, 60) : 0);
	set_tokens(&rig, to ? to : 1, 40);
	for (struct ikv_memory *k = m; k; k = k == copy ? NULL : copy) {
		if (x < 2)
			ikv_memory_release(k, seq);
		else if (x < 9)
			ck_assert_int_eq(ikv_memory_truncate(k, seq, to, NULL), 0);
		else if (to)
			ck_assert_int_eq(ikv_memory_grow(k, seq, &rig.layout, &ladder, 0.5, NULL), 0);
	}
	tokens[seq] = to;
}

/* A manager that goes on from the saved state. Damaged states are refused or load, but never do harm. */
static struct ikv_memory *save_and_load(struct ikv_rng *r, struct ikv_memory *m, int64_t capacity)
{
	struct ikv_err err;
	size_t size = ikv_memory_save(m, NULL, 0);
	unsigned char *state = malloc(size);
	ck_assert_uint_eq(ikv_memory_save(m, state, size), size);
	struct ikv_memory *copy = make(&rig, capacity, 0, 2), *other = make(&rig, capacity, 0, 2);
	if (ikv_memory_load(copy, state, size, &err))
		ck_abort_msg("%s", err.text);
	ck_assert_int_eq(ikv_memory_load(other, state, size / 2, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	for (int i = 0; i < 1000; i++) {
		size_t at = ikv_rng_below(r, size);
		unsigned char was = state[at];
		state[at] = (unsigned char)ikv_rng_u64(r);
		if (!ikv_memory_load(other, state, size, NULL)) { /* then it must also be able to go on */
			struct ikv_memory_use use = {.seq = (uint32_t)i % 2, .plan = &rig.plan};
			struct ikv_memory_step out;
			(void)ikv_memory_act(other, UINT64_MAX, &use, 1, &out, NULL);
			ck_assert_int_eq(ikv_memory_truncate(other, (uint32_t)i % 2, 0, NULL), 0);
		}
		state[at] = was;
	}
	ikv_memory_destroy(other);
	free(state);
	return copy;
}

START_TEST(random_sessions)
{
	static struct batch b;
	struct ikv_rng r;
	struct ikv_err err;
	int64_t capacity = 60 * 33280;
	uint32_t tokens[2] = {0, 0}, fitting = 0, batches = 0;
	ikv_rng_stream(&r, 5, IKV_STREAM_TEST, (uint64_t)_i, 0);
	rig.config.promotion = _i & 1;
	struct ikv_memory *m = make(&rig, capacity, 0, 2), *copy = NULL;
	for (uint64_t step = 1; step <= 1500; step++) {
		struct ikv_memory_tally before[4];
		struct ikv_memory_step s, t;
		change(&r, m, copy, tokens);
		uint32_t pages[2] = {ikv_pages(tokens[0], PT), ikv_pages(tokens[1], PT)};
		make_batch(&r, &b, pages);
		if (ikv_memory_act(m, step, b.uses, b.count, &s, &err))
			ck_abort_msg("%s", err.text);
		bool all_fit = b.fp16_bytes <= (uint64_t)capacity;
		fitting += all_fit;
		batches += b.count > 1;
		check_all(m, &s, pages, capacity);
		check_tallies(&s, b.uses, b.count, pages, all_fit);
		for (uint32_t i = 0; i < b.count; i++) {
			before[i] = b.uses[i].tally;
			for (uint32_t k = 0; k < b.plans[i].count; k++) {
				struct ikv_page_state st;
				ikv_memory_page(m, b.uses[i].seq, b.uses[i].group, b.refs[i][k].page, &st, NULL);
				ck_assert_int_eq(st.format, b.refs[i][k].stored);
			}
		}
		if (copy) {
			ck_assert_int_eq(ikv_memory_act(copy, step, b.uses, b.count, &t, &err), 0);
			ck_assert_uint_eq(s.action_count, t.action_count);
			for (uint32_t i = 0; i < s.action_count; i++)
				ck_assert(s.actions[i].page == t.actions[i].page &&
					  s.actions[i].move == t.actions[i].move);
			t.actions = s.actions;
			ck_assert_mem_eq(&s, &t, sizeof s);
			for (uint32_t i = 0; i < b.count; i++)
				ck_assert_mem_eq(&before[i], &b.uses[i].tally, sizeof before[i]);
		}
		if (step == 700)
			copy = save_and_load(&r, m, capacity);
	}
	ck_assert(fitting > 100 && batches > 300);
	ikv_memory_destroy(copy);
	ikv_memory_destroy(m);
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
	tcase_add_loop_test(t, random_sessions, 0, 4);
	tcase_add_loop_test(t, steady_step, 0, 2);
	suite_add_tcase(s, t);
	return tap_run(s);
}

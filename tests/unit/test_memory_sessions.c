/* The KV memory manager, under every residency policy, against what must hold after every step of random
 * sessions; and that a saved and loaded one goes on alike. */
#include "memory_rig.h"

/* Everything that must hold after a step, by walking all pages. */
static void check_all(struct ikv_memory *m, const struct ikv_memory_step *s, const uint32_t pages[2],
		      int64_t capacity)
{
	uint64_t tier[2] = {0}, count[2] = {0}, formats[IKV_FMT_COUNT] = {0}, open = 0;
	for (uint32_t seq = 0; seq < 2; seq++) {
		for (uint32_t g = 0; g < 2; g++) {
			for (uint32_t p = 0; p < pages[seq]; p++) {
				struct ikv_page_state st;
				must(ikv_memory_page(m, seq, g, p, &st, NULL) == 0);
				tier[st.tier] += bytes_of[st.format];
				count[st.tier]++;
				formats[st.format]++;
				open += st.open ? bytes_of[st.format] : 0;
				must(!st.open || (st.tier == 0 && st.format == IKV_FMT_FP16));
			}
		}
	}
	for (int t = 0; t < 2; t++) {
		ck_assert_uint_eq(tier[t], s->tier_bytes[t]);
		ck_assert_uint_eq(count[t], s->tier_pages[t]);
	}
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		must(formats[f] == s->format_pages[f]);
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
		must(a->page < pages[a->seq] && a->group < 2);
		while (by < count && (uses[by].seq != a->seq || uses[by].group != a->group))
			by++;
		moved[by < count ? by : 4][a->move] += a->bytes;
		moves[by < count ? by : 4][a->move]++;
		if (a->move == IKV_MOVE_DEMOTE) {
			must(precision[a->to_format] < precision[a->from_format]);
			must(bytes_of[a->to_format] <= bytes_of[a->from_format]);
		}
		if (a->move == IKV_MOVE_EVICT) {
			must(a->from_tier == 0 && a->to_tier == 1);
			must(!all_fit || by == count || !selects(&uses[by], a->page));
		}
		if (a->move == IKV_MOVE_FETCH || a->move == IKV_MOVE_PREFETCH)
			must(a->from_tier == 1 && a->to_tier == 0);
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
				must(t->moved_bytes[k] == moved[i][k] && t->moves[k] == moves[i][k]);
		ck_assert_uint_ge(t->moved_bytes[IKV_MOVE_REFETCH], moved[i][IKV_MOVE_REFETCH]);
		ikv_memory_tally_add(&sum, t);
	}
	for (int k = 0; k < IKV_MOVE_COUNT; k++) {
		uint64_t all = 0;
		for (uint32_t i = 0; i < 5; i++)
			all += moved[i][k];
		must(k == IKV_MOVE_REFETCH || s->total.moved_bytes[k] == all);
		bool aging = k == IKV_MOVE_DEMOTE || k == IKV_MOVE_ENCODE || k == IKV_MOVE_EVICT;
		must(aging ? sum.moves[k] <= s->total.moves[k] : sum.moves[k] == s->total.moves[k]);
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

static uint8_t request_of(struct ikv_rng *r, const struct ikv_memory *m, uint32_t seq, uint32_t group, uint32_t page,
			  bool as_stored)
{
	struct ikv_page_state st;
	if (!as_stored)
		return (uint8_t)(1 + ikv_rng_below(r, 5));
	ck_assert_int_eq(ikv_memory_page(m, seq, group, page, &st, NULL), 0);
	return (uint8_t)st.format;
}

/* Some groups of one sequence or of both; a plan in two asks for what is stored. */
static void make_batch(struct ikv_rng *r, const struct ikv_memory *m, struct batch *b, const uint32_t pages[2])
{
	b->count = 0;
	b->fp16_bytes = 4 * bytes_of[IKV_FMT_FP16]; /* open pages */
	uint32_t seqs = 1 + (uint32_t)ikv_rng_below(r, 3), groups = 1 + (uint32_t)ikv_rng_below(r, 3);
	for (uint32_t k = 0; k < 4; k++) {
		uint32_t seq = k / 2, i = b->count, hot = (uint32_t)ikv_rng_below(r, 20), n = 0;
		if (!(seqs >> seq & 1) || !(groups >> k % 2 & 1))
			continue;
		bool dense = ikv_rng_below(r, 30) == 0, as_stored = ikv_rng_below(r, 2);
		b->plans[i] = (struct ikv_plan){.pages = b->refs[i], .cap = 128, .page_tokens = PT};
		for (uint32_t p = 0; p < pages[seq]; p++)
			if (dense || p % 20 == hot || ikv_rng_below(r, 16) == 0)
				b->refs[i][b->plans[i].count++] = (struct ikv_page_ref){
				    p, 0, PT, IKV_NO_MASK, request_of(r, m, seq, k % 2, p, as_stored), 0, UINT16_MAX};
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
	const struct ikv_residency_ops *policy = ikv_residencies()[_i / 4];
	if (policy->foresee)
		return; /* refused, see below */
	set_residency(&rig, policy);
	ikv_rng_stream(&r, 5, IKV_STREAM_TEST, (uint64_t)_i % 4, 0);
	rig.config.promotion = _i & 1;
	struct ikv_memory *m = make(&rig, capacity, 0, 2), *copy = NULL;
	for (uint64_t step = 1; step <= 1500; step++) {
		struct ikv_memory_tally before[4];
		struct ikv_memory_step s, t;
		change(&r, m, copy, tokens);
		uint32_t pages[2] = {ikv_pages(tokens[0], PT), ikv_pages(tokens[1], PT)};
		make_batch(&r, m, &b, pages);
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

int main(void)
{
	int residencies = 0;
	Suite *s = suite_create("memory sessions");
	TCase *t = tcase_create("memory sessions");
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_set_timeout(t, 120);
	while (ikv_residencies()[residencies])
		residencies++;
	tcase_add_loop_test(t, random_sessions, 0, 4 * residencies);
	suite_add_tcase(s, t);
	return tap_run(s);
}

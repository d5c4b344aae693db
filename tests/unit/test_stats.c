#include <math.h>
#include <string.h>
#include <unistd.h>
#include "sim/trace/stats.h"
#include "sim/trace/twin.h"
#include "sim/trace/generate.h"
#include "tap.h"

static struct ikv_err err;

static struct session_event *add(struct session *s, enum session_op op, enum ikv_kind kind, uint32_t tokens,
				 uint32_t turn)
{
	struct session_event *e = session_push(s, op, &err);
	e->kind = kind;
	e->tokens = tokens;
	e->turn = turn;
	return e;
}

/* Two sessions of blocks of 10 tokens: the second shares two blocks of the first. */
static struct session_list sample(void)
{
	static const uint64_t a[] = {1, 2, 3}, b[] = {4, 5}, c[] = {1, 2, 9};
	struct session_list l = {.facts = {.format = "test", .tokens_by = "trace"}};
	struct session *s = session_add(&l, "a", &err);
	s->hash_block_tokens = 10;
	s->hashes_global = true;
	session_push_hashes(s, add(s, SESSION_APPEND, IKV_KIND_SYSTEM, 30, 0), a, 3, &err);
	add(s, SESSION_DECODE, IKV_KIND_ASSISTANT, 5, 0);
	add(s, SESSION_WAIT, IKV_KIND_OTHER, 0, 1)->wait_ms = 2000;
	struct session_event *e = add(s, SESSION_APPEND, IKV_KIND_USER, 12, 1);
	e->confidence = 0.5F;
	session_push_hashes(s, e, b, 2, &err);
	add(s, SESSION_DECODE, IKV_KIND_ASSISTANT, 7, 1);
	s = session_add(&l, "b", &err);
	s->arrival_ms = 1000;
	s->hash_block_tokens = 10;
	s->hashes_global = true;
	session_push_hashes(s, add(s, SESSION_APPEND, IKV_KIND_SYSTEM, 30, 0), c, 3, &err);
	return l;
}

START_TEST(figures_of_a_small_trace)
{
	struct session_list l = sample();
	struct trace_stats s;
	ck_assert_msg(trace_stats_collect(&l, &s, &err) == 0, "%s", err.text);
	/* In order of time: a's first, b's, a's second; b generates nothing but names its blocks. */
	ck_assert_uint_eq(s.request_count, 3);
	ck_assert(s.requests[0].session == 0 && s.requests[1].session == 1 && s.requests[2].turn == 1);
	ck_assert_uint_eq(s.requests[2].input, 47);
	ck_assert_uint_eq(s.requests[1].hits, 2);
	ck_assert_uint_eq(s.requests[1].age, 1);
	ck_assert(s.requests[2].blocks == 5 && s.requests[2].hits == 3);
	ck_assert_uint_eq(s.block_refs, 11);
	ck_assert_uint_eq(s.unique_blocks, 6);
	struct stat_summary in = stat_summarise(&s.values[STAT_INPUT]), reuse = stat_summarise(&s.values[STAT_REUSE]);
	ck_assert(in.count == 3 && in.p50 == 30 && in.p99 == 47 && fabs(in.mean - 107.0 / 3) < 1e-9);
	ck_assert(reuse.count == 6 && reuse.max == 3 && reuse.min == 1);
	ck_assert(stat_summarise(&s.values[STAT_THINK]).max == 2);
	ck_assert(stat_summarise(&s.values[STAT_ARRIVAL]).max == 1);
	ck_assert(stat_summarise(&s.values[STAT_GROWTH]).max == 17);
	ck_assert(s.roles[IKV_KIND_USER].tokens == 12 && s.roles[IKV_KIND_USER].given == 0);
	ck_assert(s.roles[IKV_KIND_SYSTEM].given == 60);
	trace_stats_free(&s);
	session_list_free(&l);
}
END_TEST

START_TEST(nearest_rank)
{
	double v[100];
	for (int i = 0; i < 100; i++)
		v[i] = i + 1;
	ck_assert(stat_at(v, 100, .5) == 50 && stat_at(v, 100, .9) == 90 && stat_at(v, 100, .99) == 99);
	ck_assert(stat_at(v, 10, .9) == 9 && stat_at(v, 3, .5) == 2 && stat_at(v, 1, .99) == 1);
}
END_TEST

/* Without ids, what a compaction leaves of the input before is what is found again. */
START_TEST(hits_without_ids)
{
	struct session_list l = {.facts = {.format = "test"}};
	struct trace_stats s;
	struct session *one = session_add(&l, "a", &err);
	add(one, SESSION_APPEND, IKV_KIND_USER, 100, 0);
	add(one, SESSION_DECODE, IKV_KIND_ASSISTANT, 10, 0);
	add(one, SESSION_APPEND, IKV_KIND_USER, 90, 1);
	add(one, SESSION_DECODE, IKV_KIND_ASSISTANT, 10, 1);
	add(one, SESSION_COMPACT, IKV_KIND_OTHER, 50, 2);
	add(one, SESSION_APPEND, IKV_KIND_USER, 50, 2);
	add(one, SESSION_DECODE, IKV_KIND_ASSISTANT, 10, 2);
	ck_assert_int_eq(trace_stats_collect(&l, &s, &err), 0);
	ck_assert(s.requests[1].hits == 100 && s.requests[1].input == 200);
	ck_assert(s.requests[2].hits == 50 && s.requests[2].input == 100);
	ck_assert(s.cut == 1 && s.shrunk == 1 && s.later == 2);
	trace_stats_free(&s);
	session_list_free(&l);
}
END_TEST

/* ---- fitted profiles ---- */

/* Sessions of unlike lengths over a shared start; `shrinks`: contexts are often cut. */
static struct session_list make(uint32_t count, uint32_t block, double turns, bool shrinks)
{
	struct session_list l = {.facts = {.format = "test", .tokens_by = "trace"}};
	uint64_t next = 1000;
	for (uint32_t i = 0; i < count; i++) {
		struct ikv_rng r;
		char id[16];
		uint64_t ids[600];
		snprintf(id, sizeof id, "s%u", i);
		ikv_rng_stream(&r, 9, IKV_STREAM_TEST, i, count);
		struct session *s = session_add(&l, id, &err);
		s->arrival_ms = 700.0 * i;
		s->hash_block_tokens = block;
		s->hashes_global = block != 0;
		uint32_t n = 20 + (uint32_t)ikv_rng_below(&r, 60), context = n * 16;
		for (uint32_t k = 0; k < n; k++)
			ids[k] = k < 18 ? k : next++;
		struct session_event *e = add(s, SESSION_APPEND, IKV_KIND_SYSTEM, context, 0);
		if (block)
			session_push_hashes(s, e, ids, n, &err);
		uint32_t more = (uint32_t)(-turns * ikv_det_log(1 - ikv_rng_uniform(&r)));
		for (uint32_t t = 0;; t++) {
			add(s, SESSION_DECODE, IKV_KIND_ASSISTANT, 1 + (uint32_t)ikv_rng_below(&r, 15), t);
			context += s->events[s->event_count - 1].tokens;
			if (t >= more || n > 580)
				break;
			add(s, SESSION_WAIT, IKV_KIND_OTHER, 0, t + 1)->wait_ms = 1 + (double)ikv_rng_below(&r, 5000);
			if (shrinks && ikv_rng_uniform(&r) < .3) {
				n = 18 + (uint32_t)ikv_rng_below(&r, n - 18);
				add(s, SESSION_COMPACT, IKV_KIND_OTHER, n * 16, t + 1);
				context = n * 16;
			}
			uint32_t m = 2 + (uint32_t)ikv_rng_below(&r, 12);
			for (uint32_t k = 0; k < m; k++)
				ids[n + k] = next++;
			e = add(s, SESSION_APPEND, IKV_KIND_TOOL_OUTPUT, (n + m) * 16 - context, t + 1);
			if (block)
				session_push_hashes(s, e, ids + n, m, &err);
			n += m;
			context = n * 16;
		}
		ck_assert_msg(session_check(s, &err) == 0, "%s", err.text);
	}
	return l;
}

static void close_to(const struct trace_stats *a, const struct trace_stats *b, const char *what)
{
	static const enum stat_series series[] = {STAT_INPUT, STAT_OUTPUT, STAT_TURNS, STAT_PREFIX_HIT};
	for (int i = 0; i < 4; i++) {
		struct stat_summary x = stat_summarise(&a->values[series[i]]),
				    y = stat_summarise(&b->values[series[i]]);
		const double pair[3][2] = {{x.p50, y.p50}, {x.p90, y.p90}, {x.p99, y.p99}};
		for (int k = 0; k < 3; k++)
			ck_assert_msg(fabs(pair[k][1] - pair[k][0]) <= .1 * pair[k][0], "%s: %s %d: %g, twin %g",
				      what, stat_names[series[i]], k, pair[k][0], pair[k][1]);
	}
}

/* Through the file, as a user goes. */
static void twin_of(struct session_list *l, const char *what, double scale)
{
	char path[] = "/tmp/ikv-twin-XXXXXX";
	struct trace_stats a, b;
	static struct twin t;
	struct generate_profile *p;
	ck_assert_int_eq(trace_stats_collect(l, &a, &err), 0);
	ck_assert_int_eq(twin_fit(&a, l, &t, &err), 0);
	close(mkstemp(path));
	ck_assert_int_eq(twin_write(&t, path, "it's a \"test\"", "made\nhere", &err), 0);
	ck_assert_msg(generate_profile_read(path, &p, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(generate_profile_sessions(p), l->count);
	for (uint64_t seed = 1; seed < 4; seed++) {
		struct generate_config c = {.count = (int64_t)(l->count * scale)};
		struct session_list g;
		ck_assert_msg(session_generate(p, &c, seed, &g, &err) == 0, "%s", err.text);
		ck_assert_int_eq(trace_stats_collect(&g, &b, &err), 0);
		ck_assert_uint_eq(b.sessions, (uint32_t)c.count);
		close_to(&a, &b, what);
		trace_stats_free(&b);
		session_list_free(&g);
	}
	generate_profile_free(p);
	unlink(path);
	trace_stats_free(&a);
	session_list_free(l);
}

START_TEST(twins_are_near)
{
	struct session_list l = make(300, 16, 8, false);
	twin_of(&l, "shared start", 1);
	l = make(300, 16, 8, true);
	twin_of(&l, "shrinking", 1);
	l = make(300, 0, 8, true);
	twin_of(&l, "no ids", 1);
	l = make(300, 16, 0, false);
	twin_of(&l, "single turns", 1);
	l = make(12, 16, 5, false);
	twin_of(&l, "few sessions", 1);
	l = make(300, 16, 8, false);
	twin_of(&l, "more", 3);
	l = make(300, 16, 8, false);
	twin_of(&l, "fewer", 0.25);
}
END_TEST

START_TEST(twins_have_seeds)
{
	struct session_list l = make(30, 16, 5, false), a, b, c;
	struct trace_stats s;
	static struct twin t;
	struct generate_profile p = {.model = &generate_requests, .data = &t};
	struct generate_config config = {.count = 30};
	ck_assert_int_eq(trace_stats_collect(&l, &s, &err), 0);
	ck_assert_int_eq(twin_fit(&s, &l, &t, &err), 0);
	ck_assert_int_eq(session_generate(&p, &config, 1, &a, &err), 0);
	ck_assert_int_eq(session_generate(&p, &config, 1, &b, &err), 0);
	ck_assert_int_eq(session_generate(&p, &config, 2, &c, &err), 0);
	for (uint32_t i = 0; i < 30; i++) {
		ck_assert_uint_eq(a.items[i].hash_count, b.items[i].hash_count);
		ck_assert_int_eq(memcmp(a.items[i].hashes, b.items[i].hashes, a.items[i].hash_count * 8), 0);
	}
	/* No id of one seed occurs in another. */
	for (uint32_t i = 0; i < 30; i++)
		for (uint32_t k = 0; k < c.items[i].hash_count; k++)
			ck_assert_uint_ne(c.items[i].hashes[k], a.items[0].hashes[0]);
	session_list_free(&a);
	session_list_free(&b);
	session_list_free(&c);
	session_list_free(&l);
	trace_stats_free(&s);
}
END_TEST

START_TEST(assigns_within_bounds)
{
	const double wish[] = {.9, .1, .5, .7}, bound[] = {.3, 1, 1, .6}, targets[] = {.1, .2, .5, .8};
	double out[4];
	ck_assert_int_eq(twin_assign(wish, bound, targets, 4, false, out, &err), 0);
	/* .8 fits two, and goes to the one that wishes more; .5 goes to the last, .2 to the first. */
	ck_assert(out[2] == .8 && out[3] == .5 && out[0] == .2 && out[1] == .1);
	const double tight[] = {.3, .3, .3, .3};
	ck_assert_int_eq(twin_assign(wish, tight, targets, 4, false, out, &err), 0);
	for (int i = 0; i < 4; i++)
		ck_assert(out[i] <= .3);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stats");
	TCase *t = tcase_create("stats");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, figures_of_a_small_trace);
	tcase_add_test(t, nearest_rank);
	tcase_add_test(t, hits_without_ids);
	tcase_add_test(t, twins_are_near);
	tcase_add_test(t, twins_have_seeds);
	tcase_add_test(t, assigns_within_bounds);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

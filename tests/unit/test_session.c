#include <math.h>
#include <string.h>
#include <unistd.h>
#include "sim/trace/trace.h"
#include "tap.h"

static struct ikv_err err;

static struct session_list sample(void)
{
	struct session_list l = {.facts = {.format = "test", .tokens_by = "trace"}};
	uint64_t ids[] = {1, UINT64_MAX, (uint64_t)INT64_MAX + 1};
	struct session *s = session_add(&l, "a \"quoted\" \xc3\xa9", &err);
	s->arrival_ms = 0.1;
	s->reward = 1;
	s->task = strdup("t");
	s->hash_block_tokens = 16;
	struct session_event *e = session_push(s, SESSION_APPEND, &err);
	e->tokens = 48;
	e->kind = IKV_KIND_SYSTEM;
	e->has_policy = true;
	e->policy = IKV_GLOBAL;
	e->confidence = 0.3F;
	e->name = strdup("prompt");
	ck_assert_int_eq(session_push_hashes(s, e, ids, 3, &err), 0);
	e = session_push(s, SESSION_DECODE, &err);
	e->tokens = 5;
	e->kind = IKV_KIND_TOOL_CALL;
	e = session_push(s, SESSION_WAIT, &err);
	e->wait_ms = 1.0 / 3;
	e->turn = 1;
	e = session_push(s, SESSION_COMPACT, &err);
	e->tokens = 20;
	e->turn = 1;
	e = session_push(s, SESSION_APPEND, &err);
	e->tokens = 30;
	e->unowned = true;
	e->turn = 1;
	return l;
}

START_TEST(round_trip_is_exact)
{
	char path[] = "/tmp/ikv-session-XXXXXX";
	struct session_list a = sample(), b;
	close(mkstemp(path));
	ck_assert_int_eq(session_check(&a.items[0], &err), 0);
	ck_assert_int_eq(session_write(&a, path, &err), 0);
	ck_assert_msg(session_import(path, "auto", NULL, &b, &err) == 0, "%s", err.text);
	ck_assert_uint_eq(b.count, 1);
	struct session *s = &a.items[0], *t = &b.items[0];
	ck_assert_str_eq(s->id, t->id);
	ck_assert_str_eq(t->task, "t");
	ck_assert_str_eq(b.facts.format, "test");
	ck_assert(s->arrival_ms == t->arrival_ms && t->reward == 1);
	ck_assert_uint_eq(s->event_count, t->event_count);
	ck_assert_uint_eq(t->hash_count, 3);
	ck_assert_int_eq(memcmp(s->hashes, t->hashes, 3 * sizeof *s->hashes), 0);
	for (uint32_t i = 0; i < s->event_count; i++) {
		struct session_event *x = &s->events[i], *y = &t->events[i];
		ck_assert(x->op == y->op && x->kind == y->kind && x->tokens == y->tokens && x->turn == y->turn);
		ck_assert(x->wait_ms == y->wait_ms && x->confidence == y->confidence && x->unowned == y->unowned);
		ck_assert(x->has_policy == y->has_policy && x->policy == y->policy);
		ck_assert(x->hash_first == y->hash_first && x->hash_count == y->hash_count);
	}
	ck_assert_str_eq(t->events[0].name, "prompt");
	session_list_free(&a);
	session_list_free(&b);
	unlink(path);
}
END_TEST

START_TEST(ids_are_unique)
{
	struct session_list l = {0};
	for (int i = 0; i < 1000; i++) {
		char id[16];
		snprintf(id, sizeof id, "s%d", i);
		ck_assert_ptr_nonnull(session_add(&l, id, &err));
	}
	ck_assert_str_eq(session_find(&l, "s777")->id, "s777");
	ck_assert_ptr_null(session_find(&l, "s1000"));
	ck_assert_ptr_null(session_add(&l, "s500", &err));
	ck_assert_ptr_nonnull(strstr(err.text, "two sessions with the id \"s500\""));
	session_list_free(&l);
}
END_TEST

START_TEST(a_list_is_shortened)
{
	struct session_list list = {0};
	static const char *const ids[] = {"a", "b", "c"};
	for (int i = 0; i < 3; i++)
		ck_assert_ptr_nonnull(session_add(&list, ids[i], &err));
	session_list_shorten(&list, 5);
	ck_assert_uint_eq(list.count, 3);
	session_list_shorten(&list, 1);
	ck_assert_uint_eq(list.count, 1);
	ck_assert_ptr_nonnull(session_find(&list, "a"));
	ck_assert_ptr_null(session_find(&list, "c"));
	ck_assert_ptr_nonnull(session_add(&list, "c", &err));
	ck_assert_uint_eq(list.count, 2);
	session_list_free(&list);
}
END_TEST

START_TEST(invariants)
{
	struct session_list l = sample();
	struct session *s = &l.items[0];
	uint64_t in, out;
	uint32_t most;
	session_totals(s, &in, &out, &most);
	ck_assert(in == 78 && out == 5 && most == 53);
	s->events[3].tokens = 53;
	ck_assert_int_eq(session_check(s, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "event 3: compaction keeps 53 tokens of a context of 53"));
	s->events[3].tokens = 20;
	s->events[1].tokens = 0;
	ck_assert_int_eq(session_check(s, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "event 1: 0 tokens"));
	session_list_free(&l);
}
END_TEST

START_TEST(chain_replaces_what_was_cut)
{
	struct session_list l = sample();
	struct session *s = &l.items[0];
	struct session_chain c = {0};
	static const uint32_t count[] = {3, 3, 3, 2, 1};
	for (uint32_t i = 0; i < s->event_count; i++) {
		ck_assert_int_eq(session_chain_step(&c, s, &s->events[i], &err), 0);
		ck_assert_uint_eq(c.count, count[i]);
	}
	ck_assert_uint_eq(c.context, 50);
	session_chain_free(&c);
	session_list_free(&l);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("session");
	TCase *t = tcase_create("session");
	tcase_add_test(t, round_trip_is_exact);
	tcase_add_test(t, ids_are_unique);
	tcase_add_test(t, a_list_is_shortened);
	tcase_add_test(t, invariants);
	tcase_add_test(t, chain_replaces_what_was_cut);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

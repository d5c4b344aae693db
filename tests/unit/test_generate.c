#include <string.h>
#include <unistd.h>
#include "sim/session.h"
#include "tap.h"

static struct ikv_err err;

static struct generate_profile *preset(const char *name)
{
	char path[400];
	struct generate_profile *p = NULL;
	const char *src = getenv("srcdir");
	snprintf(path, sizeof path, "%s/scenarios/profiles/%s.yaml", src ? src : ".", name);
	ck_assert_msg(generate_profile_read(path, &p, &err) == 0, "%s", err.text);
	return p;
}

static struct session_list generate(const char *name, int64_t context, int64_t decode, uint64_t seed)
{
	struct generate_config c;
	struct session_list l;
	struct generate_profile *p = preset(name);
	ikv_option_defaults(generate_options, &c);
	c.count = 20;
	c.context_tokens = context;
	c.max_decode_tokens = decode;
	ck_assert_msg(session_generate(p, &c, seed, &l, &err) == 0, "%s", err.text);
	generate_profile_free(p);
	return l;
}

START_TEST(same_seed_same_sessions)
{
	struct session_list a = generate("coding-agent", 0, 0, 3), b = generate("coding-agent", 0, 0, 3),
			    c = generate("coding-agent", 0, 0, 4);
	ck_assert_uint_eq(a.count, 20);
	bool differ = false;
	for (uint32_t i = 0; i < a.count; i++) {
		const struct session *s = &a.items[i], *t = &b.items[i];
		ck_assert_uint_eq(s->event_count, t->event_count);
		differ = differ || s->event_count != c.items[i].event_count;
		for (uint32_t j = 0; j < s->event_count; j++)
			ck_assert(s->events[j].tokens == t->events[j].tokens &&
				  s->events[j].wait_ms == t->events[j].wait_ms);
	}
	ck_assert(differ);
	session_list_free(&a);
	session_list_free(&b);
	session_list_free(&c);
}
END_TEST

START_TEST(context_is_reached_within_2_percent)
{
	static const char *const names[] = {"coding-agent", "customer-service", "deep-research"};
	for (int k = 0; k < 3; k++) {
		struct session_list l = generate(names[k], 32768, 0, 1);
		for (uint32_t i = 0; i < l.count; i++) {
			uint32_t most;
			session_totals(&l.items[i], NULL, NULL, &most);
			ck_assert_msg(most > 32112 && most < 33424, "%s %u: %u", names[k], i, most);
		}
		session_list_free(&l);
	}
}
END_TEST

START_TEST(decode_is_bounded)
{
	struct session_list l = generate("coding-agent", 32768, 100, 1);
	for (uint32_t i = 0; i < l.count; i++) {
		uint64_t out;
		session_totals(&l.items[i], NULL, &out, NULL);
		ck_assert_uint_le(out, 100);
		ck_assert_uint_gt(out, 0);
	}
	session_list_free(&l);
}
END_TEST

static void refused(const char *text, const char *expected)
{
	char path[] = "/tmp/ikv-profile-XXXXXX";
	struct generate_profile *p;
	FILE *f = fdopen(mkstemp(path), "w");
	fputs(text, f);
	fclose(f);
	ck_assert_int_eq(generate_profile_read(path, &p, &err), -1);
	unlink(path);
	ck_assert_msg(strstr(err.text, expected) != NULL, "\"%s\" does not say \"%s\"", err.text, expected);
}

START_TEST(profile_errors_have_places)
{
	refused("profile: x\nturn: 3\n", ":2:1");
	refused("turns: {lognormal: {p50: 9, p99: 3}}\n", ":1:");
	refused("turns: {lognormall: {p50: 9, p99: 30}}\n", "lognormal");
	refused("turns: 3\n", "arrival_gap_ms: is missing");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("generate");
	TCase *t = tcase_create("generate");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, same_seed_same_sessions);
	tcase_add_test(t, context_is_reached_within_2_percent);
	tcase_add_test(t, decode_is_bounded);
	tcase_add_test(t, profile_errors_have_places);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

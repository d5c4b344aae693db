/* Miss-ratio curves: every policy against a naive one, the stack distances, reading references of traces. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "naive_residency.h"
#include "sim/bench_mrc.h"
#include "sim/trace/trace.h"
#include "tap.h"

enum { REFERENCES = 3000, OBJECTS = 80, CACHES = 5 };

/* Some objects often, others seldom, and a shift half way; sizes that belong to an object, but now and then differ.
 */
static void draw(struct ikv_rng *r, struct ref_trace *t, bool sized)
{
	*t = (struct ref_trace){0};
	for (uint32_t i = 0; i < REFERENCES; i++) {
		uint64_t id = ikv_rng_below(r, 1 + ikv_rng_below(r, 1 + ikv_rng_below(r, OBJECTS)));
		if (i > REFERENCES / 2 && ikv_rng_below(r, 2))
			id = (id + 40) % OBJECTS;
		uint32_t bytes = 1 + (uint32_t)(ikv_mix64(id) % 20) + (ikv_rng_below(r, 30) == 0);
		ck_assert_int_eq(ref_trace_add(t, id, sized ? bytes : 0, NULL), 0);
	}
	t->unit_bytes = sized ? 1 : 4096;
}

static struct naive_trace naive_of(const struct ref_trace *t, uint32_t ones[REFERENCES], uint64_t capacity)
{
	for (uint32_t i = 0; i < REFERENCES; i++)
		ones[i] = 1;
	return (struct naive_trace){t->slots, t->bytes ? t->bytes : ones, t->count, capacity};
}

START_TEST(policies_agree_with_naive_ones)
{
	static const uint64_t blocks[CACHES] = {1, 7, 15, 40, 90}, bytes[CACHES] = {3, 30, 95, 250, 1500};
	const struct ikv_residency_ops *ops = ikv_residencies()[_i / 2];
	bool sized = _i % 2;
	uint32_t ones[REFERENCES];
	for (uint64_t seed = 0; seed < (ops->foresee ? 2 : 10); seed++) {
		struct ikv_rng r;
		struct ref_trace t;
		uint64_t capacities[CACHES], misses[CACHES];
		ikv_rng_stream(&r, 7, IKV_STREAM_TEST, (uint64_t)_i, seed);
		draw(&r, &t, sized);
		for (int k = 0; k < CACHES; k++)
			capacities[k] =
			    sized ? bytes[k] : blocks[k] * t.unit_bytes + 4095; /* part of a block: none */
		ck_assert_int_eq(mrc_run(&t, ops, NULL, capacities, CACHES, misses, NULL, NULL), 0);
		for (int k = 0; k < CACHES; k++) {
			struct naive_trace naive = naive_of(&t, ones, sized ? bytes[k] : blocks[k]);
			ck_assert_msg(misses[k] == naive_misses(ops->name, &naive), "%s, seed %d, cache %d: %llu",
				      ops->name, (int)seed, k, (unsigned long long)misses[k]);
		}
		ref_trace_free(&t);
	}
}
END_TEST

/* By definition: all bytes of the objects used since. */
static uint64_t distance(const struct ref_trace *t, uint32_t at)
{
	bool seen[OBJECTS] = {false};
	uint64_t sum = t->bytes ? t->bytes[at] : 1;
	for (uint32_t i = at; i-- > 0;) {
		uint32_t o = t->slots[i];
		if (o == t->slots[at])
			return sum;
		sum += seen[o] ? 0 : t->bytes ? t->bytes[i] : 1;
		seen[o] = true;
	}
	return UINT64_MAX;
}

START_TEST(curve)
{
	struct ikv_rng r;
	struct ref_trace t;
	uint64_t capacities[60], misses[60], lru[60];
	ikv_rng_stream(&r, 8, IKV_STREAM_TEST, (uint64_t)_i, 0);
	draw(&r, &t, _i);
	for (uint32_t k = 0; k < 60; k++)
		capacities[k] = (k + 1) * (_i ? 17 : t.unit_bytes);
	ck_assert_int_eq(mrc_curve(&t, capacities, 60, misses, NULL), 0);
	ck_assert_int_eq(mrc_run(&t, ikv_residency_find("lru"), NULL, capacities, 60, lru, NULL, NULL), 0);
	for (uint32_t k = 0; k < 60; k++) {
		uint64_t expected = 0;
		for (uint32_t i = 0; i < t.count; i++)
			expected += distance(&t, i) > capacities[k] / t.unit_bytes;
		ck_assert_uint_eq(misses[k], expected);
		if (!_i)
			ck_assert_uint_eq(misses[k], lru[k]);
	}
	ref_trace_free(&t);
}
END_TEST

static void write_file(char path[64], const void *data, size_t size)
{
	strcpy(path, "/tmp/test_mrc.XXXXXX");
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, data, size), (ssize_t)size);
	close(fd);
}

struct object {
	uint32_t time, bytes;
	uint64_t id;
	int64_t next;
};

static size_t pack(unsigned char *to, const struct object *o, size_t count)
{
	for (size_t i = 0; i < count; i++, to += 24) {
		const uint64_t fields[] = {o[i].time, o[i].id, o[i].bytes, (uint64_t)o[i].next};
		static const int widths[] = {4, 8, 4, 8};
		unsigned char *at = to;
		for (int f = 0; f < 4; f++)
			for (int b = 0; b < widths[f]; b++)
				*at++ = (unsigned char)(fields[f] >> (8 * b));
	}
	return count * 24;
}

START_TEST(oracle_general)
{
	static const struct object good[] = {{100, 512, 7, 3}, {100, 9000, 1ull << 63, -1}, {103, 512, 7, -1}};
	unsigned char raw[200];
	char path[64];
	struct session_list list;
	struct ikv_err err;
	size_t size = pack(raw, good, 3);
	write_file(path, raw, size);
	ck_assert_int_eq(session_import(path, "auto", NULL, &list, &err), 0);
	ck_assert_str_eq(list.facts.format, "oracle-general");
	ck_assert_str_eq(list.facts.tokens_by, "bytes/4096");
	ck_assert_uint_eq(list.facts.requests, 3);
	ck_assert_uint_eq(list.facts.unique_blocks, 2);
	ck_assert_uint_eq(list.facts.input_tokens, 1 + 3 + 1);
	ck_assert_uint_eq(list.count, 1);
	const struct session *s = &list.items[0];
	static const enum session_op ops[] = {SESSION_APPEND,  SESSION_DECODE, SESSION_COMPACT,
					      SESSION_APPEND,  SESSION_DECODE, SESSION_WAIT,
					      SESSION_COMPACT, SESSION_APPEND, SESSION_DECODE};
	ck_assert_str_eq(s->id, "objects-0");
	ck_assert_uint_eq(s->event_count, 9);
	for (int i = 0; i < 9; i++)
		ck_assert_int_eq(s->events[i].op, ops[i]);
	ck_assert_str_eq(s->events[3].name, "object-9223372036854775808");
	ck_assert_uint_eq(s->events[3].tokens, 3);
	ck_assert(s->events[5].wait_ms == 3000);
	session_list_free(&list);
	struct ref_trace t;
	struct ref_trace_options o = {.format = "auto", .token_bytes = 1000};
	ck_assert_int_eq(ref_trace_read(&t, path, &o, &err), 0);
	ck_assert(t.count == 3 && t.objects == 2 && t.unit_bytes == 1 && t.unique_units == 9512);
	ck_assert(t.slots[0] == 0 && t.slots[1] == 1 && t.slots[2] == 0 && t.bytes[1] == 9000);
	ref_trace_free(&t);
	unlink(path);
}
END_TEST

START_TEST(oracle_general_errors)
{
	static const struct {
		struct object third;
		size_t cut;
		const char *message;
	} cases[] = {{{102, 0, 1, -1}, 0, ":3: record 3 at byte 48: an object of 0 bytes"},
		     {{99, 512, 1, -1}, 0, ":3: record 3 at byte 48: time runs backwards: 99 after 101"},
		     {{102, 512, 1, -7}, 0, ":3: record 3 at byte 48: a negative next access"},
		     {{102, 512, 1, -1}, 5, ":3: record 3 at byte 48: the file ends inside this record"}};
	struct object o[3] = {{100, 512, 7, 3}, {101, 9000, 8, -1}};
	struct session_list list;
	struct ikv_err err;
	unsigned char raw[200];
	char path[64];
	o[2] = cases[_i].third;
	write_file(path, raw, pack(raw, o, 3) - cases[_i].cut);
	ck_assert_int_eq(session_import(path, "oracle-general", NULL, &list, &err), -1);
	ck_assert_msg(strstr(err.text, cases[_i].message) != NULL, "%s", err.text);
	struct session_options skip = {.skip_bad = true};
	int rc = session_import(path, "oracle-general", &skip, &list, &err);
	ck_assert_int_eq(rc, cases[_i].cut ? -1 : 0); /* behind a cut there is nothing to go on with */
	if (!rc) {
		ck_assert(list.facts.requests == 2 && list.facts.skipped == 1 && list.count == 1);
		session_list_free(&list);
	}
	unlink(path);
}
END_TEST

/* Requests that come session by session are put in order of time; equal times keep theirs. */
START_TEST(order_of_time)
{
	static const char trace[] =
	    "{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 1, \"hash_ids\": [5, 6]}\n"
	    "{\"timestamp\": 9, \"input_length\": 512, \"output_length\": 1, \"hash_ids\": [7]}\n";
	struct ref_trace t;
	struct ikv_err err;
	char path[64];
	write_file(path, trace, sizeof trace - 1);
	for (int order = REF_AUTO; order <= REF_TIME; order++) {
		struct ref_trace_options o = {
		    .format = "auto", .order = (enum ref_order)order, .token_bytes = 131072};
		if (ref_trace_read(&t, path, &o, &err))
			ck_abort_msg("%s", err.text);
		ck_assert(t.count == 3 && t.objects == 3 && !t.bytes && t.unit_bytes == 512 * 131072ull);
		ref_trace_free(&t);
	}
	unlink(path);
}
END_TEST

START_TEST(zipf)
{
	struct bench_mrc_setup setup = bench_mrc_defaults();
	struct bench_mrc_row rows[BENCH_MRC_ROWS];
	uint32_t n;
	setup.requests = 200000;
	setup.ids = 20000;
	setup.cache = 2000;
	setup.seconds = 0.001;
	ck_assert_int_eq(bench_mrc(&setup, rows, &n, NULL), 0);
	ck_assert_uint_eq(n, 8);
	for (uint32_t i = 0; i < n; i++) { /* Belady is the last and the best */
		ck_assert(rows[i].miss_ratio < 0.5 && rows[i].miss_ratio >= rows[n - 1].miss_ratio);
		ck_assert(rows[i].rate > 0);
		ck_assert(rows[i].objects > 12000 && rows[i].objects < 20000);
	}
}
END_TEST

int main(void)
{
	int policies = 0;
	Suite *s = suite_create("mrc");
	TCase *t = tcase_create("mrc");
	tcase_set_timeout(t, 60);
	while (ikv_residencies()[policies])
		policies++;
	tcase_add_loop_test(t, policies_agree_with_naive_ones, 0, 2 * policies);
	tcase_add_loop_test(t, curve, 0, 2);
	tcase_add_test(t, oracle_general);
	tcase_add_loop_test(t, oracle_general_errors, 0, 4);
	tcase_add_test(t, order_of_time);
	tcase_add_test(t, zipf);
	suite_add_tcase(s, t);
	return tap_run(s);
}

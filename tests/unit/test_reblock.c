#include <string.h>
#include <math.h>
#include "sim/trace/id_table.h"
#include "sim/trace/reblock.h"
#include "sim/trace/request.h"
#include "sim/trace/stats.h"
#include "sim/trace/trace.h"
#include "tap.h"

static struct ikv_err err;
static const uint32_t sizes[] = {1, 16, 64, 100, 128, 384, 512, 768, 1000, 1024, 4096};
enum { SIZES = sizeof sizes / sizeof *sizes };

static uint32_t common(const uint64_t *a, uint32_t n, const uint64_t *b, uint32_t m)
{
	uint32_t i = 0;
	while (i < n && i < m && a[i] == b[i])
		i++;
	return i;
}

/* Two inputs of blocks of 512 that share their first five blocks, the last block of each partial. */
START_TEST(prefixes_stay)
{
	uint64_t a[9], b[8];
	for (uint32_t i = 0; i < 9; i++)
		a[i] = i + 1;
	for (uint32_t i = 0; i < 8; i++)
		b[i] = i < 5 ? i + 1 : i + 100;
	for (int k = 0; k < SIZES; k++) {
		struct reblock x = {.from = 512, .to = sizes[k]}, y = x;
		uint32_t to = sizes[k];
		ck_assert_int_eq(reblock_ids(&x, a, 9, 8 * 512 + 77, &err), 0);
		ck_assert_int_eq(reblock_ids(&y, b, 8, 7 * 512 + 300, &err), 0);
		/* An id for each started block, as before. */
		ck_assert_uint_eq(x.count, ikv_pages(8 * 512 + 77, to));
		ck_assert_uint_eq(y.count, ikv_pages(7 * 512 + 300, to));
		ck_assert_uint_eq(common(x.ids, x.count, y.ids, y.count), 5 * 512 / to);
		reblock_free(&x);
		reblock_free(&y);
	}
}
END_TEST

/* Chains of full blocks give full blocks of what they name. */
START_TEST(full_blocks_stay_full)
{
	uint64_t a[10];
	for (uint32_t i = 0; i < 10; i++)
		a[i] = 7 * i;
	for (int k = 0; k < SIZES; k++) {
		struct reblock x = {.from = 64, .to = sizes[k]}, y = x;
		ck_assert_int_eq(reblock_ids(&x, a, 10, 10 * 64 + 63, &err), 0);
		ck_assert_uint_eq(x.count, 10 * 64 / sizes[k]);
		/* A longer input with the same start begins with the same blocks. */
		ck_assert_int_eq(reblock_ids(&y, a, 8, 8 * 64 + 1, &err), 0);
		ck_assert_uint_eq(common(x.ids, x.count, y.ids, y.count), 8 * 64 / sizes[k]);
		reblock_free(&x);
		reblock_free(&y);
	}
}
END_TEST

START_TEST(unique_counts)
{
	uint64_t ids[100];
	struct id_set seen = {0};
	uint32_t unique = 0;
	for (uint32_t i = 0; i < 100; i++)
		ids[i] = i;
	/* Split: 100 blocks of 512 are 3,200 of 16, all different; merged they are 25 of 2,048. */
	for (int k = 0; k < 2; k++) {
		struct reblock x = {.from = 512, .to = k ? 2048 : 16};
		ck_assert_int_eq(reblock_ids(&x, ids, 100, 51200, &err), 0);
		for (uint32_t i = 0; i < x.count; i++)
			unique += (uint32_t)id_set_add(&seen, x.ids[i], &err);
		ck_assert_uint_eq(unique, k ? 3225 : 3200);
		reblock_free(&x);
	}
	id_set_free(&seen);
	struct reblock same = {.from = 64, .to = 64}, bad = {.from = 64, .to = 0};
	ck_assert_int_eq(reblock_ids(&same, ids, 100, 6400, &err), 0);
	ck_assert_int_eq(memcmp(same.ids, ids, sizeof ids), 0);
	reblock_free(&same);
	ck_assert_int_eq(reblock_ids(&bad, ids, 100, 6400, &err), -1);
}
END_TEST

/* ---- sessions ---- */

enum { REQUESTS = 60 };
struct made {
	struct session_list list;
	uint64_t *ids[2][REQUESTS];
	uint32_t count[2][REQUESTS], input[2][REQUESTS];
};

/* Two sessions that share a start; requests go on, are cut, and go back. `partial`: the last block has an id too. */
static void make(struct made *m, uint32_t block, bool partial)
{
	uint64_t next = 1000, last[2000];
	memset(m, 0, sizeof *m);
	for (int s = 0; s < 2; s++) {
		struct ikv_rng r;
		struct request_stream stream = {0};
		uint32_t input = 0, named = 0;
		ikv_rng_stream(&r, 3, IKV_STREAM_TEST, (uint64_t)s, block);
		struct session *one = session_add(&m->list, s ? "b" : "a", &err);
		one->hash_block_tokens = block;
		one->hashes_global = true;
		for (uint32_t n = 0; n < REQUESTS; n++) {
			uint32_t keep = input / block;
			if (n && ikv_rng_uniform(&r) < .2)
				keep = (uint32_t)ikv_rng_below(&r, keep + 1);
			else if (n)
				keep = named < keep ? named : keep;
			input = (n ? keep * block : 0) + 1 + stream.context % block +
				(uint32_t)ikv_rng_below(&r, 4 * block);
			if (n == 0)
				input += 6 * block;
			uint32_t count = partial ? ikv_pages(input, block) : input / block;
			ck_assert_uint_lt(count, 2000);
			for (uint32_t i = n ? keep : 0; i < count; i++)
				last[i] = n == 0 && i < 5 ? i : next++;
			named = count;
			uint64_t *ids = ikv_alloc(count ? count : 1, sizeof *ids, &err);
			memcpy(ids, last, count * sizeof *ids);
			m->ids[s][n] = ids;
			m->count[s][n] = count;
			m->input[s][n] = input;
			ck_assert_int_eq(request_begin(&stream, one, ids, count, input, 0, &err), 0);
			ck_assert_int_eq(request_append(&stream, one, input / 2, IKV_KIND_USER, 1, &err), 0);
			ck_assert_int_eq(request_append(&stream, one, input, IKV_KIND_USER, 1, &err), 0);
			ck_assert_int_eq(request_decode(&stream, one, 1 + (uint32_t)ikv_rng_below(&r, block / 2 + 1),
							IKV_KIND_ASSISTANT, 1, &err),
					 0);
		}
		ck_assert_msg(session_check(one, &err) == 0, "%s", err.text);
	}
}

static void release(struct made *m)
{
	for (int s = 0; s < 2; s++)
		for (uint32_t n = 0; n < REQUESTS; n++)
			ikv_free(m->ids[s][n]);
	session_list_free(&m->list);
}

struct checking {
	const struct made *m;
	uint32_t from, to, request;
	int session;
};

/* The chain of each request has the length of its own list of ids converted, and begins like it: as far as whole old
 * blocks reach, and no shorter. */
static int compare(void *ctx, const struct trace_request *r, struct ikv_err *why)
{
	struct checking *c = ctx;
	struct reblock own = {.from = c->from, .to = c->to};
	uint32_t n = c->request++, count = c->m->count[c->session][n], input = c->m->input[c->session][n];
	(void)why;
	ck_assert_uint_eq(r->input, input);
	ck_assert_int_eq(reblock_ids(&own, c->m->ids[c->session][n], count, input, &err), 0);
	ck_assert_msg(r->count == own.count, "%u to %u, request %u: %u ids, own %u", c->from, c->to, n, r->count,
		      own.count);
	uint32_t whole = input / c->from < count ? input / c->from : count;
	ck_assert_uint_ge(common(r->ids, r->count, own.ids, own.count), (uint64_t)whole * c->from / c->to);
	reblock_free(&own);
	return 0;
}

static uint64_t hit_tokens(const struct session_list *l, uint32_t *requests)
{
	struct trace_stats s;
	ck_assert_int_eq(trace_stats_collect(l, &s, &err), 0);
	uint64_t hits = s.block_hits * s.block_tokens;
	*requests = s.request_count;
	trace_stats_free(&s);
	return hits;
}

static void sessions(uint32_t from, bool partial)
{
	for (int k = 0; k < SIZES; k++) {
		struct made m;
		uint32_t requests;
		make(&m, from, partial);
		uint64_t before = hit_tokens(&m.list, &requests);
		for (int s = 0; s < 2; s++) {
			struct checking c = {.m = &m, .from = from, .to = sizes[k], .session = s};
			ck_assert_int_eq(reblock_session(&m.list.items[s], sizes[k], &err), 0);
			ck_assert_uint_eq(m.list.items[s].hash_block_tokens, sizes[k]);
			ck_assert_msg(session_check(&m.list.items[s], &err) == 0, "%s", err.text);
			ck_assert_int_eq(session_requests(&m.list.items[s], compare, &c, &err), 0);
			ck_assert_uint_eq(c.request, REQUESTS);
		}
		double after = (double)hit_tokens(&m.list, &requests), most = from > sizes[k] ? from : sizes[k];
		ck_assert_msg(fabs(after - (double)before) <= most * requests, "%u to %u: %g after %g", from,
			      sizes[k], after, (double)before);
		release(&m);
	}
}

START_TEST(sessions_keep_their_rules)
{
	sessions(512, true);
	sessions(64, false);
	sessions(48, true);
}
END_TEST

/* A block that is gone on with: its first tokens can be found again in smaller blocks. */
START_TEST(partial_blocks_are_found)
{
	static const uint64_t first[] = {1, 2}, second[] = {3, 4};
	struct session_list l = {0};
	struct session *s = session_add(&l, "a", &err);
	uint32_t requests;
	s->hash_block_tokens = 100;
	for (int i = 0; i < 2; i++) {
		struct session_event *e = session_push(s, SESSION_APPEND, &err);
		e->tokens = i ? 130 : 150;
		e->turn = (uint32_t)i;
		session_push_hashes(s, e, i ? second : first, 2, &err);
		e = session_push(s, SESSION_DECODE, &err);
		e->tokens = 10;
		e->turn = (uint32_t)i;
	}
	ck_assert_uint_eq(hit_tokens(&l, &requests), 100);
	ck_assert_int_eq(reblock_session(s, 10, &err), 0);
	ck_assert_uint_eq(hit_tokens(&l, &requests), 150);
	session_list_free(&l);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reblock");
	TCase *t = tcase_create("reblock");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, prefixes_stay);
	tcase_add_test(t, full_blocks_stay_full);
	tcase_add_test(t, unique_counts);
	tcase_add_test(t, sessions_keep_their_rules);
	tcase_add_test(t, partial_blocks_are_found);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

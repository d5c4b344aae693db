/* Content ids in blocks of another size. */
#include <string.h>
#include "sim/trace/reblock.h"
#include "sim/trace/trace.h"
#include "tap.h"
#include "unit/trace_text.h"

static struct ikv_err err;

/* Ids of a chain over `tokens` numbered tokens: equal as far as the numbers are. */
static uint32_t chain(const uint32_t *text, uint32_t tokens, uint32_t block, bool started, uint64_t *ids)
{
	uint32_t count = started ? ikv_pages(tokens, block) : tokens / block;
	uint64_t hash = 7;
	for (uint32_t t = 0; t < tokens; t++) {
		hash = ikv_mix64_2(hash, text[t]);
		if (t / block < count)
			ids[t / block] = hash;
	}
	return count;
}

START_TEST(prefixes_stay)
{
	static const uint32_t sizes[] = {4, 6, 16, 64, 512};
	static uint32_t text[2][4096];
	static uint64_t ids[2][1024];
	struct ikv_rng rng;
	ikv_rng_stream(&rng, 3, IKV_STREAM_SESSION, 0, 0);
	for (int round = 0; round < 400; round++) {
		uint32_t from = sizes[ikv_rng_below(&rng, 5)], to = sizes[ikv_rng_below(&rng, 5)];
		uint32_t tokens[2], same = (uint32_t)ikv_rng_below(&rng, 2000), count[2];
		bool started = ikv_rng_below(&rng, 2);
		struct reblocked made[2] = {{0}};
		for (int i = 0; i < 2; i++) {
			tokens[i] = same + 1 + (uint32_t)ikv_rng_below(&rng, 2000);
			for (uint32_t t = 0; t < tokens[i]; t++)
				text[i][t] = t < same ? t : t + 10000 * (uint32_t)(i + 1);
			count[i] = chain(text[i], tokens[i], from, started, ids[i]);
			ck_assert_int_eq(reblock_ids(ids[i], count[i], from, tokens[i], to, &made[i], &err), 0);
			uint32_t named = started || tokens[i] % from == 0 ? tokens[i] : tokens[i] / from * from;
			bool ends = count[i] * from >= tokens[i];
			ck_assert_uint_eq(made[i].count, ends ? ikv_pages(named, to) : named / to);
		}
		/* Whole old blocks of the shared prefix; a new block is shared if it lies within them. */
		uint32_t old = 0, new = 0;
		while (old < count[0] && old < count[1] && ids[0][old] == ids[1][old])
			old++;
		while (new < made[0].count &&new < made[1].count && made[0].ids[new] == made[1].ids[new])
			new ++;
		ck_assert_uint_eq(old, same / from);
		ck_assert_uint_eq(new, old * from / to);
		for (uint32_t i = 0; i < made[0].count; i++)
			for (uint32_t j = 0; j < i && i < 40; j++)
				ck_assert(made[0].ids[i] != made[0].ids[j]);
		reblock_free(&made[0]);
		reblock_free(&made[1]);
	}
}
END_TEST

struct sums {
	uint64_t requests, refs, hash;
	uint32_t block;
};

static int add(void *ctx, const struct trace_request *r, struct ikv_err *e)
{
	struct sums *s = ctx;
	(void)e;
	s->requests++;
	s->refs += r->count;
	for (uint32_t i = 0; i < r->count; i++)
		s->hash = ikv_mix64_2(s->hash, r->ids[i]);
	s->block = r->block_tokens;
	return 0;
}

#define M(t, in, ids) "{\"timestamp\":" #t ",\"input_length\":" #in ",\"output_length\":100,\"hash_ids\":[" ids "]}\n"

/* The session's events tell the same requests as the trace did. */
START_TEST(sessions_replay_requests)
{
	/* Inputs end at old blocks, or are cut back to one: a started block that is filled later has two ids in the
	 * trace, of which a session keeps the first. */
	static const char text[] =
	    M(1, 1536, "1,2,3") M(2, 2560, "1,2,3,5,6") M(3, 3072, "1,2,3,5,6,8") M(4, 3100, "1,2,3,5,6,8,9");
	static const uint32_t sizes[] = {16, 64, 300, 512, 2048};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct session_options opts = {.block_tokens = sizes[i]};
		struct session_list list;
		struct sums told = {0}, played = {0};
		struct trace_sink sink = {&told, NULL, add};
		struct trace_facts facts;
		const char *path = trace_file(text, strlen(text));
		ck_assert_int_eq(trace_read(path, "mooncake", &opts, &sink, &facts, &err), 0);
		ck_assert_int_eq(session_import(path, "mooncake", &opts, &list, &err), 0);
		unlink(path);
		ck_assert(list.count == 1 && list.items[0].hash_block_tokens == sizes[i]);
		ck_assert_int_eq(session_check(&list.items[0], &err), 0);
		ck_assert_int_eq(session_requests(&list.items[0], add, &played, &err), 0);
		ck_assert(told.requests == 4 && played.requests == 4 && told.block == sizes[i] &&
			  played.block == sizes[i]);
		ck_assert_uint_eq(told.refs, facts.block_refs);
		ck_assert(played.refs == told.refs && played.hash == told.hash);
		session_list_free(&list);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("reblock");
	TCase *t = tcase_create("reblock");
	tcase_add_test(t, prefixes_stay);
	tcase_add_test(t, sessions_replay_requests);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

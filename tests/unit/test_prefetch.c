/* Prefetchers: windows, cap, hints, saved state. */
#include <string.h>
#include <intentkv.h>
#include "tap.h"

static void *make(const struct ikv_prefetcher_ops *ops)
{
	_Alignas(16) char config[64];
	void *state = NULL;
	ikv_option_defaults(ops->options, config);
	ck_assert_int_eq(ops->create(&state, config, 2, NULL), 0);
	return state;
}

static uint32_t step(const struct ikv_prefetcher_ops *ops, void *s, const uint32_t *ids, uint32_t n,
		     const uint32_t *hints, uint32_t hint_count, uint32_t *out, uint32_t cap)
{
	uint32_t count = 0;
	ck_assert_int_eq(ops->step(s, 0, ids, n, hints, hint_count, out, cap, &count, NULL), 0);
	return count;
}

START_TEST(window_cap_and_hints)
{
	const struct ikv_prefetcher_ops *f = ikv_prefetcher_find("frequency");
	void *s = make(f);
	static const uint32_t a[] = {1, 5, 900}, b[] = {5, 900}, hint[] = {7, 3};
	uint32_t out[8];
	ck_assert_uint_eq(step(f, s, a, 3, NULL, 0, out, 8), 0);
	ck_assert_uint_eq(step(f, s, a, 3, hint, 2, out, 8), 2);
	ck_assert(out[0] == 3 && out[1] == 7);
	ck_assert_uint_eq(step(f, s, a, 3, NULL, 0, out, 8), 3);
	ck_assert_uint_eq(step(f, s, b, 2, hint, 2, out, 2), 2); /* the most frequent win */
	ck_assert(out[0] == 5 && out[1] == 900);
	for (int i = 0; i < 2; i++)
		step(f, s, b, 2, NULL, 0, out, 8);
	ck_assert_uint_eq(step(f, s, b, 2, NULL, 0, out, 8), 2); /* 1 has left the window */
	f->reset(s, 0);
	ck_assert_uint_eq(step(f, s, b, 2, NULL, 0, out, 8), 0);
	uint32_t n;
	ck_assert_int_eq(f->step(s, 0, (const uint32_t[]){2, 2}, 2, NULL, 0, out, 8, &n, NULL), -1);
	f->destroy(s);
}
END_TEST

/* What is selected in at least `least` of the newest `window` sets, the hints; where that is too much the most frequent, lower
 * ids first. */
static uint32_t plain(const bool (*sets)[300], int count, int window, uint32_t least, const uint32_t *hints, uint32_t hint_count,
		      uint32_t *out, uint32_t cap)
{
	uint32_t times[300] = {0}, n = 0, total = 0;
	bool in[300], taken[300] = {false};
	for (int k = count > window ? count - window : 0; k < count; k++)
		for (int id = 0; id < 300; id++)
			times[id] += sets[k][id];
	for (int id = 0; id < 300; id++)
		in[id] = times[id] >= least;
	for (uint32_t h = 0; h < hint_count; h++)
		in[hints[h]] = true;
	for (int id = 0; id < 300; id++)
		total += in[id];
	for (uint32_t k = 0; k < (total < cap ? total : cap); k++) {
		int best = -1;
		for (int id = 0; id < 300; id++)
			if (in[id] && !taken[id] && (best < 0 || times[id] > times[best]))
				best = id;
		taken[best] = true;
	}
	for (uint32_t id = 0; id < 300; id++)
		if (taken[id])
			out[n++] = id;
	return n;
}

START_TEST(counts_agree_with_plain_ones)
{
	static const int64_t settings[][2] = {{1, 1}, {1, 2}, {2, 3}, {4, 3}, {7, 8}, {8, 1}, {30, 17}, {64, 33}, {64, 65}};
	static bool sets[200][300];
	const struct ikv_prefetcher_ops *f = ikv_prefetcher_find("frequency");
	struct ikv_rng r;
	ikv_rng_stream(&r, 2, IKV_STREAM_TEST, 0, 0);
	for (size_t c = 0; c < sizeof settings / sizeof *settings; c++) {
		_Alignas(16) char config[64];
		void *s;
		ikv_option_defaults(f->options, config);
		memcpy(config + f->options[0].offset, &settings[c][0], sizeof settings[c][0]);
		memcpy(config + f->options[1].offset, &settings[c][1], sizeof settings[c][1]);
		ck_assert_int_eq(f->create(&s, config, 2, NULL), 0);
		for (int t = 0, begun = 0; t < 200; t++) {
			uint32_t ids[300], hints[3], out[300], want[300], n = 0, seen = 1 + (uint32_t)t * 3 / 2;
			const uint32_t cap = 1 + (uint32_t)ikv_rng_below(&r, 300), often = 1 + (uint32_t)ikv_rng_below(&r, 6);
			if (t == 120) {
				f->reset(s, 0);
				begun = t;
			}
			for (uint32_t id = 0; id < 300; id++) {
				sets[t][id] = id < seen && ikv_rng_below(&r, 6) < often;
				if (sets[t][id])
					ids[n++] = id;
			}
			for (int h = 0; h < 3; h++)
				hints[h] = (uint32_t)ikv_rng_below(&r, 300);
			const uint32_t expected = plain((const bool(*)[300])sets + begun, t + 1 - begun, (int)settings[c][0] + 1,
							(uint32_t)settings[c][1], hints, 3, want, cap);
			ck_assert_uint_eq(step(f, s, ids, n, hints, 3, out, cap), expected);
			ck_assert_mem_eq(out, want, expected * sizeof *out);
		}
		f->destroy(s);
	}
}
END_TEST

START_TEST(state_goes_on_identically)
{
	for (const struct ikv_prefetcher_ops *const *o = ikv_prefetchers(); *o; o++) {
		void *a = make(*o), *b = make(*o);
		struct ikv_rng r;
		uint32_t ids[2000], x[64], y[64];
		uint64_t allocations = 0;
		ikv_rng_stream(&r, 1, IKV_STREAM_TEST, 0, 0);
		for (int t = 0; t < 60; t++) {
			uint32_t n = 0;
			for (uint32_t id = 0; id < 2000; id++)
				if (ikv_rng_below(&r, 3) == 0)
					ids[n++] = id;
			uint32_t p = step(*o, a, ids, n, NULL, 0, x, 64);
			if (t > 30) {
				ck_assert_uint_eq(step(*o, b, ids, n, NULL, 0, y, 64), p);
				ck_assert_mem_eq(x, y, p * sizeof *x);
			}
			if (t == 30) {
				size_t size = (*o)->save(a, NULL, 0);
				unsigned char *state = malloc(size + 1);
				ck_assert_uint_eq((*o)->save(a, state, size), size);
				ck_assert_int_eq((*o)->load(b, state, size, NULL), 0);
				ck_assert_int_eq((*o)->load(a, state, size + 1, NULL), -1);
				ck_assert_int_eq((*o)->load(a, state, size, NULL), 0);
				free(state);
			}
			if (t == 50)
				allocations = ikv_alloc_count();
		}
		ck_assert_uint_eq(ikv_alloc_count(), allocations);
		(*o)->destroy(a);
		(*o)->destroy(b);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("prefetch");
	TCase *t = tcase_create("prefetch");
	tcase_add_test(t, window_cap_and_hints);
	tcase_add_test(t, counts_agree_with_plain_ones);
	tcase_add_test(t, state_goes_on_identically);
	suite_add_tcase(s, t);
	return tap_run(s);
}

/* Prefetch sequences and cost reports of the shared golden file, made by an independent implementation. */
#include <math.h>
#include <string.h>
#include <jansson.h>
#include <intentkv.h>
#include "tap.h"

static json_t *golden;

static double number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

static uint32_t ids_of(const json_t *array, uint32_t *ids)
{
	size_t i;
	json_t *v;
	json_array_foreach(array, i, v) ids[i] = (uint32_t)json_integer_value(v);
	return (uint32_t)json_array_size(array);
}

START_TEST(prefetch)
{
	const struct ikv_prefetcher_ops *f = ikv_prefetcher_find("frequency");
	size_t i, k, steps = 0;
	json_t *c, *sel;
	json_array_foreach(json_object_get(golden, "prefetch"), i, c)
	{
		_Alignas(16) char config[64], text[32];
		void *s;
		ikv_option_defaults(f->options, config);
		snprintf(text, sizeof text, "%.0f", number(c, "history_size"));
		ck_assert_int_eq(ikv_option_set(f->options, config, "history_size", text, NULL), 0);
		snprintf(text, sizeof text, "%.0f", number(c, "min_frequency"));
		ck_assert_int_eq(ikv_option_set(f->options, config, "min_frequency", text, NULL), 0);
		ck_assert_int_eq(f->create(&s, config, 1, NULL), 0);
		json_array_foreach(json_object_get(c, "selected"), k, sel)
		{
			uint32_t ids[4096], want[4096], got[4096], n;
			uint32_t count = ids_of(sel, ids);
			uint32_t expected = ids_of(json_array_get(json_object_get(c, "predicted"), k), want);
			ck_assert_int_eq(f->step(s, 0, ids, count, NULL, 0, got, 4096, &n, NULL), 0);
			ck_assert_uint_eq(n, expected);
			ck_assert(!memcmp(got, want, n * sizeof *got));
			steps++;
		}
		f->destroy(s);
	}
	printf("# %zu prefetch sequences, %zu steps\n", i, steps);
	fflush(stdout);
	ck_assert_uint_gt(i, 0);
}
END_TEST

START_TEST(cost)
{
	size_t i;
	json_t *c;
	json_array_foreach(json_object_get(golden, "cost"), i, c)
	{
		const json_t *a = json_object_get(c, "args"), *w = json_object_get(c, "report");
		uint64_t heads = (uint64_t)number(a, "heads");
		struct ikv_cost_args args = {(uint64_t)number(a, "batch"),
					     heads,
					     heads,
					     (uint64_t)number(a, "query_tokens"),
					     (uint64_t)number(a, "total_kv_tokens"),
					     (uint64_t)number(a, "selected_kv_tokens"),
					     (uint64_t)number(a, "head_dim"),
					     2};
		struct ikv_cost_report r;
		ck_assert_int_eq(ikv_cost_compare(&args, &r, NULL), 0);
		ck_assert_double_eq(r.dense_flops, number(w, "dense_flops"));
		ck_assert_double_eq(r.semantic_flops, number(w, "semantic_flops"));
		ck_assert_double_eq(r.dense_kv_bytes, number(w, "dense_kv_bytes"));
		ck_assert_double_eq(r.semantic_kv_bytes, number(w, "semantic_kv_bytes"));
		ck_assert_double_eq_tol(r.flops_saved_pct, number(w, "flops_saved_pct"), 1e-9);
		ck_assert_double_eq_tol(r.kv_bytes_saved_pct, number(w, "kv_bytes_saved_pct"), 1e-9);
		ck_assert_double_eq_tol(r.selected_fraction, number(w, "selected_fraction"), 1e-12);
	}
	printf("# %zu cost reports\n", i);
	fflush(stdout);
	ck_assert_uint_gt(i, 0);
}
END_TEST

int main(void)
{
	const char *shared = getenv("INTENTKV_SHARED"), *srcdir = getenv("srcdir");
	char path[4096];
	if (shared)
		snprintf(path, sizeof path, "%s/golden/routing.json", shared);
	else
		snprintf(path, sizeof path, "%s/../shared/golden/routing.json", srcdir ? srcdir : ".");
	golden = json_load_file(path, 0, NULL);
	if (!golden) {
		printf("1..0 # SKIP %s is not there\n", path);
		return 0;
	}
	Suite *s = suite_create("golden");
	TCase *t = tcase_create("golden");
	tcase_add_test(t, prefetch);
	tcase_add_test(t, cost);
	suite_add_tcase(s, t);
	int rc = tap_run(s);
	json_decref(golden);
	return rc;
}

/* A Zipf trace, and every residency policy over it. */
#include <string.h>
#include "sim/bench_mrc.h"

struct bench_mrc_setup bench_mrc_defaults(void)
{
	return (struct bench_mrc_setup){
	    .requests = 10000000, .ids = 1000000, .cache = 100000, .seconds = 2, .seed = 42};
}

struct zipf {
	double *upto; /* [ids] sum of 1 / k up to and with each id */
	uint32_t
	    *first; /* [ids] guide table: the first id that can be meant in each of `ids` equal parts of the sum */
	uint32_t ids;
};

static int zipf_open(struct zipf *z, uint32_t ids, struct ikv_err *err)
{
	double sum = 0;
	uint32_t at = 0;
	*z = (struct zipf){.ids = ids};
	z->upto = ikv_alloc(ids, sizeof *z->upto, err);
	z->first = z->upto ? ikv_alloc(ids, sizeof *z->first, err) : NULL;
	if (!z->first)
		return -1;
	for (uint32_t k = 0; k < ids; k++)
		z->upto[k] = sum += 1.0 / (k + 1);
	for (uint32_t part = 0; part < ids; part++) {
		while (z->upto[at] <= sum * part / ids)
			at++;
		z->first[part] = at;
	}
	return 0;
}

static uint32_t zipf_draw(const struct zipf *z, struct ikv_rng *r)
{
	double u = ikv_rng_uniform(r);
	uint32_t k = z->first[(uint32_t)(u * z->ids)];
	while (k + 1 < z->ids && z->upto[k] <= u * z->upto[z->ids - 1])
		k++;
	return k;
}

static void zipf_close(struct zipf *z)
{
	ikv_free(z->upto);
	ikv_free(z->first);
}

/* Objects numbered by first appearance, as those of a trace that was read. */
int bench_mrc_trace(const struct bench_mrc_setup *setup, struct ref_trace *t, struct ikv_err *err)
{
	struct ikv_rng rng;
	struct zipf zipf;
	uint32_t *object = NULL;
	*t = (struct ref_trace){.unit_bytes = 1, .count = setup->requests, .cap = setup->requests};
	t->slots = ikv_alloc(t->count, sizeof *t->slots, err);
	int rc = zipf_open(&zipf, setup->ids, err);
	if (!rc && t->slots)
		object = ikv_alloc(setup->ids, sizeof *object, err);
	ikv_rng_stream(&rng, setup->seed, IKV_STREAM_TEST, 0, 0);
	for (uint32_t i = 0; object && i < t->count; i++) {
		uint32_t *o = &object[zipf_draw(&zipf, &rng)]; /* number + 1 */
		if (!*o)
			*o = ++t->objects;
		t->slots[i] = *o - 1;
	}
	t->unique_units = t->objects;
	rc = object ? 0 : -1;
	zipf_close(&zipf);
	ikv_free(object);
	if (rc)
		ref_trace_free(t);
	return rc;
}

int bench_mrc(const struct bench_mrc_setup *setup, struct bench_mrc_row rows[BENCH_MRC_ROWS], uint32_t *count,
	      struct ikv_err *err)
{
	const struct ikv_residency_ops *const *all = ikv_residencies();
	struct ref_trace t;
	uint64_t misses, capacity = setup->cache;
	int rc = bench_mrc_trace(setup, &t, err);
	for (*count = 0; !rc && all[*count] && *count < BENCH_MRC_ROWS; ++*count) {
		double spent = 0, fastest = 0, once;
		while (!rc && (fastest <= 0 || spent < setup->seconds)) {
			rc = mrc_run(&t, all[*count], NULL, &capacity, 1, &misses, &once, err);
			spent += once;
			fastest = fastest <= 0 || once < fastest ? once : fastest;
		}
		if (!rc)
			rows[*count] = (struct bench_mrc_row){.policy = all[*count]->name,
							      .rate = t.count / fastest,
							      .miss_ratio = (double)misses / t.count,
							      .objects = t.objects};
	}
	if (!rc)
		ref_trace_free(&t);
	return rc;
}

/* Fitting the cost model: constants that are known come back. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "sim/bench_attention.h"
#include "sim/calibrate.h"
#include "sim/scenario.h"
#include "tap.h"

static struct ikv_err err;

START_TEST(solves_exactly)
{
	/* y = 3 a + 2 c: b has no part in it, and one gross outlier does not matter. */
	double x[40 * 3], y[40], c[3];
	struct ikv_rng r;
	ikv_rng_stream(&r, 1, IKV_STREAM_TEST, 0, 0);
	for (int i = 0; i < 40; i++) {
		x[3 * i] = 1;
		x[3 * i + 1] = ikv_rng_uniform(&r) * 50;
		x[3 * i + 2] = ikv_rng_uniform(&r) * 1e6;
		y[i] = 3 + 2 * x[3 * i + 2];
	}
	y[7] *= 5;
	ck_assert_int_eq(calibrate_solve(x, y, 40, 3, c, &err), 0);
	ck_assert_double_eq_tol(c[2], 2, 2e-3);
	ck_assert(c[0] >= 0 && c[1] >= 0 && c[1] < 1e-2);
	ck_assert_int_eq(calibrate_solve(x, y, 2, 3, c, &err), -1);
}
END_TEST

static void known(struct ikv_machine *m)
{
	memset(m, 0, sizeof *m);
	ikv_option_defaults(ikv_machine_options, m);
	m->kernel_overhead_ns = 2000;
	m->page_overhead_ns = 40;
	m->jump_ns = 200;
	m->format_bytes_per_s[IKV_FMT_FP16] = 30e9;
	m->format_flops_per_s[IKV_FMT_FP16] = 400e9;
	m->format_bytes_per_s[IKV_FMT_INT8] = 35e9;
	m->format_flops_per_s[IKV_FMT_INT8] = 300e9;
}

static double time_of(const struct ikv_machine *m, const struct ikv_cost_work *w)
{
	struct ikv_cost_time t;
	ikv_cost_step(m, w, &t);
	return t.attention + t.overhead;
}

/* Calls over both formats, groups and selections, timed by a machine that is known. */
static struct calibrate_set calls_of(const struct ikv_machine *m)
{
	struct calibrate_set set = {0};
	for (uint32_t i = 0; i < 96; i++) {
		struct calibrate_cell *c = calibrate_add(&set, &err);
		enum ikv_format f = i % 2 ? IKV_FMT_INT8 : IKV_FMT_FP16;
		uint32_t pages = 8u << i / 2 % 8, group = 1 + 3 * (i / 16 % 2);
		snprintf(c->shape, sizeof c->shape, "%u", group);
		snprintf(c->format, sizeof c->format, "%s", ikv_format_info(f)->name);
		c->held = i % 3 == 2;
		c->work = (struct ikv_cost_work){
		    .layers = 1, .sequences = 1, .pages = 8 * pages, .jumps = 1 + i * 7 % pages};
		c->work.kv_bytes = c->work.format_bytes[f] = (uint64_t)pages * (f == IKV_FMT_INT8 ? 33280 : 65536);
		c->work.format_flops[f] = 4.0 * group * 8 * 128 * 16 * pages;
		c->measured_ns = time_of(m, &c->work);
	}
	return set;
}

START_TEST(constants_come_back)
{
	struct ikv_machine m, fitted;
	known(&m);
	struct calibrate_set set = calls_of(&m);
	memset(&fitted, 0, sizeof fitted);
	ikv_option_defaults(ikv_machine_options, &fitted);
	ck_assert_msg(calibrate_fit(&set, &fitted, &err) == 0, "%s", err.text);
	struct calibrate_error e = calibrate_errors(&set, true, NULL, NULL);
	ck_assert_uint_eq(e.cells, 32);
	ck_assert_msg(e.worst < 2, "%g %%", e.worst);
	ck_assert_double_eq_tol(fitted.jump_ns, 200, 20);
	ck_assert_double_eq_tol(fitted.kernel_overhead_ns, 2000, 200);
	ck_assert(fitted.format_bytes_per_s[IKV_FMT_INT4] == 0); /* never seen */
	ck_assert_uint_eq(calibrate_errors(&set, true, "INT8", "4").cells +
			      calibrate_errors(&set, true, "INT8", "1").cells,
			  calibrate_errors(&set, true, "INT8", NULL).cells);
	/* Outside of what was measured, and said so. */
	struct ikv_cost_time t;
	struct ikv_cost_work w = set.cells[0].work;
	w.kv_bytes = (uint64_t)fitted.measured_to_bytes + 1;
	ikv_cost_step(&fitted, &w, &t);
	ck_assert(t.outside);
	w.kv_bytes--;
	ikv_cost_step(&fitted, &w, &t);
	ck_assert(!t.outside);
	calibrate_free(&set);
}
END_TEST

/* Calls of one group over whole and lone pages of one format or several, of one sequence or four. */
static struct calibrate_set session_calls(const struct ikv_machine *m)
{
	struct calibrate_set set = {0};
	struct ikv_rng r;
	ikv_rng_stream(&r, 1, IKV_STREAM_TEST, 0, 0);
	for (uint32_t i = 0; i < 240; i++) {
		struct calibrate_cell *c = calibrate_add(&set, &err);
		uint32_t kind = i % 3, pages = 64u << i / 3 % 6, fp16 = kind == 0 ? pages : 0;
		if (kind == 2)
			fp16 = pages / 8 + ikv_rng_below(&r, pages / 2);
		snprintf(c->format, sizeof c->format, "%s", kind == 0 ? "FP16" : kind == 1 ? "INT8" : "mixed");
		c->held = i / 3 % 4 == 3;
		c->work = (struct ikv_cost_work){.layers = 1, .sequences = i % 5 ? 1 : 4, .group = 4, .pages = pages};
		c->work.plans = (i % 7 < 4 ? 8 : 1) * c->work.sequences;
		c->work.format_fine[IKV_FMT_INT8] = 64 * log(pages) * (pages - fp16) / pages;
		c->work.format_fine[IKV_FMT_FP16] = 64 * log(pages) * fp16 / pages;
		c->work.jumps = 8 + ikv_rng_below(&r, pages);
		c->work.changes = kind == 2 ? ikv_rng_below(&r, pages / 4) : 0;
		c->work.format_bytes[IKV_FMT_FP16] = (uint64_t)fp16 * 8192;
		c->work.format_bytes[IKV_FMT_INT8] = (uint64_t)(pages - fp16) * 4160;
		for (int f = 0; f < IKV_FMT_COUNT; f++)
			c->work.kv_bytes += c->work.format_bytes[f];
		c->work.format_flops[IKV_FMT_FP16] = 32768.0 * fp16;
		c->work.format_flops[IKV_FMT_INT8] = 32768.0 * (pages - fp16);
		c->work.lone_fp16_bytes = i % 7 < 4 ? c->work.format_bytes[IKV_FMT_FP16] : 0;
		c->work.lone_bytes = i % 7 < 4 ? c->work.format_bytes[IKV_FMT_INT8] : 0;
		c->work.lone_pages = i % 7 < 4 ? pages - fp16 : 0; /* FP16 was not re-encoded */
		c->measured_ns = time_of(m, &c->work);
	}
	return set;
}

START_TEST(formats_beside_each_other_are_told_apart)
{
	struct ikv_machine m, fitted;
	known(&m);
	m.page_overhead_ns = 0;
	memset(m.format_flops_per_s, 0, sizeof m.format_flops_per_s);
	m.sequence_overhead_ns = 40000;
	m.lone_bytes_per_s = 80e9;
	m.lone_fp16_bytes_per_s = 200e9;
	m.lone_page_ns = 60;
	m.plan_overhead_ns = 1300;
	m.format_change_ns = 900;
	m.format_overhead_ns = 15000;
	m.format_fine_ns[IKV_FMT_INT8] = 190;
	struct calibrate_set set = session_calls(&m);
	memset(&fitted, 0, sizeof fitted);
	ikv_option_defaults(ikv_machine_options, &fitted);
	ck_assert_msg(calibrate_fit(&set, &fitted, &err) == 0, "%s", err.text);
	struct calibrate_error e = calibrate_errors(&set, true, "mixed", NULL);
	ck_assert_uint_eq(e.cells, 20);
	ck_assert_msg(e.worst < 2, "%g %%", e.worst);
	ck_assert_double_eq_tol(fitted.format_change_ns, 900, 20);
	ck_assert_double_eq_tol(fitted.format_overhead_ns, 15000, 500);
	ck_assert_double_eq_tol(fitted.sequence_overhead_ns, 40000, 500);
	ck_assert_double_eq_tol(fitted.plan_overhead_ns, 1300, 100);
	ck_assert_double_eq_tol(fitted.format_fine_ns[IKV_FMT_INT8], 190, 10);
	ck_assert_double_eq_tol(fitted.format_fine_ns[IKV_FMT_FP16], 0, 10);
	/* Re-encoded pages are all INT8 here, so their number and their bytes cannot be told apart. */
	const double rate = fitted.lone_bytes_per_s;
	ck_assert_double_eq_tol(fitted.lone_page_ns + (rate > 0 ? 4160e9 / rate : 0), 60 + 4160 / 80.0, 5);
	ck_assert_double_eq_tol(fitted.lone_fp16_bytes_per_s, 200e9, 20e9);
	/* What grows with the bytes alone is theirs: another group cannot be foretold, and that is said. */
	ck_assert(fitted.format_flops_per_s[IKV_FMT_FP16] == 0 && fitted.page_overhead_ns == 0);
	ck_assert_double_eq(fitted.measured_group, 4);
	struct ikv_cost_time t;
	struct ikv_cost_work w = set.cells[5].work;
	ikv_cost_step(&fitted, &w, &t);
	ck_assert(!t.outside);
	w.group = 8;
	ikv_cost_step(&fitted, &w, &t);
	ck_assert(t.outside);
	calibrate_free(&set);
}
END_TEST

/* The backend `cpu`, watched: in which order pages are re-encoded, and two of three times that a call is made it takes
 * 1 ms longer. */
static struct {
	uint32_t recodes, turns, last; /* turns: of another sequence than the page before */
	const struct ikv_attn_unit *call[256];
	uint32_t made[256], calls;
} seen;

static int recode_seen(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		       uint32_t page, enum ikv_format to, struct ikv_err *e)
{
	seen.turns += seen.recodes++ && seq != seen.last;
	seen.last = seq;
	return ikv_backend_cpu.recode(b, seq, layer, kv_first, kv_count, page, to, e);
}

static int decode_seen(struct ikv_backend *b, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *e)
{
	uint32_t i = 0;
	while (i < seen.calls && seen.call[i] != units)
		i++;
	ck_assert_uint_lt(i, 256);
	if (i == seen.calls)
		seen.call[seen.calls++] = units;
	if (seen.made[i]++ % BENCH_COLD_CALLS != 1)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return ikv_backend_cpu.decode(b, units, count, e);
}

static struct ikv_backend_ops watched;

static int open_seen(struct ikv_backend **out, const struct ikv_geometry *g, const struct ikv_backend_config *c,
		     struct ikv_err *e)
{
	int rc = ikv_backend_cpu.open(out, g, c, e);
	if (!rc)
		(*out)->ops = &watched;
	seen.calls = 0;
	memset(seen.made, 0, sizeof seen.made);
	return rc;
}

START_TEST(measures_what_a_store_of_many_sessions_does)
{
	struct calibrate_setup setup = {.backend = &watched,
					.isa = "auto",
					.threads = 1,
					.q_heads = 8,
					.kv_heads = 2,
					.head_dim = 64,
					.page_tokens = 16,
					.tokens = 1024,
					.seconds = 0.001,
					.cool_bytes = 1 << 20};
	struct calibrate_set set = {0};
	struct ikv_machine m;
	uint32_t quick = 0, lone = 0, pairs = 0;
	watched = ikv_backend_cpu;
	watched.open = open_seen;
	watched.recode = recode_seen;
	watched.decode = decode_seen;
	memset(&m, 0, sizeof m);
	ck_assert_msg(calibrate_measure(&setup, &set, &m, &err) == 0, "%s", err.text);
	/* Two thirds of the pages are the longest context's: where all are in any order, every second follows another's. */
	ck_assert_msg(seen.turns > seen.recodes / 3, "%u of %u", seen.turns, seen.recodes);
	for (uint32_t i = 0; i < set.count; i++) {
		const struct calibrate_cell *c = &set.cells[i];
		bool one = strncmp(c->selected + strcspn(c->selected, "/"), "/head", 5) == 0;
		ck_assert_uint_eq(c->work.plans, c->work.sequences * (one ? 2 : 1));
		ck_assert_uint_eq(c->work.lone_fp16_bytes, one ? c->work.format_bytes[IKV_FMT_FP16] : 0);
		ck_assert_uint_eq(c->work.lone_fp16_bytes + c->work.lone_bytes, one ? c->work.kv_bytes : 0);
		quick += c->measured_ns < 900000; /* the shortest of three */
		lone += c->work.lone_pages > 0;
		pairs += !strcmp(c->format, "FP16+INT8");
		if (!strcmp(c->format, "FP16"))
			ck_assert_uint_eq(c->work.lone_pages, 0); /* never re-encoded */
	}
	ck_assert_msg(quick > set.count / 2, "%u of %u", quick, set.count);
	ck_assert(lone > 0 && pairs > 0);
	calibrate_free(&set);
}
END_TEST

START_TEST(profiles_are_read_as_written)
{
	char folder[] = "/tmp/ikv-calibrate-XXXXXX", path[64];
	struct ikv_machine m, back;
	known(&m);
	m.measured_to_bytes = 1e9;
	m.measured_from_bytes = 5e4;
	snprintf(m.name, sizeof m.name, "here");
	snprintf(m.source, sizeof m.source, "a test: with colons, # and more");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/m.yaml", folder);
	ck_assert_msg(machine_write(path, &m, false, &err) == 0, "%s", err.text);
	ck_assert_int_eq(machine_write(path, &m, false, &err), -1);
	ck_assert_int_eq(machine_write(path, &m, true, &err), 0);
	ck_assert_msg(machine_read(path, &back, &err) == 0, "%s", err.text);
	ck_assert_str_eq(back.name, m.name);
	ck_assert_str_eq(back.source, m.source);
	for (const struct ikv_option *o = ikv_machine_options; o->name; o++)
		ck_assert_double_eq(*(double *)((char *)&back + o->offset), *(double *)((char *)&m + o->offset));
	unlink(path);
	rmdir(folder);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("calibrate");
	TCase *t = tcase_create("calibrate");
	tcase_add_test(t, solves_exactly);
	tcase_add_test(t, constants_come_back);
	tcase_add_test(t, formats_beside_each_other_are_told_apart);
	tcase_add_test(t, measures_what_a_store_of_many_sessions_does);
	tcase_add_test(t, profiles_are_read_as_written);
	tcase_set_timeout(t, 120);
	suite_add_tcase(suite, t);
	return tap_run(suite);
}

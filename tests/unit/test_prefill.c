/* The CPU backend with many query rows a KV head, against the backend `ref`: every ISA, all formats, threads, memory.
 */
#include "prefill_rig.h"

/* Against the backend `ref`, whose pages hold the same codes. */
static void agrees(struct scene *s, const char *isa, uint32_t threads, int format, double tolerance)
{
	struct ikv_backend *both[2] = {open_backend(s, &ikv_backend_cpu, isa, threads),
				       open_backend(s, &ikv_backend_ref, "auto", 1)};
	struct answer a[2];
	for (int i = 0; i < 2; i++) {
		mix_formats(s, both[i], format);
		a[i] = decode(s, both[i]);
	}
	same(a[0], a[1], tolerance);
	for (int i = 0; i < 2; i++) {
		free_answer(a[i]);
		both[i]->ops->close(both[i]);
	}
}

static const char *usable_isa(int i)
{
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	return (uint32_t)i < count && isas[i].usable ? isas[i].name : NULL;
}

START_TEST(cpu_agrees)
{
	for (uint64_t n = 0; usable_isa(_i) && n < 240; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 53, 0);
		struct ikv_geometry g = geometry(&s, n % 5 ? 6 : 40, n % 4 ? 80 : 256);
		uint32_t tokens = 1 + below(&s, n % 3 ? 100 : 400), q_len = 1 + below(&s, n % 7 ? 30 : 200);
		set_scene(&s, g, tokens, q_len);
		vary(&s);
		agrees(&s, usable_isa(_i), 1 + (uint32_t)n % 3, n % 3 ? (int)(n / 3 % FORMATS) : -1, 5e-5);
		drop_scene(&s);
	}
}
END_TEST

/* MLA: up to 128 heads, one row each or several, over latents of 576 channels of which 512 are the values. */
START_TEST(latents_agree)
{
	static const uint32_t heads[] = {128, 16, 20, 64, 1};
	for (uint64_t n = 0; usable_isa(_i) && n < 12; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 54, 0);
		struct ikv_geometry g = {1, heads[n % 5], 1, 576, 512, true, n % 2 ? 16 : 64, 1 / sqrtf(192)};
		set_scene(&s, g, 100 + below(&s, 200), n % 3 ? 1 : 1 + below(&s, 3));
		if (n % 2)
			s.u.positions = NULL;
		if (n % 4 > 1)
			some_pages(&s);
		agrees(&s, usable_isa(_i), 2, n < 11 ? (int)n - 1 : -1, 1e-4);
		drop_scene(&s);
	}
}
END_TEST

/* Contexts of several pieces, for one row of many heads, and for a last chunk of a long prefill. */
START_TEST(long_contexts_agree)
{
	for (uint64_t n = 0; usable_isa(_i) && n < 4; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 55, 0);
		struct ikv_geometry g = {1, n % 2 ? 32 : 4, 1 + (uint32_t)n / 2, 64, 64, false, 16, 0.125f};
		set_scene(&s, g, 9000, n % 2 ? 1 : 70);
		for (uint32_t d = 0; d < 64; d++) /* a row that points to one token of the last piece */
			s.q[64 * (g.q_heads - 1) + d] =
			    3 * ikv_fp16_to_float(s.k[(size_t)8900 * g.kv_heads * 64 + (g.kv_heads - 1) * 64 + d]);
		agrees(&s, usable_isa(_i), 2, (int)n - 1, 5e-5);
		drop_scene(&s);
	}
}
END_TEST

/* Scores of ±1e30 and a bias that adds up to -inf: the one key far ahead is the answer, rows without one are zeros.
 */
START_TEST(extreme_values)
{
	for (int f = 0; usable_isa(_i) && f < FORMATS; f++) {
		struct scene s;
		ikv_rng_stream(&s.r, (uint64_t)f, IKV_STREAM_TEST, 56, 0);
		set_scene(&s, (struct ikv_geometry){1, 3, 1, 40, 40, false, 16, 1}, 90, 7);
		s.u.positions = NULL;
		s.bias = calloc(7 * 90, sizeof *s.bias);
		for (uint32_t t = 0; t < 7 * 90; t++)
			s.bias[t] = t / 90 == 2 ? -INFINITY : t / 90 == 3 ? -3.4e38f : 0;
		s.u.bias = s.bias;
		s.u.bias_tokens = 90;
		for (uint32_t i = 0; i < 7 * 3 * 40; i++)
			s.q[i] *= i / 120 == 3 ? 1 : 1e30f;
		struct ikv_backend *cpu = open_backend(&s, &ikv_backend_cpu, usable_isa(_i), 1);
		struct ikv_backend *ref = open_backend(&s, &ikv_backend_ref, "auto", 1);
		mix_formats(&s, cpu, f);
		mix_formats(&s, ref, f);
		struct answer a = decode(&s, cpu), b = decode(&s, ref);
		for (size_t i = 0; i < a.rows; i++) {
			ck_assert(a.lse[i] == b.lse[i] || fabs(a.lse[i] / (double)b.lse[i] - 1) < 1e-5);
			if (i / 3 == 2)
				ck_assert(a.lse[i] == -INFINITY);
		}
		for (size_t i = 0; i < a.rows * 40; i++)
			if (i / 120 != 3) /* there all scores are lost beside the bias */
				ck_assert_double_le(fabs((double)a.out[i] - (double)b.out[i]), 1e-5);
		for (size_t i = 2 * 120; i < 3 * 120; i++)
			ck_assert(a.out[i] == 0);
		free_answer(a);
		free_answer(b);
		cpu->ops->close(cpu);
		ref->ops->close(ref);
		drop_scene(&s);
	}
}
END_TEST

/* The unit that sees nothing at all, by an empty plan or by its positions. */
START_TEST(nothing_to_see)
{
	for (int how = 0; usable_isa(_i) && how < 2; how++) {
		struct scene s;
		ikv_rng_stream(&s.r, 0, IKV_STREAM_TEST, 57, 0);
		set_scene(&s, (struct ikv_geometry){1, 4, 2, 24, 24, false, 16, 1}, 60, 5);
		if (how) {
			s.plan.pages[0] = s.plan.pages[2];
			s.plan.pages[1] = s.plan.pages[3];
		}
		s.plan.count = how ? 2 : 0;
		for (uint32_t i = 0; i < 5; i++)
			s.positions[i] = 6 * i; /* before the third page */
		struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, usable_isa(_i), 2);
		struct answer a = decode(&s, b);
		for (size_t i = 0; i < a.rows; i++)
			ck_assert(a.lse[i] == -INFINITY);
		for (size_t i = 0; i < a.rows * a.d_v; i++)
			ck_assert(a.out[i] == 0);
		for (size_t i = 0; i < a.rows * a.pages; i++)
			ck_assert(a.mass[i] == 0);
		free_answer(a);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

START_TEST(threads_do_not_change_bits)
{
	static const uint32_t threads[] = {1, 2, 3, 8};
	struct answer first = {0};
	for (int i = 0; i < 8; i++) {
		struct scene s;
		struct ikv_geometry g = {1, 8, 2, 36, 36, false, 16, 1 / 6.0f};
		ikv_rng_stream(&s.r, 1, IKV_STREAM_TEST, 58, 0);
		if (i >= 4) /* several pieces */
			g = (struct ikv_geometry){1, 40, 1, 64, 48, true, 16, 0.125f};
		set_scene(&s, g, i < 4 ? 2000 : 5000, i < 4 ? 300 : 1);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, "auto", threads[i % 4]);
		mix_formats(&s, b, -1);
		struct answer a = decode(&s, b);
		if (i % 4 == 0) {
			first = a;
		} else {
			ck_assert_mem_eq(a.out, first.out, a.rows * a.d_v * 4);
			ck_assert_mem_eq(a.lse, first.lse, a.rows * 4);
			ck_assert_mem_eq(a.mass, first.mass, a.rows * a.pages * 4);
			free_answer(a);
		}
		if (i % 4 == 3)
			free_answer(first);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

/* Decode and prefill units in one call; a smaller call after a larger one allocates nothing. */
START_TEST(units_mix_and_do_not_allocate)
{
	struct scene s, one;
	struct ikv_err err;
	ikv_rng_stream(&s.r, 0, IKV_STREAM_TEST, 59, 0);
	set_scene(&s, (struct ikv_geometry){1, 8, 2, 64, 64, false, 16, 0.125f}, 600, 40);
	struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, "auto", 2);
	mix_formats(&s, b, -1);
	one = s;
	one.u.q_len = 0;
	one.u.positions = NULL;
	one.u.q = s.q + 39 * 8 * 64; /* the last row sees all */
	struct ikv_attn_unit u[3] = {s.u, one.u, s.u};
	struct answer a[3];
	for (int i = 0; i < 3; i++)
		answer_room(&s, &a[i], &u[i]);
	ck_assert_int_eq(b->ops->decode(b, u, 3, &err), 0);
	same(a[0], a[2], 0);
	for (uint32_t h = 0; h < 8; h++)
		for (uint32_t d = 0; d < 64; d++) /* some pages are FP8: docs/formats.md */
			ck_assert_double_le(
			    fabs((double)a[1].out[h * 64 + d] - (double)a[0].out[(39 * 8 + h) * 64 + d]), 4e-3);
	uint64_t before = ikv_alloc_count();
	ck_assert_int_eq(b->ops->decode(b, u, 2, &err), 0);
	s.u.q_len = 39;
	ck_assert_int_eq(b->ops->decode(b, u + 1, 2, &err), 0);
	ck_assert_uint_eq(ikv_alloc_count(), before);
	for (int i = 0; i < 3; i++)
		free_answer(a[i]);
	s.q[5 * 8 * 64 + 64 + 3] = NAN;
	answer_room(&s, &a[0], &u[0]);
	ck_assert_int_eq(b->ops->decode(b, u, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "query of head 1, channel 3 is not finite"));
	free_answer(a[0]);
	b->ops->close(b);
	drop_scene(&s);
}
END_TEST

/* Selected keys keep their positions: a causal prefill over some pages is the dense one with the others masked. */
START_TEST(selected_equals_masked_dense)
{
	for (uint64_t n = 0; usable_isa(_i) && n < 30; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 51, 0);
		struct ikv_geometry g = geometry(&s, 6, 60);
		uint32_t tokens = 30 + below(&s, 300), q_len = 1 + below(&s, 30);
		set_scene(&s, g, tokens, q_len);
		some_pages(&s);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_cpu, usable_isa(_i), 2);
		mix_formats(&s, b, -1);
		struct answer selected = decode(&s, b);
		s.bias = calloc((size_t)q_len * tokens, sizeof *s.bias);
		for (uint32_t i = 0; i < q_len * tokens; i++)
			s.bias[i] = -INFINITY;
		for (uint32_t i = 0; i < q_len; i++)
			for (uint32_t p = 0; p < s.plan.count; p++)
				for (uint32_t t = 0; t < g.page_tokens; t++)
					if (t >= s.plan.pages[p].lo && t < s.plan.pages[p].hi &&
					    ikv_plan_has(&s.plan, &s.plan.pages[p], t))
						s.bias[i * tokens + s.plan.pages[p].page * g.page_tokens + t] = 0;
		s.u.bias = s.bias;
		s.u.bias_tokens = tokens;
		all_pages(&s);
		struct answer dense = decode(&s, b);
		same(selected, dense, 1e-5);
		free_answer(selected);
		free_answer(dense);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("prefill");
	TCase *t = tcase_create("prefill");
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, cpu_agrees, 0, 4); /* one an ISA */
	tcase_add_loop_test(t, latents_agree, 0, 4);
	tcase_add_loop_test(t, long_contexts_agree, 0, 4);
	tcase_add_loop_test(t, selected_equals_masked_dense, 0, 4);
	tcase_add_loop_test(t, extreme_values, 0, 4);
	tcase_add_loop_test(t, nothing_to_see, 0, 4);
	tcase_add_test(t, threads_do_not_change_bits);
	tcase_add_test(t, units_mix_and_do_not_allocate);
	suite_add_tcase(s, t);
	return tap_run(s);
}

/* Latent attention: absorbed against un-absorbed, over selected pages and stored formats. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

static const enum ikv_format latent_formats[] = {IKV_FMT_FP16, IKV_FMT_FP8, IKV_FMT_INT8};
static const struct ikv_rope_config plain = {.base = 10000};

struct layer { /* a layer's weights and one sequence's latents */
	struct ikv_mla_shape s;
	struct ikv_mla *m;
	struct ikv_mla_weights w;
	struct ikv_rng r;
	uint32_t tokens, first; /* position of the first token */
	uint16_t *uk, *uv, *stored;
	float *c, *k_rope, *rows, *q; /* rows: as the pages give them back */
	uint32_t *position;
	struct ikv_plan plan;
};

static uint16_t *weights(struct layer *l, size_t n, double size)
{
	uint16_t *w = calloc(n, 2);
	for (size_t i = 0; i < n; i++)
		w[i] = ikv_fp16_from_float((float)(ikv_rng_normal(&l->r) * size));
	return w;
}

static float *normals(struct layer *l, size_t n)
{
	float *x = calloc(n + 1, 4);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)ikv_rng_normal(&l->r);
	return x;
}

static uint32_t row_dim(const struct layer *l)
{
	return l->s.d_c + l->s.d_rope;
}

static void fill_rows(struct layer *l)
{
	struct ikv_err err;
	for (uint32_t t = 0; t < l->tokens; t++)
		l->position[t] = l->first + t;
	ck_assert_int_eq(ikv_mla_rows(l->m, l->tokens, l->c, l->k_rope, l->position, l->stored, &err), 0);
	for (size_t i = 0; i < (size_t)l->tokens * row_dim(l); i++)
		l->rows[i] = ikv_fp16_to_float(l->stored[i]);
}

/* Keys and values of about unit variance: W of 1/sqrt(d_c). */
static void open_layer(struct layer *l, uint64_t seed, struct ikv_mla_shape s, const struct ikv_rope_config *rope,
		       uint32_t threads, uint32_t tokens, uint32_t first)
{
	struct ikv_err err;
	memset(l, 0, sizeof *l);
	ikv_rng_stream(&l->r, seed, IKV_STREAM_TEST, 40, 0);
	l->s = s;
	ck_assert_msg(!ikv_mla_create(&l->m, &s, rope, threads, &err), "%s", err.text);
	l->uk = weights(l, (size_t)s.heads * s.d_nope * s.d_c, 1 / sqrt(s.d_c));
	l->uv = weights(l, (size_t)s.heads * s.d_v * s.d_c, 1 / sqrt(s.d_c));
	l->w = (struct ikv_mla_weights){l->uk, l->uv, NULL, 0};
	l->tokens = tokens;
	l->first = first;
	l->c = normals(l, (size_t)tokens * s.d_c);
	l->k_rope = normals(l, (size_t)tokens * s.d_rope);
	l->q = normals(l, (size_t)s.heads * (s.d_nope + s.d_rope));
	l->rows = calloc((size_t)tokens * row_dim(l), 4);
	l->stored = calloc((size_t)tokens * row_dim(l), 2);
	l->position = calloc(tokens, 4);
	fill_rows(l);
}

static void close_layer(struct layer *l)
{
	ikv_mla_destroy(l->m);
	free(l->uk);
	free(l->uv);
	free(l->c);
	free(l->k_rope);
	free(l->q);
	free(l->rows);
	free(l->stored);
	free(l->position);
	ikv_plan_free(&l->plan);
}

/* A backend with the layer's latents as sequence `seq`, full pages in random formats, and `rows` as it decodes them.
 */
static struct ikv_backend *fill_backend(struct layer *l, const struct ikv_backend_ops *ops, uint32_t page_tokens,
					uint32_t seq)
{
	struct ikv_err err;
	struct ikv_backend *b;
	struct ikv_geometry g;
	struct ikv_backend_config config = {.threads = 1, .isa = "auto", .sequences = 4};
	ikv_mla_geometry(l->m, 1, page_tokens, &g);
	ck_assert_msg(!ops->open(&b, &g, &config, &err), "%s", err.text);
	ck_assert_msg(!ops->append(b, seq, 0, l->tokens, l->stored, NULL, &err), "%s", err.text);
	uint8_t *page = calloc((size_t)page_tokens * (row_dim(l) + 4), 2);
	for (uint32_t p = 0; p < l->tokens / page_tokens; p++) {
		enum ikv_format f = latent_formats[ikv_rng_below(&l->r, 3)];
		size_t at = (size_t)p * page_tokens * row_dim(l);
		ck_assert(ikv_mla_stores(f));
		ck_assert_int_eq(ops->recode(b, seq, 0, 0, 1, p, f, &err), 0);
		ck_assert_int_eq(
		    ikv_format_encode(f, IKV_SIDE_K, l->stored + at, page_tokens, row_dim(l), page, &err), 0);
		ck_assert_int_eq(ikv_format_decode(f, IKV_SIDE_K, page, page_tokens, row_dim(l), l->rows + at, &err),
				 0);
	}
	free(page);
	return b;
}

/* Random ranges; `everything`: all tokens. */
static void make_plan(struct layer *l, uint32_t page_tokens, bool everything)
{
	struct ikv_err err;
	ikv_plan_free(&l->plan);
	ck_assert_int_eq(ikv_plan_init(&l->plan, page_tokens, ikv_pages(l->tokens, page_tokens), &err), 0);
	ikv_plan_reset(&l->plan, l->tokens);
	for (uint32_t t = 0; t < l->tokens;) {
		uint32_t n = everything ? l->tokens : 1 + (uint32_t)ikv_rng_below(&l->r, 40);
		n = n < l->tokens - t ? n : l->tokens - t;
		if (everything || ikv_rng_below(&l->r, 2))
			ikv_plan_add(&l->plan, t, t + n, IKV_FMT_FP16, 0);
		t += n;
	}
}

/* Absorbed on a backend against the reference: largest difference of outputs and log-sum-exps. */
static double difference(struct layer *l, struct ikv_backend *b, uint32_t seq)
{
	struct ikv_err err;
	uint32_t heads = l->s.heads, at = l->first + l->tokens - 1;
	size_t n = (size_t)heads * l->s.d_v;
	float *out = calloc(n, 4), *lse = calloc(heads, 4), *mass = calloc((size_t)heads * l->plan.count + 1, 4);
	double *want = calloc(n, 8), *want_lse = calloc(heads, 8), worst = 0;
	struct ikv_mla_unit u = {seq, at, &l->plan, l->q, out, lse, mass};
	ck_assert_msg(!ikv_mla_decode(l->m, &l->w, b, 0, &u, 1, &err), "%s", err.text);
	ck_assert_int_eq(ikv_mla_reference(l->m, &l->w, l->rows, l->tokens, &l->plan, l->q, at, want, want_lse, &err),
			 0);
	for (size_t i = 0; i < n; i++)
		worst = fmax(worst, fabs(out[i] - want[i]));
	for (uint32_t h = 0; h < heads; h++) {
		double sum = 0;
		if (isinf(want_lse[h]))
			ck_assert(lse[h] == -INFINITY);
		else
			worst = fmax(worst, fabs(lse[h] - want_lse[h]));
		for (uint32_t p = 0; p < l->plan.count; p++)
			sum += mass[(size_t)h * l->plan.count + p];
		ck_assert_double_le(fabs(sum - (l->plan.count != 0)), 1e-5);
	}
	free(out);
	free(lse);
	free(mass);
	free(want);
	free(want_lse);
	return worst;
}

START_TEST(absorbed_equals_unabsorbed)
{
	const struct ikv_backend_ops *const backends[] = {&ikv_backend_ref, &ikv_backend_cpu};
	double worst[2] = {0};
	for (uint32_t n = 0; n < 120; n++) {
		struct layer l;
		struct ikv_rng r;
		ikv_rng_stream(&r, n, IKV_STREAM_TEST, 41, 0);
		struct ikv_mla_shape s = {
		    .heads = 1 + (uint32_t)ikv_rng_below(&r, 9),
		    .d_nope = 1 + (uint32_t)ikv_rng_below(&r, 70),
		    .d_rope = 2 + 2 * (uint32_t)ikv_rng_below(&r, 20),
		    .d_c = 1 + (uint32_t)ikv_rng_below(&r, 150),
		    .d_v = 1 + (uint32_t)ikv_rng_below(&r, 70),
		};
		uint32_t page_tokens = 1 + (uint32_t)ikv_rng_below(&r, 40);
		open_layer(&l, n, s, &plain, 1 + n % 3, 1 + (uint32_t)ikv_rng_below(&r, 150),
			   (uint32_t)ikv_rng_below(&r, 100000));
		for (int k = 0; k < 2; k++) {
			struct ikv_backend *b = fill_backend(&l, backends[k], page_tokens, 2);
			make_plan(&l, page_tokens, n % 4 == 0);
			worst[k] = fmax(worst[k], difference(&l, b, 2));
			b->ops->close(b);
		}
		close_layer(&l);
	}
	ck_assert_msg(worst[0] <= 5e-6, "ref: %g", worst[0]);
	ck_assert_msg(worst[1] <= 1e-4, "cpu: %g", worst[1]);
}
END_TEST

/* DeepSeek-V3's dimensions, and its 16-head sibling's; YaRN as they have it. */
START_TEST(deepseek)
{
	static const struct ikv_rope_config yarn = {.base = 10000,
						    .scaling = IKV_ROPE_YARN,
						    .factor = 40,
						    .original_context = 4096,
						    .beta_fast = 32,
						    .beta_slow = 1};
	struct layer l;
	struct ikv_geometry g;
	open_layer(&l, 7, (struct ikv_mla_shape){_i ? 16 : 128, 128, 64, 512, 128}, _i ? &yarn : &plain, 2,
		   _i ? 90 : 37, 5000);
	ikv_mla_geometry(l.m, 61, 16, &g);
	ck_assert(g.v_aliases_k);
	ck_assert_uint_eq(g.kv_heads, 1);
	ck_assert_uint_eq(g.d_qk, 576);
	ck_assert_uint_eq(g.d_v, 512);
	ck_assert_uint_eq(61 * ikv_format_bytes(IKV_FMT_FP16, IKV_SIDE_K, 1, g.d_qk),
			  70272); /* a token in all layers */
	double stretch = _i ? 0.1 * log(40) + 1 : 1;
	ck_assert_double_le(fabs(g.scale * sqrt(192) / (stretch * stretch) - 1), 1e-6);
	struct ikv_backend *b = fill_backend(&l, &ikv_backend_cpu, 16, 0);
	make_plan(&l, 16, false);
	double worst = difference(&l, b, 0);
	ck_assert_msg(worst <= 1e-4, "%g", worst);
	b->ops->close(b);
	close_layer(&l);
}
END_TEST

/* Only the distance of query and key matters: everything moved on by 777 tokens gives the same. */
START_TEST(positions_are_relative)
{
	struct layer l;
	struct ikv_err err;
	double out[2][6 * 20], lse[2][6], apart[6 * 20], apart_lse[6], moved = 0;
	open_layer(&l, 8, (struct ikv_mla_shape){6, 24, 16, 40, 20}, &plain, 1, 50, 0);
	for (int k = 0; k < 2; k++) {
		l.first = k ? 777 : 0;
		fill_rows(&l);
		ck_assert_int_eq(
		    ikv_mla_reference(l.m, &l.w, l.rows, 50, NULL, l.q, l.first + 49, out[k], lse[k], &err), 0);
	}
	ck_assert_int_eq(ikv_mla_reference(l.m, &l.w, l.rows, 50, NULL, l.q, l.first + 70, apart, apart_lse, &err),
			 0);
	for (int i = 0; i < 6 * 20; i++) {
		ck_assert_double_le(fabs(out[0][i] - out[1][i]), 2e-3); /* keys are rounded to FP16 after turning */
		moved = fmax(moved, fabs(out[1][i] - apart[i]));
	}
	ck_assert_double_ge(moved, 0.02);
	close_layer(&l);
}
END_TEST

/* Against loops written here; the same bits for every ISA, number of threads and of sequences. */
START_TEST(products)
{
	enum { HEADS = 5, NOPE = 37, ROPE = 6, C = 150, V = 21, N = 6, MODEL = 33 };
	static float first[3][N * HEADS * (C + ROPE)];
	uint32_t isas, position[N] = {3, 1, 4, 1, 5, 9};
	const struct ikv_isa_info *isa = ikv_isa_list(&isas);
	uint32_t usable = 0; /* the first that runs here is compared with double precision, the others with it */
	while (!isa[usable].usable)
		usable++;
	for (uint32_t i = 0; i < 3 * isas; i++) {
		struct layer l;
		struct ikv_err err;
		static float latent[N * HEADS * (C + ROPE)], out[N * HEADS * V], y[N * MODEL];
		if (!isa[i % isas].usable)
			continue;
		ck_assert_int_eq(ikv_isa_select(isa[i % isas].name, &err), 0);
		open_layer(&l, 9, (struct ikv_mla_shape){HEADS, NOPE, ROPE, C, V}, &plain, 1 + i / isas, 1, 0);
		float *q = normals(&l, N * HEADS * (NOPE + ROPE)), *context = normals(&l, N * HEADS * C);
		uint16_t *o = weights(&l, MODEL * HEADS * V, 0.1);
		ck_assert_int_eq(ikv_mla_output(l.m, &l.w, N, out, y, &err), -1);
		l.w.o = o;
		l.w.model = MODEL;
		for (uint32_t s = 0, n; s < N; s += n) {
			n = i / isas == 0 ? N : s < 3 ? 1 + s : 3; /* 6; 1, 2, 3 */
			ck_assert_int_eq(ikv_mla_absorb(l.m, &l.w, n, q + s * HEADS * (NOPE + ROPE), position + s,
							latent + s * HEADS * (C + ROPE), &err),
					 0);
			ck_assert_int_eq(
			    ikv_mla_project(l.m, &l.w, n, context + s * HEADS * C, out + s * HEADS * V, &err), 0);
			ck_assert_int_eq(ikv_mla_output(l.m, &l.w, n, out + s * HEADS * V, y + s * MODEL, &err), 0);
		}
		for (uint32_t s = 0; i == usable && s < N; s++) {
			for (uint32_t h = 0; h < HEADS; h++) {
				for (uint32_t c = 0; c < C; c++) {
					double sum = 0;
					for (uint32_t r = 0; r < NOPE; r++)
						sum += (double)q[(s * HEADS + h) * (NOPE + ROPE) + r] *
						       ikv_fp16_to_float(l.uk[(h * NOPE + r) * C + c]);
					ck_assert_double_le(fabs(latent[(s * HEADS + h) * (C + ROPE) + c] - sum),
							    1e-5);
				}
				for (uint32_t v = 0; v < V; v++) {
					double sum = 0;
					for (uint32_t c = 0; c < C; c++)
						sum += (double)context[(s * HEADS + h) * C + c] *
						       ikv_fp16_to_float(l.uv[(h * V + v) * C + c]);
					ck_assert_double_le(fabs(out[(s * HEADS + h) * V + v] - sum), 1e-5);
				}
			}
			for (uint32_t r = 0; r < MODEL; r++) {
				double sum = 0;
				for (uint32_t k = 0; k < HEADS * V; k++)
					sum +=
					    (double)out[s * HEADS * V + k] * ikv_fp16_to_float(o[r * HEADS * V + k]);
				ck_assert_double_le(fabs(y[s * MODEL + r] - sum), 1e-5);
			}
		}
		if (i == usable) {
			memcpy(first[0], latent, sizeof latent);
			memcpy(first[1], out, sizeof out);
			memcpy(first[2], y, sizeof y);
		}
		ck_assert_mem_eq(first[0], latent, sizeof latent);
		ck_assert_mem_eq(first[1], out, sizeof out);
		ck_assert_mem_eq(first[2], y, sizeof y);
		free(q);
		free(context);
		free(o);
		close_layer(&l);
	}
	ck_assert_int_eq(ikv_isa_select("auto", NULL), 0);
}
END_TEST

/* A batch gives each sequence what it gets alone, and a steady step does not allocate. */
START_TEST(batches)
{
	enum { N = 5, HEADS = 4, V = 24 };
	struct layer l;
	struct ikv_err err;
	struct ikv_plan none = {.page_tokens = 16};
	float together[N][HEADS * V], alone[HEADS * V], lse[N][HEADS];
	open_layer(&l, 10, (struct ikv_mla_shape){HEADS, 32, 16, 64, V}, &plain, 2, 70, 0);
	struct ikv_backend *b = fill_backend(&l, &ikv_backend_cpu, 16, 1);
	make_plan(&l, 16, false);
	float *q = normals(&l, N * HEADS * 48);
	struct ikv_mla_unit units[N];
	uint64_t calls = 0;
	for (uint32_t i = 0; i < N; i++)
		units[i] = (struct ikv_mla_unit){
		    1, 60 + i, i == 3 ? &none : &l.plan, q + i * HEADS * 48, together[i], lse[i], NULL};
	for (int round = 0; round < 3; round++) {
		ck_assert_int_eq(ikv_mla_decode(l.m, &l.w, b, 0, units, N, &err), 0);
		calls = round ? calls : ikv_alloc_count();
	}
	ck_assert_uint_eq(ikv_alloc_count(), calls);
	for (uint32_t i = 0; i < N; i++) {
		struct ikv_mla_unit u = units[i];
		u.out = alone;
		ck_assert_int_eq(ikv_mla_decode(l.m, &l.w, b, 0, &u, 1, &err), 0);
		ck_assert_mem_eq(alone, together[i], sizeof alone);
		for (uint32_t j = 0; j < HEADS * V; j++)
			ck_assert(i != 3 || alone[j] == 0);
	}
	free(q);
	b->ops->close(b);
	close_layer(&l);
}
END_TEST

START_TEST(errors_say_what_is_wrong)
{
	struct layer l;
	struct ikv_mla *m;
	struct ikv_err err;
	ck_assert_int_eq(ikv_mla_create(&m, &(struct ikv_mla_shape){4, 8, 7, 8, 8}, &plain, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "dimension 7 is not even"));
	ck_assert_int_eq(ikv_mla_create(&m, &(struct ikv_mla_shape){0, 8, 8, 8, 8}, &plain, 1, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "mla: heads is 0, expected 1 to 4096"));
	open_layer(&l, 11, (struct ikv_mla_shape){1, 8, 8, 8, 8}, &plain, 1, 3, 0);
	l.c[2 * 8 + 5] = 70000;
	ck_assert_int_eq(ikv_mla_rows(l.m, 3, l.c, l.k_rope, l.position, l.stored, &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "mla: row 2, channel 5: got 70000"));
	ck_assert(!ikv_mla_stores(IKV_FMT_INT4) && !ikv_mla_stores(IKV_FMT_SKIP));
	close_layer(&l);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mla");
	TCase *t = tcase_create("mla");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, absorbed_equals_unabsorbed);
	tcase_add_loop_test(t, deepseek, 0, 2);
	tcase_add_test(t, positions_are_relative);
	tcase_add_test(t, products);
	tcase_add_test(t, batches);
	tcase_add_test(t, errors_say_what_is_wrong);
	suite_add_tcase(s, t);
	return tap_run(s);
}

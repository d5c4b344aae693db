/* The reference backend with several query rows a head, against a softmax in double written here. */
#include "prefill_rig.h"

static bool sees(const struct scene *s, uint32_t i, const struct ikv_page_ref *ref, uint32_t t, double *bias)
{
	const struct ikv_attn_unit *u = &s->u;
	uint32_t at = ref->page * s->g.page_tokens + t;
	*bias = 0;
	if (t < ref->lo || t >= ref->hi || (u->positions && at > u->positions[i]))
		return false;
	if (ref->mask != IKV_NO_MASK && !(s->plan.masks[ref->mask + t / 64] >> t % 64 & 1))
		return false;
	if (u->bias && at >= u->bias_first && at < u->bias_first + u->bias_tokens)
		*bias = u->bias[(size_t)i * u->bias_tokens + at - u->bias_first];
	return *bias > -INFINITY;
}

/* Rows as appended (FP16), one query row at a time. */
static void naive_row(const struct scene *s, uint32_t i, uint32_t h, double *weights, struct answer *a)
{
	const struct ikv_geometry *g = &s->g;
	size_t row = (size_t)i * s->u.q_count + h;
	uint32_t kv = (s->u.q_first + h) / (g->q_heads / g->kv_heads);
	double top = -INFINITY, sum = 0, bias;
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t p = 0; p < s->plan.count; p++) {
			double mass = 0;
			for (uint32_t t = 0; t < g->page_tokens; t++) {
				size_t at = (size_t)s->plan.pages[p].page * g->page_tokens + t;
				if (!sees(s, i, &s->plan.pages[p], t, &bias))
					continue;
				if (pass) {
					sum += weights[at] = exp(weights[at] - top);
					mass += weights[at];
					continue;
				}
				double dot = 0;
				for (uint32_t d = 0; d < g->d_qk; d++)
					dot += (double)s->q[row * g->d_qk + d] *
					       (double)ikv_fp16_to_float(s->k[(at * g->kv_heads + kv) * g->d_qk + d]);
				weights[at] = dot * (double)g->scale + bias;
				top = fmax(top, weights[at]);
			}
			a->mass[row * a->pages + p] = (float)mass;
		}
	}
	for (uint32_t d = 0; d < g->d_v; d++) {
		double x = 0;
		for (uint32_t p = 0; p < s->plan.count; p++)
			for (uint32_t t = 0; t < g->page_tokens; t++) {
				size_t at = (size_t)s->plan.pages[p].page * g->page_tokens + t;
				if (sees(s, i, &s->plan.pages[p], t, &bias))
					x += weights[at] / sum *
					     (double)ikv_fp16_to_float(s->v[(at * g->kv_heads + kv) * g->d_v + d]);
			}
		a->out[row * g->d_v + d] = (float)x;
	}
	for (uint32_t p = 0; p < s->plan.count && sum > 0; p++)
		a->mass[row * a->pages + p] = (float)((double)a->mass[row * a->pages + p] / sum);
	a->lse[row] = sum > 0 ? (float)(top + log(sum)) : -INFINITY;
}

static struct answer naive(const struct scene *s)
{
	struct ikv_attn_unit u = s->u;
	struct answer a;
	double *weights = calloc(s->tokens, sizeof *weights);
	answer_room(s, &a, &u);
	for (uint32_t i = 0; i < u.q_len; i++)
		for (uint32_t h = 0; h < u.q_count; h++)
			naive_row(s, i, h, weights, &a);
	free(weights);
	return a;
}

START_TEST(ref_sees_what_it_should)
{
	for (uint64_t n = 0; n < 200; n++) {
		struct scene s;
		ikv_rng_stream(&s.r, n, IKV_STREAM_TEST, 50, 0);
		struct ikv_geometry g = geometry(&s, 6, 40);
		uint32_t tokens = 1 + below(&s, 100);
		set_scene(&s, g, tokens, 1 + below(&s, 20));
		vary(&s);
		struct ikv_backend *b = open_backend(&s, &ikv_backend_ref, "auto", 1);
		struct answer a = decode(&s, b), expected = naive(&s);
		same(a, expected, 1e-5);
		free_answer(a);
		free_answer(expected);
		b->ops->close(b);
		drop_scene(&s);
	}
}
END_TEST

START_TEST(a_bias_is_a_number)
{
	struct scene s;
	struct ikv_err err;
	ikv_rng_stream(&s.r, 0, IKV_STREAM_TEST, 52, 0);
	set_scene(&s, (struct ikv_geometry){1, 2, 1, 8, 8, false, 16, 1}, 20, 3);
	float bias[3][2] = {{0, 1}, {-INFINITY, NAN}, {0, 0}}, out[3 * 2 * 8];
	struct ikv_backend *b = open_backend(&s, &ikv_backend_ref, "auto", 1);
	s.u.bias = bias[0];
	s.u.bias_first = 7;
	s.u.bias_tokens = 2;
	s.u.out = out;
	ck_assert_int_eq(b->ops->decode(b, &s.u, 1, &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_ptr_nonnull(strstr(err.text, "bias of row 1, position 8 is"));
	b->ops->close(b);
	drop_scene(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("prefill_ref");
	TCase *t = tcase_create("prefill_ref");
	tcase_set_timeout(t, 300);
	tcase_add_test(t, ref_sees_what_it_should);
	tcase_add_test(t, a_bias_is_a_number);
	suite_add_tcase(s, t);
	return tap_run(s);
}

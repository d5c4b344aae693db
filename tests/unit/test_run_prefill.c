/* Prompts whose attention a run executes: against a softmax in double precision over the exact K and V, backend cpu
 * against ref over compressed pages, and a run that decides the same with and without. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim/run.h"
#include "tap.h"

/* The profile's path is put in. Prompts of more than one chunk, and of a few rows. */
static const char scenario[] =
    "intentkv: 1\n"
    "model: {layers: 4, q_heads: 4, kv_heads: 2, head_dim: 32, executed_layers: 2, weights: 1MiB}\n"
    "sessions: {source: generate, profile: %s, count: 2, batch: 2, waits: false}\n"
    "attention: {execute: full, threads: 1, prefill: true}\n"
    "router: {policy: semantic, memory_pressure: 0.9}\n"
    "memory: {page_tokens: 16, demote_cold_after_steps: 2}\n";
static const char profile[] = "profile: prompts\n"
			      "source: chosen\n"
			      "turns:              {constant: 3}\n"
			      "arrival_gap_ms:     {constant: 1}\n"
			      "think_ms:           {constant: 1}\n"
			      "tool_ms:            {constant: 1}\n"
			      "retrieved_tokens:   {constant: 10}\n"
			      "memory_tokens:      {constant: 10}\n"
			      "system_tokens:      {constant: 600}\n"
			      "tools_tokens:       {constant: 3}\n"
			      "user_tokens:        {uniform: {min: 500, max: 700}}\n"
			      "reasoning_tokens:   {constant: 3}\n"
			      "assistant_tokens:   {constant: 4}\n"
			      "tool_call_tokens:   {constant: 2}\n"
			      "tool_output_tokens: {uniform: {min: 1, max: 120}}\n"
			      "p_reasoning: 0.5\n"
			      "p_tool_call: 0.5\n"
			      "p_assistant_text: 0.9\n"
			      "p_retrieved: 0\n"
			      "p_compaction: 0.2\n";

enum { CHUNKS_MAX = 400 };
struct seen {
	uint32_t first, count; /* of the newest chunk when a step was decided */
	uint64_t digest;       /* of the step's decisions */
	float *out;
	size_t values;
};
struct watch {
	struct run *run;
	struct seen seen[CHUNKS_MAX];
	uint32_t count;
	uint32_t parts, latest; /* chunks that were not the first of their prompt; context at the end of one */
	double worst;           /* against double precision, where `exact` is on */
	bool exact;
};

/* Row i of the newest chunk and a head, at the last layer, from the exact K and V. */
static void reference(const struct run *run, uint32_t slot, uint32_t i, uint32_t head, double *out)
{
	const struct prefill *p = run->prefill;
	const struct ikv_geometry *g = &run->geometry;
	uint32_t n = p->first + i + 1, kv = head / (g->q_heads / g->kv_heads), layer = g->layers - 1;
	const float *q = p->q + ((size_t)i * g->q_heads + head) * g->d_qk;
	uint32_t v_row = g->v_aliases_k ? g->d_qk : g->d_v;
	double *score = malloc(n * sizeof *score), top = -INFINITY, sum = 0;
	for (uint32_t t = 0; t < n; t++) {
		const uint16_t *k = ikv_exact_k(run->exact, slot, layer, t / g->page_tokens, kv);
		score[t] = 0;
		for (uint32_t c = 0; c < g->d_qk; c++)
			score[t] += (double)q[c] * (double)ikv_fp16_to_float(k[t % g->page_tokens * g->d_qk + c]);
		score[t] *= (double)g->scale;
		top = fmax(top, score[t]);
	}
	memset(out, 0, g->d_v * sizeof *out);
	for (uint32_t t = 0; t < n; t++) {
		const uint16_t *v = ikv_exact_v(run->exact, slot, layer, t / g->page_tokens, kv);
		double x = exp(score[t] - top);
		sum += x;
		for (uint32_t c = 0; c < g->d_v; c++)
			out[c] += x * (double)ikv_fp16_to_float(v[t % g->page_tokens * v_row + c]);
	}
	for (uint32_t c = 0; c < g->d_v; c++)
		out[c] /= sum;
	free(score);
}

/* Is the newest chunk this slot's, and is it as it was appended? Then the slot has decoded one token since. */
static void check_rows(struct watch *w, struct slot *s)
{
	const struct prefill *p = w->run->prefill;
	const struct ikv_geometry *g = &w->run->geometry;
	double want[64];
	if (p->first + p->count + 1 != s->tokens)
		return;
	for (uint32_t b = 0; b < s->layout.count; b++)
		w->parts += s->layout.blocks[b].start < p->first && s->layout.blocks[b].end > p->first;
	for (uint32_t i = 0; i < p->count; i += 1 + i / 8)
		for (uint32_t h = 0; h < g->q_heads; h++) {
			reference(w->run, (uint32_t)(s - w->run->slots), i, h, want);
			for (uint32_t c = 0; c < g->d_v; c++)
				w->worst =
				    fmax(w->worst,
					 fabs((double)p->out[((size_t)i * g->q_heads + h) * g->d_v + c] - want[c]));
		}
}

static int look(void *context, struct slot *s, struct ikv_err *err)
{
	struct watch *w = context;
	const struct prefill *p = w->run->prefill;
	(void)err;
	ck_assert_uint_lt(w->count, CHUNKS_MAX);
	struct seen *x = &w->seen[w->count++];
	*x = (struct seen){.digest = s->account.decision_hash};
	if (!p)
		return 0;
	x->first = p->first;
	x->count = p->count;
	x->values = (size_t)p->count * w->run->geometry.q_heads * w->run->geometry.d_v;
	x->out = malloc(x->values * sizeof *x->out);
	memcpy(x->out, p->out, x->values * sizeof *x->out);
	w->latest = p->first + p->count > w->latest ? p->first + p->count : w->latest;
	if (w->exact)
		check_rows(w, s);
	return 0;
}

static void play(struct watch *w, const char *const *settings)
{
	char path[] = "run-prefill-XXXXXX", prompts[] = "./run-prefill-XXXXXX.yaml";
	struct scenario_doc doc;
	struct scenario sc;
	struct session_list list = {0};
	struct run run;
	struct ikv_err err;
	FILE *f = fdopen(mkstemps(prompts, 5), "w");
	fputs(profile, f);
	ck_assert_int_eq(fclose(f), 0);
	f = fdopen(mkstemp(path), "w");
	fprintf(f, scenario, prompts);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_msg(!scenario_read(path, &doc, &err), "%s", err.text);
	unlink(path);
	for (; *settings; settings++)
		ck_assert_msg(!scenario_override(&doc, *settings, &err), "%s", err.text);
	ck_assert_msg(!scenario_resolve(&doc, doc.root, &sc, &err), "%s", err.text);
	int rc = run_sessions(&sc, &list, &err);
	unlink(prompts);
	ck_assert_msg(rc == 0, "%s", err.text);
	ck_assert_msg(!run_open(&run, &sc, &list, &err), "%s", err.text);
	w->run = &run;
	run.watch = look;
	run.watch_ctx = w;
	ck_assert_msg(!run_play(&run, &err), "%s", err.text);
	run_close(&run);
	session_list_free(&list);
	scenario_free(&sc);
	scenario_doc_free(&doc);
}

static void release(struct watch *w)
{
	for (uint32_t i = 0; i < w->count; i++)
		free(w->seen[i].out);
	free(w);
}

START_TEST(rows_are_those_of_causal_attention)
{
	static const char *const settings[][5] = {
	    {"attention.backend=cpu", "router.policy=dense", "memory.demote=false", NULL},
	    {"attention.backend=ref", "router.policy=dense", "memory.demote=false", "kv.preset=large-sink", NULL},
	    {"attention.backend=cpu", "router.policy=dense", "memory.demote=false",
	     "model={preset: deepseek-v2-lite, latent_dim: 32, rope_dim: 16, head_dim: 32, layers: 2, q_heads: 4}",
	     NULL},
	};
	struct watch *w = calloc(1, sizeof *w);
	w->exact = true;
	play(w, settings[_i]);
	ck_assert_uint_gt(w->latest, 1000);
	ck_assert_uint_gt(w->parts, 0);
	ck_assert_msg(w->worst > 0 && w->worst < 1e-4, "%g", w->worst);
	release(w);
}
END_TEST

START_TEST(backends_agree_over_compressed_pages)
{
	static const char *const cpu[] = {"attention.backend=cpu", NULL},
				 *const ref[] = {"attention.backend=ref", NULL},
				 *const exact[] = {"attention.backend=ref", "formats.ladder=fp16",
						   "memory.demote=false", NULL};
	struct watch *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b), *c = calloc(1, sizeof *c);
	double worst = 0, lost = 0;
	play(a, cpu);
	play(b, ref);
	play(c, exact);
	ck_assert_uint_eq(a->count, b->count);
	ck_assert_uint_eq(a->count, c->count);
	for (uint32_t i = 0; i < a->count; i++) {
		ck_assert_uint_eq(a->seen[i].digest, b->seen[i].digest);
		ck_assert_uint_eq(a->seen[i].first, b->seen[i].first);
		ck_assert_uint_eq(a->seen[i].values, b->seen[i].values);
		for (size_t k = 0; k < a->seen[i].values; k++) {
			worst = fmax(worst, fabs((double)a->seen[i].out[k] - (double)b->seen[i].out[k]));
			lost = fmax(lost, fabs((double)c->seen[i].out[k] - (double)b->seen[i].out[k]));
		}
	}
	ck_assert_msg(worst < 1e-2, "%g", worst); /* FP8 rounds queries to BF16: docs/formats.md */
	ck_assert_msg(lost > 10 * worst, "pages were not compressed: %g, %g", lost, worst);
	release(a);
	release(b);
	release(c);
}
END_TEST

START_TEST(decisions_do_not_depend_on_it)
{
	static const char *const on[] = {"attention.backend=cpu", NULL}, *const off[] = {"attention.prefill=false",
											 NULL};
	struct watch *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
	play(a, on);
	play(b, off);
	ck_assert_uint_eq(a->count, b->count);
	ck_assert_uint_gt(a->count, 10);
	for (uint32_t i = 0; i < a->count; i++)
		ck_assert_uint_eq(a->seen[i].digest, b->seen[i].digest);
	release(a);
	release(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("run_prefill");
	TCase *t = tcase_create("run_prefill");
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, rows_are_those_of_causal_attention, 0, 3);
	tcase_add_test(t, backends_agree_over_compressed_pages);
	tcase_add_test(t, decisions_do_not_depend_on_it);
	suite_add_tcase(s, t);
	return tap_run(s);
}

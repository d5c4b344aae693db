/* Products of latent attention and the decode step made of them. */
#include <math.h>
#include <string.h>
#include "attn/lanes.h"
#include "intentkv/alloc.h"
#include "mla/mla_parts.h"

static int within(const char *what, uint32_t value, uint32_t max, struct ikv_err *err)
{
	if (value >= 1 && value <= max)
		return 0;
	return ikv_err_set(err, IKV_BAD_INPUT, "mla: %s is %u, expected 1 to %u", what, value, max);
}

int ikv_mla_create(struct ikv_mla **out, const struct ikv_mla_shape *s, const struct ikv_rope_config *rope,
		   uint32_t threads, struct ikv_err *err)
{
	if (within("heads", s->heads, 4096, err) || within("d_nope", s->d_nope, 8192, err) ||
	    within("d_rope", s->d_rope, 4096, err) || within("d_c", s->d_c, 4096, err) ||
	    within("d_v", s->d_v, 8192, err))
		return -1;
	struct ikv_mla *m = ikv_alloc(1, sizeof *m, err);
	if (!m)
		return -1;
	m->s = *s;
	m->inv_freq = ikv_alloc(s->d_rope / 2 + 1, sizeof *m->inv_freq, err);
	m->turned = ikv_alloc((size_t)s->heads * s->d_rope, sizeof *m->turned, err);
	m->position = ikv_alloc(s->heads, sizeof *m->position, err);
	if (!m->inv_freq || !m->turned || !m->position ||
	    ikv_rope_frequencies(rope, s->d_rope, m->inv_freq, &m->factor, err) ||
	    crew_create(&m->crew, threads, err)) {
		ikv_mla_destroy(m);
		return -1;
	}
	*out = m;
	return 0;
}

void ikv_mla_destroy(struct ikv_mla *m)
{
	if (!m)
		return;
	crew_destroy(m->crew);
	ikv_free(m->inv_freq);
	ikv_free(m->turned);
	ikv_free(m->position);
	ikv_free(m->latent);
	ikv_free(m->context);
	ikv_free(m->units);
	ikv_free(m->in);
	ikv_free(m->to);
	ikv_free(m);
}

double mla_scale(const struct ikv_mla *m)
{
	return m->factor * m->factor / sqrt((double)mla_query_dim(m));
}

void ikv_mla_geometry(const struct ikv_mla *m, uint32_t layers, uint32_t page_tokens, struct ikv_geometry *out)
{
	*out = (struct ikv_geometry){.layers = layers,
				     .q_heads = m->s.heads,
				     .kv_heads = 1,
				     .d_qk = mla_row_dim(m),
				     .d_v = m->s.d_c,
				     .v_aliases_k = true,
				     .page_tokens = page_tokens,
				     .scale = (float)mla_scale(m)};
}

bool ikv_mla_stores(enum ikv_format f)
{
	return f == IKV_FMT_FP16 || f == IKV_FMT_FP8 || f == IKV_FMT_INT8;
}

int ikv_mla_rows(struct ikv_mla *m, uint32_t tokens, const float *c, const float *k_rope, const uint32_t *position,
		 uint16_t *rows, struct ikv_err *err)
{
	uint32_t d_c = m->s.d_c, d_rope = m->s.d_rope;
	for (uint32_t t = 0; t < tokens; t++) {
		uint16_t *row = rows + (size_t)t * mla_row_dim(m);
		memcpy(m->turned, k_rope + (size_t)t * d_rope, d_rope * sizeof *m->turned);
		ikv_rope_apply(m->turned, 1, d_rope, &position[t], m->inv_freq, 1);
		for (uint32_t i = 0; i < d_c + d_rope; i++) {
			float x = i < d_c ? c[(size_t)t * d_c + i] : m->turned[i - d_c];
			row[i] = ikv_fp16_from_float(x);
			if ((row[i] & 0x7c00) == 0x7c00)
				return ikv_err_set(err, IKV_BAD_INPUT,
						   "mla: row %u, channel %u: got %g, expected a number that FP16 has",
						   t, i, (double)x);
		}
	}
	return 0;
}

/* A product of the running call: matrices [rows][cols] one after the other, one a head, or rows of one matrix divided
 * among members. */
struct work {
	const struct ikv_mla *m;
	const uint16_t *w;
	uint32_t matrices, rows, cols;
	size_t in_step, out_step; /* from a matrix's vectors to the next one's */
	uint32_t count;
	bool across; /* out_c = sum over rows of in_r w_rc; else out_r = w_r·in */
};

/* Up to LANES_BATCH sequences at a time while a matrix lies in the cache. */
static void multiply(const struct work *k, const uint16_t *w, uint32_t rows, size_t in_at, size_t out_at)
{
	const struct lanes_kernels *lanes = lanes_table();
	for (uint32_t i = 0; i < k->count; i += LANES_BATCH) {
		const float *in[LANES_BATCH];
		float *out[LANES_BATCH];
		uint32_t n = k->count - i < LANES_BATCH ? k->count - i : LANES_BATCH;
		for (uint32_t j = 0; j < n; j++) {
			in[j] = k->m->in[i + j] + in_at;
			out[j] = k->m->to[i + j] + out_at;
		}
		(k->across ? lanes->combine : lanes->product)(w, rows, k->cols, in, n, out);
	}
}

static void multiply_share(void *context, uint32_t member)
{
	const struct work *k = context;
	uint64_t members = crew_size(k->m->crew), all = k->matrices > 1 ? k->matrices : k->rows;
	if (k->across && k->matrices == 1) { /* every output needs all rows */
		if (member == 0)
			multiply(k, k->w, k->rows, 0, 0);
		return;
	}
	uint32_t first = (uint32_t)(all * member / members), end = (uint32_t)(all * (member + 1) / members);
	if (k->matrices == 1) {
		multiply(k, k->w + (size_t)first * k->cols, end - first, 0, first);
		return;
	}
	for (uint32_t h = first; h < end; h++)
		multiply(k, k->w + (size_t)h * k->rows * k->cols, k->rows, h * k->in_step, h * k->out_step);
}

static int call_room(struct ikv_mla *m, uint32_t count, struct ikv_err *err)
{
	return ikv_reserve(&m->in, &m->in_cap, count, sizeof *m->in, err) ||
		       ikv_reserve(&m->to, &m->to_cap, count, sizeof *m->to, err)
		   ? -1
		   : 0;
}

/* Sequence i's query in m->in[i], latent query to m->to[i]. */
static void absorb(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count)
{
	struct work k = {.m = m,
			 .w = w->uk,
			 .matrices = m->s.heads,
			 .rows = m->s.d_nope,
			 .cols = m->s.d_c,
			 .in_step = mla_query_dim(m),
			 .out_step = mla_row_dim(m),
			 .count = count,
			 .across = true};
	crew_run(m->crew, multiply_share, &k);
}

static void turn_query(struct ikv_mla *m, const float *q, uint32_t position, float *latent)
{
	uint32_t d = m->s.d_rope;
	for (uint32_t h = 0; h < m->s.heads; h++) {
		memcpy(m->turned + (size_t)h * d, q + (size_t)h * mla_query_dim(m) + m->s.d_nope, d * sizeof *q);
		m->position[h] = position;
	}
	ikv_rope_apply(m->turned, m->s.heads, d, m->position, m->inv_freq, 1);
	for (uint32_t h = 0; h < m->s.heads; h++)
		memcpy(latent + (size_t)h * mla_row_dim(m) + m->s.d_c, m->turned + (size_t)h * d, d * sizeof *q);
}

int ikv_mla_absorb(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count, const float *q,
		   const uint32_t *position, float *latent, struct ikv_err *err)
{
	if (call_room(m, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		m->in[i] = q + (size_t)i * m->s.heads * mla_query_dim(m);
		m->to[i] = latent + (size_t)i * m->s.heads * mla_row_dim(m);
		turn_query(m, m->in[i], position[i], m->to[i]);
	}
	absorb(m, w, count);
	return 0;
}

static void project(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count)
{
	struct work k = {.m = m,
			 .w = w->uv,
			 .matrices = m->s.heads,
			 .rows = m->s.d_v,
			 .cols = m->s.d_c,
			 .in_step = m->s.d_c,
			 .out_step = m->s.d_v,
			 .count = count};
	crew_run(m->crew, multiply_share, &k);
}

int ikv_mla_project(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count, const float *context,
		    float *out, struct ikv_err *err)
{
	if (call_room(m, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		m->in[i] = context + (size_t)i * m->s.heads * m->s.d_c;
		m->to[i] = out + (size_t)i * m->s.heads * m->s.d_v;
	}
	project(m, w, count);
	return 0;
}

int ikv_mla_output(struct ikv_mla *m, const struct ikv_mla_weights *w, uint32_t count, const float *out, float *y,
		   struct ikv_err *err)
{
	struct work k = {
	    .m = m, .w = w->o, .matrices = 1, .rows = w->model, .cols = m->s.heads * m->s.d_v, .count = count};
	if (!w->o)
		return ikv_err_set(err, IKV_FAILED, "mla: there is no W_O");
	if (call_room(m, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		m->in[i] = out + (size_t)i * k.cols;
		m->to[i] = y + (size_t)i * w->model;
	}
	crew_run(m->crew, multiply_share, &k);
	return 0;
}

int ikv_mla_decode(struct ikv_mla *m, const struct ikv_mla_weights *w, struct ikv_backend *backend, uint32_t layer,
		   const struct ikv_mla_unit *units, uint32_t count, struct ikv_err *err)
{
	size_t queries = (size_t)m->s.heads * mla_row_dim(m), contexts = (size_t)m->s.heads * m->s.d_c;
	if (call_room(m, count, err) || ikv_reserve(&m->units, &m->units_cap, count, sizeof *m->units, err) ||
	    ikv_reserve(&m->latent, &m->latent_cap, count * queries, sizeof *m->latent, err) ||
	    ikv_reserve(&m->context, &m->context_cap, count * contexts, sizeof *m->context, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_mla_unit *u = &units[i];
		m->in[i] = u->q;
		m->to[i] = m->latent + i * queries;
		turn_query(m, u->q, u->position, m->to[i]);
		m->units[i] = (struct ikv_attn_unit){.seq = u->seq,
						     .layer = layer,
						     .q_count = m->s.heads,
						     .plan = u->plan,
						     .q = m->to[i],
						     .out = m->context + i * contexts,
						     .lse = u->lse,
						     .mass = u->mass};
	}
	absorb(m, w, count);
	if (backend->ops->decode(backend, m->units, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		m->in[i] = m->context + i * contexts;
		m->to[i] = units[i].out;
	}
	project(m, w, count);
	return 0;
}

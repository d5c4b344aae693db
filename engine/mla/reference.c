/* Latent attention as it is defined: keys and values of every head, softmax in double precision. */
#include <math.h>
#include <string.h>
#include "intentkv/alloc.h"
#include "mla/mla_parts.h"

struct expansion {      /* of one head */
	double *up;     /* W_UK or W_UV, [rows][d_c] */
	double *scores; /* [tokens] */
	float *turned;  /* [d_rope] */
};

static bool taken(const struct ikv_plan *plan, const struct ikv_page_ref *ref, uint32_t t)
{
	return t >= ref->lo && t < ref->hi && ikv_plan_has(plan, ref, t);
}

/* Marks of the tokens that take part: scores 0, the others -inf. */
static void mark(const struct ikv_plan *plan, uint32_t tokens, double *scores)
{
	for (uint32_t t = 0; t < tokens; t++)
		scores[t] = plan ? -INFINITY : 0;
	for (uint32_t i = 0; plan && i < plan->count; i++) {
		const struct ikv_page_ref *ref = &plan->pages[i];
		uint64_t first = (uint64_t)ref->page * plan->page_tokens;
		for (uint32_t t = 0; t < plan->page_tokens && first + t < tokens; t++)
			if (taken(plan, ref, t))
				scores[first + t] = 0;
	}
}

static void widen(const uint16_t *w, size_t n, double *out)
{
	for (size_t i = 0; i < n; i++)
		out[i] = (double)ikv_fp16_to_float(w[i]);
}

/* Component r of W c. */
static double up(const double *w, uint32_t r, const float *c, uint32_t d_c)
{
	double sum = 0;
	for (uint32_t i = 0; i < d_c; i++)
		sum += w[(size_t)r * d_c + i] * (double)c[i];
	return sum;
}

static double score_head(const struct ikv_mla *m, const float *rows, uint32_t tokens, const float *q,
			 struct expansion *e)
{
	const struct ikv_mla_shape *s = &m->s;
	double top = -INFINITY, scale = (double)(float)mla_scale(m);
	for (uint32_t t = 0; t < tokens; t++) {
		const float *row = rows + (size_t)t * mla_row_dim(m);
		double dot = 0;
		if (e->scores[t] == -INFINITY)
			continue;
		for (uint32_t r = 0; r < s->d_nope; r++)
			dot += (double)q[r] * up(e->up, r, row, s->d_c);
		for (uint32_t i = 0; i < s->d_rope; i++)
			dot += (double)e->turned[i] * (double)row[s->d_c + i];
		e->scores[t] = dot * scale;
		top = fmax(top, e->scores[t]);
	}
	return top;
}

static double weigh_head(const struct ikv_mla *m, const float *rows, uint32_t tokens, double top, struct expansion *e,
			 double *out)
{
	const struct ikv_mla_shape *s = &m->s;
	double sum = 0;
	memset(out, 0, s->d_v * sizeof *out);
	for (uint32_t t = 0; t < tokens; t++) {
		if (e->scores[t] == -INFINITY)
			continue;
		double weight = exp(e->scores[t] - top);
		for (uint32_t r = 0; r < s->d_v; r++)
			out[r] += weight * up(e->up, r, rows + (size_t)t * mla_row_dim(m), s->d_c);
		sum += weight;
	}
	for (uint32_t r = 0; sum > 0 && r < s->d_v; r++)
		out[r] /= sum;
	return sum > 0 ? top + log(sum) : -INFINITY;
}

int ikv_mla_reference(const struct ikv_mla *m, const struct ikv_mla_weights *w, const float *rows, uint32_t tokens,
		      const struct ikv_plan *plan, const float *q, uint32_t position, double *out, double *lse,
		      struct ikv_err *err)
{
	const struct ikv_mla_shape *s = &m->s;
	size_t k_size = (size_t)s->d_nope * s->d_c, v_size = (size_t)s->d_v * s->d_c;
	struct expansion e = {.up = ikv_alloc(k_size > v_size ? k_size : v_size, sizeof *e.up, err),
			      .scores = ikv_alloc((size_t)tokens + 1, sizeof *e.scores, err),
			      .turned = ikv_alloc(s->d_rope, sizeof *e.turned, err)};
	int rc = e.up && e.scores && e.turned ? 0 : -1;
	for (uint32_t h = 0; !rc && h < s->heads; h++) {
		const float *query = q + (size_t)h * mla_query_dim(m);
		memcpy(e.turned, query + s->d_nope, s->d_rope * sizeof *e.turned);
		ikv_rope_apply(e.turned, 1, s->d_rope, &position, m->inv_freq, 1);
		mark(plan, tokens, e.scores);
		widen(w->uk + h * k_size, k_size, e.up);
		double top = score_head(m, rows, tokens, query, &e);
		widen(w->uv + h * v_size, v_size, e.up);
		lse[h] = weigh_head(m, rows, tokens, top, &e, out + (size_t)h * s->d_v);
	}
	ikv_free(e.up);
	ikv_free(e.scores);
	ikv_free(e.turned);
	return rc;
}

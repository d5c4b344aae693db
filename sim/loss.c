/* The rows as schemes store them, and attention over them beside attention over the exact rows. */
#include "sim/loss.h"
#include <math.h>
#include <string.h>
#include "sim/loss_play.h"

enum { KIVI_GROUP = 32, CHUNK = 64 /* rows read back at once */ };

struct work {
	struct source *source;
	const struct ikv_geometry *g;
	const struct loss_setup *setup;
	struct loss_play play;
	struct ikv_ranges *ranges;
	struct ikv_range *runs; /* of tokens of one kind, kind by kind: those of k from run_first[k] on */
	uint32_t run_first[LOSS_KINDS + 1];
	uint16_t *exact[2]; /* K and V of the layer: [tokens][kv_heads][d] */
	float *view[2];     /* the same as a scheme stores them now */
	float *out[2];      /* over exact rows, over those of the scheme: [LOSS_KINDS][queries][q_heads][d_v] */
	float *lse[2];      /* [LOSS_KINDS][queries][q_heads] */
	uint16_t *rows;     /* of one KV head */
	void *stored;
	float *values;
	/* Of the scheme at hand. */
	const struct loss_scheme *scheme;
	struct loss_sums *cells; /* [kv_heads][LOSS_PARTS] of the layer */
	struct ikv_kivi *kivi;
	uint32_t done[2]; /* rows of K and of V that are encoded in the view */
};

static uint32_t width(const struct work *w, int side)
{
	return side == IKV_SIDE_V ? w->g->d_v : w->g->d_qk;
}

/* Rows that are encoded when the context has n tokens. */
static uint32_t encoded(const struct work *w, int side, uint32_t n)
{
	uint32_t r = w->scheme->residual;
	if (!r)
		return n - n % w->setup->page_tokens;
	return side == IKV_SIDE_K ? n - n % r : n > r ? n - r : 0;
}

/* Tokens that are quantized together at most. */
static uint32_t unit(const struct work *w)
{
	return w->scheme->residual ? KIVI_GROUP : w->setup->page_tokens;
}

/* Rows [first, first + count) of a KV head leave FP16 as `values`. */
static void take_values(struct work *w, int side, uint32_t head, uint32_t first, uint32_t count)
{
	uint32_t d = width(w, side);
	for (uint32_t t = first; t < first + count; t++) {
		struct loss_sums *cell = &w->cells[(size_t)head * LOSS_PARTS + w->play.kinds[t]];
		size_t at = ((size_t)t * w->g->kv_heads + head) * d;
		const float *now = w->values + (size_t)(t - first) * d;
		for (uint32_t c = 0; c < d; c++) {
			double x = ikv_fp16_to_float(w->exact[side][at + c]), lost = x - now[c];
			cell->signal[side] += x * x;
			cell->noise[side] += lost * lost;
		}
		memcpy(w->view[side] + at, now, d * sizeof *now);
	}
}

static int close_page(struct work *w, int side, uint32_t head, uint32_t first, struct ikv_err *err)
{
	uint32_t d = width(w, side), P = w->setup->page_tokens;
	for (uint32_t t = 0; t < P; t++)
		memcpy(w->rows + (size_t)t * d, w->exact[side] + ((size_t)(first + t) * w->g->kv_heads + head) * d,
		       d * sizeof *w->rows);
	if (ikv_format_encode(w->scheme->format, (enum ikv_side)side, w->rows, P, d, w->stored, err) ||
	    ikv_format_decode(w->scheme->format, (enum ikv_side)side, w->stored, P, d, w->values, err))
		return -1;
	take_values(w, side, head, first, P);
	return 0;
}

/* Make the view what is stored when the context has n tokens. */
static int settle(struct work *w, uint32_t n, struct ikv_err *err)
{
	const struct ikv_geometry *g = w->g;
	uint32_t had = w->kivi ? ikv_kivi_tokens(w->kivi, 0) : 0;
	if (w->kivi && n > had &&
	    ikv_kivi_append(w->kivi, 0, n - had, w->exact[0] + (size_t)had * g->kv_heads * g->d_qk,
			    w->exact[1] + (size_t)had * g->kv_heads * g->d_v, err))
		return -1;
	for (int side = 0; side < 2; side++) {
		uint32_t end = encoded(w, side, n), per = w->kivi ? CHUNK : w->setup->page_tokens;
		for (uint32_t t = w->done[side], count; t < end; t += count) {
			count = end - t < per ? end - t : per;
			for (uint32_t h = 0; h < g->kv_heads; h++) {
				if (w->kivi
					? ikv_kivi_read(w->kivi, 0, h, (enum ikv_side)side, t, count, w->values, err)
					: close_page(w, side, h, t, err))
					return -1;
				if (w->kivi)
					take_values(w, side, h, t, count);
			}
		}
		w->done[side] = end;
	}
	return 0;
}

/* Attention of queries [first, first + count) of a layer to the tokens of each kind, into w->out[which]. */
static int attend(struct work *w, uint32_t layer, int which, uint32_t first, uint32_t count, struct ikv_err *err)
{
	const struct ikv_geometry *g = w->g;
	size_t heads = g->q_heads, queries = w->play.queries;
	struct ikv_ranges_call call = {
	    .rows = {.k = which ? (void *)w->view[0] : (void *)w->exact[0],
		     .v = which ? (void *)w->view[1] : (void *)w->exact[1],
		     .is_float = which,
		     .tokens = w->play.tokens,
		     .k_token = (size_t)g->kv_heads * g->d_qk,
		     .k_head = g->d_qk,
		     .v_token = (size_t)g->kv_heads * g->d_v,
		     .v_head = g->d_v},
	    .q_len = count,
	    .q = w->play.q + (layer * queries + first) * heads * g->d_qk,
	    .position = w->play.positions + first,
	};
	for (uint32_t k = 0; k < LOSS_KINDS; k++) {
		call.ranges = w->runs + w->run_first[k];
		call.count = w->run_first[k + 1] - w->run_first[k];
		call.out = w->out[which] + (k * queries + first) * heads * g->d_v;
		call.lse = w->lse[which] + (k * queries + first) * heads;
		if (ikv_ranges_attend(w->ranges, &call, err))
			return -1;
	}
	return 0;
}

/* Shares of the kinds in the softmax of one query and head from their log-sum-exps; returns that of all. */
static double shares(const float *lse, size_t stride, double *share)
{
	double top = -INFINITY, sum = 0;
	for (uint32_t k = 0; k < LOSS_KINDS; k++)
		top = fmax(top, lse[k * stride]);
	for (uint32_t k = 0; k < LOSS_KINDS; k++)
		sum += share[k] = exp(lse[k * stride] - top);
	for (uint32_t k = 0; k < LOSS_KINDS; k++)
		share[k] /= sum;
	return top + log(sum);
}

static void count_lse(struct loss_sums *s, double exact, double now)
{
	if (isinf(exact)) /* a kind without a token in sight */
		return;
	s->lse_error += (now - exact) * (now - exact);
	s->lse_count++;
}

/* What kinds add to the output are their shares times their own outputs: differences add up to that of the output. */
static void compare(struct work *w, uint32_t query, uint32_t head)
{
	const struct ikv_geometry *g = w->g;
	size_t stride = (size_t)w->play.queries * g->q_heads, row = (size_t)query * g->q_heads + head;
	struct loss_sums *cells = w->cells + (size_t)(head / (g->q_heads / g->kv_heads)) * LOSS_PARTS;
	double share[2][LOSS_KINDS], lse[2], output = 0;
	for (int i = 0; i < 2; i++)
		lse[i] = shares(w->lse[i] + row, stride, share[i]);
	for (uint32_t c = 0; c < g->d_v; c++) {
		double whole = 0, all = 0;
		for (uint32_t k = 0; k < LOSS_KINDS; k++) {
			size_t at = (k * stride + row) * g->d_v + c;
			double exact = share[0][k] * w->out[0][at], lost = exact - share[1][k] * w->out[1][at];
			cells[k].error += lost * lost;
			whole += exact;
			all += lost;
		}
		cells[LOSS_ALL].error += all * all;
		output += whole * whole;
	}
	for (uint32_t k = 0; k < LOSS_PARTS; k++)
		cells[k].output += output;
	for (uint32_t k = 0; k < LOSS_KINDS; k++)
		count_lse(&cells[k], w->lse[0][k * stride + row], w->lse[1][k * stride + row]);
	count_lse(&cells[LOSS_ALL], lse[0], lse[1]);
}

/* Bytes at the end of the context, and the sums of all kinds. */
static void finish_cells(struct work *w)
{
	for (uint32_t h = 0; h < w->g->kv_heads; h++) {
		struct loss_sums *cells = w->cells + (size_t)h * LOSS_PARTS, *all = &cells[LOSS_ALL];
		for (uint32_t t = 0; t < w->play.tokens; t++) {
			cells[w->play.kinds[t]].rows++;
			for (int side = 0; side < 2; side++) {
				uint32_t d = width(w, side);
				cells[w->play.kinds[t]].bytes +=
				    t < w->done[side] ? (double)ikv_format_bytes(w->scheme->format,
										 (enum ikv_side)side, unit(w), d) /
							    unit(w)
						      : 2.0 * d;
			}
		}
		for (uint32_t k = 0; k < LOSS_KINDS; k++) {
			all->rows += cells[k].rows;
			all->bytes += cells[k].bytes;
			for (int side = 0; side < 2; side++) {
				all->signal[side] += cells[k].signal[side];
				all->noise[side] += cells[k].noise[side];
			}
		}
	}
}

static int begin_scheme(struct work *w, struct ikv_err *err)
{
	const struct loss_scheme *s = w->scheme;
	struct ikv_geometry one = *w->g;
	struct ikv_kivi_config config = {s->format == IKV_FMT_KIVI8   ? 8
					 : s->format == IKV_FMT_KIVI4 ? 4
								      : 2,
					 KIVI_GROUP, s->residual};
	one.layers = 1;
	w->done[0] = w->done[1] = 0;
	for (int side = 0; side < 2; side++)
		for (size_t i = 0; i < (size_t)w->play.tokens * w->g->kv_heads * width(w, side); i++)
			w->view[side][i] = ikv_fp16_to_float(w->exact[side][i]);
	return s->residual ? ikv_kivi_create(&w->kivi, &one, &config, w->setup->isa, err) : 0;
}

/* Queries that find the same rows encoded attend in one call. */
static int measure_scheme(struct work *w, uint32_t layer, struct ikv_err *err)
{
	const struct loss_play *p = &w->play;
	int rc = begin_scheme(w, err);
	for (uint32_t i = 0, end; !rc && i < p->queries; i = end) {
		uint32_t n = p->positions[i] + 1;
		for (end = i + 1; end < p->queries; end++)
			if (encoded(w, 0, p->positions[end] + 1) != encoded(w, 0, n) ||
			    encoded(w, 1, p->positions[end] + 1) != encoded(w, 1, n))
				break;
		rc = settle(w, n, err) || attend(w, layer, 1, i, end - i, err) ? -1 : 0;
		for (uint32_t k = i; !rc && k < end; k++)
			for (uint32_t h = 0; h < w->g->q_heads; h++)
				compare(w, k, h);
	}
	if (!rc)
		rc = settle(w, p->tokens, err);
	if (!rc)
		finish_cells(w);
	ikv_kivi_destroy(w->kivi);
	w->kivi = NULL;
	return rc;
}

static void find_runs(struct work *w)
{
	uint32_t n = 0;
	for (uint32_t k = 0; k < LOSS_KINDS; k++) {
		w->run_first[k] = n;
		for (uint32_t t = 0; t < w->play.tokens; t++) {
			if (w->play.kinds[t] != k)
				continue;
			if (t && w->play.kinds[t - 1] == k)
				w->runs[n - 1].hi = t + 1;
			else
				w->runs[n++] = (struct ikv_range){t, t + 1};
		}
	}
	w->run_first[LOSS_KINDS] = n;
}

static int room(struct work *w, struct ikv_err *err)
{
	const struct ikv_geometry *g = w->g;
	const struct ikv_backend_config config = {.threads = w->setup->threads, .isa = w->setup->isa};
	uint32_t P = w->setup->page_tokens > CHUNK ? w->setup->page_tokens : CHUNK;
	size_t d = g->d_qk > g->d_v ? g->d_qk : g->d_v, rows = (size_t)w->play.tokens * g->kv_heads;
	size_t answers = (size_t)LOSS_KINDS * w->play.queries * g->q_heads;
	bool ok = true;
	for (int i = 0; i < 2; i++) {
		ok = ok && (w->exact[i] = ikv_alloc(rows, width(w, i) * sizeof *w->exact[i], err));
		ok = ok && (w->view[i] = ikv_alloc(rows, width(w, i) * sizeof *w->view[i], err));
		ok = ok && (w->out[i] = ikv_alloc(answers, g->d_v * sizeof *w->out[i], err));
		ok = ok && (w->lse[i] = ikv_alloc(answers, sizeof *w->lse[i], err));
	}
	ok = ok && (w->runs = ikv_alloc(w->play.tokens, sizeof *w->runs, err));
	ok = ok && (w->rows = ikv_alloc(P, d * sizeof *w->rows, err));
	ok = ok && (w->stored = ikv_alloc(P, 4 * d + 64, err)); /* more than any format takes of a row */
	ok = ok && (w->values = ikv_alloc(P, d * sizeof *w->values, err));
	return ok ? ikv_ranges_create(&w->ranges, g, &config, err) : -1;
}

static void release(struct work *w)
{
	for (int i = 0; i < 2; i++) {
		ikv_free(w->exact[i]);
		ikv_free(w->view[i]);
		ikv_free(w->out[i]);
		ikv_free(w->lse[i]);
	}
	ikv_free(w->runs);
	ikv_free(w->rows);
	ikv_free(w->stored);
	ikv_free(w->values);
	ikv_ranges_destroy(w->ranges);
	loss_play_free(&w->play);
}

static int measure_layer(struct work *w, uint32_t layer, struct loss *out, struct ikv_err *err)
{
	if (w->source->ops->kv(w->source, 0, layer, 0, w->play.tokens, w->exact[0], w->exact[1], err) ||
	    attend(w, layer, 0, 0, w->play.queries, err))
		return -1;
	for (uint32_t i = 0; i < w->setup->scheme_count; i++) {
		w->scheme = &w->setup->schemes[i];
		w->cells = out->cells + ((size_t)i * out->layers + layer) * out->kv_heads * LOSS_PARTS;
		if (measure_scheme(w, layer, err))
			return -1;
	}
	return 0;
}

int loss_measure(struct source *source, const struct ikv_geometry *g, const struct session *session,
		 const struct loss_setup *setup, struct loss *out, struct ikv_err *err)
{
	struct work w = {.source = source, .g = g, .setup = setup};
	*out = (struct loss){.layers = g->layers, .kv_heads = g->kv_heads};
	if (g->v_aliases_k)
		return ikv_err_set(err, IKV_BAD_INPUT, "K and V of heads are compared, the model keeps latents");
	if (loss_play(source, g, session, setup->queries, &w.play, err))
		return -1;
	out->tokens = w.play.tokens;
	out->queries = w.play.queries;
	out->cells = ikv_alloc((size_t)setup->scheme_count * g->layers,
			       (size_t)g->kv_heads * LOSS_PARTS * sizeof *out->cells, err);
	int rc = out->cells ? room(&w, err) : -1;
	if (!rc)
		find_runs(&w);
	for (uint32_t layer = 0; !rc && layer < g->layers; layer++)
		rc = measure_layer(&w, layer, out, err);
	source->ops->end(source, 0);
	release(&w);
	if (rc)
		loss_free(out);
	return rc;
}

void loss_free(struct loss *loss)
{
	ikv_free(loss->cells);
	loss->cells = NULL;
}

void loss_add(struct loss_sums *to, const struct loss_sums *from)
{
	to->rows += from->rows;
	to->bytes += from->bytes;
	for (int side = 0; side < 2; side++) {
		to->signal[side] += from->signal[side];
		to->noise[side] += from->noise[side];
	}
	to->output += from->output;
	to->error += from->error;
	to->lse_error += from->lse_error;
	to->lse_count += from->lse_count;
}

double loss_bytes(const struct loss_sums *s)
{
	return s->rows > 0 ? s->bytes / s->rows : 0;
}

double loss_snr(const struct loss_sums *s, enum ikv_side side)
{
	return s->noise[side] > 0 ? 10 * log10(s->signal[side] / s->noise[side]) : INFINITY;
}

double loss_rel_l2(const struct loss_sums *s)
{
	return s->output > 0 ? sqrt(s->error / s->output) : 0;
}

double loss_lse(const struct loss_sums *s)
{
	return s->lse_count > 0 ? sqrt(s->lse_error / s->lse_count) : 0;
}

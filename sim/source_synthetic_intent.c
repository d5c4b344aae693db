/* What the steps look for: intents, queries, and the mass that follows from them without touching a key. */
#include "source_synthetic.h"

double synthetic_recency(const struct synthetic *s, int preset, double distance)
{
	double x = 0;
	for (uint32_t i = 0; i < s->channels.pairs; i++)
		x += s->recency[preset][i] * ikv_det_cos(distance * s->frequency[i]);
	return x;
}

int synthetic_recency_grow(struct synthetic *s, uint32_t tokens, struct ikv_err *err)
{
	uint32_t old = s->recency_cap, cap = old ? old : 8192;
	while (cap < tokens + 2 && cap < UINT32_MAX / 2)
		cap *= 2;
	if (cap == old)
		return 0;
	for (int p = 0; p < SYNTHETIC_PRESETS; p++) {
		if (ikv_grow(&s->recency_sum[p], old, cap, sizeof(double), err))
			return -1;
		for (uint32_t n = old ? old : 1; n < cap; n++)
			s->recency_sum[p][n] =
			    s->recency_sum[p][n - 1] + ikv_det_exp(synthetic_recency(s, p, (double)n - 1));
	}
	s->recency_cap = cap;
	return 0;
}

/* Adds `amplitude` times a random vector of expected length 1 that turns into another one every `period` steps,
 * steadily: a mixture of the epochs' vectors that keeps its length. */
static void add_drift(uint64_t key, uint64_t step, double period, double amplitude, uint32_t n, float *out)
{
	if (amplitude == 0)
		return;
	double at = (double)step / (period < 1 ? 1 : period);
	uint64_t epoch = (uint64_t)at;
	double w = period <= 1 ? 0 : at - (double)epoch;
	double unit = amplitude / __builtin_sqrt(((1 - w) * (1 - w) + w * w) * n);
	uint64_t now = synthetic_mix2(key, epoch), next = synthetic_mix2(key, epoch + 1);
	float a = (float)((1 - w) * unit), b = (float)(w * unit);
	for (uint32_t c = 0; c < n; c++) {
		out[c] += a * synthetic_normal(now + c * 0x9e3779b97f4a7c15u);
		if (w > 0)
			out[c] += b * synthetic_normal(next + c * 0x9e3779b97f4a7c15u);
	}
}

void synthetic_intent(const struct synthetic *s, const struct synthetic_sequence *q, uint32_t layer, uint32_t head,
		      float *out)
{
	int preset = synthetic_preset_of(layer);
	const struct synthetic_params *p = &s->params[preset];
	uint32_t n = s->channels.topics, group = head / (s->geometry.q_heads / s->geometry.kv_heads);
	double spread = p->group_spread + p->head_spread, norm = spread > 1 ? 1 / spread : 1;
	const double share[3] = {__builtin_sqrt(spread < 1 ? 1 - spread : 0), __builtin_sqrt(p->group_spread * norm),
				 __builtin_sqrt(p->head_spread * norm)};
	const uint64_t who[3] = {1, 1000 + group, 1000000 + head};
	memcpy(out, q->focus[preset], n * sizeof *out);
	for (int i = 0; i < (head == SYNTHETIC_ALL_HEADS ? 1 : 3); i++) {
		uint64_t key = synthetic_mix2(synthetic_mix2(q->key, layer + 1), who[i]);
		add_drift(key + 1, q->step, p->slow_steps, p->topic_slow * share[i], n, out);
		add_drift(key + 2, q->step, p->mid_steps, p->topic_mid * share[i], n, out);
		add_drift(key + 3, q->row, 1, p->topic_fresh * share[i], n, out);
	}
}

/* The blocks in focus of an epoch: a weighted draw without replacement, every block running for itself, so that
 * the arrival of a block changes nothing but its own place. */
static uint32_t draw_focus(const struct synthetic_sequence *q, uint64_t epoch, uint32_t want, uint32_t *chosen)
{
	double best[FOCUS_MAX];
	uint32_t n = 0;
	for (uint32_t b = 0; b + 1 < q->block_count; b++) {
		const struct synthetic_block *k = &q->blocks[b];
		if (k->kind < 0)
			continue;
		double age = q->tokens - k->end, tokens = k->end - k->start;
		double weight =
		    (1 + synthetic_kind_log_weight[k->kind] / 2) * __builtin_sqrt(tokens) / (1 + age / 4096);
		double draw = ((double)(synthetic_mix2(q->key ^ k->content, epoch) >> 11) + 1) * 0x1p-53;
		double time = -ikv_det_log(draw) / weight;
		uint32_t at = n < want ? n++ : want;
		for (; at && time < best[at - 1]; at--) {
			if (at < want) {
				best[at] = best[at - 1];
				chosen[at] = chosen[at - 1];
			}
		}
		if (at < want) {
			best[at] = time;
			chosen[at] = b;
		}
	}
	return n;
}

void synthetic_focus(struct synthetic *s, struct synthetic_sequence *q)
{
	uint32_t chosen[FOCUS_MAX], n = s->channels.topics;
	float topic[TOPICS_MAX];
	memset(q->focus, 0, sizeof q->focus);
	for (int p = 0; p < SYNTHETIC_PRESETS; p++) {
		const struct synthetic_params *a = &s->params[p];
		uint32_t want = (uint32_t)a->focus_blocks;
		if (a->focus == 0 || want == 0)
			continue;
		double at = (double)q->step / (a->slow_steps < 1 ? 1 : a->slow_steps), w = at - (double)(uint64_t)at;
		for (int e = 0; e < 2; e++) {
			uint32_t count = draw_focus(q, (uint64_t)at + e, want, chosen);
			for (uint32_t i = 0; i < count; i++) {
				/* Its segments have sqrt(block_share) of this topic, hence the gain is `focus`. */
				double gain = a->focus * (e ? w : 1 - w) /
					      (n * __builtin_sqrt(s->params[0].block_share + 1e-3));
				synthetic_topic(q->blocks[chosen[i]].content ^ 0x70b1c, n, topic);
				for (uint32_t c = 0; c < n; c++)
					q->focus[p][c] += (float)gain * topic[c];
			}
		}
	}
}

static uint32_t segment_end(const struct synthetic_sequence *q, uint32_t i)
{
	return i + 1 < q->segment_count ? q->segments[i + 1].start : q->tokens;
}

/* Tokens of no block weigh less than those of any. */
static double kind_weight(int kind)
{
	return kind < 0 ? -1 : synthetic_kind_log_weight[kind];
}

static double segment_bias(const struct synthetic_params *p, const struct synthetic_sequence *q, uint32_t i)
{
	int kind = q->blocks[q->segments[i].block].kind;
	return (double)q->segments[i].salience * p->salience + kind_weight(kind) * p->kind_weight;
}

void synthetic_base(const struct synthetic *s, struct synthetic_sequence *q, int preset)
{
	const struct synthetic_params *p = &s->params[preset];
	const double *sum = s->recency_sum[preset];
	for (uint32_t i = 0; i < q->segment_count; i++) {
		uint32_t start = q->segments[i].start, end = segment_end(q, i);
		if (p->sink > 0 && end <= SINK_TOKENS)
			start = end;
		double near = sum[q->tokens - start] - sum[q->tokens - end];
		q->base[i] = (float)(near * q->segments[i].tokens_sum[preset] / (end - q->segments[i].start)) *
			     synthetic_exp((float)segment_bias(p, q, i));
	}
}

double synthetic_weights(const struct synthetic *s, const struct synthetic_sequence *q, const float *intent,
			 float *weight)
{
	uint32_t n = s->channels.topics;
	double sum = 0;
	for (uint32_t i = 0; i < q->segment_count; i += LANES) {
		const float *f = q->features + (size_t)i * n;
		synthetic_lanes dot = {0}, row;
		for (uint32_t c = 0; c < n; c++) {
			memcpy(&row, f + c * LANES, sizeof row);
			dot += intent[c] * row;
		}
		for (uint32_t j = 0; j < LANES; j++) {
			dot[j] = dot[j] > 60 ? 60 : dot[j] < -60 ? -60 : dot[j];
			weight[i + j] = synthetic_exp(dot[j]) * q->base[i + j];
		}
		for (uint32_t j = 0; j < LANES && i + j < q->segment_count; j++)
			sum += weight[i + j];
	}
	return sum;
}

/* Query rows of the last token of q: [q_heads][d_qk]. */
static void query_rows(const struct synthetic *s, struct synthetic_sequence *q, uint32_t layer, float *out)
{
	const struct ikv_geometry *g = &s->geometry;
	const struct synthetic_channels *c = &s->channels;
	int preset = synthetic_preset_of(layer);
	const struct synthetic_params *p = &s->params[preset];
	double at = q->tokens - 1, inverse = 1 / (double)g->scale;
	if (p->sink > 0)
		synthetic_base(s, q, preset);
	for (uint32_t h = 0; h < g->q_heads; h++) {
		float *row = out + (size_t)h * g->d_qk, intent[TOPICS_MAX];
		uint32_t kv = h / (g->q_heads / g->kv_heads);
		const float *signs = s->signs + ((size_t)layer * g->kv_heads + kv) * g->d_qk;
		synthetic_intent(s, q, layer, h, intent);
		memset(row, 0, g->d_qk * sizeof *row);
		for (uint32_t i = 0; i < c->pairs; i++) {
			float *pair = row + c->pair_first + 2 * i;
			pair[0] = (float)(s->recency[preset][i] * ikv_det_cos(at * s->frequency[i]));
			pair[1] = (float)(s->recency[preset][i] * ikv_det_sin(at * s->frequency[i]));
		}
		memcpy(row + c->topic_first, intent, c->topics * sizeof *row);
		row[c->bias] = 1;
		/* Against the weight of all others, which the model knows but for the noise's mean. */
		double z = p->sink > 0 ? synthetic_weights(s, q, intent, q->weight) : 0;
		if (z > 0) { /* else there are sinks alone */
			z *= ikv_det_exp(p->noise * p->noise / 2);
			double logit = ikv_det_log(z * p->sink / (1 - p->sink) / SINK_TOKENS);
			row[c->sink] = (float)((logit - synthetic_recency(s, preset, at)) / SINK_CHANNEL);
		}
		uint64_t key = synthetic_mix2(synthetic_mix2(q->key ^ 0x9e, q->row), (uint64_t)layer << 32 | h);
		double unit = p->noise / __builtin_sqrt(c->noise);
		for (uint32_t i = 0; i < c->noise; i++)
			row[c->noise_first + i] = (float)(unit * synthetic_normal(key + i * 0x9e3779b97f4a7c15u));
		for (uint32_t i = 0; i < g->d_qk; i++)
			row[i] = (float)(row[i] * inverse) * signs[i];
	}
}

int synthetic_query(struct source *src, uint32_t seq, uint32_t layer, float *out, struct ikv_err *err)
{
	struct synthetic *s = (struct synthetic *)src;
	struct synthetic_sequence *q = &s->sequences[seq];
	if (!q->tokens || layer >= s->geometry.layers)
		return ikv_err_set(err, IKV_FAILED, "synthetic source: a query of layer %u in an empty sequence",
				   layer);
	query_rows(s, q, layer, out);
	return 0;
}

/* A prompt is read with the intent of the newest step; each of its tokens has a fresh part and noise of its own, and
 * sees the sequence as it was when it ended there. */
int synthetic_prompt(struct source *src, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, float *out,
		     struct ikv_err *err)
{
	struct synthetic *s = (struct synthetic *)src;
	const struct synthetic_sequence *whole = &s->sequences[seq];
	if (first > whole->tokens || count > whole->tokens - first || layer >= s->geometry.layers)
		return ikv_err_set(err, IKV_FAILED, "synthetic source: layer %u, queries %u + %u of %u", layer, first,
				   count, whole->tokens);
	for (uint32_t t = first; t < first + count; t++, out += (size_t)s->geometry.q_heads * s->geometry.d_qk) {
		struct synthetic_sequence q = *whole;
		uint32_t last = synthetic_segment_at(whole, t);
		const struct synthetic_segment segment = whole->segments[last];
		q.row = PROMPT_ROWS + t;
		q.tokens = t + 1;
		q.segment_count = last + 1;
		synthetic_sum_last(s, &q);
		query_rows(s, &q, layer, out);
		q.segments[last] = segment;
	}
	return 0;
}

/* Adds the segments' mass to the pages they lie in, by their tokens. */
static void spread(const struct synthetic_sequence *q, const float *weight, double scale, uint32_t page_tokens,
		   float *mass)
{
	for (uint32_t i = 0; i < q->segment_count; i++) {
		uint32_t start = q->segments[i].start, end = segment_end(q, i);
		double per = weight[i] * scale / (end - start);
		for (uint32_t t = start; t < end;) {
			uint32_t page = t / page_tokens, until = (page + 1) * page_tokens;
			until = until < end ? until : end;
			mass[page] += (float)(per * (until - t));
			t = until;
		}
	}
}

int synthetic_mass(struct source *src, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
		   uint32_t page_tokens, float *mass, struct ikv_err *err)
{
	struct synthetic *s = (struct synthetic *)src;
	struct synthetic_sequence *q = &s->sequences[seq];
	const struct ikv_geometry *g = &s->geometry;
	float intent[TOPICS_MAX], *total = q->weight;
	int preset = synthetic_preset_of(layer);
	double sink = s->params[preset].sink;
	if (layer >= g->layers || !q_count || q_first >= g->q_heads || q_count > g->q_heads - q_first || !q->tokens)
		return ikv_err_set(err, IKV_FAILED, "synthetic source: mass of layer %u, heads %u + %u", layer,
				   q_first, q_count);
	uint32_t heads = q_count < MODEL_HEADS ? q_count : MODEL_HEADS;
	synthetic_base(s, q, preset);
	for (uint32_t i = 0; i < heads; i++) {
		float *w = q->weight + (size_t)i * q->segment_cap;
		synthetic_intent(s, q, layer, q_first + (uint32_t)((uint64_t)i * q_count / heads), intent);
		float unit = (float)(1 / synthetic_weights(s, q, intent, w));
		for (uint32_t j = 0; j < q->segment_count; j++)
			total[j] = i ? total[j] + w[j] * unit : w[j] * unit;
	}
	memset(mass, 0, ikv_pages(q->tokens, page_tokens) * sizeof *mass);
	spread(q, total, (1 - sink) / heads, page_tokens, mass);
	for (uint32_t t = 0; sink > 0 && t < SINK_TOKENS && t < q->tokens; t++)
		mass[t / page_tokens] += (float)(sink / (q->tokens < SINK_TOKENS ? q->tokens : SINK_TOKENS));
	return 0;
}

/* Expected mass per token of each block from its topic alone, the largest being 1: for each preset the intent that
 * the heads share, mean over up to two of its layers. */
int synthetic_scores(struct source *src, uint32_t seq, const struct ikv_layout *layout, double *scores,
		     struct ikv_err *err)
{
	struct synthetic *s = (struct synthetic *)src;
	struct synthetic_sequence *q = &s->sequences[seq];
	uint32_t n = s->channels.topics, layers = s->geometry.layers < 4 ? s->geometry.layers : 4, own = 0;
	uint32_t presets = layers < SYNTHETIC_PRESETS ? layers : SYNTHETIC_PRESETS;
	float intent[SYNTHETIC_PRESETS][TOPICS_MAX] = {0}, one[TOPICS_MAX], topic[TOPICS_MAX];
	double top = 0, share = __builtin_sqrt(s->params[0].block_share);
	(void)err;
	for (uint32_t l = 0; l < layers; l++) {
		int p = synthetic_preset_of(l);
		float part = (float)(share / ((layers + SYNTHETIC_PRESETS - 1 - (uint32_t)p) / SYNTHETIC_PRESETS));
		synthetic_intent(s, q, l, SYNTHETIC_ALL_HEADS, one);
		for (uint32_t c = 0; c < n; c++)
			intent[p][c] += one[c] * part;
	}
	for (uint32_t b = 0; b < layout->count; b++) {
		uint32_t start = layout->blocks[b].start;
		uint32_t end = layout->blocks[b].end < q->tokens ? layout->blocks[b].end : q->tokens;
		while (own + 1 < q->block_count && q->blocks[own].end <= start)
			own++;
		scores[b] = 0;
		if (end <= start)
			continue;
		double kind = kind_weight(q->blocks[own].kind);
		synthetic_topic(q->blocks[own].content ^ 0x70b1c, n, topic);
		for (uint32_t p = 0; p < presets; p++) {
			const double *sum = s->recency_sum[p];
			float match = (float)(kind * s->params[p].kind_weight);
			for (uint32_t c = 0; c < n; c++)
				match += intent[p][c] * topic[c];
			scores[b] += (sum[q->tokens - start] - sum[q->tokens - end]) / (end - start) /
				     sum[q->tokens] * (double)synthetic_exp(match);
		}
		top = scores[b] > top ? scores[b] : top;
	}
	for (uint32_t b = 0; top > 0 && b < layout->count; b++)
		scores[b] /= top;
	return 0;
}

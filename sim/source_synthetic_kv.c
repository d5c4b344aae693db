/* Rows of K and V. Loops run over 16 lanes so that any compiler can make vectors of them; all arithmetic is exact
 * or rounded the same way everywhere. */
#include "source_synthetic.h"

/* n normal-like values times `scale`, triangular: the sum of two bytes each, four values a hash. n is rounded up to
 * a multiple of 16. */
static void noise(uint64_t key, uint32_t n, float scale, float *out)
{
	const float unit = scale * 0.0095684f; /* 1 / the standard deviation of the sum of two bytes */
	for (uint32_t i = 0; i < n; i += LANES) {
		int32_t sums[LANES];
		for (uint32_t j = 0; j < LANES / 4; j++) {
			uint64_t x = synthetic_mix(key + (i + j) * 0x9e3779b97f4a7c15u), mask = 0x00ff00ff00ff00ffu;
			x = (x & mask) + (x >> 8 & mask);
			for (uint32_t l = 0; l < 4; l++)
				sums[4 * j + l] = (int32_t)(x >> (16 * l) & 0xffff);
		}
		for (uint32_t j = 0; j < LANES; j++)
			out[i + j] = (float)(sums[j] - 255) * unit;
	}
}

/* FP16 of x, nearest even; values here are far below 65504, those below 2^-14 become 0. */
static void to_half(const float *x, uint32_t n, uint16_t *out)
{
	for (uint32_t i = 0; i < n; i += LANES) {
		uint32_t u[LANES];
		uint16_t h[LANES];
		memcpy(u, x + i, sizeof u);
		for (uint32_t j = 0; j < LANES; j++) {
			uint32_t a = u[j] & 0x7fffffff, r = (a - 0x38000000 + 0xfff + (a >> 13 & 1)) >> 13;
			r = a < 0x38800000 ? 0 : r;
			h[j] = (uint16_t)(r | (u[j] >> 16 & 0x8000));
		}
		memcpy(out + i, h, (n - i < LANES ? n - i : LANES) * sizeof *h);
	}
}

static void block_values(struct synthetic *s, const struct synthetic_params *p, uint64_t content, uint64_t head_key,
			 float amplitude, float *out)
{
	uint32_t n = synthetic_padded(s->geometry.d_v);
	(void)p;
	for (uint32_t h = 0; h < s->geometry.kv_heads; h++)
		noise(synthetic_mix2(content ^ 0xa1, head_key + h), n, amplitude, out + (size_t)h * n);
}

struct kv_walk {
	uint32_t segment, block; /* those whose shared values are made */
	float position[2 * PAIRS_MAX];
	float topic[TOPICS_MAX];
};

static void enter_segment(struct synthetic *s, const struct synthetic_sequence *q, uint32_t segment, uint32_t layer,
			  struct kv_walk *w)
{
	const struct synthetic_params *p = &s->params[synthetic_preset_of(layer)];
	const struct synthetic_segment *g = &q->segments[segment];
	uint32_t n = s->channels.topics;
	uint64_t head_key = (uint64_t)layer * s->geometry.kv_heads;
	const float *f = q->features + (size_t)(segment / LANES) * LANES * n + segment % LANES;
	for (uint32_t c = 0; c < n; c++)
		w->topic[c] = f[c * LANES];
	if (w->block != g->block)
		block_values(s, p, q->blocks[g->block].content, head_key, (float)p->value_block, s->block_value);
	block_values(s, p, g->content, head_key, (float)p->value_segment, s->segment_value);
	w->segment = segment;
	w->block = g->block;
}

static void position_values(const struct synthetic *s, uint32_t token, struct kv_walk *w)
{
	for (uint32_t i = 0; i < s->channels.pairs; i++) {
		w->position[2 * i] = (float)ikv_det_cos(token * s->frequency[i]);
		w->position[2 * i + 1] = (float)ikv_det_sin(token * s->frequency[i]);
	}
}

/* The sum of a block's, a segment's and a token's part, in s->value. */
static void make_value(struct synthetic *s, const struct synthetic_params *p, uint32_t head, uint64_t key, bool sink)
{
	uint32_t n = synthetic_padded(s->geometry.d_v);
	const float *b = s->block_value + (size_t)head * n, *g = s->segment_value + (size_t)head * n;
	float scale = sink ? .1f : 1; /* sinks are read for not reading: published models keep their V small */
	noise(key, n, (float)p->value_token, s->value);
	for (uint32_t i = 0; i < n; i += LANES)
		for (uint32_t j = 0; j < LANES; j++)
			s->value[i + j] = (s->value[i + j] + b[i + j] + g[i + j]) * scale;
}

/* Of a latent s->value is a part. */
static void key_row(struct synthetic *s, const struct kv_walk *w, uint64_t key, float bias, bool sink,
		    const float *signs, uint16_t *out)
{
	const struct synthetic_channels *c = &s->channels;
	float *row = s->row;
	uint32_t d = s->geometry.d_qk;
	if (sink) {
		memset(row, 0, d * sizeof *row);
		row[c->sink] = SINK_CHANNEL;
	} else {
		if (c->values) /* noise comes in sixteens and may reach into what follows */
			memset(row, 0, d * sizeof *row);
		noise(key, c->noise, 1, row + c->noise_first);
		memcpy(row + c->topic_first, w->topic, c->topics * sizeof *row);
		row[c->bias] = bias;
		row[c->sink] = 0;
	}
	memcpy(row + c->value_first, s->value, c->values * sizeof *row);
	memcpy(row + c->pair_first, w->position, 2 * c->pairs * sizeof *row);
	for (uint32_t i = 0; i < d; i++)
		row[i] *= signs[i];
	to_half(row, d, out);
}

int synthetic_kv(struct source *src, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, uint16_t *k,
		 uint16_t *v, struct ikv_err *err)
{
	struct synthetic *s = (struct synthetic *)src;
	const struct synthetic_sequence *q = &s->sequences[seq];
	const struct ikv_geometry *g = &s->geometry;
	const struct synthetic_params *p = &s->params[synthetic_preset_of(layer)];
	struct kv_walk w = {.segment = UINT32_MAX, .block = UINT32_MAX};
	if (first > q->tokens || count > q->tokens - first || layer >= g->layers)
		return ikv_err_set(err, IKV_FAILED, "synthetic source: layer %u, rows %u + %u of %u", layer, first,
				   count, q->tokens);
	uint32_t at = count ? synthetic_segment_at(q, first) : 0;
	for (uint32_t t = first; t < first + count; t++) {
		while (at + 1 < q->segment_count && q->segments[at + 1].start <= t)
			at++;
		if (at != w.segment)
			enter_segment(s, q, at, layer, &w);
		const struct synthetic_block *b = &q->blocks[w.block];
		uint64_t content = synthetic_mix2(b->content ^ 0x70c, b->first_offset + (t - b->start));
		double bias = q->segments[at].salience * p->salience +
			      (double)s->exponential[synthetic_variate(content)] * p->token_salience +
			      (b->kind < 0 ? -1 : synthetic_kind_log_weight[b->kind]) * p->kind_weight;
		bool sink = p->sink > 0 && t < SINK_TOKENS;
		position_values(s, t, &w);
		for (uint32_t h = 0; h < g->kv_heads; h++) {
			size_t row = (size_t)(t - first) * g->kv_heads + h;
			size_t head = (size_t)layer * g->kv_heads + h;
			uint64_t key = synthetic_mix2(content, head + 1);
			make_value(s, p, h, key ^ 0x7a1e, sink);
			key_row(s, &w, key, (float)bias, sink, s->signs + head * g->d_qk, k + row * g->d_qk);
			if (!g->v_aliases_k)
				to_half(s->value, g->d_v, v + row * g->d_v);
		}
	}
	return 0;
}

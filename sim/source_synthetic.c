/* Source `synthetic`: sequences and their content. Rows are made in source_synthetic_kv.c, queries and models of
 * mass in source_synthetic_intent.c. */
#include "source_synthetic.h"

struct synthetic_config {
	int preset;
	struct synthetic_params override; /* below 0: as the preset says */
};

static const struct ikv_option options[] = {{"preset", IKV_OPT_ENUM, offsetof(struct synthetic_config, preset),
					     "layer-mix", 0, 0, synthetic_preset_names,
					     "fitted parameters; layer-mix alternates agent-layer3 and agent-layer7"},
#define X(name, max, help)                                                                                           \
	{#name,                                                                                                      \
	 IKV_OPT_REAL,                                                                                               \
	 offsetof(struct synthetic_config, override.name),                                                           \
	 "-1",                                                                                                       \
	 -1,                                                                                                         \
	 max,                                                                                                        \
	 NULL,                                                                                                       \
	 help "; -1: the preset's"},
					    SYNTHETIC_PARAMETERS(X)
#undef X
						IKV_OPTION_END};

extern const struct source_ops source_synthetic;

static struct synthetic *self(struct source *s)
{
	return (struct synthetic *)s;
}

static void drop_sequence(struct synthetic_sequence *q)
{
	ikv_free(q->blocks);
	ikv_free(q->segments);
	ikv_free(q->features);
	ikv_free(q->base);
	ikv_free(q->weight);
	memset(q, 0, sizeof *q);
}

static void synthetic_close(struct source *src)
{
	struct synthetic *s = self(src);
	for (uint32_t i = 0; s->sequences && i < s->sequence_count; i++)
		drop_sequence(&s->sequences[i]);
	ikv_free(s->sequences);
	for (int p = 0; p < SYNTHETIC_PRESETS; p++)
		ikv_free(s->recency_sum[p]);
	ikv_free(s->signs);
	ikv_free(s->row);
	ikv_free(s->value);
	ikv_free(s->block_value);
	ikv_free(s->segment_value);
	ikv_free(s);
}

static void choose_params(struct synthetic *s, const struct synthetic_config *cfg)
{
	synthetic_preset_get(cfg->preset, s->params);
	for (int p = 0; p < SYNTHETIC_PRESETS; p++) {
#define X(name, max, help)                                                                                           \
	if (cfg->override.name >= 0)                                                                                 \
		s->params[p].name = cfg->override.name;
		SYNTHETIC_PARAMETERS(X)
#undef X
	}
}

/* Slope of the recency term at 2^octave tokens: linear between the parameters' 2^2, 2^5, 2^8 and 2^11. */
static double slope_at(const struct synthetic_params *p, double octave)
{
	const double at[] = {p->recency_4, p->recency_32, p->recency_256, p->recency_2048};
	double x = (octave - 2) / 3;
	if (x <= 0)
		return at[0];
	if (x >= 3)
		return at[3];
	int i = (int)x;
	return at[i] + (x - i) * (at[i + 1] - at[i]);
}

/* Tables: a sum of cosines of distance / tau with tau spread evenly over octaves falls with the logarithm of the
 * distance, each pair giving way as the distance passes its tau. */
static void make_tables(struct synthetic *s)
{
	uint32_t n = s->channels.pairs;
	double octaves = 13.0 / (n - 1);
	for (uint32_t i = 0; i < n; i++) {
		double octave = 2 + i * octaves;
		s->frequency[i] = ikv_det_exp(-octave * 0.6931471805599453);
		for (int p = 0; p < SYNTHETIC_PRESETS; p++)
			s->recency[p][i] = slope_at(&s->params[p], octave) * octaves * 0.6931471805599453;
	}
	for (int i = 0; i < 1024; i++) {
		double x = -ikv_det_log(1 - (i + .5) / 1024);
		s->exponential[i] = (float)x;
		for (int p = 0; p < SYNTHETIC_PRESETS; p++)
			s->token_factor[p][i] = (float)ikv_det_exp(x * s->params[p].token_salience);
	}
	size_t rows = (size_t)s->geometry.layers * s->geometry.kv_heads, d = s->geometry.d_qk;
	for (size_t i = 0; i < rows * d; i++)
		s->signs[i] = synthetic_mix2(s->seed ^ 0x5197, i) & 1 ? 1 : -1;
}

static int check_geometry(const struct ikv_geometry *g, struct ikv_err *err)
{
	if (!g->layers || !g->kv_heads || !g->q_heads || g->q_heads % g->kv_heads || g->d_qk < 16 || !g->d_v ||
	    g->d_qk > 65536 || g->d_v > 65536 || !(g->scale > 0))
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "synthetic source: %u layers, %u query heads, %u KV heads, d %u and %u: expected "
				   "query heads a multiple of the KV heads and d_qk of at least 16",
				   g->layers, g->q_heads, g->kv_heads, g->d_qk, g->d_v);
	if (g->v_aliases_k && (g->d_v < 16 || g->d_qk < g->d_v + 6))
		return ikv_err_set(
		    err, IKV_BAD_INPUT,
		    "synthetic source: latents of %u channels in rows of %u: expected at least 16, and 6 "
		    "more for the position",
		    g->d_v, g->d_qk);
	return 0;
}

static struct synthetic_channels plain_channels(uint32_t d)
{
	struct synthetic_channels c = {.pairs = d / 4 < PAIRS_MAX ? d / 4 : PAIRS_MAX,
				       .topics = d / 4 < TOPICS_MAX ? d / 4 : TOPICS_MAX};
	c.topic_first = 2 * c.pairs;
	c.bias = c.topic_first + c.topics;
	c.sink = c.bias + 1;
	c.noise_first = c.sink + 1;
	c.noise = d - c.noise_first;
	return c;
}

/* Position, bias and sink have no place in what is read as V. */
static struct synthetic_channels latent_channels(const struct ikv_geometry *g)
{
	uint32_t d = g->d_v, rest = g->d_qk - d;
	struct synthetic_channels c = {.pair_first = d,
				       .pairs = (rest - 2) / 2 < PAIRS_MAX ? (rest - 2) / 2 : PAIRS_MAX,
				       .topics = d / 4 < TOPICS_MAX ? d / 4 : TOPICS_MAX};
	c.bias = d + 2 * c.pairs;
	c.sink = c.bias + 1;
	c.noise_first = c.topics;
	c.noise = d / 4 < NOISE_LATENT ? d / 4 : NOISE_LATENT;
	c.value_first = c.noise_first + c.noise;
	c.values = d - c.value_first;
	return c;
}

static int synthetic_open(struct source **out, const void *config, struct source_setup *setup, struct ikv_err *err)
{
	const struct ikv_geometry *g = &setup->geometry;
	if (check_geometry(g, err))
		return -1;
	struct synthetic *s = ikv_alloc(1, sizeof *s, err);
	if (!s)
		return -1;
	uint32_t d = g->d_qk;
	s->ops = &source_synthetic;
	s->geometry = *g;
	s->seed = synthetic_mix2(setup->seed, IKV_STREAM_SOURCE);
	s->channels = g->v_aliases_k ? latent_channels(g) : plain_channels(d);
	s->sequence_count = setup->sequences ? setup->sequences : 1;
	s->sequences = ikv_alloc(s->sequence_count, sizeof *s->sequences, err);
	s->signs = ikv_alloc((size_t)g->layers * g->kv_heads, d * sizeof *s->signs, err);
	s->row = ikv_alloc(synthetic_padded(d) + LANES, sizeof *s->row, err);
	s->value = ikv_alloc(synthetic_padded(g->d_v) + LANES, sizeof *s->value, err);
	s->block_value = ikv_alloc(g->kv_heads, synthetic_padded(g->d_v) * sizeof(float), err);
	s->segment_value = ikv_alloc(g->kv_heads, synthetic_padded(g->d_v) * sizeof(float), err);
	if (!s->sequences || !s->signs || !s->row || !s->value || !s->block_value || !s->segment_value) {
		synthetic_close((struct source *)s);
		return -1;
	}
	choose_params(s, config);
	make_tables(s);
	setup->layer_count = 0;
	for (uint32_t i = 0; setup->model_layers && i < g->layers && i < SOURCE_LAYERS_MAX; i++)
		setup->layer_numbers[setup->layer_count++] = setup->model_layers[i];
	*out = (struct source *)s;
	return 0;
}

static int synthetic_begin(struct source *src, uint32_t seq, const struct session *session, uint32_t index,
			   struct ikv_err *err)
{
	struct synthetic *s = self(src);
	(void)session;
	if (seq >= s->sequence_count)
		return ikv_err_set(err, IKV_FAILED, "synthetic source: sequence %u of %u", seq, s->sequence_count);
	struct synthetic_sequence *q = &s->sequences[seq];
	q->key = synthetic_mix2(s->seed, (uint64_t)index + 1);
	q->step = q->row = 0;
	q->tokens = q->block_count = q->segment_count = 0;
	memset(q->focus, 0, sizeof q->focus);
	return 0;
}

static int synthetic_room(struct synthetic *s, struct synthetic_sequence *q, struct ikv_err *err)
{
	if (q->block_count + 1 >= q->block_cap) {
		uint32_t cap = q->block_cap ? 2 * q->block_cap : 64;
		if (ikv_grow(&q->blocks, q->block_cap, cap, sizeof *q->blocks, err))
			return -1;
		q->block_cap = cap;
	}
	if (q->segment_count < q->segment_cap)
		return 0;
	uint32_t old = q->segment_cap, cap = old ? 2 * old : 512;
	size_t row = s->channels.topics * sizeof(float);
	if (ikv_grow(&q->segments, old, cap, sizeof *q->segments, err) || ikv_grow(&q->features, old, cap, row, err))
		return -1;
	q->segment_cap = cap;
	/* Scratch: what it holds is made anew for every use. */
	float *base = ikv_alloc(cap, sizeof *base, err), *weight = ikv_alloc(cap, MODEL_HEADS * sizeof *weight, err);
	ikv_free(q->base);
	ikv_free(q->weight);
	q->base = base;
	q->weight = weight;
	return base && weight ? 0 : -1;
}

void synthetic_topic(uint64_t content, uint32_t topics, float *out)
{
	for (uint32_t c = 0; c < topics; c++)
		out[c] = synthetic_normal(content + c * 0x9e3779b97f4a7c15u);
}

static void new_segment(struct synthetic *s, struct synthetic_sequence *q, uint32_t token, uint32_t index)
{
	const struct synthetic_block *b = &q->blocks[q->block_count - 1];
	uint32_t i = q->segment_count++, n = s->channels.topics;
	struct synthetic_segment *g = &q->segments[i];
	float block[TOPICS_MAX], own[TOPICS_MAX];
	memset(g, 0, sizeof *g);
	g->start = token;
	g->block = q->block_count - 1;
	g->content = synthetic_mix2(b->content, index);
	g->salience = s->exponential[synthetic_variate(g->content ^ 0x5a11)];
	synthetic_topic(b->content ^ 0x70b1c, n, block);
	synthetic_topic(g->content ^ 0x70b1c, n, own);
	/* Layers share topics; the preset of the even ones says how much of them is the block's. */
	float wb = (float)__builtin_sqrt(s->params[0].block_share);
	float ws = (float)__builtin_sqrt(1 - s->params[0].block_share);
	float *to = q->features + (size_t)(i / LANES) * LANES * n + i % LANES;
	for (uint32_t c = 0; c < n; c++)
		to[c * LANES] = wb * block[c] + ws * own[c];
}

static void open_block(struct synthetic *s, struct synthetic_sequence *q, const struct ikv_block *b, uint32_t token)
{
	uint64_t content = b && b->uid ? b->uid : synthetic_mix2(q->key, token);
	q->blocks[q->block_count++] = (struct synthetic_block){
	    .content = synthetic_mix2(s->seed ^ 0xb10c, content),
	    .start = token,
	    .end = token,
	    .kind = b ? (int)b->kind : -1,
	    .first_offset = b ? token - b->start : 0,
	};
}

static void add_token(struct synthetic *s, struct synthetic_sequence *q, const struct ikv_block *b, uint32_t token)
{
	struct synthetic_block *last = q->block_count ? &q->blocks[q->block_count - 1] : NULL;
	bool fresh = !last || (b ? b->start == token || last->kind != (int)b->kind : last->kind != -1);
	if (fresh) {
		open_block(s, q, b, token);
		last = &q->blocks[q->block_count - 1];
	}
	uint32_t offset = last->first_offset + (token - last->start);
	if (fresh || offset % SEGMENT_TOKENS == 0)
		new_segment(s, q, token, offset / SEGMENT_TOKENS);
	struct synthetic_segment *g = &q->segments[q->segment_count - 1];
	uint32_t v = synthetic_variate(synthetic_mix2(last->content ^ 0x70c, offset));
	for (int p = 0; p < SYNTHETIC_PRESETS; p++)
		g->tokens_sum[p] += s->token_factor[p][v];
	last->end = token + 1;
	q->tokens = token + 1;
}

void synthetic_sum_last(const struct synthetic *s, struct synthetic_sequence *q)
{
	struct synthetic_segment *g = &q->segments[q->segment_count - 1];
	const struct synthetic_block *b = &q->blocks[g->block];
	memset(g->tokens_sum, 0, sizeof g->tokens_sum);
	for (uint32_t t = g->start; t < q->tokens; t++)
		for (int p = 0; p < SYNTHETIC_PRESETS; p++)
			g->tokens_sum[p] += s->token_factor[p][synthetic_variate(
			    synthetic_mix2(b->content ^ 0x70c, b->first_offset + (t - b->start)))];
}

static int synthetic_truncate(struct source *src, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	struct synthetic *s = self(src);
	struct synthetic_sequence *q = &s->sequences[seq];
	(void)err;
	if (tokens >= q->tokens)
		return 0;
	while (q->segment_count && q->segments[q->segment_count - 1].start >= tokens)
		q->segment_count--;
	while (q->block_count && q->blocks[q->block_count - 1].start >= tokens)
		q->block_count--;
	q->tokens = tokens;
	if (!q->block_count)
		return 0;
	q->blocks[q->block_count - 1].end = tokens;
	synthetic_sum_last(s, q);
	return 0;
}

static int synthetic_extend(struct source *src, uint32_t seq, const struct ikv_layout *layout, uint32_t first,
			    struct ikv_err *err)
{
	struct synthetic *s = self(src);
	struct synthetic_sequence *q = &s->sequences[seq];
	uint32_t lo = 0, hi = layout->count;
	if (first != q->tokens)
		return ikv_err_set(err, IKV_FAILED, "synthetic source: token %u follows %u tokens", first, q->tokens);
	while (lo < hi) { /* first block that ends after `first` */
		uint32_t mid = lo + (hi - lo) / 2;
		if (layout->blocks[mid].end <= first)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (uint32_t t = first; t < layout->total_tokens; t++) {
		while (lo < layout->count && layout->blocks[lo].end <= t)
			lo++;
		const struct ikv_block *b =
		    lo < layout->count && layout->blocks[lo].start <= t ? &layout->blocks[lo] : NULL;
		if (synthetic_room(s, q, err))
			return -1;
		add_token(s, q, b, t);
	}
	return synthetic_recency_grow(s, layout->total_tokens, err);
}

uint32_t synthetic_segment_at(const struct synthetic_sequence *q, uint32_t t)
{
	uint32_t lo = 0, hi = q->segment_count;
	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (q->segments[mid].start <= t)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

static int synthetic_advance(struct source *src, uint32_t seq, uint64_t step, struct ikv_err *err)
{
	struct synthetic *s = self(src);
	(void)err;
	s->sequences[seq].step = s->sequences[seq].row = step;
	synthetic_focus(s, &s->sequences[seq]);
	return 0;
}

static int synthetic_consume(struct source *src, uint32_t seq, uint32_t layer, const float *out, struct ikv_err *err)
{
	(void)src;
	(void)seq;
	(void)layer;
	(void)out;
	(void)err;
	return 0;
}

static void synthetic_end(struct source *src, uint32_t seq)
{
	drop_sequence(&self(src)->sequences[seq]);
}

const struct source_ops source_synthetic = {
    .name = "synthetic",
    .summary = "generated Q, K and V with recency, topics, salience, sinks and a drifting intent",
    .options = options,
    .config_bytes = sizeof(struct synthetic_config),
    .open = synthetic_open,
    .close = synthetic_close,
    .begin = synthetic_begin,
    .extend = synthetic_extend,
    .truncate = synthetic_truncate,
    .kv = synthetic_kv,
    .advance = synthetic_advance,
    .query = synthetic_query,
    .prompt = synthetic_prompt,
    .consume = synthetic_consume,
    .model_scores = synthetic_scores,
    .model_mass = synthetic_mass,
    .end = synthetic_end,
};

/* The synthetic source's parts; internal to sim/source_synthetic*.c. The model is explained in
 * docs/synthetic-source.md: a logit is the sum of a recency term, a static salience, the match of the segment's
 * topic with a drifting intent, and noise, each in channels of its own. */
#ifndef SIM_SOURCE_SYNTHETIC_H
#define SIM_SOURCE_SYNTHETIC_H

#include <string.h>
#include "source.h"

/* name, largest value, help. All are at least 0; a preset gives each a value. */
#define SYNTHETIC_PARAMETERS(X)                                                                                      \
	X(sink, .95, "softmax mass on the first 4 tokens")                                                           \
	X(recency_4, 20, "fall of the logit per e-fold of distance near 4 tokens")                                   \
	X(recency_32, 20, "the same near 32 tokens")                                                                 \
	X(recency_256, 20, "the same near 256 tokens")                                                               \
	X(recency_2048, 20, "the same from 2,048 tokens on")                                                         \
	X(salience, 20, "mean of the exponentially distributed static logit of a segment")                           \
	X(token_salience, 20, "the same of a token")                                                                 \
	X(topic_slow, 20, "standard deviation of the match with the slow intent, logits")                            \
	X(topic_mid, 20, "of the match with the faster intent, logits")                                              \
	X(topic_fresh, 20, "of the match with the part that is new at each step, logits")                            \
	X(slow_steps, 1e6, "steps after which the slow intent and the focus are others")                             \
	X(mid_steps, 1e6, "steps after which the faster intent is another")                                          \
	X(focus, 20, "logits that the blocks in focus gain")                                                         \
	X(focus_blocks, 8, "blocks in focus at once")                                                                \
	X(group_spread, 1, "share of the intent's variance that a KV head has for itself")                           \
	X(head_spread, 1, "share of the intent's variance that a query head has for itself")                         \
	X(block_share, 1, "share of a segment's topic that its whole block has")                                     \
	X(noise, 20, "standard deviation of the logit noise of a token, head and step")                              \
	X(kind_weight, 20, "factor of the built-in log weights of the block kinds")                                  \
	X(value_block, 100, "standard deviation of the part of V that a block shares")                               \
	X(value_segment, 100, "of the part that a segment shares")                                                   \
	X(value_token, 100, "of a token's own part")

struct synthetic_params {
#define X(name, max, help) double name;
	SYNTHETIC_PARAMETERS(X)
#undef X
};

struct synthetic_preset {
	const char *name;
	struct synthetic_params params;
};
#define SYNTHETIC_PRESETS 2 /* in a mix: the layers alternate between them */
/* Parameters of the even and the odd layers under each choice of the option `preset`. */
extern const char *const synthetic_preset_names[]; /* NULL-terminated */
void synthetic_preset_get(int choice, struct synthetic_params out[SYNTHETIC_PRESETS]);
extern const double synthetic_kind_log_weight[IKV_KIND_COUNT];

#define SEGMENT_TOKENS 16u
#define LANES          16u
/* A vector of GCC and Clang, lowered to what the target has; element-wise, so the same bits everywhere. */
typedef float synthetic_lanes __attribute__((vector_size(64)));
#define PAIRS_MAX    32u
#define TOPICS_MAX   64u
#define SINK_TOKENS  4u
#define SINK_CHANNEL 8.0f /* K of a sink token in the sink's channel */
#define MODEL_HEADS  8u   /* at most so many heads stand for a range of them in model_mass */
#define FOCUS_MAX    8u
#define NOISE_LATENT 64u
#define PROMPT_ROWS  (1ull << 40) /* beyond every step */

/* Where the parts of a key row lie: pairs, topics, bias, sink, noise. Where V aliases K (MLA) the row is a latent and
 * a key beside it: topics, noise, values; pairs, bias, sink. */
struct synthetic_channels {
	uint32_t pair_first, pairs;   /* rotary pairs: cosine and sine of position / tau */
	uint32_t topic_first, topics; /* match of topic and intent */
	uint32_t bias, sink, noise_first, noise;
	uint32_t value_first, values; /* what the latent says beside; queries do not look at it. 0: V is on its own */
};

struct synthetic_block {
	uint64_t content; /* names what the block says */
	uint32_t start, end;
	int kind;              /* enum ikv_kind, -1: tokens of no block */
	uint32_t first_offset; /* content offset of token `start` */
};

struct synthetic_segment {
	uint32_t start, block;
	uint64_t content;
	float salience;                      /* exponential variate */
	float tokens_sum[SYNTHETIC_PRESETS]; /* sum over its tokens of exp(token salience) */
};

struct synthetic_sequence {
	uint64_t key; /* of its random streams */
	uint64_t step;
	uint64_t row; /* names what is new in a query: the step, or PROMPT_ROWS and the place of a prompt's token */
	uint32_t tokens;
	struct synthetic_block *blocks;
	uint32_t block_count, block_cap;
	struct synthetic_segment *segments;
	float *features; /* [segment / 16][topics][16] */
	uint32_t segment_count, segment_cap;
	float *base, *weight; /* scratch [segment_cap], [MODEL_HEADS][segment_cap] */
	float focus[SYNTHETIC_PRESETS][TOPICS_MAX];
};

struct synthetic {
	const struct source_ops *ops;
	struct ikv_geometry geometry;
	uint64_t seed;
	struct synthetic_channels channels;
	struct synthetic_params params[SYNTHETIC_PRESETS];
	double frequency[PAIRS_MAX];                  /* radians per token */
	double recency[SYNTHETIC_PRESETS][PAIRS_MAX]; /* logits of a pair at distance 0 */
	double *recency_sum[SYNTHETIC_PRESETS];       /* [n]: sum of exp(recency logit) over distances 0..n-1 */
	uint32_t recency_cap;
	float exponential[1024];                     /* quantiles of the exponential distribution */
	float token_factor[SYNTHETIC_PRESETS][1024]; /* exp of token_salience times these */
	float *signs;                                /* [layers][kv_heads][d_qk], 1 or -1 */
	struct synthetic_sequence *sequences;
	uint32_t sequence_count;
	float *row, *value;                 /* [d] scratch of kv, padded to 16 */
	float *block_value, *segment_value; /* [kv_heads][d_v padded] */
};

static inline uint32_t synthetic_padded(uint32_t n)
{
	return (n + LANES - 1) / LANES * LANES;
}

/* splitmix64's finaliser, inline for the generator's sake. */
static inline uint64_t synthetic_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static inline uint64_t synthetic_mix2(uint64_t a, uint64_t b)
{
	return synthetic_mix(synthetic_mix(a) ^ (b * 0xd6e8feb86659fd93u));
}

/* Nearly normal, mean 0, variance 1: four uniforms of 16 bits (Irwin-Hall), exact in float. */
static inline float synthetic_normal(uint64_t key)
{
	uint64_t x = synthetic_mix(key);
	int32_t s =
	    (int32_t)(x & 0xffff) + (int32_t)(x >> 16 & 0xffff) + (int32_t)(x >> 32 & 0xffff) + (int32_t)(x >> 48);
	return (float)(s - 131070) * 2.6429e-5f; /* sqrt(3) / 65536 */
}

/* e^x for |x| < 87, relative error about 1e-6, plain float arithmetic. */
static inline float synthetic_exp(float x)
{
	float shifted = x * 1.44269504f + 12582912.0f, n = shifted - 12582912.0f;
	float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
	float p = 1 + r * (1 + r * (0.5f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f))))));
	union {
		float f;
		uint32_t u;
	} scale = {.u = (uint32_t)((int32_t)n + 127) << 23};
	return p * scale.f;
}

static inline int synthetic_preset_of(uint32_t layer)
{
	return (int)(layer % SYNTHETIC_PRESETS);
}

static inline uint32_t synthetic_variate(uint64_t content)
{
	return (uint32_t)(synthetic_mix(content) >> 54);
}

/* Segment that holds token t. */
uint32_t synthetic_segment_at(const struct synthetic_sequence *q, uint32_t t);
/* The last segment ends with the sequence: make its sum over tokens anew. */
void synthetic_sum_last(const struct synthetic *s, struct synthetic_sequence *q);
void synthetic_topic(uint64_t content, uint32_t topics, float *out);

int synthetic_recency_grow(struct synthetic *s, uint32_t tokens, struct ikv_err *err);
double synthetic_recency(const struct synthetic *s, int preset, double distance);

/* The intent of a query head, or the part that all heads of a layer share: its match with a segment is their inner
 * product, in logits. */
#define SYNTHETIC_ALL_HEADS UINT32_MAX
void synthetic_intent(const struct synthetic *s, const struct synthetic_sequence *q, uint32_t layer, uint32_t head,
		      float *out);
void synthetic_focus(struct synthetic *s, struct synthetic_sequence *q);
/* Modelled weight of every segment for one intent into weight [segment_count]; returns their sum. `base` from
 * synthetic_base. Sinks are left out. */
void synthetic_base(const struct synthetic *s, struct synthetic_sequence *q, int preset);
double synthetic_weights(const struct synthetic *s, const struct synthetic_sequence *q, const float *intent,
			 float *weight);

int synthetic_kv(struct source *src, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, uint16_t *k,
		 uint16_t *v, struct ikv_err *err);
int synthetic_query(struct source *src, uint32_t seq, uint32_t layer, float *q, struct ikv_err *err);
int synthetic_prompt(struct source *src, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, float *q,
		     struct ikv_err *err);
int synthetic_scores(struct source *src, uint32_t seq, const struct ikv_layout *layout, double *scores,
		     struct ikv_err *err);
int synthetic_mass(struct source *src, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
		   uint32_t page_tokens, float *mass, struct ikv_err *err);

#endif

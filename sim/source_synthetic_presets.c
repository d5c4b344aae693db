/* Presets of the synthetic source: numbers fitted to recorded attention, and variations of them. */
#include "source_synthetic.h"

#define VALUES .value_block = .6, .value_segment = .6, .value_token = .5

/* Fitted to layers 3 and 7 of recorded agent sessions: docs/synthetic-source.md. */
#define LAYER3                                                                                                       \
	.recency_4 = 0.618, .recency_32 = 1.34, .recency_256 = 1.82, .recency_2048 = 1.08, .salience = 0.302,        \
	.token_salience = 0.542, .topic_slow = 1.76, .topic_mid = 0.589, .topic_fresh = 1.16, .slow_steps = 230,     \
	.mid_steps = 6, .focus = 0.654, .focus_blocks = 2, .group_spread = 0.704, .head_spread = 0.295,              \
	.block_share = 0.3, .noise = 0.609, .kind_weight = 1, VALUES
#define LAYER7                                                                                                       \
	.recency_4 = 0.46, .recency_32 = 0.48, .recency_256 = 1.63, .recency_2048 = 1, .salience = 0.278,            \
	.token_salience = 0.415, .topic_slow = 0.85, .topic_mid = 0.065, .topic_fresh = 1, .slow_steps = 140,        \
	.mid_steps = 4, .focus = 0.387, .focus_blocks = 2, .group_spread = 0.6, .head_spread = 0.37,                 \
	.block_share = 0.3, .noise = 0.3, .kind_weight = 1, VALUES

static const struct synthetic_params layer3 = {LAYER3}, layer7 = {LAYER7};
static const struct synthetic_params layer3_sink = {.sink = .4, LAYER3}, layer7_sink = {.sink = .4, LAYER7};

const char *const synthetic_preset_names[] = {"layer-mix", "agent-layer3", "agent-layer7", "large-sink", NULL};

static const struct synthetic_params *const presets[][SYNTHETIC_PRESETS] = {
    {&layer3, &layer7},
    {&layer3, &layer3},
    {&layer7, &layer7},
    {&layer3_sink, &layer7_sink},
};

/* Natural logarithms: attention per token of a kind against the mean, recency aside. */
const double synthetic_kind_log_weight[IKV_KIND_COUNT] = {
    [IKV_KIND_SYSTEM] = .05,    [IKV_KIND_TOOLS] = 0,      [IKV_KIND_USER] = -.15,      [IKV_KIND_ASSISTANT] = .05,
    [IKV_KIND_REASONING] = .05, [IKV_KIND_TOOL_CALL] = .4, [IKV_KIND_TOOL_OUTPUT] = .1, [IKV_KIND_RETRIEVED] = .1,
    [IKV_KIND_MEMORY] = 0,      [IKV_KIND_OTHER] = 0,
};

void synthetic_preset_get(int choice, struct synthetic_params out[SYNTHETIC_PRESETS])
{
	for (int i = 0; i < SYNTHETIC_PRESETS; i++)
		out[i] = *presets[choice][i];
}

/* Presets of the synthetic source: numbers fitted to recorded attention, and variations of them. */
#include "source_synthetic.h"

#define VALUES .value_block = .6, .value_segment = .6, .value_token = .5

/* Fitted to layers 3 and 7 of recorded agent sessions: docs/synthetic-source.md. */
#define LAYER3                                                                                                       \
	.recency_4 = 1.0, .recency_32 = .9, .recency_256 = .5, .recency_2048 = .4, .salience = .8,                   \
	.token_salience = .6, .topic_slow = 1, .topic_mid = 1, .topic_fresh = .8, .slow_steps = 128, .mid_steps = 8, \
	.focus = 1.5, .focus_blocks = 2, .group_spread = .15, .head_spread = .25, .block_share = .3, .noise = 1,     \
	.kind_weight = 1, VALUES
#define LAYER7                                                                                                       \
	.recency_4 = .5, .recency_32 = .8, .recency_256 = .8, .recency_2048 = .7, .salience = .3,                    \
	.token_salience = .6, .topic_slow = .8, .topic_mid = .5, .topic_fresh = .8, .slow_steps = 128,               \
	.mid_steps = 16, .focus = 1, .focus_blocks = 2, .group_spread = .15, .head_spread = .35, .block_share = .3,  \
	.noise = 1, .kind_weight = 1, VALUES

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
    [IKV_KIND_SYSTEM] = .05,	 [IKV_KIND_TOOLS] = 0,	    [IKV_KIND_USER] = -.15,	[IKV_KIND_ASSISTANT] = .05,
    [IKV_KIND_REASONING] = .05,	 [IKV_KIND_TOOL_CALL] = .4, [IKV_KIND_TOOL_OUTPUT] = .1, [IKV_KIND_RETRIEVED] = .1,
    [IKV_KIND_MEMORY] = 0,	 [IKV_KIND_OTHER] = 0,
};

void synthetic_preset_get(int choice, struct synthetic_params out[SYNTHETIC_PRESETS])
{
	for (int i = 0; i < SYNTHETIC_PRESETS; i++)
		out[i] = *presets[choice][i];
}

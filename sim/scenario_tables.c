/* Option tables of the scenario's sections. */
#include "sim/scenario.h"

#define AT(type, field) offsetof(struct type, field)

const char *const backend_names[] = {"auto", "cpu", "ref", "cuda", NULL};
static const char *const execute_names[] = {"off", "sampled", "full", NULL};
static const char *const session_sources[] = {"generate", "trace", "capture", NULL};
static const char *const policies[] = {"ALWAYS", "ATTEND", "SKIP", "RECENT", "GLOBAL", NULL};

const struct ikv_option scenario_top_options[] = {
    {"name", IKV_OPT_STRING, AT(scenario, name), "", 0, 0, NULL, "name of the scenario; names its runs"},
    {"description", IKV_OPT_STRING, AT(scenario, description), "", 0, 0, NULL, "the question it answers"},
    {"seed", IKV_OPT_INT, AT(scenario, seed), "42", 0, 9e15, NULL, "seed of every random stream"},
    IKV_OPTION_END};

const struct ikv_option scenario_model_options[] = {
    {"preset", IKV_OPT_STRING, AT(model_config, preset), "llama-3-8b", 0, 0, NULL,
     "model whose geometry is used; `intentkv list models`"},
    {"layers", IKV_OPT_INT, AT(model_config, layers), "0", 0, SCENARIO_MODEL_LAYERS_MAX, NULL,
     "layers that are costed; 0: the preset's"},
    {"q_heads", IKV_OPT_INT, AT(model_config, q_heads), "0", 0, 1024, NULL, "query heads; 0: the preset's"},
    {"kv_heads", IKV_OPT_INT, AT(model_config, kv_heads), "0", 0, 1024, NULL, "KV heads; 0: the preset's"},
    {"head_dim", IKV_OPT_INT, AT(model_config, head_dim), "0", 0, 1024, NULL, "head dimension; 0: the preset's"},
    {"latent_dim", IKV_OPT_INT, AT(model_config, latent_dim), "0", 0, 4096, NULL,
     "channels of the latent that all heads share (MLA); 0: the preset's, which may have none"},
    {"rope_dim", IKV_OPT_INT, AT(model_config, rope_dim), "0", 0, 1024, NULL,
     "channels of the key that carries the position beside a latent; 0: the preset's"},
    {"executed_layers", IKV_OPT_INT, AT(model_config, executed_layers), "1", 1, SCENARIO_MODEL_LAYERS_MAX, NULL,
     "layers that really run; each stands for layers / executed_layers of the model"},
    {"weights", IKV_OPT_BYTES, AT(model_config, weight_bytes), "0", 0, 0, NULL,
     "bytes of weights read per step; 0: two a parameter of the preset"},
    IKV_OPTION_END};

const struct ikv_option scenario_sessions_options[] = {
    {"source", IKV_OPT_ENUM, AT(sessions_config, source), "generate", 0, 0, session_sources,
     "generate (from a profile), trace (a file or folder), capture (recorded with the K and V)"},
    {"path", IKV_OPT_STRING, AT(sessions_config, path), "", 0, 0, NULL, "trace: file or folder"},
    {"format", IKV_OPT_STRING, AT(sessions_config, format), "auto", 0, 0, NULL,
     "trace: format, or auto; `intentkv list importers`"},
    {"tokenizer", IKV_OPT_STRING, AT(sessions_config, tokenizer), "", 0, 0, NULL,
     "trace: a Hugging Face tokenizer.json that counts the tokens of text; without one, four code points are a "
     "token"},
    {"profile", IKV_OPT_STRING, AT(sessions_config, generate.profile), "coding-agent", 0, 0, NULL,
     "generate: profile name or path of a profile YAML"},
    {"count", IKV_OPT_INT, AT(sessions_config, generate.count), "4", 1, 1e6, NULL, "generate: sessions"},
    {"context_tokens", IKV_OPT_INT, AT(sessions_config, generate.context_tokens), "0", 0, 4e6, NULL,
     "generate: context that sessions grow to; 0: as the profile says"},
    {"turns", IKV_OPT_INT, AT(sessions_config, generate.turns), "0", 0, 1e5, NULL,
     "generate: turns a session; 0: as the profile says"},
    {"max_decode_tokens", IKV_OPT_INT, AT(sessions_config, max_decode_tokens), "0", 0, 1e9, NULL,
     "decode steps a session at most, 0: all; a session that is cut says so"},
    {"steps_per_turn", IKV_OPT_INT, AT(sessions_config, steps_per_turn), "0", 0, 1e9, NULL,
     "decode steps played at most for each generated block, its last ones; the tokens before them enter the context "
     "at once. 0: all"},
    {"limit", IKV_OPT_INT, AT(sessions_config, limit), "0", 0, 1e9, NULL, "sessions taken at most, 0: all"},
    {"max_context_tokens", IKV_OPT_INT, AT(sessions_config, max_context_tokens), "0", 0, 4e9, NULL,
     "sessions are cut before their context exceeds this, 0: never"},
    {"batch", IKV_OPT_INT, AT(sessions_config, batch), "4", 1, 4096, NULL, "sessions alive at once"},
    {"waits", IKV_OPT_BOOL, AT(sessions_config, waits), "true", 0, 0, NULL,
     "honour arrival times and waits on the simulated clock; false: sessions are always ready"},
    {"skip_bad", IKV_OPT_BOOL, AT(sessions_config, skip_bad), "false", 0, 0, NULL,
     "trace: count broken records and go on (--skip-bad)"},
    IKV_OPTION_END};

const struct ikv_option scenario_attention_options[] = {
    {"backend", IKV_OPT_ENUM, AT(attention_config, backend), "auto", 0, 0, backend_names,
     "who computes attention; auto is cpu, a CUDA device is used when asked for by name"},
    {"execute", IKV_OPT_ENUM, AT(attention_config, execute), "sampled", 0, 0, execute_names,
     "off: policies and cost model only, page scorers see the modelled mass itself (quest picks as the oracle does); "
     "sampled: real attention every n-th step; full: every step"},
    {"every", IKV_OPT_INT, AT(attention_config, every), "16", 1, 1e9, NULL, "sampled: n"},
    {"cold", IKV_OPT_BOOL, AT(attention_config, cold), "false", 0, 0, NULL,
     "empty the caches before attention is timed, as the layers that are not executed would, and keep FMA in use for 2 ms, "
     "as their products would: 256 MiB are read each time. Each call is made three times and the shortest counts (cuda: "
     "once)"},
    {"prefill", IKV_OPT_BOOL, AT(attention_config, prefill), "false", 0, 0, NULL,
     "run the attention of prompts too, causal over all earlier pages as they are stored, and record its time (query "
     "prefill); backends cpu and ref"},
    {"device_scores", IKV_OPT_BOOL, AT(attention_config, device_scores), "true", 0, 0, NULL,
     "a backend that can (cuda) makes the page scores of scorer quest, and the choice of router quest, on its device; "
     "false: on the CPU, with the same results"},
    {"threads", IKV_OPT_INT, AT(attention_config, threads), "0", 0, 1024, NULL, "threads; 0: the machine's cores"},
    {"isa", IKV_OPT_STRING, AT(attention_config, isa), "auto", 0, 0, NULL,
     "instruction set of the kernels; INTENTKV_ISA overrides; `intentkv doctor`"},
    IKV_OPTION_END};

#define KIND(kind, name, def)                                                                                        \
	{                                                                                                            \
		name, IKV_OPT_ENUM, AT(intent_config, policy) + (kind) * sizeof(int), def, 0, 0, policies,           \
		    "policy of " name " blocks"                                                                      \
	}
const struct ikv_option scenario_intent_options[] = {
    KIND(IKV_KIND_SYSTEM, "system", "ALWAYS"),
    KIND(IKV_KIND_TOOLS, "tools", "GLOBAL"),
    KIND(IKV_KIND_USER, "user", "ATTEND"),
    KIND(IKV_KIND_ASSISTANT, "assistant", "ATTEND"),
    KIND(IKV_KIND_REASONING, "reasoning", "SKIP"),
    KIND(IKV_KIND_TOOL_CALL, "tool_call", "ATTEND"),
    KIND(IKV_KIND_TOOL_OUTPUT, "tool_output", "ATTEND"),
    KIND(IKV_KIND_RETRIEVED, "retrieved", "ATTEND"),
    KIND(IKV_KIND_MEMORY, "memory", "ALWAYS"),
    KIND(IKV_KIND_OTHER, "other", "ATTEND"),
    {"recent_window_tokens", IKV_OPT_INT, AT(intent_config, recent_window_tokens), "-1", -1, 1e9, NULL,
     "newest tokens kept as RECENT by routers that have such a window; -1: the router's own value"},
    IKV_OPTION_END};

const struct ikv_option scenario_pressure_options[] = {{"memory_pressure", IKV_OPT_STRING,
							AT(router_config, pressure), "0.5", 0, 0, NULL,
							"0 to 1, or auto: the fast tier's occupancy"},
						       IKV_OPTION_END};

const struct ikv_option scenario_formats_options[] = {
    {"ladder", IKV_OPT_STRING, AT(formats_config, ladder), "seed", 0, 0, NULL,
     "preset that maps policy, score and pressure to a format; `intentkv list ladders`"},
    {"high", IKV_OPT_REAL, AT(formats_config, high), "-1", -1, 1, NULL, "score of the high band; -1: the ladder's"},
    {"medium", IKV_OPT_REAL, AT(formats_config, medium), "-1", -1, 1, NULL,
     "score of the medium band; -1: the ladder's"},
    IKV_OPTION_END};

const struct ikv_option scenario_memory_options[] = {{"page_tokens", IKV_OPT_INT, AT(memory_section, page_tokens),
						      "16", 1, IKV_PAGE_TOKENS_MAX, NULL, "tokens a page"},
						     IKV_OPTION_END};

const struct ikv_option scenario_cost_options[] = {
    {"machine", IKV_OPT_STRING, AT(scenario, machine_name), "h200", 0, 0, NULL,
     "machine profile: a name from machines/ or a path; `intentkv list machines`"},
    IKV_OPTION_END};

const struct ikv_option scenario_record_options[] = {
    {"roles", IKV_OPT_BOOL, AT(record_config, roles), "true", 0, 0, NULL, "a row per role where mass is known"},
    {"modelled_mass", IKV_OPT_BOOL, AT(record_config, modelled_mass), "false", 0, 0, NULL,
     "the source's modelled mass in every step where attention did not run (mass_by = model); at level off every "
     "n-th step has it anyway. Costs up to a millisecond a step"},
    {"block_events", IKV_OPT_BOOL, AT(record_config, block_events), "false", 0, 0, NULL,
     "every decision about every block"},
    {"page_events", IKV_OPT_BOOL, AT(record_config, page_events), "false", 0, 0, NULL, "every page that moved"},
    IKV_OPTION_END};

const struct section sections[] = {
    {"", "Name, description and seed", scenario_top_options},
    {"model", "geometry of the model", scenario_model_options},
    {"sessions", "where the agent sessions come from", scenario_sessions_options},
    {"kv", "where K, V and Q come from: `source` and its options", NULL},
    {"attention", "who computes attention and how often", scenario_attention_options},
    {"intent", "what each kind of block is for", scenario_intent_options},
    {"scorer", "query × block → score: `policy` and its options", NULL},
    {"router", "which tokens are read: `policy` and its options", scenario_pressure_options},
    {"formats", "the precision ladder: a preset, or `rules` of its own", scenario_formats_options},
    {"memory", "pages, `tiers`, `residency` and the manager", scenario_memory_options},
    {"prefetch", "which pages come next: `policy` and its options", NULL},
    {"specattn", "blocks kept between verifications; speculative decoding", ikv_specattn_options},
    {"cost", "the cost model's machine", scenario_cost_options},
    {"record", "what is written besides steps", scenario_record_options},
    {"sweep",
     "`key: [values]` or `key: {from, to, count, scale}`: one run for each combination; beside the keys, `list`, `zip`, "
     "`random`, `where`, `repeat` and `refine` ([sweeps.md](sweeps.md))",
     NULL},
    {.name = NULL},
};

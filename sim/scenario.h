/* Scenarios: one YAML file says everything a run needs. docs/scenario.md is generated from the tables here.
 *
 * A scenario is read into a tree with places, overridden (`-s key=value`, sweep points), and resolved into
 * plain structs: one per section, each with its option table. Policy sections hold `policy` and the options
 * of the policy that it names. */
#ifndef SIM_SCENARIO_H
#define SIM_SCENARIO_H

#include <intentkv.h>
#include "sim/session.h"
#include "sim/source.h"
#include "sim/sweep_axes.h"
#include "sim/yaml.h"

enum { SCENARIO_MODEL_LAYERS_MAX = 256, SCENARIO_RULES_MAX = 128 };

struct model_config {
	char preset[IKV_OPT_STRING_BYTES];
	int64_t layers, q_heads, kv_heads, head_dim, latent_dim, rope_dim; /* 0: as the preset says */
	int64_t executed_layers;
	int64_t weight_bytes; /* of the whole model; 0: as the preset says */
};
struct model_preset {
	const char *name;
	uint32_t layers, q_heads, kv_heads, head_dim;
	/* Latent attention (MLA): pages hold rope_dim + latent_dim values a token and layer for all heads, kv_heads
	 * is 1; head_dim is that of a head's values, and of its keys without the rope_dim channels that carry the
	 * position. 0: K and V of each KV head. */
	uint32_t latent_dim, rope_dim;
	double parameters;
	const char *source;
};
extern const struct model_preset model_presets[]; /* NULL name ends it */
/* Values stored a token and layer. */
uint64_t model_kv_values(const struct model_preset *m);
/* Stored bytes of a page of one KV head. */
uint64_t model_page_bytes(const struct ikv_geometry *g, enum ikv_format f);
/* Heads, dimensions and scale; the rest of *g is left alone. */
void model_geometry(const struct model_preset *m, struct ikv_geometry *g);

enum sessions_source { SESSIONS_GENERATE, SESSIONS_TRACE, SESSIONS_CAPTURE };
struct sessions_config {
	int source; /* enum sessions_source */
	char path[IKV_OPT_STRING_BYTES], format[IKV_OPT_STRING_BYTES], tokenizer[IKV_OPT_STRING_BYTES];
	struct generate_config generate;
	int64_t limit, batch, max_context_tokens, max_decode_tokens, steps_per_turn;
	bool waits, skip_bad;
};

enum execute_level { EXECUTE_OFF, EXECUTE_SAMPLED, EXECUTE_FULL };
struct attention_config {
	int backend; /* index into backend names */
	int execute; /* enum execute_level */
	int64_t every, threads;
	bool cold, device_scores, prefill;
	char isa[IKV_OPT_STRING_BYTES];
};
extern const char *const backend_names[]; /* auto, cpu, ref, cuda, NULL */

struct intent_config {
	int policy[IKV_KIND_COUNT];   /* enum ikv_policy by kind */
	int64_t recent_window_tokens; /* -1: as the router says */
};

struct router_config {                       /* what every router takes, besides its own options */
	char pressure[IKV_OPT_STRING_BYTES]; /* a number or "auto" */
	double memory_pressure;
	bool pressure_auto;
};

struct formats_config {
	char ladder[IKV_OPT_STRING_BYTES];
	double high, medium; /* score bands; -1: as the ladder says */
};

struct memory_section {
	int64_t page_tokens;
	struct ikv_memory_config manager;
};

struct record_config {
	bool roles, block_events, page_events, modelled_mass;
};

/* A policy chosen from a table, with its config filled in. */
struct policy_choice {
	const char *name;
	const struct ikv_option *options;
	void *config; /* owned; config_bytes of the policy */
};

struct param {
	char key[96], value[IKV_OPT_STRING_BYTES];
	const char *origin; /* default, scenario, command-line, sweep */
};

struct scenario {
	char name[IKV_OPT_STRING_BYTES], description[IKV_OPT_STRING_BYTES];
	const char *file; /* borrowed from the document */
	int64_t seed;
	struct model_config model;
	struct model_preset preset; /* the model after overrides */
	struct sessions_config sessions;
	const struct source_ops *source;
	struct policy_choice kv, scorer, router, prefetch, residency;
	const struct ikv_scorer_ops *scorer_ops;
	const struct ikv_router_ops *router_ops;
	const struct ikv_prefetcher_ops *prefetch_ops;
	const struct ikv_residency_ops *residency_ops;
	struct attention_config attention;
	struct intent_config intent;
	struct router_config pressure;
	struct formats_config formats;
	struct ikv_ladder ladder;
	struct ikv_ladder_rule rules[SCENARIO_RULES_MAX]; /* when the scenario gives its own */
	struct memory_section memory;
	struct ikv_tier tiers[IKV_TIERS_MAX];
	uint32_t tier_count;
	struct ikv_specattn_config specattn;
	char machine_name[IKV_OPT_STRING_BYTES];
	struct ikv_machine machine;
	struct record_config record;
	struct param *params;
	uint32_t param_count, param_cap;
};

/* The file with its overrides applied, before the sweep. */
struct scenario_doc {
	char *path;
	char *text; /* as read, for the record */
	struct yaml_node *root;
	bool allow_path; /* it may name files outside its own folder */
};

int scenario_read(const char *path, struct scenario_doc *doc, struct ikv_err *err);
void scenario_doc_free(struct scenario_doc *doc);
/* Apply "key.path=value"; the value is YAML. */
int scenario_override(struct scenario_doc *doc, const char *assignment, struct ikv_err *err);

/* Resolve one point into `out`: every key checked, every value typed, every reference found. */
int scenario_resolve(const struct scenario_doc *doc, const struct yaml_node *root, struct scenario *out,
		     struct ikv_err *err);
void scenario_free(struct scenario *s);
/* Make the paths of the file relative to the working folder; refuse those outside the scenario's folder, and a
 * profile that is not there. */
int scenario_paths(const struct scenario_doc *doc, const struct yaml_node *root, struct scenario *s,
		   struct ikv_err *err);
/* The same for one path of `size` bytes, which came from `n` (NULL: a default). */
int scenario_place(const struct scenario_doc *doc, const struct yaml_node *n, const char *key, char *path,
		   size_t size, struct ikv_err *err);

/* Sections and their option tables, for `list` and the generated reference. */
struct section {
	const char *name, *summary;
	const struct ikv_option *options; /* what the section itself takes */
};
extern const struct section sections[]; /* NULL name ends it */

extern const struct ikv_option scenario_model_options[], scenario_sessions_options[], scenario_attention_options[],
    scenario_intent_options[], scenario_pressure_options[], scenario_formats_options[], scenario_memory_options[],
    scenario_record_options[], scenario_top_options[], scenario_cost_options[];

/* machines/<name>.yaml, or a path. */
int machine_read(const char *name, struct ikv_machine *out, struct ikv_err *err);

#endif

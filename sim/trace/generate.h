/* Profiles of agent sessions, by model: what a profile holds and how sessions come from it. */
#ifndef SIM_TRACE_GENERATE_H
#define SIM_TRACE_GENERATE_H

#include "sim/session.h"
#include "sim/trace/draw.h"

struct generate_model {
	const char *name, *summary;
	size_t size; /* of its profile */
	/* From the YAML's root into a zeroed profile, which `release` frees also after a failure. */
	int (*read)(const struct yaml_node *root, const char *path, void *profile, struct ikv_err *err);
	void (*release)(void *profile);
	int (*generate)(const void *profile, const struct generate_config *config, uint64_t seed,
			struct session_list *out, struct ikv_err *err);
	uint32_t (*sessions)(const void *profile); /* of the trace it was fitted on; NULL: none */
};
extern const struct generate_model generate_pieces, generate_requests, generate_agentic_code;

struct generate_profile {
	const struct generate_model *model;
	void *data;
};

/* Keys that every model takes: profile, model, source. */
#define GENERATE_KEYS "profile", "model", "source"

/* Value of a key that must be there. */
const struct yaml_node *generate_need(const struct yaml_node *map, const char *path, const char *key,
				      struct ikv_err *err);

#endif

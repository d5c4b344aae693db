/* Parts of resolving a scenario that scenario.c delegates. Each returns -1 with a located message. */
#ifndef SIM_SCENARIO_PARTS_H
#define SIM_SCENARIO_PARTS_H

#include "sim/scenario.h"

/* `memory.tiers`: a list of {name, capacity}; without it one unbounded tier. */
int scenario_tiers(const struct yaml_node *n, const char *file, struct scenario *s, struct ikv_err *err);
/* `formats`: a ladder preset, its thresholds, or `rules` of the scenario's own. */
int scenario_formats(const struct yaml_node *n, const char *file, struct scenario *s, struct ikv_err *err);
/* A model with a latent: its dimensions, and ladder, formats and floor that its pages can be kept in. */
int scenario_latent_model(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err);
int scenario_latent_formats(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err);
/* What single keys cannot see: combinations that make no sense, and paths. */
int scenario_cross_check(const struct yaml_node *root, const char *file, struct scenario *s, struct ikv_err *err);
/* Every effective option with its origin, for run_param. */
int scenario_params(const struct yaml_node *root, struct scenario *s, struct ikv_err *err);

#endif

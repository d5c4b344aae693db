/* The `sweep` section: which points there are. docs/sweeps.md describes it. Every axis is a dimension; points are
 * the cross product in the order written, the last fastest, without those that a condition leaves out. */
#ifndef SIM_SWEEP_AXES_H
#define SIM_SWEEP_AXES_H

#include <stdbool.h>
#include "sim/yaml.h"

struct scenario_doc;

struct sweep_point {
	char *label;            /* "quest budget=5%"; empty without a sweep */
	struct yaml_node *root; /* the document with the point's values put in */
};
struct sweep_axis { /* a numeric axis, along which refinement looks for points in between */
	char key[160], unit[8];
	bool log, whole;
};
enum { SWEEP_AXES_MAX = 32, SWEEP_POINTS_MAX = 100000 };
struct sweep {
	struct sweep_point *points; /* owned */
	uint32_t count, cap;
	uint32_t excluded; /* combinations that a condition left out */
	struct sweep_axis axes[SWEEP_AXES_MAX];
	uint32_t axis_count;
	char *keys[SWEEP_AXES_MAX]; /* of all axes, in order; owned */
	uint32_t key_count;
	uint32_t refine_rounds, refine_points; /* 0: no refinement */
};
int scenario_sweep(const struct scenario_doc *doc, struct sweep *out, struct ikv_err *err);
void scenario_sweep_free(struct sweep *sweep);
void scenario_sweep_point_free(struct sweep_point *point);
/* One more point: `root` (taken over, also on failure) with the label of its values. */
int scenario_sweep_add(struct sweep *sweep, struct yaml_node *root, const char *label, struct ikv_err *err);

/* A number with a unit as scenarios have it (5%, 64KiB, 0.5): its value in basic units, the number before the
 * unit, and the unit. -1 if it is none. */
int sweep_number(const char *text, double *value, double *plain, char unit[8]);
/* Place `i` of `n` between two numbers, evenly on a linear or logarithmic scale, as text with the unit. */
void sweep_between(double from, double to, double share, bool log, bool whole, const char *unit, char *text,
		   size_t size);
/* Does this key take whole numbers only? */
bool sweep_key_is_whole(const char *key, double from, const char *unit);
/* Value of a dotted key in a tree, NULL if absent. */
const struct yaml_node *sweep_value(const struct yaml_node *root, const char *key);
/* Default of a key as text, NULL if no section or policy has it. */
const char *sweep_default(const char *key);
/* A scalar that stands at the place of `at`. NULL when memory is out. */
struct yaml_node *sweep_scalar(const char *text, const struct yaml_node *at);

/* sweep_where.c: does the point meet the condition? */
int sweep_where(const char *file, const struct yaml_node *condition, const struct yaml_node *root, bool *met,
		struct ikv_err *err);

/* sweep_range.c: a list of numbers in one unit is a linear axis for refinement; `from, to, count, scale` as a list of
 * values, appended to `list` as children; and a draw. */
void sweep_numbers(const char *key, const struct yaml_node *list, struct sweep *sweep);
int sweep_range(const char *file, const char *key, const struct yaml_node *range, struct sweep *sweep,
		struct yaml_node *list, struct ikv_err *err);
int sweep_draw(const char *file, const char *key, const struct yaml_node *from, uint64_t seed, uint64_t sample,
	       struct sweep *sweep, struct yaml_node **value, struct ikv_err *err);
int sweep_push(struct yaml_node *list, struct yaml_node *value, struct ikv_err *err);

#endif

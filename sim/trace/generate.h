/* Profiles of agent sessions: what is drawn from which distribution. */
#ifndef SIM_TRACE_GENERATE_H
#define SIM_TRACE_GENERATE_H

#include "sim/session.h"

enum draw_shape { DRAW_CONSTANT, DRAW_UNIFORM, DRAW_NORMAL, DRAW_LOGNORMAL, DRAW_EXPONENTIAL, DRAW_GEOMETRIC };

struct draw {
	enum draw_shape shape;
	double a, b; /* constant a; uniform a..b; normal mean a, sd b; lognormal median a, sigma b; else mean a */
};

/* In the order of generate_keys in generate_profile.c. */
enum generate_draw {
	GEN_TURNS,
	GEN_ARRIVAL_MS,
	GEN_THINK_MS,
	GEN_TOOL_MS,
	GEN_SYSTEM,
	GEN_TOOLS,
	GEN_USER,
	GEN_REASONING,
	GEN_ASSISTANT,
	GEN_TOOL_CALL,
	GEN_TOOL_OUTPUT,
	GEN_RETRIEVED,
	GEN_MEMORY,
	GEN_DRAWS
};
enum generate_chance { P_REASONING, P_TOOL_CALL, P_ASSISTANT_TEXT, P_RETRIEVED, P_COMPACTION, GEN_CHANCES };

struct generate_profile {
	struct draw draws[GEN_DRAWS];
	double chances[GEN_CHANCES];
};

#endif

/* Figures of a trace's statistics; `trace-stats -o`. */
#ifndef SIM_TRACE_FIGURES_H
#define SIM_TRACE_FIGURES_H

#include "sim/trace/stats.h"

/* Draw what the trace has data for in `folder`, made if absent. Returns the exit code; says what failed. */
int trace_figures(const struct trace_stats *s, const char *folder);

#endif

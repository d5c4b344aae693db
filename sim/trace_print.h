/* Statistics of a trace on stdout, as `trace-stats` and `generate` print them. */
#ifndef SIM_TRACE_PRINT_H
#define SIM_TRACE_PRINT_H

#include "sim/trace/stats.h"

/* Both return an exit code. */
int trace_print(const struct trace_stats *s, bool json);
/* --format: table or json; says what it expected otherwise. */
int trace_print_format(const char *command, const char *text, bool *json);

#endif

/* Dates and times of day in traces. */
#ifndef SIM_TRACE_TIMESTAMP_H
#define SIM_TRACE_TIMESTAMP_H

#include <intentkv.h>

/* "YYYY-MM-DD HH:MM:SS", or T for the blank; up to 9 digits of a fraction and a zone (Z, +HH:MM, -HHMM) may follow,
 * UTC without one (RFC 3339, and what spreadsheets make of it). Nanoseconds since 1970; false if it is no such time
 * or lies outside 1970 to 2261. */
bool timestamp_read(const char *text, int64_t *out_ns);

#endif

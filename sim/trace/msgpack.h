/* MessagePack (msgpack.org, specification of 2013) as JSON values: numbers, strings, lists and maps with string keys;
 * bytes become strings "0x" and hex digits, unsigned numbers from 2^63 the strings that json_id takes. Debian and
 * Ubuntu disagree about the name of a packaged decoder, and the little that is needed is here. */
#ifndef SIM_TRACE_MSGPACK_H
#define SIM_TRACE_MSGPACK_H

#include <jansson.h>
#include "sim/trace/input.h"

/* The next value of the file: 1 and *out, which the caller must release; 0 at the end; -1. Values of more than 64 MB
 * or 64 levels are refused. `number` of the value, from 1, stands for a line in messages. */
int msgpack_next(struct trace_input *in, int number, json_t **out, struct ikv_err *err);

#endif

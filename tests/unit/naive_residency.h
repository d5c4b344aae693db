/* Residency policies written as plainly as possible, over lists that are searched from one end to the other: what
 * the engine's must agree with. One call plays a whole trace and returns its misses. */
#ifndef TESTS_NAIVE_RESIDENCY_H
#define TESTS_NAIVE_RESIDENCY_H

#include <stdint.h>

struct naive_trace {
	const uint32_t *slots, *bytes; /* [count] */
	uint32_t count;
	uint64_t capacity;
};
uint64_t naive_misses(const char *policy, const struct naive_trace *t);

#endif

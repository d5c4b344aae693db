/* Tables for unicode_normalize.c, each in ascending order; unicode_table.c is generated. */
#ifndef SIM_UNICODE_TABLE_H
#define SIM_UNICODE_TABLE_H

#include <stdint.h>

struct unicode_class { /* canonical combining class, other than 0 */
	uint32_t from, to;
	uint32_t class;
};
struct unicode_single { /* a code that decomposes into one other */
	uint32_t code, to;
};
struct unicode_pair { /* a code that decomposes into two */
	uint32_t code, first, second;
};
extern const struct unicode_class unicode_classes[];
extern const struct unicode_single unicode_singles[];
extern const struct unicode_pair unicode_pairs[];
/* Places in unicode_pairs of those that compose again, by (first, second). */
extern const uint16_t unicode_composed[];
/* Codes of class 0 that compose with what stands before them. */
extern const uint32_t unicode_joining[];
extern const uint32_t unicode_classes_count, unicode_singles_count, unicode_pairs_count, unicode_composed_count,
    unicode_joining_count;

#endif

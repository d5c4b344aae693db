/* Instruction sets of this build: one row each, best first. */
#ifndef ATTN_ISA_H
#define ATTN_ISA_H

#include "attn/lanes.h"
#include "intentkv/attn.h"

struct micro_kernels;

struct isa_row {
	struct ikv_isa_info info;
	const struct lanes_kernels *lanes;
	const struct micro_kernels *micro; /* NULL: the CPU backend has no kernels for it */
};

/* The micro-kernels called `name` ("auto" or NULL: the best usable); NULL with IKV_UNAVAILABLE if there are none. */
const struct micro_kernels *isa_micro(const char *name, struct ikv_err *err);
/* Those of the ISA selected for scores, or the best usable where that has none. */
const struct micro_kernels *isa_micro_selected(void);

#endif

/* The capture source's parts; internal to sim/source_capture*.c. */
#ifndef SIM_SOURCE_CAPTURE_H
#define SIM_SOURCE_CAPTURE_H

#include "keys.h"
#include "safetensors.h"
#include "source.h"

struct capture_block {
	char *name; /* owned */
	enum ikv_kind kind;
	uint32_t start, end;
};

struct capture_layer {
	uint32_t number;
	uint16_t *k, *v;  /* [tokens][kv_heads][d]; owned */
	float *q;         /* [queries][q_heads][d]; owned */
	struct keys keys; /* k again, for scoring */
};

struct capture {
	const struct source_ops *ops;
	char path[IKV_OPT_STRING_BYTES];
	struct ikv_geometry geometry;
	struct capture_layer *layers; /* [geometry.layers] */
	uint32_t tokens, queries;
	uint32_t *positions; /* [queries] ascending */
	struct capture_block *blocks;
	uint32_t block_count;
	uint32_t *lengths; /* [sequences] tokens of the context now */
	uint32_t sequences;
	double *weights, *mass; /* [tokens] */
};

/* Fill `c` from the file: the layers that `layers` names (empty: all), whose numbers go to setup. */
int source_capture_load(struct capture *c, struct safetensors *f, const char *layers, struct source_setup *setup,
			struct ikv_err *err);

#endif

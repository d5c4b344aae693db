/* Pieces of a query row's attention, each with its own largest score, to one answer. */
#ifndef ATTN_JOIN_H
#define ATTN_JOIN_H

#include <stddef.h>
#include <stdint.h>

struct join {
	uint32_t pieces;
	const float *acc; /* weighted sums [d_v] of each piece, acc_step floats apart */
	size_t acc_step;
	const double *sums; /* largest score and sum of exponentials of each piece, sums_step doubles apart */
	size_t sums_step;
	/* Per page, or NULL: weights summed, of which `shifts` tells what score they are relative to. */
	float *mass;
	const float *shifts;
	uint32_t pages;
};

/* In the order of the pieces. Mass becomes the share of the whole; lse may be NULL, out too where d_v is 0. */
void join_row(const struct join *j, uint32_t d_v, float *out, float *lse);

#endif

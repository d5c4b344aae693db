#include <math.h>
#include <string.h>
#include "attn/join.h"

static void join_mass(const struct join *j, double top, double sum)
{
	double shift = top, factor = sum > 0 ? 1 / sum : 0;
	for (uint32_t i = 0; i < j->pages; i++) {
		double from = j->shifts[i];
		if (from != shift) { /* changes seldom: the running maximum settles */
			shift = from;
			factor = sum > 0 ? exp(shift - top) / sum : 0;
		}
		j->mass[i] = (float)(j->mass[i] * factor);
	}
}

typedef float vec4 __attribute__((vector_size(16)));

/* out += weight · acc */
static void add_piece(float weight, const float *acc, uint32_t n, float *out)
{
	uint32_t d = 0;
	for (; d + 4 <= n; d += 4) {
		vec4 sum, x;
		memcpy(&sum, out + d, sizeof sum);
		memcpy(&x, acc + d, sizeof x);
		sum += weight * x;
		memcpy(out + d, &sum, sizeof sum);
	}
	for (; d < n; d++)
		out[d] += weight * acc[d];
}

void join_row(const struct join *j, uint32_t d_v, float *out, float *lse)
{
	double top = -INFINITY, sum = 0;
	for (uint32_t k = 0; k < j->pieces; k++)
		top = fmax(top, j->sums[k * j->sums_step]);
	if (d_v)
		memset(out, 0, d_v * sizeof *out);
	for (uint32_t k = 0; k < j->pieces; k++) {
		const double *piece = j->sums + k * j->sums_step;
		if (piece[1] > 0)
			sum += piece[1] * exp(piece[0] - top);
	}
	for (uint32_t k = 0; k < j->pieces && sum > 0; k++) {
		const double *piece = j->sums + k * j->sums_step;
		if (piece[1] > 0)
			add_piece((float)(exp(piece[0] - top) / sum), j->acc + k * j->acc_step, d_v, out);
	}
	if (lse)
		*lse = sum > 0 ? (float)(top + log(sum)) : -INFINITY;
	if (j->mass)
		join_mass(j, top, sum);
}

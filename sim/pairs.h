/* Two runs step by step: pairs of steps with the same session and number, and what they tell. */
#ifndef SIM_PAIRS_H
#define SIM_PAIRS_H

#include <stdbool.h>
#include <intentkv.h>

enum { PAIR_METRICS = 9 };
struct pair_metric {
	const char *name, *unit, *label;
	int better; /* -1: less is better, 1: more */
};
extern const struct pair_metric pair_metrics[PAIR_METRICS]; /* columns of v_step */

struct pairs {
	uint64_t count, cap;
	int64_t *session, *step;                        /* owned */
	double *a[PAIR_METRICS], *b[PAIR_METRICS];      /* owned; NaN where a step lacks it */
	uint64_t only_a, only_b;                        /* steps without a partner */
	uint64_t differing;                             /* pairs whose decisions differ */
	int64_t first_session, first_step, first_batch; /* of the first of them by order of the step loop; -1: none */
};

/* The two runs may lie in different files. */
int pairs_read(const char *db_a, int64_t run_a, const char *db_b, int64_t run_b, struct pairs *out,
	       struct ikv_err *err);
void pairs_free(struct pairs *p);

struct pair_result {
	uint64_t count, better, worse;                /* pairs with both values; of B against A */
	double mean_a, mean_b, difference, low, high; /* B - A; the bootstrap's 95 % interval of its mean */
	double effect;  /* Cohen's d of paired differences: mean by standard deviation; 0 where all are equal */
	uint32_t block; /* pairs that are drawn together */
};
/* Circular block bootstrap (Politis and Romano 1992): steps of a session resemble those before them, so blocks of
 * consecutive pairs of one session are drawn, n^(1/3) long, `rounds` resamples. */
int pairs_compare(const struct pairs *p, int metric, uint32_t rounds, uint64_t seed, struct pair_result *out,
		  struct ikv_err *err);

#endif

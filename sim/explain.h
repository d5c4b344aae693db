/* One step of a run, looked into: what each unit decided about each block, and what the oracle would have done. */
#ifndef SIM_EXPLAIN_H
#define SIM_EXPLAIN_H

#include "sim/run.h"

struct explain_row { /* of one block in one unit */
	uint32_t layer, head, block, start, end;
	char name[80];
	enum ikv_kind kind;
	enum ikv_policy policy;
	struct ikv_decision decision;
	uint32_t read;          /* tokens of it that attention read */
	uint32_t oracle;        /* tokens of it that the oracle reads, with as many pages as the unit's plan */
	uint32_t pages, missed; /* of the plan that touch it; those that were not in the fast tier */
	double mass;            /* dense softmax mass on it in this step; pages of two blocks by tokens */
};

struct explain {
	uint64_t session, step; /* which; in */
	bool found;
	struct explain_row *rows; /* by unit, then by place; owned */
	uint32_t count, cap, units;
	uint64_t decision_hash;
	uint32_t tokens, pages;
	double pressure, recall,
	    oracle_recall; /* dense mass on the pages read, and on the oracle's; means over units */
	bool modelled;     /* mass as the source models it: level off has no attention */
	struct run *run;
	volatile sig_atomic_t stop;
};

/* Play a run (opened, nothing recorded) up to the step and look. */
int explain_play(struct explain *e, struct run *run, struct ikv_err *err);
void explain_free(struct explain *e);

#endif

/* The scorers of the table; each is defined in the file of its name. */
#ifndef SCORER_TABLE_H
#define SCORER_TABLE_H

#include "intentkv/scorer.h"

extern const struct ikv_scorer_ops scorer_cosine, scorer_quest;

/* Refuse a unit whose heads, layout or keys do not fit the geometry. */
int scorer_check(const struct ikv_score_unit *u, const struct ikv_geometry *g, const char *scorer,
		 struct ikv_err *err);

/* Does the scorer give this block a score? The others are read or not whatever it is. */
static inline bool scorer_wants(const struct ikv_block *b)
{
	return b->policy == IKV_ATTEND || b->policy == IKV_SKIP_BLOCK;
}

#endif

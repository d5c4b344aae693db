/* A session played for sim/loss.c: the queries at some decode steps, and which block kinds the tokens are of. */
#ifndef SIM_LOSS_PLAY_H
#define SIM_LOSS_PLAY_H

#include "loss.h"

struct loss_play {
	uint32_t tokens, queries;
	uint8_t *kinds;      /* [tokens] enum ikv_kind or LOSS_NO_BLOCK; owned, like the next two */
	uint32_t *positions; /* [queries] */
	float *q;            /* [layers][queries][q_heads][d_qk] */
};

/* The source keeps the played tokens as sequence 0 until the caller ends it. Free with loss_play_free. */
int loss_play(struct source *source, const struct ikv_geometry *g, const struct session *session, uint32_t queries,
	      struct loss_play *out, struct ikv_err *err);
void loss_play_free(struct loss_play *p);

#endif

/* A persistent crew of threads. The caller is member 0. */
#ifndef ATTN_CREW_H
#define ATTN_CREW_H

#include <stdint.h>
#include "intentkv/error.h"

struct crew;
int crew_create(struct crew **out, uint32_t threads, struct ikv_err *err); /* 0: as many as online cores */
void crew_destroy(struct crew *c);
uint32_t crew_size(const struct crew *c);
/* work(context, member) once for every member; returns when all are done. */
void crew_run(struct crew *c, void (*work)(void *context, uint32_t member), void *context);

#endif

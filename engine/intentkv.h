/* intentkv: intent-aware KV execution for agentic long-context LLM inference.
 *
 * The one header to include. Conventions, everywhere:
 *  - fallible functions return 0 or -1 and take a `struct ikv_err *` last;
 *  - who creates destroys; pointers in arguments are borrowed for the call unless said otherwise;
 *  - sizes carry their unit in the name (_bytes, _tokens, _ns); token ranges are half-open;
 *  - no function here reads files, prints, exits or looks at a clock;
 *  - objects are not locked: one thread at a time per object. */
#ifndef INTENTKV_H
#define INTENTKV_H

#include "intentkv/error.h"
#include "intentkv/alloc.h"
#include "intentkv/residency.h"
#include "intentkv/rng.h"
#include "intentkv/option.h"
#include "intentkv/layout.h"
#include "intentkv/format.h"
#include "intentkv/kivi.h"
#include "intentkv/ladder.h"
#include "intentkv/plan.h"
#include "intentkv/exact.h"
#include "intentkv/attn.h"
#include "intentkv/ranges.h"
#include "intentkv/scorer.h"
#include "intentkv/router.h"
#include "intentkv/prefetch.h"
#include "intentkv/memory.h"
#include "intentkv/specattn.h"
#include "intentkv/cost.h"
#include "intentkv/rope.h"
#include "intentkv/mla.h"

#endif

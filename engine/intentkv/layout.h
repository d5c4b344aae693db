/* Semantic layout: which tokens of a sequence belong to which block, and what a
 * block is for. Token ranges are half-open, [start, end). */
#ifndef INTENTKV_LAYOUT_H
#define INTENTKV_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>
#include "error.h"

enum ikv_kind { /* role of a block in an agent session */
		IKV_KIND_SYSTEM,
		IKV_KIND_TOOLS,
		IKV_KIND_USER,
		IKV_KIND_ASSISTANT,
		IKV_KIND_REASONING,
		IKV_KIND_TOOL_CALL,
		IKV_KIND_TOOL_OUTPUT,
		IKV_KIND_RETRIEVED,
		IKV_KIND_MEMORY,
		IKV_KIND_OTHER,
		IKV_KIND_COUNT
};

enum ikv_policy { /* what the user intends for a block */
		  IKV_ALWAYS,
		  IKV_ATTEND,
		  IKV_SKIP_BLOCK,
		  IKV_RECENT,
		  IKV_GLOBAL,
		  IKV_POLICY_COUNT
};

struct ikv_block {
	const char *name; /* not owned; unique in the layout, never empty */
	uint32_t start, end;
	enum ikv_kind kind;
	enum ikv_policy policy;
	bool has_score;
	double score;   /* in [0, 1] when has_score */
	uint64_t uid;   /* stays the same over a session's life; 0 if unknown */
	uint64_t birth; /* step at which the block began */
	int line, col;  /* in the file it came from, from 1; 0 if none */
};

struct ikv_layout {
	struct ikv_block *blocks; /* sorted by start */
	uint32_t count;
	uint32_t total_tokens;
	uint32_t page_tokens; /* 1..IKV_PAGE_TOKENS_MAX */
};
#define IKV_PAGE_TOKENS_MAX 1024

IKV_API const char *ikv_kind_name(enum ikv_kind kind);       /* "tool_output" */
IKV_API const char *ikv_policy_name(enum ikv_policy policy); /* "ALWAYS" */
IKV_API const char *const *ikv_kind_names(void);             /* NULL-terminated */
IKV_API const char *const *ikv_policy_names(void);

/* Check a layout: each violation (empty or repeated name, range empty, outside or
 * out of order, overlap, score outside [0,1], an ATTEND block without a score when
 * `need_scores`) is its own message naming the block, its values and its line.
 * `file` may be NULL. */
IKV_API int ikv_layout_validate(const struct ikv_layout *layout, const char *file, bool need_scores,
				struct ikv_err *err);

/* Number of pages that hold `tokens` tokens. */
static inline uint32_t ikv_pages(uint32_t tokens, uint32_t page_tokens)
{
	return tokens / page_tokens + (tokens % page_tokens != 0);
}

#endif

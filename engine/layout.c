#include <string.h>
#include "intentkv/alloc.h"
#include "intentkv/layout.h"
#include "intentkv/rng.h"

static const char *const kind_names[IKV_KIND_COUNT + 1] = {
    [IKV_KIND_SYSTEM] = "system",
    [IKV_KIND_TOOLS] = "tools",
    [IKV_KIND_USER] = "user",
    [IKV_KIND_ASSISTANT] = "assistant",
    [IKV_KIND_REASONING] = "reasoning",
    [IKV_KIND_TOOL_CALL] = "tool_call",
    [IKV_KIND_TOOL_OUTPUT] = "tool_output",
    [IKV_KIND_RETRIEVED] = "retrieved",
    [IKV_KIND_MEMORY] = "memory",
    [IKV_KIND_OTHER] = "other",
};
static const char *const policy_names[IKV_POLICY_COUNT + 1] = {
    [IKV_ALWAYS] = "ALWAYS", [IKV_ATTEND] = "ATTEND", [IKV_SKIP_BLOCK] = "SKIP",
    [IKV_RECENT] = "RECENT", [IKV_GLOBAL] = "GLOBAL",
};

const char *ikv_kind_name(enum ikv_kind kind)
{
	return kind < IKV_KIND_COUNT ? kind_names[kind] : "?";
}

const char *ikv_policy_name(enum ikv_policy policy)
{
	return policy < IKV_POLICY_COUNT ? policy_names[policy] : "?";
}

const char *const *ikv_kind_names(void)
{
	return kind_names;
}

const char *const *ikv_policy_names(void)
{
	return policy_names;
}

static uint64_t name_hash(const char *s)
{
	uint64_t h = 0;
	for (; *s; s++)
		h = ikv_mix64_2(h, (unsigned char)*s);
	return h;
}

/* Names are looked up in an open hash table of block index + 1, so that layouts of many blocks stay cheap. */
static int check_names(const struct ikv_layout *l, const char *file, struct ikv_err *err)
{
	size_t slots = 16;
	while (slots < 2 * (size_t)l->count)
		slots *= 2;
	uint32_t *table = ikv_alloc(slots, sizeof *table, err);
	if (!table)
		return -1;
	int rc = 0;
	for (uint32_t i = 0; i < l->count && !rc; i++) {
		const char *name = l->blocks[i].name;
		size_t at = name_hash(name) & (slots - 1);
		while (table[at] && strcmp(l->blocks[table[at] - 1].name, name))
			at = (at + 1) & (slots - 1);
		if (!table[at]) {
			table[at] = i + 1;
			continue;
		}
		const struct ikv_block *first = &l->blocks[table[at] - 1];
		rc = ikv_err_at(err, IKV_BAD_INPUT, file, l->blocks[i].line, l->blocks[i].col, "name",
				"block \"%s\" [%u, %u) has the name of block %u, [%u, %u)", name, l->blocks[i].start,
				l->blocks[i].end, table[at] - 1, first->start, first->end);
	}
	ikv_free(table);
	return rc;
}

static int check_range(const struct ikv_layout *l, uint32_t i, const char *file, struct ikv_err *err)
{
	const struct ikv_block *b = &l->blocks[i], *before = i ? b - 1 : NULL;
	if (b->start >= b->end)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "end",
				  "block \"%s\" [%u, %u) is empty: its end must be greater than its start", b->name,
				  b->start, b->end);
	if (b->end > l->total_tokens)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "end",
				  "block \"%s\" [%u, %u) ends beyond the context of %u tokens", b->name, b->start,
				  b->end, l->total_tokens);
	if (before && b->start < before->start)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "start",
				  "block \"%s\" [%u, %u) is out of order: it starts before block \"%s\" [%u, %u), "
				  "which is listed before it",
				  b->name, b->start, b->end, before->name, before->start, before->end);
	if (before && b->start < before->end)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "start",
				  "block \"%s\" [%u, %u) overlaps block \"%s\" [%u, %u)", b->name, b->start, b->end,
				  before->name, before->start, before->end);
	return 0;
}

static int check_block(const struct ikv_layout *l, uint32_t i, const char *file, bool need_scores,
		       struct ikv_err *err)
{
	const struct ikv_block *b = &l->blocks[i];
	if (!b->name || !*b->name)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "name", "block %u [%u, %u) has no name", i,
				  b->start, b->end);
	if (check_range(l, i, file, err))
		return -1;
	if (b->kind >= IKV_KIND_COUNT || b->policy >= IKV_POLICY_COUNT)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "policy",
				  "block \"%s\" has kind %d and policy %d; one of them does not exist", b->name,
				  (int)b->kind, (int)b->policy);
	if (b->has_score && !(b->score >= 0 && b->score <= 1))
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "score",
				  "block \"%s\" has score %g, expected a number from 0 to 1", b->name, b->score);
	if (need_scores && b->policy == IKV_ATTEND && !b->has_score)
		return ikv_err_at(err, IKV_BAD_INPUT, file, b->line, b->col, "score",
				  "block \"%s\" [%u, %u) is ATTEND and has no score: score it before routing",
				  b->name, b->start, b->end);
	return 0;
}

int ikv_layout_validate(const struct ikv_layout *l, const char *file, bool need_scores, struct ikv_err *err)
{
	if (l->page_tokens < 1 || l->page_tokens > IKV_PAGE_TOKENS_MAX)
		return ikv_err_at(err, IKV_BAD_INPUT, file, 0, 0, "page_tokens", "got %u, expected from 1 to %d",
				  l->page_tokens, IKV_PAGE_TOKENS_MAX);
	for (uint32_t i = 0; i < l->count; i++)
		if (check_block(l, i, file, need_scores, err))
			return -1;
	return check_names(l, file, err);
}

/* A small memory manager to test on: formats' bytes, a ladder, layouts, plans. */
#ifndef TESTS_MEMORY_RIG_H
#define TESTS_MEMORY_RIG_H

#include <string.h>
#include <intentkv.h>
#include "../tap.h"

#define PT 16
static const struct ikv_ladder_rule rules[] = {
    {IKV_ALWAYS, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_FP16},
    {IKV_SKIP_BLOCK, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_SKIP},
    {IKV_RECENT, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_FP8},
    {IKV_ANY, IKV_ANY, IKV_ANY, IKV_ANY, -1, IKV_FMT_INT8},
};
static const struct ikv_ladder ladder = {
    .name = "test", .summary = "", .high = 0.75, .medium = 0.4, .rules = rules, .count = 4};
static const uint64_t bytes_of[IKV_FMT_COUNT] = {0,     65536, 33280, 33280, 20480, 36864,
						 65536, 38912, 22528, 14336, 20480};
static const int precision[IKV_FMT_COUNT] = {0, 9, 6, 7, 3, 5, 9, 8, 4, 2, 1};

struct rig {
	struct ikv_memory *m;
	struct ikv_memory_config config;
	const struct ikv_residency_ops *residency;
	char residency_config[256]; /* its defaults */
	struct ikv_block blocks[64];
	struct ikv_layout layout;
	struct ikv_plan plan;
	struct ikv_page_ref refs[16384];
};
static struct rig rig;

/* A layout of blocks of `each` tokens, policies in turn. */
static inline void set_tokens(struct rig *r, uint32_t tokens, uint32_t each)
{
	static const enum ikv_policy turn[] = {IKV_ALWAYS, IKV_ATTEND, IKV_SKIP_BLOCK, IKV_RECENT, IKV_ATTEND};
	static char names[64][8];
	r->layout = (struct ikv_layout){r->blocks, 0, tokens, PT};
	for (uint32_t at = 0; at < tokens && r->layout.count < 64; at += each) {
		uint32_t i = r->layout.count++;
		snprintf(names[i], sizeof names[i], "b%u", i);
		uint32_t end = i == 63 || tokens - at < each ? tokens : at + each;
		r->blocks[i] =
		    (struct ikv_block){names[i], at, end, IKV_KIND_USER, turn[i % 5], true, 0.5, i + 1, 0, 0, 0};
	}
}

static inline struct ikv_memory *make(struct rig *r, int64_t fast, int64_t slow, uint32_t tiers)
{
	struct ikv_tier t[2] = {{"hbm", fast}, {"host", slow}};
	struct ikv_memory_setup s = {.config = &r->config,
				     .residency = r->residency,
				     .residency_config = r->residency_config,
				     .tiers = t,
				     .tier_count = tiers,
				     .page_tokens = PT,
				     .sequences = 2,
				     .groups = 2};
	struct ikv_memory *m = NULL;
	memcpy(s.page_bytes, bytes_of, sizeof bytes_of);
	struct ikv_err err;
	if (ikv_memory_create(&m, &s, &err))
		ck_abort_msg("%s", err.text);
	return m;
}

static inline void set_residency(struct rig *r, const struct ikv_residency_ops *ops)
{
	r->residency = ops;
	ck_assert_uint_le(ops->config_bytes, sizeof r->residency_config);
	ikv_option_defaults(ops->options, r->residency_config);
}

static inline void setup(void)
{
	memset(&rig, 0, sizeof rig);
	ikv_option_defaults(ikv_memory_options, &rig.config);
	set_residency(&rig, ikv_residency_find("lru"));
	rig.plan = (struct ikv_plan){.pages = rig.refs, .cap = 16384, .page_tokens = PT};
}

static inline void select_page(struct rig *r, uint32_t page, enum ikv_format request)
{
	r->refs[r->plan.count++] = (struct ikv_page_ref){page, 0, PT, IKV_NO_MASK, (uint8_t)request, 0, UINT16_MAX};
}

static inline struct ikv_memory_step act(struct rig *r, struct ikv_memory *m, uint64_t step, const uint32_t *ahead,
					 uint32_t n, double pressure)
{
	struct ikv_memory_use use = {
	    .plan = &r->plan, .layout = &r->layout, .prefetch = ahead, .prefetch_count = n, .pressure = pressure};
	struct ikv_memory_step out;
	struct ikv_err err;
	if (ikv_memory_act(m, step, &use, 1, &out, &err))
		ck_abort_msg("%s", err.text);
	r->plan.count = 0;
	return out;
}

static inline struct ikv_page_state page(struct ikv_memory *m, uint32_t p)
{
	struct ikv_page_state s;
	ck_assert_int_eq(ikv_memory_page(m, 0, 0, p, &s, NULL), 0);
	return s;
}

static inline void grow_seq(struct rig *r, struct ikv_memory *m, uint32_t seq, uint32_t tokens, uint32_t each)
{
	struct ikv_err err;
	set_tokens(r, tokens, each);
	if (ikv_memory_grow(m, seq, &r->layout, &ladder, 0.5, &err))
		ck_abort_msg("%s", err.text);
}

static inline void grow(struct rig *r, struct ikv_memory *m, uint32_t tokens, uint32_t each)
{
	grow_seq(r, m, 0, tokens, each);
}

#endif
